"""The page of a group: a row for each report, with links that lead there."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from support.reports import saved, tiny_prior

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


def test_five_scans_have_a_chart_below_the_table(tmp_path):
    page = lc.write_report(*saved(tmp_path, "sub-01_T2w"), prior=tiny_prior())
    for number in range(4):
        page.with_name(f"copy{number}.html").write_bytes(page.read_bytes())
    text = write_group_page(page.parent).read_text()
    assert text.index("</table>") < text.index("<svg")


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
