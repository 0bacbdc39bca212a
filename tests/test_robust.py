"""What a disk and a second run can do to a run: refused or survived, and nothing that was there is
lost."""

import errno
import resource

import pandas as pd
import pytest
from conftest import command
from filelock import FileLock

from ovf_dlr.console import _disk_trouble
from ovf_dlr.files import SCRATCH
from ovf_dlr.settings import read_settings
from ovf_dlr.study import Study

ONE = 'run', '--params', 'smoke', '--backbone', 'random', '--no-reports', '--out'


@pytest.fixture
def finished(smoke_run, data, tmp_path):
    "A finished run in a folder of its own; its stages are in the cache."
    command(data, *ONE, tmp_path / 'out')
    return tmp_path / 'out'


def test_two_runs_do_not_write_into_one_folder_and_a_full_disk_loses_nothing(finished, data):
    before = {p.relative_to(finished): p.read_bytes() for p in finished.rglob('*') if p.is_file()}
    with FileLock(finished / '.lock'):
        refused = command(data, *ONE, finished, check=False)
    assert refused.returncode == 2 and 'another run is writing' in refused.stdout
    small = 20_000  # bytes that a file may have: predictions.csv has more
    full = command(
        data,
        *ONE,
        finished,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
    )
    assert (
        full.returncode == 2 and 'no space left' in full.stdout and 'Traceback' not in full.stderr
    ), full.stdout + full.stderr
    assert not list(finished.rglob(f'{SCRATCH}*'))
    after = {
        p.relative_to(finished): p.read_bytes()
        for p in finished.rglob('*')
        if p.is_file() and p.name != '.lock'
    }
    assert after == {k: v for k, v in before.items() if k.name != '.lock'}


def test_a_folder_that_cannot_be_written_is_named(data, smoke_run, tmp_path):
    (tmp_path / 'file').write_text('a file, no folder')
    refused = command(data, *ONE, tmp_path / 'file' / 'out', check=False)
    assert (
        refused.returncode == 2
        and 'cannot read or write' in refused.stdout
        and '--out' in refused.stdout
    )
    assert (tmp_path / 'file').read_text() == 'a file, no folder'


@pytest.mark.parametrize('number', [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_what_the_disk_says_is_put_into_words(number):
    assert "'results'" in _disk_trouble(OSError(number, 'because', 'results'))


def test_other_errors_of_the_system_are_not_explained_away():
    assert _disk_trouble(OSError(errno.ECONNRESET, 'because')) is None


@pytest.mark.parametrize('damage', [b'', b'\x80\x04junk', None])
def test_a_damaged_cache_entry_is_computed_again(smoke_run, data, tmp_path, monkeypatch, damage):
    monkeypatch.setenv('OVF_DLR_DATA', str(tmp_path))
    (tmp_path / 'cohorts').symlink_to(data / 'cohorts')

    def inspected():
        "What the stage finds, and the seconds it took when it was computed."
        told = []
        study = Study(read_settings('smoke'), n_jobs=2, listen=lambda *said: told.append(said))
        vertebrae = study.inspection.vertebrae
        ((_, seconds, *_),) = told
        return vertebrae, seconds

    first, at_first = inspected()
    entries = list((tmp_path / 'cache').rglob('output.pkl'))
    assert entries
    for path in entries:
        path.unlink() if damage is None else path.write_bytes(damage)
    again, anew = inspected()
    pd.testing.assert_frame_equal(again, first)
    assert anew != at_first, 'it was taken from the cache'
    kept, seconds = inspected()
    assert kept.equals(first) and seconds == anew, 'it was not kept'
