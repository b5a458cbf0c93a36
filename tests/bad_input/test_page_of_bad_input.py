"""The page of wrong inputs is what the rows say, and there are as many kinds as are promised."""

from __future__ import annotations

from page import PAGE, page


def test_the_page_is_as_the_rows_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/bad_input/page.py"


def test_there_are_at_least_120_kinds_beside_damaged_priors():
    tables = page().split("\n## ")[1:]
    kinds = [
        line for table in tables if not table.startswith("Priors") for line in table.splitlines() if line[:2] == "| "
    ]
    assert len(kinds) - sum(not table.startswith("Priors") for table in tables) >= 120
