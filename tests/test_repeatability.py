"""Repeatability: ICC against R, and perturbed copies of real vertebrae.

Also the study with and without second readings."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import from_r, public_bodies
from scipy.ndimage import binary_fill_holes, label

from ovf_dlr.methods_text import _repeatability_methods
from ovf_dlr.preprocess import Case, load_cases, near
from ovf_dlr.provenance import notes
from ovf_dlr.radiomics import extract, extract_cohort
from ovf_dlr.repeatability import (
    ICC_FORMS,
    Copies,
    icc,
    noise_level,
    perturb,
    perturbation_repeatability,
    perturbed_features,
    reading,
    repeatability,
)
from ovf_dlr.selection import repeatable_features
from ovf_dlr.settings import RepeatabilityRules, read_settings
from ovf_dlr.sources import phantom_manifest
from ovf_dlr.study import Study

FEW = dict(image_types=['original', 'wavelet'])
SMALL = dict(perturbations=3, perturbed_vertebrae=8)
OFF = dict(noise=0, shift=0, contour_mm=0, area=0)


@pytest.mark.parametrize('name', ['icc_shrout_fleiss', 'icc_30x2'])
def test_icc_equals_psych(shared, name):
    "All six forms and their intervals, as psych::ICC(lmer = FALSE)."
    ratings, expected = from_r(shared, name)
    assert set(expected['anova']) == set(ICC_FORMS)
    for form, r in expected['anova'].items():
        found = icc(ratings.set_index('subject').to_numpy(), form)
        np.testing.assert_allclose(
            [found.value, found.lower, found.upper],
            [r['value'], *r['ci95']],
            atol=1e-10,
            err_msg=form,
        )


@pytest.mark.parametrize('form', ICC_FORMS)
def test_icc_of_a_constant_is_undefined(shared, form):
    """R returns rounding dust here.

    A feature that never varies must not count as repeatable, nor as anything else."""
    ratings, _ = from_r(shared, 'icc_constant')
    found = icc(ratings.set_index('subject').to_numpy(), form)
    assert np.isnan([found.value, found.lower, found.upper]).all()


@pytest.fixture(scope='module')
def bodies(shared):
    "Twelve real bodies that were read again, and their readings (simulated from the masks)."
    readings = public_bodies(shared, 'readings')
    table = public_bodies(shared).set_index('vertebra_id').loc[readings.vertebra_id.unique()[:12]]
    return table, readings[readings.vertebra_id.isin(table.index)]


def _shape_of(case):
    "The shape features of a mask."
    return extract(case, dict(image_types=[]))


def test_a_shifted_radiograph_keeps_its_shape_and_noise_leaves_it_alone(bodies):
    "Shape moves by less than 5 % with a shift, and not at all with noise."
    for key, case in load_cases(bodies[0]):
        shape = _shape_of(case)
        shifted, noisy = (perturb(case, 3, {**OFF, kind: 1}) for kind in ('shift', 'noise'))
        assert (abs(_shape_of(shifted) / shape - 1) < 0.05).all(), key
        assert (_shape_of(noisy) == shape).all()
        assert (shifted.image != case.image).any() and (noisy.image != case.image).any(), key
        window = near(case, 20)
        ratio = noise_level(noisy.image[window]) / noise_level(case.image[window])
        assert 1.2 < ratio < 1.8, key  # about as much again


def _dice(a, b):
    "Dice coefficient of two masks."
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_perturbed_outline_differs_like_a_reader(bodies):
    "The mean Dice coefficient is above 0.9 and below the (simulated) second session of a reader."
    first = dict(load_cases(bodies[0]))
    again = dict(load_cases(reading(*bodies, 'A', 2)))
    unshifted = [
        _dice(case.mask, perturb(case, i, dict(shift=0)).mask)
        for case in first.values()
        for i in range(5)
    ]
    of_readers = [_dice(first[key].mask, again[key].mask) for key in first]
    assert 0.9 < np.mean(unshifted) < np.mean(of_readers)


def test_a_perturbed_outline_stays_one_solid_body(bodies):
    "One piece without holes, and no two copies are the same."
    for _, case in load_cases(bodies[0]):
        masks = [perturb(case, i).mask for i in range(5)]
        for mask in masks:
            assert label(mask)[1] == 1 and (binary_fill_holes(mask) == mask).all()
        assert len({mask.tobytes() for mask in masks}) == 5


@pytest.mark.parametrize('shape', [(1200, 900), (70, 60)])
def test_perturbation_stays_on_the_radiograph(shape):
    """Bodies at each corner, and a radiograph hardly larger than its body.

    Nothing is moved beyond the edge, nothing fails."""
    rng = np.random.default_rng(0)
    for rows in (slice(0, 50), slice(-50, None)):
        for cols in (slice(0, 45), slice(-45, None)):
            mask = np.zeros(shape, bool)
            mask[rows, cols] = True
            case = Case(rng.normal(size=shape).astype('float32'), mask, (0.3, 0.3))
            copy = perturb(case, 0, dict(area=0.3))
            assert (
                copy.image.shape == shape
                and np.isfinite(copy.image).all()
                and 0.5 < copy.mask.sum() / mask.sum() < 1.5
            )
            assert (copy.mask & mask).sum() > 0.5 * mask.sum()


def test_copies_are_the_same_in_any_order_and_in_any_number_of_processes(bodies):
    "Only the seed, the vertebra and the number of the copy matter."
    table, settings = bodies[0].iloc[:4], dict(image_types=['original'])
    one = perturbed_features(table, settings, copies=2, seed=5)
    other = perturbed_features(table.iloc[::-1], settings, copies=2, seed=5, n_jobs=2)
    pd.testing.assert_frame_equal(one, other.loc[one.index])
    another_seed = perturbed_features(table, settings, copies=2, seed=6)
    assert (another_seed != one).any(axis=None)


def test_perturbation_finds_much_the_same_features_as_readers_do(bodies):
    """By rank, over features, on real radiographs; the readers are simulated.

    Stronger perturbation lowers the coefficient."""
    table, readings = bodies
    readers = repeatability(
        *(
            extract_cohort(t, FEW)
            for t in (table, reading(table, readings, 'A', 2), reading(table, readings, 'B'))
        )
    )
    mild, harsh = (
        perturbation_repeatability(perturbed_features(table, FEW, copies))
        for copies in (4, Copies(4, dict(noise=3, contour_mm=6, area=0.2)))
    )
    assert mild.icc.corr(readers.icc, method='spearman') > 0.5
    assert harsh.icc.median() < mild.icc.median() - 0.05


@pytest.fixture(scope='module')
def cohorts(data, tmp_path_factory):
    """The smoke cohort as it is, and outlined only once.

    Also outlined once, without two of its held-out sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('OVF_DLR_DATA', str(data))
        original, copies = (
            phantom_manifest('phantom:smoke', 0).parent,
            tmp_path_factory.mktemp('once'),
        )
        for name in ('once', 'fewer'):
            shutil.copytree(original, copies / name)
            (copies / name / 'readings.csv').unlink()
        table = pd.read_csv(copies / 'fewer' / 'manifest.csv', dtype=str)
        table[table.split.isin(['train', 'internal'])].to_csv(
            copies / 'fewer' / 'manifest.csv', index=False
        )
        yield dict(twice=original, once=copies / 'once', fewer=copies / 'fewer')


def _study(folder, **settings):
    "A study of the cohort in a folder."
    return Study(
        read_settings('smoke', cohort=str(folder / 'manifest.csv'), **settings), 'random', n_jobs=1
    )


def test_a_study_without_readings_estimates_repeatability_from_training_rows(cohorts):
    "Of one vertebra per patient; held-out radiographs change nothing."
    study = _study(cohorts['once'], **SMALL)
    v, copies = study.cohort.vertebrae, study.perturbed_copies
    drawn = v.loc[copies.index.unique(0)]
    assert (
        set(drawn.split) == {'train'}
        and drawn.patient_id.is_unique
        and copies.groupby(level=0).size().tolist() == [3] * 8
    )
    assert {'icc', 'icc_lower', 'icc_perturbed', 'icc_perturbed_lower', 'n_perturbed'} <= set(
        study.repeatability
    )
    alone = _study(cohorts['fewer'], **SMALL)
    pd.testing.assert_frame_equal(alone.perturbed_copies, copies)


def test_second_readings_take_precedence_and_perturbation_can_be_switched_off(cohorts):
    "No copies where there are readings; no repeatability without either."
    study = _study(cohorts['twice'])
    assert study.perturbed_copies is None and {'icc_intra', 'icc_inter', 'n_inter'} <= set(
        study.repeatability
    )
    assert _study(cohorts['once'], perturbations=0).repeatability is None


def test_height_ratios_are_perturbed_too_and_the_lower_limit_may_decide(cohorts):
    "They have coefficients like radiomic features, but are not harmonised."
    study = _study(cohorts['once'], **SMALL, height_ratios=True)
    assert list(study.repeatability.index) == list(study.radiomics.columns)
    assert (study.repeatability.icc_lower < study.repeatability.icc).any()
    ratio, moved = (
        study.radiomics.columns.str.startswith('morphometry_ratio_'),
        (study.harmonisation[1] != study.radiomics).any(),
    )
    assert ratio.any() and not moved[ratio].any() and moved[~ratio].any()


@pytest.mark.parametrize('limit', ['value', 'lower'])
def test_nan_never_passes_in_the_study(limit):
    "Whichever limit decides, and however low it is."
    table = pd.DataFrame(
        dict(icc=[0.9, np.nan, 0.9], icc_lower=[0.85, np.nan, 0.7]), ['good', 'unknown', 'wide']
    )
    rules = RepeatabilityRules(0.8, icc_limit=limit)
    assert repeatable_features(table.index, table, rules) == (
        ['good', 'wide'] if limit == 'value' else ['good']
    )
    assert 'unknown' not in repeatable_features(
        table.index, table, replace(rules, icc_threshold=-2.0)
    )
    with pytest.raises(ValueError, match='no radiomic feature reaches ICC 0.8'):
        repeatable_features(table.index, table * np.nan, rules)


def test_methods_and_notes_state_where_repeatability_comes_from(cohorts):
    "Of the methods only the sentence on repeatability; the rest would need a trained network."

    def written(folder, **settings):
        "Methods and notes of a study, and its table of repeatability."
        study = _study(folder, **settings)
        return _repeatability_methods(study), ' '.join(notes(study)), study.own_repeatability

    twice, once, never = (
        written(cohorts['twice'], icc_limit='lower'),
        written(cohorts['once'], **SMALL),
        written(cohorts['once'], perturbations=0),
    )
    kept = f'(n = 15 and 15 vertebrae) were kept ({(twice[2].icc_lower >= 0.8).sum()})'
    assert 'a lower 95 % confidence limit' in twice[0]
    assert f'within and between readers {kept}' in twice[0]
    assert 'perturbed' not in twice[1]
    assert '3 perturbed images and masks of each of 8 training vertebrae' in once[0]
    assert all('no substitute for second readers' in text for text in once[:2])
    assert never[0] == 'Repeatability was not assessed.'
    assert 'no feature was tested for repeatability' in never[1]
