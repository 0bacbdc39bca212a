"""A second radiograph of every vertebra: its features join those of the first, and the model that
leaves the lab asks for both."""

import shutil
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ovf_dlr.fusion import SECOND_VIEW, feature_source
from ovf_dlr.methods_text import _repeatability_methods, methods
from ovf_dlr.model import Model
from ovf_dlr.provenance import notes
from ovf_dlr.repeatability import plot_icc
from ovf_dlr.settings import read_settings
from ovf_dlr.sources import phantom_manifest
from ovf_dlr.study import Study


@pytest.fixture(scope='module')
def study(smoke_run, data):
    "Both views of the smoke cohort."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OVF_DLR_DATA', str(data))
        yield Study(read_settings('smoke', second_view='phantom:smoke'), 'random', n_jobs=2)


def test_each_view_has_radiomics_and_a_network_of_its_own(study):
    ours, theirs = (
        {c for c in study.radiomics if c.startswith(SECOND_VIEW) == second}
        for second in (False, True)
    )
    assert theirs == {SECOND_VIEW + c for c in ours} and len(theirs) > 50
    pd.testing.assert_frame_equal(
        study.radiomics[sorted(theirs)].rename(columns=lambda c: c.removeprefix(SECOND_VIEW)),
        study.second.radiomics[sorted(ours)][sorted(c.removeprefix(SECOND_VIEW) for c in theirs)],
    )
    assert not np.allclose(
        study.radiomics['original_shape2D_Sphericity'],
        study.radiomics[SECOND_VIEW + 'original_shape2D_Sphericity'],
    )
    assert study.embeddings.shape[1] == 2 * study.second.embeddings.shape[1]
    assert study.network.card['n'] == study.second.network.card['n']
    assert not np.allclose(study.embeddings['dtl_0000'], study.embeddings[SECOND_VIEW + 'dtl_0000'])
    assert {
        feature_source(SECOND_VIEW + 'dtl_0000'),
        feature_source(SECOND_VIEW + 'original_firstorder_Mean'),
    } == {
        feature_source('dtl_0000'),
        feature_source('original_firstorder_Mean'),
    }


def test_every_feature_is_tested_for_repeatability_in_its_own_view(study):
    assert set(study.repeatability.index) == set(study.radiomics)
    theirs = study.repeatability[study.repeatability.index.str.startswith(SECOND_VIEW)]
    np.testing.assert_array_equal(theirs.icc, study.second.repeatability.icc)


def test_a_view_without_readings_is_told_apart_from_one_that_has_them(study, tmp_path):
    """Each view in its own way, in its own figure and in its own sentence; what was not assessed is
    not counted as repeatable."""
    copy = tmp_path / 'once'
    shutil.copytree(phantom_manifest('phantom:smoke', 0, 'anteroposterior').parent, copy)
    (copy / 'readings.csv').unlink()

    def asked(**more):
        return Study(
            read_settings('smoke', second_view=str(copy / 'manifest.csv'), **more),
            'random',
            n_jobs=2,
        )

    mixed, untested = asked(perturbations=3, perturbed_vertebrae=8), asked(perturbations=0)
    for table in (mixed.own_repeatability, mixed.second.own_repeatability):
        plot_icc(table, ax=plt.figure().gca())
        plt.close()
    said = _repeatability_methods(mixed)
    assert (
        'First view: Features with' in said
        and 'within and between readers' in said
        and 'Second view: No vertebra was outlined again' in said
    )
    assert 'for the second view: repeatability was estimated' in ' '.join(notes(mixed))
    tested = (untested.own_repeatability.icc >= 0.8).sum()
    assert untested.second.own_repeatability is None and _repeatability_methods(untested).endswith(
        'Second view: Repeatability was not assessed.'
    )
    counts = untested.selection.counts
    assert (
        counts['ICC >= 0.8'] == tested
        and counts['repeatability not assessed'] == untested.second.radiomics.shape[1]
    )


def test_the_frozen_model_needs_both_views_and_repeats_the_run(study, tmp_path):
    Model.of(study).save(tmp_path / 'model')
    model = Model.load(tmp_path / 'model')
    rows = study.cohort.vertebrae.query("split == 'internal'").index
    first, second = (s.cohort.vertebrae.loc[rows] for s in (study, study.second))
    said = (
        study.predictions.query(f'classifier == {study.chosen!r}')
        .set_index('vertebra_id')
        .loc[rows, ['p0', 'p1', 'p2']]
    )
    np.testing.assert_allclose(model.predict(first, second)[['p0', 'p1', 'p2']], said, atol=1e-6)
    scores = model.score(first, second)
    assert len(scores.write(tmp_path / 'pages')) == len(rows)
    page = scores.plot_page(rows[0])
    titles = [ax.get_title(loc=where) for ax in page.axes for where in ('left', 'center')]
    assert (
        sum('Activation' in t for t in titles) == sum('Outlined body' in t for t in titles) == 2
    )  # radiograph, body and map of each view
    plt.close(page)
    with pytest.raises(ValueError, match='learned from two views'):
        model.predict(first)
    single = replace(model, networks=model.networks[:1])
    with pytest.raises(ValueError, match='learned from one view'):
        single.predict(first, second)


def test_the_methods_say_that_there_are_two_views(study):
    text = methods(study)['transfer']
    assert (
        f'{study.second.radiomics.shape[1]:,} radiomic features' in text
        and 'anteroposterior' in text
    )
    assert any(n.startswith('Second view: ') for n in notes(study)) == bool(
        study.second.inspection.summary
    )
