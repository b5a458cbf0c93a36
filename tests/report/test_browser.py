"""Reports in a browser: nothing is loaded or complained about, the viewer draws, and candidates move it."""

from __future__ import annotations

import io
import shutil
from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
from support.reports import TEMPLATE, change, saved, tiny_prior

import lesioncore as lc
from lesioncore.data.files import manifest
from lesioncore.report.group import write_group_page
from lesioncore.report.saved import read_sidecar

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    pages = []
    for name in ("sub-01_T2w", "sub-<i>2_T2w"):
        sidecar, scan = saved(folder, name, ToTemplate=TEMPLATE)
        change(sidecar, Remarks=["<b id='injected'>bold</b>"])
        detect_two_places(sidecar, next(sidecar.parent.glob(f"{name.removesuffix('_T2w')}_*fpr01*.nii.gz")))
        pages.append(lc.write_report(sidecar, scan, prior=tiny_prior()))
    write_group_page(pages[0].parent)
    return pages


def detect_two_places(sidecar, path):
    """Put two boxes, far apart, in the place of the strictest limit's detections, and list them in the sidecar."""
    image = nib.load(path)
    mask = np.zeros(image.shape, np.uint8)
    mask[6:9, 6:9, 5:7] = mask[13:15, 10:12, 5:7] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), path)
    change(sidecar, Files={**read_sidecar(sidecar)["Files"], **manifest([path])})


@pytest.fixture
def page(browser):
    """A page that fails its test if it complains or asks for anything but itself."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.complaints = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith(("data:", "blob:", "file:")) or page.complaints.append(request.url),
    )
    yield page
    assert page.complaints == []
    page.close()


def open_report(page, path):
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-viewer]", timeout=120_000)
    assert page.get_attribute("body", "data-viewer") == "ready"


def picture(page) -> np.ndarray:
    from matplotlib.image import imread

    page.wait_for_timeout(500)
    return imread(io.BytesIO(page.locator("#viewer").screenshot()), format="png")[..., :3]


def test_the_viewer_draws_and_a_candidate_moves_it(page, reports):
    open_report(page, reports[0])
    before = picture(page)
    assert before.std() > 0.05  # something is there
    rows = page.locator("tr[data-mm]")
    assert rows.count() == 2
    place = page.inner_text("#location")
    rows.nth(1).click()
    assert page.inner_text("#location") != place
    x, *_ = rows.nth(1).locator("td").nth(3).inner_text().split(",")
    assert abs(float(page.inner_text("#location").split(",")[0]) - float(x)) <= 3  # within a voxel of 4 mm
    assert np.abs(picture(page) - before).mean() > 1e-3


def test_letters_of_neighbouring_panels_stand_apart(page, reports):
    open_report(page, reports[0])
    places = page.evaluate("window.lesioncore.viewer.screenSlices.map((slice) => Array.from(slice.leftTopWidthHeight))")
    assert len(places) >= 3
    for (x, y, width, height), (left, top, *_) in permutations(places, 2):
        if (left, top) > (x, y):  # to the right or below
            assert max(left - x - width, top - y - height) >= 16  # pixels; a letter has some 10


def test_threshold_opacity_and_convention_change_the_picture(page, reports):
    open_report(page, reports[0])
    before = picture(page)
    page.locator("#opacity").fill("0")
    without = picture(page)
    assert np.abs(without - before).max() > 0.1
    assert np.ptp(without, axis=-1).mean() < np.ptp(before, axis=-1).mean()  # the score alone has colours
    page.locator("#opacity").fill("0.5")
    page.locator("button[data-threshold]").nth(2).click()
    laxer = picture(page)
    assert np.ptp(laxer, axis=-1).mean() > np.ptp(before, axis=-1).mean()
    page.locator("#radiological").check()
    assert np.abs(picture(page) - laxer).mean() > 1e-3


def test_markup_stays_text_and_the_page_prints(page, reports, tmp_path):
    open_report(page, reports[1])
    assert page.inner_text("h1") == "sub-<i>2_T2w"
    assert page.locator("#injected").count() == 0
    page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_groups_table_sorts_and_leads_to_the_reports(page, reports):
    page.goto((reports[0].parent / "index.html").as_uri())
    assert page.locator("#scans tbody tr").count() == 2
    head = page.locator("#scans th", has_text="Brain")
    order = []
    for _ in range(2):
        head.click()
        order.append(page.locator("#scans tbody tr td:nth-child(2)").all_inner_texts())
    assert order[0] == order[1][::-1]
    page.locator("#scans tbody a", has_text="sub-01").click()
    page.wait_for_selector("body[data-viewer]", timeout=120_000)
    assert page.inner_text("h1") == "sub-01_T2w"
