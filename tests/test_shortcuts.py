"""On pure noise the honest cross-validation claims nothing, and each shortcut claims something: the
table of the shortcuts report, on numbers whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ovf_dlr.auc import macro_auc
from ovf_dlr.running import _write_settings
from ovf_dlr.selection import SelectionPlan
from ovf_dlr.settings import SelectionRules, read_settings
from ovf_dlr.shortcuts import Recipe, Shortcut, Tables, shortcut_probabilities
from ovf_dlr.study import Study, permuted_run


def noise(seed):
    """120 patients of the training set with two alike vertebrae each, of one class mostly, and 40
    held-out ones; 80 features that know the patient and nothing of the class."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(160), 2)
    usual = rng.choice(3, 160, p=[0.4, 0.35, 0.25])[patient]
    v = pd.DataFrame(
        dict(
            patient_id=patient,
            fracture_class=np.where(rng.random(320) < 0.9, usual, rng.choice(3, 320)),
            split=np.where(patient < 120, 'train', 'external'),
        ),
        [f'v{i}' for i in range(320)],
    )
    alike = rng.normal(size=(160, 80))[patient] + 0.3 * rng.normal(size=(320, 80))
    names = [f'original_firstorder_{i}' for i in range(40)], [f'dtl_{i:04d}' for i in range(40)]
    return (
        v,
        pd.DataFrame(alike[:, :40], v.index, names[0]),
        pd.DataFrame(alike[:, 40:], v.index, names[1]),
    )


def memorised(deep, v):
    "Embeddings of a network that was trained on the training rows: they carry the class."
    train = v.split == 'train'
    hint = np.eye(3)[v.fracture_class[train]] @ np.random.default_rng(0).normal(
        size=(3, deep.shape[1])
    )
    return deep.mask(train, deep.add(pd.DataFrame(hint, v.index[train], deep.columns)), axis=0)


def probabilities(cohort, shortcut=Shortcut(), centers=('I',)):
    "Of all rows of a cohort, with one shortcut; a single center, where ComBat changes nothing."
    v, radiomics, deep = cohort
    center = pd.Series(np.resize(centers, len(v)), v.index)
    tables = Tables(radiomics, deep, memorised(deep, v), center)
    plan = SelectionPlan(list(radiomics), SelectionRules(correlation_threshold=0.95), 5, 0)
    return shortcut_probabilities(v, tables, shortcut, Recipe(plan, 5, 'small'))


def auc(shortcut=Shortcut(), seeds=range(3)):
    "Mean macro AUC that a cross-validation reports, and of held-out rows, over a few cohorts."
    found = []
    for cohort in map(noise, seeds):
        v, P = cohort[0], probabilities(cohort, shortcut)
        assert sorted(P.index) == sorted(v.index)
        sets = (v.index[v.split == 'train'], v.index[v.split != 'train'])
        classes = [v.fracture_class[ids].to_numpy(int) for ids in sets]
        pairs = zip(classes, sets, strict=True)
        found.append([macro_auc(y, P.loc[ids].to_numpy()).auc for y, ids in pairs])
    return np.mean(found, axis=0)


def test_without_a_shortcut_noise_stays_noise():
    np.testing.assert_allclose(auc(), 0.5, atol=0.06)


@pytest.mark.parametrize('name', ['by_vertebra', 'outside', 'in_sample'])
def test_each_shortcut_reports_something_where_there_is_nothing(name):
    reported, found = auc(Shortcut(**{name: True}))
    assert reported > 0.56
    np.testing.assert_allclose(found, 0.5, atol=0.06)


@pytest.mark.parametrize('centers', [('I',), ('I', 'I', 'II')], ids=['one', 'two'])
def test_held_out_classes_and_features_move_no_reported_value(centers):
    "With two centers ComBat learns from the training rows alone, too."
    v, radiomics, deep = cohort = noise(0)
    other = v.split != 'train'
    moved = [t.mask(other, t + 3, axis=0) for t in (radiomics, deep)]
    classes = np.where(other, (v.fracture_class + 1) % 3, v.fracture_class)
    train = v.index[~other]
    disturbed = (v.assign(fracture_class=classes), *moved)
    first, second = (probabilities(c, centers=centers).loc[train] for c in (cohort, disturbed))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_permuted_control_is_found_beside_its_run_and_no_other(tmp_path):
    plain = read_settings('smoke')
    study = Study(plain, 'random', tmp_path / 'smoke')
    assert permuted_run(study) is None
    control = replace(plain, name='smoke-permuted', permuted=0)
    _write_settings(control, tmp_path / 'smoke-permuted')
    assert permuted_run(study).settings == control
    _write_settings(replace(control, epochs=2), tmp_path / 'smoke-permuted')  # another study's
    assert permuted_run(study) is None
