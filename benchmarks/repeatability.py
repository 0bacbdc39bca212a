"""ICC of 1,500 features, 30 vertebrae and two readings: this package against pingouin feature by feature, in the same run; and what a perturbed copy costs.

    .venv/bin/python -P benchmarks/repeatability.py                 # some seconds
    .venv/bin/python -P benchmarks/repeatability.py --features 100  # pingouin on the first 100 only

pingouin is no dependency of this package: where it is not installed, that half is left out and said so.
"""

import argparse
import importlib.util
import time

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from ovf_dlr.filters import region_of
from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import features_of
from ovf_dlr.repeatability import ICC_FORMS, icc, perturb


def ratings(n=30, k=2, p=1500, seed=0):
    "Features from hardly to well repeatable."
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 1, p)) * np.linspace(0.2, 4, p)
        + rng.normal(size=(n, k, p))
        + rng.normal(size=(1, k, p)) * 0.2
    )


def best(f, repeats):
    "Result and shortest time of some calls."
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = f()
        times.append(time.perf_counter() - start)
    return found, min(times)


def peer(x):
    "All forms of every feature by `pingouin.intraclass_corr`, which takes one at a time: (p, 6)."
    import pingouin

    n, k, p = x.shape
    who = dict(subject=np.repeat(np.arange(n), k), reader=np.tile(np.arange(k), n))
    tables = (
        pingouin.intraclass_corr(
            pd.DataFrame({**who, 'x': x[..., i].ravel()}), 'subject', 'reader', 'x'
        )
        for i in range(p)
    )
    return np.array(
        [t['ICC'].to_numpy(float) for t in tables]
    )  # rows in the order of ICC_FORMS; their names differ between its versions


def radiograph(shape=(3000, 2500), body=(210, 250), seed=0):
    "A Z-scored noise radiograph of `shape` with one rounded body."
    image = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    r, c = np.ogrid[: shape[0], : shape[1]]
    mask = ((r - shape[0] / 2) / (body[0] / 2)) ** 4 + (
        (c - shape[1] / 2) / (body[1] / 2)
    ) ** 4 <= 1
    return Case(((image - image.mean()) / image.std()).astype('float32'), mask, (0.15, 0.15))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--features', type=int, default=1500, help='given to pingouin')
    some = parser.parse_args().features
    x = ratings()
    ours = {}
    for form in ICC_FORMS:
        ours[form], seconds = best(lambda: icc(x, form), 20)
        print(
            f'ovf_dlr    {form}  {1000 * seconds:8.2f} ms for {x.shape[2]} features with intervals'
        )
    if importlib.util.find_spec('pingouin'):
        everything = lambda: [icc(x[..., :some], form) for form in ICC_FORMS]
        (theirs, peer_seconds), (_, seconds) = (
            best(lambda: peer(x[..., :some]), 1),
            best(everything, 20),
        )
        gap = np.abs(theirs - np.stack([ours[form].value[:some] for form in ICC_FORMS], 1)).max()
        print(
            f'pingouin   all six   {1000 * peer_seconds:8.0f} ms for {some} features; ovf_dlr {1000 * seconds:.1f} ms, ratio {peer_seconds / seconds:.0f}, largest difference {gap:.1e}'
        )
    else:
        print(
            'pingouin   is not installed: no comparison (pip install pingouin, in an environment of its own)'
        )
    case = radiograph()
    _, disturbed = best(lambda: perturb(case, 0), 5)
    _, measured = best(lambda: features_of(region_of(case)), 2)
    print(
        f'one perturbed copy of a body of 210 x 250 pixels on a radiograph of 3000 x 2500: {disturbed:.3f} s, its features {measured:.3f} s'
    )
