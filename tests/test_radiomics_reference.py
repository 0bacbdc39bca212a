"Radiomics against pyradiomics on whole films and the IBSI digital phantom."
import csv

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy.ndimage import gaussian_filter

from ovf_dlr.preprocess import Case
from ovf_dlr.radiomics import extract

TYPES = ["Original", "Square", "SquareRoot", "Logarithm", "Exponential", "Gradient", "Wavelet", "LoG"]
CLASSES = ["shape2D", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm"]


def film(shape, box, quantised):
    "A film with smooth and rough structure, and a body inside `box` (rows, columns)."
    rng = np.random.default_rng(3)
    image = gaussian_filter(rng.normal(size=shape), 2) * 8 + gaussian_filter(rng.normal(size=shape), 30) * 40
    if quantised:
        image = np.rint(image * 60)
    rows, columns = (np.arange(n) for n in shape)
    centre, half = zip(*(((a + b) / 2, (b - a) / 2) for a, b in box))
    body = ((rows[:, None] - centre[0]) / half[0]) ** 4 + ((columns - centre[1]) / half[1]) ** 4 < 1
    return Case(((image - image.mean()) / image.std()).astype("float32"), body, (0.4, 0.35))


def whole_film(case, kind):
    "Features of one image type by pyradiomics' own extractor, without any cropping of ours."
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=False, additionalInfo=False)
    extractor.disableAllImageTypes()
    extractor.disableAllFeatures()
    extractor.enableImageTypeByName(kind, customArgs=dict(sigma=[1, 2, 3]) if kind == "LoG" else None)
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    image, mask = (sitk.GetImageFromArray(a) for a in (case.image.astype(float), case.mask.astype("uint32")))
    for i in (image, mask):
        i.SetSpacing(case.spacing[::-1])
    return pd.Series(dict(extractor.execute(image, mask)), dtype=float)


FILMS = {
    "middle": film((500, 400), ((200, 290), (130, 241)), quantised=False),
    "corner, odd size": film((401, 303), ((-1, 70), (215, 303)), quantised=False),
    "quantised": film((380, 420), ((150, 231), (150, 260)), quantised=True),
}


@pytest.mark.parametrize("where", FILMS)
def test_cropping_changes_nothing(where):
    "Filtering a small surrounding of the vertebra gives what filtering the film gives, for every image."
    case = FILMS[where]
    ours, seen = extract(case), []
    for kind in TYPES:
        plain = whole_film(case, kind).rename(lambda name: name.replace("-mm-3D", "-mm"))
        np.testing.assert_allclose(ours[plain.index], plain, rtol=1e-6 if kind == "LoG" else 1e-9, atol=1e-12, err_msg=kind)
        seen += list(plain.index)
    assert set(seen) == set(ours.index)


def test_flat_volume_in_the_plane_is_the_same_as_a_plane():
    "Two right ways exist (FACTS): a 2-D image, or one slice with force2D. A 2-D image with force2D is the trap."
    case = FILMS["quantised"]
    ours = extract(case, dict(image_types=["original"]))
    extractor = RadiomicsFeatureExtractor(binCount=32, force2D=True, force2Ddimension=0, additionalInfo=False)
    extractor.disableAllFeatures()
    for name in CLASSES:
        extractor.enableFeatureClassByName(name)
    image, mask = (sitk.GetImageFromArray(a[None]) for a in (case.image.astype(float), case.mask.astype("uint32")))
    for i in (image, mask):
        i.SetSpacing((*case.spacing[::-1], 1.0))
    plain = pd.Series(dict(extractor.execute(image, mask)), dtype=float)
    np.testing.assert_allclose(ours[plain.index], plain, rtol=1e-12)


# pyradiomics feature -> tag of the IBSI reference value, two-dimensional, averaged over directions and slices
IBSI = {
    "glcm_JointEnergy": "cm_energy_2D_avg", "glcm_Contrast": "cm_contrast_2D_avg", "glcm_JointEntropy": "cm_joint_entr_2D_avg",
    "glcm_Correlation": "cm_corr_2D_avg", "glcm_ClusterProminence": "cm_clust_prom_2D_avg", "glcm_Imc1": "cm_info_corr1_2D_avg",
    "glcm_DifferenceVariance": "cm_diff_var_2D_avg", "glcm_InverseVariance": "cm_inv_var_2D_avg",
    "glrlm_ShortRunEmphasis": "rlm_sre_2D_avg", "glrlm_LongRunEmphasis": "rlm_lre_2D_avg", "glrlm_RunEntropy": "rlm_rl_entr_2D_avg",
    "glszm_SmallAreaEmphasis": "szm_sze_2D", "glszm_LargeAreaEmphasis": "szm_lze_2D", "glszm_ZoneEntropy": "szm_zs_entr_2D",
    "ngtdm_Coarseness": "ngt_coarseness_2D", "ngtdm_Contrast": "ngt_contrast_2D", "ngtdm_Strength": "ngt_strength_2D",
    "gldm_SmallDependenceEmphasis": "ngl_lde_2D", "gldm_DependenceEntropy": "ngl_dc_entr_2D",
    "gldm_LargeDependenceEmphasis": "ngl_hde_2D",
}  # fmt: skip


def test_ibsi_digital_phantom(shared):
    "Every slice of the IBSI-1 phantom as a film of its own; grey levels 1 to 6 are six bins."
    folder = shared / "data" / "ibsi"
    image, mask = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "ibsi_1_digital_phantom" / "nifti" / kind / name))).astype(float)
        for kind, name in (("image", "phantom.nii.gz"), ("mask", "mask.nii.gz"))
    )
    with open(folder / "ibsi_1_dig_phantom.csv") as table:
        reference = {row["tag"]: float(row["reference value"]) for row in csv.DictReader(table, delimiter=";") if row["reference value"]}
    slices = [Case(i, m > 0, (2.0, 2.0)) for i, m in zip(image, mask)]
    assert all({1, 6} <= set(c.image[c.mask]) for c in slices)
    ours = pd.DataFrame([extract(c, dict(image_types=["original"], bin_count=6, min_pixels=4)) for c in slices]).mean()
    for feature, tag in IBSI.items():
        np.testing.assert_allclose(ours[f"original_{feature}"], reference[tag], rtol=5e-3, err_msg=tag)  # printed with three digits
