"""A Dask cluster of processes: a worker that dies costs no result, and a cluster that cannot do the
work is refused in words."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import pandas as pd
import pytest
from conftest import ROOT, command

import ovf_dlr
from ovf_dlr.cluster import ClusterError, check_paths, cluster, spread_over
from ovf_dlr.radiomics import extract_cohort
from ovf_dlr.settings import read_settings
from ovf_dlr.study import Study


class Processes:
    "A scheduler and its workers, each a process of its own."

    def __init__(self, folder: Path):
        self.folder, self.file, self.running = folder, folder / 'scheduler.json', {}
        self.start('scheduler', 'scheduler', '--port', '0', '--scheduler-file', self.file)
        _until(self.file.is_file)

    def start(self, name, *arguments, **env):
        with open(self.folder / f'{name}.log', 'w') as log:
            self.running[name] = subprocess.Popen(
                [Path(sys.executable).with_name('dask'), *map(str, arguments), '--no-dashboard'],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    'OMP_NUM_THREADS': '1',
                    'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
                    **env,
                },
            )

    def worker(self, name, **env):
        self.start(
            name,
            'worker',
            '--scheduler-file',
            self.file,
            '--name',
            name,
            '--nthreads',
            '1',
            '--no-nanny',
            '--local-directory',
            self.folder / name,
            **env,
        )

    def end(self, name, how=signal.SIGKILL):
        self.running[name].send_signal(how)


def _until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f'waited {seconds} s'
        time.sleep(0.02)


@pytest.fixture
def processes(tmp_path):
    started = Processes(tmp_path)
    yield started
    for process in started.running.values():
        process.kill()
        process.wait()


def _addresses(client):
    return {
        w['name']: address for address, w in client.scheduler_info(n_workers=-1)['workers'].items()
    }


def test_a_worker_killed_in_the_middle_changes_no_feature(processes, tmp_path, monkeypatch):
    monkeypatch.setenv('OVF_DLR_DATA', str(tmp_path / 'data'))
    settings, held = read_settings('smoke'), {}

    def stored():
        return sum(1 for p in (tmp_path / 'data' / 'cache').rglob('_stored/*/output.pkl'))

    def kill():
        _until(stored)
        # it stands still, so what it holds stays as it is while the scheduler answers
        processes.end('one', signal.SIGSTOP)
        held.update(tasks=len(client.processing()[_addresses(client)['one']]), stored=stored())
        processes.end('one')

    for name in ('one', 'two'):
        processes.worker(name)
    with cluster(str(processes.file), tell=lambda line: None) as client:
        client.wait_for_workers(2, timeout=60)
        study = Study(settings, client=client, n_jobs=1)
        vertebrae = study.cohort.vertebrae
        (killer := threading.Thread(target=kill)).start()
        found = study.radiomics
        killer.join()
        assert set(_addresses(client)) == {'two'}
    assert held['tasks'] and 0 < held['stored'] < len(vertebrae) // 2, (
        'the kill came when there was nothing left to lose'
    )
    pd.testing.assert_frame_equal(
        found, extract_cohort(vertebrae, settings.extraction), check_exact=True
    )

    finished = []
    again = Study(
        settings, listen=lambda title, seconds, cached, warned: finished.append(cached)
    ).radiomics
    assert finished == [True], (
        'a run without the cluster did not find what the cluster had computed'
    )
    pd.testing.assert_frame_equal(again, found, check_exact=True)


def test_a_lost_scheduler_ends_the_work_with_a_message(processes, tmp_path):
    processes.worker('one')

    def work(i):
        (tmp_path / f'begun-{i}').touch()
        time.sleep(0.2)

    with cluster(str(processes.file), tell=lambda line: None) as client:
        threading.Thread(
            target=lambda: (_until((tmp_path / 'begun-0').exists), processes.end('scheduler'))
        ).start()
        with pytest.raises(ClusterError, match='scheduler is gone'), spread_over(client):
            joblib.Parallel(n_jobs=2)(joblib.delayed(work)(i) for i in range(50))


def test_workers_that_would_make_other_features_are_refused(processes, tmp_path):
    other = shutil.copytree(Path(ovf_dlr.__file__).parent, tmp_path / 'other' / 'ovf_dlr')
    with open(other / 'radiomics.py', 'a') as f:
        f.write('\n# another state of the checkout\n')
    with (
        pytest.raises(ClusterError, match='has no worker'),
        cluster(str(processes.file), wait=1, tell=lambda line: None),
    ):
        pass
    processes.worker('one', PYTHONPATH=str(other.parent))
    with (
        pytest.raises(
            ClusterError,
            match=r'worker tcp://\S+: ovf_dlr \(source\) \w{12} there, \w{12} here\. Give every',
        ),
        cluster(str(processes.file), tell=lambda line: None),
    ):
        pass


def test_workers_that_do_not_see_the_radiographs_are_refused(processes, tmp_path):
    processes.worker('one')
    with cluster(str(processes.file), tell=lambda line: None) as client:
        check_paths(client, [processes.file], tmp_path / 'data' / 'cache')
        assert not list((tmp_path / 'data' / 'cache').iterdir()), 'the probe is still there'
        with pytest.raises(ClusterError, match=r"worker tcp://\S+ cannot read '.*gone\.dcm'"):
            check_paths(client, [tmp_path / 'gone.dcm'])


def test_a_crowded_worker_is_mentioned(processes):
    processes.start(
        'one',
        'worker',
        '--scheduler-file',
        processes.file,
        '--nthreads',
        '3',
        '--no-nanny',
        '--local-directory',
        processes.folder / 'one',
    )
    lines = []
    with cluster(str(processes.file), tell=lines.append):
        assert any('several threads' in line for line in lines), lines


def test_no_scheduler_is_one_message(data, tmp_path):
    done = command(
        data,
        'run',
        '--params',
        'smoke',
        '--scheduler',
        'tcp://127.0.0.1:1',
        '--out',
        tmp_path / 'out',
        check=False,
    )
    assert (
        done.returncode == 2
        and "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in done.stdout
        and 'Traceback' not in done.stderr
    ), done.stdout + done.stderr
    assert not (tmp_path / 'out').exists()
