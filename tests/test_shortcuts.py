"On pure noise the honest cross-validation claims nothing, and each shortcut claims something: the table of the shortcuts report, on numbers whose truth is known."
import numpy as np
import pandas as pd
import pytest

from ovf_dlr.evaluation import macro_auc
from ovf_dlr.study import _claim

HOW = None, 0.95, "min", 5, 0  # repeatable features (filled in below), correlation, lambda rule, folds, seed


@pytest.fixture(scope="module")
def noise():
    "120 patients of the training set with two alike vertebrae each, of one class mostly, and 40 held-out ones; 150 features that know the patient and nothing of the class."
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(160), 2)
    usual = rng.choice(3, 160, p=[0.4, 0.35, 0.25])[patient]
    v = pd.DataFrame(dict(patient_id=patient, fracture_class=np.where(rng.random(320) < 0.9, usual, rng.choice(3, 320)), split=np.where(patient < 120, "train", "external")), [f"v{i}" for i in range(320)])
    alike = rng.normal(size=(160, 150))[patient] + 0.3 * rng.normal(size=(320, 150))
    names = [f"original_firstorder_{i}" for i in range(75)], [f"dtl_{i:04d}" for i in range(75)]
    return v, pd.DataFrame(alike[:, :75], v.index, names[0]), pd.DataFrame(alike[:, 75:], v.index, names[1])


def claimed(noise, outside=False, by_vertebra=False, deep=None):
    "Macro AUC of the training rows as claimed, and of the held-out rows as found."
    v, radiomics, features = noise
    train, held_out = v[v.split == "train"], v.index[v.split != "train"]
    rows = train.assign(patient_id=range(len(train))) if by_vertebra else train
    P = _claim(rows, held_out, radiomics, features if deep is None else deep, outside, (list(radiomics), *HOW[1:]), 5, 0, "small")
    assert list(P.index.sort_values()) == sorted(v.index)
    auc = lambda ids: macro_auc(v.fracture_class[ids].to_numpy(int), P.loc[ids].to_numpy(), v.patient_id[ids].to_numpy())
    return auc(train.index), auc(held_out)


def test_the_honest_way_claims_nothing_out_of_noise(noise):
    for found in claimed(noise):
        low, high = found.logit_interval
        assert low < 0.5 < high and high - low < 0.25


def test_each_shortcut_claims_something_out_of_noise(noise):
    v, _, deep = noise
    honest, truth = claimed(noise)
    train = v.index[v.split == "train"]
    knows = deep.copy()
    knows.loc[train] += np.eye(3)[v.fracture_class[train]] @ np.random.default_rng(0).normal(size=(3, deep.shape[1]))
    for taken in (dict(by_vertebra=True), dict(outside=True), dict(deep=knows)):
        claim, found = claimed(noise, **taken)
        assert claim.auc > honest.auc + 0.06 and claim.logit_interval[0] > 0.5, taken
        assert found.logit_interval[0] < 0.5 < found.logit_interval[1], taken  # what it achieves is chance all the same


def test_held_out_classes_and_features_move_no_claim(noise):
    v, radiomics, deep = noise
    other = v.split != "train"
    moved = [t.mask(other, t + 3, axis=0) for t in (radiomics, deep)]
    relabelled = v.assign(fracture_class=np.where(other, (v.fracture_class + 1) % 3, v.fracture_class))
    train = v.index[~other]
    first, second = (_claim(t[0][~other], v.index[other], t[1], t[2], False, (list(radiomics), *HOW[1:]), 5, 0, "small").loc[train] for t in (noise, (relabelled, *moved)))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
