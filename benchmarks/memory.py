"""Does the memory of a run stay flat as the cohort grows?

Peak of the main process for 100, 400 and 1,600 vertebrae, on the processes of this machine and on a
local Dask cluster.

    .venv/bin/python -P benchmarks/memory.py

One radiograph of the smoke phantom is linked under many names; two image types are computed, so
that the table is small beside everything else. Each line is a process of its own. The scheduler of
a local cluster is in the main process too, and what it remembers of each task counts.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from ovf_dlr.cluster import cluster, spread_over
from ovf_dlr.cohort import read_cohort
from ovf_dlr.phantom import make_cohort
from ovf_dlr.radiomics import extract_cohort

SIZES = 100, 400, 1600


def enlarge(manifest: Path, folder: Path, n: int) -> pd.DataFrame:
    "`n` rows, each on a radiograph of its own name."
    row = read_cohort(manifest).vertebrae.iloc[0]
    suffix = ''.join(Path(row.image).suffixes)
    for i in range(n):
        (folder / f'{i}{suffix}').symlink_to(row.image)
    return pd.DataFrame(
        [row.to_dict() | dict(image=str(folder / f'{i}{suffix}')) for i in range(n)],
        [f'v{i}' for i in range(n)],
    )


def measure(manifest: Path, n: int, dask: bool):
    "Extract, and print the growth of the peak and the size of the table, in MB."
    with tempfile.TemporaryDirectory() as folder:
        table = enlarge(manifest, Path(folder), n)
        with (
            cluster('local', 2, tell=lambda line: None) if dask else nullcontext() as client,
            spread_over(client),
        ):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found = extract_cohort(table, dict(image_types=['original', 'gradient']), n_jobs=2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    where, size = 'dask' if dask else 'local', found.memory_usage().sum() / 2**20
    print(
        f'{where:6} {n:6} vertebrae  peak {after / 1024:7.1f} MB, '
        f'of it before any radiograph {before / 1024:7.1f} MB; table {size:5.2f} MB',
        flush=True,
    )


def main():
    "All cases, each in a process of its own; or the one that is named."
    parser = argparse.ArgumentParser()
    parser.add_argument(
        '--one',
        nargs=3,
        metavar=('MANIFEST', 'N', 'WHERE'),
        help='measure one case (used by the others)',
    )
    one = parser.parse_args().one
    if one:
        return measure(Path(one[0]), int(one[1]), one[2] == 'dask')
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(make_cohort(Path(folder) / 'smoke', 'smoke', progress=False))
        for where in ('local', 'dask'):
            for n in SIZES:
                subprocess.run(
                    [sys.executable, '-P', __file__, '--one', manifest, str(n), where], check=True
                )


if __name__ == '__main__':
    main()
