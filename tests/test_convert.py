"""Annotations from hostile files, at full size, through a disk that fails; and real masks there and
back."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from conftest import ask, labels_of

from ovf_dlr import convert
from ovf_dlr.annotations import (
    Annotation,
    AnnotationError,
    read_coco,
    read_labelme,
    read_landmarks_csv,
)
from ovf_dlr.convert import annotation_mask, write_cohort
from ovf_dlr.manifest import CohortError
from ovf_dlr.morphometry import vertebral_heights

BODY = np.array([(20.0, 20), (70, 22), (68, 60), (22, 58)])


def radiograph(folder, name='p1.png', size=(120, 100)):
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(
        sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)),
        str(folder / name),
    )
    return folder


def overlap(a, b) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize('name', ['Normal', 'Damaged'])
def test_real_bodies_survive_polygons_and_corners(shared, name, tmp_path):
    """A radiograph's masks traced to polygons, and reduced to four corners, written as labelme
    files and read back."""
    labels = labels_of(shared / f'data/spine_xray/derived/{name}_LAT_vertebra_labels.nii.gz')
    values = np.setdiff1d(labels, [0])
    traced = {
        v: max(plt.contour(labels == v, [0.5]).get_paths()[0].to_polygons(), key=len)[:-1] + 0.5
        for v in values
    }
    plt.close('all')
    corners = {v: vertebral_heights(labels == v).corners[:, ::-1] + 0.5 for v in values}
    for kind, outlines, least in (('traced', traced, 0.995), ('corners', corners, 0.8)):
        shapes = [
            dict(label=f'body {v}', points=p.tolist(), shape_type='polygon')
            for v, p in outlines.items()
        ]
        (tmp_path / f'{kind}.json').write_text(
            json.dumps(dict(imagePath='film.jpg', shapes=shapes))
        )
        for v, a in zip(values, read_labelme(tmp_path / f'{kind}.json'), strict=True):
            assert overlap(annotation_mask(a, labels.shape), labels == v) > least, (kind, v)


def test_a_radiograph_as_dicom_gets_a_mask_that_itk_lays_on_it(tmp_path):
    from ovf_dlr.phantom import write_patient
    from ovf_dlr.phantom_patients import draw_patients

    table = draw_patients('smoke')
    rows = table[table.patient_id == table.patient_id.iloc[0]]
    write_patient(tmp_path / 'source', rows)
    drawn = labels_of(tmp_path / 'source' / rows['mask'].iloc[0]) == 1
    corners = vertebral_heights(drawn).corners[:, ::-1] + 0.5
    manifest = write_cohort(
        [Annotation(rows.patient_id.iloc[0], rows.level.iloc[0], [corners])],
        tmp_path / 'source/images',
        tmp_path / 'made',
    )
    row = pd.read_csv(manifest).iloc[0]
    image, mask = (
        sitk.ReadImage(str(tmp_path / 'made' / row['image'])),
        sitk.ReadImage(str(tmp_path / 'made' / row['mask'])),
    )
    assert image.GetSize()[:2] == mask.GetSize()
    np.testing.assert_allclose(image.GetSpacing()[:2], mask.GetSpacing(), rtol=1e-4)


def test_nothing_is_left_behind_by_a_disk_that_fails(tmp_path, monkeypatch):
    folder, write = radiograph(tmp_path / 'in'), sitk.WriteImage
    radiograph(folder, 'p2.png')

    def fails(image, path, **kw):
        if 'p2' in path:
            raise RuntimeError('no space left on device')
        write(image, path, **kw)

    monkeypatch.setattr(convert.sitk, 'WriteImage', fails)
    with pytest.raises(RuntimeError, match='no space'):
        write_cohort([Annotation(f'p{k}', 'L1', [BODY]) for k in (1, 2)], folder, tmp_path / 'out')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['in']


def test_names_cannot_lead_out_of_the_folder(tmp_path):
    "Only the last part of a name counts, whatever stands before it."
    radiograph(tmp_path, 'secret.png')
    folder = radiograph(tmp_path / 'in')
    for name in (
        '../secret.png',
        '..\\secret.png',
        str(tmp_path / 'secret.png'),
        '/etc/passwd',
        '',
    ):
        with pytest.raises(CohortError, match='there is no such radiograph'):
            write_cohort([Annotation(name, 'L1', [BODY])], folder, tmp_path / 'out')
    manifest = write_cohort([Annotation('../../p1.png', 'L1', [BODY])], folder, tmp_path / 'out')
    assert pd.read_csv(manifest)['image'].tolist() == ['images/p1.png']


@pytest.mark.parametrize(
    'points',
    [
        [[np.nan, 1], [5, 5], [9, 1]],
        [[np.inf, 1], [5, 5], [9, 1]],
        [[1, 1], [5, 5]],
        [],
        [[1e12, 0], [0, 1e12], [-1e12, 0]],
        (BODY / 100).tolist(),
    ],
)
def test_senseless_coordinates_are_named_not_drawn(points, tmp_path):
    folder = radiograph(tmp_path / 'in')
    (folder / 'p1.json').write_text(
        json.dumps(
            dict(imagePath='p1.png', shapes=[dict(label='L1', points=points, shape_type='polygon')])
        )
    )
    with pytest.raises(CohortError, match='p1.json, L1'):
        write_cohort(read_labelme(folder), folder, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


NOTHING_DRAWN = '{"images": [], "annotations": [], "categories": []}'
NO_OUTLINE = '{"shapes": [{"label": "L1", "points": 7}]}'
OF_THE_RIGHT_FORM = {NOTHING_DRAWN: read_coco, NO_OUTLINE: read_labelme}


@pytest.mark.parametrize(
    'text',
    [
        '{"shapes": [{}]}',
        NO_OUTLINE,
        '{"shapes": [3]}',
        '{"images": [{}], "annotations": [], "categories": []}',
        '{"images": [], "annotations": [{"id": 1}], "categories": []}',
        '{"images": 1, "annotations": 2, "categories": 3}',
        '',
        '[]',
        '{}',
        '{"shapes": 3}',
        'null',
        '"radiograph"',
        '\x00\x01',
        NOTHING_DRAWN,
    ],
)
def test_other_json_is_refused(text, tmp_path):
    "By both readers, but for the two files that one of them reads."
    (tmp_path / 'a.json').write_text(text)
    for reader in {read_coco, read_labelme} - {OF_THE_RIGHT_FORM.get(text)}:
        with pytest.raises(AnnotationError, match=r'a\.json: '):
            reader(tmp_path / 'a.json')


def test_json_of_the_right_form_is_read_whatever_it_holds(tmp_path):
    "A cohort without an outline yet, and a shape that is none and has a trouble."
    (tmp_path / 'nothing.json').write_text(NOTHING_DRAWN)
    assert read_coco(tmp_path / 'nothing.json') == []
    (tmp_path / 'none.json').write_text(NO_OUTLINE)
    (a,) = read_labelme(tmp_path / 'none.json')
    assert a.trouble and not a.outlines and a.source == 'none.json, L1'


def test_a_csv_as_excel_saves_it_in_europe(tmp_path):
    header = 'Image;Label;' + ';'.join(f'x{k};y{k}' for k in range(1, 5))
    (tmp_path / 'e.csv').write_bytes(
        (
            '\ufeff'
            + header
            + '\r\npatiént 1.png;L1;'
            + ';'.join(f'{v:g}' for v in BODY.ravel())
            + '\r\n'
        ).encode()
    )
    (a,) = read_landmarks_csv(tmp_path / 'e.csv')
    assert a.image == 'patiént 1.png'
    np.testing.assert_array_equal(a.outlines[0], BODY)
    folder = radiograph(tmp_path / 'in', 'patiént 1.png')
    assert pd.read_csv(write_cohort([a], folder, tmp_path / 'out')).patient_id.tolist() == [
        'patiént 1'
    ]


def test_two_radiographs_of_one_name_are_not_mixed_up(tmp_path):
    radiograph(tmp_path / 'in/AP')
    radiograph(tmp_path / 'in/LA')
    with pytest.raises(CohortError, match='2 radiographs of that name'):
        write_cohort([Annotation('p1', 'L1', [BODY])], tmp_path / 'in', tmp_path / 'out')
    assert write_cohort(
        [Annotation('p1', 'L1', [BODY])], tmp_path / 'in/LA', tmp_path / 'out'
    ).is_file()


def coco(path, height, width):
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='p1.png', height=height, width=width)],
                categories=[dict(id=1, name='L1')],
                annotations=[
                    dict(id=1, image_id=1, category_id=1, segmentation=[BODY.ravel().tolist()])
                ],
            )
        )
    )
    return read_coco(path)


def labelme(path, height, width):
    path.write_text(
        json.dumps(
            dict(
                imagePath='p1.png',
                imageHeight=height,
                imageWidth=width,
                shapes=[dict(label='L1', points=BODY.tolist())],
            )
        )
    )
    return read_labelme(path)


@pytest.mark.parametrize('drawn', [coco, labelme])
def test_outlines_of_another_size_are_not_laid_on_the_radiograph(drawn, tmp_path):
    "The outline lies on the radiograph all the same, and would be a mask at the wrong place."
    folder = radiograph(tmp_path / 'in', size=(800, 1000))
    for height, width in ((500, 400), (1000, 800), (1600, 2000)):
        with pytest.raises(
            CohortError,
            match=f"'{width} x {height}': is the size that was drawn on .* radiograph is 1000 "
            r'x 800; was the radiograph resized',
        ):
            write_cohort(drawn(tmp_path / 'a.json', height, width), folder, tmp_path / 'out')
    for k, silent in enumerate(((800, 1000), (None, None), (0, 0), ('?', 1000), (float('inf'), 1))):
        assert write_cohort(
            drawn(tmp_path / 'a.json', *silent), folder, tmp_path / f'out{k}'
        ).is_file()


def long_csv(path, **points):
    "Points by label, in the long layout."
    pd.DataFrame(
        [
            dict(image='p1.png', label=label, x=x, y=y)
            for label, body in points.items()
            for x, y in body
        ]
    ).to_csv(path, index=False)
    return path


def test_points_without_a_label_are_a_problem(tmp_path):
    folder = radiograph(tmp_path / 'in', size=(240, 100))
    pd.concat(
        [
            pd.read_csv(long_csv(tmp_path / 'a.csv', L1=BODY)),
            pd.DataFrame([dict(image='p1.png', x=x, y=y) for x, y in BODY + (0, 70)]),
            pd.DataFrame([dict(label='L3', x=5, y=5)]),
        ]
    ).to_csv(tmp_path / 'b.csv', index=False)
    with pytest.raises(CohortError, match='b.csv, row 6.*4 of the points have no label') as caught:
        write_cohort(read_landmarks_csv(tmp_path / 'b.csv'), folder, tmp_path / 'out')
    assert 'there is no such radiograph' in set(caught.value.problems.problem)
    assert (
        len(
            pd.read_csv(
                write_cohort(
                    read_landmarks_csv(tmp_path / 'b.csv'), folder, tmp_path / 'out', skip=True
                )
            )
        )
        == 1
    )


def test_the_command_has_every_way_out_that_it_names(tmp_path):
    "Labels of one's own, labels to pass over, where (0, 0) is: as the messages suggest."
    folder, source = (
        radiograph(tmp_path / 'in', size=(260, 100)),
        long_csv(tmp_path / 'a.csv', body=BODY, sacrum=BODY + (0, 70), vert_2=BODY + (0, 140)),
    )

    def convert(out, *more, **options):
        "What `ovf-dlr convert` prints of these points."
        given = dict(format='csv', annotations=source, images=folder, out=tmp_path / out)
        return ask('convert', *more, **given, **options)

    refused = convert('out', refused=True)
    assert all(way_out in refused for way_out in ('--level body=', '--ignore'))
    assert not (tmp_path / 'out').exists()
    usual = ('--level', 'body=', '--level', 'vert_2=L2', '--ignore', 'sacrum', '--ignore', 'S1')
    convert('corner', *usual)
    convert('center', *usual, origin='center')
    assert pd.read_csv(tmp_path / 'corner/manifest.csv').level.fillna('').tolist() == ['', 'L2']
    corner, center = (labels_of(tmp_path / k / 'masks/p1.nii.gz') for k in ('corner', 'center'))
    np.testing.assert_array_equal(
        center == 1, annotation_mask(Annotation('', '', [BODY]), (260, 100), 'center')
    )
    assert (corner != center).any()
    for wrong, message in (
        (dict(level='body'), "'body' has no `=`"),
        (dict(level='body=first'), "'first' is no level"),
        (dict(origin='middle'), "origin 'middle'"),
    ):
        refused = convert('out', **wrong, refused=True)
        assert message in refused, refused
