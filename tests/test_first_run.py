"A newcomer's way to a figure of his own cohort: two folders, a first manifest, a look, the scores filled in, a look again."
import shutil

import pandas as pd
import pytest
from PIL import Image

from conftest import ask


@pytest.fixture
def hospital(data, tmp_path):
    "Two folders as a hospital has them: films and masks of the same names, one film with more than one vertebra outlined."
    manifest = next(p for p in (data / "cohorts").glob("phantom-smoke-0-????????/manifest.csv"))
    table = pd.read_csv(manifest, dtype=str).query("split == 'train' and exclusion.isna()")
    for k, (_, row) in enumerate(table.drop_duplicates("image").head(14).iterrows()):
        for column, folder, name in (("image", "films", f"case{k:02d}.dcm"), ("mask", "outlines", f"case{k:02d}.nii.gz")):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(manifest.parent / row[column], tmp_path / folder / name)
    return tmp_path


def begin(hospital, **more):
    return ask("manifest", "--images", hospital / "films", "--masks", hospital / "outlines", "--out", hospital / "manifest.csv", *(w for k, v in more.items() for w in (f"--{k}", v)))


def drawn(path):
    "Share of the picture that is not white."
    return (pd.Series(Image.open(path).convert("L").get_flattened_data() if hasattr(Image.Image, "get_flattened_data") else Image.open(path).convert("L").getdata()) < 250).mean()


def test_from_two_folders_to_figures(hospital):
    said = begin(hospital, center="Our hospital", patient=r"case(\d+)")
    table = pd.read_csv(hospital / "manifest.csv", dtype=str)
    assert f"{len(table)} vertebrae of 14 patients" in said and "allow-outside" not in said
    assert sorted(table.patient_id.unique()) == [f"{k:02d}" for k in range(14)] and table.astlof.isna().all() and (table.center == "Our hospital").all()
    assert table.image.str.startswith("films/").all() and table.vertebra_id.is_unique
    ask("check", "--manifest", hospital / "manifest.csv", "--unlabelled", "--figures", hospital / "look")
    assert [p.name for p in (hospital / "look").iterdir()] == ["vertebrae_Our_hospital.png"]
    assert .05 < drawn(hospital / "look" / "vertebrae_Our_hospital.png") < .98
    table.assign(astlof=[k % 9 for k in range(len(table))]).to_csv(hospital / "manifest.csv", index=False)
    ask("check", "--manifest", hospital / "manifest.csv", "--figures", hospital / "look")
    assert {p.name for p in (hospital / "look").iterdir()} == {"vertebrae_Our_hospital.png", "flow.png"}
    assert drawn(hospital / "look" / "flow.png") > .01


def test_a_blank_score_is_named(hospital):
    begin(hospital)
    refused = ask("check", "--manifest", hospital / "manifest.csv", refused=True)
    assert "astlof" in refused or "fracture_class" in refused


def test_what_cannot_begin_says_why(hospital):
    with_pattern = ask("manifest", "--images", hospital / "films", "--masks", hospital / "outlines", "--out", hospital / "m.csv", "--patient", r"patient(\d+)", refused=True)
    assert "case00" in with_pattern and not (hospital / "m.csv").exists()
    (hospital / "outlines" / "case03.nii.gz").unlink()
    assert "case03.dcm" in ask("manifest", "--images", hospital / "films", "--masks", hospital / "outlines", "--out", hospital / "m.csv", refused=True)
    (hospital / "m.csv").write_text("mine")
    assert "there already" in ask("manifest", "--images", hospital / "films", "--masks", hospital / "outlines", "--out", hospital / "m.csv", refused=True)
    assert (hospital / "m.csv").read_text() == "mine"


def test_settings_are_listed_with_what_a_file_says():
    listed = ask("settings")
    assert all(word in listed for word in ("lasso_family", "crop_size", "Classifiers", "strict, paper"))
    assert "{resample_mm: 0.8}" in ask("settings", "--params", "smoke")
    assert "no parameters" in ask("settings", "--params", "nothing", refused=True)
