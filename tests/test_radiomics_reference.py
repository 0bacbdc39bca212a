"Radiomics against pyradiomics on full radiographs."

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy.ndimage import gaussian_filter

from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import extract

TYPES = 'Original Square SquareRoot Logarithm Exponential Gradient Wavelet LoG'.split()
CLASSES = 'shape2D firstorder glcm gldm glrlm glszm ngtdm'.split()


def radiograph(shape, box, quantised):
    "A radiograph with smooth and rough structure, and a body inside `box` (rows, columns)."
    rng = np.random.default_rng(3)
    image = (
        gaussian_filter(rng.normal(size=shape), 2) * 8
        + gaussian_filter(rng.normal(size=shape), 30) * 40
    )
    if quantised:
        image = np.rint(image * 60)
    rows, columns = (np.arange(n) for n in shape)
    (top, bottom), (left, right) = box
    y = (rows[:, None] - (top + bottom) / 2) / ((bottom - top) / 2)
    x = (columns - (left + right) / 2) / ((right - left) / 2)
    body = y**4 + x**4 < 1
    return Case(((image - image.mean()) / image.std()).astype('float32'), body, (0.4, 0.35))


def full_radiograph(case, kind, **settings):
    "Features of one image type by pyradiomics' own extractor, without any cropping of ours."
    extractor = RadiomicsFeatureExtractor(
        **(settings or dict(binCount=32)), force2D=False, additionalInfo=False
    )
    extractor.disableAllImageTypes()
    extractor.disableAllFeatures()
    extractor.enableImageTypeByName(
        kind, customArgs=dict(sigma=[1, 2, 3]) if kind == 'LoG' else None
    )
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    image, mask = (
        sitk.GetImageFromArray(a) for a in (case.image.astype(float), case.mask.astype('uint32'))
    )
    for i in (image, mask):
        i.SetSpacing(case.spacing[::-1])
    return pd.Series(dict(extractor.execute(image, mask)), dtype=float)


def with_a_marker(case):
    """The radiograph with a lead letter in the body.

    Most bins stay empty, and other bins in every image."""
    case.image[240:250, 180:186] = 40
    return case


def with_four_levels(case):
    "A radiograph of few grey levels, as after a heavy window."
    return Case(np.rint(case.image).clip(-1, 2).astype('float32'), case.mask, case.spacing)


MIDDLE = (500, 400), ((200, 290), (130, 241))
RADIOGRAPHS = {
    'middle': radiograph(*MIDDLE, quantised=False),
    'corner, odd size': radiograph((401, 303), ((-1, 70), (215, 303)), quantised=False),
    'quantised': radiograph((380, 420), ((150, 231), (150, 260)), quantised=True),
    'marker': with_a_marker(radiograph(*MIDDLE, quantised=False)),
    'four grey levels': with_four_levels(radiograph(*MIDDLE, quantised=False)),
}


def assert_equals_pyradiomics(case, settings, **theirs):
    "All features of all image types, ours with `settings`, pyradiomics' with its own."
    ours, seen = extract(case, settings), []
    for kind in TYPES:
        plain = full_radiograph(case, kind, **theirs)
        plain = plain.rename(lambda name: name.replace('-mm-3D', '-mm'))
        rtol = 1e-6 if kind == 'LoG' else 1e-9
        np.testing.assert_allclose(ours[plain.index], plain, rtol=rtol, atol=1e-12, err_msg=kind)
        seen += list(plain.index)
    assert set(seen) == set(ours.index)


@pytest.mark.parametrize('where', RADIOGRAPHS)
def test_cropping_and_stacking_change_nothing(where):
    """Filtering the surroundings of the vertebra only, and computing all images at once.

    It gives what the full radiograph gives image by image."""
    assert_equals_pyradiomics(RADIOGRAPHS[where], None)


def test_bins_of_fixed_width_are_those_of_pyradiomics():
    "The number of grey levels then differs from image to image."
    assert_equals_pyradiomics(
        RADIOGRAPHS['middle'], dict(bin_count=None, bin_width=0.05), binWidth=0.05
    )


def test_flat_volume_in_the_plane_is_the_same_as_a_plane():
    """Two right ways exist: a 2-D image, or one slice with force2D.

    A 2-D image with force2D is the trap."""
    case = RADIOGRAPHS['quantised']
    ours = extract(case, dict(image_types=['original']))
    extractor = RadiomicsFeatureExtractor(
        binCount=32, force2D=True, force2Ddimension=0, additionalInfo=False
    )
    extractor.disableAllFeatures()
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    image, mask = (
        sitk.GetImageFromArray(a[None])
        for a in (case.image.astype(float), case.mask.astype('uint32'))
    )
    for i in (image, mask):
        i.SetSpacing((*case.spacing[::-1], 1.0))
    plain = pd.Series(dict(extractor.execute(image, mask)), dtype=float)
    np.testing.assert_allclose(ours[plain.index], plain, rtol=1e-12)
