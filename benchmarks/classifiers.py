"""All eight classifiers at the size of the demonstration: seconds each, and calibration.

    .venv/bin/python benchmarks/classifiers.py                  # full grids, 205 rows; minutes
    .venv/bin/python benchmarks/classifiers.py --rows 60 --grid small    # quick: does all of it run
    .venv/bin/python benchmarks/classifiers.py --calibration 6  # cohorts of 60, 200 and 600 rows

Seconds are compared with plain scikit-learn's grid search, with one process and two, and by
successive halving. The rival is `GridSearchCV` of the same pipelines and grids, with the same folds
and the same measure, refitted once: what a script of twenty lines would do. Ours adds the checks
and the calibration, three more fits of the candidate that won. Each line is measured one after the
other in the same run. Processor seconds (of this process and, with `--jobs 1`, all of them) count
other work on the machine little, wall-clock seconds much. Calibration takes many minutes.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from pathlib import Path

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ.setdefault(name, '1')

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV

from ovf_dlr.calibration import brier, calibration
from ovf_dlr.classifiers import (
    CLASSES,
    CLASSIFIERS,
    PatientCalibration,
    Tuning,
    macro_auc_score,
    mean_auc,
    search,
)
from ovf_dlr.patients import patient_folds

BACKBONES = 2
MIDDLING = {  # one candidate of each grid
    "LR": dict(C=0.1),
    "ExtraTrees": dict(min_samples_leaf=4),
    "SVM": dict(C=1),
    "LightGBM": dict(learning_rate=0.03, num_leaves=4, min_child_samples=5),
    "MLP": dict(hidden_layer_sizes=(8,), alpha=10),
    "RF": dict(min_samples_leaf=4),
    "XGBoost": dict(learning_rate=0.03, max_depth=2),
    "KNN": dict(n_neighbors=9),
}  # fmt: skip


def simulated(n, seed, p=16):
    """(n, p) features, classes in the study's proportions, and the patient of each row.

    Three vertebrae in two patients, with half of their variance in common.
    """
    rng = np.random.default_rng(seed)
    patient_id = np.sort(rng.integers(0, n * 2 // 3, n))
    patients = rng.normal(size=(patient_id.max() + 1, p))
    Z = (patients[patient_id] + rng.normal(size=(n, p))) / np.sqrt(2)
    trend, middle = 0.5 * Z[:, :4].sum(1) + 0.35 * Z[:, 0] * Z[:, 1], 0.6 * Z[:, 4:7].sum(1)
    scores = np.c_[-trend, middle - 0.1, trend + 0.3 * Z[:, 7] - 2.2]
    y = (scores + rng.gumbel(size=(n, 3))).argmax(1)
    return pd.DataFrame(Z).add_prefix('f'), y, patient_id


# Seconds


def rival(name, X, y, patient_id, grid, n_jobs):
    "Plain scikit-learn."
    folds = patient_folds(y, patient_id, 5, 0)
    return GridSearchCV(
        CLASSIFIERS[name].make(0),
        CLASSIFIERS[name].candidates(grid),
        scoring=macro_auc_score,
        cv=folds,
        n_jobs=n_jobs,
    ).fit(X, y)


def timed(work):
    "Wall-clock and processor seconds."
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def seconds(rows, grid, n_jobs):
    "One row per classifier: what each way takes."
    X, y, patient_id = simulated(rows, 0)

    def ours(name, **rules):
        "The search of this package."
        return search(name, X, y, patient_id, n_jobs=n_jobs, tuning=Tuning(**rules))

    ways = {
        'scikit-learn': lambda name: rival(name, X, y, patient_id, grid, n_jobs),
        'here': lambda name: ours(name, grid=grid),
        'halving': lambda name: ours(name, grid=grid, tuning='halving'),
    }
    for name in ('LR', 'XGBoost'):  # workers and libraries are up before the clock starts
        ours(name, grid='small')
    found = {}
    for name in CLASSIFIERS:
        found[name] = {
            f'{way}, {unit}': s
            for way, work in ways.items()
            for unit, s in zip(('wall', 'cpu'), timed(lambda: work(name)), strict=True)
        }
        print(f'{name:11}' + '  '.join(f'{k} {v:.1f}' for k, v in found[name].items()), flush=True)
    return pd.DataFrame(found).T


# Calibration


def predicted(model, X):
    "Probabilities, or the softmax of decision values."
    if hasattr(model, 'predict_proba'):
        return model.predict_proba(X)
    return softmax(model.decision_function(X), axis=1)


def measures(truth, P):
    "Brier score, AUC, calibration error, and slope and shift of class 2."
    by_class = [calibration(truth == k, P[:, k]) for k in CLASSES]
    return dict(
        brier=brier(truth, P),
        auc=mean_auc(truth, P),
        ece=np.mean([c.ece for c in by_class]),
        slope_2=by_class[2].slope,
        intercept_2=by_class[2].intercept,
    )


def three_ways(model, X, y, patient_id):
    "The model fitted without calibration, with scikit-learn's and with ours."
    folds = patient_folds(y, patient_id, 3)
    platt = CalibratedClassifierCV(clone(model), cv=folds, ensemble=False)
    return {
        'uncalibrated': clone(model).fit(X, y),
        'Platt': platt.fit(X, y),
        'here': PatientCalibration(clone(model)).fit(X, y, patient_id),
    }


def middling_models():
    "Name, weights and a model for each classifier, without and with balanced weights."
    for name, c in CLASSIFIERS.items():
        for weights in c.grid.get('model__class_weight', [None]):
            model = c.make(0).set_params(**{f'model__{k}': v for k, v in MIDDLING[name].items()})
            if weights:
                model.set_params(model__class_weight=weights)
            yield name, weights or '', model


def calibration_by_way(cohorts, sizes=(60, 200, 600)):
    "One row per size, cohort, classifier, weights and way, evaluated on 3,000 rows of others."
    (other, truth, _), found = simulated(3000, 999), []
    for n, seed in itertools.product(sizes, range(cohorts)):
        cohort = simulated(n, seed)
        for name, weights, model in middling_models():
            for way, fitted in three_ways(model, *cohort).items():
                names = dict(n=n, seed=seed, classifier=name, weights=weights, way=way)
                found.append(names | measures(truth, predicted(fitted, other)))
        print(f'{n} rows, cohort {seed + 1} of {cohorts}', flush=True)
    return pd.DataFrame(found)


def report_calibration(found):
    "Print one table per measure, and the means over all."
    for what in ('brier', 'auc', 'ece', 'slope_2', 'intercept_2'):
        wide = found.pivot_table(
            index=['classifier', 'weights'], columns=['n', 'way'], values=what, sort=False
        )
        print(f'\n{what}\n{wide.round(3).to_string()}')
    means = found.groupby(['n', 'way'])[['brier', 'auc', 'ece']].mean().round(3)
    print(f'\nmean over all\n{means.to_string()}')


def report_seconds(found):
    "Print the seconds of each classifier, and their sums."
    print(found.round(1).to_string(index=False))
    for n, rows in found.groupby('jobs'):
        total = rows.drop(columns=['classifier', 'jobs']).sum()
        rival, here, halving = (
            total[f'{way}, wall'] for way in ('scikit-learn', 'here', 'halving')
        )
        print(
            f'{n} processes, all {len(rows)}, wall: scikit-learn {rival:.0f} s, '
            f'here {here:.0f} s ({here / rival:.2f} times), '
            f'halving {halving:.0f} s ({halving / rival:.2f} times); '
            f'both backbones here {BACKBONES * here:.0f} s'
        )


def main():
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--rows',
        type=int,
        default=205,
        help="training vertebrae; 205 is the demonstration's number",
    )
    parser.add_argument('--grid', choices=('full', 'small'), default='full')
    parser.add_argument('--jobs', type=int, nargs='+', default=[1, 2], help='processes')
    parser.add_argument(
        '--calibration',
        type=int,
        metavar='COHORTS',
        help='evaluate probabilities instead, with this many cohorts of each size',
    )
    parser.add_argument('--json', type=Path, help='keep all that was measured')
    args = parser.parse_args()
    warnings.simplefilter('ignore')
    if args.calibration:
        found = calibration_by_way(args.calibration)
        report_calibration(found)
    else:
        found = (
            pd.concat([seconds(args.rows, args.grid, n).assign(jobs=n) for n in args.jobs])
            .rename_axis('classifier')
            .reset_index()
        )
        report_seconds(found)
    if args.json:
        args.json.write_text(json.dumps(json.loads(found.to_json(orient='records')), indent=1))


if __name__ == '__main__':
    main()
