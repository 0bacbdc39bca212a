"""The notebooks are the source of truth: the package, the README and the stored outputs must follow
from them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import ROOT

NOTEBOOKS = sorted(
    p for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts
)


def test_every_module_is_what_its_notebook_exports(tmp_path):
    copy = tmp_path / 'checkout'
    shutil.copytree(
        ROOT,
        copy,
        symlinks=True,
        ignore=shutil.ignore_patterns('.git', '.venv', 'data', '_docs', '_proc'),
    )
    (copy / 'data' / 'params').mkdir(parents=True)
    for module in (copy / 'ovf_dlr').glob('*.py'):
        if module.name != '__init__.py':
            module.unlink()
    subprocess.run(
        [Path(sys.executable).with_name('nbdev_export')], cwd=copy, check=True, capture_output=True
    )
    modules = sorted(p.name for p in (ROOT / 'ovf_dlr').glob('*.py'))
    assert modules == sorted(p.name for p in (copy / 'ovf_dlr').glob('*.py'))
    for name in modules:
        assert (ROOT / 'ovf_dlr' / name).read_text() == (copy / 'ovf_dlr' / name).read_text(), (
            f'{name}: run `make export`'
        )


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_well_formed(path):
    nb = nbformat.read(path, as_version=4)
    nbformat.validate(nb)
    assert nb.cells[0].cell_type in ('markdown', 'raw') and '# ' in nb.cells[0].source
    text = path.read_text()
    assert not re.search(r'/root/|/home/|/work/|/tmp/|C:\\\\Users', text), (
        'an output or a cell holds a path of one machine'
    )
    assert path.stat().st_size < 900_000


def test_library_and_report_notebooks_keep_their_outputs():
    bare = [
        p.name
        for p in NOTEBOOKS
        if (re.match(r'\d\d_', p.name) or p.parent.name == 'reports')
        and not any(
            c.get('outputs') for c in nbformat.read(p, as_version=4).cells if c.cell_type == 'code'
        )
    ]
    assert not bare, f'run `make notebooks`: {bare}'


def test_modules_import_only_those_above_them():
    order = [p.stem[3:] for p in sorted((ROOT / 'nbs').glob('[0-9]*_*.ipynb'))]
    for i, name in enumerate(order):
        source = (ROOT / 'ovf_dlr' / f'{name}.py').read_text()
        used = set(re.findall(r'^\s*from (?:ovf_dlr)?\.(\w+) import', source, re.M))
        assert used <= set(order[:i]), f'{name} imports {used - set(order[:i])}'
        assert name == 'cli' or not re.search(r'^\s*print\(', source, re.M), f'{name} prints'


def test_readme_is_the_index_notebook():
    made = subprocess.run(
        [
            sys.executable,
            '-m',
            'nbconvert',
            '--to',
            'markdown',
            '--stdout',
            ROOT / 'nbs' / 'index.ipynb',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / 'README.md').read_text().strip() == made.strip(), 'run `make readme`'


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'nbs' / 'reports').glob('*.ipynb')), ids=lambda p: p.stem
)
def test_every_parameter_of_a_report_says_its_kind_and_meaning(path):
    "As `papermill --help-notebook` shows them."
    parameters = papermill.inspect_notebook(path)
    assert 'params' in parameters
    for name, about in parameters.items():
        assert (
            about['inferred_type_name'] in ('str', 'int', 'float', 'bool') and about['help'].strip()
        ), name


def test_tests_of_a_file_share_a_process(request, worker_id):
    "With several processes a test carries its group; pytest 9.2 hides it from pytest-xdist 3.8."
    assert worker_id == 'master' or request.node.nodeid.endswith('@test_sync')
