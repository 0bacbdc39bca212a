"Fusion against R: Spearman correlations (stats::cor), LASSO and its cross-validation (glmnet)."

import numpy as np
import pytest
from conftest import from_r

from ovf_dlr.fusion import spearman
from ovf_dlr.lasso import CrossValidation, cross_validate_lasso, lasso_coefficients, penalties


@pytest.fixture(scope='module')
def lasso(shared):
    "Table, features, outcome and expected values of the Gaussian case."
    data, expected = from_r(shared, 'lasso_gaussian')
    return data, data[expected['features']].to_numpy(), data['y'].to_numpy(), expected


def splits(fold):
    "Positions of training rows and held-out rows for each fold."
    fold = fold.to_numpy()
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]


def test_spearman(shared):
    "All coefficients, with ties and a constant column."
    data, expected = from_r(shared, 'spearman')
    rho = np.array(
        [[np.nan if v == 'NA' else v for v in row] for row in expected['rho']], dtype=float
    )
    ours = spearman(data[expected['features']])
    # R puts 1 on the diagonal of a constant column, we keep NaN
    pairs = ~np.eye(len(rho), dtype=bool)
    np.testing.assert_allclose(ours[pairs], rho[pairs], rtol=0, atol=1e-12)
    assert np.isnan(ours[expected['features'].index('f09')]).all()


def test_path_agrees_with_glmnet(lasso):
    "Coefficients and intercepts on the scale of the data."
    _, X, y, expected = lasso
    reference = expected['standardized']
    path = lasso_coefficients(X, y, np.array(reference['lambda']), tol=1e-10)
    coefs = path.coefs / path.scaler.scale_
    np.testing.assert_allclose(coefs, reference['coef'], rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        path.intercept - coefs @ path.scaler.mean_, reference['intercept'], rtol=0, atol=5e-5
    )
    assert (coefs != 0).sum(axis=1).tolist() == reference['df']


def test_default_tolerance_is_tight_enough(lasso):
    "The default tolerance gives the same coefficients."
    _, X, y, expected = lasso
    path = lasso_coefficients(X, y, np.array(expected['standardized']['lambda']))
    np.testing.assert_allclose(
        path.coefs / path.scaler.scale_, expected['standardized']['coef'], rtol=0, atol=2e-5
    )


def test_penalties_are_glmnets(lasso):
    "The default series of penalties."
    _, X, y, expected = lasso
    ours = penalties(X, y, 100)
    np.testing.assert_allclose(ours[0], expected['lambda_max_standardized'], rtol=1e-12)
    np.testing.assert_allclose(ours, expected['default_path_lambda'], rtol=1e-9)


@pytest.mark.parametrize(
    'fold, name',
    [('foldid', 'cv_standardized'), ('foldid_unequal', 'cv_unequal_folds_standardized')],
)
def test_cross_validation_agrees_with_cv_glmnet(lasso, fold, name):
    "Mean and standard error of the error, equal and unequal folds."
    data, X, y, expected = lasso
    reference = expected[name]
    cv = cross_validate_lasso(X, y, splits(data[fold]), np.array(reference['lambda']))
    np.testing.assert_allclose(cv.mean, reference['cvm'], rtol=2e-6)
    np.testing.assert_allclose(cv.se, reference['cvsd'], rtol=2e-5)
    assert (cv.lambda_min, cv.lambda_1se) == (reference['lambda_min'], reference['lambda_1se'])


@pytest.mark.parametrize(
    'name',
    [
        'cv_standardized',
        'cv_unstandardized',
        'cv_unequal_folds_standardized',
        'cv_unequal_folds_unstandardized',
        'cv_mae_standardized',
    ],
)
def test_rules_on_glmnets_own_curves(lasso, name):
    "lambda.min and lambda.1se from the curves of R."
    reference = lasso[3][name]
    cv = CrossValidation(
        np.array(reference['lambda']), np.array(reference['cvm']), np.array(reference['cvsd'])
    )
    assert (cv.lambda_min, cv.lambda_1se) == (reference['lambda_min'], reference['lambda_1se'])
