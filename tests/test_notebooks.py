"The notebooks' own tests: each is executed from its first cell to its last."

import os

import pytest
from conftest import ROOT
from nbdev.test import test_nb as execute

LIBRARY = sorted((ROOT / 'nbs').glob('[0-9][0-9]_*.ipynb'))
PAGES = [p for p in sorted((ROOT / 'nbs').rglob('*.ipynb')) if p not in LIBRARY]


def is_executed(path) -> bool:
    "Reports are executed by papermill in a run; what begins with `_` is no page."
    hidden = any(part.startswith('_') or part == '.ipynb_checkpoints' for part in path.parts)
    return path.parent.name != 'reports' and not hidden


@pytest.mark.parametrize(
    'path', [*LIBRARY, *filter(is_executed, PAGES)], ids=lambda p: str(p.relative_to(ROOT / 'nbs'))
)
def test_every_cell_runs(path, data, monkeypatch):
    monkeypatch.setenv('OVF_DLR_DATA', str(data))
    monkeypatch.setenv('IN_TEST', '1')  # nbdev sets it and leaves it set, which stops nbdev_export
    before = os.getcwd()
    try:
        success, _ = execute(path, skip_flags=['notest'], basepath=ROOT)
    finally:
        os.chdir(before)
    assert success, f'a cell of {path.name} failed; its traceback is above'
