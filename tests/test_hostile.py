"""Bad input: each entry of the catalogue in `hostile.py` gets its named error at its row.

Nothing is written, and no damaged header leads to any other exception of the readers."""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from shutil import copytree

import hostile
import pandas as pd
import pytest
from conftest import ROOT, ask
from hostile import CATALOGUE, HARMLESS

from ovf_dlr.cohort import read_cohort, read_manifest
from ovf_dlr.manifest import CohortError

PAGE = ROOT / 'nbs/tutorials/messages.ipynb'
BY_NAME = {case.name: case for case in CATALOGUE}


@pytest.fixture(scope='session')
def good(tmp_path_factory) -> Path:
    "A cohort without a fault."
    return hostile.make_good(tmp_path_factory.mktemp('good') / 'cohort')


@pytest.fixture
def copy(good, tmp_path) -> Path:
    "A copy of it, to be spoilt."
    return copytree(good, tmp_path / 'cohort')


def snapshot(folder) -> dict:
    "What a folder and the one above it hold: names, sizes, times of change."
    return {
        p.relative_to(folder.parent): (s.st_size, s.st_mtime_ns)
        for p in sorted(folder.parent.rglob('*'))
        for s in [p.lstat()]
    }


def problems(c, case=None) -> pd.DataFrame:
    "The problems of a cohort, found without a stray warning."
    with warnings.catch_warnings(record=True) as strayed:
        warnings.simplefilter('always')
        found = hostile.problems(c, case)
    assert not [w for w in strayed if 'ovf_dlr' in str(w.filename)]
    return found


def test_the_good_cohort_is_good(good):
    assert not len(problems(good)) and len(read_cohort(good)) == 12


def test_the_catalogue_is_large_and_every_entry_has_a_name_of_its_own():
    assert len(CATALOGUE) >= 150 and max(Counter(c.name for c in CATALOGUE).values()) == 1
    assert all(c.spoil.__doc__ for c in CATALOGUE)


@pytest.mark.parametrize('case', CATALOGUE, ids=repr)
def test_bad_input_gets_its_words_at_its_row_and_nothing_is_written(case, copy):
    case.spoil(copy)
    before = snapshot(copy)
    if case.rows is None:
        with pytest.raises((ValueError, FileNotFoundError)) as raised:
            read_manifest(copy)
        what, _, way_out = str(raised.value).partition('; ')
        assert case.words in what and way_out
    else:
        found = problems(copy, case)
        own, text = hostile.said_of(found, case), found.problem + '; ' + found.way_out
        assert tuple(r for r in own.row if r != '') == case.rows and len(own), found.to_string()
        assert set(own.severity) == {case.severity}
        assert (
            found.way_out.str.len().min() > 3
            and not found.way_out.str.contains('Errno|Error|Traceback').any()
        )
        assert not text.str.contains(str(copy.parent), regex=False).any(), (
            'a message names a folder of this machine'
        )
    assert snapshot(copy) == before


@pytest.mark.parametrize('spoil', HARMLESS, ids=lambda s: s.__name__)
def test_odd_and_harmless_input_is_read(spoil, copy):
    spoil(copy)
    found = problems(copy)
    assert not (found.severity == 'error').any(), found.to_string()
    assert len(read_cohort(copy)) == 12


def test_all_problems_are_reported_at_once(copy):
    together = [
        BY_NAME[name]
        for name in (
            'age_of_172',
            'missing_without_a_near_name',
            'spacing_150',
            'cut_nifti_gz',
            'label_not_given',
            'misspelt_column',
            'third_reader',
            'unknown_setting',
        )
    ]
    for case in together:
        if case.name == 'label_not_given':
            hostile.cells(copy, 10, mask_label='')
        elif case.name == 'missing_without_a_near_name':
            hostile.cells(copy, 12, mask='elsewhere/drawn by me.nii.gz')
        else:
            case.spoil(copy)
    found = problems(copy)
    text = found.problem + '; ' + found.way_out
    assert not [c for c in together if not text.str.contains(c.words, regex=False).any()], (
        found.to_string()
    )
    with pytest.raises(CohortError) as raised:
        read_cohort(copy)
    assert all(
        words in str(raised.value)
        for words in (
            'row 6, age = 172.0:',
            'readings row 2, reader',
            'cohort.yml titel',
            'row 12, mask',
        )
    )


# The commands.

DOZEN = [
    'folder_without_a_manifest',
    'broken_workbook',
    'column_missing',
    'word_for_a_number',
    'outside_by_dots',
    'missing_with_a_near_name',
    'cut_in_the_pixels',
    'volume',
    'empty_mask',
    'transposed',
    'patient_in_two_splits',
    'one_radiograph_two_patients',
    'third_reader',
    'perhaps_synthetic',
]


def flat(text) -> str:
    "Text with single spaces."
    return ' '.join(text.split())


@pytest.mark.parametrize('name', DOZEN)
def test_check_and_run_refuse_with_status_2_and_write_nothing(
    name, copy, data, tmp_path, monkeypatch
):
    monkeypatch.setenv('OVF_DLR_DATA', str(data))  # its cache is what a run may write
    case = BY_NAME[name]
    case.spoil(copy)
    before = snapshot(copy)
    given = dict(manifest=copy, n_jobs=1, refused=True)
    check = ask('check', **given)
    assert 'Stopped:' in check and 'Traceback' not in check
    # a table may break a message into lines
    assert all(word in flat(check) for word in case.words.split())
    run = ask('run', params='smoke', out=tmp_path / 'results', no_reports=True, **given)
    assert 'Stopped:' in run, run
    assert snapshot(copy) == before  # neither in the cohort nor next to it


def test_a_report_of_the_problems_is_the_only_file_that_check_writes(copy, tmp_path):
    hostile.cells(copy, 6, age='seventy')
    hostile.cells(copy, 7, mask_label=9)
    before = snapshot(copy)
    ask('check', manifest=copy, n_jobs=1, report=tmp_path / 'report.csv', refused=True)
    assert pd.read_csv(tmp_path / 'report.csv').row.tolist() == [6, 7]
    assert {k for k in snapshot(copy) if k not in before} == {Path('report.csv')}


# Damaged headers.


def test_300_damaged_headers_give_a_radiograph_or_an_image_error(copy):
    """In a process of its own: a crash of a C library, a hang and an allocation of gigabytes would
    be seen."""
    done = subprocess.run(
        [sys.executable, hostile.__file__, str(copy), '300'],
        text=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    lines = [line.split(maxsplit=4) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == 300, (lines[-1:], done.stderr[-2000:])
    assert not [
        line for line in lines if line[4] not in ('clean', 'ImageError') or float(line[3]) > 5
    ]
    outcomes = Counter((f'{kind} {fmt}', outcome) for _, kind, fmt, _, outcome in lines)
    clean = [int(line[0]) for line in lines if line[1] == 'retagged' and line[4] == 'clean']
    radiograph = copy / 'radiograph1.dcm'
    damaged = [hostile.variant(i, radiograph, b'', 0) for i in clean[:15]]
    for raw in damaged:  # the audit looks at more of a header than the reader does
        radiograph.write_bytes(raw)
        hostile.problems(
            copy, hostile.Case('DICOM radiographs', '', hostile.RADIOGRAPH, 'image', None)
        )
    assert all(
        outcomes[kind, outcome] >= 5
        for kind in ('flipped DICOM', 'retagged DICOM', 'flipped NIfTI')
        for outcome in ('clean', 'ImageError')
    ), outcomes


# The page that explains them.


def test_every_message_of_the_catalogue_stands_on_the_page():
    cells = json.loads(PAGE.read_text())['cells']
    outputs = [
        ''.join(text)
        for c in cells
        for o in c.get('outputs', [])
        for text in [o.get('text', []), *o.get('data', {}).values()]
    ]
    page = flat(
        ' '.join([''.join(c['source']) for c in cells if c['cell_type'] == 'markdown'] + outputs)
    )
    assert not [c.name for c in CATALOGUE if flat(c.words) not in page]
    assert '/tmp' not in page and str(Path.home()) not in page
