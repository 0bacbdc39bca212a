"""A LASSO path of 100 penalties, ordinal and multinomial: this package and its peers.

    .venv/bin/python benchmarks/lasso.py --peer-python PATH     # peers from another environment
    .venv/bin/python benchmarks/lasso.py --size 120x300         # quick: does all of it run
    .venv/bin/python benchmarks/lasso.py --saga                 # and scikit-learn's saga, minutes

The peers are glmnet (as glmstar), celer and skglm. Each contestant is a process of its own with one
thread, gets the same standardised features and the same penalties down to a twentieth of the
largest, and is timed in seconds of processor time, so that other work on the machine counts little;
the first call, which compiles, is shown beside the median. Two numbers show how exact a path is:
how far its objective is above the lowest that any contestant reached (the largest difference over
the penalties), and by how much the gradient breaks the conditions of Karush, Kuhn and Tucker,
relative to the penalty. Compare times only at like accuracy: that is why several appear twice. The
elimination of redundant features is timed, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

REPEATS = 3
RATIO = 0.05  # smallest over largest penalty


# The problem


def problem(n, p, seed=0):
    """(n, p) standardised features of 40 common factors, and class 0, 1, 2.

    Five features have a trend, three are for class 1 alone.
    """
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 40)) @ rng.normal(size=(40, p)) / 4 + rng.normal(size=(n, p))
    X = (X - X.mean(0)) / X.std(0)
    trend, middle = 0.6 * X[:, :5].sum(1), X[:, 5:8].sum(1)
    return X, (np.c_[-trend, middle, trend] + rng.gumbel(size=(n, 3))).argmax(1)


def target(y, family):
    "(n, K) centered codes, or one column per class."
    return (y - y.mean())[:, None] if family == 'ordinal' else np.eye(3)[y]


def penalties(X, y, family):
    "A hundred penalties from the largest one that matters down to `RATIO` of it."
    T = target(y, family)
    largest = np.linalg.norm(X.T @ (T - T.mean(0)), axis=1).max() / len(y)
    return largest * np.geomspace(1, RATIO, 100)


def quality(X, y, family, lam, B, b0):
    """Objective, and the breach of the optimality conditions relative to the penalty.

    Of coefficients (p, K) and intercepts (K,).
    """
    T, scores = target(y, family), X @ B + b0
    if family == 'ordinal':
        residual, loss = scores - T, ((scores - T) ** 2).sum() / (2 * len(y))
    else:
        odds = np.exp(scores - scores.max(1, keepdims=True))
        chance = odds / odds.sum(1, keepdims=True)
        residual, loss = chance - T, -np.log(chance[np.arange(len(y)), y]).mean()
    gradient, size = X.T @ residual / len(y), np.linalg.norm(B, axis=1)
    inside = np.linalg.norm(gradient + lam * B / np.where(size > 0, size, 1)[:, None], axis=1)
    outside = np.maximum(0, np.linalg.norm(gradient, axis=1) - lam)
    return loss + lam * size.sum(), np.where(size > 0, inside, outside).max() / lam


# The contestants: each imports its package and returns the function that is timed, which gives
# coefficients (L, p, K) and intercepts (L, K)


def ours(family, tol):
    "This package."
    from ovf_dlr.lasso import lasso_coefficients, multinomial_coefficients

    def work(X, y, lambdas):
        "The part that is timed."
        if family == 'ordinal':
            path = lasso_coefficients(X, target(y, family)[:, 0], lambdas, tol=tol)
            return path.coefs[..., None], np.zeros((len(lambdas), 1))
        path = multinomial_coefficients(X, target(y, family), lambdas, tol=tol)
        return path.coefs, path.intercepts

    return work


def glmnet(family, thresh):
    "glmnet, as glmstar."
    from glmnet.paths.fastnet import FastNetControl
    from glmnet.paths.gaussnet import GaussNet
    from glmnet.paths.multiclassnet import MultiClassNet

    control = FastNetControl(
        thresh=thresh, fdev=0, devmax=1, mxitnr=100, mxit=1000, epsnr=min(1e-6, thresh * 10)
    )

    def work(X, y, lambdas):
        "The part that is timed."
        how = dict(standardize=False, lambda_values=lambdas, control=control)
        if family == 'ordinal':
            model = GaussNet(**how)
            model.fit(np.asfortranarray(X), target(y, family)[:, 0])
            return model.coefs_[..., None], np.asarray(model.intercepts_)[:, None]
        model = MultiClassNet(grouped=True, **how)
        model.fit(np.asfortranarray(X), y.astype(float))
        return model.coefs_, model.intercepts_

    return work


def celer(family, tol):
    "celer, ordinal only."
    from celer import celer_path

    def work(X, y, lambdas):
        "The part that is timed."
        coefs = celer_path(
            np.asfortranarray(X), target(y, family)[:, 0], pb='lasso', alphas=lambdas, tol=tol
        )[1]
        return coefs.T[..., None], np.zeros((len(lambdas), 1))

    return work


def skglm(family, tol):
    "skglm, ordinal only."
    from skglm.datafits import Quadratic
    from skglm.penalties import L1
    from skglm.solvers import AndersonCD

    def work(X, y, lambdas):
        "The part that is timed."
        solver = AndersonCD(tol=tol, fit_intercept=False, max_iter=500, warm_start=True)
        coefs = solver.path(
            np.asfortranarray(X), target(y, family)[:, 0], Quadratic(), L1(1.0), alphas=lambdas
        )[1]
        return coefs.T[..., None], np.zeros((len(lambdas), 1))

    return work


def saga(family, tol):
    """scikit-learn's multinomial logistic regression, which penalises each coefficient by itself.

    That is another problem: only its time can be compared.
    """
    from sklearn.linear_model import LogisticRegression

    def work(X, y, lambdas):
        "The part that is timed."
        model = LogisticRegression(
            l1_ratio=1, solver='saga', tol=tol, max_iter=10_000, warm_start=True
        )
        coefs, intercepts = [], []
        for lam in lambdas:
            model.set_params(C=1 / (lam * len(y))).fit(X, y)
            coefs.append(model.coef_.T.copy())
            intercepts.append(model.intercept_.copy())
        return np.array(coefs), np.array(intercepts)

    return work


CONTESTANTS = {  # name, which begins with the package: what prepares it, family, tolerance
    "ovf_dlr (scikit-learn), default": (ours, "ordinal", 1e-8),
    "glmstar, default": (glmnet, "ordinal", 1e-7),
    "glmstar, tight": (glmnet, "ordinal", 1e-12),
    "celer, tight": (celer, "ordinal", 1e-8),
    "skglm, tight": (skglm, "ordinal", 1e-6),
    "ovf_dlr, default": (ours, "multinomial", 1e-5),
    "ovf_dlr, tight": (ours, "multinomial", 1e-6),
    "glmstar, default multinomial": (glmnet, "multinomial", 1e-7),
    "glmstar, tight multinomial": (glmnet, "multinomial", 1e-10),
    "scikit-learn, saga, not grouped": (saga, "multinomial", 1e-3),
}  # fmt: skip


def package_of(name):
    "The package that a contestant needs."
    return name.split(',')[0].split(' ')[0]


# One contestant, in its own process


def measure(name, n, p):
    "Processor seconds of every repeat, and how good each point of the path is."
    prepare, family, tol = CONTESTANTS[name]
    try:
        work = prepare(family, tol)
    except ModuleNotFoundError as e:
        return dict(
            skipped=f'not installed (no module {e.name}): pip install {package_of(name)}, '
            'here or where --peer-python points'
        )
    X, y = problem(n, p)
    lambdas, seconds = penalties(X, y, family), []
    for _ in range(1 if prepare is saga else REPEATS):
        start = time.process_time()
        coefs, intercepts = work(X, y, lambdas)
        seconds.append(time.process_time() - start)
    points = zip(lambdas, coefs, intercepts, strict=True)
    found = [quality(X, y, family, *point) for point in points]
    return dict(
        family=family,
        version=version(package_of(name)),
        seconds=seconds,
        objective=[f[0] for f in found],
        breach=max(f[1] for f in found),
    )


def elimination(n, p):
    "Processor seconds of the redundancy filter, and of the shortcut with pandas' correlations."
    import pandas as pd

    from ovf_dlr.fusion import RedundancyFilter

    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        np.repeat(rng.normal(size=(n, p // 3)), 3, axis=1) + 0.3 * rng.normal(size=(n, p // 3 * 3))
    ).add_prefix('f')
    ours, shortcut = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        kept = RedundancyFilter(0.9).fit(X).support_.sum()
        ours.append(time.process_time() - start)
        start = time.process_time()
        upper = np.triu(X.corr('spearman').abs().to_numpy(), 1)
        others = (upper <= 0.9).all(0).sum()
        shortcut.append(time.process_time() - start)
    return dict(seconds=ours, kept=int(kept), shortcut_seconds=shortcut, shortcut_kept=int(others))


# All of them


def run(name, n, p, python):
    "One contestant in a fresh interpreter with one thread."
    one = {f'{k}_NUM_THREADS': '1' for k in ('OMP', 'OPENBLAS', 'MKL', 'NUMBA')}
    call = [python, '-P', __file__, '--contestant', name, '--size', f'{n}x{p}']
    done = subprocess.run(call, env=os.environ | one, text=True, capture_output=True)
    if done.returncode:
        error = done.stderr.strip() or f'exit status {done.returncode}'
        return dict(skipped=f'failed: {error.splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


def show(rows, family, title):
    "One line per contestant of a family; `times ours` against our default, of this same run."
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column('contestant', no_wrap=True)
    for column in (
        's (median)',
        'first call',
        'times ours',
        'objective above best',
        'breach of KKT',
    ):
        table.add_column(column, justify='right')
    rows = {name: r for name, r in rows.items() if r.get('family') == family}
    best = np.min(
        [r['objective'] for name, r in rows.items() if CONTESTANTS[name][0] is not saga], axis=0
    )
    base = statistics.median(
        next(r for name, r in rows.items() if CONTESTANTS[name][0] is ours)['seconds']
    )
    for name, r in rows.items():
        s, same = statistics.median(r['seconds']), CONTESTANTS[name][0] is not saga
        exact = (
            (f'{np.max(np.array(r["objective"]) - best):.0e}', f'{r["breach"]:.0e}')
            if same
            else ('another problem', '')
        )
        table.add_row(
            f'{name} [{r["version"]}]'.replace('[', '\\['),
            f'{s:.2f}',
            f'{r["seconds"][0]:.2f}',
            f'{s / base:.2f}',
            *exact,
        )
    Console(width=120).print(table)


def elimination_text(r):
    "Seconds and features left of both ways."
    ours, shortcut = (statistics.median(r[k]) for k in ('seconds', 'shortcut_seconds'))
    return (
        f'{ours:.2f} s, {r["kept"]} features stay; '
        f"pandas' correlations and the first-come shortcut {shortcut:.2f} s, "
        f'{r["shortcut_kept"]} stay'
    )


def main():
    "The command line."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--size',
        nargs='+',
        default=['260x2500', '700x3000'],
        help='vertebrae x features, one problem or several',
    )
    parser.add_argument(
        '--peer-python',
        default=sys.executable,
        help='a Python with glmstar, celer and skglm, if they are not in this one',
    )
    parser.add_argument('--saga', action='store_true', help="run scikit-learn's saga, too")
    parser.add_argument('--json', type=Path, help='write all that was measured to this file')
    parser.add_argument('--contestant', help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = [tuple(map(int, s.split('x'))) for s in args.size]
    if args.contestant == 'elimination':
        return print(json.dumps(elimination(*sizes[0])))
    if args.contestant:
        return print(json.dumps(measure(args.contestant, *sizes[0])))
    measured = {}
    for n, p in sizes:
        rows = {}
        for name in CONTESTANTS:
            if args.saga or CONTESTANTS[name][0] is not saga:
                print(f'{n} x {p}: {name} ...', file=sys.stderr)
                peer = package_of(name) in ('glmstar', 'celer', 'skglm')
                rows[name] = run(name, n, p, args.peer_python if peer else sys.executable)
        for family in ('ordinal', 'multinomial'):
            show(rows, family, f'{family}, {n} x {p}, 100 penalties')
        for name, r in rows.items():
            if 'skipped' in r:
                print(f'{name}: {r["skipped"]}')
        measured[f'{n}x{p}'] = rows
    print('elimination ...', file=sys.stderr)
    r = measured['elimination'] = run('elimination', 900, 1500, sys.executable)
    print('redundancy, 900 x 1500:', r.get('skipped') or elimination_text(r))
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1))


if __name__ == '__main__':
    main()
