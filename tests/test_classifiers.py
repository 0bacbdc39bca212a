"""Classifiers: what their notebook cannot show.

Which rows are fitted and predicted at every rung, the same numbers again, calibration with a
handful of patients, models that are saved and loaded, the multinomial LASSO from end to end.
"""

import json
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import command
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.pipeline import Pipeline

from ovf_dlr.classifiers import (
    CLASSIFIERS,
    Classifier,
    PatientCalibration,
    Tuning,
    mean_auc,
    refitted,
    search,
)
from ovf_dlr.files import PACKAGE
from ovf_dlr.fusion import PathEndWarning
from ovf_dlr.fusion_figures import plot_coef_path, plot_coefficients
from ovf_dlr.model import TRUSTED
from ovf_dlr.patients import FewerFoldsWarning
from ovf_dlr.selection import SelectionPlan, fit_selection
from ovf_dlr.settings import SelectionRules
from ovf_dlr.study import FoldClassifiers, predict_fold


def cohort(n=120, rare=None, seed=0, p=6):
    """(n, p) features, classes and patients, two vertebrae each.

    `rare` rows of class 2, each of a patient of its own.
    """
    rng = np.random.default_rng(seed)
    ids = pd.Index([f'v{i:03d}' for i in range(n)])
    if rare is None:
        y = rng.permutation(np.repeat([0, 1, 2], [n // 2, n - n // 2 - n // 8, n // 8]))
        patient = np.arange(n) // 2
    else:
        y = np.r_[np.full(rare, 2), np.arange(n - rare) % 2]
        patient = np.r_[np.arange(rare), n + np.arange(n - rare) // 2]
    X = rng.normal(size=(n, p)) + np.c_[y, y == 1, np.zeros((n, p - 2))]
    return pd.DataFrame(X, ids).add_prefix('f'), pd.Series(y, ids), pd.Series(patient, ids)


class Watched(ExtraTreesClassifier):
    "Writes down the rows that it is fitted on and that it predicts."

    log = []

    def fit(self, X, y, **kw):
        "Fit, with an entry in the log."
        self.log.append(('fit', self.n_estimators, X.index, set(y)))
        return super().fit(X, y, **kw)

    def predict_proba(self, X):
        "Predict, with an entry in the log."
        self.log.append(('predict', self.n_estimators, X.index, None))
        return super().predict_proba(X)


@pytest.mark.parametrize('tuning', ['grid', 'halving'])
def test_no_patient_is_on_both_sides_at_any_rung_nor_in_the_calibration(monkeypatch, tuning):
    "Training rows and held-out rows of each fit share no patient."
    X, y, patient = cohort()
    grid = {'model__min_samples_leaf': [1, 2, 4], 'model__max_depth': [1, 2, None]}

    def make(seed):
        "27 trees, whose rows are written down."
        return Pipeline([('model', Watched(27, random_state=seed))])

    monkeypatch.setitem(CLASSIFIERS, 'RF', Classifier('watched', make, grid))
    monkeypatch.setattr(Watched, 'log', [])
    search('RF', X, y, patient, n_folds=3, tuning=Tuning(tuning=tuning))
    fitted, predicted = None, 0
    for what, trees, rows, classes in Watched.log:
        if what == 'fit':
            fitted = rows
            assert classes == {0, 1, 2}
        else:
            predicted += 1
            assert not set(patient[fitted]) & set(patient[rows])
            assert len(fitted) + len(rows) == len(X)  # every rung uses all rows
    scored = {'grid': [27] * 9, 'halving': [3] * 9 + [9] * 3 + [27]}[tuning]
    trees = [trees for what, trees, *_ in Watched.log if what == 'predict']
    assert trees == [t for t in scored for _ in range(3)] + [27] * 3  # the last three calibrate
    assert predicted == 3 * len(scored) + 3


@pytest.mark.parametrize('name', ['ExtraTrees', 'RF', 'LightGBM', 'XGBoost'])
def test_halving_gives_the_same_bits_again_and_with_two_processes(monkeypatch, name):
    "The number of processes changes nothing."
    X, y, patient = cohort(60)
    recipe, halving = CLASSIFIERS[name], Tuning(tuning='halving')

    def make(seed):
        "Fewer trees, to be quick."
        return recipe.make(seed).set_params(model__n_estimators=18)

    monkeypatch.setitem(CLASSIFIERS, name, replace(recipe, make=make))
    first, again = (
        search(name, X, y, patient, n_folds=2, seed=4, n_jobs=n, tuning=halving) for n in (1, 2)
    )
    assert first.table.trees.nunique() > 1
    assert first.params == again.params
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)
    assert (first.estimator.predict_proba(X) == again.estimator.predict_proba(X)).all()


def test_halving_finds_a_clear_optimum_that_grid_search_finds(monkeypatch):
    "One candidate of nine is far better, and both ways find it."
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(240, 2))).add_prefix('f')
    # a chessboard: stumps cannot see class 0
    y = np.where((X.f0 > 0) == (X.f1 > 0), 0, np.where(X.f0 > 0, 1, 2))
    grid = {'model__min_samples_leaf': [90, 80, 70, 60, 2, 55, 50, 45, 40]}

    def make(seed):
        "A forest of 27 trees."
        return Pipeline([('model', RandomForestClassifier(27, random_state=seed))])

    monkeypatch.setitem(CLASSIFIERS, 'RF', Classifier('forest', make, grid))
    full, halved = (
        search('RF', X, y, n_folds=3, tuning=Tuning(tuning=t, calibrate='svm'))
        for t in ('grid', 'halving')
    )
    assert full.table.min_samples_leaf[0] == 2
    assert full.table.cv_auc[0] - full.table.cv_auc[1] > 0.03
    assert halved.params == full.params
    # scored with all 27 trees in the end
    assert halved.cv_auc == pytest.approx(full.cv_auc, abs=1e-12)
    assert len(halved.table) == len(full.table)
    assert list(halved.table.trees) == sorted(halved.table.trees, reverse=True)


def test_calibration_by_patient_is_not_fooled_by_copies():
    """Four nearly identical vertebrae per patient, classes at random.

    Left out by vertebra the model seems to know them, left out by patient it does not.
    """
    rng = np.random.default_rng(0)
    patient_id = np.repeat(np.arange(60), 4)
    patients, noise = rng.normal(size=(60, 8)), rng.normal(size=(240, 8))
    X = pd.DataFrame(patients[patient_id] + 0.01 * noise).add_prefix('f')
    y = rng.integers(0, 3, 60)[patient_id]
    model = PatientCalibration(CLASSIFIERS['RF'].make(0).set_params(model__n_estimators=40))
    assert model.fit(X, y, patient_id).slope_ < 0.5
    assert model.fit(X, y).slope_ > 1.5
    others = pd.DataFrame(rng.normal(size=(500, 8))).add_prefix('f')
    P = model.fit(X, y, patient_id).predict_proba(others)
    # next to nothing is known, and the probabilities show it
    assert np.abs(P - np.bincount(y) / len(y)).mean() < 0.07


@pytest.mark.parametrize('members', [2, 5])
@pytest.mark.parametrize('name', CLASSIFIERS)
def test_a_class_of_a_few_patients_is_survived(name, members):
    "Calibration with a handful of patients changes no ranking."
    X, y, patient = cohort(50, members)
    other, truth, _ = cohort(400, 100, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FewerFoldsWarning)
        found = search(name, X, y, patient, n_folds=3, tuning=Tuning(grid='small'))
    P, bare = found.estimator.predict_proba(other), found.estimator.estimator_
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-6)
    method = 'predict_proba' if hasattr(bare, 'predict_proba') else 'decision_function'
    uncalibrated = getattr(bare, method)(other)
    assert found.estimator.slope_ > 0 and np.isfinite(found.estimator.shift_).all()
    assert abs(mean_auc(truth, P) - mean_auc(truth, uncalibrated)) < 0.06  # no class is reversed


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_each_of_the_eight_travels_as_skops(tmp_path, name):
    "A saved and loaded model gives the same probabilities, and can be fitted again."
    X, y, patient = cohort(80)
    model = search(name, X, y, patient, n_folds=2, tuning=Tuning(grid='small')).estimator
    skops.io.dump(model, tmp_path / 'model.skops')
    assert set(skops.io.get_untrusted_types(file=tmp_path / 'model.skops')) <= set(TRUSTED)
    back = skops.io.load(tmp_path / 'model.skops', trusted=list(TRUSTED))
    assert isinstance(back, PatientCalibration)
    np.testing.assert_array_equal(back.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(
        refitted(back, X, y, patient).predict_proba(X), model.predict_proba(X)
    )


# Inside a study


@pytest.fixture(params=['ordinal', 'multinomial'])
def family(request):
    "The family of the LASSO."
    return request.param


def tables():
    "Vertebrae, radiomic features and deep features."
    X, y, patient = cohort(90, p=8)
    v = pd.DataFrame(
        dict(fracture_class=y, patient_id=patient, center=np.where(patient % 2, 'B', 'A'))
    )
    return v, X.iloc[:, :4].add_prefix('original_firstorder_'), X.iloc[:, 4:].add_prefix('dtl_')


def plan(family, radiomics) -> SelectionPlan:
    "Three folds, and the default rules."
    return SelectionPlan(list(radiomics), SelectionRules(lasso_family=family), 3, 0)


def test_the_folds_of_the_nested_cross_validation_calibrate_by_patient(monkeypatch):
    v, radiomics, deep = tables()
    X = radiomics.join(deep)
    small = Tuning(grid='small')
    searches = {'LR': search('LR', X, v.fracture_class, v.patient_id, n_folds=3, tuning=small)}
    seen, real = [], PatientCalibration.fit
    monkeypatch.setattr(
        PatientCalibration,
        'fit',
        lambda self, X, y, patient_id=None: (
            seen.append((X.index, patient_id)),
            real(self, X, y, patient_id),
        )[1],
    )
    fold = fit, held = np.arange(60), np.arange(60, 90)
    classifiers = FoldClassifiers(searches)
    rules = plan('ordinal', radiomics)
    found = predict_fold(v, fold, radiomics, deep, rules, classifiers)
    ((rows, patient_id),) = seen
    assert list(rows) == list(v.index[fit]) and list(patient_id) == list(v.patient_id.iloc[fit])
    assert list(found.vertebra_id) == list(v.index[held])


def test_the_path_to_the_score_is_complete_for_both_families(tmp_path, family):
    "What metrics.json, the frozen model and the selection report take from it."
    v, radiomics, deep = tables()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', PathEndWarning)
        chosen = fit_selection(v, radiomics, deep, plan(family, radiomics))
    lasso, score = chosen.lasso, chosen.radscore(radiomics, deep)
    assert (
        set(json.loads(json.dumps(lasso.coef_.to_dict())))
        == set(lasso.selected_)
        == set(lasso.weights().index)
    )
    assert np.corrcoef(score, v.fracture_class)[0, 1] > 0.3
    if family == 'multinomial':
        assert score.between(0, 2).all() and {'class 0', 'class 1', 'class 2'} <= set(
            lasso.weights()
        )
    for text in (lasso.formula('text'), lasso.formula('latex')):
        assert text.count('DTL') == 1
    plot_coef_path(lasso), plot_coefficients(lasso)
    skops.io.dump(lasso, tmp_path / 'lasso.skops')
    assert set(skops.io.get_untrusted_types(file=tmp_path / 'lasso.skops')) <= set(TRUSTED)
    chosen.lasso = skops.io.load(tmp_path / 'lasso.skops', trusted=list(TRUSTED))
    pd.testing.assert_series_equal(chosen.radscore(radiomics, deep), score)


@pytest.mark.heavy
def test_a_complete_run_with_the_multinomial_lasso_and_halving(data, tmp_path):
    text = (
        PACKAGE / 'params' / 'smoke.yml'
    ).read_text() + 'lasso_family: multinomial\ntuning: halving\n'
    (tmp_path / 'multinomial.yml').write_text(text)
    command(data, 'run', '--params', tmp_path / 'multinomial.yml', '--backbone', 'random')
    run = data / 'results' / 'multinomial' / 'random'
    assert {'class 0', 'class 1', 'class 2'} <= set(
        pd.read_csv(run / 'tables' / 'dtl_radscore_weights.csv')
    )
    methods = json.loads((run / 'manifest.json').read_text())['methods']
    assert (
        'multinomial LASSO' in methods['fusion'] and 'successive halving' in methods['classifiers']
    )
    assert {f.stem for f in (run / 'notebooks').glob('*.ipynb')} == {
        'network',
        'selection',
        'classifiers',
        'performance',
        'shortcuts',
        'explanation',
    }
    assert (run / 'figures' / 'figure_s6_coefficients.png').stat().st_size > 10_000
