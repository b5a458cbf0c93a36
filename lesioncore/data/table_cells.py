"""Texts as cells of tables that people open in a spreadsheet."""

from __future__ import annotations

_FORMULA = tuple("=+-@\t\r＝＋－＠")
"""What a spreadsheet takes for the start of a formula."""


def table_cell(text: str) -> str:
    """Give a text as a cell that a spreadsheet does not compute: an apostrophe comes before what could be a formula.

    Names of files, people and sites are others' texts. Numbers stay as they are.
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
