"Held-out rows are changed, pixels and classes alike, and nothing that was learned may move."

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ovf_dlr.cohort import read_cohort
from ovf_dlr.fusion import SOURCES, feature_source
from ovf_dlr.model import Model
from ovf_dlr.selection import SelectionPlan
from ovf_dlr.settings import SelectionRules, read_settings
from ovf_dlr.sources import phantom_manifest
from ovf_dlr.study import Study, embedded, predict_fold

HELD_OUT = ('internal', 'external', 'prospective')
both = pytest.mark.parametrize('protocol', ['strict', 'paper'])


def _disturb(folder):
    "Turn every held-out radiograph into noise and move every held-out class on by one."
    manifest = pd.read_csv(folder / 'manifest.csv', dtype=str)
    manifest = manifest[manifest.exclusion.isna()].drop(columns='exclusion').copy()
    held = manifest.split.isin(HELD_OUT)
    rng = np.random.default_rng(1)
    for name in manifest.image[held].unique():
        radiograph = pydicom.dcmread(folder / name)
        radiograph.PixelData = rng.integers(
            100, 3000, radiograph.pixel_array.shape, dtype=radiograph.pixel_array.dtype
        ).tobytes()
        radiograph.save_as(folder / name)
    parts = ['morphology', 'mri', 'bone_density', 'clinical', 'astlof', 't_score']
    manifest['fracture_class'] = manifest.vertebra_id.map(
        read_cohort(folder / 'manifest.csv').vertebrae.fracture_class
    )
    manifest.loc[held, 'fracture_class'] = (manifest.fracture_class[held].astype(int) + 1) % 3
    manifest.drop(columns=parts).to_csv(folder / 'manifest.csv', index=False)
    readings = pd.read_csv(folder / 'readings.csv', dtype=str)
    stolen = readings.iloc[[0, 1]].assign(
        vertebra_id=manifest.vertebra_id[held].iloc[0], mask=manifest['mask'][held].iloc[0]
    )
    stolen['mask_label'] = manifest.mask_label[held].iloc[0]
    pd.concat([readings, stolen]).to_csv(
        folder / 'readings.csv', index=False
    )  # a held-out vertebra among the readings


@pytest.fixture(scope='module')
def cohorts(smoke_run, data, tmp_path_factory, monkeypatch_module):
    "Of each view, the smoke cohort and its disturbed copy."
    monkeypatch_module.setenv('OVF_DLR_DATA', str(data))
    views = [phantom_manifest('phantom:smoke', 0, view) for view in ('lateral', 'anteroposterior')]
    return [_before_and_after(view, tmp_path_factory) for view in views]


@pytest.fixture(scope='module')
def strict(cohorts):
    "The same study with two views, before and after the disturbance."
    return [_study('strict', *views) for views in zip(*cohorts, strict=True)]


@pytest.fixture(scope='module')
def paper(cohorts):
    "The same study as the paper has it, with one view, before and after the disturbance."
    return [_study('paper', lateral) for lateral in cohorts[0]]


def _study(protocol, cohort, second_view=None):
    settings = read_settings('smoke', protocol=protocol, cohort=cohort, second_view=second_view)
    return Study(settings, 'random', n_jobs=2)


def _before_and_after(manifest, tmp_path_factory):
    "A cohort's manifest, and that of a copy with its held-out rows disturbed."
    copy = tmp_path_factory.mktemp('disturbed') / 'cohort'
    shutil.copytree(manifest.parent, copy)
    _disturb(copy)
    return str(manifest), str(copy / 'manifest.csv')


@pytest.fixture(scope='module')
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def _two_centers(rng):
    "Ninety patients of two centers, whose features carry the class."
    ids = [f'v{i}' for i in range(90)]
    v = pd.DataFrame(
        dict(
            patient_id=range(90),
            fracture_class=rng.integers(0, 3, 90),
            center=rng.choice(['A', 'B'], 90),
            split='train',
        ),
        ids,
    )
    names = [f'original_firstorder_{i}' for i in range(6)], [f'dtl_{i:04d}' for i in range(6)]
    tables = [pd.DataFrame(rng.normal(size=(90, 6)), ids, columns) for columns in names]
    for table in tables:
        table.iloc[:, :2] += v.fracture_class.to_numpy()[:, None]
    tables[0][v.center == 'B'] *= 3
    return v, *tables


def test_a_fold_is_harmonised_without_its_held_out_patients():
    "Whatever the held-out radiographs show, the features that the fold is fitted on stay the same."
    v, radiomics, deep = _two_centers(np.random.default_rng(0))
    fold = fit, held = np.arange(60), np.arange(60, 90)
    moved = radiomics.copy()
    moved.iloc[held] = moved.iloc[held] * 5 + 100
    plan = SelectionPlan(list(radiomics), SelectionRules(correlation_threshold=0.95), 3, 0)
    learned, predicted = [], []

    def classifiers(X, y, patient_id):
        "One classifier, which notes what it is fitted on."
        learned.append(X)
        return {'LR': SimpleNamespace(name='LR', estimator=LogisticRegression().fit(X, y))}

    for table in (radiomics, moved):
        predicted.append(predict_fold(v, fold, table, deep, plan, classifiers))
    assert any(feature_source(c) == SOURCES[0] for c in learned[0]), list(learned[0])
    pd.testing.assert_frame_equal(*learned, check_exact=True)
    assert not np.allclose(predicted[0].p0, predicted[1].p0), (
        'the disturbance must reach the held-out rows'
    )


def _train(study):
    "Names of the training rows."
    vertebrae = study.cohort.vertebrae
    return vertebrae.index[vertebrae.split == 'train']


@both
def test_the_disturbance_reaches_the_held_out_rows(request, protocol):
    before, after = request.getfixturevalue(protocol)
    held = before.cohort.vertebrae.index[before.cohort.vertebrae.split.isin(HELD_OUT)]
    assert (
        before.cohort.vertebrae.fracture_class[held] != after.cohort.vertebrae.fracture_class[held]
    ).all()
    assert not np.allclose(
        before.radiomics.loc[held, 'original_firstorder_Entropy'],
        after.radiomics.loc[held, 'original_firstorder_Entropy'],
    )
    assert not np.allclose(before.embeddings.loc[held], after.embeddings.loc[held])


@both
def test_the_network_and_the_training_embeddings_do_not_move(request, protocol):
    before, after = request.getfixturevalue(protocol)
    train = _train(before)
    weights = [s.network.model.state_dict() for s in (before, after)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    np.testing.assert_array_equal(before.embeddings.loc[train], after.embeddings.loc[train])
    np.testing.assert_array_equal(before.radiomics.loc[train], after.radiomics.loc[train])


def test_pooled_combat_of_the_paper_leaks(paper):
    "Why `strict` harmonises otherwise: here held-out radiographs move training rows."
    before, after = paper
    train = _train(before)
    assert not np.allclose(before.harmonisation[1].loc[train], after.harmonisation[1].loc[train])


def test_strict_selection_and_classifiers_do_not_move(strict):
    before, after = strict
    train = _train(before)
    pd.testing.assert_frame_equal(
        before.harmonisation[1].loc[train], after.harmonisation[1].loc[train]
    )
    assert before.selection.lasso.selected_ == after.selection.lasso.selected_
    np.testing.assert_array_equal(before.selection.lasso.coef_, after.selection.lasso.coef_)
    rows = [
        s.predictions[s.predictions.split == 'train'].reset_index(drop=True)
        for s in (before, after)
    ]
    pd.testing.assert_frame_equal(*rows)
    assert {n: s.params for n, s in before.searches.items()} == {
        n: s.params for n, s in after.searches.items()
    }
    pd.testing.assert_frame_equal(before.cross_validated, after.cross_validated)
    pd.testing.assert_frame_equal(before.choice, after.choice)


@both
def test_repeatability_uses_training_rows_alone(request, protocol):
    "The second readings of the disturbed copy hold a held-out vertebra, which must not count."
    before, after = request.getfixturevalue(protocol)
    train = set(_train(before))
    for study in (before, after):
        assert study.second_readings
        assert all(set(table.index) <= train for table in study.second_readings)
    pd.testing.assert_frame_equal(before.repeatability, after.repeatability, check_exact=True)


def test_strict_repeatable_features_do_not_move(strict):
    before, after = strict
    assert before.selection.repeatable == after.selection.repeatable


def test_strict_thresholds_explanations_and_domain_do_not_move(strict):
    "What is fixed on training rows: operating points, SHAP background, applicability domain."
    before, after = strict
    train = (before.cohort.vertebrae.split == 'train').to_numpy()
    rows = [s.performance[s.performance.split == 'train'] for s in strict]
    pd.testing.assert_frame_equal(*rows)
    values = [s.explanation.values[train] for s in strict]
    np.testing.assert_allclose(*values, rtol=0, atol=1e-12)
    ours, theirs = (Model.of(s) for s in strict)
    np.testing.assert_array_equal(ours.background, theirs.background)
    assert ours.domain.limit_ == theirs.domain.limit_
    fused = before.fused[train]
    np.testing.assert_array_equal(ours.domain.distance(fused), theirs.domain.distance(fused))


def _evaluated(study):
    "Which training rows have the embedding of a network that saw them; evaluated, fitted rows."
    train = _train(study)
    seen = embedded(study.network, study.crops, train)
    same = np.isclose(study.embeddings.loc[train, seen.columns], seen).all(axis=1)
    rows, fitted = (
        t[t.split == 'train'].reset_index(drop=True) for t in (study.evaluated, study.predictions)
    )
    return same, rows, fitted


def test_strict_training_rows_are_evaluated_by_those_who_did_not_see_them(strict):
    "Their embeddings are no network's that was trained on them, nor their probabilities a fit's."
    same, rows, fitted = _evaluated(strict[0])
    assert not same.any()
    honest = strict[0].cross_validated[list(rows)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, honest)
    assert len(rows) == len(fitted) and not rows.equals(fitted)


def test_paper_training_rows_are_evaluated_by_those_who_saw_them(paper):
    same, rows, fitted = _evaluated(paper[0])
    assert same.all() and paper[0].cross_validated is None
    pd.testing.assert_frame_equal(rows, fitted)
