"""Heights on real, hand-drawn masks of `../shared`, against ratios that another program measured on
the same masks."""

import numpy as np
import pandas as pd
import pytest
from conftest import labels_of, public_bodies

from ovf_dlr.morphometry import (
    genant,
    height_features,
    height_table,
    measure_radiograph,
    radiograph_heights,
    rim,
    vertebral_heights,
)


@pytest.fixture(scope='module')
def bodies(shared) -> pd.DataFrame:
    "The manifest, with what we measure on each of its 456 bodies: alone, and with its radiograph."
    table, alone, together = public_bodies(shared), {}, {}
    for path, rows in table.groupby('mask'):
        labels = labels_of(path)
        radiograph = measure_radiograph(labels, 1.0)
        for key, value in zip(rows.index, rows.mask_label, strict=True):
            alone[key], together[key] = vertebral_heights(labels == value), radiograph[value][0]
    return table.assign(alone=pd.Series(alone), together=pd.Series(together))


def test_every_body_is_measured_and_looks_like_a_vertebra(bodies):
    three = np.array([h.three for h in bodies.together])
    depth = np.array([h.depth for h in bodies.together])
    assert len(bodies) == 456 and np.isfinite(three).all()
    assert (
        three.min() > 8 and three.max() < 45 and depth.min() > 18 and depth.max() < 50
    )  # mm, of an adult spine
    areas = np.array([h.area for h in bodies.together])
    assert np.corrcoef(areas, three.mean(1) * depth)[0, 1] > 0.96


def test_a_body_alone_is_named_as_among_its_neighbours(bodies):
    pairs = zip(bodies.alone, bodies.together, strict=True)
    same = [np.allclose(a.corners, b.corners) for a, b in pairs]
    assert np.mean(same) > 0.98


def test_ratios_agree_with_those_of_another_program(bodies):
    """Its points are unknown to us (inside the corners, by the look of its numbers), so the two
    agree as two readers do, not to the digit."""
    ours = pd.Series([h.ratio_min_max for h in bodies.together])
    difference = ours - bodies.height_ratio
    lumbar = bodies.level.notna()
    print(
        f'456 bodies: r {ours.corr(bodies.height_ratio):.3f}, '
        f'mean difference {difference.mean():.3f}, SD {difference.std():.3f}; '
        f'{lumbar.sum()} labelled lumbar: r {ours[lumbar].corr(bodies.height_ratio[lumbar]):.3f}'
    )
    assert ours.corr(bodies.height_ratio) > 0.75
    assert abs(difference.mean()) < 0.05 and difference.std() < 0.06


def test_principal_axes_would_not_do(bodies):
    "The reason for the method: ends of the principal axis of a nearly square body are anywhere."
    ratios = {}
    for key, row in bodies[bodies.level.notna()].iterrows():
        mask = labels_of(row['mask']) == row.mask_label
        p = np.argwhere(mask) - np.argwhere(mask).mean(0)
        u, v = (p @ np.linalg.svd(p, full_matrices=False)[2].T).T
        at = [(np.ptp(v[abs(u - np.quantile(u, q)) < 1.5])) for q in (0.08, 0.5, 0.92)]
        ratios[key] = min(at) / max(at)
    ratios = pd.Series(ratios)
    print(f'along principal axes: r {ratios.corr(bodies.height_ratio[ratios.index]):.3f}')
    assert ratios.corr(bodies.height_ratio[ratios.index]) < 0.5


def test_corners_are_on_the_drawn_outline(bodies):
    for _, row in bodies[::9].iterrows():
        points = rim(labels_of(row['mask']) == row.mask_label)
        nearest = np.sqrt(((row.together.corners[:, None] - points) ** 2).sum(-1)).min(1)
        assert nearest.max() < 1.6, row.vertebra_id


@pytest.mark.parametrize('name, n', dict(Normal=4, Damaged=11).items())
def test_full_size_radiographs(shared, name, n):
    labels = labels_of(shared / f'data/spine_xray/derived/{name}_LAT_vertebra_labels.nii.gz')
    table = radiograph_heights(labels, anterior='left')
    assert (
        len(table) == n
        and (table.depth > table[['anterior', 'middle', 'posterior']].mean(axis=1) * 0.95).all()
    )
    assert {
        v: genant(h).grade
        for v, (h, _) in measure_radiograph(labels[:, ::-1], anterior='right').items()
    } == {v: genant(h).grade for v, (h, _) in measure_radiograph(labels, anterior='left').items()}
    print(table.round(2).to_string())


def test_the_ratios_of_a_cohort_are_those_of_its_masks(shared):
    bodies = public_bodies(shared).set_index('vertebra_id').head(40)
    table = height_table(bodies)
    assert (
        list(table.index) == list(bodies.index)
        and table.shape == (40, 4)
        and np.isfinite(table.to_numpy()).all()
    )
    key, row = bodies.index[7], bodies.iloc[7]
    expected = height_features(labels_of(row['mask']) == row.mask_label, lengths=False)
    assert table.loc[key].to_dict() == pytest.approx(expected, rel=1e-9)
