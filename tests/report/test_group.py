"""The page of a group: a row for each report, with links that lead there."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from support.reports import change, saved, tiny_prior

import lesioncore as lc
from lesioncore.report.group import write_group_page


def test_every_report_has_a_row_and_a_link(tmp_path):
    names = ["sub-01_T2w", "sub-0 2%#?_T2w", "sub-<i>_T2w"]
    pages = [lc.write_report(*saved(tmp_path / "results", name), prior=tiny_prior()) for name in names]
    (tmp_path / "results" / "other.html").write_text("<p>no report</p>")
    index = write_group_page(tmp_path / "results")
    assert index == tmp_path / "results" / "index.html"
    text = re.sub(r"base64,[^\"]*", "", index.read_text())
    links = {unquote(href) for href in re.findall(r'<a href="([^"]*)"', text)}
    assert {index.parent / link for link in links} == set(pages)
    assert "<i>" not in text
    assert text.count("</tr>") == 1 + len(names)
    assert "<svg" not in text  # three dots are no distribution
    before = index.read_bytes()
    write_group_page(tmp_path / "results")  # which is no report of itself
    assert index.read_bytes() == before
    for attribute in re.findall(r'src="([^"]*)"', text):
        assert attribute.startswith("data:")


def test_pages_whose_summary_is_of_another_form_are_no_reports(tmp_path):
    page = lc.write_report(*saved(tmp_path, "sub-01_T2w"), prior=tiny_prior())
    text = page.read_text()
    for number, (old, new) in enumerate(
        [
            ('"remarks": [', '"remarks": [["nested"], '),
            ('"candidates": ', '"candidates": "<b>", "x": '),
            ('"brain_ml": ', '"brain_ml": "=1+1", "y": '),
            ('"detected_ml": {', '"detected_ml": {"<script>": 1.0, '),
            ('"name": ', '"name": ' + "[" * 100_000 + ', "z": '),
        ]
    ):
        assert old in text
        page.with_name(f"{number}.html").write_text(text.replace(old, new, 1))
    assert write_group_page(page.parent).read_text().count("</tr>") == 2


def test_five_scans_have_a_chart_below_the_table(tmp_path):
    page = lc.write_report(*saved(tmp_path, "sub-01_T2w"), prior=tiny_prior())
    for number in range(4):
        page.with_name(f"copy{number}.html").write_bytes(page.read_bytes())
    text = write_group_page(page.parent).read_text()
    assert text.index("</table>") < text.index("<svg")


def test_scans_that_are_not_valid_have_no_dots_and_no_volumes(tmp_path):
    page = lc.write_report(*saved(tmp_path / "fine", "sub-01_T2w"), prior=tiny_prior())
    for number in range(4):
        page.with_name(f"copy{number}.html").write_bytes(page.read_bytes())
    text = write_group_page(page.parent).read_text()
    sidecar, scan = saved(tmp_path / "other", "sub-02_T2w")
    change(sidecar, Remarks=["its intensities fit FLAIR better than T2w"])
    other = lc.write_report(sidecar, scan, prior=tiny_prior())
    page.with_name("other.html").write_bytes(other.read_bytes())
    with_other = write_group_page(page.parent).read_text()
    assert with_other.count("not valid: the scan fits FLAIR") == 1
    assert "not valid (1) are left out" in with_other
    assert "left out" not in text
    assert chart_of(with_other) == chart_of(text)
    row = next(row for row in with_other.split("<tr>") if "not valid: " in row)
    assert len(re.findall(r'<td class="number">[\d.]+</td>', row)) == 1  # the brain's


def chart_of(text: str) -> str:
    return text[text.index("<svg") : text.index("</svg>")]


def test_pages_of_hundreds_of_scans_have_no_thumbnails(tmp_path, monkeypatch):
    page = lc.write_report(*saved(tmp_path, "sub-01_T2w"), prior=tiny_prior())
    for number in range(3):
        page.with_name(f"copy{number}.html").write_bytes(page.read_bytes())
    assert write_group_page(page.parent).read_text().count("base64,") == 4
    monkeypatch.setattr("lesioncore.report.group._MOST_THUMBNAILS", 3)
    text = write_group_page(page.parent).read_text()
    assert "base64," not in text
    assert text.count("</tr>") == 1 + 4


def test_a_folder_without_reports_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no report"):
        write_group_page(tmp_path)
    assert list(tmp_path.iterdir()) == []
