"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` if the block ends well, remove it if not.

    The name keeps all suffixes of `path`, for writers that choose the format by them. The file that the block creates
    has the permissions that any new file has, which a `tempfile` name would not.

    Parameters
    ----------
    path : path-like
        The file to write; one that is already there is replaced.

    Yields
    ------
    pathlib.Path
        The name to write to, in the same folder.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    IsADirectoryError
        If `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"path is a folder: {path}; give the name of a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of path does not exist: {path.parent}; create it first")
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
