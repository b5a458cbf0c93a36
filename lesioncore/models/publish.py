"""Models onto the Hugging Face hub: the files of their directory, with a card that the hub understands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lesioncore.models.card import hub_card, license_of, local_paths
from lesioncore.models.hub import HubError, HubName, explained, hub_library, is_hub_name, said
from lesioncore.models.io import load_model, model_directory
from lesioncore.prior_names import CALIBRATION, CARD, CONFIG, MODEL


@dataclass(frozen=True)
class Upload:
    """What goes to the hub.

    Attributes
    ----------
    place : HubName
        The repository.
    files : dict of str to Path or bytes
        Each file's name there, and where it lies or what is in it.
    license : str
        One of :data:`lesioncore.models.card.LICENSES`.
    local_paths : list of str
        Paths of this machine that the files name.
    """

    place: HubName
    files: dict[str, Path | bytes]
    license: str
    local_paths: list[str]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }


def prepare_upload(
    model: str | os.PathLike[str], name: str, *, license: str | None = None, datasets: Sequence[str] = ()
) -> Upload:
    """Check a model's directory and make its card; nothing is sent.

    Parameters
    ----------
    model : str or path
        Name of an embedded prior, or a directory written by :func:`lesioncore.save_model`.
    name : str
        ``hf://owner/name``.
    license : str, optional
        The hub's name of the weights' licence; the one that the card states when absent.
    datasets : sequence of str
        The hub's names of the data sets that it learned from.

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ValueError
        If the model is damaged, the name is not of the form, or the licence is missing or contradicted.
    """
    place = HubName.of(name)
    if place != HubName(place.repository):
        raise ValueError(
            f"name: got {name!r}, expected hf://owner/name; a model is uploaded to a repository of its own"
        )
    if is_hub_name(model):
        raise ValueError(f"model: got {os.fspath(model)!r}, expected an embedded prior's name or a directory")
    loaded = load_model(model)
    directory = model_directory(model)
    assert directory is not None  # it was loaded from there
    license = license_of(directory, license)
    files: dict[str, Path | bytes] = {
        CARD: hub_card(directory, loaded, place.repository, license, datasets).encode(),
        **{file: directory / file for file in (CONFIG, MODEL, CALIBRATION) if (directory / file).exists()},
    }
    return Upload(place, files, license, local_paths(directory))


def upload(
    upload: Upload,
    *,
    branch: str | None = None,
    create: bool = False,
    private: bool = False,
    overwrite: bool = False,
    message: str | None = None,
) -> str:
    """Upload a model as one commit. Other files of the repository stay as they are.

    Parameters
    ----------
    upload : Upload
        From :func:`prepare_upload`.
    branch : str, optional
        Branch to commit to; ``main`` when absent.
    create : bool
        Make the repository, or the branch, if it does not exist.
    private : bool
        A repository that is made is for its owner alone.
    overwrite : bool
        Replace files of these names; their earlier versions stay in the repository's history.
    message : str, optional
        Of the commit.

    Returns
    -------
    str
        The name of the uploaded model, with its commit.

    Raises
    ------
    ImportError
        If huggingface_hub is not installed; the extra ``hub`` brings it.
    HubError
        If the repository or the branch does not exist and is not to be made, files would be replaced, or the hub
        refuses or is not reached.
    """
    library = hub_library()
    place = HubName(upload.place.repository, branch)
    try:
        with explained(place):
            return str(_commit(library, upload, place, create, private, overwrite, message))
    except HubError:
        raise
    except Exception as error:  # of the library, of its HTTP client, by version
        raise HubError(
            f"name: '{place}' was not written ({said(error)}); check the network, and that the token (`hf auth login`"
            " or HF_TOKEN) may write there"
        ) from error


def _commit(
    library: Any, upload: Upload, place: HubName, create: bool, private: bool, overwrite: bool, message: str | None
) -> HubName:
    api = library.HfApi()
    info = _found(api, place, create, private)
    there = {file.rfilename for file in info.siblings or ()}
    # Another model's calibration beside these weights would give wrong masks.
    stale = {CALIBRATION} & there - set(upload.files)
    taken = sorted(there & set(upload.files) | stale)
    if taken and not overwrite:
        raise HubError(
            f"name: '{place}' has {', '.join(taken)} already; give --overwrite to replace them (its history keeps"
            " the earlier ones), or --branch"
        )
    operations = [
        library.CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in upload.files.items()
    ]
    operations += [library.CommitOperationDelete(path_in_repo=name) for name in stale]
    commit = api.create_commit(
        place.repository,
        operations,
        commit_message=message or "Upload a model by lesioncore",
        revision=place.revision,
        parent_commit=info.sha,  # what others commit meanwhile is not overwritten
    )
    return HubName(place.repository, commit.oid)


def _found(api: Any, place: HubName, create: bool, private: bool) -> Any:
    """What the hub says of a repository's branch, either of which is made if that is wanted."""
    from huggingface_hub import errors

    try:
        return api.model_info(place.repository, revision=place.revision)
    except errors.GatedRepoError:
        raise
    except errors.RepositoryNotFoundError:
        if not create:
            raise
        api.create_repo(place.repository, private=private or None)
    except errors.RevisionNotFoundError:
        if not create:
            raise
    if place.revision is not None:
        api.create_branch(place.repository, branch=place.revision)
    return api.model_info(place.repository, revision=place.revision)
