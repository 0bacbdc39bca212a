"""Evaluation against independent code.

Pairwise comparison, statsmodels' sandwich and scikit-learn.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import norm, t
from sklearn.metrics import average_precision_score, roc_auc_score

from ovf_dlr.auc import bootstrap_auc, delong, delong_test, newcombe, patient_draws, weighted_auc
from ovf_dlr.calibration import calibration
from ovf_dlr.evaluation import design_effect, overall, weighted_precision


def sample(seed, n=120, decimals=1):
    "Truth, two correlated scores with many ties, patients of one to four rows."
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.25
    y[:3], y[3:6] = True, False
    shared = rng.normal(size=n)
    a, b = ((y * lift + shared + rng.normal(size=n)).round(decimals) for lift in (1.2, 0.7))
    return y, a, b, np.sort(rng.integers(n // 2, size=n))


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('decimals', [0, 1, 9])
def test_every_pair_compared(seed, decimals):
    "The 1988 formulae written out, with ties, for one AUC and for the difference of two."
    y, a, b, _ = sample(seed, decimals=decimals)
    kernels = [(s[y][:, None] > s[~y]) + 0.5 * (s[y][:, None] == s[~y]) for s in (a, b)]

    def variance(k):
        "Of the mean of all pairs."
        return k.mean(1).var(ddof=1) / y.sum() + k.mean(0).var(ddof=1) / (~y).sum()

    np.testing.assert_allclose(
        [delong(y, a).auc, delong(y, a).se ** 2],
        [kernels[0].mean(), variance(kernels[0])],
        rtol=0,
        atol=1e-13,
    )
    found = delong_test(y, a, b)
    np.testing.assert_allclose(
        [found.difference, found.se**2],
        [kernels[0].mean() - kernels[1].mean(), variance(kernels[0] - kernels[1])],
        rtol=0,
        atol=1e-13,
    )


def test_scores_may_be_infinite():
    "Infinity is the largest score, no more."
    y, a, _, _ = sample(0)
    np.testing.assert_allclose(
        delong(y, np.where(a > np.quantile(a, 0.7), np.inf, a)).auc,
        delong(y, np.minimum(a, np.quantile(a, 0.7) + 1e-3)).auc,
    )


@pytest.mark.parametrize('auc', [0.5, 0.8, 0.97, 1.0])
def test_newcombe_solves_the_formula_of_hanley_and_mcneil(auc):
    "Each end is as far from the AUC as 1.96 standard errors by the formula of 1982 there."
    m, n = 9, 31
    for end in newcombe(auc, m, n):
        q1, q2, others = end / (2 - end), 2 * end**2 / (1 + end), (m + n) / 2 - 1
        variance = end * (1 - end) + others * (q1 + q2 - 2 * end**2)
        distance = norm.isf(0.025) * np.sqrt(variance / m / n)
        assert abs(auc - end) == pytest.approx(distance, abs=1e-6)


def test_the_interval_on_the_log_odds_scale_is_by_students_t():
    "With the degrees of freedom of the standard error, which few patients leave."
    y, a, _, patient_id = sample(0, n=40)
    found = delong(y, a, patient_id)
    half = t.isf(0.025, found.df) * found.se / (found.auc * (1 - found.auc))
    ends = expit(logit(found.auc) + np.array([-half, half]))
    np.testing.assert_allclose(found.logit_interval, ends, rtol=0, atol=1e-12)
    assert found.df < 40


def test_the_design_effect_is_a_ratio_of_unbiased_variances():
    "Of the mean of patients' sums over that of independent rows, each by its number less one."
    y, _, _, patient_id = sample(0)
    sums, n = pd.Series(y - y.mean()).groupby(patient_id).sum(), len(y)
    ratio = (sums.var(ddof=1) * len(sums) / n**2) / (y.var(ddof=1) / n)
    # the sums have mean zero, so that their variance is that of their squares
    assert design_effect(y, patient_id) == pytest.approx(max(1, ratio), abs=1e-12)
    pairs = design_effect(np.repeat(y, 2), np.repeat(np.arange(n), 2))
    assert pairs == pytest.approx(2 * (n - 0.5) / (n - 1), abs=1e-12)


def test_the_interval_of_a_mean_over_classes_is_by_patient():
    "Balanced accuracy: what each patient adds to it, squared and summed, by patients less one."
    rng = np.random.default_rng(0)
    y, P, patient_id = rng.integers(0, 3, 45), rng.random((45, 3)), np.arange(45) // 3
    right = pd.Series(P.argmax(axis=1) == y).astype(float)
    share = (right - right.groupby(y).transform('mean')) / right.groupby(y).transform('size') / 3
    added, value = share.groupby(patient_id).sum(), right.groupby(y).mean().mean()
    se = np.sqrt((added**2).sum() * 15 / 14)
    half = norm.isf(0.025) * se / (value * (1 - value))
    found = overall(y, P, patient_id)['sensitivity']
    ends = expit(logit(value) + np.array([0, -half, half]))
    np.testing.assert_allclose([found.value, found.lower, found.upper], ends, rtol=0, atol=1e-12)


def test_draws_are_those_rows():
    "Against scikit-learn with the draw's weights."
    y, a, _, patients = sample(1)
    weights = patient_draws(patients, 40, seed=3)
    np.testing.assert_allclose(
        weighted_auc(y, a, weights),
        [roc_auc_score(y, a, sample_weight=w) for w in weights],
        rtol=0,
        atol=1e-12,
    )
    np.testing.assert_allclose(
        weighted_precision(y, a, weights),
        [average_precision_score(y, a, sample_weight=w) for w in weights],
        rtol=0,
        atol=1e-12,
    )


def test_patients_who_repeat_widen_the_interval():
    "Four copies of every patient are no four times the patients."
    y, a, _, _ = sample(2, n=60)
    copies, patient_id = (np.tile(y, 4), np.tile(a, 4)), np.tile(np.arange(60), 4)
    once = bootstrap_auc(y, a)
    assert np.ptp(bootstrap_auc(*copies)) < 0.6 * np.ptp(once)
    np.testing.assert_allclose(
        bootstrap_auc(*copies, patient_id=patient_id), once, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize('seed', range(3))
def test_sandwich_by_patient(seed):
    "Slope and intercept with their robust intervals, against statsmodels."
    import statsmodels.api as sm

    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(80), 3)
    p = np.clip(rng.beta(2, 3, 240), 0.01, 0.99)
    y = rng.random(240) < np.clip(p + np.repeat(rng.normal(0, 0.2, 80), 3), 0, 1)
    found, lift, z = calibration(y, p, patient_id=patients), np.sqrt(80 / 79), t.isf(0.025, 79)
    cluster = dict(cov_type='cluster', cov_kwds=dict(groups=patients, use_correction=False))
    slope = sm.GLM(y, sm.add_constant(logit(p)), family=sm.families.Binomial()).fit(
        tol=1e-13, **cluster
    )
    large = sm.GLM(y, np.ones(240), family=sm.families.Binomial(), offset=logit(p)).fit(
        tol=1e-13, **cluster
    )
    for value, ends, theirs, k in (
        (found.slope, found.slope_interval, slope, 1),
        (found.intercept, found.intercept_interval, large, 0),
    ):
        center, half = np.asarray(theirs.params)[k], z * lift * np.asarray(theirs.bse)[k]
        np.testing.assert_allclose(
            [value, *ends], [center, center - half, center + half], rtol=0, atol=1e-8
        )
    assert np.ptp(found.slope_interval) != pytest.approx(
        np.ptp(calibration(y, p).slope_interval), rel=1e-3
    )
