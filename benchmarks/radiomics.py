"""Radiomics of one vertebra on a full-size radiograph, from the files on disc: this package and its peers, side by side.

    .venv/bin/python -P benchmarks/radiomics.py                        # under a minute
    .venv/bin/python -P benchmarks/radiomics.py --plain                # and pyradiomics as most call it, mirp with all its images: minutes
    .venv/bin/python -P benchmarks/radiomics.py --peer-python PATH     # mirp and fastrad from an environment of their own
    .venv/bin/python -P benchmarks/radiomics.py --size 600x500         # a quick look whether all of it runs

(-P keeps Python from taking this file for pyradiomics, whose package is also called `radiomics`.)

Each contestant is a process of its own with one thread. It reads a 16-bit DICOM radiograph and a mask and computes its features; imports are not counted, reading is.
All take the radiograph whole, with 32 bins, in the plane, Z-scored where they can. pyradiomics refuses LoG on one slice, and skips LBP2D unless scikit-image is installed.
mirp has no gradient, and its shape is that of a mesh in 3-D: both are left out. fastrad has no filters and no fixed number of bins, and is given the matching width; it reads only DICOM,
so its mask is one. Peak memory is that of the whole process, libraries included (Linux).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

TYPES = [
    'Original',
    'Square',
    'SquareRoot',
    'Logarithm',
    'Exponential',
    'Gradient',
    'Wavelet',
    'LoG',
    'LBP2D',
]
FAMILIES = ['firstorder', 'glcm', 'glrlm', 'glszm', 'gldm', 'ngtdm']
SPACING = 0.15  # mm
MANY = 4  # radiographs of the run that shows whether memory grows with the cohort


# The inputs


def bodies(shape, n):
    "(H, W) uint8: `n` bodies, one above the other, each 7 % of the radiograph's height and 10 % of its width: 210 x 250 pixels of 3000 x 2500."
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, np.uint8)
    for k in range(n):
        center = shape[0] * (0.35 + 0.09 * k), shape[1] * (0.45 + 0.02 * k)
        labels[
            ((rows - center[0]) / (shape[0] * 0.035)) ** 4
            + ((columns - center[1]) / (shape[1] * 0.05)) ** 4
            <= 1
        ] = k + 1
    return labels


def grey(shape, labels, seed=0):
    "(H, W) uint16, 14 bits used: broad shades, fine texture, brighter where there is a body."
    import numpy as np
    from scipy.ndimage import gaussian_filter, zoom

    rng = np.random.default_rng(seed)
    coarse = zoom(gaussian_filter(rng.normal(size=[-(-n // 20) for n in shape]), 4), 20, order=1)[
        : shape[0], : shape[1]
    ]
    radiograph = (
        6 * coarse / coarse.std()
        + gaussian_filter(rng.normal(size=shape), 2) * 8
        + 2 * (labels > 0)
    )
    return np.rint((radiograph - radiograph.min()) / np.ptp(radiograph) * (2**14 - 1)).astype(
        np.uint16
    )


def write_dicom(path, pixels):
    "A DX radiograph, uncompressed."
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        DigitalXRayImageStorageForPresentation,
        ExplicitVRLittleEndian,
        generate_uid,
    )

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.Modality, ds.PatientID = (
        DigitalXRayImageStorageForPresentation,
        'DX',
        'bench',
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = (
        generate_uid() for _ in range(4)
    )
    (ds.Rows, ds.Columns), ds.ImagerPixelSpacing, ds.PixelSpacing = (
        pixels.shape,
        [SPACING] * 2,
        [SPACING] * 2,
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 14, 13, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.RescaleSlope, ds.RescaleIntercept = (
        1,
        'MONOCHROME2',
        1,
        0,
    )
    ds.PixelData = pixels.astype('<u2').tobytes()
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def write_inputs(folder, shape):
    "Radiograph, masks with one and with four bodies, and the cohort tables: one vertebra, four of one radiograph, four of each of `MANY` radiographs."
    import pandas as pd
    import SimpleITK as sitk

    pixels = grey(shape, bodies(shape, 4))
    write_dicom(folder / 'radiograph' / '0.dcm', pixels)
    for i in range(1, MANY):
        os.link(folder / 'radiograph' / '0.dcm', folder / f'radiograph{i}.dcm')
    placed = sitk.ReadImage(str(folder / 'radiograph' / '0.dcm'))
    for n in (1, 4):
        mask = sitk.GetImageFromArray(bodies(shape, n)[None])
        mask.CopyInformation(placed)
        sitk.WriteImage(mask, str(folder / f'mask{n}.nii.gz'))
    write_dicom(folder / 'mask' / '0.dcm', bodies(shape, 1))  # fastrad reads nothing else
    radiographs = [
        str(folder / 'radiograph' / '0.dcm'),
        *(str(folder / f'radiograph{i}.dcm') for i in range(1, MANY)),
    ]
    for name, n, images in (
        ('one', 1, radiographs[:1]),
        ('four', 4, radiographs[:1]),
        ('many', 4, radiographs),
    ):
        rows = [
            dict(
                vertebra_id=f'{i}/{k}',
                image=image,
                mask=str(folder / f'mask{n}.nii.gz'),
                mask_label=k + 1,
            )
            for i, image in enumerate(images)
            for k in range(n)
        ]
        pd.DataFrame(rows).to_csv(folder / f'{name}.csv', index=False)


# The contestants: each imports what it needs and returns what is timed, which gives the features of all vertebrae


def ours(folder, cohort):
    import pandas as pd

    from ovf_dlr.radiomics import extract_cohort

    table = pd.read_csv(folder / f'{cohort}.csv', index_col='vertebra_id')

    def work():
        features = extract_cohort(table)
        return [dict(zip(features.columns, row)) for row in features.to_numpy()]

    return work


def pyradiomics(folder, shape3d):
    "As its documentation calls it, with `force2D`, on the radiograph as a volume of one slice."
    from radiomics import setVerbosity
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    setVerbosity(60)
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=True, normalize=True)
    for name in TYPES:
        extractor.enableImageTypeByName(
            name, customArgs=dict(sigma=[1, 2, 3]) if name == 'LoG' else None
        )
    if not shape3d:
        extractor.disableAllFeatures()
        for name in ['shape2D', *FAMILIES]:
            extractor.enableFeatureClassByName(name)
    paths = [str(folder / 'radiograph' / '0.dcm'), str(folder / 'mask1.nii.gz')]
    return lambda: [
        {
            k: float(v)
            for k, v in extractor.execute(*paths).items()
            if not k.startswith('diagnostics')
        }
    ]


MIRP_FILTERS = dict(
    filter_kernels=["pyradiomics_square", "pyradiomics_square_root", "pyradiomics_logarithm", "pyradiomics_exponential", "separable_wavelet", "laplacian_of_gaussian"],
    separable_wavelet_families="coif1", separable_wavelet_set=["lh", "hl", "hh", "ll"], separable_wavelet_rotation_invariance=False,
    laplacian_of_gaussian_sigma=[1.0, 2.0, 3.0], laplacian_of_gaussian_kernel_truncate=4.0, ibsi_compliant=False,
)  # fmt: skip


def mirp(folder, filters):
    import logging

    from mirp import extract_features

    logging.disable()
    families = ['statistics', 'glcm', 'glrlm', 'glszm', 'ngtdm', 'ngldm']
    settings = {f"{on}_{key}": value for on in ("base", "response_map") for key, value in
                dict(feature_families=families, discretisation_method="fixed_bin_number", discretisation_n_bins=32).items()}  # fmt: skip
    given = dict(
        image=str(folder / 'radiograph' / '0.dcm'),
        mask=str(folder / 'mask1.nii.gz'),
        by_slice=True,
        intensity_normalisation='standardisation',
    )
    extract_features(
        **given, base_feature_families='statistics'
    )  # mirp imports two thousand modules when it reads its first file: not counted either

    def work():
        table = extract_features(**given, **settings, **(MIRP_FILTERS if filters else {}))[0]
        return [
            {
                k: float(v)
                for k, v in table.iloc[0].items()
                if not k.startswith(('sample_', 'image_'))
            }
        ]  # the rest says what was read

    return work


def fastrad(folder):
    from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage

    def work():
        image, mask = (
            MedicalImage.from_dicom(folder / 'radiograph'),
            Mask.from_dicom(folder / 'mask'),
        )
        inside = image.tensor[mask.tensor > 0]
        width = float(inside.max() - inside.min()) / 32
        settings = FeatureSettings(
            feature_classes=['shape2d', *FAMILIES], bin_width=width, device='cpu', force2D=True
        )
        return [FeatureExtractor(settings).extract(image, mask)]

    return work


CONTESTANTS = {  # name, which begins with the package: what it runs, repeats, run only with --plain
    'ovf_dlr, 1 vertebra on the radiograph': (lambda folder: ours(folder, 'one'), 5, False),
    'ovf_dlr, 4 on the radiograph': (lambda folder: ours(folder, 'four'), 3, False),
    f'ovf_dlr, 4 on each of {MANY} radiographs': (lambda folder: ours(folder, 'many'), 1, False),
    'pyradiomics, plain': (lambda folder: pyradiomics(folder, shape3d=True), 1, True),
    'pyradiomics, no 3-D shape': (lambda folder: pyradiomics(folder, shape3d=False), 1, False),
    'mirp, 12 images': (lambda folder: mirp(folder, filters=True), 1, True),
    'mirp, original image': (lambda folder: mirp(folder, filters=False), 1, False),
    'fastrad, original image': (fastrad, 1, False),
}


def package_of(name):
    return name.split(',')[0]


# One contestant, in its own process


def peak_mb():
    "The most memory this process ever held. Not `ru_maxrss`, which a child inherits from its parent."
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 1024


def measure(name, folder):
    "Seconds per vertebra of every repeat, features per vertebra, memory."
    prepare, repeats, _ = CONTESTANTS[name]
    try:
        work = prepare(folder)
    except ModuleNotFoundError as e:
        return dict(
            skipped=f'not installed (no module {e.name}): uv pip install {package_of(name)}, here or where --peer-python points'
        )
    imported, seconds = peak_mb(), []
    for _ in range(repeats):
        start = time.perf_counter()
        found = work()
        seconds.append((time.perf_counter() - start) / len(found))
    return dict(
        version=version(package_of(name)),
        seconds=seconds,
        features=len(found[0]),
        vertebrae=len(found),
        imported_mb=imported,
        peak_mb=peak_mb(),
    )


def agreement(folder):
    "Ours against pyradiomics' own extractor on the whole radiograph as a 2-D image, image type by image type: features in common, and the one that differs most."
    import pandas as pd
    import SimpleITK as sitk
    from radiomics import setVerbosity
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    from ovf_dlr.preprocess import load_cases
    from ovf_dlr.radiomics import extract

    setVerbosity(60)
    (_, case), *_ = load_cases(pd.read_csv(folder / 'one.csv', index_col='vertebra_id'))
    image, mask = (
        sitk.GetImageFromArray(a) for a in (case.image.astype(float), case.mask.astype('uint32'))
    )
    for i in (image, mask):
        i.SetSpacing(case.spacing[::-1])
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=False, additionalInfo=False)
    extractor.disableAllFeatures()
    for name in ['shape2D', *FAMILIES]:
        extractor.enableFeatureClassByName(name)
    extractor.disableAllImageTypes()
    for name in TYPES[:-1]:
        extractor.enableImageTypeByName(
            name, customArgs=dict(sigma=[1, 2, 3]) if name == 'LoG' else None
        )
    theirs = pd.Series(dict(extractor.execute(image, mask)), dtype=float).rename(
        lambda name: name.replace('-mm-3D', '-mm')
    )
    mine = extract(case)
    common = mine.index.intersection(theirs.index)
    gap = (mine[common] - theirs[common]).abs() / theirs[common].abs().clip(lower=1e-12)
    return dict(
        common=len(common),
        ours=len(mine),
        worst=gap.idxmax(),
        largest=gap.max(),
        mine=mine[gap.idxmax()],
        theirs=theirs[gap.idxmax()],
    )


# All of them


def run(name, folder, python):
    "Measure one contestant in a fresh interpreter with one thread."
    one = {f'{k}_NUM_THREADS': '1' for k in ('OMP', 'OPENBLAS', 'MKL', 'NUMBA')} | dict(
        ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS='1'
    )
    call = [python, '-P', __file__, '--contestant', name, '--folder', str(folder)]
    done = subprocess.run(call, env=os.environ | one, text=True, capture_output=True)
    if done.returncode:
        return dict(
            skipped=f'failed: {(done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]}'
        )
    return json.loads(done.stdout.splitlines()[-1])


def show(rows):
    "One line per contestant; `times ours` against our first row, of this same run. Below, who could not run and why."
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column('contestant', no_wrap=True)
    for column in (
        's per vertebra',
        'first call',
        'features',
        'features per s',
        'peak MB',
        'times ours',
    ):
        table.add_column(column, justify='right')
    seconds = {name: statistics.median(r['seconds']) for name, r in rows.items() if 'seconds' in r}
    base = seconds.get(next(iter(CONTESTANTS)), float('nan'))
    for name, s in seconds.items():
        r, shown = rows[name], name.replace(',', f' {rows[name]["version"]},')
        table.add_row(
            shown,
            f'{s:.3f}',
            f'{r["seconds"][0]:.3f}',
            f'{r["features"]:,}',
            f'{r["features"] / s:,.0f}',
            f'{r["peak_mb"]:,.0f}',
            f'{s / base:.1f}',
        )
    Console(width=130).print(table)
    for name in [n for n in rows if n not in seconds]:
        print(f'{name}: {rows[name]["skipped"]}')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', default='3000x2500', help='rows x columns of the radiograph')
    parser.add_argument('--plain', action='store_true', help='run those that take minutes, too')
    parser.add_argument(
        '--peer-python',
        default=sys.executable,
        help='a Python with mirp and fastrad, if they are not in this one',
    )
    parser.add_argument('--json', type=Path, help='write all that was measured to this file')
    parser.add_argument('--contestant', help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        return print(
            json.dumps(
                agreement(args.folder)
                if args.contestant == 'agreement'
                else measure(args.contestant, args.folder)
            )
        )
    shape = tuple(map(int, args.size.split('x')))
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), shape)
        rows = {}
        for name, (_, _, long) in CONTESTANTS.items():
            if args.plain or not long:
                print(name, '...', file=sys.stderr)
                rows[name] = run(
                    name,
                    folder,
                    args.peer_python if package_of(name) in ('mirp', 'fastrad') else sys.executable,
                )
        print('agreement ...', file=sys.stderr)
        agreed = run('agreement', folder, sys.executable)
    show(rows)
    print("values:", agreed.get("skipped") or f"{agreed['common']:,} of our {agreed['ours']:,} features are also pyradiomics' own on the whole radiograph; the largest relative difference is "
          f"{agreed['largest']:.1e}, {agreed['worst']}: {agreed['mine']!r} against {agreed['theirs']!r}")  # fmt: skip
    if args.json:
        machine = dict(
            system=platform.system(),
            processor=platform.machine(),
            cpus=os.cpu_count(),
            python=platform.python_version(),
        )
        args.json.write_text(
            json.dumps(
                dict(radiograph=shape, machine=machine, contestants=rows, agreement=agreed),
                indent=1,
            )
        )


if __name__ == '__main__':
    main()
