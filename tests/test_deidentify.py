"A hostile cohort goes in; nothing of it may come out. What a notebook cannot hold: real encodings, SEG objects, a validator, a failure half-way."

import gzip
import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path

import highdicom as hd
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image, PngImagePlugin
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
from ovf_dlr.formats import verify_deidentified
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


def radiograph(patient, syntax=ExplicitVRLittleEndian):
    "A radiograph that carries its patient everywhere a patient can hide."
    name, charset, words = PEOPLE[patient]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPClassUID = (
        syntax,
        DigitalXRayImageStorageForPresentation,
    )
    ds.file_meta.SourceApplicationEntityTitle, ds.file_meta.SendingApplicationEntityTitle = (
        'HARROWGATE',
        'PHILIPPA',
    )
    ds.SpecificCharacterSet = charset
    ds.SOPClassUID, ds.Modality, ds.ImageType = (
        DigitalXRayImageStorageForPresentation,
        'DX',
        ['ORIGINAL', 'PRIMARY', ''],
    )
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=[patient, k]) for k in 'abcd'
    )
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientAge, ds.PatientBirthDate = (
        name,
        patient,
        'F',
        '097Y',
        '19230817',
    )
    ds.AccessionNumber, ds.StudyID = patient, patient
    ds.OtherPatientIDs = [patient + '-B', 'SSN-112233']
    ds.StudyDate, ds.SeriesDate, ds.ContentDate, ds.AcquisitionDateTime = (
        '20200817',
        '20200817',
        '20200817',
        '20200817101112',
    )
    ds.ReferringPhysicianName = ds.OperatorsName = name
    ds.StudyTime, ds.SeriesNumber, ds.InstanceNumber = '101112', '1', '1'
    (
        ds.Manufacturer,
        ds.ManufacturerModelName,
        ds.KVP,
        ds.BodyPartExamined,
        ds.BurnedInAnnotation,
    ) = 'Acme', 'DR 5', '80', 'SPINE', 'NO'
    ds.DetectorDescription, ds.SeriesDescription = (
        turned(name),
        turned(name),
    )  # not in the table; in the table
    ds.ViewCodeSequence = [
        hd.sr.CodedConcept('1', '99LOCAL', turned(name)[:64])
    ]  # a label that stays
    deep = Dataset()
    deep.PatientName, deep.OperatorsName, deep.ReferencedSOPInstanceUID = (
        name,
        name,
        ds.SOPInstanceUID,
    )
    middle = Dataset()
    middle.SeriesInstanceUID, middle.ReferencedInstanceSequence = ds.SeriesInstanceUID, [deep]
    ds.ReferencedSeriesSequence = [middle]
    source = Dataset()
    source.ReferencedSOPInstanceUID, source.PatientID, source.TextValue = (
        ds.SOPInstanceUID,
        patient,
        turned(name),
    )
    ds.SourceImageSequence = [source]
    private = Dataset()
    private.PatientName = name
    block = ds.private_block(0x0019, 'HARROWGATE INC', create=True)
    block.add_new(1, 'LO', turned(name))
    block.add_new(2, 'SQ', [private])
    block.add_new(3, 'UN', name.encode('utf-8'))
    for group in (0x6000, 0x6002):
        ds.add_new((group, 0x0010), 'US', 8)
        ds.add_new((group, 0x0011), 'US', 8)
        ds.add_new((group, 0x0100), 'US', 1)
        ds.add_new((group, 0x0022), 'LO', turned(name))
        ds.add_new((group, 0x3000), 'OW', (patient.encode() + b'\0' * 40)[:40])
    ds.add_new((0x5000, 0x0022), 'LO', turned(name))
    ds.add_new((0x0040, 0xA730), 'SQ', [Dataset()])
    ds[0x0040A730].value[0].TextValue = name
    ds.DataSetTrailingPadding = patient.encode() + b'\0\0'
    ds.Rows, ds.Columns = SHAPE
    (
        ds.SamplesPerPixel,
        ds.PhotometricInterpretation,
        ds.BitsAllocated,
        ds.BitsStored,
        ds.HighBit,
        ds.PixelRepresentation,
    ) = 1, 'MONOCHROME2', 16, 12, 11, 0
    ds.ImagerPixelSpacing = [0.2, 0.2]
    pixels = np.random.default_rng(len(name)).integers(0, 4096, SHAPE).astype('<u2')
    ds.PixelData = (pixels.byteswap() if syntax == ExplicitVRBigEndian else pixels).tobytes()
    ds['PixelData'].VR = 'OW'
    if syntax == JPEG2000Lossless:
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.preamble = patient.encode().ljust(128, b'\0')
    return ds


def segmentation(path, name):
    "A DICOM SEG of one body, labelled with the patient's name."
    source = pydicom.dcmread(path)
    for keyword in ('DataSetTrailingPadding', 'ContentSequence'):
        delattr(source, keyword)
    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label=f'L1 {turned(name)}'[:60],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Vertebra,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_id=turned(name),
        tracking_uid=generate_uid(),
    )
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:40, 10:30] = 1
    return hd.seg.Segmentation(
        [source],
        mask,
        hd.seg.SegmentationTypeValues.BINARY,
        [description],
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


def nifti(path, patient):
    "A gzipped mask with names in its free fields, an extension, a tail, and the gzip header."
    name = turned(PEOPLE[patient][0]).encode('utf-8')
    image = sitk.GetImageFromArray(np.pad(np.ones((20, 20), np.uint8), ((20, 20), (10, 10))))
    image.SetSpacing((0.2, 0.2))
    image.SetOrigin((1.5, -2.5))
    plain = path.with_suffix('')
    sitk.WriteImage(image, str(plain))
    raw = bytearray(plain.read_bytes())
    plain.unlink()
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
    Image.fromarray(grey).save(
        path,
        **(
            dict(pnginfo=note)
            if path.suffix == '.png'
            else dict(exif=exif, comment=patient.encode(), quality=90)
        ),
    )
    with open(path, 'ab') as f:
        f.write(patient.encode())


@pytest.fixture(scope='module')
def hospital(tmp_path_factory):
    "The cohort as it lies in the hospital: six patients, one radiograph each, in as many forms."
    folder, rows = tmp_path_factory.mktemp('hospital'), []
    syntaxes = [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        JPEG2000Lossless,
    ]
    for i, (patient, (name, _, words)) in enumerate(PEOPLE.items()):
        stem = f'{words[-1]} {patient}'
        image = folder / f'{stem}{(".dcm", ".dcm", ".dcm", ".dcm", ".png", ".jpg")[i]}'
        if image.suffix == '.dcm':
            radiograph(patient, syntaxes[i]).save_as(image, enforce_file_format=True)
        else:
            picture(image, patient)
        mask = folder / f'{stem}{"_seg.dcm" if i == 0 else ".nii.gz"}'
        if i == 0:
            segmentation(image, name).save_as(mask)
        else:
            nifti(mask, patient)
        rows += [
            dict(
                vertebra_id=f'{patient}_{words[0]}_{level}',
                patient_id=patient,
                center='II' if i > 3 else 'I',
                image=image.name,
                mask=mask.name,
                level=level,
                age=88 + i,
                fracture_class=k,
                split='train' if i < 3 else 'internal',
                phone='0123 456789',
                radiograph_date='2020-08-17',
            )
            for k, level in enumerate(('T12', 'L1'))
        ]
    rows.append(dict(patient_id='MRN-778899', center='I', exclusion='metastasis'))
    table = pd.DataFrame(rows)
    table.to_csv(folder / 'manifest.csv', index=False)
    pd.DataFrame(
        [
            dict(
                vertebra_id=r['vertebra_id'],
                reader='B',
                session=1,
                mask=r['mask'],
                drawn_by='HARROWGATE',
            )
            for r in rows[2:6]
        ]
    ).to_csv(folder / 'readings.csv', index=False)
    (folder / 'cohort.yml').write_text('name: spine\nlabel: ASTLOF class\ncontact: Philippa\n')
    return folder


@pytest.fixture(scope='module')
def freed(hospital, tmp_path_factory):
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


def test_no_byte_of_a_name_or_an_id_is_left(freed):
    out, _, report = freed
    assert (report.patients, report.radiographs, report.masks) == (7, 6, 6)
    for path, data in every_byte(out):
        low = data.lower()
        for patient, (_, _, words) in PEOPLE.items():
            for word in (
                patient,
                patient[4:],
                *words,
                'SSN-112233',
                '19230817',
                'SN-556677',
                '20200817',
                '0123 456789',
            ):
                for encoding in ENCODINGS:
                    needle = word.encode(encoding, 'ignore').lower()
                    if len(needle.replace(b'\0', b'')) >= 6 and re.search(
                        rb'(?<!\d)' + re.escape(needle) + rb'(?!\d)', low
                    ):
                        pytest.fail(f'{word} ({encoding}) in {path.name}')
        if path.suffix == '.dcm':
            ds = pydicom.dcmread(path)
            assert (
                not any(
                    e.tag.is_private or e.tag.group & 0xFF00 in (0x5000, 0x6000)
                    for e in ds.iterall()
                )
                and identity_left(path) == []
            )
            assert data[data.index(b'DICM') - 128 : data.index(b'DICM')] == bytes(128)
            assert (
                ds.PatientIdentityRemoved == 'YES'
                and ds.DeidentificationMethodCodeSequence[0].CodeValue == '113100'
            )
    assert set(report.dropped) == {'phone', 'radiograph_date'}


def test_pixels_and_geometry_are_untouched(hospital, freed):
    out, key, _ = freed
    table, old = pd.read_csv(out / 'manifest.csv'), pd.read_csv(hospital / 'manifest.csv')
    for i in range(len(old) - 1):
        assert (
            key['vertebrae'][table.vertebra_id[i]] == old.vertebra_id[i]
            and key['patients'][table.patient_id[i]] == old.patient_id[i]
        )
        for column in ('image', 'mask'):
            before, after = hospital / old[column][i], out / table[column][i]
            if after.suffix == '.dcm':
                a, b = pydicom.dcmread(before), pydicom.dcmread(after)
                np.testing.assert_array_equal(a.pixel_array, b.pixel_array)
                assert (
                    a.file_meta.TransferSyntaxUID == b.file_meta.TransferSyntaxUID
                    and a.PixelData == b.PixelData
                )
            else:
                a, b = (sitk.ReadImage(str(p)) for p in (before, after))
                np.testing.assert_array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
                assert (a.GetSpacing(), a.GetOrigin(), a.GetDirection()) == (
                    b.GetSpacing(),
                    b.GetOrigin(),
                    b.GetDirection(),
                )
    assert (
        table.age[:-1].max() == 90
        and table.age[2] == 89
        and table.exclusion.iloc[-1] == 'metastasis'
    )
    assert (
        table.fracture_class.equals(old.fracture_class)
        and table.split.equals(old.split)
        and table.level.equals(old.level)
    )


def test_a_segmentation_still_names_its_radiograph(freed):
    out, _, _ = freed
    table = pd.read_csv(out / 'manifest.csv')
    image, seg = pydicom.dcmread(out / table.image[0]), pydicom.dcmread(out / table['mask'][0])
    assert (
        (seg.StudyInstanceUID, seg.PatientID)
        == (image.StudyInstanceUID, image.PatientID)
        == (image.StudyInstanceUID, table.patient_id[0])
    )
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image.SeriesInstanceUID
    assert (
        seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        == image.SOPInstanceUID
    )
    assert (
        image.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        == image.SOPInstanceUID
    )
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert (
        seg.SegmentSequence[0].SegmentLabel == 'ANONYMIZED' and '1.2.840.10008' in seg.SOPClassUID
    )
    for ds in (image, seg):
        assert (
            ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
            and ds.SOPInstanceUID.startswith('2.25.')
        )


def errors_of(path):
    "What dciodvfy objects to, without the values it quotes."
    said = subprocess.run(['dciodvfy', path], capture_output=True, text=True, errors='replace')
    return {
        re.sub(r'(?<!Element=)(?<!Module=)<[^>]*>', '<>', line)
        for line in (said.stdout + said.stderr).splitlines()
        if line.startswith('Error')
    }


@pytest.mark.skipif(
    not shutil.which('dciodvfy'),
    reason='dciodvfy is not installed (Debian: apt install dicom3tools)',
)
def test_dicom_objects_are_no_worse_than_before(tmp_path):
    "A plain radiograph and a SEG: de-identification adds no violation of the standard."
    patient = pd.Series(dict(patient_id='MRN-778812', sex='Female', age=71, center='I'))
    write_dicom(
        tmp_path / 'film.dcm',
        np.linspace(0, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE),
        patient,
        DETECTORS['I'],
    )
    source = pydicom.dcmread(tmp_path / 'film.dcm')
    for k, v in dict(
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
    ).items():
        setattr(source, k, v)
    source.DataSetTrailingPadding = b'\0\0'
    source.add_new((0x0040, 0xA730), 'SQ', [])
    source.save_as(tmp_path / 'source.dcm', enforce_file_format=True)
    segmentation(tmp_path / 'source.dcm', 'HARROWGATE^Philippa').save_as(tmp_path / 'seg.dcm')
    radiograph('MRN-778812').save_as(tmp_path / 'hostile.dcm', enforce_file_format=True)
    for name in ('source', 'seg', 'hostile'):
        for keep in (False, True):
            deidentify_files(
                [tmp_path / f'{name}.dcm'], tmp_path / f'{name}_{keep}', keep_characteristics=keep
            )
            new = errors_of(next((tmp_path / f'{name}_{keep}').iterdir())) - errors_of(
                tmp_path / f'{name}.dcm'
            )
            assert not new, new
    assert len(errors_of(tmp_path / 'source.dcm')) < 3, errors_of(tmp_path / 'source.dcm')


def test_radiographs_of_other_makers_survive():
    "Every sample that pydicom ships, unless it is refused for cause, reads the same afterwards and says nothing."
    key, seen = new_key(), 0
    for path in sorted(Path(pydicom.__file__).parent.glob('data/test_files/*.dcm')):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                ds = pydicom.dcmread(path)
            except Exception:
                continue
            if 'PixelData' not in ds or path.stat().st_size > 5e5:
                continue
            try:
                after = deidentify_dataset(ds, key)
            except DeidentificationError as e:
                assert (
                    'transfer syntax' in str(e) or 'SOPInstanceUID' in str(e) or 'bits' in str(e)
                ), e
                continue
            assert after.PixelData == ds.PixelData and _identifying(after, True) == set(), path.name
            seen += 1
    assert seen > 30


def test_nothing_is_left_of_a_failure(hospital, tmp_path, monkeypatch):
    real, calls = module.clean_file, []

    def fail_at_third(*a, **k):
        calls.append(a)
        if len(calls) == 3:
            raise OSError('No space left on device')
        real(*a, **k)

    monkeypatch.setattr(module, 'clean_file', fail_at_third)
    with pytest.raises(OSError, match='No space'):
        deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'out', tmp_path / 'key.json')
    assert not list(tmp_path.iterdir())


def test_the_search_finds_a_leak(hospital, tmp_path, monkeypatch):
    "A cleaner that forgets something is found out, and its name is not spelt out in the message."
    monkeypatch.setitem(module._CLEANERS, '.nii.gz', lambda data, name: data)
    with pytest.raises(DeidentificationError, match=r'trace\(s\)') as caught:
        deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'out', tmp_path / 'key.json')
    assert not list(tmp_path.iterdir()) and 'Yamadasaki' not in re.sub(
        r'\(from [^\n]*?\):', '', str(caught.value)
    )


def test_an_existing_target_is_refused(hospital, tmp_path):
    (tmp_path / 'out').mkdir()
    for call in (deidentify_cohort, deidentify_files):
        with pytest.raises(DeidentificationError, match='nothing is overwritten'):
            call(hospital / 'manifest.csv', tmp_path / 'out')
    assert not list((tmp_path / 'out').iterdir())


def test_a_silent_burned_in_tag_is_a_warning(tmp_path):
    ds = radiograph('MRN-778812')
    del ds.BurnedInAnnotation
    ds.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    with pytest.warns(BurnedInWarning, match='1 radiograph'):
        deidentify_files(tmp_path / 'a.dcm', tmp_path / 'out')


def test_two_runs_with_one_key_agree_and_without_do_not(hospital, freed, tmp_path):
    out, key, _ = freed
    (tmp_path / 'key.json').write_text(json.dumps(key))
    deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'same', tmp_path / 'key.json')
    deidentify_cohort(hospital / 'manifest.csv', tmp_path / 'other')
    same, other = (
        {p.relative_to(f).as_posix() for p in f.rglob('*')}
        for f in (tmp_path / 'same', tmp_path / 'other')
    )
    assert (
        same == {p.relative_to(out).as_posix() for p in out.rglob('*')}
        and not {n for n in other if 'P' in n} & same
    )
    for name in same:
        if (out / name).is_file():
            assert (out / name).read_bytes() == (tmp_path / 'same' / name).read_bytes(), name


def test_the_new_cohort_is_a_cohort(freed):
    from ovf_dlr.preprocess import load_cases

    out, _, _ = freed
    table = pd.read_csv(out / 'manifest.csv').dropna(subset='image').set_index('vertebra_id')
    table = table.assign(
        image=[str(out / p) for p in table.image],
        mask=[str(out / p) for p in table['mask']],
        spacing=0.2,
    )
    assert {case.mask.sum() for _, case in load_cases(table)} == {400}
    s1 = acquisition_table(table)
    assert (
        s1.loc['No DICOM header'].tolist() == ['0', '2']
        and s1.loc['Manufacturer'].iloc[0] == 'Acme (4)'
    )


def test_the_copy_is_no_worse_a_manifest(hospital, freed):
    "Errors and warnings of the copy are those of the original, less what de-identification mends."

    def said(folder):
        found = read_manifest(folder, require_class=False)
        return {
            (p['severity'], p['column'], p['problem'])
            for p in found.problems
            if p['file'] != 'cohort.yml'
        }, found

    (before, old), (after, new) = said(hospital), said(freed[0])
    assert {p for _, _, p in before - after} == {
        '12 of 12 ids repeat the patient_id, and tables of predictions name vertebrae'
    } and not after - before
    assert (
        new.usable
        and len(new.readings) == len(old.readings) == 4
        and new.screened.exclusion.tolist() == old.screened.exclusion.tolist()
    )


CELLS = {  # what is changed in the manifest: is it a cohort?
    'set aside without a radiograph': (
        dict(included=(0, 'no'), image=(0, None), mask=(0, None), vertebra_id=(0, None)),
        True,
    ),
    'set aside, spelt otherwise': (dict(included=(0, 'N'), image=(0, 'was never there.dcm')), True),
    'set aside, with its radiograph': (dict(exclusion=(1, 'metastasis')), True),
    "set aside, nobody's": (dict(included=(0, 'no'), patient_id=(0, None)), False),
    'set aside and not': (dict(included=(0, 'yes'), exclusion=(0, 'metastasis')), False),
    'decimal comma': (dict(age=(11, '93,5')), True),
    'no age': (dict(age=(11, '93 years')), False),
    'no class': (dict(fracture_class=(3, 'Harrow')), False),
    'no center': (dict(center=(3, None)), False),
}


@pytest.mark.parametrize('case', CELLS)
def test_one_contract(case, hospital, tmp_path):
    "What `cohort` takes is de-identified, and what it refuses is refused, row by row."
    changes, fine = CELLS[case]
    table = pd.read_csv(hospital / 'manifest.csv', dtype=object).assign(included=None)
    for column, (row, value) in changes.items():
        table.loc[row, column] = value
    shutil.copytree(hospital, tmp_path / 'in')
    (tmp_path / 'in/readings.csv').unlink()
    (tmp_path / 'in/cohort.yml').unlink()
    (tmp_path / 'in/manifest.csv').write_text('\n\n' + table.to_csv(index=False))
    found = read_manifest(tmp_path / 'in', require_class=False)
    assert found.usable == fine
    if not fine:
        with pytest.raises(CohortError) as caught:
            deidentify_cohort(tmp_path / 'in', tmp_path / 'out')
        error = lambda p: (p['row'], p['column'], p['problem'])
        assert {error(p) for p in found.problems if p['severity'] == 'error'} == {
            error(p) for p in caught.value.problems.to_dict('records')
        }
        return
    deidentify_cohort(tmp_path / 'in', tmp_path / 'out')
    again = read_manifest(tmp_path / 'out', require_class=False)
    assert (
        again.usable
        and again.table.age.max() <= 90
        and len(again.screened) == len(found.screened)
        and len(again.table) == len(found.table)
    )


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
    new, held = (
        pd.read_csv(tmp_path / 'out/manifest.csv').vertebra_id.dropna().tolist(),
        json.loads((tmp_path / 'key.json').read_text())['vertebrae'],
    )
    assert new[0] == 'V0013' and held['V0013'] == 'another'
    assert [held[v] for v in new[1:]] == table.vertebra_id.dropna().tolist()[::-1] and {
        v: held[v] for v in key['vertebrae']
    } == key['vertebrae']


def test_readings_from_excel_come_along(hospital, tmp_path):
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
