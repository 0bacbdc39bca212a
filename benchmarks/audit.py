"""How long `ovf-dlr check` takes for 1,000 vertebrae, against merely decoding the same files.

    .venv/bin/python -P benchmarks/audit.py [--radiographs 940]

Radiographs of the smoke phantom are copied under new names, a few pixels changed in each, so that
no two are alike.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import SimpleITK as sitk

from ovf_dlr.phantom import make_cohort


def enlarge(source: Path, target: Path, radiographs: int) -> Path:
    "A cohort of different radiographs, with the vertebrae of the smoke phantom over and over."
    small = pd.read_csv(source / 'manifest.csv', dtype=str).dropna(subset='image')
    patients, rows = [vertebrae for _, vertebrae in small.groupby('patient_id')], []
    (target / 'images').mkdir(parents=True)
    (target / 'masks').mkdir()
    for i in range(radiographs):
        group = patients[i % len(patients)]
        radiograph = pydicom.dcmread(source / group.image.iloc[0])
        pixels = radiograph.pixel_array.copy()
        pixels[0, :8] = np.array([i >> (4 * k) & 15 for k in range(8)])
        radiograph.PixelData = pixels.tobytes()
        radiograph.PatientID, radiograph.PatientName = f'Q{i:04d}', ''
        radiograph.save_as(target / f'images/{i}.dcm')
        (target / f'masks/{i}.nii.gz').write_bytes((source / group['mask'].iloc[0]).read_bytes())
        rows.append(
            group.assign(
                patient_id=f'Q{i:04d}',
                vertebra_id=[f'v{i}_{k}' for k in range(len(group))],
                image=f'images/{i}.dcm',
                mask=f'masks/{i}.nii.gz',
            )
        )
    pd.concat(rows).to_csv(target / 'manifest.csv', index=False)
    return target / 'manifest.csv'


def plain(manifest: Path) -> float:
    "Seconds to decode every radiograph and mask once, one after the other."
    table, start = pd.read_csv(manifest), time.perf_counter()
    for radiograph in table.image.unique():
        pydicom.dcmread(manifest.parent / radiograph).pixel_array
    for mask in table['mask'].unique():
        sitk.GetArrayFromImage(sitk.ReadImage(manifest.parent / mask))
    return time.perf_counter() - start


def main():
    "Time `ovf-dlr check` on an enlarged smoke cohort."
    parser = argparse.ArgumentParser()
    parser.add_argument('--radiographs', type=int, default=940)
    with tempfile.TemporaryDirectory() as folder:
        source = make_cohort(Path(folder) / 'smoke', 'smoke', progress=False).parent
        manifest = enlarge(source, Path(folder) / 'large', parser.parse_args().radiographs)
        rows = len(pd.read_csv(manifest))
        reading, start = plain(manifest), time.perf_counter()
        done = subprocess.run(
            [Path(sys.executable).with_name('ovf-dlr'), 'check', '--manifest', manifest],
            text=True,
            capture_output=True,
        )
        taken = time.perf_counter() - start
    print(done.stdout[-400:])
    print(
        f'ovf-dlr check: {taken:.1f} s for {rows} rows, start-up included; '
        f'decoding alone, one core: {reading:.1f} s; ratio {taken / reading:.1f}'
    )


if __name__ == '__main__':
    main()
