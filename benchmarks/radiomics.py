"""Radiomics of one vertebra on a full-size radiograph: this package and its peers, side by side.

    .venv/bin/python -P benchmarks/radiomics.py                      # under a minute
    .venv/bin/python -P benchmarks/radiomics.py --plain              # and the slow ones: minutes
    .venv/bin/python -P benchmarks/radiomics.py --peer-python PATH   # mirp, fastrad: from elsewhere
    .venv/bin/python -P benchmarks/radiomics.py --size 600x500       # does all of it run?

(-P keeps Python from taking this file for pyradiomics, whose package is also called `radiomics`.)

The slow ones are pyradiomics as most call it, and mirp with all its images.

Each contestant is a process of its own with one thread. It reads a 16-bit DICOM radiograph and a
mask from the disk and computes its features; imports are not counted, reading is. All take the full
radiograph, with 32 bins, in the plane, Z-scored where they can. pyradiomics refuses LoG on one
slice, and skips LBP2D unless scikit-image is installed. mirp has no gradient, and its shape is that
of a mesh in 3-D: both are left out. fastrad has no filters and no fixed number of bins, and is
given the matching width; it reads only DICOM, so its mask is one. Peak memory is that of the
process, libraries included (Linux).
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


def rounded(shape, center, half):
    "(H, W) bool: a rounded rectangle, center and half sizes in pixels."
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - center[0]) / half[0]) ** 4 + ((columns - center[1]) / half[1]) ** 4 <= 1


def bodies(shape, n):
    """(H, W) uint8: `n` bodies, one above the other.

    Each has 7 % of the radiograph's height, 10 % of its width: 210 x 250 pixels of 3000 x 2500."""
    import numpy as np

    labels = np.zeros(shape, np.uint8)
    for k in range(n):
        center = shape[0] * (0.35 + 0.09 * k), shape[1] * (0.45 + 0.02 * k)
        labels[rounded(shape, center, (shape[0] * 0.035, shape[1] * 0.05))] = k + 1
    return labels


def grey(shape, labels, seed=0):
    "(H, W) uint16, 14 bits used: broad shades, fine texture, brighter where there is a body."
    import numpy as np
    from scipy.ndimage import gaussian_filter, zoom

    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.normal(size=[-(-n // 20) for n in shape]), 4)
    coarse = zoom(coarse, 20, order=1)[: shape[0], : shape[1]]
    fine = gaussian_filter(rng.normal(size=shape), 2) * 8
    radiograph = 6 * coarse / coarse.std() + fine + 2 * (labels > 0)
    scaled = (radiograph - radiograph.min()) / np.ptp(radiograph)
    return np.rint(scaled * (2**14 - 1)).astype(np.uint16)


STORED = dict(
    Modality='DX',
    PatientID='bench',
    ImagerPixelSpacing=[SPACING] * 2,
    PixelSpacing=[SPACING] * 2,
    BitsAllocated=16,
    BitsStored=14,
    HighBit=13,
    PixelRepresentation=0,
    SamplesPerPixel=1,
    PhotometricInterpretation='MONOCHROME2',
    RescaleSlope=1,
    RescaleIntercept=0,
)
UIDS = 'StudyInstanceUID', 'SeriesInstanceUID', 'SOPInstanceUID', 'FrameOfReferenceUID'


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
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.Rows, ds.Columns = pixels.shape
    for name, value in (STORED | {name: generate_uid() for name in UIDS}).items():
        setattr(ds, name, value)
    ds.PixelData = pixels.astype('<u2').tobytes()
    path.parent.mkdir(exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


def write_inputs(folder, shape):
    "Radiographs, masks with one and with four bodies, and the cohort tables."
    import SimpleITK as sitk

    first = folder / 'radiograph' / '0.dcm'
    write_dicom(first, grey(shape, bodies(shape, 4)))
    images = [first, *(folder / f'radiograph{i}.dcm' for i in range(1, MANY))]
    for copy in images[1:]:
        os.link(first, copy)
    placed = sitk.ReadImage(str(first))
    for n in (1, 4):
        mask = sitk.GetImageFromArray(bodies(shape, n)[None])
        mask.CopyInformation(placed)
        sitk.WriteImage(mask, str(folder / f'mask{n}.nii.gz'))
    write_dicom(folder / 'mask' / '0.dcm', bodies(shape, 1))  # fastrad reads nothing else
    write_cohort(folder, 'one', 1, images[:1])
    write_cohort(folder, 'four', 4, images[:1])
    write_cohort(folder, 'many', 4, images)


def write_cohort(folder, name, n, images):
    "The table of a cohort with `n` vertebrae on each radiograph."
    import pandas as pd

    mask = str(folder / f'mask{n}.nii.gz')
    rows = [
        (f'{i}/{k}', str(image), mask, k + 1) for i, image in enumerate(images) for k in range(n)
    ]
    table = pd.DataFrame(rows, columns=['vertebra_id', 'image', 'mask', 'mask_label'])
    table.to_csv(folder / f'{name}.csv', index=False)


# The contestants: each imports what it needs and returns what is timed, a function that gives the
# features of all vertebrae


def ours(folder, cohort):
    "This package, on one of the cohort tables."
    import pandas as pd

    from ovf_dlr.radiomics import extract_cohort

    table = pd.read_csv(folder / f'{cohort}.csv', index_col='vertebra_id')

    def work():
        "A dict of features for every vertebra."
        return extract_cohort(table).to_dict('records')

    return work


def enable_images(extractor, types):
    "Switch on image types of a pyradiomics extractor."
    for name in types:
        extractor.enableImageTypeByName(
            name, customArgs=dict(sigma=[1, 2, 3]) if name == 'LoG' else None
        )


def enable_plane_features(extractor):
    "Switch on the features of a plane alone, without 3-D shape."
    extractor.disableAllFeatures()
    for name in ['shape2D', *FAMILIES]:
        extractor.enableFeatureClassByName(name)


def pyradiomics(folder, shape3d):
    "As its documentation calls it, with `force2D`, on the radiograph as a volume of one slice."
    from radiomics import setVerbosity
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    setVerbosity(60)
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=True, normalize=True)
    enable_images(extractor, TYPES)
    if not shape3d:
        enable_plane_features(extractor)
    paths = [str(folder / 'radiograph' / '0.dcm'), str(folder / 'mask1.nii.gz')]

    def work():
        "The features, without the diagnostics."
        found = extractor.execute(*paths)
        return [{k: float(v) for k, v in found.items() if not k.startswith('diagnostics')}]

    return work


MIRP_FILTERS = dict(
    filter_kernels=[
        'pyradiomics_square',
        'pyradiomics_square_root',
        'pyradiomics_logarithm',
        'pyradiomics_exponential',
        'separable_wavelet',
        'laplacian_of_gaussian',
    ],
    separable_wavelet_families='coif1',
    separable_wavelet_set=['lh', 'hl', 'hh', 'll'],
    separable_wavelet_rotation_invariance=False,
    laplacian_of_gaussian_sigma=[1.0, 2.0, 3.0],
    laplacian_of_gaussian_kernel_truncate=4.0,
    ibsi_compliant=False,
)
MIRP_FEATURES = dict(
    feature_families=['statistics', 'glcm', 'glrlm', 'glszm', 'ngtdm', 'ngldm'],
    discretisation_method='fixed_bin_number',
    discretisation_n_bins=32,
)


def mirp(folder, filters):
    "With all of its filters, or on the original image alone."
    import logging

    from mirp import extract_features

    logging.disable()
    settings = {f'{on}_{k}': v for on in ('base', 'response_map') for k, v in MIRP_FEATURES.items()}
    given = dict(
        image=str(folder / 'radiograph' / '0.dcm'),
        mask=str(folder / 'mask1.nii.gz'),
        by_slice=True,
        intensity_normalisation='standardisation',
    )
    # it imports two thousand modules when it reads its first file: not counted either
    extract_features(**given, base_feature_families='statistics')

    def work():
        "The features, without the columns that describe what was read."
        table = extract_features(**given, **settings, **(MIRP_FILTERS if filters else {}))[0]
        row = table.iloc[0].items()
        return [{k: float(v) for k, v in row if not k.startswith(('sample_', 'image_'))}]

    return work


def fastrad(folder):
    "On the original image, with the bin width that makes 32 bins."
    from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage

    def work():
        "Read both files, and compute."
        image = MedicalImage.from_dicom(folder / 'radiograph')
        mask = Mask.from_dicom(folder / 'mask')
        inside = image.tensor[mask.tensor > 0]
        width = float(inside.max() - inside.min()) / 32
        classes = ['shape2d', *FAMILIES]
        settings = FeatureSettings(
            feature_classes=classes, bin_width=width, device='cpu', force2D=True
        )
        return [FeatureExtractor(settings).extract(image, mask)]

    return work


CONTESTANTS = {  # name, which begins with the package: what it runs, repeats, only with --plain
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
    "The package that a contestant's name begins with."
    return name.split(',')[0]


# One contestant, in its own process


def peak_mb():
    "The most memory this process ever held. Not `ru_maxrss`, which a child inherits."
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) / 1024


def measure(name, folder):
    "Seconds per vertebra of every repeat, features per vertebra, memory."
    prepare, repeats, _ = CONTESTANTS[name]
    try:
        work = prepare(folder)
    except ModuleNotFoundError as e:
        install = f'uv pip install {package_of(name)}, here or where --peer-python points'
        return dict(skipped=f'not installed (no module {e.name}): {install}')
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
    "Ours against pyradiomics on the full radiograph: how many in common, which differs most."
    import pandas as pd

    from ovf_dlr.preprocess import load_cases
    from ovf_dlr.radiomics import extract

    (_, case), *_ = load_cases(pd.read_csv(folder / 'one.csv', index_col='vertebra_id'))
    mine, theirs = extract(case), full_radiograph(case)
    common = mine.index.intersection(theirs.index)
    gap = (mine[common] - theirs[common]).abs() / theirs[common].abs().clip(lower=1e-12)
    worst = gap.idxmax()
    return dict(
        common=len(common),
        ours=len(mine),
        worst=worst,
        largest=gap.max(),
        mine=mine[worst],
        theirs=theirs[worst],
    )


def full_radiograph(case):
    "pyradiomics' own extractor on the radiograph as a 2-D image, image type by image type."
    import pandas as pd
    import SimpleITK as sitk
    from radiomics import setVerbosity
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    setVerbosity(60)
    image = sitk.GetImageFromArray(case.image.astype(float))
    mask = sitk.GetImageFromArray(case.mask.astype('uint32'))
    for i in (image, mask):
        i.SetSpacing(case.spacing[::-1])
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=False, additionalInfo=False)
    enable_plane_features(extractor)
    extractor.disableAllImageTypes()
    enable_images(extractor, TYPES[:-1])
    found = pd.Series(dict(extractor.execute(image, mask)), dtype=float)
    return found.rename(lambda name: name.replace('-mm-3D', '-mm'))


# All of them


def run(name, folder, python):
    "Measure one contestant in a fresh interpreter with one thread."
    one = {f'{k}_NUM_THREADS': '1' for k in ('OMP', 'OPENBLAS', 'MKL', 'NUMBA')}
    one['ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS'] = '1'
    call = [python, '-P', __file__, '--contestant', name, '--folder', str(folder)]
    done = subprocess.run(call, env=os.environ | one, text=True, capture_output=True)
    if done.returncode:
        reason = done.stderr.strip() or f'exit status {done.returncode}'
        return dict(skipped=f'failed: {reason.splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


COLUMNS = 's per vertebra', 'first call', 'features', 'features per s', 'peak MB', 'times ours'


def show(rows):
    """One line per contestant; `times ours` against our first row, of this same run.

    Below, which could not run and why."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column('contestant', no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify='right')
    seconds = {name: statistics.median(r['seconds']) for name, r in rows.items() if 'seconds' in r}
    base = seconds.get(next(iter(CONTESTANTS)), float('nan'))
    for name, s in seconds.items():
        table.add_row(*line(name, rows[name], s, base))
    Console(width=130).print(table)
    for name in [n for n in rows if n not in seconds]:
        print(f'{name}: {rows[name]["skipped"]}')


def line(name, row, seconds, base):
    "What was measured of one contestant, as text, by column."
    return (
        name.replace(',', f' {row["version"]},'),
        f'{seconds:.3f}',
        f'{row["seconds"][0]:.3f}',
        f'{row["features"]:,}',
        f'{row["features"] / seconds:,.0f}',
        f'{row["peak_mb"]:,.0f}',
        f'{seconds / base:.1f}',
    )


def show_agreement(agreed):
    "How far our values are from those of pyradiomics on the full radiograph."
    print('values:', end=' ')
    if 'skipped' in agreed:
        return print(agreed['skipped'])
    print(
        f"{agreed['common']:,} of our {agreed['ours']:,} features are also pyradiomics' own "
        f'on the full radiograph; the largest relative difference is {agreed["largest"]:.1e}, '
        f'{agreed["worst"]}: {agreed["mine"]!r} against {agreed["theirs"]!r}'
    )


def arguments():
    "The command line."
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
    return parser.parse_args()


def compare(args):
    "Measure every contestant on the same files, and the agreement."
    shape = tuple(map(int, args.size.split('x')))
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), shape)
        rows = {}
        for name, (_, _, slow) in CONTESTANTS.items():
            if args.plain or not slow:
                print(name, '...', file=sys.stderr)
                elsewhere = package_of(name) in ('mirp', 'fastrad')
                rows[name] = run(name, folder, args.peer_python if elsewhere else sys.executable)
        print('agreement ...', file=sys.stderr)
        agreed = run('agreement', folder, sys.executable)
    machine = dict(
        system=platform.system(),
        processor=platform.machine(),
        cpus=os.cpu_count(),
        python=platform.python_version(),
    )
    return dict(radiograph=shape, machine=machine, contestants=rows, agreement=agreed)


def main():
    "One contestant, or all of them."
    args = arguments()
    if args.contestant == 'agreement':
        return print(json.dumps(agreement(args.folder)))
    if args.contestant:
        return print(json.dumps(measure(args.contestant, args.folder)))
    measured = compare(args)
    show(measured['contestants'])
    show_agreement(measured['agreement'])
    if args.json:
        args.json.write_text(json.dumps(measured, indent=1))


if __name__ == '__main__':
    main()
