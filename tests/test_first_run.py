"""A newcomer's way to a figure of his own cohort: two folders, a first manifest, a look, the scores
filled in, a look again."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ask
from PIL import Image

from ovf_dlr import preprocess
from ovf_dlr.cohort import read_cohort
from ovf_dlr.phantom import make_cohort


@pytest.fixture(scope='module')
def phantom(tmp_path_factory):
    "Manifest of the smallest simulated cohort."
    return make_cohort(tmp_path_factory.mktemp('phantom') / 'cohort', 'smoke', progress=False)


@pytest.fixture
def hospital(phantom, tmp_path):
    """Two folders as a hospital has them: radiographs and masks of the same names, one radiograph
    with more than one vertebra outlined."""
    manifest = Path(phantom)
    table = pd.read_csv(manifest, dtype=str).query("split == 'train' and exclusion.isna()")
    for k, (_, row) in enumerate(table.drop_duplicates('image').head(14).iterrows()):
        for column, folder, name in (
            ('image', 'radiographs', f'case{k:02d}.dcm'),
            ('mask', 'outlines', f'case{k:02d}.nii.gz'),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(manifest.parent / row[column], tmp_path / folder / name)
    return tmp_path


def begin(hospital, out='manifest.csv', **more):
    "What `ovf-dlr manifest` prints of a hospital's two folders."
    folders = dict(images=hospital / 'radiographs', masks=hospital / 'outlines')
    return ask('manifest', **folders, out=hospital / out, **more)


def drawn(path):
    "Share of the picture that is not white."
    return (
        pd.Series(
            Image.open(path).convert('L').get_flattened_data()
            if hasattr(Image.Image, 'get_flattened_data')
            else Image.open(path).convert('L').getdata()
        )
        < 250
    ).mean()


def test_from_two_folders_to_figures(hospital):
    said = begin(hospital, center='Our hospital', patient=r'case(\d+)')
    table = pd.read_csv(hospital / 'manifest.csv', dtype=str)
    assert f'{len(table)} vertebrae of 14 patients' in said and 'allow-outside' not in said
    assert (
        sorted(table.patient_id.unique()) == [f'{k:02d}' for k in range(14)]
        and table.astlof.isna().all()
        and (table.center == 'Our hospital').all()
    )
    assert table.image.str.startswith('radiographs/').all() and table.vertebra_id.is_unique
    ask('check', manifest=hospital / 'manifest.csv', unlabelled=True, figures=hospital / 'look')
    assert [p.name for p in (hospital / 'look').iterdir()] == ['vertebrae_1_Our_hospital.png']
    assert 0.05 < drawn(hospital / 'look' / 'vertebrae_1_Our_hospital.png') < 0.98
    table.assign(astlof=[k % 9 for k in range(len(table))]).to_csv(
        hospital / 'manifest.csv', index=False
    )
    ask('check', manifest=hospital / 'manifest.csv', figures=hospital / 'look')
    assert {p.name for p in (hospital / 'look').iterdir()} == {
        'vertebrae_1_Our_hospital.png',
        'flow.png',
    }
    assert drawn(hospital / 'look' / 'flow.png') > 0.01


def test_a_blank_score_is_named(hospital):
    begin(hospital)
    refused = ask('check', manifest=hospital / 'manifest.csv', refused=True)
    assert 'there is no class' in refused


def test_what_cannot_begin_says_why(hospital):
    with_pattern = begin(hospital, out='m.csv', patient=r'patient(\d+)', refused=True)
    assert 'case00' in with_pattern and not (hospital / 'm.csv').exists()
    (hospital / 'outlines' / 'case03.nii.gz').unlink()
    assert 'case03.dcm' in begin(hospital, out='m.csv', refused=True)
    (hospital / 'm.csv').write_text('mine')
    assert 'there already' in begin(hospital, out='m.csv', refused=True)
    assert (hospital / 'm.csv').read_text() == 'mine'


def test_settings_are_listed_with_what_a_file_says():
    listed = ask('settings')
    assert all(
        word in listed for word in ('lasso_family', 'crop_size', 'Classifiers', 'strict, paper')
    )
    assert '{resample_mm: 0.8}' in ask('settings', params='smoke')
    assert 'no parameters' in ask('settings', params='nothing', refused=True)


def test_each_picture_has_the_title_of_its_vertebra(hospital, monkeypatch):
    """Radiographs hold several vertebrae and are opened once each, so pictures do not come in the
    order of the table."""
    shown = []
    monkeypatch.setattr(
        preprocess,
        'plot_contact_sheet',
        lambda cases, titles, **kw: shown.extend(zip(cases, titles, strict=True)),
    )
    begin(hospital)
    ask('check', manifest=hospital / 'manifest.csv', unlabelled=True, figures=hospital / 'look')
    table = read_cohort(hospital / 'manifest.csv', require_class=False).vertebrae
    assert len(shown) > 14 and len({title for _, title in shown}) == len(shown)
    for case, title in shown:
        assert np.array_equal(case.mask, next(preprocess.load_cases(table.loc[[title]]))[1].mask), (
            title
        )


def test_pictures_of_two_centers_do_not_overwrite_each_other(hospital):
    begin(hospital)
    table = pd.read_csv(hospital / 'manifest.csv', dtype=str)
    half = table.patient_id.isin(sorted(table.patient_id.unique())[:7])
    table.assign(center=half.map({True: 'a/b', False: 'a?b'})).to_csv(
        hospital / 'manifest.csv', index=False
    )
    ask('check', manifest=hospital / 'manifest.csv', unlabelled=True, figures=hospital / 'look')
    assert sorted(p.name for p in (hospital / 'look').iterdir()) == [
        'vertebrae_1_a_b.png',
        'vertebrae_2_a_b.png',
    ]


def pictures(folder, radiographs, masks):
    "Radiographs and masks of these names, each mask with one body at a height of its own."
    for where, names in (('radiographs', radiographs), ('outlines', masks)):
        (folder / where).mkdir()
        for k, name in enumerate(names):
            pixels = (
                np.random.default_rng(k).integers(0, 255, (60, 60), dtype='uint8')
                if where == 'radiographs'
                else np.zeros((60, 60), 'uint8')
            )
            if where == 'outlines':
                pixels[20:40, 20 : 30 + k] = 1
            Image.fromarray(pixels).save(folder / where / name)
    return folder


def test_names_with_dots_find_their_own_mask(tmp_path):
    "Names made of DICOM UIDs are all alike up to their first dot."
    begin(
        pictures(
            tmp_path,
            ['1.2.840.0.png', '1.2.840.1.png', 'P1.pre.png', 'P1.post.png'],
            ['1.2.840.0.png', '1.2.840.1.png', 'P1.pre.png', 'P1.post.png'],
        )
    )
    table = pd.read_csv(tmp_path / 'manifest.csv', dtype=str)
    assert (
        table.image.str.removeprefix('radiographs/') == table['mask'].str.removeprefix('outlines/')
    ).all()
    assert set(table.vertebra_id) == {'1.2.840.0', '1.2.840.1', 'P1.pre', 'P1.post'}


def test_odd_folders_are_told_about(tmp_path):
    folder = pictures(tmp_path, ['a.png', 'b.png'], ['a.png', 'b.png', 'c.png'])
    (folder / 'radiographs' / 'Thumbs.db').write_bytes(b'x')
    (folder / 'radiographs' / 'old').mkdir()
    said = begin(folder)
    assert '2 vertebrae' in said and 'c.png' in said and 'old' in said
    (folder / 'manifest.csv').unlink()
    Image.fromarray(np.arange(3600, dtype='uint8').reshape(60, 60)).save(
        folder / 'outlines' / 'b.png'
    )
    assert 'soft edges' in begin(folder, refused=True)
    assert 'CSV' in begin(folder, out='m.xlsx', refused=True)
    shutil.copy(folder / 'outlines' / 'a.png', folder / 'outlines' / 'a.tif')
    assert 'same name' in begin(folder, refused=True)


def test_a_run_does_not_move_into_a_folder_of_other_things(tmp_path):
    (tmp_path / 'manuscript' / 'figures').mkdir(parents=True)
    refused = ask('run', params='smoke', out=tmp_path, refused=True)
    assert 'manuscript' in refused and [p.name for p in tmp_path.iterdir()] == ['manuscript']


def test_two_real_radiographs_are_seen_after_two_commands(shared, tmp_path):
    "Radiographs as JPEG without pixel size, fifteen bodies in two masks."
    for name in ('Damaged_LAT', 'Normal_LAT'):
        for folder, source, suffix in (
            ('radiographs', f'films/{name}.jpg', '.jpg'),
            ('outlines', f'derived/{name}_vertebra_labels.nii.gz', '.nii.gz'),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(
                shared / 'data' / 'spine_xray' / source, tmp_path / folder / f'{name}{suffix}'
            )
    assert '15 vertebrae of 2 patients' in begin(tmp_path)
    assert 'spacing' in ask(
        'check', manifest=tmp_path / 'manifest.csv', unlabelled=True, figures=tmp_path / 'look'
    )
    assert 0.2 < drawn(tmp_path / 'look' / 'vertebrae_1_I.png') < 0.98
