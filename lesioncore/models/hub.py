"""Models on the Hugging Face hub, named ``hf://owner/name[@revision][/folder]``. Nothing else is ever fetched.

Only the files of a model's directory are fetched, into the hub library's cache, and none that is larger than
`LARGEST` allows. From there on they are a directory as any other (:func:`lesioncore.load_model`): no code of a
repository is run.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesioncore.models.directory import LARGEST
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG, HUB, MODEL

_PART = r"\w[\w.-]*"
_NAME = re.compile(
    rf"{HUB}(?P<repository>{_PART}/{_PART})(?:@(?P<revision>refs/pr/\d+|{_PART}))?"
    rf"(?:/(?P<folder>{_PART}(?:/{_PART})*))?",
    re.ASCII,
)
_LOGIN = "log in with `hf auth login` or set HF_TOKEN"


class HubError(RuntimeError):
    """A repository on the hub cannot be had or written; the message says what to do."""


@dataclass(frozen=True)
class HubName:
    """What a name on the hub says.

    Attributes
    ----------
    repository : str
        ``owner/name``.
    revision : str or None
        Commit, tag or branch; None is the hub's default, ``main``.
    folder : str
        Folder within the repository; empty for its root.
    """

    repository: str
    revision: str | None = None
    folder: str = ""

    @classmethod
    def of(cls, name: str) -> HubName:
        """Read a name.

        Raises
        ------
        ValueError
            If it is not of the form.
        """
        found = _NAME.fullmatch(name)
        if found is None:
            raise ValueError(
                f"name: got {name!r}, expected hf://owner/name, hf://owner/name@revision or either with /folder"
            )
        return cls(found["repository"], found["revision"], found["folder"] or "")

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"{HUB}{self.repository}{revision}{self.folder and f'/{self.folder}'}"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes; branches and tags can."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision or "") is not None

    def file(self, name: str) -> str:
        """A file's path within the repository."""
        return f"{self.folder}/{name}" if self.folder else name


def is_hub_name(name: str | os.PathLike[str]) -> bool:
    """Whether a model's name is one on the hub."""
    return isinstance(name, str) and name.startswith(HUB)


def fetch(name: str) -> Path:
    """Fetch a model's files, unless the cache has them.

    A commit that the cache has whole is taken without asking the hub. A branch or a tag is looked up each time, with a
    warning that names the commit which it is now; where the hub cannot be reached, or with ``HF_HUB_OFFLINE=1``, it is
    the commit that it was when it was fetched last.

    Parameters
    ----------
    name : str
        ``hf://owner/name[@revision][/folder]``.

    Returns
    -------
    Path
        The model's directory in the hub library's cache, which must not be changed.

    Raises
    ------
    ValueError
        If the name is not of this form.
    ImportError
        If huggingface_hub is not installed; the extra ``hub`` brings it.
    HubError
        If the repository, the revision or a file is missing, access is refused, a file is too large, or the hub cannot
        be reached and the cache does not have the files.
    """
    wanted = HubName.of(name)
    library = hub_library()
    cached = _cached(library, wanted)
    if wanted.pinned and cached is not None and (cached / CALIBRATION).is_file():  # all of it, and not a part
        return cached
    try:
        with explained(wanted):
            info = library.HfApi().model_info(wanted.repository, revision=wanted.revision, files_metadata=True)
    except HubError:
        raise
    except Exception as error:  # without a network: each version of the library has its own HTTP client's errors
        if cached is None:
            raise HubError(
                f"name: got {name!r}, but the hub was not reached ({said(error)}) and the cache does not have it;"
                " check the network and HF_HUB_OFFLINE, or give a directory"
            ) from error
        _warn(wanted, _commit(cached, wanted), f"the hub was not reached ({said(error)}); takes from the cache commit")
        return cached
    _check_files(wanted, {file.rfilename: file.size for file in info.siblings or ()})
    try:
        with explained(wanted):
            snapshot = _snapshot(library, wanted)
    except HubError:
        raise
    except Exception as error:
        raise HubError(f"name: {name!r} was not fetched whole ({said(error)}); try again") from error
    if snapshot.name != info.sha:  # whose files' sizes were not looked at
        raise HubError(f"name: {name!r} changed while it was fetched; try again")
    _warn(wanted, snapshot.name, f"takes what {wanted.revision or 'main'} is now, commit")
    return snapshot / wanted.folder


def hub_library() -> Any:
    """The package ``huggingface_hub``.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError('hf://: needs huggingface_hub; install lesioncore with its extra hub: ".[hub]"') from error
    return huggingface_hub


@contextmanager
def explained(place: HubName) -> Iterator[None]:
    """Raise the hub library's errors about a repository as :class:`HubError`, in one sentence that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"name: got '{place}', whose owner grants access on request; ask for it on"
            f" https://huggingface.co/{place.repository}, then {_LOGIN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"name: got '{place}', but the hub shows no model repository {place.repository}; check its name, and"
            f" if it is private, {_LOGIN}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"name: got '{place}', but {place.repository} has no branch, tag or commit {place.revision}; look on"
            f" https://huggingface.co/{place.repository}/commits/main"
        ) from error


def _snapshot(library: Any, wanted: HubName, **options: Any) -> Path:
    """Folder of a repository's commit in the cache, with the model's files."""
    files = [wanted.file(file) for file in LARGEST]
    return Path(library.snapshot_download(wanted.repository, revision=wanted.revision, allow_patterns=files, **options))


def _cached(library: Any, wanted: HubName) -> Path | None:
    """The model's directory in the cache, if it is there; nothing is fetched."""
    from huggingface_hub import errors

    try:
        folder = _snapshot(library, wanted, local_files_only=True) / wanted.folder
    except errors.LocalEntryNotFoundError:
        return None
    return folder if all((folder / file).is_file() for file in (MODEL, CONFIG, CARD)) else None


def _check_files(wanted: HubName, sizes: dict[str, int | None]) -> None:
    """Raise ``HubError`` unless a repository has the files of a model, and none is too large."""
    for file, largest in LARGEST.items():
        path = wanted.file(file)
        if path not in sizes:
            if file == CALIBRATION:
                continue
            raise HubError(
                f"name: got '{wanted}', which has no {path}, expected a model's directory as lesioncore.save_model"
                " writes and lesioncore push uploads it; check revision and folder"
            )
        size = sizes[path]
        if size is None or size > largest:
            raise HubError(
                f"name: got '{wanted}', whose {path} has {size} bytes, expected at most {largest}; look"
                " whether it is a model of lesioncore"
            )


def _commit(folder: Path, wanted: HubName) -> str:
    """Commit of a folder in the cache."""
    return folder.parents[wanted.folder.count("/")].name if wanted.folder else folder.name


def _warn(wanted: HubName, commit: str, what: str) -> None:
    if not wanted.pinned:
        same = HubName(wanted.repository, commit, wanted.folder)
        warnings.warn(f"{wanted}: {what} {commit}; {same} is always the same", stacklevel=4)


def said(error: Exception) -> str:
    """An error's class, and the first line of its text."""
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
