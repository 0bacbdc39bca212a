"""Real radiographs and masks of `../shared`: what the notebook cannot carry, read against an
independent NIfTI parser."""

import gzip
import struct
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import public_bodies

from ovf_dlr.decoding import ImageError, MissingSpacingWarning
from ovf_dlr.preprocess import load_case, load_cases, network_crop
from ovf_dlr.reading import read_image, read_mask

RADIOGRAPHS = dict(Normal=4, Damaged=11)


def parse_nifti(path) -> np.ndarray:
    """Array [row, column] of an 8-bit 2-D NIfTI-1 file, by its header bytes alone, without a
    library of the package."""
    raw = gzip.decompress(path.read_bytes())
    dims, datatype = struct.unpack('<8h', raw[40:56]), struct.unpack('<h', raw[70:72])[0]
    offset = int(struct.unpack('<f', raw[108:112])[0])
    assert datatype == 2
    width, height = dims[1:3]
    return np.frombuffer(raw, np.uint8, width * height, offset).reshape(height, width)


@pytest.fixture(scope='module')
def bodies(shared) -> pd.DataFrame:
    "The manifest of the public cohort, with full paths."
    return public_bodies(shared).set_index('vertebra_id')


def test_all_456_bodies_have_the_area_drawn(bodies):
    parsed = {path: parse_nifti(Path(path)) for path in bodies['mask'].unique()}
    wanted = pd.Series(
        {key: int((parsed[row['mask']] == row.mask_label).sum()) for key, row in bodies.iterrows()}
    )
    cases = dict(load_cases(bodies))
    found = pd.Series({key: int(case.mask.sum()) for key, case in cases.items()})
    assert len(found) == 456 and found.min() > 100
    pd.testing.assert_series_equal(found[wanted.index], wanted)
    assert {case.spacing for case in cases.values()} == {(1.0, 1.0)} and all(
        case.spacing_known for case in cases.values()
    )


def test_every_pixel_of_an_exam_is_where_the_file_has_it(bodies):
    _, row = next(iter(bodies.iterrows()))
    pixels = read_image(row['image'], spacing=1).pixels
    np.testing.assert_array_equal(pixels, parse_nifti(Path(row['image'])))
    np.testing.assert_array_equal(
        read_mask(row['mask'], row.mask_label),
        parse_nifti(Path(row['mask'])) == row.mask_label,
    )


def test_second_readings_fit_their_radiographs(shared, bodies):
    readings = public_bodies(shared, 'readings').set_index('vertebra_id')
    again = readings.assign(image=bodies.loc[readings.index, 'image'])
    first = dict(load_cases(bodies.loc[readings.index.unique()]))
    for key, case in load_cases(again):
        both, either = (case.mask & first[key].mask).sum(), (case.mask | first[key].mask).sum()
        assert both / either > 0.6, key


@pytest.mark.parametrize('name', RADIOGRAPHS)
def test_the_15_bodies_of_the_radiographs_are_where_the_files_have_them(shared, name):
    radiograph, labels = (
        shared / f'data/spine_xray/derived/{name}_LAT_{part}.nii.gz'
        for part in ('image', 'vertebra_labels')
    )
    radiograph, drawn = read_image(radiograph, spacing=0.15), parse_nifti(labels)
    assert sorted(set(drawn.ravel()) - {0}) == list(range(1, RADIOGRAPHS[name] + 1))
    for i in range(1, RADIOGRAPHS[name] + 1):
        np.testing.assert_array_equal(read_mask(labels, i, radiograph), drawn == i)


@pytest.mark.parametrize('name', RADIOGRAPHS)
def test_a_radiograph_is_the_same_as_jpeg_and_as_nifti(shared, name):
    jpeg, nifti = (
        shared / f'data/spine_xray/films/{name}_LAT.jpg',
        shared / f'data/spine_xray/derived/{name}_LAT_image.nii.gz',
    )
    labels = shared / f'data/spine_xray/derived/{name}_LAT_vertebra_labels.nii.gz'
    with pytest.warns(MissingSpacingWarning, match=f'{name}_LAT.jpg'):
        radiograph = read_image(jpeg)
    with pytest.warns(MissingSpacingWarning):  # 1 x 1 mm would be a radiograph of three metres
        same = read_image(nifti)
    np.testing.assert_array_equal(radiograph.pixels, same.pixels)
    np.testing.assert_array_equal(radiograph.pixels, parse_nifti(nifti))
    assert not radiograph.spacing_known and radiograph.spacing == (1.0, 1.0)
    with pytest.raises(ImageError, match='holds labels 1, 2'):
        read_mask(labels)
    rows = [
        np.flatnonzero(read_mask(labels, i, radiograph).any(1)).mean()
        for i in range(1, RADIOGRAPHS[name] + 1)
    ]
    # bodies are numbered along the spine, so rows are rows
    assert np.all(np.diff(rows) > 0) or np.all(np.diff(rows) < 0)


@pytest.mark.parametrize('name', RADIOGRAPHS)
def test_bodies_of_a_real_radiograph_are_cut_out_with_known_spacing(shared, name):
    labels = shared / f'data/spine_xray/derived/{name}_LAT_vertebra_labels.nii.gz'
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        case = load_case(shared / f'data/spine_xray/films/{name}_LAT.jpg', labels, 2, spacing=0.15)
    crop = network_crop(case, 96)
    assert crop.shape == (96, 96) and crop.std() > 0.01 and 0 <= crop.min() <= crop.max() <= 1
