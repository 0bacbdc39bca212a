"Fixtures for every test: where the shared material lies, and one small run of the whole study."

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from filelock import FileLock
from typer.testing import CliRunner

from ovf_dlr.cli import app

ROOT = Path(__file__).resolve().parents[1]
FAST = (  # files whose tests take seconds and need no run: `make check`
    'test_evaluation',
    'test_evaluation_reference',
    'test_fusion_reference',
    'test_harmonise_reference',
    'test_ibsi',
    'test_keys',
    'test_paper',
    'test_radiomics_reference',
    'test_sync',
)


# pytest-xdist 3.8 must find the groups, so this comes first; pytest 9.2 hides them from it
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of a file share a process and its fixtures; each notebook goes anywhere.

    The run on the smoke cohort begins first, what needs it comes later: no process waits for it."""
    needs_run = {item.path.stem for item in items if 'smoke_run' in item.fixturenames}
    for item in items:
        name = item.path.stem
        if name in FAST:
            item.add_marker('fast')
        if name != 'test_notebooks':
            item.add_marker(pytest.mark.xdist_group(name))

    def turn(item):
        "The place of a test in the order of the session."
        name = item.path.stem
        if name == 'test_gallery':  # makes the run
            return 0
        return 3 if name == 'test_notebooks' else 1 + (name in needs_run)

    items.sort(key=turn)


@pytest.fixture(scope='session')
def shared() -> Path:
    """Real images and R results, never in the repository; tests that need them skip elsewhere.

    Where OVF_DLR_REQUIRE_SHARED is set they fail instead."""
    folder = Path(os.environ.get('OVF_DLR_SHARED', ROOT.parent / 'shared'))
    if not (folder / 'reference').is_dir():
        end = pytest.fail if os.environ.get('OVF_DLR_REQUIRE_SHARED') else pytest.skip
        end(f'no shared material in {folder}; point OVF_DLR_SHARED at it')
    return folder


def from_r(shared, name) -> tuple[pd.DataFrame, dict]:
    "Input table and expected values of a case that R has computed."
    folder = shared / 'reference' / name
    table = pd.read_csv(folder / 'input.csv', float_precision='round_trip')
    return table, json.loads((folder / 'expected.json').read_text())


def public_bodies(shared, name='manifest', **how) -> pd.DataFrame:
    "The 456 bodies of the public cohort, or its `readings`, with full paths."
    folder = shared / 'data' / 'spine_mr'
    table = pd.read_csv(folder / f'{name}.csv', **how)
    paths = table[[c for c in ('image', 'mask') if c in table]]
    return table.assign(**paths.map(lambda path: str(folder / path)))


def labels_of(path) -> np.ndarray:
    "The labels of a mask, (rows, columns), by SimpleITK alone."
    return np.squeeze(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))


def command(data: Path, *arguments, check=True, **kw) -> subprocess.CompletedProcess:
    "Run `ovf-dlr` as a user would, with its generated files under `data`."
    done = subprocess.run(
        [Path(sys.executable).with_name('ovf-dlr'), *map(str, arguments)],
        text=True,
        capture_output=True,
        env={**os.environ, 'OVF_DLR_DATA': str(data), 'MPLBACKEND': 'agg', 'COLUMNS': '200'},
        **kw,
    )
    assert not check or done.returncode == 0, f'{done.stdout[-4000:]}\n{done.stderr[-4000:]}'
    return done


def flags(**options) -> list:
    "`--allow-outside --out path` of `allow_outside=True, out=path`."
    found = [('--' + name.replace('_', '-'), value) for name, value in options.items()]
    return [part for name, value in found for part in ((name,) if value is True else (name, value))]


def ask(*arguments, refused=False, **options) -> str:
    "What `ovf-dlr` prints, called in this process: ten starts of Python would take longer."
    arguments = [str(a) for a in (*arguments, *flags(**options))]
    done = CliRunner().invoke(app, arguments, env={'COLUMNS': '200'})
    assert done.exit_code == (2 if refused else 0), (done.output, done.exception)
    return done.output


@pytest.fixture(scope='session')
def data(tmp_path_factory, worker_id) -> Path:
    "A data folder of this test session alone: no earlier cache can hide a failure."
    if given := os.environ.get('OVF_DLR_TEST_DATA'):  # tests/test_guards.py: one run for many
        return Path(given)
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == 'master' else base.parent) / 'data'
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope='session')
def smoke_run(data) -> Path:
    "Results of one whole run on the smoke cohort: two backbones, every report."
    out = data / 'results' / 'smoke'
    with FileLock(data / 'smoke.lock'):  # whichever process comes first makes it, the other waits
        if not (out / 'index.html').is_file():
            command(data, 'run', '--params', 'smoke')
    return out
