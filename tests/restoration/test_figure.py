"""The figure: right side up for every storage order, rows that fit the result, and a file that is whole."""

from __future__ import annotations

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from support.models import head, scan_values, tiny_calibration, tiny_metadata, tiny_vae

import lesioncore as lc
from lesioncore.cli import main
from lesioncore.restoration.figure import restoration_figure, save_figure

SHAPE = (22, 18, 11)
AFFINE = np.array([[4.0, 0, 0, -40], [0, 4, 0, -36], [0, 0, 4, -20], [0, 0, 0, 1]])
FAST = lc.RestoreConfig(solver=lc.ProxSolver(steps=2, step_size=0.25, inner_iterations=5))


@pytest.fixture(scope="module")
def prior():
    return tiny_vae(metadata=tiny_metadata(tiny_calibration(solver=FAST.solver)))


@pytest.fixture(scope="module")
def image():
    return nib.Nifti1Image(scan_values(head(SHAPE)).numpy(), AFFINE)


@pytest.fixture(scope="module")
def truth():
    """A lesion in front, on the patient's right, largest in slice 7."""
    lesion = np.zeros(SHAPE, dtype=bool)
    lesion[13:16, 11:13, 6:9] = True
    lesion[13:17, 11:14, 7] = True
    return lesion


def rendered(figure) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title().startswith("z = ")]


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_rows_follow_what_is_known(prior, image, truth):
    result = lc.restore(image, prior, config=FAST)
    assert words(restoration_figure(result))[:4] == ["input", "restored", "residual", "detected"]
    assert "truth" not in words(restoration_figure(result))
    figure = restoration_figure(result, truth, slices=3)
    assert "truth" in words(figure)
    assert len(titles(figure)) == 3
    assert any("left is on the left" in text and "not a medical device" in text for text in words(figure))
    with pytest.warns(UserWarning, match="calibrated"):
        other = lc.restore(image, prior, config=lc.RestoreConfig(solver=FAST.solver, tv_weight=0.3))
    assert "detected" not in words(restoration_figure(other))


def legend_of(figure) -> list[str]:
    return [text.get_text() for axes in figure.axes if axes.get_legend() for text in axes.get_legend().get_texts()]


def test_the_legend_holds_volumes_and_where_the_truth_is_known_dice(prior, image, truth):
    result = lc.restore(image, prior, config=FAST)
    inside = image.get_fdata() != 0
    masks = {limit: result.mask(limit).get_fdata() != 0 for limit in (0.01, 0.05, 0.1)}
    volumes = {limit: f"{100 * limit:g} %: {m.sum() * 0.064:.1f} ml" for limit, m in masks.items()}
    assert legend_of(restoration_figure(result)) == list(volumes.values())
    dices = {limit: 2 * (m & truth & inside).sum() / (m.sum() + (truth & inside).sum()) for limit, m in masks.items()}
    expected = [f"{volumes[limit]}\nDice {value:.2f}" for limit, value in dices.items()]
    assert legend_of(restoration_figure(result, truth)) == [*expected, f"true lesion\n{truth.sum() * 0.064:.1f} ml"]
    assert max(dices.values()) > 0


def test_a_scan_has_its_title_or_its_files_name(prior, image, tmp_path):
    nib.save(image, tmp_path / "sub-1_T2w.nii")
    result = lc.restore(tmp_path / "sub-1_T2w.nii", prior, config=FAST)
    assert "sub-1_T2w.nii" in words(restoration_figure(result))
    assert "someone" in words(restoration_figure(result, title="someone"))


def test_remarks_stand_below_the_panels(prior, image):
    result = lc.restore(image, prior, config=FAST)
    result.remarks = ["its brain measures $9$ mm " * 9]
    figure = restoration_figure(result, slices=2)
    shown = [text for text in words(figure) if "measures" in text]
    assert len(shown) > 1  # lines
    assert shown[-1].startswith("Remark: its brain") or shown[0].startswith("Remark: its brain")
    rendered(figure)


def test_the_truths_largest_slice_is_shown(prior, image, truth):
    result = lc.restore(image, prior, config=FAST)
    assert "z = +8 mm" in titles(restoration_figure(result, truth, slices=2))  # slice 7 of 4 mm from -20 mm
    assert "z = +8 mm" not in titles(restoration_figure(result, slices=2))


def test_left_is_left_and_front_is_up(prior, image, truth):
    """The patient's right front appears at the right top of its panel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = restoration_figure(lc.restore(image, prior, config=FAST), truth, slices=1)
    FigureCanvasAgg(figure).draw()
    (panel,) = [axes for axes in figure.axes if len(axes.images) == 2 and len(axes.collections) == 1]  # row "truth"
    green = figure.canvas.buffer_rgba()
    box = panel.get_window_extent()
    pixels = np.asarray(green)[::-1][int(box.y0) : int(box.y1), int(box.x0) : int(box.x1), :3].astype(int)
    rows, columns = np.nonzero(pixels[..., 1] - pixels[..., 0] > 60)
    assert len(rows) > 20
    assert columns.min() > pixels.shape[1] / 2
    assert rows.min() > pixels.shape[0] / 2  # counted from below


@pytest.mark.parametrize("axes", ["LPS", "SAR", "PIL"])
def test_storage_order_does_not_change_the_picture(prior, image, truth, axes):
    from nibabel.orientations import axcodes2ornt, ornt_transform

    to = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    label = nib.Nifti1Image(truth.astype(np.uint8), AFFINE)
    stored, stored_truth = image.as_reoriented(to), label.as_reoriented(to).get_fdata()
    expected = rendered(restoration_figure(lc.restore(image, prior, config=FAST), truth, slices=2))
    figure = restoration_figure(lc.restore(stored, prior, config=FAST), stored_truth, slices=2)
    assert np.abs(rendered(figure) - expected).max() <= 2


def test_arrays_tensors_and_a_truth_in_a_file(prior, image, truth, tmp_path):
    data = image.get_fdata(dtype=np.float32)
    expected = rendered(restoration_figure(lc.restore(image, prior, config=FAST), truth, slices=2))
    nib.save(nib.Nifti1Image(truth.astype(np.uint8), AFFINE), tmp_path / "truth.nii.gz")
    for volume, label in ((data, tmp_path / "truth.nii.gz"), (torch.from_numpy(data), torch.from_numpy(truth))):
        result = lc.restore(volume, prior, affine=AFFINE, config=FAST)
        assert np.abs(rendered(restoration_figure(result, label, slices=2)) - expected).max() <= 2


def test_errors(prior, image, truth, monkeypatch):
    result = lc.restore(image, prior, config=FAST)
    with pytest.raises(ValueError, match="slices: got 0"):
        restoration_figure(result, slices=0)
    with pytest.raises(ValueError, match="truth: got shape"):
        restoration_figure(result, truth[1:])
    with pytest.warns(UserWarning, match="without geometry"):
        slices = lc.restore(scan_values(head((24, 20, 3))).permute(2, 0, 1)[:, None], prior, config=FAST)
    with pytest.raises(ValueError, match="geometry"):
        restoration_figure(slices)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lesioncore\[figures\]"):
        restoration_figure(result)


def test_saving_is_whole_or_not_at_all(prior, image, tmp_path):
    figure = restoration_figure(lc.restore(image, prior, config=FAST), slices=2)
    path = tmp_path / "figure.png"
    save_figure(figure, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="nonesuch"):
        save_figure(figure, tmp_path / "figure.nonesuch")
    with pytest.raises(FileNotFoundError, match="folder"):
        save_figure(figure, tmp_path / "absent" / "figure.png")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_importing_the_module_needs_no_matplotlib(tmp_path):
    code = "import sys, lesioncore.restoration.figure; print('matplotlib' in sys.modules)"
    # Away from the checkout, whose source folder would stand in for the installed package.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"


def test_a_restoration_saves_its_figure_where_it_is_wanted(prior, image, tmp_path):
    result = lc.restore(image, prior, config=FAST)
    written = result.save(tmp_path, name="sub-1_T2w", figure=True)
    assert written["figure"] == tmp_path / "sub-1_desc-figure_T2w.png"
    assert written["figure"].read_bytes().startswith(b"\x89PNG")
    assert written["figure"].name in json.loads(written["sidecar"].read_text())["Files"]
    assert "figure" not in result.save(tmp_path, name="sub-1_T2w")
    assert not written["figure"].exists()  # it would be that of another restoration


def test_nothing_is_saved_where_the_figure_cannot_be_drawn(prior, image, tmp_path, monkeypatch):
    result = lc.restore(image, prior, config=FAST)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"lesioncore\[figures\]"):
        result.save(tmp_path / "out", name="sub-1_T2w", figure=True)
    assert not (tmp_path / "out").exists()


def test_the_command_draws_every_scan_and_those_that_an_earlier_run_did_not(prior, image, tmp_path, capsys):
    directory = lc.save_model(prior, tmp_path / "prior", card="A random network for tests.\n")
    scans, out = [tmp_path / f"sub-{number}_T2w.nii.gz" for number in (1, 2, 3)], tmp_path / "out"
    for scan in scans:
        nib.save(image, scan)
    command = ["restore", *map(str, scans), "-o", str(out), "--prior", str(directory), "--resume"]
    assert main(command) == 0
    assert not list(out.glob("*.png"))
    assert main([*command, "--figure"]) == 0
    assert "finished before" not in capsys.readouterr().out
    assert len(list(out.glob("*_desc-figure_T2w.png"))) == 3
    assert main([*command, "--figure"]) == 0
    assert capsys.readouterr().out.count("finished before: 10 files") == 3


def test_the_command_names_the_missing_extra_before_it_works(prior, image, tmp_path, capsys, monkeypatch):
    directory = lc.save_model(prior, tmp_path / "prior", card="A random network for tests.\n")
    nib.save(image, tmp_path / "sub-1_T2w.nii.gz")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    command = ["restore", str(tmp_path / "sub-1_T2w.nii.gz"), "-o", str(tmp_path / "out"), "--prior", str(directory)]
    assert main([*command, "--figure"]) == 2
    assert "lesioncore[figures]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
