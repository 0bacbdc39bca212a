"On pure noise the honest cross-validation claims nothing, and each shortcut claims something: the table of the shortcuts report, on numbers whose truth is known."

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ovf_dlr.auc import macro_auc
from ovf_dlr.running import _write_settings
from ovf_dlr.settings import read_settings
from ovf_dlr.shortcuts import _claim
from ovf_dlr.study import Study, permuted_run

HOW = 0.95, 'ordinal', 'min', 5, 0  # correlation, family and rule of the LASSO, folds, seed


def noise(seed):
    "120 patients of the training set with two alike vertebrae each, of one class mostly, and 40 held-out ones; 80 features that know the patient and nothing of the class."
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


def told(deep, v):
    "Embeddings that know the class of the training rows, as those of a network that saw them do."
    train = v.split == 'train'
    hint = np.eye(3)[v.fracture_class[train]] @ np.random.default_rng(0).normal(
        size=(3, deep.shape[1])
    )
    return deep.mask(train, deep.add(pd.DataFrame(hint, v.index[train], deep.columns)), axis=0)


def auc(by_vertebra=False, outside=False, seen=False, seeds=range(3)):
    "Mean macro AUC of the training rows as claimed, and of the held-out rows as found, over a few cohorts."
    found = []
    for v, radiomics, deep in map(noise, seeds):
        train, held_out = v[v.split == 'train'], v.index[v.split != 'train']
        rows = train.assign(patient_id=range(len(train))) if by_vertebra else train
        P = _claim(
            rows,
            held_out,
            lambda _: radiomics,
            told(deep, v) if seen else deep,
            outside,
            (list(radiomics), *HOW),
            5,
            5,
            0,
            'small',
        )
        assert sorted(P.index) == sorted(v.index)
        found.append(
            [
                macro_auc(v.fracture_class[ids].to_numpy(int), P.loc[ids].to_numpy()).auc
                for ids in (train.index, held_out)
            ]
        )
    return np.mean(found, axis=0)


def test_the_honest_way_claims_nothing_out_of_noise():
    np.testing.assert_allclose(auc(), 0.5, atol=0.06)


@pytest.mark.parametrize('taken', ['by_vertebra', 'outside', 'seen'])
def test_each_shortcut_claims_something_out_of_noise(taken):
    claimed, found = auc(**{taken: True})
    assert claimed > 0.56
    np.testing.assert_allclose(found, 0.5, atol=0.06)


def test_held_out_classes_and_features_move_no_claim():
    v, radiomics, deep = cohort = noise(0)
    other = v.split != 'train'
    moved = [t.mask(other, t + 3, axis=0) for t in (radiomics, deep)]
    relabelled = v.assign(
        fracture_class=np.where(other, (v.fracture_class + 1) % 3, v.fracture_class)
    )
    train = v.index[~other]
    first, second = (
        _claim(
            t[0][~other],
            v.index[other],
            lambda _, t=t: t[1],
            t[2],
            False,
            (list(radiomics), *HOW),
            5,
            5,
            0,
            'small',
        ).loc[train]
        for t in (cohort, (relabelled, *moved))
    )
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
