"""Evaluation against R.

DeLong (pROC), three-class summaries, thresholds (pROC::coords), calibration (rms, glm) and net
benefit.
"""

import numpy as np
import pandas as pd
import pytest
from conftest import from_r

from ovf_dlr.auc import delong, delong_test, macro_auc, micro_auc, placements
from ovf_dlr.calibration import brier, calibration, decision_curve
from ovf_dlr.evaluation import (
    binary_metrics,
    one_vs_rest,
    overall,
    proportion,
    roc_points,
    youden_thresholds,
)


def number(value):
    "A number of R's, NA as NaN."
    return float(value.replace('NA', 'nan')) if isinstance(value, str) else value


def close(ours, theirs, tol=1e-12):
    "Equal within an absolute tolerance."
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tol)


@pytest.mark.parametrize(
    'name', ['delong_smooth', 'delong_ties', 'delong_n75_pos10', 'delong_identical']
)
@pytest.mark.parametrize('which', ['a', 'b'])
def test_delong(shared, name, which):
    "AUC, variance, interval and placements of one model."
    data, expected = from_r(shared, name)
    found, theirs = delong(data['y'], data[f'pred_{which}']), expected[which]
    close([found.auc, found.se**2, found.se], [theirs['auc'], theirs['var'], theirs['se']])
    close([found.lower, found.upper], theirs['ci95'])
    positive, negative = placements(data['y'].to_numpy(bool), data[f'pred_{which}'].to_numpy())
    close(positive, theirs['placements_cases'])
    close(negative, theirs['placements_controls'])


@pytest.mark.parametrize(
    'name', ['delong_smooth', 'delong_ties', 'delong_n75_pos10', 'delong_identical']
)
def test_delong_paired(shared, name):
    "Difference, z, p and covariance of two models."
    data, expected = from_r(shared, name)
    found, theirs = delong_test(data['y'], data['pred_a'], data['pred_b']), expected['paired_test']
    close([found.difference, found.z], [theirs['diff_a_minus_b'], theirs['statistic_z']])
    np.testing.assert_allclose(found.p, theirs['p_value'], rtol=1e-10)
    close([found.lower, found.upper], theirs['diff_ci95'])
    var_a, var_b = (delong(data['y'], data[f'pred_{w}']).se ** 2 for w in 'ab')
    close((var_a + var_b - found.se**2) / 2, theirs['cov_ab'])


def test_row_order_and_singleton_patients_change_nothing(shared):
    "Shuffled rows, and every row a patient of its own."
    data, expected = from_r(shared, 'delong_ties')
    mixed = data.sample(frac=1, random_state=0)
    found = delong_test(mixed['y'], mixed['pred_a'], mixed['pred_b'], patient_id=mixed.index)
    close(found.z, expected['paired_test']['statistic_z'])


@pytest.fixture
def three(shared):
    "Classes, probabilities and expected values of the case of 75 rows."
    data, expected = from_r(shared, 'multiclass_75')
    classes = expected['classes']
    return (
        data['y'].map(classes.index).to_numpy(),
        data[[f'p_{k}' for k in classes]].to_numpy(),
        expected,
    )


def test_multiclass_auc(three):
    "One-vs-rest, macro and micro AUC."
    y, P, expected = three
    table = one_vs_rest(y, P, interval='delong')
    for k, name in enumerate(expected['classes']):
        row, theirs = table.iloc[k], expected['ovr'][name]
        close([row.auc, row.auc_lower, row.auc_upper], [theirs['auc'], *theirs['ci95']])
        assert row.n_pos == theirs['n_pos']
    close(macro_auc(y, P).auc, expected['macro_auc'])
    close(micro_auc(y, P).auc, expected['micro_auc'])
    independent = delong(np.eye(3)[y].ravel(), P.ravel())
    close([independent.lower, independent.upper], expected['micro_ci95_if_rows_were_independent'])


def test_multiclass_decisions(three):
    "Counts, proportions, Wilson intervals and F1."
    y, P, expected = three
    table = one_vs_rest(y, P)
    for k, name in enumerate(expected['classes']):
        row, theirs = table.iloc[k], expected['per_class'][name]
        for key in ('tp', 'fp', 'tn', 'fn'):
            assert row[key] == theirs[key]
        for key in ('accuracy', 'sensitivity', 'specificity', 'ppv', 'npv'):
            close(row[key], theirs[key])
        close([row.sensitivity_lower, row.sensitivity_upper], theirs['sensitivity_wilson95'])
    accuracy = overall(y, P)['accuracy']
    close(
        [accuracy.value, accuracy.lower, accuracy.upper],
        [expected['accuracy'], *expected['accuracy_wilson95']],
    )
    confusion = np.array(expected['confusion_rows_true_cols_pred'])
    assert (np.bincount(3 * y + P.argmax(axis=1), minlength=9).reshape(3, 3) == confusion).all()
    f1 = [2 * confusion[k, k] / (confusion[k].sum() + confusion[:, k].sum()) for k in range(3)]
    close(table['f1'], f1)
    close(overall(y, P)['f1'].value, np.mean(f1))


def test_thresholds(shared):
    "Every threshold of pROC, and the best one."
    data, expected = from_r(shared, 'threshold_metrics')
    y, p = data['y'].to_numpy(), data['p'].to_numpy()
    theirs = pd.DataFrame(expected['all']).map(number)
    ours = roc_points(y, p)
    for column in ('threshold', 'sensitivity', 'specificity', 'tp', 'fp', 'tn', 'fn'):
        finite = np.isfinite(theirs[column])
        close(ours[column][finite], theirs[column][finite])
        assert (ours[column][~finite] == theirs[column][~finite]).all()
    for row in theirs.itertuples():
        metrics = binary_metrics(y == 1, p >= row.threshold)
        np.testing.assert_allclose(
            [metrics[k].value for k in ('accuracy', 'ppv', 'npv')],
            [row.accuracy, row.ppv, row.npv],
            rtol=0,
            atol=1e-12,
            equal_nan=True,
        )
    best = expected['best_youden'][0]
    three_way = np.c_[1 - p, p, np.zeros_like(p)]
    close(youden_thresholds(np.where(y == 1, 1, 0), three_way)[1], best['threshold'])


def test_wilson_covers_less_than_exact(shared):
    "Wilson's interval within the exact one."
    data, expected = from_r(shared, 'threshold_metrics')
    found = proportion((data['p'] >= 0.5) == (data['y'] == 1))
    lower, upper = expected['binom_exact_accuracy_at_half']
    assert lower < found.lower < found.value < found.upper < upper


@pytest.mark.parametrize(
    'by, bins, ece',
    [('width', 'equal_width_bins', 'ece_equal_width'), ('count', 'deciles_by_rank', 'ece_deciles')],
)
def test_calibration(shared, by, bins, ece):
    "Slope, intercept, Brier score, calibration error and curve."
    data, expected = from_r(shared, 'calibration')
    found = calibration(data['y'], data['p'], by=by)
    close([found.slope, *found.slope_interval], [expected['slope'], *expected['slope_ci95']], 1e-9)
    close(found.intercept, expected['intercept_in_the_large'], 1e-9)
    close(
        (found.intercept_interval[1] - found.intercept) / 1.959963984540054,
        expected['intercept_in_the_large_se'],
        1e-9,
    )
    close([found.brier, found.ece], [expected['brier'], expected[ece]], 1e-9)
    theirs = pd.DataFrame(expected[bins])
    for column in ('bin', 'n', 'mean_p', 'observed'):
        close(found.curve[column], theirs[column], 1e-9)
    two_class = np.c_[1 - data['p'], data['p'], np.zeros(len(data))]
    close(brier(data['y'], two_class) / 2, expected['brier'], 1e-12)


def test_net_benefit(shared):
    "Net benefit of two models and of treating everyone."
    data, expected = from_r(shared, 'decision_curve')
    for which in 'ab':
        found = decision_curve(data['y'], data[f'p_{which}'], expected['threshold'])
        close(found['model'], expected[f'model_{which}'])
        close(found['treat_all'], expected['treat_all'])
