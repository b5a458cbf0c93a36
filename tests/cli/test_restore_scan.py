"""What restores scans, sent to other processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from lesioncore.cli.options import RestoreOptions
from lesioncore.cli.output import CommandError
from lesioncore.cli.restore_scan import RestoreScan
from lesioncore.scoring.postprocess import PostProcessing


def test_another_prior_under_the_same_name_is_refused(prior, tmp_path):
    work = RestoreScan(
        output=tmp_path,
        priors=(prior,),
        by_contrast=False,
        options=RestoreOptions(),
        postprocessing=PostProcessing(),
        overwrite=False,
        resume=False,
        figure=False,
        report=False,
        deidentify=False,
    )
    work.open()
    sent = pickle.dumps(work)
    assert len(sent) < 10_000  # no weights
    arrived = pickle.loads(sent)
    assert arrived.runs == []
    arrived.open()
    assert arrived.runs[0].expected == work.runs[0].expected
    elsewhere = pickle.loads(sent)
    elsewhere.priors = ("phantom-t2",)
    with pytest.raises(CommandError, match=r"--prior: phantom-t2 has other weights on .* than where the command was"):
        elsewhere.open()
    assert not list(Path(tmp_path).iterdir())
