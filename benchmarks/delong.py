"""AUCs with intervals and paired tests of two AUCs: this package and its peers, on one table.

    .venv/bin/python benchmarks/delong.py                        # a minute
    .venv/bin/python benchmarks/delong.py --peer-python PATH     # peers from another environment
    .venv/bin/python benchmarks/delong.py --rows 500             # another number of rows

The peers are MLstatkit, pauc, confidenceinterval and rocauc-comparison; the table is simulated.
Each contestant is a process of its own with one thread, is called once before it is timed, and gets
the same arrays; imports are not counted. Times are of the processor, which a busy machine disturbs
less than those of the clock; with one thread the two are the same on an idle one. The value it
returns is printed beside its time, since a fast wrong answer is no answer. Two rows are the ways
without DeLong: comparing every positive with every negative, and calling scikit-learn's AUC on each
of some hundred bootstrap samples.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

DRAWS = 200  # bootstrap samples
TASKS = {
    'interval': 'standard error of one AUC',
    'test': 'z of two AUCs on the same rows',
    'bootstrap': f'standard error from {DRAWS:,} draws',
}


def table(rows, seed=0):
    "Truth (30 % positive), two correlated scores and patients with two rows each."
    import numpy as np

    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < 0.3).astype(int)
    shared = rng.normal(size=rows)
    a, b = (1 / (1 + np.exp(-(shared + rng.normal(size=rows) + lift * y))) for lift in (1, 0.8))
    return y, a, b, np.arange(rows) // 2


# The contestants: each imports its package and returns the function that is timed, whose value is
# the number to compare


def ours(y, a, b, patients):
    "One AUC of this package."
    from ovf_dlr.auc import delong

    return lambda: delong(y, a).se


def ours_by_patient(y, a, b, patients):
    "The same, clustered by patient."
    from ovf_dlr.auc import delong

    return lambda: delong(y, a, patients).se


def ours_test(y, a, b, patients):
    "The paired test of this package."
    from ovf_dlr.auc import delong_test

    return lambda: delong_test(y, a, b).z


def ours_bootstrap(y, a, b, patients):
    "The bootstrap of this package."
    import numpy as np

    from ovf_dlr.auc import patient_draws, weighted_auc

    return lambda: weighted_auc(y == 1, a, patient_draws(np.arange(len(y)), DRAWS)).std()


def pauc(y, a, b, patients):
    "One AUC by pauc."
    from pauc.roc_core import ROC
    from pauc.stats import var

    return lambda: var(ROC(y, a)) ** 0.5


def pauc_test(y, a, b, patients):
    "The paired test of pauc."
    from pauc.roc_core import ROC
    from pauc.stats import compare

    return lambda: compare(ROC(y, a), ROC(y, b)).stat


def confidenceinterval(y, a, b, patients):
    "One AUC by confidenceinterval."
    from confidenceinterval.delong import delong_roc_variance

    return lambda: delong_roc_variance(y == 1, a)[1] ** 0.5


def rocauc(y, a, b, patients):
    "One AUC by rocauc-comparison."
    from rocauc_comparison.delong import delong_roc_variance

    return lambda: delong_roc_variance(y, a)[1] ** 0.5


def mlstatkit(y, a, b, patients):
    "The paired test of MLstatkit."
    from MLstatkit.delong import Delong_test

    return lambda: -Delong_test(y, a, b, return_ci=False, return_auc=False)[0]  # theirs is b - a


def pairwise(y, a, b, patients):
    "Every positive compared with every negative."
    import numpy as np

    def work():
        "The part that is timed."
        cases, controls = a[y == 1], a[y == 0]
        wins = (cases[:, None] > controls) + 0.5 * (cases[:, None] == controls)
        return np.sqrt(
            wins.mean(1).var(ddof=1) / len(cases) + wins.mean(0).var(ddof=1) / len(controls)
        )

    return work


def sklearn_bootstrap(y, a, b, patients):
    "scikit-learn's AUC of each bootstrap sample."
    import numpy as np
    from sklearn.metrics import roc_auc_score

    def work():
        "The part that is timed."
        rng = np.random.default_rng(0)
        samples = (rng.integers(len(y), size=len(y)) for _ in range(DRAWS))
        return np.std([roc_auc_score(y[i], a[i]) for i in samples])

    return work


CONTESTANTS = {  # what to prepare, its task, repeats, the package it needs
    'ovf_dlr': (ours, 'interval', 100, 'ovf_dlr'),
    'ovf_dlr, by patient': (ours_by_patient, 'interval', 100, 'ovf_dlr'),
    'pauc': (pauc, 'interval', 100, 'pauc'),
    'confidenceinterval': (confidenceinterval, 'interval', 10, 'confidenceinterval'),
    'rocauc-comparison': (rocauc, 'interval', 10, 'rocauc-comparison'),
    'numpy, every pair': (pairwise, 'interval', 3, 'numpy'),
    'ovf_dlr, paired': (ours_test, 'test', 100, 'ovf_dlr'),
    'pauc, paired': (pauc_test, 'test', 100, 'pauc'),
    'MLstatkit, paired': (mlstatkit, 'test', 10, 'MLstatkit'),
    'ovf_dlr, bootstrap': (ours_bootstrap, 'bootstrap', 3, 'ovf_dlr'),
    'scikit-learn, bootstrap': (sklearn_bootstrap, 'bootstrap', 1, 'scikit-learn'),
}
HERE = ('ovf_dlr', 'numpy', 'scikit-learn')


def measure(name, rows):
    "Seconds of every repeat, and the value."
    prepare, _, repeats, package = CONTESTANTS[name]
    try:
        work = prepare(*table(rows))
    except ModuleNotFoundError as e:
        return dict(
            skipped=f'not installed (no module {e.name}): uv pip install {package}, '
            'where --peer-python points'
        )
    value, seconds = float(work()), []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return dict(version=version(package), seconds=seconds, value=value)


def run(name, rows, python):
    "Measure one contestant in a fresh interpreter with one thread."
    one = {f'{k}_NUM_THREADS': '1' for k in ('OMP', 'OPENBLAS', 'MKL', 'NUMBA')}
    done = subprocess.run(
        [python, __file__, '--contestant', name, '--rows', str(rows)],
        env=os.environ | one,
        text=True,
        capture_output=True,
    )
    if done.returncode:
        error = done.stderr.strip() or f'exit status {done.returncode}'
        return dict(skipped=f'failed: {error.splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


def show(found):
    """One line per contestant; below, the ones that could not run and why.

    `times ours` compares medians with our first row of the same task, all of this same run.
    """
    from rich.console import Console
    from rich.table import Table

    for task, value in TASKS.items():
        rows = {n: r for n, r in found.items() if CONTESTANTS[n][1] == task and 'seconds' in r}
        base = statistics.median(next(iter(rows.values()))['seconds'])
        shown = Table()
        shown.add_column(task, no_wrap=True, min_width=32)
        for column in ('ms, median', 'ms, fastest', 'times ours', value):
            shown.add_column(column, justify='right')
        for name, r in rows.items():
            middle, best = statistics.median(r['seconds']), min(r['seconds'])
            shown.add_row(
                name.replace(CONTESTANTS[name][3], f'{CONTESTANTS[name][3]} {r["version"]}'),
                f'{1e3 * middle:,.2f}',
                f'{1e3 * best:,.2f}',
                f'{middle / base:,.1f}',
                f'{r["value"]:.10f}',
            )
        Console(width=120).print(shown)
    for name in [n for n, r in found.items() if 'skipped' in r]:
        print(f'{name}: {found[name]["skipped"]}')


def main():
    "The command line."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', type=int, default=10_000, help='of the table')
    parser.add_argument(
        '--peer-python',
        default=sys.executable,
        help='a Python with the peers, if they are not in this one',
    )
    parser.add_argument('--json', type=Path, help='write all that was measured to this file')
    parser.add_argument('--contestant', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        return print(json.dumps(measure(args.contestant, args.rows)))
    found = {}
    for name, (_, _, _, package) in CONTESTANTS.items():
        print(name, '...', file=sys.stderr)
        found[name] = run(name, args.rows, sys.executable if package in HERE else args.peer_python)
    show(found)
    if args.json:
        machine = dict(
            system=platform.system(),
            processor=platform.machine(),
            cpus=os.cpu_count(),
            python=platform.python_version(),
        )
        args.json.write_text(
            json.dumps(dict(rows=args.rows, machine=machine, contestants=found), indent=1)
        )


if __name__ == '__main__':
    main()
