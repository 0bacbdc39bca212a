"""The IBSI standard: its codes against DICOM's copy, its digital phantom and its filter kernels.

Also shapes in the plane, for which it has no values."""

import re

import numpy as np
import pandas as pd
import pytest
import pywt
import SimpleITK as sitk
from pydicom.sr.codedict import codes

from ovf_dlr.filters import filtered_images, region_of
from ovf_dlr.ibsi import against_ibsi, ibsi_name, ibsi_table
from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import extract

DICOM = {
    code.value: code.meaning for code in (getattr(codes.IBSI, name) for name in codes.IBSI.dir())
}
FAMILY = set(
    'of in the glcm ngtdm ngldm intensity histogram '
    'run runs length size zone zones count counts dependence'.split()
)


def words(name):
    "Words of a feature's name, in one spelling."
    name = (
        name.lower()
        .replace('gray', 'grey')
        .replace('normalized', 'normalised')
        .replace('nonuniformity', 'non-uniformity')
    )
    return set(re.findall('[a-z0-9]+', name))


def test_codes_are_those_of_dicom():
    """DICOM copies every code but those of intensity-based statistics; it has its own for these.

    The meaning must be the same, so that none are swapped."""
    table = ibsi_table().query('ibsi_code not in ("", None) and ibsi_family != "UHIW"')
    assert len(table) == 76
    for row in table.itertuples():
        ours, theirs = words(row.ibsi_name), words(DICOM[row.ibsi_code])
        assert ours <= theirs and theirs - ours <= FAMILY, (
            row.Index,
            row.ibsi_code,
            DICOM[row.ibsi_code],
        )


def test_a_row_is_complete_or_has_a_note():
    "A feature has all of family, name, code and tag, or none and a note."
    table = ibsi_table()
    has = table[['ibsi_family', 'ibsi_name', 'ibsi_code', 'tag']] != ''
    assert (has.all(axis=1) | ~has.any(axis=1)).all()
    assert (table.note[~has.ibsi_code] != '').all()
    assert table.tag[has.tag].is_unique
    assert table.ibsi_code[has.ibsi_code].str.fullmatch('[A-Z0-9]{4}').all()


def test_every_setting_names_its_features():
    "A wavelet and a scale other than the default give names that `ibsi_name` knows too."
    rng = np.random.default_rng(0)
    case = Case(
        rng.normal(size=(60, 60)).astype('float32'), np.pad(np.ones((20, 20), bool), 20), (1.0, 1.0)
    )
    for name in extract(case, dict(wavelet='haar', log_sigmas_mm=[0.25, 10])).index:
        assert ibsi_name(name)
    assert ibsi_name('log-sigma-0-25-mm_glcm_Id').endswith('Laplacian of Gaussian 0.25 mm (L6PA)')


@pytest.fixture(scope='module')
def ibsi_phantom(shared):
    "Image, mask and published values of the IBSI-1 digital phantom."
    folder = shared / 'data' / 'ibsi'
    image, mask = (
        sitk.GetArrayFromImage(
            sitk.ReadImage(folder / 'ibsi_1_digital_phantom' / 'nifti' / kind / name)
        ).astype(float)
        for kind, name in (('image', 'phantom.nii.gz'), ('mask', 'mask.nii.gz'))
    )
    return image, mask > 0, pd.read_csv(folder / 'ibsi_1_dig_phantom.csv', sep=';', index_col='tag')


def test_digital_phantom(ibsi_phantom):
    "Every feature that has a published value, to all digits that were published."
    image, mask, _ = ibsi_phantom
    # six bins mean the same in every slice
    assert all({1, 6} <= set(i[m]) for i, m in zip(image, mask, strict=True))
    found = against_ibsi(*ibsi_phantom)
    assert len(found) == 91
    assert found.within.all(), found[~found.within]


@pytest.mark.parametrize('wrong', ['bins', 'one slice', 'other grey level', 'kurtosis'])
def test_the_phantom_can_tell_right_from_wrong(ibsi_phantom, wrong, monkeypatch):
    "Mistakes that are easily made do not pass."
    image, mask, reference = (x.copy() for x in ibsi_phantom)
    if wrong == 'bins':
        image[image == 6] = 5.5
    if wrong == 'one slice':
        image, mask = image[:-1], mask[:-1]
    if wrong == 'other grey level':
        image[tuple(np.argwhere(mask & (image == 3))[0])] = 4
    if wrong == 'kurtosis':
        monkeypatch.setattr('ovf_dlr.ibsi._as_ibsi', lambda values: values)
    found = against_ibsi(image, mask, reference)
    assert not found.within.all()
    if wrong == 'kurtosis':
        assert list(found.index[~found.within]) == [('firstorder', 'Kurtosis')]


def impulse(size):
    "IBSI-2's impulse in the plane: one pixel of 255."
    image = np.zeros((size, size), 'float32')
    image[size // 2, size // 2] = 255
    return Case(image, np.ones((size, size), bool), (1.0, 1.0))


@pytest.mark.parametrize('wavelet', ['coif1', 'haar', 'db3'])
def test_wavelet_kernels(wavelet):
    """The response to an impulse is the kernel of IBSI's separable wavelets (25BO).

    The first letter belongs to x, the columns."""
    bank = dict(L=np.array(pywt.Wavelet(wavelet).dec_lo), H=np.array(pywt.Wavelet(wavelet).dec_hi))
    size, half = len(bank['L']), len(bank['L']) // 2
    bands = filtered_images(region_of(impulse(64)), dict(image_types=['wavelet'], wavelet=wavelet))
    for name, band in bands.items():
        x, y = name.removeprefix('wavelet-')
        expected = np.zeros((64, 64))
        expected[32 - half : 32 - half + size, 32 - half : 32 - half + size] = 255 * np.outer(
            bank[y], bank[x]
        )
        np.testing.assert_allclose(band, expected, atol=1e-9, err_msg=name)


@pytest.mark.parametrize('sigma', [1, 2, 3, 5, 10])
def test_laplacian_of_gaussian_kernel(sigma):
    """The response to an impulse is sigma squared times IBSI's kernel (L6PA).

    IBSI allows 1% of the range; ITK's approximation is up to 1.6% off."""
    case = impulse(16 * sigma + 1)
    (response,) = filtered_images(
        region_of(case), dict(image_types=['log'], log_sigmas_mm=[sigma])
    ).values()
    row, column = np.indices(case.image.shape) - 8 * sigma
    d = (row**2 + column**2) / (2 * sigma**2)
    kernel = -255 / (np.pi * sigma**4) * (1 - d) * np.exp(-d)
    assert np.abs(response / sigma**2 - kernel).max() < 0.016 * np.ptp(kernel)


def drawn(inside, spacing):
    "Shape features of a figure of at most 60 x 40 mm, drawn on pixels of `spacing`."
    size = [int(length / s) for length, s in zip((44, 64), spacing, strict=True)]
    y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True))
    image = np.random.default_rng(0).normal(size=size).astype('float32')
    found = extract(Case(image, inside(x, y[:, None]), spacing), dict(image_types=['original']))
    return found.filter(like='shape2D').rename(lambda name: name.split('_')[-1])


SPACINGS = [(0.1, 0.1), (0.1, 0.08)]


@pytest.mark.parametrize('spacing', SPACINGS)
def test_rectangle(spacing):
    "All shape features of a rectangle of 60 x 40 mm."
    found = drawn(lambda x, y: (abs(x) < 30) & (abs(y) < 20), spacing)
    expected = dict(
        PixelSurface=2400,
        MeshSurface=2400,
        Perimeter=200,
        PerimeterSurfaceRatio=200 / 2400,
        MaximumDiameter=np.hypot(60, 40),
        Elongation=40 / 60,
        MajorAxisLength=4 * 60 / np.sqrt(12),
        MinorAxisLength=4 * 40 / np.sqrt(12),
        Sphericity=2 * np.sqrt(np.pi * 2400) / 200,
    )
    np.testing.assert_allclose(found[list(expected)], list(expected.values()), rtol=2e-3)
    assert set(expected) == set(found.index)


def outline_on_pixels(dx, dy, spacing):
    """Length of a curve of steps dx, dy in mm.

    It may only run along rows, columns and diagonals of the pixels."""
    sy, sx = spacing
    right, up = abs(dx) / sx, abs(dy) / sy
    diagonal = np.minimum(right, up)
    return (diagonal * np.hypot(sx, sy) + (right - diagonal) * sx + (up - diagonal) * sy).sum()


@pytest.mark.parametrize('spacing', SPACINGS)
def test_ellipse(spacing):
    """Area and axes are those of the ellipse.

    The perimeter is that of its outline on pixels, some 5% longer than the curve."""
    found = drawn(lambda x, y: (x / 30) ** 2 + (y / 20) ** 2 < 1, spacing)
    angle = np.linspace(0, 2 * np.pi, 100_001)
    dx, dy = np.diff(30 * np.cos(angle)), np.diff(20 * np.sin(angle))
    area, curve = np.pi * 30 * 20, np.hypot(dx, dy).sum()
    outline = outline_on_pixels(dx, dy, spacing)
    assert 1.04 < outline / curve < 1.08
    expected = dict(
        PixelSurface=area,
        MeshSurface=area,
        Perimeter=outline,
        PerimeterSurfaceRatio=outline / area,
        MaximumDiameter=60,
        Elongation=40 / 60,
        MajorAxisLength=60,
        MinorAxisLength=40,
        Sphericity=2 * np.sqrt(np.pi * area) / outline,
    )
    np.testing.assert_allclose(found[list(expected)], list(expected.values()), rtol=2e-3)
