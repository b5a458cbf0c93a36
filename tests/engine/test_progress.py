"""How long computations tell where they are."""

from __future__ import annotations

import io
import sys

import pytest

from lesioncore.engine.progress import Bar, ProgressBar


def test_a_log_gets_a_line_at_the_start_and_for_each_tenth(capsys):
    bar = Bar("preparing", "scan")
    for done in range(1, 41):
        bar.move(done, 40, f"loss={done}" if done == 40 else "")
    bar.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[:2] == ["preparing ...", "preparing: 4 of 40 scans"]
    assert lines[-1] == "preparing: 40 of 40 scans, loss=40"
    assert len(lines) == 11


def test_a_log_gets_one_line_for_a_loop_of_steps(capsys):
    with ProgressBar(True, "restoring a.nii") as report:
        for done in range(1, 101):
            report(done, 100)
    assert capsys.readouterr().err == "restoring a.nii ...\n"


@pytest.mark.parametrize("progress", [None, False])
def test_nothing_is_told_unasked(progress, capsys):
    with ProgressBar(progress, "restoring") as report:
        assert report is None
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_and_no_lines(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = Bar("preparing", "scan")
    for done in (1, 2):
        bar.move(done, 2)
    bar.close()
    assert "\n" not in terminal.getvalue()
    assert "preparing" in terminal.getvalue()
