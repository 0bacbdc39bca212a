"""Fusion: what a notebook cannot show of it.

Order of columns and rows, optimality against another solver, class 1 in ten cohorts, coverage of
the stability's interval.
"""

import time
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ovf_dlr.fusion import LassoFusion, PathEndWarning, RedundancyFilter
from ovf_dlr.lasso import cross_validate_lasso, multinomial_coefficients, penalties
from ovf_dlr.patients import patient_folds
from ovf_dlr.stability import Stability, selection_stability


def correlated(n, p, factors, seed=0):
    "(n, p) features that share a few factors."
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, factors)) @ rng.normal(size=(factors, p))
    values = values + rng.uniform(0.05, 1.5, p) * rng.normal(size=(n, p))
    return pd.DataFrame(values, columns=[f'f{j:04d}' for j in range(p)])


def classes(n, seed=0, p=30):
    "Features on unlike scales, one with a trend over the classes, one high in class 1 alone."
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, p))
    y = (np.c_[-1.5 * Z[:, 0], 1.5 * Z[:, 1], 1.5 * Z[:, 0]] + rng.gumbel(size=(n, 3))).argmax(1)
    return Z * np.geomspace(0.01, 100, p) + rng.normal(size=p), y


@pytest.mark.parametrize('ties', [False, True])
def test_redundancy_does_not_depend_on_the_order_of_columns_or_rows(ties):
    "Shuffled columns and rows give the same removals in the same order."
    X = correlated(80, 120, 6)
    if ties:  # coarse values and exact copies: equal correlations everywhere
        X = X.round().join(X.iloc[:, :20].round().add_prefix('copy_'))
    kept = RedundancyFilter(0.8).fit(X)
    assert 0 < len(kept.removed_) < X.shape[1] - 1
    for seed in range(5):
        shuffled = X.sample(frac=1, axis=1, random_state=seed).sample(frac=1, random_state=seed)
        again = RedundancyFilter(0.8).fit(shuffled)
        assert list(again.removed_.items()) == list(kept.removed_.items())


def test_a_feature_and_its_negative_do_not_both_stay():
    "A correlation of -1 is as redundant as one of 1."
    X = correlated(40, 3, 2)
    assert len(RedundancyFilter(0.9).fit(X.assign(negative=-X.f0000)).removed_) > len(
        RedundancyFilter(0.9).fit(X).removed_
    )


def test_the_score_is_the_fitted_value_and_the_penalty_is_chosen_by_patient():
    "Against the path's own prediction, and a cross-validation over the folds of the patients."
    X, y = classes(90, p=8)
    patients, frame = np.arange(90) // 3, pd.DataFrame(X).add_prefix('f')
    lasso = LassoFusion(n_folds=3, n_lambdas=10, min_ratio=0.05).fit(frame, y, patients)
    fitted = lasso.path_.predict(X)[:, lasso.index_]
    np.testing.assert_allclose(lasso.radscore(frame), fitted, rtol=0, atol=1e-9)
    folds = patient_folds(y, patients, 3, 0)
    expected = cross_validate_lasso(X, y.astype(float), folds, penalties(X, y, 10, 0.05))
    np.testing.assert_allclose(lasso.cv_.mean, expected.mean, rtol=1e-9)


def test_redundancy_of_a_study_sized_table_is_quick():
    "Seconds of processor time for 1500 features of 900 vertebrae."
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        np.repeat(rng.normal(size=(900, 500)), 3, axis=1) + 0.3 * rng.normal(size=(900, 1500))
    ).add_prefix('f')
    start = time.process_time()
    removed = RedundancyFilter(0.9).fit(X).removed_
    # half a second undisturbed; ten would mean another algorithm
    assert len(removed) > 500 and time.process_time() - start < 10


@pytest.mark.parametrize('share', [0.5, 0.1])
def test_multinomial_reaches_the_minimum_that_a_general_optimiser_finds(share):
    "The objective against L-BFGS on a smoothed penalty."
    X, y = classes(120, p=8)
    Y = np.eye(3)[y]
    lam = penalties(X, Y, 2, share)
    path = multinomial_coefficients(X, Y, lam, tol=1e-9)
    Z = np.c_[path.scaler.transform(X), np.ones(len(X))]

    def objective(b):
        "Value and gradient; |b| smoothed by 1e-9, since it has no derivative at zero."
        B = b.reshape(9, 3)
        length = np.sqrt((B[:-1] ** 2).sum(1) + 1e-18)
        slope = Z.T @ (softmax(Z @ B, 1) - Y) / len(Y)
        slope[:-1] += lam[-1] * B[:-1] / length[:, None]
        return -(log_softmax(Z @ B, 1) * Y).sum() / len(Y) + lam[-1] * length.sum(), slope.ravel()

    ours = objective(np.vstack([path.coefs[-1], path.intercepts[-1]]).ravel())[0]
    theirs = minimize(
        objective,
        np.random.default_rng(0).normal(size=27) * 0.1,
        jac=True,
        method='L-BFGS-B',
        options=dict(maxiter=20000, maxfun=40000, ftol=1e-15, gtol=1e-10),
    ).fun
    assert ours <= theirs + 1e-9
    assert theirs - ours < 1e-4


def test_two_classes_are_scikit_learns_logistic_lasso():
    """With two classes the group of a feature is (-b, b), and its length sqrt(2)|b|.

    That is an L1 logistic regression with coefficients 2b and the penalty times 1/sqrt(2).
    """
    from sklearn.linear_model import LogisticRegression

    X, y = classes(150)
    y = (y == 2).astype(int)
    Y = np.eye(2)[y]
    lam = penalties(X, Y, 5, 0.1)
    path = multinomial_coefficients(X, Y, lam, tol=1e-9)
    for k in (1, 4):
        model = LogisticRegression(
            l1_ratio=1, solver='saga', C=np.sqrt(2) / (lam[k] * len(y)), tol=1e-9, max_iter=100_000
        ).fit(path.scaler.transform(X), y)
        np.testing.assert_allclose(
            path.coefs[k, :, 1] - path.coefs[k, :, 0], model.coef_[0], rtol=0, atol=2e-5
        )
        np.testing.assert_allclose(
            path.intercepts[k, 1] - path.intercepts[k, 0], model.intercept_[0], rtol=0, atol=2e-5
        )


def test_the_path_does_not_depend_on_its_earlier_penalties():
    "Screening by the strong rule skips nothing that belongs in."
    X, y = classes(100, p=150)
    Y = np.eye(3)[y]
    lam = penalties(X, Y, 15, 0.1)
    path = multinomial_coefficients(X, Y, lam, tol=1e-8)
    alone = multinomial_coefficients(X, Y, lam[-1:], tol=1e-8)
    np.testing.assert_allclose(alone.coefs[0], path.coefs[-1], rtol=0, atol=1e-5)
    assert ((path.size[-1] > 0) == (alone.size[0] > 0)).all()


def test_a_feature_of_class_1_alone_is_found_by_the_multinomial_family_and_missed_by_the_codes():
    "Ten cohorts with one feature that is high in class 1 alone."
    found = {'ordinal': 0, 'multinomial': 0}
    for seed in range(10):
        X, y = classes(150, seed, p=40)
        for family in found:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', PathEndWarning)
                fitted = LassoFusion(
                    family=family, rule='1se', n_lambdas=20, min_ratio=0.05, n_folds=3
                ).fit(X, y)
            assert 'x0' in fitted.selected_
            found[family] += 'x1' in fitted.selected_
    assert found['multinomial'] == 10 and found['ordinal'] <= 2, found


def test_multinomial_does_not_depend_on_the_order_of_rows_or_the_units():
    "Other units of the features change no score."
    X, y = classes(90)
    X, y = pd.DataFrame(X).add_prefix('f'), pd.Series(y)

    def score(X):
        "Radscore of a LASSO fitted on these features."
        lasso = LassoFusion(family='multinomial', n_lambdas=20, min_ratio=0.1, rule='1se')
        return lasso.fit(X, y).radscore(X)

    np.testing.assert_allclose(score(X * 1000 + 5), score(X), atol=1e-6)


def test_interval_of_the_stability_covers_the_truth():
    """Selections drawn with known probabilities.

    The 95 % interval holds the index of endlessly many repetitions in about 95 of 100 cases.
    """
    rng, p = np.random.default_rng(0), np.r_[np.full(10, 0.8), np.full(90, 0.05)]
    truth = 1 - (p * (1 - p)).mean() / (p.mean() * (1 - p.mean()))
    held = []
    for _ in range(400):
        lower, upper = Stability(pd.DataFrame(rng.random((50, 100)) < p)).interval()
        held.append(lower <= truth <= upper)
    assert 0.91 <= np.mean(held) <= 0.985


@pytest.mark.parametrize('family', ['ordinal', 'multinomial'])
def test_stability_of_noise_is_chance_and_of_signal_is_not(family):
    """With shuffled classes the whole interval is below that of the true ones, and its lower end is
    about 0, which is chance."""
    X, y = classes(120, p=20)
    X, y, patients = pd.DataFrame(X).add_prefix('f'), pd.Series(y), pd.Series(np.arange(120) // 2)
    fusion = LassoFusion(family=family, rule='1se', min_ratio=0.1, n_folds=3)
    lower, _ = selection_stability(X, y, patients, fusion, 10, n_lambdas=10).interval()
    shuffled = y.sample(frac=1, random_state=0).reset_index(drop=True)
    chance = selection_stability(X, shuffled, patients, fusion, 10, n_lambdas=10).interval()
    assert chance[0] < 0.05 and chance[1] < lower and lower > 0.2


def test_stability_is_the_same_with_two_processes():
    "The number of processes changes no selection."
    X, y = classes(90, p=10)
    given = (
        pd.DataFrame(X).add_prefix('f'),
        pd.Series(y),
        pd.Series(np.arange(90) // 2),
        LassoFusion(family='multinomial', rule='1se', min_ratio=0.1, n_folds=3),
    )
    alone, together = (
        selection_stability(*given, 4, n_lambdas=5, n_jobs=n).selected for n in (1, 2)
    )
    pd.testing.assert_frame_equal(alone, together)
