"""How fast the phantom is made, and in how much memory.

python benchmarks/phantom.py                # smoke, and what the other sizes would take
python benchmarks/phantom.py --size paper   # measure the size of the study itself
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import pandas as pd

from ovf_dlr.phantom import make_cohort
from ovf_dlr.phantom_patients import SIZES, draw_patients


def measure(size, n_jobs):
    "Make a cohort in a temporary folder; one row of the table."
    start = time.perf_counter()
    draw_patients(size)
    drawn = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = make_cohort(folder, size, progress=False, n_jobs=n_jobs)
        took = time.perf_counter() - start
        radiographs = len(list(Path(folder).glob('images/*.dcm')))
        megabytes = sum(f.stat().st_size for f in Path(folder).rglob('*') if f.is_file()) / 2**20
        rows = len(pd.read_csv(path).dropna(subset='vertebra_id'))
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )  # of this process; loky's workers are not its to ask
    return {
        'size': size,
        'jobs': n_jobs,
        'radiographs': radiographs,
        'vertebrae': rows,
        'margins s': drawn,
        'total s': took,
        'radiographs per s': radiographs / (took - drawn),
        'disk MB': megabytes,
        'peak MB': peak,
    }


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', choices=list(SIZES), default='smoke')
    parser.add_argument('--jobs', type=int, default=2)
    args = parser.parse_args()
    row = measure(args.size, args.jobs)
    print(pd.DataFrame([row]).round(1).to_string(index=False))
    for size in SIZES:
        patients = sum(n for n, *_ in SIZES[size].values())
        print(
            f'{size}: {patients} radiographs, about {patients / row["radiographs per s"] / 60:.1f} min at this speed'
        )
