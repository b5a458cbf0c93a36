"""Atomic writing of JSON and of folders."""

import json

import pytest

from lesioncore.data.files import replace_directory, write_json


def test_json_lists_of_numbers_are_rows_on_request(tmp_path):
    values = {"name": "a [\n1,\n2]", "shape": [2, 3.5], "empty": [], "nested": [[1, 2], [3]], "words": ["a", "b"]}
    write_json(tmp_path / "a.json", values, indent=1)
    assert (tmp_path / "a.json").read_text() == json.dumps(values, indent=1) + "\n"
    write_json(tmp_path / "a.json", values, indent=1, number_rows=True)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == values
    assert '"shape": [2, 3.5]' in text
    assert '"words": [\n' in text


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1}, indent=1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")}, indent=1, allow_nan=False)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_with_folders_is_replaced_as_a_whole(tmp_path):
    for text in ("old", "new"):
        with replace_directory(tmp_path / "data") as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / f"{text}.txt").write_text(text)
    assert [path.name for path in (tmp_path / "data" / "sub").iterdir()] == ["new.txt"]
    with pytest.raises(KeyboardInterrupt), replace_directory(tmp_path / "data"):
        raise KeyboardInterrupt
    assert (tmp_path / "data" / "sub" / "new.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
