"""Every guard is broken once, and some test must fail: a check of the tests themselves.

Each guard is one edit of the source, such as a fit on all rows where training rows alone may be
used, or a formula with a term less. It is made in a copy of the checkout, in the notebook and in
the module exported from it; the tests named beside it pass before the edit and fail after it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

COPIED = (
    'nbs',
    'ovf_dlr',
    'tests',
    'data/params',
    'settings.ini',
    'setup.py',
    'pytest.ini',
    'README.md',
    'Makefile',
    '_quarto.yml',
)


@dataclass(frozen=True)
class Guard:
    "One edit of the source and the tests that must notice it."

    name: str
    module: str
    old: str  # stands exactly once in the module, and in one cell of its notebook
    new: str
    tests: str  # what pytest is given, the cheapest that notices
    run: bool = False  # whether the tests need the run on the smoke cohort


def notebook(room: str) -> str:
    "What pytest is given to execute the notebook of a room."
    (path,) = (ROOT / 'nbs').glob(f'[0-9][0-9]_{room}.ipynb')
    return f'tests/test_notebooks.py -k {path.stem}'


def leakage(test: str) -> str:
    "What pytest is given for one test of a study whose held-out rows are disturbed."
    return f'tests/test_leakage.py::test_{test}'


R = 'tests/test_evaluation_reference.py::test_'
NO_LEAK = leakage('strict_selection_and_classifiers_do_not_move')
FIXED = leakage('strict_thresholds_explanations_and_domain_do_not_move')
FOLD = 'tests/test_leakage.py::test_a_fold_is_harmonised_without_its_held_out_patients'
SCIKIT_FOLDS = 'tests/test_classifiers.py::test_no_patient_is_on_both_sides_at_any_rung'
NEWCOMBE = 'tests/test_evaluation.py::test_newcombe_solves_the_formula_of_hanley_and_mcneil'
STUDENT = 'tests/test_evaluation.py::test_the_interval_on_the_log_odds_scale_is_by_students_t'
DESIGN = 'tests/test_evaluation.py::test_the_design_effect_is_a_ratio_of_unbiased_variances'
MEAN = 'tests/test_evaluation.py::test_the_interval_of_a_mean_over_classes_is_by_patient'
NEGATIVE = 'tests/test_fusion.py::test_a_feature_and_its_negative_do_not_both_stay'
SCORE = (
    'tests/test_fusion.py::test_the_score_is_the_fitted_value_and_the_penalty_is_chosen_by_patient'
)
SVA = 'tests/test_harmonise_reference.py::test_equals_sva'
GLMNET = 'tests/test_fusion_reference.py::test_'
PSYCH = 'tests/test_repeatability.py::test_icc_equals_psych'

ROWS = (  # fitted on all rows instead of the training rows, or on a fold's held-out rows too
    Guard(
        'second readings of held-out vertebrae',
        'features',
        "rows = cohort.vertebrae[cohort.vertebrae.split == 'train']  # held-out",
        'rows = cohort.vertebrae  # held-out',
        leakage('repeatability_uses_training_rows_alone[strict]'),
        run=True,
    ),
    Guard(
        'perturbed copies of held-out vertebrae',
        'features',
        "rows = cohort.vertebrae[cohort.vertebrae.split == 'train']\n",
        'rows = cohort.vertebrae\n',
        'tests/test_repeatability.py::'
        'test_a_study_without_readings_estimates_repeatability_from_training_rows',
    ),
    Guard(
        'perturbed copies of one patient twice',
        'features',
        "drawn.drop_duplicates('patient_id').head(n)",
        'drawn.head(n)',
        'tests/test_repeatability.py::'
        'test_a_study_without_readings_estimates_repeatability_from_training_rows',
    ),
    Guard(
        'ComBat of the study',
        'study',
        'fit_combat(self.radiomics, v.center, training_rows(v).index)',
        'fit_combat(self.radiomics, v.center, v.index)',
        NO_LEAK,
        run=True,
    ),
    Guard(
        'rows of fit_combat',
        'features',
        '.fit(radiomics.loc[rows], center[rows])',
        '.fit(radiomics, center[radiomics.index])',
        FOLD,
    ),
    Guard(
        'mode of fit_combat',
        'features',
        "mode: str = 'reference',",
        "mode: str = 'pooled',",
        NO_LEAK,
        run=True,
    ),
    Guard(
        'redundancy filter',
        'selection',
        """    radiomics, embeddings = radiomics.loc[rows.index], embeddings.loc[rows.index]
    threshold, rules = plan.rules.correlation_threshold, plan.rules
    selection = Selection(
        plan.repeatable,
        RedundancyFilter(threshold).fit(radiomics[plan.repeatable]),
        RedundancyFilter(threshold).fit(embeddings),
""",
        """    threshold, rules = plan.rules.correlation_threshold, plan.rules
    everything = radiomics, embeddings
    radiomics, embeddings = radiomics.loc[rows.index], embeddings.loc[rows.index]
    selection = Selection(
        plan.repeatable,
        RedundancyFilter(threshold).fit(everything[0][plan.repeatable]),
        RedundancyFilter(threshold).fit(everything[1]),
""",
        NO_LEAK,
        run=True,
    ),
    Guard(
        'LASSO of the study',
        'study',
        'rows = training_rows(self.cohort.vertebrae)',
        'rows = self.cohort.vertebrae',
        NO_LEAK,
        run=True,
    ),
    Guard(
        'embeddings by a network that saw the vertebra',
        'study',
        "if self.settings.protocol == 'strict':",
        "if self.settings.protocol == 'never':",
        leakage('strict_training_rows_are_evaluated_by_those_who_did_not_see_them'),
        run=True,
    ),
    Guard(
        'networks of the cross-fitting',
        'transfer',
        'embed(rows.subset(fit), rows.crops[held_out],',
        'embed(rows, rows.crops[held_out],',
        'tests/test_training.py::test_every_fold_chooses_its_epoch_without_the_patients_it_embeds',
    ),
    Guard(
        'grid search',
        'study',
        """v = training_rows(self.cohort.vertebrae)
        X, classes""",
        """v = self.cohort.vertebrae
        X, classes""",
        NO_LEAK,
        run=True,
    ),
    Guard(
        'probabilities that are evaluated',
        'study',
        'out_of_fold = self.cross_validated[list(self.predictions)]',
        "out_of_fold = self.predictions[self.predictions.split == 'train']",
        leakage('strict_training_rows_are_evaluated_by_those_who_did_not_see_them'),
        run=True,
    ),
    Guard(
        'thresholds of the performance',
        'evaluation',
        "_thresholds(classifier, rows[rows.split == 'train'], thresholds)",
        '_thresholds(classifier, rows, thresholds)',
        FIXED,
        run=True,
    ),
    Guard(
        'background of the SHAP values',
        'study',
        """training = training_rows(self.cohort.vertebrae).index
        estimator""",
        """training = self.cohort.vertebrae.index
        estimator""",
        FIXED,
        run=True,
    ),
    Guard(
        'applicability domain of the model',
        'model',
        "        v = v[v.split == 'train']\n        learned",
        '        learned',
        FIXED,
        run=True,
    ),
    Guard(
        'ComBat of a fold',
        'study',
        'fit_combat(radiomics.loc[rows.index], rows.center, learned.index)',
        'fit_combat(radiomics.loc[rows.index], rows.center, rows.index)',
        FOLD,
    ),
    Guard(
        'selection of a fold',
        'study',
        'selection = fit_selection(learned, radiomics, embeddings, plan)',
        'selection = fit_selection(rows, radiomics, embeddings, plan)',
        FOLD,
    ),
    Guard(
        'ComBat of the comparison without a shortcut',
        'shortcuts',
        'fit_combat(tables.radiomics, tables.center, rows.index)',
        'fit_combat(tables.radiomics, tables.center, tables.radiomics.index)',
        'tests/test_shortcuts.py::test_held_out_classes_and_features_move_no_reported_value',
    ),
    Guard(
        'selection of the comparison without a shortcut',
        'shortcuts',
        'known = selection if shortcut.outside else None',
        'known = selection',
        'tests/test_shortcuts.py::test_without_a_shortcut_noise_stays_noise',
    ),
)
PATIENTS = (  # the vertebrae of one patient on both sides
    Guard(
        'patients of a fold',
        'patients',
        'np.zeros(len(strata)), strata, patient_id))',
        'np.zeros(len(strata)), strata, np.arange(len(strata))))',
        SCIKIT_FOLDS + '_nor_in_the_calibration[grid]',
    ),
    Guard(
        'patients of the grid search',
        'classifiers',
        'splits = patient_folds(y, patient_id, n_folds, seed)',
        'splits = patient_folds(y, None, n_folds, seed)',
        SCIKIT_FOLDS + '_nor_in_the_calibration[grid]',
    ),
    Guard(
        'patients of the calibration',
        'classifiers',
        'splits = patient_folds(y, patient_id, self.n_folds, self.seed)',
        'splits = patient_folds(y, None, self.n_folds, self.seed)',
        'tests/test_classifiers.py::test_calibration_by_patient_is_not_fooled_by_copies',
    ),
    Guard(
        'rows of the calibration',
        'classifiers',
        'return cross_val_predict(clone(self.estimator), X, y, cv=splits, method=self._method)',
        'return getattr(self.estimator_, self._method)(X)',
        'tests/test_classifiers.py::test_calibration_by_patient_is_not_fooled_by_copies',
    ),
    Guard(
        'patients of a refitted calibration',
        'classifiers',
        'return clone(estimator).fit(X, y, patient_id)',
        'return clone(estimator).fit(X, y, None)',
        'tests/test_classifiers.py::'
        'test_the_folds_of_the_nested_cross_validation_calibrate_by_patient',
    ),
    Guard(
        'patients of the LASSO',
        'fusion',
        'splits = patient_folds(y, patient_id, self.n_folds, self.seed)',
        'splits = patient_folds(y, None, self.n_folds, self.seed)',
        SCORE,
    ),
    Guard(
        'patients of the applicability domain',
        'applicability',
        'patient_folds(y, patient_id, self.n_folds, self.seed)',
        'patient_folds(y, None, self.n_folds, self.seed)',
        notebook('applicability'),
    ),
    Guard(
        'distances within the applicability domain',
        'applicability',
        '._learn(X[fit]).distance',
        '._learn(X).distance',
        notebook('applicability'),
    ),
    Guard(
        'patients of the stability',
        'stability',
        'pd.Series(np.arange(len(y))).groupby(patient_id)',
        'pd.Series(np.arange(len(y))).groupby(np.arange(len(y)))',
        notebook('stability'),
    ),
    Guard(
        'patients of the bootstrap',
        'auc',
        'np.unique(np.asarray(patient_id), return_inverse=True)',
        'np.unique(np.arange(len(patient_id)), return_inverse=True)',
        'tests/test_evaluation.py::test_patients_who_repeat_widen_the_interval',
    ),
)
AUCS = (
    Guard(
        'DeLong variance',
        'auc',
        'influence[truth, 0] = (positive - auc) / len(positive)',
        'influence[truth, 0] = (positive - auc) / len(truth)',
        R + 'delong',
    ),
    Guard(
        'DeLong degrees of freedom',
        'auc',
        'np.fill_diagonal(factor, patients / (patients - 1))',
        'np.fill_diagonal(factor, 1)',
        R + 'delong',
    ),
    Guard(
        'ties of an AUC',
        'auc',
        'below = np.repeat(np.cumsum(misses) - misses / 2, sizes)',
        'below = np.repeat(np.cumsum(misses), sizes)',
        'tests/test_evaluation.py::test_every_pair_compared',
    ),
    Guard(
        'DeLong by patient',
        'auc',
        'sums = _sums(influence, patient_id)\n    factor',
        'sums = _sums(influence, None)\n    factor',
        notebook('auc'),
    ),
    Guard(
        'covariance of positives and negatives',
        'auc',
        '(len(patients),) * 2, len(sums) / (len(sums) - 1)',
        '(len(patients),) * 2, 0.0',
        notebook('auc'),
    ),
    Guard(
        'DeLong paired test',
        'auc',
        '_variance(truth[:, None], of_a - of_b, patient_id)',
        '_variance(truth[:, None], of_a, patient_id)',
        R + 'delong_paired',
    ),
    Guard(
        'Welch degrees of freedom',
        'auc',
        'float(v.sum() ** 2 / (v**2 / df).sum())',
        'float(df.sum())',
        notebook('auc'),
    ),
    Guard(
        'Newcombe interval',
        'auc',
        '(n_pos + n_neg) / 2 - 1',
        '(n_pos + n_neg) / 2',
        NEWCOMBE,
    ),
    Guard(
        'interval on the log-odds scale',
        'auc',
        'student.isf((1 - level) / 2, df) * se / (value * (1 - value))',
        'norm.isf((1 - level) / 2) * se / (value * (1 - value))',
        STUDENT,
    ),
    Guard(
        'macro AUC',
        'auc',
        '_combine({k: (y == k, [(P[:, k], 1 / 3)]) for k in range(3)}, patient_id)',
        '_combine({k: (y == k, [(P[:, k], (y == k).mean())]) for k in range(3)}, patient_id)',
        R + 'multiclass_auc',
    ),
    Guard(
        'Holm steps',
        'auc',
        'p[order] * np.arange(len(order), 0, -1)',
        'p[order] * len(order)',
        notebook('auc'),
    ),
    Guard(
        'Holm order',
        'auc',
        'np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))',
        'p[order] * np.arange(len(order), 0, -1)',
        notebook('auc'),
    ),
)
DECISIONS = (
    Guard(
        'Wilson interval',
        'evaluation',
        'z * z / 4 / n**2',
        'z * z / 2 / n**2',
        R + 'multiclass_decisions',
    ),
    Guard(
        'Wilson by patient',
        'evaluation',
        'wilson(p, len(hits) / design_effect(hits, patient_id), level)',
        'wilson(p, len(hits), level)',
        notebook('evaluation'),
    ),
    Guard(
        'design effect',
        'evaluation',
        'small = (n - 1) / n * len(sums) / max(1, len(sums) - 1)',
        'small = 1.0',
        DESIGN,
    ),
    Guard(
        'Youden index',
        'evaluation',
        '(points.sensitivity + points.specificity).round(12)',
        '(2 * points.sensitivity + points.specificity).round(12)',
        R + 'thresholds',
    ),
    Guard('F1', 'evaluation', '2 * x / (1 + x)', 'x / (1 + x)', R + 'multiclass_decisions'),
    Guard(
        'interval of a mean over classes',
        'evaluation',
        '(sums**2).sum() * len(sums) / max(1, len(sums) - 1)',
        '(sums**2).sum()',
        MEAN,
    ),
    Guard(
        'average precision',
        'evaluation',
        'hits * tp / np.maximum(1, tp + fp)',
        'hits * tp / np.maximum(1, tp)',
        'tests/test_evaluation.py::test_draws_are_those_rows',
    ),
    Guard('Brier score', 'calibration', '.sum(axis=1).mean())', '.mean())', R + 'calibration'),
    Guard(
        'Brier score of one class',
        'calibration',
        'brier=float(((p - truth) ** 2).mean())',
        'brier=float(np.abs(p - truth).mean())',
        R + 'calibration',
    ),
    Guard(
        'calibration slope',
        'calibration',
        '_logistic(truth, np.c_[one, L], 0 * L, patient_id)',
        '_logistic(truth, np.c_[one, p], 0 * L, patient_id)',
        R + 'calibration',
    ),
    Guard(
        'calibration in the large',
        'calibration',
        '_logistic(truth, one[:, None], L, patient_id)',
        '_logistic(truth, one[:, None], 0 * L, patient_id)',
        R + 'calibration',
    ),
    Guard(
        'sandwich by patient',
        'calibration',
        ' @ inverse * len(sums) / max(1, len(sums) - 1)',
        ' @ inverse',
        'tests/test_evaluation.py::test_sandwich_by_patient',
    ),
    Guard(
        "Student's quantile of the calibration",
        'calibration',
        'z = student.isf(0.025, len(np.unique(patient_id)) - 1)',
        'z = norm.isf(0.025)',
        'tests/test_evaluation.py::test_sandwich_by_patient',
    ),
    Guard(
        'calibration error',
        'calibration',
        'np.average(np.abs(curve.mean_p - curve.observed), weights=curve.n)',
        'np.average(np.abs(curve.mean_p - curve.observed) ** 2, weights=curve.n)',
        R + 'calibration',
    ),
    Guard(
        'decision curve of the model',
        'calibration',
        '-(t / (1 - t)) * treated)',
        '-t * treated)',
        R + 'net_benefit',
    ),
    Guard(
        'decision curve of treating all',
        'calibration',
        '(1 - truth.mean()) * (t / (1 - t))',
        '(1 - truth.mean()) * t',
        R + 'net_benefit',
    ),
)
FEATURES = (
    Guard(
        'ICC(2,1)',
        'repeatability',
        'icc = (b - e) / (b + (k - 1) * e + k * (j - e) / n)',
        'icc = (b - e) / (b + (k - 1) * e)',
        PSYCH,
    ),
    Guard(
        'Satterthwaite of the ICC',
        'repeatability',
        '((n - 1) * weight**2 + rest**2)',
        '(n * weight**2 + rest**2)',
        PSYCH,
    ),
    Guard(
        'ICC of a constant',
        'repeatability',
        '    estimate[:, ~_varies(x)] = np.nan\n',
        '',
        'tests/test_repeatability.py::test_icc_of_a_constant_is_undefined',
    ),
    Guard(
        'ICC that is the least',
        'repeatability',
        'each.min(axis=1, skipna=False)',
        'each.max(axis=1, skipna=False)',
        notebook('repeatability'),
    ),
    Guard(
        'ICC that is unknown',
        'repeatability',
        'each.min(axis=1, skipna=False)',
        'each.min(axis=1)',
        notebook('repeatability'),
    ),
    Guard(
        'NaN never passes',
        'selection',
        'icc[c] >= rules.icc_threshold]',
        'not icc[c] < rules.icc_threshold]',
        'tests/test_repeatability.py::test_nan_never_passes_in_the_study',
    ),
    Guard('scale of ComBat', 'harmonise', '/ np.sqrt(delta[moves])', '/ delta[moves]', SVA),
    Guard('prior of ComBat', 'harmonise', '(2 * s2 + m**2) / s2', '(s2 + m**2) / s2', SVA),
    Guard('posterior of ComBat', 'harmonise', '(n / 2 + a - 1)', '(n / 2 + a)', SVA),
    Guard('spread of ComBat', 'harmonise', '[home] ** 2).mean(0))', '[home] ** 2).sum(0))', SVA),
    Guard(
        'weights of the nonparametric ComBat',
        'harmonise',
        'log_l[np.arange(len(some)), some] = -np.inf',
        'log_l[np.arange(len(some)), some] += 0',
        SVA,
    ),
    Guard(
        'Spearman with ties',
        'fusion',
        'rankdata(np.asarray(X, float), axis=0)',
        "rankdata(np.asarray(X, float), 'ordinal', axis=0)",
        GLMNET + 'spearman',
    ),
    Guard('negative correlation', 'fusion', 'rho = np.abs(rho)', 'rho = +rho', NEGATIVE),
    Guard(
        'largest LASSO penalty',
        'lasso',
        '.max() / n\n',
        '.max()\n',
        GLMNET + 'penalties_are_glmnets',
    ),
    Guard(
        'LASSO penalty',
        'lasso',
        'centered, alphas=[lam],',
        'centered, alphas=[lam / 2],',
        GLMNET + 'path_agrees_with_glmnet',
    ),
    Guard(
        'rule of one standard error',
        'lasso',
        'self.mean[best] + self.se[best]',
        'self.mean[best] + 2 * self.se[best]',
        GLMNET + 'rules_on_glmnets_own_curves',
    ),
    Guard(
        'standard error between folds',
        'lasso',
        'weights=size) / (len(splits) - 1)',
        'weights=size) / len(splits)',
        GLMNET + 'cross_validation_agrees_with_cv_glmnet',
    ),
    Guard(
        'folds of the LASSO see their held-out rows',
        'lasso',
        'coefficients(X[train], y[train], lambdas)',
        'coefficients(X, y, lambdas)',
        GLMNET + 'cross_validation_agrees_with_cv_glmnet',
    ),
    Guard(
        'grouped penalty',
        'lasso',
        'np.linalg.norm(B[:-1], axis=1).sum()',
        'np.linalg.norm(B[:-1], axis=1).max()',
        'tests/test_fusion.py::test_multinomial_reaches_the_minimum_that_a_general_optimiser_finds',
    ),
    Guard(
        'shrinkage of a group',
        'lasso',
        'shrink = 1 - lam / curvature[j] / length',
        'shrink = 1 - lam / 2 / curvature[j] / length',
        'tests/test_fusion.py::test_multinomial_reaches_the_minimum_that_a_general_optimiser_finds',
    ),
    Guard(
        'DTL_Radscore',
        'fusion',
        'score = self.intercept_ + np.asarray(Z) @ self.coef_.to_numpy()',
        'score = np.asarray(Z) @ self.coef_.to_numpy()',
        SCORE,
    ),
    Guard(
        'scale of the DTL_Radscore',
        'fusion',
        'Z = (_columns(self, X) - self.mean_) / self.scale_',
        'Z = _columns(self, X) - self.mean_',
        SCORE,
    ),
    Guard(
        'DTL_Radscore of the multinomial family',
        'fusion',
        'softmax(scores.to_numpy(), axis=1) @ self.classes_',
        'softmax(scores.to_numpy(), axis=1).max(axis=1)',
        'tests/test_classifiers.py::'
        'test_the_path_to_the_score_is_complete_for_both_families[multinomial]',
    ),
    Guard(
        'Nogueira stability',
        'stability',
        'Z.var(axis=0, ddof=1).mean()',
        'Z.var(axis=0).mean()',
        notebook('stability'),
    ),
    Guard(
        'interval of the stability',
        'stability',
        'norm.ppf(0.5 + level / 2) * 2 / M',
        'norm.ppf(0.5 + level / 2) / M',
        'tests/test_fusion.py::test_interval_of_the_stability_covers_the_truth',
    ),
    Guard(
        'prior of the recalibration',
        'classifiers',
        'return (b @ b) / 2 - ',
        'return -(b @ b) / 2 - ',
        notebook('classifiers'),
    ),
    Guard(
        'distance of the applicability domain',
        'applicability',
        "np.einsum('ij,jk,ik->i', off, self.precision_, off)",
        "np.einsum('ij,ij->i', off, off)",
        notebook('applicability'),
    ),
)
GUARDS = (*AUCS, *DECISIONS, *FEATURES, *PATIENTS, *ROWS)


each = pytest.mark.parametrize('guard', GUARDS, ids=[g.name.replace(' ', '_') for g in GUARDS])


def copy_of_the_checkout(folder: Path) -> Path:
    "What the tests need of the checkout, in a folder of its own."
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
            shutil.copytree(source, target, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(source, target)
    return folder


def broken(guard: Guard) -> dict[str, str]:
    "The module and its notebook after the edit, by path."
    module = f'ovf_dlr/{guard.module}.py'
    text = (ROOT / module).read_text(encoding='utf-8')
    assert text.count(guard.old) == 1, f'{guard.name}: {text.count(guard.old)} places'
    notebook = re.search(r'File to edit: \.\./(\S+\.ipynb)', text)[1]
    book = json.loads((ROOT / notebook).read_text(encoding='utf-8'))
    cells = [c for c in book['cells'] if guard.old in ''.join(c['source'])]
    exported = [c for c in cells if re.search('(?m)^#[|] *export', ''.join(c['source']))]
    assert len(exported) == 1, f'{guard.name}: {len(exported)} cells of {notebook}'
    source = ''.join(exported[0]['source']).replace(guard.old, guard.new)
    exported[0]['source'] = source.splitlines(keepends=True)
    return {module: text.replace(guard.old, guard.new), notebook: json.dumps(book)}


def outcome(folder: Path, tests: str, data: Path) -> subprocess.CompletedProcess:
    "Run some tests in a copy of the checkout, their generated files under `data`."
    names, _, chosen = tests.partition(' -k ')
    how = ['-q', '-x', '-n', '0', '-p', 'no:cacheprovider', '--basetemp', str(folder / 'temporary')]
    return subprocess.run(
        [sys.executable, '-m', 'pytest', *how, names, *(['-k', chosen] if chosen else [])],
        cwd=folder,
        text=True,
        capture_output=True,
        env={
            **os.environ,
            'PYTHONPATH': str(folder),
            'OVF_DLR_DATA': str(data),
            'OVF_DLR_TEST_DATA': str(data),
            'OVF_DLR_SHARED': os.environ.get('OVF_DLR_SHARED', str(ROOT.parent / 'shared')),
        },
    )


@pytest.fixture(scope='session')
def unbroken(tmp_path_factory):
    "A function that runs tests in an unbroken copy, each once, and requires that they pass."
    folder, passed = copy_of_the_checkout(tmp_path_factory.mktemp('unbroken')), set()

    def check(tests: str, data: Path):
        "Raise if a test fails although nothing is broken."
        if tests not in passed:
            done = outcome(folder, tests, data)
            assert done.returncode == 0, f'unbroken, and yet: {done.stdout[-3000:]}{done.stderr}'
            assert 'skipped' not in done.stdout, f'a skipped test notices nothing: {tests}'
            passed.add(tests)

    return check


@pytest.mark.heavy
@each
def test_a_broken_guard_is_noticed(guard, unbroken, data, tmp_path, request):
    "The tests pass before the edit, and one of them fails after it."
    if guard.run:
        request.getfixturevalue('smoke_run')
    unbroken(guard.tests, data)  # leaves in `data` what the edit does not touch: stages are keyed
    folder, own = copy_of_the_checkout(tmp_path / 'copy'), tmp_path / 'data'
    for path, text in broken(guard).items():
        (folder / path).write_text(text, encoding='utf-8')
    own.mkdir()
    if guard.run:
        shutil.copytree(data, own, dirs_exist_ok=True)
    done = outcome(folder, guard.tests, own)
    assert done.returncode == 1, f'survived: pytest ends with {done.returncode}\n{done.stdout}'
    assert re.search(r'^FAILED ', done.stdout, re.MULTILINE), f'no test failed\n{done.stdout}'
    print(*re.findall(r'(?m)^E  .*', done.stdout)[:3], sep='\n')
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.fast
@each
def test_every_guard_stands_in_the_source_once(guard):
    "The edit is possible in the module and in its notebook, which nothing else would tell."
    assert broken(guard)


def test_the_tests_of_every_guard_are_there():
    "A test that was renamed would otherwise be missed only when the guards are run."
    names = {part for guard in GUARDS for part in guard.tests.split(' -k ')[0].split()}
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-m', '', *sorted(names)],
        cwd=ROOT,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
