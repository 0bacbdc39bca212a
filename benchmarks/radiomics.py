"""Radiomics of one vertebra on a full-size film: this package against pyradiomics called on the whole film, in the same run.

    .venv/bin/python -P benchmarks/radiomics.py            # some seconds
    .venv/bin/python -P benchmarks/radiomics.py --shape3d  # pyradiomics with its 3-D shape class on, as it comes: two minutes more

(-P keeps Python from taking this file for pyradiomics, whose package is also called `radiomics`.) Image types are those that both can compute on one slice (all but LoG, which pyradiomics refuses there).
"""
import argparse
import time

import numpy as np
import SimpleITK as sitk
from radiomics import setVerbosity
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy.ndimage import gaussian_filter

from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import extract

TYPES = ["Original", "Square", "SquareRoot", "Logarithm", "Exponential", "Gradient", "Wavelet"]


def film(shape=(3000, 2500), body=(210, 250), seed=0):
    "A Z-scored noise film of `shape` with one elliptical body."
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.standard_normal(shape), 2)
    image = (image - image.mean()) / image.std()
    r, c = np.ogrid[: shape[0], : shape[1]]
    mask = ((r - 1500) / (body[0] / 2)) ** 2 + ((c - 1200) / (body[1] / 2)) ** 2 <= 1
    return image, mask  # in double precision: pyradiomics filters single precision in single precision


def peer(image, mask, shape3d):
    "pyradiomics as its documentation calls it, on the whole film as a one-slice volume."
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=True)
    extractor.disableAllImageTypes()
    for name in TYPES:
        extractor.enableImageTypeByName(name)
    if not shape3d:
        extractor.disableAllFeatures()
        for name in ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"):
            extractor.enableFeatureClassByName(name)
    found = extractor.execute(sitk.GetImageFromArray(image[None]), sitk.GetImageFromArray(mask[None].astype("uint8")))
    return {k: float(v) for k, v in found.items() if not k.startswith("diagnostics")}


def timed(f):
    start = time.perf_counter()
    return f(), time.perf_counter() - start


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape3d", action="store_true")
    shape3d = parser.parse_args().shape3d
    setVerbosity(60)
    image, mask = film()
    ours, seconds = timed(lambda: extract(Case(image, mask, (1.0, 1.0)), dict(image_types=[t.lower() for t in TYPES])))
    theirs, peer_seconds = timed(lambda: peer(image, mask, shape3d))
    common = sorted(set(ours.index) & set(theirs))
    gap = max(abs(ours[k] - theirs[k]) / max(abs(theirs[k]), 1e-12) for k in common)
    print(f"ovf_dlr      {seconds:8.2f} s  {len(ours)} features")
    print(f"pyradiomics  {peer_seconds:8.2f} s  {len(theirs)} features{' with' if shape3d else ' without'} the 3-D shape class")
    print(f"ratio        {peer_seconds / seconds:8.1f}    {len(common)} features in common, largest relative difference {gap:.1e}")
