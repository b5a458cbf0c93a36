"""Which scans the BIDS App takes: labels, sessions, filters, modalities."""

from __future__ import annotations

import json

import pytest
from support.bids import write_bids

from lesioncore.bids_app import main
from lesioncore.bids_app.selection import find_scans, read_filters
from lesioncore.cli.output import UsageError
from lesioncore.restoration.prior_choice import PRIORS

SCANS = (
    *("sub-01_ses-1_T1w", "sub-01_ses-1_run-01_T2w", "sub-01_ses-1_run-02_T2w", "sub-01_ses-2_acq-fast_T1w"),
    *("sub-02_ses-1_T1w", "sub-02_ses-2_FLAIR", "sub-03_T1w"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = write_bids(tmp_path_factory.mktemp("bids"), *SCANS)
    for other in (
        *(
            "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz",
            "sub-03/anat/sub-03_T1map.nii.gz",
            "sub-03/anat/sub-03_T1w.json",
            "sub-03/anat/sub-03_ce-gadolinium_T1w.nii.gz",
        ),
        *("sub-03/anat/sub-04_T1w.nii.gz", "sub-03/anat/sub-03_ses-1_T1w.nii.gz", "sub-03/func/sub-03_T1w.nii.gz"),
    ):
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).touch()
    return folder


def names(dataset, participants=(), sessions=(), contrasts=tuple(PRIORS), filters=None) -> list[str]:
    found = find_scans(dataset, participants, sessions, contrasts, filters or {})
    assert all((dataset / scan.relative) == scan.path for scan in found)
    return [scan.path.name.removesuffix(".nii.gz") for scan in found]


def test_all_scans_are_those_of_people_and_sessions(dataset):
    assert sorted(names(dataset)) == sorted(SCANS)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"participants": ["02", "sub-03"]}, SCANS[4:]),
        ({"sessions": ["ses-2"]}, [SCANS[3], SCANS[5]]),
        ({"participants": ["sub-01"], "sessions": ["1"]}, SCANS[:3]),
        ({"contrasts": ["FLAIR", "T2w"]}, [SCANS[1], SCANS[2], SCANS[5]]),
        ({"filters": {"t1w": {"session": "1"}}, "contrasts": ["T1w"]}, [SCANS[0], SCANS[4]]),
        ({"filters": {"t1w": {"acquisition": None}}, "contrasts": ["T1w"]}, [SCANS[0], SCANS[4], SCANS[6]]),
        ({"filters": {"t1w": {"acquisition": "*"}}, "contrasts": ["T1w"]}, [SCANS[3]]),
        ({"filters": {"t1w": {"session": ["2", None]}}, "contrasts": ["T1w"]}, [SCANS[3], SCANS[6]]),
        ({"filters": {"t2w": {"run": 2, "datatype": "anat", "suffix": "T2w"}}, "contrasts": ["T2w"]}, [SCANS[2]]),
        ({"filters": {"t2w": {"run": "2"}}, "participants": ["01"]}, [SCANS[0], *SCANS[2:4]]),
    ],
)
def test_labels_and_filters_choose(dataset, arguments, expected):
    assert sorted(names(dataset, **arguments)) == sorted(expected)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"participants": ["sub-07", "01", "08"]},
            "--participant-label: got 07, 08, expected some of the dataset's: 01, 02, 03",
        ),
        ({"sessions": ["9"]}, "--session-label: got 9, expected some of the dataset's: 1, 2"),
        ({"participants": ["03"], "contrasts": ["FLAIR"]}, "no scan of FLAIR is selected of the 8"),
    ],
)
def test_what_is_not_there_is_named(dataset, arguments, says):
    with pytest.raises(UsageError, match=says):
        names(dataset, **arguments)


def test_two_files_of_a_name_are_refused(tmp_path):
    dataset = write_bids(tmp_path, "sub-01_T1w")
    (dataset / "sub-01" / "anat" / "sub-01_T1w.nii").touch()
    with pytest.raises(UsageError, match=r"sub-01_T1w.*its results would have the names"):
        names(dataset)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no valid JSON"),
        ("[]", "expected an object"),
        ('{"t1w": "01"}', "expected one object of objects"),
        ('{"t1w": {"sesion": "01"}}', "t1w: got sesion, expected some of acquisition"),
    ],
)
def test_filter_files_of_another_form_are_refused(tmp_path, text, says):
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=says):
        read_filters(path)
    with pytest.raises(UsageError, match="no such file"):
        read_filters(tmp_path / "none.json")


def test_the_command_line_chooses(dataset, tmp_path, priors, capsys):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps({"t1w": {"acquisition": None}, "bold": {"task": "rest"}}))
    command = [str(dataset), str(tmp_path / "out"), "participant", "--skip-bids-validation"]
    options = ["--participant_label", "sub-01", "02", "--modalities", "T1w", "--session-label", "1"]
    assert main([*command, *options, "--bids-filter-file", str(path)]) == 0
    assert "--bids-filter-file: bold is not read" in capsys.readouterr().err
    done = sorted(file.name for file in (tmp_path / "out").rglob("*_desc-restored_*.nii.gz"))
    assert done == [f"sub-{label}_ses-1_desc-restored_T1w.nii.gz" for label in ("01", "02")]
    assert main([*command, "--participant-label", "09"]) == 2
    assert "--participant-label: got 09" in capsys.readouterr().err
