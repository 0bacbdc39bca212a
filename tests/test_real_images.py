"""The study on images nobody here made: real radiographs scored by a trained model, real vertebral
bodies through the whole study."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import command, flags, labels_of, public_bodies
from PIL import Image

from ovf_dlr.reporting import REPORTS

LABEL = 'deformity class from mask geometry, not a clinical grade'


@pytest.fixture(scope='module')
def radiographs(shared, tmp_path_factory):
    """Manifest of the 15 vertebral bodies on two full-size radiographs; they have no class and no
    pixel size."""
    folder = tmp_path_factory.mktemp('radiographs')
    rows = []
    for radiograph, bodies in (('Damaged_LAT', 11), ('Normal_LAT', 4)):
        for part in ('image', 'vertebra_labels'):
            shutil.copy(shared / 'data/spine_xray/derived' / f'{radiograph}_{part}.nii.gz', folder)
        rows += [
            dict(
                vertebra_id=f'{radiograph}_{i}',
                patient_id=radiograph,
                center='spine_xray',
                image=f'{radiograph}_image.nii.gz',
                mask=f'{radiograph}_vertebra_labels.nii.gz',
                mask_label=i,
            )
            for i in _labels(folder / f'{radiograph}_vertebra_labels.nii.gz', bodies)
        ]
    pd.DataFrame(rows).to_csv(folder / 'manifest.csv', index=False)
    return folder / 'manifest.csv'


def _labels(path, n):
    "The labels of a mask, which are n."
    found = [int(x) for x in np.unique(labels_of(path)) if x]
    assert len(found) == n
    return found


def test_full_size_radiographs_are_scored_with_a_warning(radiographs, smoke_run, data, tmp_path):
    model, out = smoke_run / 'random' / 'model', tmp_path / 'scores.csv'
    done = command(data, 'predict', *flags(model=model, manifest=radiographs, out=out))
    assert '2 of 2 radiographs of center spine_xray do not give their pixel size' in done.stdout
    assert 'Research use only' in done.stdout
    scores = pd.read_csv(out)
    assert len(scores) == 15 and not scores.isna().any(axis=None)
    assert ((scores[['p0', 'p1', 'p2']].sum(axis=1) - 1).abs() < 1e-4).all()


def test_a_few_new_rows_are_not_harmonised_with_a_warning(radiographs, smoke_run, data, tmp_path):
    few = radiographs.with_name('few.csv')
    pd.read_csv(radiographs).head(3).to_csv(few, index=False)
    model, out = smoke_run / 'random' / 'model', tmp_path / 'scores.csv'
    done = command(data, 'predict', *flags(model=model, manifest=few, out=out))
    words = 'left as they are, with fewer than 10 rows: spine_xray (3)'
    assert f'Warning: {words}' in done.stdout, done.stdout


def test_check_finds_the_exams_that_stand_twice_in_the_public_data(shared, data):
    """Four exams of the source have the pixels and outlines of another, under a patient of their
    own."""
    done = command(data, 'check', '--manifest', shared / 'data/spine_mr/manifest.csv', check=False)
    assert done.returncode == 2 and '4 errors' in done.stdout
    for twice, once in (('VB3_19', 87), ('VB3_33', 157), ('VB3_53', 252), ('VB3_54', 257)):
        assert any(
            twice in line and f'same pixels as row {once}, under another patient' in line
            for line in done.stdout.splitlines()
        ), twice


@pytest.fixture
def spine_mr(shared, tmp_path):
    """The public cohort with the repeated exams set aside, where its own manifest may not be
    changed."""
    table, readings = (public_bodies(shared, n, dtype=str) for n in ('manifest', 'readings'))
    table['exclusion'] = table.patient_id.map(
        dict.fromkeys(('VB3_19', 'VB3_33', 'VB3_53', 'VB3_54'), 'the exam of another patient')
    )
    table.to_csv(tmp_path / 'manifest.csv', index=False)
    kept = readings.vertebra_id.isin(table.vertebra_id[table.exclusion.isna()])
    readings[kept].to_csv(tmp_path / 'readings.csv', index=False)
    return tmp_path / 'manifest.csv'


def test_check_finds_the_rest_usable(spine_mr, data):
    done = command(data, 'check', '--manifest', spine_mr, '--allow-outside')
    assert (
        'is usable' in done.stdout
        and 'prospective' in done.stdout
        and 'excluded by `exclusion`' in done.stdout
    )


@pytest.mark.heavy
def test_the_whole_study_on_real_bodies(spine_mr, data, tmp_path):
    out = tmp_path / 'spine_mr'
    asked = dict(params='demo', manifest=spine_mr, allow_outside=True, label=LABEL, out=out)
    command(data, 'run', *flags(**asked))
    for backbone in ('random', 'random-2'):
        metrics = json.loads((out / backbone / 'metrics.json').read_text())
        assert metrics['label'] == LABEL
        assert {p.stem for p in (out / backbone / 'notebooks').glob('*.ipynb')} == set(
            REPORTS['backbone']
        )
        assert len(pd.read_csv(out / backbone / 'predictions.csv')) == 8 * len(
            pd.read_csv(spine_mr).query('exclusion.isna()')
        )
    tables, figures = list(out.rglob('tables/*.md')), list(out.rglob('figures/*.png'))
    assert len(tables) >= 40 and len(figures) >= 50  # most of them of the two backbones
    for table in tables:
        assert LABEL in table.read_text().splitlines()[0], table
    for figure in figures:
        assert LABEL in Image.open(figure).text['Description'], figure
