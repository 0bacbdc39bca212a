"""The phantom: the study's margins, bytes that do not depend on the number of processes, DICOM that
a validator accepts."""

import hashlib
import shutil
import subprocess

import pandas as pd
import pydicom
import pytest

from ovf_dlr.phantom import DETECTORS, make_cohort
from ovf_dlr.phantom_patients import STUDY, draw_patients, excluded_patients, margins_table


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
    "The smoke cohort by one process and by two."
    folder = tmp_path_factory.mktemp('phantom')
    return [
        make_cohort(folder / f'jobs{n}', 'smoke', seed=3, progress=False, n_jobs=n) for n in (1, 2)
    ]


@pytest.mark.parametrize('seed', [1, 2])
def test_the_paper_size_keeps_every_count_of_the_paper(seed):
    table = margins_table(draw_patients('paper', seed))
    phantom = table.xs('phantom', axis=1, level=1)
    counts = ~table.index.get_level_values(1).isin(['mean', 'sd'])
    pd.testing.assert_frame_equal(phantom[counts], STUDY[counts], check_names=False)
    assert (phantom - STUDY)[~counts].abs().drop(('t_score', 'mean')).max(axis=None) <= 0.005 + 1e-9
    assert (phantom - STUDY).loc[('t_score', 'mean')].abs().max() <= 0.05


def test_one_process_and_two_write_the_same_bytes(smoke):
    def digests(manifest):
        "SHA-256 of every file of a cohort."
        files = sorted(p for p in manifest.parent.rglob('*') if p.is_file())
        return {
            str(p.relative_to(manifest.parent)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
        }

    one, two = map(digests, smoke)
    assert one == two
    assert len(one) > 100


def test_the_manifest_lists_excluded_patients_with_their_reason(smoke):
    manifest = pd.read_csv(smoke[0])
    out = manifest[manifest.exclusion.notna()]
    assert len(out) == len(excluded_patients('smoke', 3)) > 0
    assert out.drop(columns=['patient_id', 'center', 'exclusion']).isna().all(axis=None)
    assert manifest[manifest.exclusion.isna()].vertebra_id.is_unique
    assert not set(out.patient_id) & set(manifest[manifest.exclusion.isna()].patient_id)


def test_radiographs_name_the_machine_that_made_them(smoke):
    radiographs = (
        pd.read_csv(smoke[0]).dropna(subset='image').drop_duplicates('center').set_index('center')
    )
    for center, image in radiographs.image.items():
        ds = pydicom.dcmread(smoke[0].parent / image, stop_before_pixels=True)
        det = DETECTORS[center]
        assert (ds.Manufacturer, ds.ManufacturerModelName) == (det.maker, det.model)
        assert ds.DetectorType == det.kind
        assert ds.PixelIntensityRelationshipSign == (
            1 if ds.PhotometricInterpretation == 'MONOCHROME1' else -1
        )
        assert ds.ExposureTime * ds.XRayTubeCurrent / 1000 == pytest.approx(ds.Exposure, abs=0.5)
        assert str(ds.PatientName).startswith('PHANTOM^') and 'DeviceSerialNumber' not in ds


@pytest.mark.skipif(not shutil.which('dciodvfy'), reason='needs dciodvfy of dicom3tools')
def test_dciodvfy_finds_no_error(smoke):
    radiographs = pd.read_csv(smoke[0]).dropna(subset='image').drop_duplicates('center')
    for image in radiographs.image:
        report = subprocess.run(
            ['dciodvfy', smoke[0].parent / image], capture_output=True, text=True
        ).stderr
        assert 'DXImageForPresentation' in report and 'Error' not in report
