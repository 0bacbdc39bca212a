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


def seconds(act):
    "How long `act` takes, and what it returns."
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def contents(folder, manifest):
    "What is in a cohort, and how large it is."
    files = [f for f in Path(folder).rglob('*') if f.is_file()]
    return {
        'radiographs': len(list(Path(folder).glob('images/*.dcm'))),
        'vertebrae': len(pd.read_csv(manifest).dropna(subset='vertebra_id')),
        'disk MB': sum(f.stat().st_size for f in files) / 2**20,
    }


def measure(size, n_jobs):
    "Make a cohort in a temporary folder; one row of the table."
    drawn, _ = seconds(lambda: draw_patients(size))
    with tempfile.TemporaryDirectory() as folder:
        took, manifest = seconds(lambda: make_cohort(folder, size, progress=False, n_jobs=n_jobs))
        found = contents(folder, manifest)
    return {
        'size': size,
        'jobs': n_jobs,
        'radiographs': found['radiographs'],
        'vertebrae': found['vertebrae'],
        'margins s': drawn,
        'total s': took,
        'radiographs per s': found['radiographs'] / (took - drawn),
        'disk MB': found['disk MB'],
        # of this process only: the workers' memory is not counted
        'peak MB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main():
    "Measure one size and print what the others would take."
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
        minutes = patients / row['radiographs per s'] / 60
        print(f'{size}: {patients} radiographs, about {minutes:.1f} min at this speed')


if __name__ == '__main__':
    main()
