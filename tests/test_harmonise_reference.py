"ComBat against R's sva and Fortin's reference outputs, and on real tables from three centers."

from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import from_r

from ovf_dlr.harmonise import ComBat, SmallCenterWarning, center_share


@pytest.fixture(scope='module')
def two_batches(shared):
    "21 samples, 6 features, so that the priors matter; what R's sva makes of them."
    table, expected = from_r(shared, 'combat_two_batches')
    table = table.set_index('sample')
    return (
        table.filter(regex='^f'),
        table['batch'],
        table['age'],
        {name: np.array(v['data']) for name, v in expected['variants'].items()},
    )


@pytest.mark.parametrize('mode', ['reference', 'pooled'])
def test_equals_sva(two_batches, mode):
    "No reference center: both modes are sva's ComBat on all rows."
    X, batch, age, expected = two_batches
    np.testing.assert_allclose(
        ComBat(mode).fit_transform(X, batch), expected['nocov_parametric'], atol=1e-9
    )
    # neuroCombat keeps covariates in single precision
    tolerance = 1e-9 if mode == 'reference' else 5e-7
    np.testing.assert_allclose(
        ComBat(mode).fit_transform(X, batch, age), expected['age_parametric'], atol=tolerance
    )
    np.testing.assert_allclose(
        ComBat(mode, parametric=False).fit_transform(X, batch),
        expected['nocov_nonparametric'],
        atol=1e-9,
    )


PRIORS = dict(parametric=dict(), nonparametric=dict(parametric=False), noeb=dict(eb=False))
VARIANTS = list(product(PRIORS, *[(False, True)] * 3))


@pytest.fixture(scope='module')
def random_numbers(shared):
    "200 features of 10 samples in two batches (random numbers), and a covariate."
    folder = shared / 'data' / 'combat' / 'Testing'
    X = pd.read_csv(folder / 'inputData' / 'testdata.csv').T.to_numpy()
    assert X.shape == (10, 200)

    def expected(prior, adjusted, mean_only, ref):
        "What R's code makes of them in one variant."
        kind = 'parametric' if prior == 'noeb' else prior  # without empirical Bayes, no prior
        switches = dict(noeb=prior == 'noeb', meanonly=mean_only, batchref=ref)
        covariate = 'adjusted' if adjusted else 'unadjusted'
        parts = ['testdata_combat', kind, covariate, *(k for k, on in switches.items() if on)]
        return pd.read_csv(folder / 'outputData' / f'{"_".join(parts)}_r.csv').T.to_numpy()

    return X, np.repeat([1, 2], 5), np.array([1, 0] * 5), expected


@pytest.mark.parametrize('prior, adjusted, mean_only, ref', VARIANTS)
def test_equals_fortins_r_code(random_numbers, prior, adjusted, mean_only, ref):
    "With each prior and none, with and without covariate, scales, and a reference batch."
    X, batch, z, expected = random_numbers
    found = ComBat(
        reference='1' if ref else None, mean_only=mean_only, **PRIORS[prior]
    ).fit_transform(X, batch, z if adjusted else None)
    np.testing.assert_allclose(found, expected(prior, adjusted, mean_only, ref), atol=1e-9)


def _plain_nonparametric(X, batch):
    "The definition, densities multiplied as they stand, in numbers that reach down to 1e-4932."
    X = X.astype(np.longdouble)
    centers = [batch == b for b in np.unique(batch)]
    level = sum(X[c].mean(0) * c.mean() for c in centers)
    spread = np.sqrt(sum((X[c] - X[c].mean(0)).var(0) * c.mean() for c in centers))
    found = np.empty_like(X)
    for c in centers:
        z = (X[c] - level) / spread
        for i in range(X.shape[1]):
            gamma, delta = _weighted_means(z, i)
            found[c, i] = (z[:, i] - gamma) / np.sqrt(delta)
    return found * spread + level


def _weighted_means(z, i):
    "Shift and scale that the other features propose for feature `i`, weighted by likelihood."
    shift, scale = z.mean(0), z.var(0, ddof=1)
    others = np.arange(z.shape[1]) != i
    squares = ((z[:, [i]] - shift[others]) ** 2).sum(0)
    norm = (2 * np.pi * scale[others]) ** (-np.longdouble(len(z)) / 2)
    likelihood = norm * np.exp(-squares / 2 / scale[others])
    return [(x[others] * likelihood).sum() / likelihood.sum() for x in (shift, scale)]


@pytest.mark.skipif(
    np.finfo(np.longdouble).minexp > -16000, reason='this machine has no long double beyond double'
)
def test_the_nonparametric_prior_survives_large_centers():
    "A product of a thousand densities underflows in R, where all becomes NaN."
    rng = np.random.default_rng(0)
    batch = np.repeat(['a', 'b'], 1000)
    X = rng.normal(size=(2000, 40)) + rng.normal(0.3, 0.2, 40) * (batch == 'b')[:, None]
    np.testing.assert_allclose(
        ComBat(parametric=False).fit_transform(X, batch),
        _plain_nonparametric(X, batch).astype(float),
        atol=1e-9,
    )


@pytest.mark.parametrize('mean_only', [False, True])
def test_unseen_center_is_adapted_as_r_would_with_a_reference_batch(random_numbers, mean_only):
    "Fitted on batch 1 alone, then shown batch 2: R's ref.batch result, though R saw both at once."
    X, batch, _, expected = random_numbers
    model = ComBat(mean_only=mean_only, min_rows=5).fit(X[:5], batch[:5])
    np.testing.assert_allclose(
        model.transform(X, batch), expected('parametric', False, mean_only, True), atol=1e-9
    )
    with pytest.warns(SmallCenterWarning, match=r'2 \(4\)'):
        np.testing.assert_array_equal(model.transform(X[5:9], batch[5:9]), X[5:9])


@pytest.fixture(scope='module')
def three_hospitals(shared):
    """984 pyradiomics features of real patients from three hospitals.

    Each table was standardised on its own before it was published: so a shift and a scale for each
    feature of B and C put back what was lost."""
    rng = np.random.default_rng(0)
    folder = shared / 'data' / 'multicentre_ct'
    tables = {
        c: pd.read_csv(folder / f'Hosny2018{c}.gz', compression='gzip', index_col='ID')
        for c in 'ABC'
    }
    X = pd.concat(tables).drop(columns='Target').select_dtypes('number')
    X.index = [f'{center}/{patient}' for center, patient in X.index]
    center = pd.Series(X.index.str[0], X.index)
    for c, strength in dict(B=0.5, C=1.0).items():
        X[center == c] = X[center == c] * np.exp(rng.normal(0.2, 0.2, X.shape[1])) + rng.normal(
            strength, 0.5, X.shape[1]
        )
    return X, center


@pytest.mark.parametrize('mode', ['reference', 'pooled'])
def test_real_features_lose_their_center(three_hospitals, mode):
    "Finite, and next to nothing of the center left."
    X, center = three_hospitals
    after = ComBat(mode).fit_transform(X, center)
    assert np.isfinite(after).all(axis=None)
    before_share, after_share = (center_share(x, center).median() for x in (X, after))
    assert after_share < 0.001 < 0.1 < before_share


def test_real_held_out_centers_move_nothing(three_hospitals):
    """Whatever the other hospitals send, the training rows and the model stay the same.

    Pooled, they do not."""
    X, center = three_hospitals
    train = center == 'A'
    noise = X.where(train, X.sample(frac=1, random_state=0).to_numpy() * 3)
    models = [ComBat().fit(x[train], center[train]) for x in (X, noise)]
    for m, x in zip(models, (X, noise), strict=True):
        pd.testing.assert_frame_equal(m.transform(x, center)[train], X[train], check_exact=True)
    np.testing.assert_array_equal(models[0].spread_, models[1].spread_)
    pooled = [ComBat('pooled').fit_transform(x, center)[train] for x in (X, noise)]
    assert not np.allclose(*pooled)
