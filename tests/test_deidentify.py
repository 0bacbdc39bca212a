"""A hostile cohort goes in; nothing of it may come out.

Here is what a notebook cannot hold: real encodings, SEG objects, a validator, a failure half-way.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image, PngImagePlugin
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    generate_uid,
)

import ovf_dlr.deidentify as module
from ovf_dlr.acquisition import acquisition_table
from ovf_dlr.cohort import read_manifest
from ovf_dlr.deidentify import deidentify_cohort, deidentify_files
from ovf_dlr.files import SCRATCH, remove_scratch
from ovf_dlr.formats import clean_file, verify_deidentified
from ovf_dlr.identity import (
    BurnedInWarning,
    DeidentificationError,
    _identifying,
    deidentify_dataset,
    identity_left,
    new_key,
)
from ovf_dlr.manifest import CohortError
from ovf_dlr.phantom import DETECTORS, write_dicom
from ovf_dlr.preprocess import load_cases

SHAPE = (60, 40)
PEOPLE = {  # patient id: (name, character set, every word that must be gone)
    'MRN-778812': ("O'HARROWGATE^Philippa^Jane^Dr^III", 'ISO_IR 100', ['Harrowgate', 'Philippa']),
    'MRN-778813': ('Größenwähner^Jörgdieter', 'ISO_IR 100', ['Größenwähner', 'Jörgdieter']),
    'MRN-778814': (
        'Yamadasaki^Tarouichi=山田崎^太郎一=やまださき^たろういち',
        'ISO_IR 192',
        ['Yamadasaki', '山田崎', '太郎一', 'やまださき'],
    ),
    'MRN-778815': (
        'Suzukihara^Hanakorin=鈴木原^花子凛',
        ['', 'ISO 2022 IR 87'],
        ['Suzukihara', '鈴木原', '花子凛'],
    ),
    'MRN-778816': ('Zhangwei^Xiaoming=张为民^晓明华', 'GB18030', ['Zhangwei', '张为民', '晓明华']),
    'MRN-778817': ('Кузнецова^Прасковья', 'ISO_IR 144', ['Кузнецова', 'Прасковья']),
}
ENCODINGS = (
    'utf-8',
    'latin-1',
    'utf-16-le',
    'utf-16-be',
    'shift_jis',
    'iso2022_jp',
    'gb18030',
    'iso8859-5',
    'euc_jp',
)


def turned(name):
    "The first group of a person name as people write it in labels."
    family, given = name.split('=')[0].split('^')[:2]
    return f'{given} {family}'


HEADER = dict(
    SOPClassUID=DigitalXRayImageStorageForPresentation,
    Modality='DX',
    ImageType=['ORIGINAL', 'PRIMARY', ''],
    PatientSex='F',
    PatientAge='097Y',
    PatientBirthDate='19230817',
    StudyDate='20200817',
    SeriesDate='20200817',
    ContentDate='20200817',
    AcquisitionDateTime='20200817101112',
    StudyTime='101112',
    SeriesNumber='1',
    InstanceNumber='1',
    Manufacturer='Acme',
    ManufacturerModelName='DR 5',
    KVP='80',
    BodyPartExamined='SPINE',
    BurnedInAnnotation='NO',
    Rows=SHAPE[0],
    Columns=SHAPE[1],
    SamplesPerPixel=1,
    PhotometricInterpretation='MONOCHROME2',
    BitsAllocated=16,
    BitsStored=12,
    HighBit=11,
    PixelRepresentation=0,
    ImagerPixelSpacing=[0.2, 0.2],
)


def dataset(**tags):
    "A dataset, or an item of a sequence, with these attributes."
    ds = Dataset()
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    return ds


def add_labels(ds, name, patient):
    "The patient in attributes made for it, and in free text: in the table and not in the table."
    ds.PatientName = ds.ReferringPhysicianName = ds.OperatorsName = name
    ds.PatientID = ds.AccessionNumber = ds.StudyID = patient
    ds.OtherPatientIDs = [patient + '-B', 'SSN-112233']
    ds.DetectorDescription = ds.SeriesDescription = turned(name)
    ds.ViewCodeSequence = [hd.sr.CodedConcept('1', '99LOCAL', turned(name)[:64])]  # it stays
    ds.DataSetTrailingPadding = patient.encode() + b'\0\0'
    ds.preamble = patient.encode().ljust(128, b'\0')


def add_sequences(ds, name, patient):
    "The patient in nested items, beside references that must survive."
    own = ds.SOPInstanceUID
    deep = dataset(PatientName=name, OperatorsName=name, ReferencedSOPInstanceUID=own)
    ds.ReferencedSeriesSequence = [
        dataset(SeriesInstanceUID=ds.SeriesInstanceUID, ReferencedInstanceSequence=[deep])
    ]
    ds.SourceImageSequence = [
        dataset(ReferencedSOPInstanceUID=own, PatientID=patient, TextValue=turned(name))
    ]
    ds.ContentSequence = [dataset(TextValue=name)]


def add_private_groups(ds, name, patient):
    "The patient in a private block, in overlays and in a curve."
    block = ds.private_block(0x0019, 'HARROWGATE INC', create=True)
    block.add_new(1, 'LO', turned(name))
    block.add_new(2, 'SQ', [dataset(PatientName=name)])
    block.add_new(3, 'UN', name.encode('utf-8'))
    for group in (0x6000, 0x6002):
        for element, value in ((0x0010, 8), (0x0011, 8), (0x0100, 1)):
            ds.add_new((group, element), 'US', value)
        ds.add_new((group, 0x0022), 'LO', turned(name))
        ds.add_new((group, 0x3000), 'OW', (patient.encode() + b'\0' * 40)[:40])
    ds.add_new((0x5000, 0x0022), 'LO', turned(name))


def add_pixels(ds, seed, syntax):
    "Random pixels in the byte order or compression of the transfer syntax."
    pixels = np.random.default_rng(seed).integers(0, 4096, SHAPE).astype('<u2')
    ds.PixelData = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
    ds['PixelData'].VR = 'OW'
    if syntax == JPEG2000Lossless:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)


def radiograph(patient, syntax=ExplicitVRLittleEndian):
    "A radiograph that carries its patient everywhere a patient can hide."
    name, charset, _ = PEOPLE[patient]
    ds = dataset(SpecificCharacterSet=charset, **HEADER)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=[patient, k]) for k in 'abcd'
    )
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.SourceApplicationEntityTitle = 'HARROWGATE'
    ds.file_meta.SendingApplicationEntityTitle = 'PHILIPPA'
    add_labels(ds, name, patient)
    add_sequences(ds, name, patient)
    add_private_groups(ds, name, patient)
    add_pixels(ds, len(name), syntax)
    return ds


def segment_of(name):
    "The description of one vertebral body, labelled with the patient's name."
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=f'L1 {turned(name)}'[:60],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Vertebra,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_id=turned(name),
        tracking_uid=generate_uid(),
    )


def segmentation(path, name):
    "A DICOM SEG of one body of the radiograph in `path`."
    source = pydicom.dcmread(path)
    for keyword in ('DataSetTrailingPadding', 'ContentSequence'):
        delattr(source, keyword)
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:40, 10:30] = 1
    return hd.seg.Segmentation(
        [source],
        mask,
        hd.seg.SegmentationTypeValues.BINARY,
        [segment_of(name)],
        generate_uid(),
        2,
        generate_uid(),
        1,
        'Acme',
        'drawer',
        '1',
        'SN-556677',
        content_label='BODY',
        content_creator_name=name.split('=')[0],
        series_description=turned(name),
    )


def square_mask(path):
    "A NIfTI mask of 20 x 20 pixels, its bytes."
    image = sitk.GetImageFromArray(np.pad(np.ones((20, 20), np.uint8), ((20, 20), (10, 10))))
    image.SetSpacing((0.2, 0.2))
    image.SetOrigin((1.5, -2.5))
    sitk.WriteImage(image, str(path))
    raw = path.read_bytes()
    path.unlink()
    return bytearray(raw)


def nifti(path, patient):
    "A gzipped mask with names in its free fields, an extension, a tail, and the gzip header."
    name = turned(PEOPLE[patient][0]).encode('utf-8')
    raw = square_mask(path.with_suffix(''))
    for at, size in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):
        raw[at : at + size] = name[:size].ljust(size, b'\0')
    extension = (
        (48).to_bytes(4, 'little') + (6).to_bytes(4, 'little') + patient.encode().ljust(40, b'\0')
    )
    raw[108:112] = np.float32(400).tobytes()
    data = bytes(raw[:348]) + b'\1\0\0\0' + extension + bytes(raw[352:]) + name
    with open(path, 'wb') as f, gzip.GzipFile(f'{patient}.nii', 'wb', fileobj=f) as g:
        g.write(data)


def picture(path, patient):
    "A PNG or JPEG radiograph with names in its metadata."
    grey = np.random.default_rng(3).integers(0, 255, SHAPE).astype(np.uint8)
    note, exif = PngImagePlugin.PngInfo(), Image.Exif()
    note.add_text('Patient', patient)
    note.add_itxt('Name', PEOPLE[patient][0], zip=True)
    exif[0x010E] = exif[0x013B] = patient
    notes = dict(exif=exif, comment=patient.encode(), quality=90)
    Image.fromarray(grey).save(path, **(dict(pnginfo=note) if path.suffix == '.png' else notes))
    with open(path, 'ab') as f:
        f.write(patient.encode())


SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
)  # of the first four patients; the fifth has a PNG, the last a JPEG


def write_patient(folder, i, patient):
    "Radiograph and mask of the i-th patient; their names, which name the patient as well."
    name, _, words = PEOPLE[patient]
    stem = f'{words[-1]} {patient}'
    image = folder / f'{stem}{(".dcm", ".dcm", ".dcm", ".dcm", ".png", ".jpg")[i]}'
    mask = folder / f'{stem}{"_seg.dcm" if i == 0 else ".nii.gz"}'
    if image.suffix == '.dcm':
        radiograph(patient, SYNTAXES[i]).save_as(image, enforce_file_format=True)
    else:
        picture(image, patient)
    if i == 0:
        segmentation(image, name).save_as(mask)
    else:
        nifti(mask, patient)
    return image.name, mask.name


def rows_of(i, patient, image, mask):
    "The rows of the i-th patient in the manifest: two vertebrae."
    return [
        dict(
            vertebra_id=f'{patient}_{PEOPLE[patient][2][0]}_{level}',
            patient_id=patient,
            center='II' if i > 3 else 'I',
            image=image,
            mask=mask,
            level=level,
            age=88 + i,
            fracture_class=k,
            split='train' if i < 3 else 'internal',
            phone='0123 456789',
            radiograph_date='2020-08-17',
        )
        for k, level in enumerate(('T12', 'L1'))
    ]


@pytest.fixture(scope='module')
def hospital(tmp_path_factory):
    "The cohort as the hospital keeps it: six patients, one radiograph each, in as many forms."
    folder, rows = tmp_path_factory.mktemp('hospital'), []
    for i, patient in enumerate(PEOPLE):
        rows += rows_of(i, patient, *write_patient(folder, i, patient))
    rows.append(dict(patient_id='MRN-778899', center='I', exclusion='metastasis'))
    pd.DataFrame(rows).to_csv(folder / 'manifest.csv', index=False)
    readings = pd.DataFrame(rows[2:6])[['vertebra_id', 'mask']]
    readings.insert(1, 'reader', 'B')
    readings.insert(2, 'session', 1)
    readings.assign(drawn_by='HARROWGATE').to_csv(folder / 'readings.csv', index=False)
    (folder / 'cohort.yml').write_text('name: spine\nlabel: ASTLOF class\ncontact: Philippa\n')
    return folder


@pytest.fixture(scope='module')
def freed(hospital, tmp_path_factory):
    "The cohort without identity, its key file, and the report."
    folder = tmp_path_factory.mktemp('free')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        report = deidentify_cohort(hospital / 'manifest.csv', folder / 'out', folder / 'key.json')
    return folder / 'out', json.loads((folder / 'key.json').read_text()), report


def every_byte(folder):
    "Name and content of every file, as stored and as unpacked."
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        data = path.read_bytes()
        yield (
            path,
            path.relative_to(folder).as_posix().encode()
            + b'\n'
            + data
            + (gzip.decompress(data) if path.name.endswith('.gz') else b''),
        )


def test_the_search_would_find_it(hospital):
    "The test of the test: every word is in the hospital's bytes."
    content = b''.join(data for _, data in every_byte(hospital))
    assert len(verify_deidentified(hospital, ['Harrowgate', 'MRN-778812'])) > 10
    for patient, (_, _, words) in PEOPLE.items():
        for word in (patient, *words):
            assert any(word.encode(e, 'ignore') in content for e in ENCODINGS), word


ALSO_GONE = ('SSN-112233', '19230817', 'SN-556677', '20200817', '0123 456789')


def leaks(data):
    "Every word of a patient that is found in the bytes, in any encoding."
    low = data.lower()
    words = [w for patient, (_, _, names) in PEOPLE.items() for w in (patient, patient[4:], *names)]
    for word in (*words, *ALSO_GONE):
        for encoding in ENCODINGS:
            wanted = word.encode(encoding, 'ignore').lower()
            if len(wanted.replace(b'\0', b'')) < 6:
                continue
            if re.search(rb'(?<!\d)' + re.escape(wanted) + rb'(?!\d)', low):
                yield f'{word} ({encoding})'


def test_no_byte_of_a_name_or_an_id_is_left(freed):
    "No word in any file or file name; columns that nobody knows are dropped."
    out, _, report = freed
    assert (report.patients, report.radiographs, report.masks) == (7, 6, 6)
    for path, data in every_byte(out):
        assert not list(leaks(data)), path.name
    assert set(report.dropped) == {'phone', 'radiograph_date'}


def test_headers_are_clean(freed):
    "No private group, curve or overlay, an empty preamble, and a note of what was done."
    for path, data in every_byte(freed[0]):
        if path.suffix != '.dcm':
            continue
        ds = pydicom.dcmread(path)
        for e in ds.iterall():
            assert not e.tag.is_private and e.tag.group & 0xFF00 not in (0x5000, 0x6000)
        assert identity_left(path) == []
        assert data[data.index(b'DICM') - 128 : data.index(b'DICM')] == bytes(128)
        assert ds.PatientIdentityRemoved == 'YES'
        assert ds.DeidentificationMethodCodeSequence[0].CodeValue == '113100'


def assert_same_dicom(before, after):
    "Two DICOM files have the same pixels, stored in the same way."
    a, b = pydicom.dcmread(before), pydicom.dcmread(after)
    np.testing.assert_array_equal(a.pixel_array, b.pixel_array)
    assert a.file_meta.TransferSyntaxUID == b.file_meta.TransferSyntaxUID
    assert a.PixelData == b.PixelData


def assert_same_picture(before, after):
    "Two files have the same pixels at the same place."
    a, b = (sitk.ReadImage(str(p)) for p in (before, after))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
    assert a.GetSpacing() == b.GetSpacing()
    assert a.GetOrigin() == b.GetOrigin()
    assert a.GetDirection() == b.GetDirection()


def test_pixels_and_geometry_are_untouched(hospital, freed):
    "Every file shows what it showed, and belongs to the row it belonged to."
    out, key, _ = freed
    table, old = pd.read_csv(out / 'manifest.csv'), pd.read_csv(hospital / 'manifest.csv')
    for i in range(len(old) - 1):
        assert key['vertebrae'][table.vertebra_id[i]] == old.vertebra_id[i]
        assert key['patients'][table.patient_id[i]] == old.patient_id[i]
        for column in ('image', 'mask'):
            before, after = hospital / old[column][i], out / table[column][i]
            same = assert_same_dicom if after.suffix == '.dcm' else assert_same_picture
            same(before, after)


def test_the_columns_of_the_contract_are_kept(hospital, freed):
    "Ages over 89 are 90; classes, splits, levels and exclusions stay."
    table, old = (pd.read_csv(folder / 'manifest.csv') for folder in (freed[0], hospital))
    assert table.age[:-1].max() == 90 and table.age[2] == 89
    assert table.exclusion.iloc[-1] == 'metastasis'
    for column in ('fracture_class', 'split', 'level'):
        assert table[column].equals(old[column])


def reference(ds):
    "The instance to which the first item of the Referenced Series Sequence refers."
    series = ds.ReferencedSeriesSequence[0]
    return series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID


def test_a_segmentation_still_names_its_radiograph(freed):
    "UIDs agree between the files; the name in the segment's label is gone."
    out, _, _ = freed
    table = pd.read_csv(out / 'manifest.csv')
    image, seg = pydicom.dcmread(out / table.image[0]), pydicom.dcmread(out / table['mask'][0])
    assert seg.StudyInstanceUID == image.StudyInstanceUID
    assert seg.PatientID == image.PatientID == table.patient_id[0]
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID
    assert reference(seg) == reference(image) == image.SOPInstanceUID
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert seg.SegmentSequence[0].SegmentLabel == 'ANONYMIZED'
    assert '1.2.840.10008' in seg.SOPClassUID
    for ds in (image, seg):
        assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
        assert ds.SOPInstanceUID.startswith('2.25.')


def errors_of(path):
    "What dciodvfy objects to, without the values it quotes."
    run = subprocess.run(['dciodvfy', path], capture_output=True, text=True, errors='replace')
    return {
        re.sub(r'(?<!Element=)(?<!Module=)<[^>]*>', '<>', line)
        for line in (run.stdout + run.stderr).splitlines()
        if line.startswith('Error')
    }


VALID = dict(  # what a valid radiograph needs besides what the phantom writes
    StudyTime='101112',
    AccessionNumber='A',
    ReferringPhysicianName='A^B',
    StudyID='1',
    SeriesNumber='1',
    PatientBirthDate='19500101',
    LossyImageCompression='00',
    DetectorType='SCINTILLATOR',
    DetectorID='SN-1',
    PositionerType='NONE',
    AcquisitionContextSequence=[],
    ContentDate='20200817',
    ContentTime='101112',
    AnatomicRegionSequence=[hd.sr.CodedConcept('421060004', 'SCT', 'Spine')],
    InstitutionName='H',
    StationName='R5',
    DeviceSerialNumber='SN-2',
    ProtocolName='L',
    DataSetTrailingPadding=b'\0\0',
    ContentSequence=[],
)


@pytest.fixture
def objects(tmp_path):
    "A folder with a valid radiograph, a SEG of it, and a hostile radiograph."
    patient = pd.Series(dict(patient_id='MRN-778812', sex='Female', age=71, center='I'))
    pixels = np.linspace(0, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    write_dicom(tmp_path / 'phantom.dcm', pixels, patient, DETECTORS['I'])
    source = pydicom.dcmread(tmp_path / 'phantom.dcm')
    for keyword, value in VALID.items():
        setattr(source, keyword, value)
    source.save_as(tmp_path / 'source.dcm', enforce_file_format=True)
    segmentation(tmp_path / 'source.dcm', 'HARROWGATE^Philippa').save_as(tmp_path / 'seg.dcm')
    radiograph('MRN-778812').save_as(tmp_path / 'hostile.dcm', enforce_file_format=True)
    return tmp_path


@pytest.mark.skipif(
    not shutil.which('dciodvfy'),
    reason='dciodvfy is not installed (Debian: apt install dicom3tools)',
)
@pytest.mark.parametrize('keep', (False, True))
@pytest.mark.parametrize('name', ('source', 'seg', 'hostile'))
def test_dicom_objects_are_no_worse_than_before(name, keep, objects):
    "De-identification adds no violation of the standard."
    before = errors_of(objects / f'{name}.dcm')
    deidentify_files([objects / f'{name}.dcm'], objects / 'out', keep_characteristics=keep)
    new = errors_of(next((objects / 'out').iterdir())) - before
    assert not new, new
    assert name != 'source' or len(before) < 3, before


def samples():
    "The small images that pydicom ships and can read."
    for path in sorted(Path(pydicom.__file__).parent.glob('data/test_files/*.dcm')):
        try:
            ds = pydicom.dcmread(path)
        except Exception:  # some are broken on purpose
            continue
        if 'PixelData' in ds and path.stat().st_size <= 5e5:
            yield path, ds


@pytest.mark.filterwarnings('ignore')
def test_radiographs_of_other_makers_survive():
    "Every sample has the same pixels afterwards and no identity, unless it is refused for cause."
    key, seen = new_key(), 0
    for path, ds in samples():
        try:
            after = deidentify_dataset(ds, key)
        except DeidentificationError as e:
            assert re.search('transfer syntax|SOPInstanceUID|bits', str(e)), e
            continue
        assert after.PixelData == ds.PixelData and _identifying(after, True) == set(), path.name
        seen += 1
    assert seen > 30


CUT_SHORT = {'CT_small.dcm': 'breaks off', 'JPEG2000.dcm': 'holds no pixels'}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', CUT_SHORT)
def test_a_dicom_file_cut_short_is_refused(name, tmp_path):
    "At every length that lacks a part of the pixels: an error that names the file, no copy."
    data, messages = Path(get_testdata_file(name)).read_bytes(), []
    pixels = pydicom.dcmread(BytesIO(data)).PixelData
    cut, copy = tmp_path / 'cut.dcm', tmp_path / 'copy.dcm'
    lengths = {*range(0, 1200, 20), *range(0, len(data), len(data) // 60), len(data) - 1}
    for length in sorted(lengths):
        cut.write_bytes(data[:length])
        with suppress(DeidentificationError):  # and nothing else
            verify_deidentified(cut, ['Harrowgate'])
        try:
            clean_file(cut, copy, bytes(32))
        except DeidentificationError as e:
            assert str(e).startswith(f'{cut}: ') and names_in(tmp_path) == {'cut.dcm'}, length
            messages.append(str(e))
        else:  # what is missing stood behind the pixels
            assert pydicom.dcmread(copy).PixelData == pixels, length
            copy.unlink()
    assert len(messages) >= len(lengths) - 2
    assert any(CUT_SHORT[name] in message for message in messages)


def test_pixels_in_floating_point_are_no_missing_pixels(tmp_path):
    "A parametric map has `FloatPixelData` instead of `PixelData`."
    ds = pydicom.dcmread(get_testdata_file('CT_small.dcm'))
    for keyword in ('PixelData', 'BitsStored', 'HighBit', 'PixelRepresentation'):
        delattr(ds, keyword)
    pixels = np.linspace(0, 1, ds.Rows * ds.Columns, dtype='<f4').tobytes()
    ds.BitsAllocated, ds.FloatPixelData = 32, pixels
    ds.save_as(tmp_path / 'map.dcm', enforce_file_format=True)
    clean_file(tmp_path / 'map.dcm', tmp_path / 'copy.dcm', bytes(32))
    copy = pydicom.dcmread(tmp_path / 'copy.dcm')
    assert copy.FloatPixelData == pixels and copy.PatientID != ds.PatientID


def test_a_broken_mask_is_named_by_the_search(tmp_path):
    "A gzipped mask that ends early, at any length."
    nifti(tmp_path / 'mask.nii.gz', 'MRN-778812')
    data = (tmp_path / 'mask.nii.gz').read_bytes()
    for length in range(2, len(data), 7):
        (tmp_path / 'mask.nii.gz').write_bytes(data[:length])
        with pytest.raises(DeidentificationError, match='mask.nii.gz: the file breaks off'):
            verify_deidentified(tmp_path / 'mask.nii.gz', ['Harrowgate'])


def test_the_search_reads_a_dicom_file_once(tmp_path, monkeypatch):
    "A radiograph of a thousand is not decoded twice."
    real, reads = pydicom.dcmread, []
    radiograph('MRN-778812').save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    monkeypatch.setattr(pydicom, 'dcmread', lambda *a, **k: reads.append(a) or real(*a, **k))
    assert set(verify_deidentified(tmp_path, ['Harrowgate'])) == {'file', 'where', 'found'}
    assert len(reads) == 1


def test_nothing_is_left_of_a_failure(hospital, tmp_path, monkeypatch):
    "A disk that is full at the third file leaves nothing; a kill leaves what can be found."
    real, calls, work = module.clean_file, [], tmp_path / 'work'

    def fail_at_third(*a, **k):
        "Clean two files, then fail, and keep what a kill at this moment would have left."
        calls.append(a)
        if len(calls) == 3:
            shutil.copytree(work, tmp_path / 'killed')
            raise OSError('No space left on device')
        real(*a, **k)

    monkeypatch.setattr(module, 'clean_file', fail_at_third)
    with pytest.raises(OSError, match='No space'):
        deidentify_cohort(hospital / 'manifest.csv', work / 'out', work / 'key.json')
    assert not list(work.iterdir())
    (left,) = (tmp_path / 'killed').iterdir()
    assert left.name.startswith(SCRATCH) and sum(p.is_file() for p in left.rglob('*')) == 2
    remove_scratch(tmp_path / 'killed')
    assert not list((tmp_path / 'killed').iterdir())


def test_no_second_file_holds_the_secret(tmp_path, monkeypatch):
    "A key file that cannot be written or renamed leaves the old one, and nothing beside it."
    radiograph('MRN-778812').save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    deidentify_files(tmp_path / 'a.dcm', tmp_path / 'out', tmp_path / 'key.json')
    before = (tmp_path / 'key.json').read_bytes()

    def fail(*_, **__):
        "A disk that is full."
        raise OSError('No space left on device')

    for place in ((module.json, 'dumps'), (os, 'replace')):
        with monkeypatch.context() as broken, pytest.raises(OSError, match='No space'):
            broken.setattr(*place, fail)
            deidentify_files(tmp_path / 'a.dcm', tmp_path / 'out2', tmp_path / 'key.json')
        assert {p.name for p in tmp_path.iterdir()} == {'a.dcm', 'out', 'key.json'}
        assert (tmp_path / 'key.json').read_bytes() == before


def test_the_search_finds_a_leak(hospital, tmp_path, monkeypatch):
    "A cleaner that forgets something is found, and the message does not spell the name out."
    monkeypatch.setitem(module._CLEANERS, '.nii.gz', lambda data, name: data)
    with pytest.raises(DeidentificationError, match=r'trace\(s\)') as caught:
        deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'out', tmp_path / 'key.json')
    assert not list(tmp_path.iterdir())
    assert 'Yamadasaki' not in re.sub(r'\(from [^\n]*?\):', '', str(caught.value))


def test_an_existing_target_is_refused(hospital, tmp_path):
    "Nothing is overwritten, not even an empty folder."
    (tmp_path / 'out').mkdir()
    for call in (deidentify_cohort, deidentify_files):
        with pytest.raises(DeidentificationError, match='nothing is overwritten'):
            call(hospital / 'manifest.csv', tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


def test_an_absent_burned_in_tag_is_a_warning(tmp_path):
    "Whether text is burned in is then for a person to find out."
    ds = radiograph('MRN-778812')
    del ds.BurnedInAnnotation
    ds.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with pytest.warns(BurnedInWarning, match='1 radiograph'):
        deidentify_files(tmp_path / 'a.dcm', tmp_path / 'out')


def names_in(folder):
    "The names of all files and folders in a folder."
    return {p.relative_to(folder).as_posix() for p in folder.rglob('*')}


def test_two_runs_with_one_key_agree_and_without_do_not(hospital, freed, tmp_path):
    "The same key gives the same bytes; another key no common pseudonym."
    out, key, _ = freed
    (tmp_path / 'key.json').write_text(json.dumps(key))
    deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'same', tmp_path / 'key.json')
    deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'other')
    same, other = names_in(tmp_path / 'same'), names_in(tmp_path / 'other')
    assert same == names_in(out)
    assert not {n for n in other if 'P' in n} & same
    for name in same:
        if (out / name).is_file():
            assert (out / name).read_bytes() == (tmp_path / 'same' / name).read_bytes(), name


def test_the_new_cohort_is_a_cohort(freed):
    "Its masks can be read beside its radiographs, and its devices are known."
    out, _, _ = freed
    table = pd.read_csv(out / 'manifest.csv').dropna(subset='image').set_index('vertebra_id')
    paths = {column: [str(out / p) for p in table[column]] for column in ('image', 'mask')}
    table = table.assign(**paths, spacing=0.2)
    assert {case.mask.sum() for _, case in load_cases(table)} == {400}
    s1 = acquisition_table(table)
    assert s1.loc['No DICOM header'].tolist() == ['0', '2']
    assert s1.loc['Manufacturer'].iloc[0] == 'Acme (4)'


def read(folder):
    "A cohort as it is read, and its errors and warnings but for those of `cohort.yml`."
    found = read_manifest(folder, require_class=False)
    return found, {
        (p['severity'], p['column'], p['problem'])
        for p in found.problems
        if p['file'] != 'cohort.yml'
    }


def test_the_copy_is_no_worse_a_manifest(hospital, freed):
    "Errors and warnings of the copy are those of the original, less what de-identification mends."
    (old, before), (new, after) = read(hospital), read(freed[0])
    mended = '12 of 12 ids repeat the patient_id, and tables of predictions name vertebrae'
    assert {p for _, _, p in before - after} == {mended} and not after - before
    assert new.usable
    assert len(new.readings) == len(old.readings) == 4
    assert new.screened.exclusion.tolist() == old.screened.exclusion.tolist()


CELLS = {  # case: (cells that are changed in the manifest, is it still a cohort?)
    'excluded, without a radiograph': (
        dict(included=(0, 'no'), image=(0, None), mask=(0, None), vertebra_id=(0, None)),
        True,
    ),
    'excluded, spelt otherwise': (dict(included=(0, 'N'), image=(0, 'was never there.dcm')), True),
    'excluded, with its radiograph': (dict(exclusion=(1, 'metastasis')), True),
    "excluded, nobody's": (dict(included=(0, 'no'), patient_id=(0, None)), False),
    'excluded and not': (dict(included=(0, 'yes'), exclusion=(0, 'metastasis')), False),
    'decimal comma': (dict(age=(11, '93,5')), True),
    'no age': (dict(age=(11, '93 years')), False),
    'no class': (dict(fracture_class=(3, 'Harrow')), False),
    'no center': (dict(center=(3, None)), False),
}


def changed_cohort(hospital, folder, changes):
    "The cohort with some cells of its manifest changed, blank lines above, and nothing beside it."
    table = pd.read_csv(hospital / 'manifest.csv', dtype=object).assign(included=None)
    for column, (row, value) in changes.items():
        table.loc[row, column] = value
    shutil.copytree(hospital, folder)
    (folder / 'readings.csv').unlink()
    (folder / 'cohort.yml').unlink()
    (folder / 'manifest.csv').write_text('\n\n' + table.to_csv(index=False))
    return read_manifest(folder, require_class=False)


def errors_in(problems):
    "Row, column and text of the errors among some problems."
    return {(p['row'], p['column'], p['problem']) for p in problems if p['severity'] == 'error'}


@pytest.mark.parametrize('case', [case for case, (_, fine) in CELLS.items() if not fine])
def test_what_is_no_cohort_is_refused(case, hospital, tmp_path):
    "What `cohort` refuses is refused, row by row."
    found = changed_cohort(hospital, tmp_path / 'in', CELLS[case][0])
    assert not found.usable
    with pytest.raises(CohortError) as caught:
        deidentify_cohort(tmp_path / 'in', tmp_path / 'out')
    refused = caught.value.problems
    assert set(refused.severity) == {'error'}
    assert errors_in(found.problems) == errors_in(refused.to_dict('records'))


@pytest.mark.parametrize('case', [case for case, (_, fine) in CELLS.items() if fine])
def test_what_is_a_cohort_is_deidentified(case, hospital, tmp_path):
    "What `cohort` takes is de-identified, and is a cohort of as many rows afterwards."
    found = changed_cohort(hospital, tmp_path / 'in', CELLS[case][0])
    assert found.usable
    deidentify_cohort(tmp_path / 'in', tmp_path / 'out')
    again = read_manifest(tmp_path / 'out', require_class=False)
    assert again.usable and again.table.age.max() <= 90
    assert len(again.screened) == len(found.screened)
    assert len(again.table) == len(found.table)


def test_a_cohort_grows_and_keeps_its_ids(hospital, freed, tmp_path):
    "Whatever the order of the rows, and with ids of another form in the key file."
    key = freed[1]
    key['vertebrae']['PAAAAAAAAAA_v1'] = key['vertebrae'].pop('V0003')
    (tmp_path / 'key.json').write_text(json.dumps(key))
    shutil.copytree(hospital, tmp_path / 'in')
    table = pd.read_csv(hospital / 'manifest.csv', dtype=object)
    more = table.iloc[[0]].assign(vertebra_id='another', level='L2')
    pd.concat([more, table.iloc[::-1]]).to_csv(tmp_path / 'in/manifest.csv', index=False)
    deidentify_cohort(tmp_path / 'in', tmp_path / 'out', tmp_path / 'key.json')
    new = pd.read_csv(tmp_path / 'out/manifest.csv').vertebra_id.dropna().tolist()
    held = json.loads((tmp_path / 'key.json').read_text())['vertebrae']
    assert new[0] == 'V0013' and held['V0013'] == 'another'
    assert [held[v] for v in new[1:]] == table.vertebra_id.dropna().tolist()[::-1]
    assert {v: held[v] for v in key['vertebrae']} == key['vertebrae']


def test_readings_from_excel_come_along(hospital, tmp_path):
    "As many readings as before, with the same checks."
    shutil.copytree(hospital, tmp_path / 'in')
    readings = pd.read_csv(tmp_path / 'in/readings.csv', dtype=object)
    readings.to_excel(tmp_path / 'in/readings.xlsx', index=False)
    (tmp_path / 'in/readings.csv').unlink()
    deidentify_cohort(tmp_path / 'in', tmp_path / 'out')
    assert len(read_manifest(tmp_path / 'out', require_class=False).readings) == len(readings)
    readings.assign(mask=pd.read_csv(hospital / 'manifest.csv')['mask'][0]).to_excel(
        tmp_path / 'in/readings.xlsx', index=False
    )
    with pytest.raises(CohortError, match='readings row 2, mask.*belongs to two patients'):
        deidentify_cohort(tmp_path / 'in', tmp_path / 'out2')
