"""ICC of 1,500 features, 30 vertebrae and two readings: this package against pingouin.

Both in the same run, pingouin feature by feature; and what a perturbed copy costs.

    .venv/bin/python -P benchmarks/repeatability.py                 # some seconds
    .venv/bin/python -P benchmarks/repeatability.py --features 100  # pingouin on the first 100 only

pingouin is no dependency of this package: where it is not installed, that half is left out, with a
line that reports it.
"""

import argparse
import importlib.util
import time

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from ovf_dlr.filters import region_of
from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import features_of
from ovf_dlr.repeatability import ICC_FORMS, icc, perturb


def ratings(n=30, k=2, p=1500, seed=0):
    "Features from hardly to well repeatable."
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 1, p)) * np.linspace(0.2, 4, p)
        + rng.normal(size=(n, k, p))
        + rng.normal(size=(1, k, p)) * 0.2
    )


def best(f, repeats):
    "Result and shortest time of some calls."
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        found = f()
        times.append(time.perf_counter() - start)
    return found, min(times)


def peer(x):
    "All forms of every feature by `pingouin.intraclass_corr`, which takes one at a time: (p, 6)."
    import pingouin

    n, k, p = x.shape
    subject, reader = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    found = []
    for i in range(p):
        table = pd.DataFrame(dict(subject=subject, reader=reader, x=x[..., i].ravel()))
        forms = pingouin.intraclass_corr(table, 'subject', 'reader', 'x')
        found.append(forms['ICC'].to_numpy(float))  # in the order of ICC_FORMS; names differ
    return np.array(found)


def radiograph(shape=(3000, 2500), body=(210, 250), seed=0):
    "A Z-scored noise radiograph of `shape` with one rounded body."
    image = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2)
    r, c = np.ogrid[: shape[0], : shape[1]]
    mask = ((r - shape[0] / 2) / (body[0] / 2)) ** 4 + (
        (c - shape[1] / 2) / (body[1] / 2)
    ) ** 4 <= 1
    return Case(((image - image.mean()) / image.std()).astype('float32'), mask, (0.15, 0.15))


def time_icc(x):
    "Print how long each form takes; returns the coefficients (p, 6)."
    values = []
    for form in ICC_FORMS:
        found, seconds = best(lambda: icc(x, form), 20)
        values.append(found.value)
        print(
            f'ovf_dlr    {form}  {1000 * seconds:8.2f} ms for {x.shape[2]} features with intervals'
        )
    return np.stack(values, 1)


def time_peer(x, ours):
    "Print how long pingouin takes for all forms, and how far its values are from `ours`."
    theirs, peer_seconds = best(lambda: peer(x), 1)
    _, seconds = best(lambda: [icc(x, form) for form in ICC_FORMS], 20)
    print(
        f'pingouin   all six   {1000 * peer_seconds:8.0f} ms for {x.shape[2]} features; '
        f'ovf_dlr {1000 * seconds:.1f} ms, ratio {peer_seconds / seconds:.0f}, '
        f'largest difference {np.abs(theirs - ours).max():.1e}'
    )


def time_copy():
    "Print how long a perturbed copy takes to make and to measure."
    case = radiograph()
    _, disturbed = best(lambda: perturb(case, 0), 5)
    _, measured = best(lambda: features_of(region_of(case)), 2)
    print(
        'one perturbed copy of a body of 210 x 250 pixels on a radiograph of 3000 x 2500: '
        f'{disturbed:.3f} s, its features {measured:.3f} s'
    )


def main():
    "The three, one after the other."
    parser = argparse.ArgumentParser()
    parser.add_argument('--features', type=int, default=1500, help='given to pingouin')
    some, x = parser.parse_args().features, ratings()
    ours = time_icc(x)
    if importlib.util.find_spec('pingouin'):
        time_peer(x[..., :some], ours[:some])
    else:
        print(
            'pingouin   is not installed: no comparison '
            '(pip install pingouin, in an environment of its own)'
        )
    time_copy()


if __name__ == '__main__':
    main()
