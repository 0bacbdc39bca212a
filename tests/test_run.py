"""The whole study through the command line: what it leaves, that it can be killed, that it repeats
itself."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from conftest import ask, command
from PIL import Image
from sklearn.metrics import roc_auc_score

from ovf_dlr.files import SCRATCH
from ovf_dlr.gallery import saves
from ovf_dlr.reporting import REPORTS

BACKBONES = ('random', 'random-2')
PROBABILITIES = ['p0', 'p1', 'p2']


def test_the_run_leaves_what_it_promises(smoke_run):
    for backbone in BACKBONES:
        run = smoke_run / backbone
        metrics = json.loads((run / 'metrics.json').read_text())
        assert metrics['backbone'] == backbone and metrics['best_classifier'] in metrics['cv_auc']
        manifest = json.loads((run / 'manifest.json').read_text())
        assert (
            manifest['settings']['name'] == 'smoke'
            and manifest['versions']['torch']
            and set(manifest['methods'])
        )
        assert any('random weights' in note for note in manifest['notes'])
        assert {p.stem for p in (run / 'notebooks').glob('*.ipynb')} == set(REPORTS['backbone'])
        assert 'README.md' in json.loads((run / 'model' / 'card.json').read_text())['files']
    assert {p.stem for p in (smoke_run / 'cohort' / 'notebooks').glob('*.ipynb')} == set(
        REPORTS['cohort']
    )
    assert {p.stem for p in (smoke_run / 'comparison' / 'notebooks').glob('*.ipynb')} == {
        *REPORTS['comparison'],
        *REPORTS['paper'],
    }
    assert 'comparison/tables' in (smoke_run / 'INDEX.md').read_text()


def test_checklists_name_files_that_are_there(smoke_run):
    for backbone in BACKBONES:
        lists = sorted((smoke_run / backbone / 'reporting').glob('*.md'))
        assert [p.stem for p in lists] == ['claim', 'clear', 'methods', 'metrics', 'tripod_ai']
        links = {
            (p, t) for p in lists for t in re.findall(r'\]\((?!https?:)([^)]+)\)', p.read_text())
        }
        assert len(links) > 100
        assert not [(p.name, t) for p, t in links if not (p.parent / t).resolve().is_file()]


def _contents(path):
    """The bytes of a file, or of the members of an archive; of pictures, also of those within text,
    and of weights only what is written about them, since in a million numbers four letters stand
    together by chance."""
    if path.suffix == '.png':
        with Image.open(path) as image:
            return [str(image.info).encode()]
    if path.suffix == '.safetensors':
        return [path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:8], 'little')]]
    if not zipfile.is_zipfile(path):
        return [
            re.sub(rb'[A-Za-z0-9+/=\\n]{300,}', b'', path.read_bytes())
            if path.suffix in ('.svg', '.ipynb', '.html')
            else path.read_bytes()
        ]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def test_no_name_and_no_id_of_a_patient_reaches_an_artefact(smoke_run, data):
    cohort = next((data / 'cohorts').glob('phantom-smoke-0-????????'))
    ids = set(pd.read_csv(cohort / 'manifest.csv').patient_id)
    assert len(ids) > 39, 'screened patients count too'
    name = re.compile(rb'\b(?:' + b'|'.join(i.encode() for i in sorted(ids)) + rb'|PHANTOM)\b')
    files = [p for p in smoke_run.rglob('*') if p.is_file()]
    assert len(files) > 60
    found = {
        str(p.relative_to(smoke_run)): hit[0]
        for p in files
        for part in _contents(p)
        if (hit := name.search(part))
    }
    assert not found, found


def test_predictions_are_complete_and_joined_by_id(smoke_run):
    table = pd.read_csv(smoke_run / 'random' / 'predictions.csv')
    assert not table.isna().any(axis=None)
    assert (
        table.groupby('classifier').vertebra_id.nunique().nunique() == 1
        and table.classifier.nunique() == 8
    )
    assert not table.duplicated(['classifier', 'vertebra_id']).any()
    assert ((table[PROBABILITIES].sum(axis=1) - 1).abs() < 1e-6).all()
    assert table.groupby('patient_id').split.nunique().max() == 1


def test_predictions_are_those_that_the_tables_were_made_of(smoke_run):
    """Of the training set too, which under `strict` is cross-validated: who computes its AUC anew
    must find that of Table 3."""
    metrics = json.loads((smoke_run / 'random' / 'metrics.json').read_text())
    table = pd.read_csv(smoke_run / 'random' / 'predictions.csv').query(
        f'classifier == {metrics["best_classifier"]!r}'
    )
    said = {
        (r['split'], r['class']): r['auc']
        for r in metrics['performance']
        if r['classifier'] == metrics['best_classifier']
    }
    for split, rows in table.groupby('split'):
        for k, column in enumerate(PROBABILITIES):
            if said[split, str(k)] is not None:
                assert (
                    abs(roc_auc_score(rows.truth == k, rows[column]) - said[split, str(k)]) < 1e-9
                ), (split, k)
    assert (
        said['train', 'macro'] < 1
    )  # what the model says of rows that it was fitted on would be perfect


def test_every_table_and_figure_says_what_it_is(smoke_run):
    tables, figures = list(smoke_run.rglob('tables/*.md')), list(smoke_run.rglob('figures/*.png'))
    assert len(tables) >= 8 and len(figures) >= 12
    for table in tables:
        assert 'Simulated radiographs' in table.read_text().splitlines()[0], table
        assert table.with_suffix('.csv').is_file()
        caption = re.search(r'\\caption\{(.*?)\}\n', table.with_suffix('.tex').read_text())[1]
        assert not re.search(r'(?<!\\)[&%$#_]', caption), (
            f'{table}: LaTeX would stumble over {caption!r}'
        )
    for figure in figures:
        assert 'Simulated radiographs' in Image.open(figure).text['Description'], figure
        assert figure.with_suffix('.svg').is_file()
        assert min(Image.open(figure).size) > 300


def test_the_weights_of_the_score_name_their_features(smoke_run):
    for backbone in ('random', 'random-2'):
        weights = pd.read_csv(smoke_run / backbone / 'tables' / 'dtl_radscore_weights.csv')
        score = json.loads((smoke_run / backbone / 'metrics.json').read_text())['selected']
        assert set(weights.feature) == set(score)


def test_one_report_makes_each_artefact(smoke_run):
    "A table or figure that two notebooks write would depend on which ran last."
    makers = [
        (kind, pattern, name)
        for names in REPORTS.values()
        for name in names
        for kind, pattern in saves(name)
    ]
    written = {
        (kind, p.stem)
        for kind, pattern in (('tables', 'tables/*.csv'), ('figures', 'figures/*.png'))
        for p in smoke_run.rglob(pattern)
    }
    assert len(written) > 25
    for kind, stem in written:
        found = [name for k, pattern, name in makers if k == kind and re.fullmatch(pattern, stem)]
        assert len(found) == 1, (stem, found)


ONE = 'run', '--params', 'smoke', '--backbone', 'random', '--no-reports'


def _killed_after(data, out, line):
    """Start the run, kill it without warning once `line` has been printed, and say that it was
    still running."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name('ovf-dlr'), *ONE, '--out', str(out)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, 'OVF_DLR_DATA': str(data), 'COLUMNS': '200', 'PYTHONUNBUFFERED': '1'},
    )
    for printed in process.stdout if line else ():
        if line in printed:
            break
    time.sleep(0.3 if line else 8)  # without a line: while the cohort is being made
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_a_killed_run_resumes_to_the_same_metrics(smoke_run, tmp_path):
    out = tmp_path / 'results'
    for line in ('', 'Radiomic features', 'Fine-tuning', 'Feature selection'):
        assert _killed_after(tmp_path / 'data', out, line), (
            f'the run was over before it could be killed after {line!r}'
        )
    assert not (out / 'random' / 'metrics.json').exists(), (
        'the kills came too late to test anything'
    )
    printed = command(tmp_path / 'data', *ONE, '--out', out).stdout
    assert 'on disk' in printed
    assert (out / 'random' / 'metrics.json').read_text() == (
        smoke_run / 'random' / 'metrics.json'
    ).read_text()
    assert not list(out.rglob(f'{SCRATCH}*')), 'what the killed runs were writing is still there'


def test_bad_input_ends_with_one_message_and_nothing_written(data, tmp_path, monkeypatch):
    monkeypatch.setenv('OVF_DLR_DATA', str(data))
    run, out = ('run', '--params', 'smoke'), tmp_path / 'out'
    for arguments, options, words in [
        (run, dict(backbone='resnet'), 'resnet'),
        (run, dict(manifest=tmp_path / 'none.csv'), 'no manifest'),
        (run, dict(protocol='lax'), 'strict, paper'),
        ((*run, '--backbone', 'random'), dict(backbone='random'), 'twice'),
        (run, dict(backbone='random-3'), 'random-3'),
        (('predict',), dict(model=tmp_path, manifest='x.csv'), 'no card.json'),
    ]:
        said = ask(*arguments, **options, out=out, refused=True)
        assert words in said and said.count('Stopped:') == 1 and 'Traceback' not in said, said
        assert not list(tmp_path.iterdir()), said


def test_a_folder_holds_one_run(smoke_run, data):
    done = command(
        data, 'run', '--params', 'smoke', '--protocol', 'paper', '--out', smoke_run, check=False
    )
    assert done.returncode == 2 and "protocol: 'strict' there, 'paper' now" in done.stdout


@pytest.mark.heavy
def test_a_second_run_from_nothing_gives_the_same_metrics(smoke_run, tmp_path):
    command(tmp_path, 'run', '--params', 'smoke', '--no-reports')
    for backbone in BACKBONES:
        assert (tmp_path / 'results' / 'smoke' / backbone / 'metrics.json').read_text() == (
            smoke_run / backbone / 'metrics.json'
        ).read_text()
