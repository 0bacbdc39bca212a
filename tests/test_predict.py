"""The model that left the lab, through the command line: manifests, single radiographs, folders,
pages, new centers, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ask, flags

from ovf_dlr.model import _file_names

P = ['p0', 'p1', 'p2']


@pytest.fixture(scope='module')
def model(smoke_run):
    return smoke_run / 'random' / 'model'


@pytest.fixture(scope='module')
def external(data, tmp_path_factory):
    "A manifest of the external radiographs as a hospital would send it: no class, no split."
    manifest = next(p for p in (data / 'cohorts').glob('phantom-smoke-0-????????/manifest.csv'))
    table = pd.read_csv(manifest, dtype=str).query("split == 'external'")[
        ['vertebra_id', 'patient_id', 'center', 'image', 'mask', 'mask_label']
    ]
    table[['image', 'mask']] = table[['image', 'mask']].map(lambda p: str(manifest.parent / p))
    path = tmp_path_factory.mktemp('external') / 'manifest.csv'
    table.to_csv(path, index=False)
    return path


def on(command, model, manifest, out, **more):
    "What a command prints of a model and a manifest whose radiographs are in other folders."
    return ask(command, model=model, manifest=manifest, allow_outside=True, out=out, **more)


@pytest.fixture(scope='module')
def scored(model, external, tmp_path_factory):
    folder = tmp_path_factory.mktemp('scored')
    on('predict', model, external, folder / 'scores.csv', report=folder / 'pages')
    return folder


def test_scores_are_those_of_the_run(smoke_run, model, scored):
    scores = pd.read_csv(scored / 'scores.csv', index_col='vertebra_id')
    chosen = json.loads((model / 'card.json').read_text())['classifier']
    run = (
        pd.read_csv(smoke_run / 'random' / 'predictions.csv')
        .query(f'classifier == {chosen!r}')
        .set_index('vertebra_id')
    )
    np.testing.assert_allclose(scores[P], run.loc[scores.index, P], atol=2e-6)
    assert scores.center_known.all() and {'distance', 'limit', 'unusual', 'DTL_Radscore'} <= set(
        scores
    )


def test_every_vertebra_has_a_page_that_stands_alone(scored):
    scores = pd.read_csv(scored / 'scores.csv', index_col='vertebra_id')
    assert {p.stem for p in (scored / 'pages').glob('*.html')} == set(scores.index)
    assert {p.stem for p in (scored / 'pages').glob('*.pdf')} == {*scores.index, 'all'}
    for key, row in scores.iterrows():
        text = (scored / 'pages' / f'{key}.html').read_text()
        assert (
            'RESEARCH USE ONLY' in text
            and f'{row[P].max():.3f}' in text
            and 'src="data:image/png' in text
            and 'http' not in text
        )
        assert (scored / 'pages' / f'{key}.pdf').read_bytes()[:5] == b'%PDF-'


def test_no_two_vertebrae_share_a_page():
    names = _file_names(['P1/L1', 'P1 L1', 'p1_l1', 'all', 'V2'])
    assert list(names.values()) == ['P1_L1', 'P1_L1-2', 'p1_l1-3', 'all-2', 'V2']


def test_a_radiograph_and_its_mask_need_no_manifest(model, external, scored, tmp_path):
    rows = pd.read_csv(external, dtype=str)
    radiograph = rows.image.value_counts().index[0]
    own = rows[rows.image == radiograph]
    printed = ask(
        'predict',
        model=model,
        image=radiograph,
        mask=own['mask'].iloc[0],
        center=own.center.iloc[0],
        out=tmp_path / 'one.csv',
    )
    one, all_ = (
        pd.read_csv(tmp_path / 'one.csv'),
        pd.read_csv(scored / 'scores.csv', index_col='vertebra_id'),
    )
    assert len(one) == len(own) and 'Research use only' in printed
    np.testing.assert_allclose(
        one[P], all_.loc[own.vertebra_id, P], atol=2e-6
    )  # alone as among the others: the model knows the center


def test_folders_are_paired_by_name(model, external, tmp_path):
    rows = pd.read_csv(external, dtype=str).drop_duplicates('image').head(2)
    for i, row in enumerate(rows.itertuples()):
        for column, ending in (('image', '.dcm'), ('mask', '.nii.gz')):
            (tmp_path / column).mkdir(exist_ok=True)
            shutil.copy(getattr(row, column), tmp_path / column / f'radiograph{i}{ending}')
    named = dict(model=model, image=tmp_path / 'image', mask=tmp_path / 'mask')
    ask('predict', **named, out=tmp_path / 'two.csv')
    scores = pd.read_csv(tmp_path / 'two.csv')
    assert scores.vertebra_id.str.split('_').str[0].nunique() == 2 and not scores.center_known.any()
    (tmp_path / 'mask' / 'radiograph1.nii.gz').unlink()
    refused = ask('predict', **named, out=tmp_path / 'no.csv', refused=True)
    assert 'radiograph1.dcm' in refused and not (tmp_path / 'no.csv').exists()


def test_a_model_learns_the_scale_of_a_new_center(model, external, tmp_path):
    table = pd.read_csv(external, dtype=str).assign(center='IV')
    table.to_csv(tmp_path / 'new.csv', index=False)
    on('adapt', model, tmp_path / 'new.csv', tmp_path / 'adapted')
    table.head(1).to_csv(tmp_path / 'first.csv', index=False)
    assert (tmp_path / 'adapted' / 'README.md').read_text() == (
        model / 'README.md'
    ).read_text()  # its card for people goes along
    on('predict', tmp_path / 'adapted', tmp_path / 'first.csv', tmp_path / 'first_scores.csv')
    on('predict', model, tmp_path / 'new.csv', tmp_path / 'all_scores.csv')
    first, everyone = (
        pd.read_csv(tmp_path / f'{n}_scores.csv', index_col='vertebra_id') for n in ('first', 'all')
    )
    assert first.center_known.all()
    np.testing.assert_allclose(
        first[P], everyone.loc[first.index, P], atol=2e-6
    )  # as if its whole hospital stood beside it
    again = on(
        'adapt', tmp_path / 'adapted', tmp_path / 'new.csv', tmp_path / 'twice', refused=True
    )
    assert 'knows' in again and not (tmp_path / 'twice').exists()


def test_what_is_asked_must_be_clear(model, external, tmp_path):
    twice = dict(manifest=external, second_view=external, allow_outside=True)
    for asked, words in [
        (dict(out='x.csv'), '--image and --mask'),
        (dict(manifest=external), '--out FILE.csv'),
        (dict(image=tmp_path / 'none.dcm', mask=tmp_path / 'none.nii.gz'), 'none.dcm'),
        (dict(twice, out='x.csv'), 'leave --second-view out'),
    ]:
        refused = ask('predict', model=model, **asked, refused=True)
        assert words in refused, refused


OLDER_PROCESSOR = {
    'ATEN_CPU_CAPABILITY': 'default',
    'ONEDNN_MAX_CPU_ISA': 'SSE41',
    'MKL_ENABLE_INSTRUCTIONS': 'SSE4_2',
    'OPENBLAS_CORETYPE': 'Nehalem',
    'NPY_DISABLE_CPU_FEATURES': 'AVX2 FMA3',
    'OMP_NUM_THREADS': '2',
}
ASK_IT = (
    'import sys, torch; from ovf_dlr.cli import app; '
    'print(torch.backends.cpu.get_cpu_capability()); app(sys.argv[1:])'
)


def test_another_processor_says_the_same_bit_by_bit(model, external, scored, tmp_path):
    """The newer instructions of this machine are forbidden in a process of its own; sums are then
    taken in another order."""
    out = tmp_path / 'scores.csv'
    options = flags(model=model, manifest=external, allow_outside=True, out=out)
    done = subprocess.run(
        [sys.executable, '-c', ASK_IT, 'predict', *map(str, options)],
        env={**os.environ, **OLDER_PROCESSOR},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('DEFAULT'), done.stdout[:100]  # the older processor it was
    assert out.read_bytes() == (scored / 'scores.csv').read_bytes()
