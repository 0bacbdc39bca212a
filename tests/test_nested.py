"""`nested: true`: what a fold's patients look like reaches nothing that judges them, the networks
and the grid search among it."""

import numpy as np
import pandas as pd
import pytest

from ovf_dlr.patients import patient_folds
from ovf_dlr.settings import read_settings
from ovf_dlr.study import Study

QUICK = dict(epochs=1, classifiers=('LR', 'KNN'), bootstraps=5)


@pytest.fixture(scope='module')
def pair(smoke_run, data):
    """A nested study, and the same with the radiographs of one outer fold's patients turned to
    noise for the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OVF_DLR_DATA', str(data))
        before, after = (
            Study(read_settings('smoke', nested=True, **QUICK), 'random', n_jobs=2)
            for _ in range(2)
        )
        v = before.cohort.vertebrae.query("split == 'train'")
        fit, held = patient_folds(
            v.fracture_class.astype(int),
            v.patient_id,
            before.settings.cross_fit_folds,
            before.settings.seed,
        )[0]
        crops, rng = before.crops.copy(), np.random.default_rng(0)
        for key in v.index[held]:
            crops[key] = rng.random(crops[key].shape, dtype=np.float32)
        after._values['crops'], after._keys['crops'] = crops, 'noise in the first outer fold'
        yield before, after, v.index[fit], v.index[held]


def test_the_networks_of_a_fold_do_not_see_its_patients(pair):
    before, after, fit, held = pair
    ours, theirs = (s.nested_embeddings[0] for s in (before, after))
    np.testing.assert_array_equal(ours.loc[fit], theirs.loc[fit])
    assert not np.allclose(ours.loc[held], theirs.loc[held]), 'the disturbance must reach the fold'
    assert not np.allclose(before.embeddings.loc[fit], after.embeddings.loc[fit]), (
        "without nesting it reaches the other folds' features too"
    )
    assert not np.allclose(
        before.nested_embeddings[1].loc[fit], after.nested_embeddings[1].loc[fit]
    )


def test_every_training_row_is_judged_once(pair):
    before = pair[0]
    table = before.cross_validated
    assert (
        table.groupby('classifier').vertebra_id.nunique()
        == (before.cohort.vertebrae.split == 'train').sum()
    ).all()
    assert not table.duplicated(['classifier', 'vertebra_id']).any()
    assert 'nested cross-validation: networks' in before.training_rows
    pd.testing.assert_index_equal(before.nested_embeddings[0].columns, before.embeddings.columns)
