"""The page of a scan: what it says, that it says it to people and machines alike, and that it holds all it needs."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import sys

import nibabel as nib
import numpy as np
import pytest
from support.reports import TEMPLATE, change, saved, tiny_prior

import lesioncore as lc
from lesioncore.data.files import manifest
from lesioncore.report.group import write_group_page
from lesioncore.report.page import read_summary, report_path
from lesioncore.report.saved import read_sidecar


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    sidecar, scan = saved(tmp_path_factory.mktemp("case"), ToTemplate=TEMPLATE)
    page = lc.write_report(sidecar, scan, prior=tiny_prior())
    return sidecar, scan, page


def text_of(page) -> str:
    """The page without what is embedded."""
    return re.sub(r'<script type="text/plain".*?</script>|base64,[^"]*', "", page.read_text(), flags=re.DOTALL)


def test_it_lies_beside_the_sidecar_and_says_what_was_detected(case):
    sidecar, _, page = case
    assert page == report_path(sidecar)
    assert page.name == "sub-01_desc-report_T2w.html"
    masks = {rate: nib.load(next(sidecar.parent.glob(f"*fpr{rate:02d}*"))).get_fdata() for rate in (1, 5, 10)}
    summary = read_summary(page)
    assert summary["detected_ml"] == {
        f"{rate}": pytest.approx(mask.sum() * 0.064, abs=0.01) for rate, mask in masks.items()
    }
    assert summary["brain_ml"] == pytest.approx(summary["allowed_ml"]["10"] * 10, abs=0.5)
    assert summary["candidates"] > 0
    assert summary["contrast"] == "T2w"
    assert summary["prior"] == "tiny"
    text = text_of(page)
    assert text.count("<tr data-mm=") == min(summary["candidates"], 50)
    assert "Research software, not a medical device." in text
    assert re.search(r"<td class=\"number\">(none|1 in [0-9,]+)</td>", text)  # how rare in the calibration
    assert summary["first"].replace("'", "&#39;") in text


def test_it_loads_nothing_and_repeats(case, tmp_path):
    sidecar, scan, page = case
    again = lc.write_report(sidecar, scan, prior=tiny_prior(), path=tmp_path / "again.html")
    assert again.read_bytes() == page.read_bytes()
    assert page.stat().st_size < 10e6
    text = text_of(page)
    assert "default-src 'none'" in text
    for attribute in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert attribute.startswith(("data:", "#"))


def test_the_viewer_has_scan_and_score_on_one_grid(case):
    sidecar, scan, page = case
    embedded = {
        name: nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))
        for name, text in re.findall(r'<script type="text/plain" id="(scan|score)">(.*?)</script>', page.read_text())
    }
    assert np.array_equal(embedded["scan"].affine, embedded["score"].affine)
    score = nib.load(next(sidecar.parent.glob("*desc-score*.nii.gz")))
    where = np.rint(np.linalg.inv(score.affine) @ embedded["score"].affine)[:3, 3].astype(int)
    box = tuple(slice(start, start + length) for start, length in zip(where, embedded["score"].shape, strict=True))
    step = embedded["score"].dataobj.slope
    facts = json.loads(re.search(r'id="viewer-facts">(.*?)</script>', page.read_text())[1])
    shown = np.clip(score.get_fdata()[box], 0, facts["maximum"])
    assert np.abs(embedded["score"].get_fdata() - shown).max() <= 0.51 * step
    values = nib.load(scan).get_fdata()[box]
    near = np.abs(embedded["scan"].get_fdata() - values) <= 0.51 * embedded["scan"].dataobj.slope
    assert near.mean() > 0.995  # but for the brightest


def test_names_with_markup_stay_text(tmp_path):
    name = "sub-<b>x<!--&amp;'_T2w"
    sidecar, scan = saved(tmp_path, name)
    change(sidecar, Remarks=["</script><script>alert(1)</script>"])
    page = lc.write_report(sidecar, scan, prior=tiny_prior())
    text = text_of(page)
    assert "<b>x" not in text
    assert "alert(1)</script>" not in text
    assert read_summary(page)["name"] == name
    assert "</script><script>alert(1)" in read_summary(page)["remarks"][-1].lower()


def test_without_thresholds_or_prior_it_says_so(tmp_path, case):
    with pytest.warns(UserWarning, match="calibrated with other settings"):
        sidecar, scan = saved(tmp_path, calibrated=False)
    text = text_of(lc.write_report(sidecar, scan, prior=tiny_prior()))
    assert "No thresholds hold for this run" in text
    assert "use the calibrated" in text
    sidecar, scan, _ = case
    text = text_of(lc.write_report(sidecar, scan, path=tmp_path / "unknown.html"))  # of a prior that is not embedded
    assert "calibration is not at hand" in text
    assert "1 in " not in text


def test_volumes_are_the_sidecars_and_only_the_page_rounds_them(tmp_path):
    sidecar, scan = saved(
        tmp_path, BrainMillilitres=1234.46, DetectedMillilitres={"0.01": 33.445, "0.05": 92.0, "0.1": 10.0}
    )
    page = lc.write_report(sidecar, scan, prior=tiny_prior())
    assert read_summary(page)["detected_ml"] == {"1": 33.445, "5": 92.0, "10": 10.0}
    text = text_of(page)
    assert "<b>33.4 ml</b>" in text  # 33.45 would be 33.5
    assert "<b>1234 ml</b>" in text
    # 2.7 times, 1.49 times and less than what the limits allow.
    assert text.count('class="tile marked"') == 1
    assert "<b>33.4 ml</b>more than most healthy people have: a lesion, or a scan unlike the calibration" in text


@pytest.mark.parametrize("strictest", [0, 1])
def test_detections_on_another_contrast_are_not_valid(tmp_path, strictest):
    remark = "its intensities fit FLAIR better than T2w"
    sidecar, scan = saved(tmp_path, ToTemplate=TEMPLATE, Remarks=[remark])
    if not strictest:
        image = nib.load(path := next(sidecar.parent.glob("*fpr01*")))
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
        change(sidecar, Files={**read_sidecar(sidecar)["Files"], **manifest([path])})
    page = lc.write_report(sidecar, scan, prior=tiny_prior())
    text = re.sub(r"</?b>", "", text_of(page))
    assert text.count("not valid: the scan fits FLAIR, the prior is for T2w") == 5  # four tiles and the candidates
    assert "None of" not in text
    assert ("<tr data-mm=" in text) == bool(strictest)
    assert f"{remark}. Check the scan" in text
    index = write_group_page(page.parent)
    assert "not valid: the scan fits FLAIR, the prior is for T2w" in index.read_text()


def test_unregistered_scans_have_no_regions(tmp_path):
    sidecar, scan = saved(tmp_path)
    page = lc.write_report(sidecar, scan, prior=tiny_prior())
    assert read_summary(page)["first"] == "unknown"
    assert "regions are unknown" in text_of(page)


def test_what_does_not_belong_together_is_refused(case, tmp_path, monkeypatch):
    sidecar, scan, page = case
    other = tmp_path / scan.name
    shutil.copy(scan, other)
    assert lc.write_report(sidecar, other, prior=tiny_prior(), path=tmp_path / "a.html").exists()
    other.write_bytes(b"x")
    with pytest.raises(ValueError, match="is not the file that"):
        lc.write_report(sidecar, other)
    with pytest.raises(ValueError, match="prior: got 'phantom-t2'"):
        lc.write_report(sidecar, scan, prior="phantom-t2")
    damaged = tmp_path / sidecar.name
    for content, says in (
        ("{", "written whole"),
        ("[]", "expected an object"),
        ('{"Source": 1}', "lacks SourceSHA256"),
    ):
        damaged.write_text(content)
        with pytest.raises(ValueError, match=says):
            lc.write_report(damaged, scan)
    facts = json.loads(sidecar.read_text())
    elsewhere = {"../secret_desc-score_T2w.nii.gz": facts["Files"]["sub-01_desc-score_T2w.nii.gz"]}
    damaged.write_text(json.dumps({**facts, "Files": elsewhere}))
    with pytest.raises(ValueError, match="other folders"):
        lc.write_report(damaged, scan)
    damaged.write_text(json.dumps(facts))
    with pytest.raises(FileNotFoundError):
        lc.write_report(damaged, scan, prior=tiny_prior())
    assert not report_path(damaged).exists()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    before = page.read_bytes()
    with pytest.raises(ImportError, match=r"lesioncore\[figures\]"):
        lc.write_report(sidecar, scan)
    assert page.read_bytes() == before
