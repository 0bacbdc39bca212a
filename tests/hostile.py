"""A catalogue of bad input: spreadsheets, radiographs and masks as hospitals may send them.

For each it holds the words in which it is refused, and the row. Every entry spoils one thing in a
copy of a small good cohort. `tests/test_hostile.py` checks the words of each, and
`nbs/tutorials/messages.ipynb` shows each message once, with the docstring of the entry as its
explanation: write them for a reader who has just seen the message.

    @radiographs('holds no pixels', RADIOGRAPH, 'image')  # fixed words, rows, column
    def a_radiograph_without_pixels(c): ...  # c: the folder of the copy

Without rows (`@spreadsheet('it is empty')`) there is no usable table, and reading it raises.
"""

import gzip
import io
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import pandas as pd
import pydicom
import SimpleITK as sitk
from PIL import Image as Picture
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from ovf_dlr.audit import audit
from ovf_dlr.cohort import read_manifest

# The good cohort.

H, W, MM = 160, 120, 0.6
# rows of the spreadsheet: one radiograph each, three bodies on it
RADIOGRAPH, NIFTI, PNG, SEG = (2, 3, 4), (5, 6, 7), (8, 9, 10), (11, 12, 13)
FILES = (
    ['radiograph1.dcm', 'radiograph2.nii.gz', 'radiograph3.png', 'radiograph4.dcm'],
    ['mask1.nii.gz', 'mask2.nii.gz', 'mask3.nii.gz', 'mask4.dcm'],
)


def scene(seed) -> tuple[np.ndarray, np.ndarray]:
    """A radiograph with three bright bodies on a slope of soft tissue, (H, W) uint16, and their
    labels 1 to 3."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:H, :W]
    dy, dx = rng.integers(-5, 6, 2)
    labels = sum(
        k * ((abs(y - at - dy) < 13) & (abs(x - 58 - dx) < 15 + k - 0.1 * (y - at)))
        for k, at in ((1, 36), (2, 76), (3, 116))
    )
    return (900 + 2 * y + x + 600 * (labels > 0) + rng.normal(0, 20, y.shape)).astype(
        np.uint16
    ), labels.astype(np.uint8)


BLANK = (
    'PatientName',
    'PatientID',
    'PatientSex',
    'PatientBirthDate',
    'StudyID',
    'AccessionNumber',
    'StudyDate',
    'StudyTime',
    'ReferringPhysicianName',
)


def write_dicom(path, pixels, **tags):
    "A DX radiograph with the least it needs."
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID, ds.Modality = f'1.2.3.{path.stem[-1]}', 'DX'
    for blank in BLANK:
        setattr(ds, blank, '')
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientIdentityRemoved = '1.2', '1.2.1', 'YES'
    ds.SeriesNumber, ds.InstanceNumber, ds.PixelSpacing = 1, 1, [MM, MM]
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, 'MONOCHROME2'
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    for k, v in tags.items():
        setattr(ds, k, v)
    ds.PixelData = pixels.astype('<u2').tobytes()
    ds.save_as(path, enforce_file_format=True)


def write_itk(path, values, spacing=(MM, MM), origin=None, direction=None):
    "Any format that SimpleITK writes."
    image = sitk.GetImageFromArray(np.ascontiguousarray(values), isVector=False)
    image.SetSpacing((*spacing, 1, 1)[: image.GetDimension()])
    if origin:
        image.SetOrigin(origin)
    if direction:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def write_seg(path, radiograph, labels):
    "The labels as a DICOM SEG that refers to `radiograph`."
    import highdicom as hd
    from highdicom.seg import Segmentation, SegmentationTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    segments = [
        SegmentDescription(
            i,
            f'body {i}',
            codes.SCT.AnatomicalStructure,
            codes.SCT.Vertebra,
            hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for i in (1, 2, 3)
    ]
    Segmentation(
        [pydicom.dcmread(radiograph)],
        labels,
        SegmentationTypeValues.BINARY,
        segments,
        '1.2.5',
        2,
        f'1.2.5.{path.stem[-1]}',
        1,
        'toy',
        'toy',
        '1',
        '1',
    ).save_as(path)


def make_good(folder) -> Path:
    """Four patients with a radiograph each (DICOM, NIfTI, PNG, DICOM) and three graded bodies per
    radiograph; masks in NIfTI, the last in a DICOM SEG."""
    folder.mkdir(parents=True)
    rows = []
    for i, (radiograph, mask) in enumerate(zip(*FILES, strict=True)):
        pixels, labels = scene(i)
        (write_dicom if radiograph.endswith('.dcm') else write_itk)(folder / radiograph, pixels)
        if mask.endswith('.dcm'):
            write_seg(folder / mask, folder / radiograph, labels)
        else:
            write_itk(folder / mask, labels)
        rows += [
            dict(
                vertebra_id=f'v{i}{k}',
                patient_id=f'p{i}',
                center='I' if i < 3 else 'II',
                image=radiograph,
                mask=mask,
                mask_label=k,
                split=('train', 'train', 'internal', 'external')[i],
                spacing=MM if radiograph.endswith('.png') else '',
                astlof=(2, 4, 6)[k - 1],
                fracture_class=k - 1,
                age=60 + i,
                sex='Female',
                t_score=-2.8,
                level=f'L{k}',
            )
            for k in (1, 2, 3)
        ]
    pd.DataFrame(rows).to_csv(folder / 'manifest.csv', index=False)
    return folder


# How things are spoilt.


def sheet(c) -> pd.DataFrame:
    "The spreadsheet, every cell as text."
    return pd.read_csv(c / 'manifest.csv', dtype=str, keep_default_na=False)


def save(c, table):
    "Write the spreadsheet."
    table.to_csv(c / 'manifest.csv', index=False)


def cells(c, rows, **values):
    "Write `values` into rows of the spreadsheet."
    table = sheet(c)
    for name, value in values.items():
        if name not in table:
            table[name] = ''
        for row in np.atleast_1d(rows):
            table.loc[row - 2, name] = str(value)
    save(c, table)


def text(c, change, name='manifest.csv', encoding='utf-8'):
    "Change the text of a file."
    (c / name).write_bytes(change((c / name).read_text()).encode(encoding))


def write(c, content, name='manifest.csv'):
    "Write a file, from text or bytes."
    (c / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(c, name, size):
    "Cut a file off after some bytes."
    write(c, (c / name).read_bytes()[:size], name)


def tags(c, name='radiograph1.dcm', **values):
    "Set tags of a DICOM file, unchecked; None deletes one."
    ds = pydicom.dcmread(c / name)
    for k, v in values.items():
        if v is None:
            delattr(ds, k)
        else:
            ds[k] = pydicom.DataElement(
                pydicom.datadict.tag_for_keyword(k),
                pydicom.datadict.dictionary_VR(k).split(' or ')[0],
                v,
                validation_mode=0,
            )
    ds.save_as(c / name)


def patch(c, name, keyword, value: bytes):
    "Overwrite the bytes of a tag's value in a DICOM file; the length stays."
    raw = bytearray((c / name).read_bytes())
    element = pydicom.dcmread(c / name).get_item(keyword)
    raw[element.value_tell : element.value_tell + element.length] = value.ljust(element.length)[
        : element.length
    ]
    write(c, bytes(raw), name)


def pixels(c, change, name='radiograph1.dcm'):
    "Change the pixels of a radiograph or mask and keep its header."
    if name.endswith('.dcm'):
        ds = pydicom.dcmread(c / name)
        ds.PixelData = change(ds.pixel_array).astype('<u2').tobytes()
        ds.save_as(c / name)
    else:
        image = sitk.ReadImage(str(c / name))
        write_itk(c / name, change(sitk.GetArrayFromImage(image)), image.GetSpacing())


def radiograph_as(c, name, content=None):
    "Let the first radiograph be the file `name`, written by `content(path)`."
    if content:
        content(c / name)
    cells(c, RADIOGRAPH, image=name, spacing=MM)


def mask_as(c, name, content=None):
    "Let the first mask be the file `name`, written by `content(path)`."
    if content:
        content(c / name)
    cells(c, RADIOGRAPH, mask=name)


def labels(c, change):
    "Change the labels of the first mask."
    pixels(c, change, 'mask1.nii.gz')


def picture(path, values, **how):
    "Write a picture."
    Picture.fromarray(values).save(path, **how)


def grey8(seed=0):
    "The grey levels of a scene in 8 bits."
    return (scene(seed)[0] // 8).astype(np.uint8)


def header(c, name, at, value, kind):
    "Overwrite a field of a NIfTI header."
    raw = bytearray(gzip.decompress((c / name).read_bytes()))
    new = np.array(value, kind).tobytes()
    raw[at : at + len(new)] = new
    write(c, gzip.compress(bytes(raw)), name)


# The catalogue.


@dataclass(frozen=True)
class Case:
    "One bad input."

    group: str
    words: str  # fixed words of the message
    rows: tuple | None  # where they must stand; None: reading raises; (): the cohort
    column: str | None
    spoil: Callable
    severity: str = 'error'
    file: str = 'manifest'

    @property
    def name(self):
        "The name of its function."
        return self.spoil.__name__

    @property
    def why(self):
        "Its docstring, the explanation on the page of messages."
        return ' '.join(self.spoil.__doc__.split())

    def __repr__(self):
        return f'{self.group}-{self.name}'


CATALOGUE, GROUPS = [], {}
# what is wrong here is wrong with one radiograph, whatever the others are
ALONE = (
    'The spreadsheet',
    'Paths',
    'DICOM radiographs',
    'Other images',
    'Masks',
    'Geometry',
)
COHORT = ()  # not a row: the cohort


def group(name, about, **always):
    "A decorator that files its entries under `name`."
    GROUPS[name] = ' '.join(about.split())

    def entry(words, rows=None, column=None, **kw):
        "The words that an input must lead to, and where."

        def file(spoil):
            "Add the input to the catalogue."
            CATALOGUE.append(
                Case(
                    name,
                    words,
                    (rows,) if isinstance(rows, int) else rows,
                    column,
                    spoil,
                    **{**always, **kw},
                )
            )
            return spoil

        return file

    return entry


spreadsheet = group(
    'The spreadsheet',
    'Files that are no table, columns that are missing or double, cells that cannot be '
    'what they should be.',
)


@spreadsheet('no manifest at')
def folder_without_a_manifest(c):
    """The folder holds neither `manifest.csv` nor `manifest.xlsx`. Name the file itself if it is
    called otherwise."""
    (c / 'manifest.csv').rename(c / 'list.csv')


@spreadsheet('no manifest at')
def folder_instead_of_a_manifest(c):
    "A folder is called `manifest.csv`."
    (c / 'manifest.csv').unlink()
    (c / 'manifest.csv').mkdir()


@spreadsheet('it is empty')
def empty_file(c):
    "There is nothing in the file. Was it copied before it was saved?"
    write(c, '')


@spreadsheet('it is empty')
def blank_lines_only(c):
    "Nothing but separators and line ends."
    write(c, '\n\n,,,\n\n')


@spreadsheet('cannot be read as a table')
def binary_junk(c):
    """Something else was given the name of a spreadsheet, or it was saved in another encoding than
    UTF-8. The bracket holds the words of the parser; save it again as CSV in UTF-8, or as .xlsx."""
    write(c, np.random.default_rng(0).bytes(4000))


@spreadsheet('cannot be read as a table')
def utf16(c):
    "Excel's `Unicode text`."
    text(c, str, encoding='utf-16')


@spreadsheet('cannot be read as a table')
def windows_1252(c):
    "An umlaut saved by an old Windows."
    text(c, lambda t: t.replace('I,', 'Köln,'), encoding='cp1252')


@spreadsheet('cannot be read as a table')
def broken_workbook(c):
    "A real workbook that broke off."
    sheet(c).to_excel(c / 'manifest.xlsx', index=False)
    (c / 'manifest.csv').unlink()
    cut(c, 'manifest.xlsx', 2000)


@spreadsheet('cannot be read as a table')
def csv_named_xlsx(c):
    "A CSV with the name of a workbook."
    (c / 'manifest.csv').rename(c / 'manifest.xlsx')


@spreadsheet('cannot be read as a table')
def row_too_long(c):
    "One row has more cells than the header, as an unquoted comma leaves it."
    text(c, lambda t: t.replace('Female', 'Female, by passport', 1))


@spreadsheet('cannot be read as a table')
def quote_without_end(c):
    "A quotation mark that nobody closed."
    text(c, lambda t: t.replace('p1', '"p1', 1))


@spreadsheet('it holds NUL bytes')
def nul_byte(c):
    """The table was cut out of a binary file, or damaged on the way. What stands behind a NUL byte
    would be lost in silence; save the table again from its program."""
    text(c, lambda t: t.replace('p1', 'p\0001', 1))


@spreadsheet('names the column age twice')
def column_twice(c):
    "Two columns have one name, and only one can be meant. Keep one of them."
    text(c, lambda t: t.replace('t_score', 'age', 1))


@spreadsheet('names the column patient_id twice')
def column_twice_in_two_spellings(c):
    "`Patient ID` and `patient_id` are one column."
    save(c, sheet(c).assign(**{'Patient ID': 'x'}))


@spreadsheet('column is missing', COHORT, 'mask')
def column_missing(c):
    "A needed column is not there, or has a name that was not recognised. Add it, or rename it."
    save(c, sheet(c).drop(columns='mask'))


@spreadsheet('column is missing', COHORT, 'vertebra_id')
def no_header(c):
    "The first row of data was taken for the header."
    text(c, lambda t: t.split('\n', 1)[1])


@spreadsheet('column is missing', COHORT, 'center')
def two_tables_in_one_sheet(c):
    "A title above the header is taken for the header."
    text(c, lambda t: 'Fractures 2024' + ',' * 13 + '\n' + t)


@spreadsheet('no rows to study', COHORT, 'vertebra_id')
def header_only(c):
    """There is a header and nothing below it, or every row is excluded by `exclusion`. Add one row
    per vertebra."""
    save(c, sheet(c).head(0))


@spreadsheet('no rows to study', COHORT, 'vertebra_id')
def all_rows_excluded(c):
    "Every row has a reason to be left out."
    cells(c, range(2, 14), exclusion='tumour')


@spreadsheet('stands in more than one row', (3, 6), 'vertebra_id')
def id_twice(c):
    "Two vertebrae have one name, so their results would be mixed up. Give every vertebra its own."
    cells(c, 6, vertebra_id='v02')


@spreadsheet('is empty', 5, 'vertebra_id')
def id_blank(c):
    "A cell that is needed in every row is blank."
    cells(c, 5, vertebra_id='')


@spreadsheet('is empty', 5, 'patient_id')
def patient_blank(c):
    "Without the patient, vertebrae of one spine could land in two sets."
    cells(c, 5, patient_id='  ')


@spreadsheet('is empty', 5, 'center')
def center_blank(c):
    "The hospital is needed for harmonisation."
    cells(c, 5, center='')


@spreadsheet('is empty', 5, 'image')
def radiograph_blank(c):
    "No radiograph is named."
    cells(c, 5, image='')


@spreadsheet('is empty', 13, 'mask')
def row_too_short(c):
    "A row that ends early lacks the cells to its right."
    text(c, lambda t: '\n'.join(t.split('\n')[:12]) + '\nv33,p3,II,radiograph4.dcm\n')


@spreadsheet('is empty', 7, 'fracture_class')
def not_graded(c):
    "No class, and nothing it could be derived from."
    cells(c, 7, fracture_class='', astlof='')


@spreadsheet('is empty', 7, 'split')
def split_half_filled(c):
    "`split` is filled in some rows only."
    cells(c, 7, split='')


@spreadsheet('is empty', 4, 'patient_id')
def formula_without_value(c):
    """A workbook written by a program holds formulas that no office program has computed yet: they
    read as blanks. Open and save it once."""
    table = sheet(c)
    table.loc[2, 'patient_id'] = '=B3'
    table.to_excel(c / 'manifest.xlsx', index=False)
    (c / 'manifest.csv').unlink()


@spreadsheet('not a number', 6, 'age')
def word_for_a_number(c):
    """A column of numbers holds something else. Give a number, or leave the cell empty where the
    column allows it."""
    cells(c, 6, age='seventy')


@spreadsheet('not a number', 6, 't_score')
def two_decimal_marks(c):
    "`1.234,5` could be one thing or the other."
    cells(c, 6, t_score='-1.234,5')


@spreadsheet('not a number', 6, 'age')
def infinity(c):
    "`inf` is a number for a computer only."
    cells(c, 6, age='inf')


@spreadsheet('not a number', 6, 'spacing')
def number_with_unit(c):
    "Units belong in the header."
    cells(c, 6, spacing='0.6 mm')


@spreadsheet('not a number', 6, 'age')
def formula_in_csv(c):
    "A CSV holds values, not formulas."
    cells(c, 6, age='=YEAR(A1)')


@spreadsheet('not a number', 6, 'age')
def error_of_excel(c):
    "What Excel writes where a formula fails."
    cells(c, 6, age='#VALUE!')


@spreadsheet('not a whole number', 6, 'fracture_class')
def half_a_class(c):
    "Classes, points and labels are whole numbers."
    cells(c, 6, fracture_class='1.5')


@spreadsheet('is not allowed (must be from', 6, 'age')
def age_of_172(c):
    """The number is outside what the column can hold; the way out names what is expected. Here a
    height was typed into the age."""
    cells(c, 6, age=172)


@spreadsheet('is not allowed (must be from', 6, 't_score')
def t_score_of_minus_28(c):
    "The decimal point was lost."
    cells(c, 6, t_score=-28)


@spreadsheet('is not allowed (must be from', 6, 'spacing')
def spacing_in_micrometres(c):
    "150 is a pixel size in micrometres."
    cells(c, 6, spacing=150)


@spreadsheet('is not allowed (must be from', 6, 'spacing')
def spacing_of_zero(c):
    "No pixel has size 0."
    cells(c, 6, spacing=0)


@spreadsheet('is not allowed (must be from', 6, 'astlof')
def total_of_nine(c):
    "Four parts of two points make eight."
    cells(c, 6, astlof=9, fracture_class='')


@spreadsheet('is not allowed (must be from', 6, 'morphology')
def three_points(c):
    "Each part of the score has 0 to 2 points."
    cells(c, 6, morphology=3)


@spreadsheet('is not allowed (must be 1 or more)', 6, 'mask_label')
def label_zero(c):
    "Label 0 is the background of a mask. Name the number of the vertebral body."
    cells(c, 6, mask_label=0)


@spreadsheet('is not allowed (must be one of', 6, 'fracture_class')
def class_three(c):
    "The value is none of those the column knows; the message lists them. Classes are 0, 1 and 2."
    cells(c, 6, fracture_class=3, astlof='')


@spreadsheet('is not allowed (must be one of', 6, 'split')
def unknown_split(c):
    "The sets are called train, internal, external and prospective."
    cells(c, 6, split='test')


@spreadsheet('is not allowed (must be one of', 6, 'sex')
def unknown_sex(c):
    "`F`, `female` and `Female` are understood; `weiblich` is not."
    cells(c, 6, sex='weiblich')


@spreadsheet('is not allowed (must be one of', 6, 'stage')
def unknown_stage(c):
    "Acute or Chronic."
    cells(c, 6, stage='subacute')


@spreadsheet('is not allowed (must be one of', 6, 'treatment')
def unknown_treatment(c):
    "Conservative, PVA or Open surgery."
    cells(c, 6, treatment='wait and see')


@spreadsheet('is not allowed (must be one of', 6, 'included')
def included_maybe(c):
    "yes or no."
    cells(c, 6, included='maybe')


@spreadsheet('is not allowed (must be T1 to T12 or L1 to L6)', 6, 'level')
def cervical_level(c):
    """The level is none of T1 to T12 and L1 to L6. The assessment is for thoracic and lumbar
    vertebrae."""
    cells(c, 6, level='C7')


@spreadsheet('too large', 6, 'mask_label')
def huge_number(c):
    """The number is larger than any that could be meant here, as when an accession number slips
    into the wrong column."""
    cells(c, 6, mask_label='9' * 30)


@spreadsheet('too large', 6, 'fracture_class')
def huge_class(c):
    "A class of a quadrillion."
    cells(c, 6, fracture_class='1e16', astlof='')


@spreadsheet('contradicts astlof', 6, 'fracture_class')
def class_against_total(c):
    """Class and total stand side by side and do not agree: up to 3 points is class 0, 4 is class 1,
    5 or more is class 2. One of them is a typing error."""
    cells(c, 6, fracture_class=2)


@spreadsheet('contradicts morphology + mri + bone_density + clinical', 6, 'astlof')
def total_against_parts(c):
    "The total is not the sum of its four parts. Correct one of the five."
    cells(c, 6, morphology=1, mri=1, bone_density=1, clinical=0)


@spreadsheet('contradicts t_score', 6, 'bone_density')
def points_against_t_score(c):
    "A T-score above -2.5 is 0 points, above -3.5 is 1, and -3.5 or less is 2."
    cells(c, 6, bone_density=2)


@spreadsheet('contradicts level', 6, 'location')
def location_against_level(c):
    "L2 is not thoracic."
    cells(c, 6, location='thoracic')


@spreadsheet('contradicts included = yes', 6, 'exclusion')
def excluded_and_included(c):
    "A row is marked as studied and has a reason why it is not."
    cells(c, 6, exclusion='tumour', included='yes')


@spreadsheet('is no reason', 6, 'exclusion')
def excluded_for_no_reason(c):
    "A word that means `studied` stands where reasons for leaving out stand. Leave the cell empty."
    cells(c, 6, exclusion='none')


@spreadsheet('is empty', 6, 'center')
def excluded_without_center(c):
    "The flow chart counts those left out by center."
    cells(c, 6, exclusion='tumour', center='')


paths = group(
    'Paths',
    'Where radiographs and masks are. Paths are relative to the manifest, and stay in its folder.',
)


@paths("leaves the cohort's folder", RADIOGRAPH, 'image')
def outside_by_dots(c):
    """The path leads out of the folder of the manifest. Move the file in; or, if the radiographs
    are in an archive of yours, allow it with `--allow-outside`."""
    shutil.copy(c / 'radiograph1.dcm', c.parent / 'radiograph1.dcm')
    cells(c, RADIOGRAPH, image='../radiograph1.dcm')


@paths("leaves the cohort's folder", RADIOGRAPH, 'mask')
def outside_by_absolute_path(c):
    "An absolute path to somewhere else."
    shutil.copy(c / 'mask1.nii.gz', c.parent / 'other.nii.gz')
    cells(c, RADIOGRAPH, mask=c.parent / 'other.nii.gz')


@paths("leaves the cohort's folder", RADIOGRAPH, 'image')
def outside_by_symlink(c):
    "A link in the folder that points out of it."
    (c / 'radiograph1.dcm').rename(c.parent / 'radiograph1.dcm')
    (c / 'radiograph1.dcm').symlink_to(c.parent / 'radiograph1.dcm')


@paths("leaves the cohort's folder", RADIOGRAPH, 'image')
def outside_by_linked_folder(c):
    "A linked folder that is elsewhere."
    (c.parent / 'archive').mkdir()
    (c / 'radiograph1.dcm').rename(c.parent / 'archive/radiograph1.dcm')
    (c / 'radiographs').symlink_to(c.parent / 'archive')
    cells(c, RADIOGRAPH, image='radiographs/radiograph1.dcm')


@paths('is a folder', RADIOGRAPH, 'image')
def folder_of_a_series(c):
    """The path names a folder, as viewers export a series. Name the one file in it that is the
    lateral radiograph."""
    (c / 'series').mkdir()
    (c / 'radiograph1.dcm').rename(c / 'series/radiograph1.dcm')
    cells(c, RADIOGRAPH, image='series')


@paths('is a folder', RADIOGRAPH, 'image')
def the_folder_itself(c):
    "A dot."
    cells(c, RADIOGRAPH, image='.')


@paths('file not found', RADIOGRAPH, 'image')
def missing_with_a_near_name(c):
    "There is no such file. Where one of nearly the same name is in that folder, it is suggested."
    cells(c, RADIOGRAPH, image='radiogarph1.dcm')


@paths('file not found', 3, 'mask')
def missing_without_a_near_name(c):
    "Nothing like it is there."
    cells(c, 3, mask='elsewhere/drawn by me.nii.gz')


@paths('file not found', RADIOGRAPH, 'image')
def other_case(c):
    "Upper and lower case are two different names on Linux."
    cells(c, RADIOGRAPH, image='RADIOGRAPH1.DCM')


@paths('file not found', RADIOGRAPH, 'image')
def url(c):
    "A web address; download the radiograph first."
    cells(c, RADIOGRAPH, image='https://pacs.example.org/radiograph1.dcm')


@paths('file not found', RADIOGRAPH, 'image')
def windows_drive(c):
    "A path on someone's desk."
    cells(c, RADIOGRAPH, image=r'C:\Users\me\Desktop\radiograph1.dcm')


@paths('file not found', RADIOGRAPH, 'image')
def home(c):
    "A tilde is not understood."
    cells(c, RADIOGRAPH, image='~/radiograph1.dcm')


@paths('file not found', RADIOGRAPH, 'image')
def a_device(c):
    "Something that is not a file, and would never end."
    cells(c, RADIOGRAPH, image='/dev/zero')


@paths('file not found', RADIOGRAPH, 'image')
def broken_link(c):
    "A link whose target is gone."
    (c / 'radiograph1.dcm').unlink()
    (c / 'radiograph1.dcm').symlink_to(c / 'gone.dcm')


@paths('is no path', RADIOGRAPH, 'image')
def path_of_5000_characters(c):
    "The cell is nothing that could be the name of a file; here it is far too long."
    cells(c, RADIOGRAPH, image='radiograph' * 1250)


@paths('is no path', RADIOGRAPH, 'image')
def link_to_itself(c):
    "A link that runs in a circle."
    (c / 'radiograph1.dcm').unlink()
    (c / 'radiograph1.dcm').symlink_to(c / 'radiograph1.dcm')


@paths('is the radiograph itself', 3, 'mask')
def radiograph_for_a_mask(c):
    "Both columns name one file. The mask is the file in which the body was drawn."
    cells(c, 3, mask='radiograph1.dcm')


radiographs = group(
    'DICOM radiographs', 'What archives, viewers and broken copies make of a radiograph.'
)


@radiographs('not a DICOM file, in spite of its name', RADIOGRAPH, 'image')
def text_named_dcm(c):
    """The file is called .dcm and is none: a note, a web page saved by mistake, a download that
    failed."""
    write(c, 'Radiograph is with Dr. Y.', 'radiograph1.dcm')


@radiographs('not a DICOM file, in spite of its name', RADIOGRAPH, 'image')
def cut_in_the_preamble(c):
    "Broken off within the first 128 bytes."
    cut(c, 'radiograph1.dcm', 100)


@radiographs('0 bytes', RADIOGRAPH, 'image')
def radiograph_of_zero_bytes(c):
    "A copy that never began. Copy the file again."
    write(c, '', 'radiograph1.dcm')


@radiographs('holds no pixels', RADIOGRAPH, 'image')
def radiograph_without_pixels(c):
    """The object has no image in it: a report, a header without its image, a file that broke off
    before its pixels."""
    tags(c, PixelData=None)


@radiographs('holds no pixels', RADIOGRAPH, 'image')
def cut_in_the_header(c):
    "Broken off between two tags."
    cut(c, 'radiograph1.dcm', 400)


@radiographs('holds no pixels', RADIOGRAPH, 'image')
def rtstruct_for_a_radiograph(c):
    "Contours of a radiotherapy program."
    tags(c, PixelData=None, SOPClassUID='1.2.840.10008.5.1.4.1.1.481.3', Modality='RTSTRUCT')


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def cut_in_the_pixels(c):
    """The pixels cannot be made out: the file broke off, the compressed stream is damaged, or the
    header is wrong about its pixels. The bracket holds the compression and the words of the
    decoder."""
    cut(c, 'radiograph1.dcm', 20000)


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def last_row_missing(c):
    "Hardly broken off at all."
    cut(c, 'radiograph1.dcm', (c / 'radiograph1.dcm').stat().st_size - 2 * W)


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def rows_too_many(c):
    "The header promises more rows than there are."
    tags(c, Rows=H + 1)


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def broken_jpeg2000(c):
    "Noise in the compressed stream."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.compress(JPEG2000Lossless, generate_instance_uid=False)
    ds.save_as(c / 'radiograph1.dcm')
    raw = bytearray((c / 'radiograph1.dcm').read_bytes())
    at = raw.find(b'\xff\x4f\xff\x51')  # the start of the stream
    raw[at + 4 : at + 40] = bytes(36)
    write(c, bytes(raw), 'radiograph1.dcm')


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def broken_rle(c):
    "A run-length stream without its table."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.PixelData = pydicom.encaps.encapsulate([bytes(2000)])
    ds.save_as(c / 'radiograph1.dcm')


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def uncompressed_and_said_to_be_jpeg(c):
    "The transfer syntax is wrong."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.file_meta.TransferSyntaxUID = UID('1.2.840.10008.1.2.4.70')
    ds.PixelData = pydicom.encaps.encapsulate([ds.PixelData])
    ds['PixelData'].is_undefined_length = True
    ds.save_as(c / 'radiograph1.dcm')


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def unknown_transfer_syntax(c):
    "A compression that only its maker knows."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.file_meta.TransferSyntaxUID = UID('1.2.3.4.5.6.7')
    ds.save_as(c / 'radiograph1.dcm', implicit_vr=False, little_endian=True)


@radiographs('pixels cannot be decoded', RADIOGRAPH, 'image')
def bits_allocated_32(c):
    "Sixteen bits are called thirty-two."
    tags(c, BitsAllocated=32, BitsStored=32, HighBit=31)


@radiographs('more bytes of pixels than the header declares', RADIOGRAPH, 'image')
def bits_allocated_13(c):
    """The file holds more pixels than rows, columns and bits of its header make: the header was
    edited, or the radiograph was cropped in the header only. What would be read is half a
    radiograph, or a slanted one."""
    tags(c, BitsAllocated=13)


@radiographs('more bytes of pixels than the header declares', RADIOGRAPH, 'image')
def rows_too_few(c):
    "The lower rows would go unseen."
    tags(c, Rows=H - 20)


@radiographs('more bytes of pixels than the header declares', RADIOGRAPH, 'image')
def columns_too_few(c):
    "A column less, and every row slides a little further to the left."
    tags(c, Columns=W - 1)


@radiographs('more bytes of pixels than the header declares', RADIOGRAPH, 'image')
def bits_allocated_8(c):
    "Sixteen bits are called eight."
    tags(c, BitsAllocated=8, BitsStored=8, HighBit=7)


@radiographs('more bytes of pixels than the header declares', RADIOGRAPH, 'image')
def frames_not_counted(c):
    "Two frames, and no `NumberOfFrames`."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.PixelData = 2 * ds.PixelData
    ds.save_as(c / 'radiograph1.dcm')


@radiographs('no radiograph has that size', RADIOGRAPH, 'image')
def no_rows(c):
    "The header declares a size that no detector has: nothing at all, or billions of pixels."
    tags(c, Rows=0)


@radiographs('no radiograph has that size', RADIOGRAPH, 'image')
def four_billion_pixels(c):
    "65,535 rows and columns."
    tags(c, Rows=65535, Columns=65535)


@radiographs('the DICOM header contradicts itself', RADIOGRAPH, 'image')
def no_columns_tag(c):
    """Tags that a radiograph must have are not there, or hold what they cannot hold. The bracket
    names what went wrong. Export the radiograph again."""
    tags(c, Columns=None)


@radiographs('the DICOM header contradicts itself', RADIOGRAPH, 'image')
def slope_is_text(c):
    "A rescale slope that is no number."
    tags(c, RescaleIntercept='0', RescaleSlope='1')
    patch(c, 'radiograph1.dcm', 'RescaleSlope', b'x')


@radiographs('frames; a lateral radiograph has one', RADIOGRAPH, 'image')
def multi_frame(c):
    "A cine loop, or several views in one object. Choose the frame and export it alone."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.PixelData = 3 * ds.PixelData
    ds.NumberOfFrames = 3
    ds.save_as(c / 'radiograph1.dcm')


@radiographs('samples per pixel', RADIOGRAPH, 'image')
def rgb(c):
    """A screen capture in colour. Its grey levels are those of a monitor; ask the archive for the
    original."""
    tags(c, SamplesPerPixel=3, PhotometricInterpretation='RGB', PlanarConfiguration=0)


@radiographs('a radiograph is MONOCHROME1 or MONOCHROME2', RADIOGRAPH, 'image')
def palette_colour(c):
    "Grey levels are looked up in a table of colours."
    tags(c, PhotometricInterpretation='PALETTE COLOR')


@radiographs('a radiograph is MONOCHROME1 or MONOCHROME2', RADIOGRAPH, 'image')
def no_photometric_interpretation(c):
    "It is not known whether bone is white or black."
    tags(c, PhotometricInterpretation=None)


@radiographs('is a segmentation, not a radiograph', RADIOGRAPH, 'image')
def seg_for_a_radiograph(c):
    "Radiograph and mask were exchanged."
    cells(c, RADIOGRAPH, image='mask4.dcm', mask='mask1.nii.gz')


@radiographs('is a DICOMDIR', RADIOGRAPH, 'image')
def dicomdir(c):
    """The table of contents of a patient's disc. The radiographs are in its folders, under names
    such as IM000001."""
    record = Dataset()
    record.DirectoryRecordType = 'IMAGE'
    tags(
        c,
        PixelData=None,
        SOPClassUID='1.2.840.10008.1.3.10',
        DirectoryRecordSequence=Sequence([record]),
    )
    (c / 'radiograph1.dcm').rename(c / 'DICOMDIR')
    cells(c, RADIOGRAPH, image='DICOMDIR')


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_zero(c):
    """A pixel size that cannot be one: zero, negative, in micrometres, one number, three numbers,
    words. Correct the tag; or delete it and give a `spacing` column."""
    tags(c, PixelSpacing=[0, 0])


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_negative(c):
    "Minus."
    tags(c, PixelSpacing=[-0.6, -0.6])


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_three_values(c):
    "The third is a slice thickness."
    tags(c, PixelSpacing=[0.6, 0.6, 0.6])


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_150(c):
    "Micrometres."
    tags(c, PixelSpacing=[150, 150])


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def detector_spacing_negative(c):
    "The same for `ImagerPixelSpacing`."
    tags(c, PixelSpacing=None, ImagerPixelSpacing=[0.15, -0.15])


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_nan(c):
    "`NaN` is accepted by a parser of numbers."
    patch(c, 'radiograph1.dcm', 'PixelSpacing', b'NaN\\NaN')


@radiographs('between 0.01 and 5 mm', RADIOGRAPH, 'image')
def spacing_in_words(c):
    "Letters where numbers belong."
    patch(c, 'radiograph1.dcm', 'PixelSpacing', b'a\\b')


@radiographs('a factor from 1 to 3', RADIOGRAPH, 'image')
def magnification_in_per_cent(c):
    """The magnification of the spine on the detector is a factor such as 1.1. Correct or delete the
    tag."""
    tags(
        c,
        PixelSpacing=None,
        ImagerPixelSpacing=[0.6, 0.6],
        EstimatedRadiographicMagnificationFactor=110,
    )


@radiographs('a factor from 1 to 3', RADIOGRAPH, 'image')
def magnification_below_one(c):
    "Nothing becomes smaller on its way to the detector."
    tags(
        c,
        PixelSpacing=None,
        ImagerPixelSpacing=[0.6, 0.6],
        EstimatedRadiographicMagnificationFactor='0.5',
    )


@radiographs('NaN or infinite', RADIOGRAPH, 'image')
def slope_nan(c):
    "Grey levels came out as something that is no number. Export the radiograph again as integers."
    tags(c, RescaleIntercept='0', RescaleSlope='1.0')
    patch(c, 'radiograph1.dcm', 'RescaleSlope', b'NaN')


@radiographs('NaN or infinite', RADIOGRAPH, 'image')
def float_pixels_with_nan(c):
    "A radiograph stored in floating point, with holes."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    values = ds.pixel_array.astype('<f4')
    values[0, 0] = np.nan
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated, ds.FloatPixelData = 32, values.tobytes()
    ds.save_as(c / 'radiograph1.dcm')


@radiographs('every pixel is', RADIOGRAPH, 'image')
def slope_zero(c):
    "All grey levels are one: a blank exposure, a failed export, a rescale slope of 0."
    tags(c, RescaleIntercept='0', RescaleSlope='0')


@radiographs('every pixel is', RADIOGRAPH, 'image')
def constant_radiograph(c):
    "A blank exposure."
    pixels(c, lambda p: 0 * p + 7)


others = group('Other images', 'NIfTI, NRRD and pictures: converters, browsers and telephones.')


@others('unknown format', RADIOGRAPH, 'image')
def word_document(c):
    """The suffix is none that is known, and the file is no DICOM. Export the radiograph as DICOM,
    NIfTI, NRRD, PNG, TIFF or JPEG."""
    radiograph_as(c, 'radiograph.docx', lambda p: p.write_text('see picture'))


@others('unknown format', RADIOGRAPH, 'image')
def bitmap(c):
    "A picture, of a kind that is not read."
    radiograph_as(c, 'radiograph.bmp', lambda p: picture(p, grey8()))


@others('the file breaks off', NIFTI, 'image')
def cut_nifti_gz(c):
    "A copy stopped before its end. Copy the file again."
    cut(c, 'radiograph2.nii.gz', 9000)


@others('the file breaks off', RADIOGRAPH, 'image')
def cut_nifti(c):
    "The same, without compression."
    radiograph_as(c, 'radiograph.nii', lambda p: (write_itk(p, scene(0)[0]), cut(c, p.name, 20000)))


@others('the file breaks off', NIFTI, 'image')
def header_wants_more(c):
    "The header promises more rows than there are."
    header(c, 'radiograph2.nii.gz', 44, 4000, '<i2')


@others('is the file complete, and is its suffix right', NIFTI, 'image')
def damaged_gzip(c):
    """The reader gave up; the bracket holds its words. The file was damaged on the way, or has the
    suffix of another format."""
    raw = bytearray((c / 'radiograph2.nii.gz').read_bytes())
    raw[6000:6040] = bytes(40)
    write(c, bytes(raw), 'radiograph2.nii.gz')


@others('no radiograph has that size', NIFTI, 'image')
def nifti_of_a_gigapixel(c):
    "A header that would fill the memory: a few damaged bytes, or a decompression bomb."
    header(c, 'radiograph2.nii.gz', 42, [30000, 30000], '<i2')


@others('no radiograph has that size', RADIOGRAPH, 'image')
def png_bomb(c):
    "A picture of 60 bytes that declares 60,000 x 60,000 pixels."
    import struct
    import zlib

    def chunk(kind, data):
        check = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + check

    radiograph_as(
        c,
        'radiograph.png',
        lambda p: p.write_bytes(
            b'\x89PNG\r\n\x1a\n'
            + chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 0, 0, 0, 0))
            + chunk(b'IDAT', b'')
            + chunk(b'IEND', b'')
        ),
    )


@others('is the file complete, and is its suffix right', PNG, 'image')
def cut_png(c):
    "A picture that broke off."
    cut(c, 'radiograph3.png', 9000)


@others('is the file complete, and is its suffix right', RADIOGRAPH, 'image')
def cut_nrrd(c):
    "An NRRD that broke off."
    radiograph_as(c, 'radiograph.nrrd', lambda p: (write_itk(p, scene(0)[0]), cut(c, p.name, 9000)))


@others('by its content', RADIOGRAPH, 'image')
def png_named_nifti(c):
    """A picture was given the suffix of a volume, or a volume that of another. Give it its own, so
    that nobody takes a printing resolution for a pixel size."""
    radiograph_as(c, 'radiograph.nii.gz', lambda p: shutil.copy(c / 'radiograph3.png', p))


@others('is the file complete, and is its suffix right', RADIOGRAPH, 'image')
def nifti_named_png(c):
    "A volume was renamed."
    radiograph_as(c, 'radiograph.png', lambda p: shutil.copy(c / 'radiograph2.nii.gz', p))


@others('by its content', RADIOGRAPH, 'image')
def png_named_nrrd(c):
    "The same."
    radiograph_as(c, 'radiograph.nrrd', lambda p: shutil.copy(c / 'radiograph3.png', p))


@others('its pixels are in another file', RADIOGRAPH, 'image')
def header_apart_from_its_pixels(c):
    """A header names a second file for its pixels, which may be left behind, change, or be outside
    the folder. Save both as one."""
    radiograph_as(c, 'radiograph.nhdr', lambda p: write_itk(p, scene(0)[0]))


@others('its pixels are in another file', RADIOGRAPH, 'image')
def metaimage_that_points_outside(c):
    "The same for a MetaImage."
    radiograph_as(
        c,
        'radiograph.mhd',
        lambda p: (
            write_itk(p, scene(0)[0]),
            p.write_text(
                p.read_text()
                .replace('radiograph.raw', '../radiograph.raw')
                .replace('radiograph.zraw', '../radiograph.zraw')
            ),
        ),
    )


@others('is the file complete, and is its suffix right', RADIOGRAPH, 'image')
def svg_named_tif(c):
    "A drawing."
    radiograph_as(
        c, 'radiograph.tif', lambda p: p.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    )


@others('by its header a pixel measures', NIFTI, 'image')
def nifti_in_micrometres(c):
    """The header of a volume gives a pixel size that no radiograph has: its numbers are micrometres
    or metres. Correct the header, or give a `spacing` column, which overrules it."""
    write_itk(c / 'radiograph2.nii.gz', scene(1)[0], (600.0, 600.0))


@others('by its header a pixel measures', NIFTI, 'image')
def nifti_in_metres(c):
    "The same, in metres."
    write_itk(c / 'radiograph2.nii.gz', scene(1)[0], (0.0006, 0.0006))


@others('not a volume', NIFTI, 'image')
def volume(c):
    "There is more than one slice. Name a radiograph, not a CT; or cut the slice out."
    pixels(c, lambda p: np.stack([p] * 4), 'radiograph2.nii.gz')


@others('not a volume', NIFTI, 'image')
def four_dimensions(c):
    "A series over time."
    write_itk(c / 'radiograph2.nii.gz', np.stack([np.stack([scene(1)[0]] * 2)] * 2))


@others('not a volume', RADIOGRAPH, 'image')
def tiff_of_several_pages(c):
    "A fax."
    radiograph_as(
        c,
        'radiograph.tif',
        lambda p: Picture.fromarray(grey8()).save(
            p, save_all=True, append_images=[Picture.fromarray(grey8(1))]
        ),
    )


@others('NaN or infinite', NIFTI, 'image')
def nifti_with_nan(c):
    "Holes in a radiograph in floating point."
    pixels(c, lambda p: np.where(p > 1500, np.nan, p).astype(np.float32), 'radiograph2.nii.gz')


@others('NaN or infinite', RADIOGRAPH, 'image')
def tiff_with_infinity(c):
    "The same as TIFF."
    radiograph_as(
        c,
        'radiograph.tif',
        lambda p: write_itk(p, np.where(scene(0)[0] > 1500, np.inf, 1).astype(np.float32)),
    )


@others('a colour picture', RADIOGRAPH, 'image')
def photograph(c):
    """The channels of the picture differ: a photograph of a light box, a screen capture with
    coloured annotations. Export the radiograph in grey."""
    radiograph_as(
        c,
        'radiograph.png',
        lambda p: picture(p, np.stack([grey8(), grey8() // 2, grey8() // 3], -1)),
    )


@others('a colour picture', RADIOGRAPH, 'image')
def palette_png(c):
    "Indices into a table of colours are no grey levels."

    def content(p):
        image = Picture.fromarray(grey8(), 'P')
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
        image.save(p)

    radiograph_as(c, 'radiograph.png', content)


@others('a colour picture', RADIOGRAPH, 'image')
def cmyk_jpeg(c):
    "A picture for a printing press."
    radiograph_as(
        c,
        'radiograph.jpg',
        lambda p: (
            Picture.fromarray(np.stack([grey8(), grey8() // 2, grey8() // 3], -1))
            .convert('CMYK')
            .save(p)
        ),
    )


@others('holds only', RADIOGRAPH, 'image', severity='warning')
def one_bit_png(c):
    """A radiograph has thousands of grey levels, a mask two. Were the columns exchanged, or was a
    thumbnail exported?"""
    radiograph_as(c, 'radiograph.png', lambda p: Picture.fromarray(grey8() > 190).save(p))


@others('every pixel is', NIFTI, 'image')
def black_nifti(c):
    "Nothing but zeros."
    pixels(c, lambda p: 0 * p, 'radiograph2.nii.gz')


masks = group('Masks', 'What was drawn, how it was saved, and which body is meant.')


@masks('empty, no pixel differs from 0', RADIOGRAPH, 'mask')
def empty_mask(c):
    "The mask was saved before anything was drawn."
    labels(c, lambda m: 0 * m)


@masks('too few for a vertebral body', 3, 'mask')
def one_pixel(c):
    "The label is a dab of the brush. Erase it, or draw the body."
    labels(c, lambda m: np.where((m == 2) & (np.cumsum(m == 2).reshape(m.shape) > 1), 0, m))


@masks('texture needs 64', 3, 'mask')
def forty_pixels(c):
    """The body has too few pixels for texture features. Is it the right label, and was the
    radiograph not reduced in size?"""
    labels(c, lambda m: np.where((m == 2) & (np.cumsum(m == 2).reshape(m.shape) > 40), 0, m))


@masks('no label 7', 3, 'mask')
def wrong_label(c):
    """The mask does not hold the label that the spreadsheet names; the message lists those it does
    hold."""
    cells(c, 3, mask_label=7)


@masks('holds labels 1, 2, 3', 3, 'mask')
def label_not_given(c):
    "Several bodies are drawn in the file and the spreadsheet does not name one. Fill `mask_label`."
    cells(c, 3, mask_label='')


@masks('covers the same body as row', 4, 'mask')
def same_body_twice(c):
    "Two rows point at one body. Each vertebra needs a mask or a label of its own."
    cells(c, 4, mask_label=2)


@masks('the mask was interpolated', RADIOGRAPH, 'mask')
def interpolated(c):
    """Labels between whole numbers: the mask was resampled as if it were a radiograph. Resample it
    with nearest neighbour."""
    labels(c, lambda m: (m + np.roll(m, 1, 0)) / np.float32(2.0))


@masks('NaN or infinite', RADIOGRAPH, 'mask')
def mask_with_nan(c):
    "Where nothing was drawn stands `NaN`. Export the labels as whole numbers."
    labels(c, lambda m: np.where(m, m, np.nan).astype(np.float32))


@masks('masks must not be saved as JPEG', RADIOGRAPH, 'mask')
def jpeg_mask(c):
    "JPEG smears the edge of a mask over many values. Save it as PNG or NIfTI."
    mask_as(c, 'mask.jpg', lambda p: picture(p, 80 * scene(0)[1], quality=40))


@masks('a colour picture', RADIOGRAPH, 'mask')
def coloured_mask(c):
    "An overlay in colour. Export the labels, not their display."
    mask_as(
        c,
        'mask.png',
        lambda p: picture(p, np.stack([scene(0)[1] * 80, 0 * scene(0)[1], 0 * scene(0)[1]], -1)),
    )


@masks('contours (RTSTRUCT) and reports cannot be used', RADIOGRAPH, 'mask')
def rtstruct_mask(c):
    "Contours are points, not pixels. Export them as NIfTI or DICOM SEG."
    mask_as(
        c,
        'contours.dcm',
        lambda p: (
            shutil.copy(c / 'radiograph1.dcm', p),
            tags(c, p.name, PixelData=None, Modality='RTSTRUCT'),
        ),
    )


@masks('this DICOM SEG was drawn on another image', RADIOGRAPH, 'mask')
def seg_of_another_radiograph(c):
    """A SEG object names the radiograph it was drawn on, and it is not this one. Pair it with its
    own."""
    cells(c, RADIOGRAPH, mask='mask4.dcm')


@masks('of this DICOM SEG overlap', SEG, 'mask')
def overlapping_segments(c):
    "Two segments cover the same pixels. Correct the outlines."
    ds = pydicom.dcmread(c / 'mask4.dcm')
    frames = ds.pixel_array.copy()
    frames[1] |= frames[0]
    ds.PixelData = pydicom.pixels.pack_bits(frames)
    ds.save_as(c / 'mask4.dcm')


@masks('a radiograph has one slice', SEG, 'mask')
def seg_of_a_volume(c):
    "The object holds a stack of slices, as for CT."
    ds = pydicom.dcmread(c / 'mask4.dcm')
    for f in ds.PerFrameFunctionalGroupsSequence:
        f.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    ds.save_as(c / 'mask4.dcm')


@masks('the DICOM header contradicts itself', SEG, 'mask')
def seg_without_its_segments(c):
    "A SEG object that does not state which frame shows which segment. Export the mask again."
    ds = pydicom.dcmread(c / 'mask4.dcm')
    del ds.SegmentSequence
    for f in ds.PerFrameFunctionalGroupsSequence:
        del f.SegmentIdentificationSequence
    ds.save_as(c / 'mask4.dcm')


@masks('the file breaks off', RADIOGRAPH, 'mask')
def cut_mask(c):
    "A copy that stopped."
    cut(c, 'mask1.nii.gz', 200)


@masks('not a volume', RADIOGRAPH, 'mask')
def mask_of_a_volume(c):
    "A segmentation of CT."
    labels(c, lambda m: np.stack([m] * 3))


@masks("touches the radiograph's edge", 2, 'mask', severity='warning')
def touches_the_edge(c):
    """The body reaches the border of the radiograph and is probably cut off. Look; set it aside if
    so."""
    labels(
        c,
        lambda m: np.where(
            (np.arange(H) < 30)[:, None] & (np.arange(W) > 50) & (np.arange(W) < 70), 1, m
        ),
    )


@masks('pieces,', 3, 'mask', severity='warning')
def several_pieces(c):
    "Besides the body there are stray pixels under its label. Erase them."
    labels(
        c,
        lambda m: np.where(
            (np.arange(H) == 150)[:, None] & (np.arange(W) < 8) & (np.arange(W) > 3), 2, m
        ),
    )


@masks('no likely size of a vertebral body', NIFTI, 'mask', severity='warning')
def body_of_a_giant(c):
    """In millimetres the body is too small or too large for a vertebra. Look at the pixel size
    first."""
    for name in ('radiograph2.nii.gz', 'mask2.nii.gz'):
        write_itk(c / name, sitk.GetArrayFromImage(sitk.ReadImage(str(c / name))), (3.0, 3.0))


geometry = group(
    'Geometry',
    """Masks that do not fit their radiograph. Where header and pixels disagree, only you can know
    which is right: `--mask-geometry pixels` trusts the pixels, `--mask-geometry resample` trusts
    the header.""",
)


@geometry('rows and columns are swapped: transpose', RADIOGRAPH, 'mask')
def transposed(c):
    "The mask was written column by column. Transpose it on export."
    labels(c, lambda m: m.T)


@geometry('the mask is the radiograph reduced', RADIOGRAPH, 'mask')
def reduced(c):
    """The body was drawn on a smaller copy of the radiograph. Draw on the original, or use
    `--mask-geometry resample`."""
    labels(c, lambda m: m[::2, ::2])


@geometry('the mask is the radiograph enlarged', RADIOGRAPH, 'mask')
def larger_than_the_radiograph(c):
    "The radiograph was reduced after drawing."
    labels(c, lambda m: np.kron(m, np.ones((2, 2), np.uint8)))


@geometry('drawn on a cropped radiograph', RADIOGRAPH, 'mask')
def cropped(c):
    """The mask covers a part of the radiograph. If its header gives its place, use `--mask-geometry
    resample`."""
    labels(c, lambda m: m[10:, 5:80])


@geometry('was it drawn on another radiograph', RADIOGRAPH, 'mask')
def other_size(c):
    "Neither a part of the radiograph nor a smaller copy of it."
    labels(c, lambda m: np.pad(m, ((0, 40), (0, 0)))[:, :100])


@geometry("the mask's pixels measure", NIFTI, 'mask')
def other_spacing(c):
    "The headers disagree about the size of a pixel."
    write_itk(c / 'mask2.nii.gz', scene(1)[1], (0.3, 0.3))


@geometry('left and right are exchanged', NIFTI, 'mask')
def flipped_by_header(c):
    "The header of the mask runs the other way."
    write_itk(c / 'mask2.nii.gz', scene(1)[1], direction=(-1, 0, 0, 1), origin=((W - 1) * MM, 0.0))


@geometry('it is upside down', NIFTI, 'mask')
def upside_down_by_header(c):
    "The same, top and bottom."
    write_itk(c / 'mask2.nii.gz', scene(1)[1], direction=(1, 0, 0, -1), origin=(0.0, (H - 1) * MM))


@geometry('the mask is shifted by +', NIFTI, 'mask')
def shifted_origin(c):
    "By its header the mask starts elsewhere than the radiograph."
    write_itk(c / 'radiograph2.nii.gz', scene(1)[0], origin=(5.0, 5.0))
    write_itk(c / 'mask2.nii.gz', scene(1)[1], origin=(5.0, 17.0))


@geometry('it is in another plane or at a slant', NIFTI, 'mask')
def slanted(c):
    "The mask was drawn on a slice at an angle to the radiograph."
    a = np.pi / 6
    write_itk(
        c / 'mask2.nii.gz', scene(1)[1], direction=(np.cos(a), -np.sin(a), np.sin(a), np.cos(a))
    )


cohorts = group(
    'The cohort', 'Cells, radiographs and masks are right one by one, and wrong together.'
)


@cohorts('stands in more than one split', (2, 3, 4), 'patient_id')
def patient_in_two_splits(c):
    "Vertebrae of one patient would both train and test the model. Keep all of them in one set."
    cells(c, 4, split='internal')


@cohorts('stands under more than one patient', (2, 3, 4), 'image')
def one_file_two_patients(c):
    "Rows of two patients name one radiograph. Correct the patient, or the radiograph."
    cells(c, 4, patient_id='p7', split='internal')


@cohorts('under another patient', 8, 'image')
def one_radiograph_two_patients(c):
    "The same pixels stand under two patients: one of the two has the wrong radiograph."
    shutil.copy(c / 'radiograph1.dcm', c / 'copy.dcm')
    shutil.copy(c / 'mask1.nii.gz', c / 'copy.nii.gz')
    cells(c, PNG, image='copy.dcm', mask='copy.nii.gz', spacing='')


@cohorts('under another patient', 8, 'image')
def one_radiograph_two_patients_two_formats(c):
    """The same, though one is DICOM and the other NIfTI: the grey levels are compared, not the
    files."""
    write_itk(c / 'copy.nrrd', scene(0)[0])
    shutil.copy(c / 'mask1.nii.gz', c / 'copy.nii.gz')
    cells(c, PNG, image='copy.nrrd', mask='copy.nii.gz', spacing='')


@cohorts('in another split', 4, 'image')
def one_radiograph_two_splits(c):
    "The same pixels train and test the model."
    shutil.copy(c / 'radiograph1.dcm', c / 'copy.dcm')
    cells(c, 4, image='copy.dcm', split='internal')


@cohorts('under another file name', 4, 'image', severity='warning')
def one_radiograph_two_names(c):
    "Two files of one patient are the same radiograph. Name one of them in both rows."
    shutil.copy(c / 'radiograph1.dcm', c / 'copy.dcm')
    cells(c, 4, image='copy.dcm')


@cohorts('no row is in `train`', COHORT, 'split')
def nothing_to_train_on(c):
    "Every row is held out. Mark the training rows."
    cells(c, range(2, 8), split='prospective')


@cohorts('every row is in `train`', COHORT, 'split')
def nothing_held_out(c):
    "Without held-out patients the model cannot be evaluated."
    cells(c, range(2, 14), split='train')


@cohorts('has 1 training patient', COHORT, 'fracture_class')
def class_with_one_training_patient(c):
    """The class is learned, and folds are drawn, by patient: one is not enough. Find another, or
    move one to the training set."""
    cells(c, 4, astlof=2, fracture_class=0)


@cohorts('is missing from `external`', COHORT, 'fracture_class', severity='warning')
def class_missing_outside(c):
    "A held-out set lacks a class, so its AUC cannot be computed there and is left blank."
    cells(c, 13, astlof=2, fracture_class=0)


@cohorts('and no `split` column', COHORT, 'split')
def four_centers_without_a_split(c):
    """With up to three centers the split of the study is made for you; with more, give the set of
    each row in `split`."""
    table = sheet(c).drop(columns='split')
    table['center'] = table.patient_id
    save(c, table)


@cohorts('needs at least 5', COHORT, 'split')
def too_few_to_split(c):
    "8:2 by patient needs five patients in the first center. Add patients, or a `split` column."
    save(c, sheet(c).drop(columns='split'))


@cohorts('there is no class', COHORT, 'fracture_class')
def no_class(c):
    """Neither a class nor what it is derived from. To score vertebrae rather than to learn from
    them, use `ovf-dlr predict`, or `check --unlabelled`."""
    save(c, sheet(c).drop(columns=['astlof', 'fracture_class', 't_score']))


@cohorts('differs from another row of the same radiograph', PNG, 'spacing')
def two_spacings_for_one_radiograph(c):
    "A radiograph has one pixel size, and the rows give it two."
    cells(c, 9, spacing=0.5)


@cohorts("repeats the patient's name or number", RADIOGRAPH, 'vertebra_id')
def name_in_the_id(c):
    """Ids stand in every table of predictions and travel with it. Use others, or let `ovf-dlr
    deidentify` make a copy of the cohort."""
    tags(c, PatientName='Mustermann^Erika', PatientIdentityRemoved='NO')
    for i, row in enumerate(RADIOGRAPH):
        cells(c, row, vertebra_id=f'mustermann-L{i + 1}')


remarks = group(
    'Warnings',
    'Nothing here stops a run. A careful person looks at the row, '
    'and reports in the paper what was found.',
    severity='warning',
)


@remarks('is no column of the contract and is not looked at', COHORT, 'treatmnt')
def misspelt_column(c):
    """A column that resembles one of the contract and is none: it is ignored. Correct the name if
    that was meant."""
    save(c, sheet(c).assign(treatmnt='PVA'))


@remarks('is below 50', NIFTI, 'age')
def aged_43(c):
    "The study was about patients of 50 and older."
    cells(c, (5, 6, 7), age=43)


@remarks('is a T-score above 3', NIFTI, 't_score')
def t_score_without_its_sign(c):
    "A T-score of +3.2 in a patient with osteoporosis has probably lost its minus."
    cells(c, (5, 6, 7), t_score=3.2)


@remarks('stands twice on one radiograph of one patient', (5, 6), 'level')
def level_twice(c):
    "A spine has one L1."
    cells(c, 6, level='L1')


@remarks('differs between rows of one patient', (5, 6, 7), 'age')
def two_ages(c):
    """Sex, age and T-score belong to the patient, and the rows of this one disagree: a typing
    error, or two patients under one number."""
    cells(c, 6, age=77)


@remarks('the file gives', RADIOGRAPH, 'spacing')
def spacing_against_header(c):
    "Spreadsheet and header give pixel sizes more than a fifth apart. The spreadsheet wins."
    cells(c, RADIOGRAPH, spacing=0.4)


@remarks('do not give their pixel size', COHORT, 'spacing')
def spacing_unknown(c):
    """Pictures carry no pixel size. A millimetre is assumed, which is surely wrong: give a
    `spacing` column."""
    cells(c, PNG, spacing='')


@remarks('do not give their pixel size', COHORT, 'spacing')
def dicom_without_spacing(c):
    "Secondary captures have none either."
    tags(c, PixelSpacing=None)


@remarks('carry identity', COHORT, 'image')
def name_in_the_header(c):
    """The headers still identify the patient. No artefact of a run repeats it, but the radiographs
    themselves must not be passed on like this."""
    tags(c, PatientName='Doe^Jane', PatientIdentityRemoved='NO')


@remarks('ids repeat the patient_id', COHORT, 'vertebra_id')
def patients_in_the_ids(c):
    "Ids of vertebrae stand in every table of predictions, and these spell out whose they are."
    table = sheet(c)
    table['patient_id'] = '48' + table.patient_id.str[1:]
    table['vertebra_id'] = table.patient_id + '_' + table.level
    save(c, table)


@remarks('raw detector values', COHORT, 'image')
def for_processing(c):
    """The radiographs are what the detector measured, before the maker's processing: grey, flat,
    and not like those of other hospitals."""
    tags(c, PresentationIntentType='FOR PROCESSING')


@remarks('radiographs are of modality', COHORT, 'image')
def magnetic_resonance(c):
    "The study is about radiographs, and this is another modality."
    tags(c, Modality='MR')


def center_of_ten(c, radiograph=lambda p: p, mask=lambda m: m):
    "Ten patients with a NIfTI radiograph each, in place of the cohort."
    rows = []
    for i in range(10):
        p, m = scene(i)
        write_itk(c / f'f{i}.nii.gz', radiograph(p))
        write_itk(c / f'm{i}.nii.gz', mask(m))
        rows += [
            dict(
                vertebra_id=f'v{i}{k}',
                patient_id=f'p{i}',
                center='I',
                image=f'f{i}.nii.gz',
                mask=f'm{i}.nii.gz',
                mask_label=k,
                split='train' if i < 7 else 'internal',
                fracture_class=k - 1,
            )
            for k in (1, 2, 3)
        ]
    save(c, pd.DataFrame(rows))


@remarks('the outlines fit best when', COHORT, 'mask')
def every_mask_upside_down(c):
    """In most radiographs of a center the masks would fit better if they were turned: they were
    flipped on export, and no header shows it. Look at the contact sheet."""
    center_of_ten(c, mask=lambda m: m[::-1])


@remarks('darker than what surrounds them', COHORT, 'image')
def negatives(c):
    """In most radiographs of a center the bodies are darker than their surroundings: the
    radiographs are negatives."""
    center_of_ten(c, radiograph=lambda p: 4000 - p)


second = group('Second readings', '`readings.csv`: who drew which vertebra again.', file='readings')


def readings(c, **values):
    "A second reader's masks of two bodies, and what is wrong in the first row."
    rows = [
        dict(vertebra_id=f'v0{k}', reader='B', session=1, mask='mask1.nii.gz', mask_label=k)
        for k in (1, 2)
    ]
    pd.DataFrame([{**rows[0], **values}, rows[1]]).to_csv(c / 'readings.csv', index=False)


@second('is not in the manifest', 2, 'vertebra_id')
def reading_of_an_unknown_vertebra(c):
    "The reading is of a vertebra that the manifest does not have, or has excluded."
    readings(c, vertebra_id='v99')


@second('is not allowed (must be one of', 2, 'reader')
def third_reader(c):
    "Reader A drew the masks of the manifest, B is the second reader."
    readings(c, reader='Dr. Y')


@second('was read twice by one reader in one session', 3, 'vertebra_id')
def reading_twice(c):
    "Correct reader or session, or drop the repeat."
    readings(c, vertebra_id='v02', mask_label=2)


@second('not a number', 2, 'session')
def session_in_words(c):
    "1 is a first reading, 2 a repeat."
    readings(c, session='first')


@second('is empty', 2, 'reader')
def reader_blank(c):
    "Nobody signed."
    readings(c, reader='')


@second('file not found', 2, 'mask')
def mask_of_a_reading_missing(c):
    "The second reader's mask is not there."
    readings(c, mask='reader B.nii.gz')


@second('differ in size', 2, 'mask')
def mask_of_a_reading_of_another_size(c):
    "The second reader drew on a smaller copy."
    write_itk(c / 'b.nii.gz', scene(0)[1][::2, ::2])
    readings(c, mask='b.nii.gz')


@second('no label 9', 2, 'mask')
def label_of_a_reading_missing(c):
    "The second reader numbered the bodies in another way."
    readings(c, mask_label=9)


@second('column is missing', COHORT, 'session')
def readings_without_sessions(c):
    "A needed column is not there."
    readings(c)
    pd.read_csv(c / 'readings.csv').drop(columns='session').to_csv(c / 'readings.csv', index=False)


@second('cannot be read as a table', COHORT, 'readings')
def readings_of_junk(c):
    "The file next to the manifest is no table. Save it again, or remove it."
    write(c, b'\xff\xfe\x00junk', 'readings.csv')


cards = group(
    'cohort.yml', 'The card next to the manifest: name, label, synthetic.', file='cohort.yml'
)


@cards('cannot be read', COHORT, 'cohort.yml')
def broken_yaml(c):
    "A colon or a bracket too many."
    write(c, 'name: [Chania\nlabel: x: y', 'cohort.yml')


@cards('holds no settings', COHORT, 'cohort.yml')
def list_of_settings(c):
    "A list, or one word, where `name: ...` is expected."
    write(c, '- name\n- label\n', 'cohort.yml')


@cards('is no setting of a cohort', COHORT, 'titel')
def unknown_setting(c):
    "A name that is not known: often a typing error."
    write(c, 'titel: Chania\n', 'cohort.yml')


@cards('is not true or false', COHORT, 'synthetic')
def perhaps_synthetic(c):
    "Whether the radiographs were simulated has two answers."
    write(c, 'synthetic: maybe\n', 'cohort.yml')


@cards('is not text', COHORT, 'name')
def name_is_a_number(c):
    "Put quotation marks around a name that looks like a number."
    write(c, 'name: 2024\n', 'cohort.yml')


@cards('cannot be read', COHORT, 'cohort.yml')
def yaml_that_runs_code(c):
    "A tag that would call a program; such tags are not followed."
    write(c, 'name: !!python/object/apply:os.system ["touch ran"]\n', 'cohort.yml')


@cards('cannot be read', COHORT, 'cohort.yml')
def yaml_in_latin1(c):
    "Save the card in UTF-8."
    write(c, 'name: Köln'.encode('latin1'), 'cohort.yml')


# The problems that are found.


def problems(c, case=None) -> pd.DataFrame:
    """The problems that reading and auditing find; where a case is wrong in one radiograph, only
    that one is opened."""
    found = read_manifest(c)
    if case and case.rows and case.group in ALONE and 'image' in found.table:
        found.table = found.table[
            found.table['image'].isin(found.table['image'].reindex(case.rows))
        ]
    return audit(found).problems


def said_of(found, case) -> pd.DataFrame:
    "The problems that hold the words of a case, in its file and column."
    return found[
        (found.problem + '; ' + found.way_out).str.contains(case.words, regex=False)
        & (found.file == case.file)
        & (found.column == case.column)
    ]


# Odd, and harmless.

HARMLESS = []


def harmless(spoil):
    "File an odd input that must be read without an error."
    HARMLESS.append(spoil)
    return spoil


@harmless
def european_excel(c):
    """Semicolons, decimal commas, a byte order mark, quoted cells that hold a semicolon, line ends
    of Windows."""
    sheet(c).assign(remark='"a; b"', t_score='-2,8').to_csv(
        c / 'manifest.csv', index=False, sep=';', encoding='utf-8-sig', lineterminator='\r\n'
    )


@harmless
def tabs_and_blank_lines(c):
    "Tabs, blank lines above and between."
    text(c, lambda t: '\n\n' + t.replace(',', '\t').replace('\n', '\n\n'))


@harmless
def workbook(c):
    "A true .xlsx."
    sheet(c).to_excel(c / 'manifest.xlsx', index=False)
    (c / 'manifest.csv').unlink()


@harmless
def spoken_headers(c):
    "Columns and values as people write them."
    text(
        c,
        lambda t: t.replace(
            'vertebra_id,patient_id,center', 'Vertebra ID,PATIENT-ID,Center'
        ).replace('Female', 'f'),
    )


@harmless
def backslashes(c):
    "A path from Windows."
    (c / 'radiographs').mkdir()
    (c / 'radiograph1.dcm').rename(c / 'radiographs/radiograph1.dcm')
    cells(c, RADIOGRAPH, image=r'radiographs\radiograph1.dcm')


@harmless
def unknown_columns(c):
    "Three hundred columns that concern nobody."
    save(
        c, pd.concat([sheet(c), pd.DataFrame({f'lab {i}': ['1'] * 12 for i in range(300)})], axis=1)
    )


@harmless
def padding_beyond_the_radiograph(c):
    "A padding value that no pixel has, and one of 65535."
    tags(c, PixelPaddingValue=65535)
    tags(c, 'radiograph4.dcm', PixelPaddingValue=0, PixelPaddingRangeLimit=65535)


@harmless
def no_sop_class(c):
    "A radiograph whose kind is not given."
    tags(c, SOPClassUID='')


@harmless
def odd_bytes_after_the_pixels(c):
    "Padding, as some archives add it."
    ds = pydicom.dcmread(c / 'radiograph1.dcm')
    ds.PixelData += bytes(6)
    ds.save_as(c / 'radiograph1.dcm')


@harmless
def dicom_named_jpg(c):
    "A radiograph under a wrong suffix is read as what it is."
    radiograph_as(c, 'radiograph.jpg', lambda p: shutil.copy(c / 'radiograph1.dcm', p))


@harmless
def transparent_png(c):
    "Grey stored as colour, with a transparency."
    radiograph_as(
        c,
        'radiograph.png',
        lambda p: picture(
            p, np.stack([grey8()] * 3 + [np.where(grey8() > 190, 255, 0).astype(np.uint8)], -1)
        ),
    )


@harmless
def float_tiff(c):
    "Grey levels in floating point, all of them numbers."
    radiograph_as(c, 'radiograph.tif', lambda p: write_itk(p, scene(0)[0].astype(np.float32)))


@harmless
def mask_of_255(c):
    "One body per file, stored as 255, or divided by 255."
    for k, row in zip((1, 2), RADIOGRAPH[:2], strict=True):
        write_itk(
            c / f'm{k}.nii.gz',
            ((scene(0)[1] == k) * (255 if k == 1 else np.float32(1 / 255))).astype(np.float32),
        )
        cells(c, row, mask=f'm{k}.nii.gz', mask_label=1)


# Fuzzed headers.


def header_end(path) -> int:
    "Where the pixels of a radiograph begin."
    return 352 if path.suffix == '.nii' else pydicom.dcmread(path).get_item('PixelData').value_tell


def flipped(content, end, rng) -> bytes:
    "One to eight bytes of a header replaced by others, or the file cut off within it."
    raw = bytearray(content)
    for at in rng.integers(0, end, rng.integers(1, 9)):
        raw[at] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    return bytes(raw) if rng.random() < 0.9 else bytes(raw[: rng.integers(1, end)])


NONSENSE = [
    '',
    '0',
    '-1',
    '65535',
    'NaN',
    '1e999',
    'a',
    'a\\b',
    '\\',
    '1\\2\\3',
    '\u00fc',
    'x' * 300,
    '0.0000001',
    ' ',
    '1.2.840.10008.1.2.4.90',
]


TAGS = [
    'Rows',
    'Columns',
    'BitsAllocated',
    'BitsStored',
    'HighBit',
    'PixelRepresentation',
    'SamplesPerPixel',
    'NumberOfFrames',
    'PhotometricInterpretation',
    'PixelSpacing',
    'ImagerPixelSpacing',
    'EstimatedRadiographicMagnificationFactor',
    'RescaleSlope',
    'RescaleIntercept',
    'PixelPaddingValue',
    'PixelPaddingRangeLimit',
    'WindowWidth',
    'Modality',
    'SOPClassUID',
    'SOPInstanceUID',
    'PatientName',
    'PatientID',
    'SpecificCharacterSet',
    'PresentationIntentType',
    'PlanarConfiguration',
    'PatientIdentityRemoved',
    'NominalScannedPixelSpacing',
]


def retagged(path, rng) -> bytes:
    """A DICOM radiograph with one to three tags of random keyword, text where text fits and bytes
    where it does not."""
    ds = pydicom.dcmread(path)
    for word in rng.choice(TAGS, rng.integers(1, 4), replace=False):
        value = (
            rng.choice(NONSENSE).encode()
            if pydicom.datadict.dictionary_VR(word) not in ('US', 'US or SS')
            else rng.bytes(2 * rng.integers(0, 4))
        )
        ds[word] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(word),
            'US'
            if 'US' in pydicom.datadict.dictionary_VR(word)
            else pydicom.datadict.dictionary_VR(word),
            len(value) + len(value) % 2,
            value + b' ' * (len(value) % 2),
            0,
            False,
            True,
        )
    out = io.BytesIO()
    ds.save_as(out)
    return out.getvalue()


def variant(i, path, content, end) -> bytes:
    "The `i`th way to damage a radiograph; every third is by its tags."
    rng = np.random.default_rng(i)
    return retagged(path, rng) if i % 3 == 1 else flipped(content, end, rng)


def fuzz(folder, n):
    """Read `n` damaged radiographs; a line for each: the variant, the outcome, the seconds. Run in
    a process of its own, with its memory limited."""
    import resource
    import time

    from ovf_dlr.decoding import ImageError
    from ovf_dlr.reading import read_image

    warnings.simplefilter('ignore')
    dicom, nifti = folder / 'radiograph1.dcm', folder / 'fuzz.nii'
    write_itk(nifti, scene(0)[0])
    used = (
        int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        if Path('/proc/self/statm').exists()
        else 8 << 30
    )
    limit = used + (3 << 29)  # a gigabyte and a half more than now
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    contents = {p: (p.read_bytes(), header_end(p)) for p in (dicom, nifti)}
    for i in range(n):
        source = nifti if i % 3 == 2 else dicom
        bad = folder / f'bad{source.suffix}'
        bad.write_bytes(variant(i, source, *contents[source]))
        print(i, ('flipped DICOM', 'retagged DICOM', 'flipped NIfTI')[i % 3], end=' ', flush=True)
        start = time.perf_counter()
        try:
            read_image(bad)
            outcome = 'clean'
        except ImageError as e:
            outcome = 'MemoryError' if 'MemoryError' in str(e) else 'ImageError'
        except Exception as e:
            outcome = type(e).__name__ + f' {e}'.replace('\n', ' ')
        print(f'{time.perf_counter() - start:.2f}', outcome, flush=True)


if __name__ == '__main__':
    fuzz(Path(sys.argv[1]), int(sys.argv[2]))
