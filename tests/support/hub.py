"""A stand-in for the package huggingface_hub: the functions that lesioncore calls, and a cache like its own."""

from __future__ import annotations

import hashlib
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class HfHubHTTPError(OSError):
    """An answer of the hub that is an error."""


class RepositoryNotFoundError(HfHubHTTPError):
    """As in huggingface_hub.errors."""


class GatedRepoError(RepositoryNotFoundError):
    """As in huggingface_hub.errors."""


class RevisionNotFoundError(HfHubHTTPError):
    """As in huggingface_hub.errors."""


class LocalEntryNotFoundError(FileNotFoundError):
    """As in huggingface_hub.errors."""


class Hub:
    """Repositories with the files of each branch, by commit.

    Attributes
    ----------
    requests : list of str
        What was asked of the hub, so that a test sees that nothing was.
    reached : bool
        Whether there is a network.
    gated : bool
        Whether files are kept from who asks.
    """

    def __init__(self, cache: Path) -> None:
        self.cache, self.requests, self.reached, self.gated = cache, [], True, False
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool | None] = {}

    def put(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit that has these files alone; returns its name."""
        commit = hashlib.sha1(repr((repository, len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[commit] = files
        self.branches.setdefault(repository, {})[branch] = commit
        return commit

    def files(self, repository: str, revision: str | None = None) -> dict[str, bytes]:
        """Files of a branch or commit."""
        return self.commits[self._commit(repository, revision)]

    def _asked(self, request: str) -> None:
        self.requests.append(request)
        if not self.reached:
            raise RuntimeError("ConnectError: no network\nand a second line")

    def _commit(self, repository: str, revision: str | None) -> str:
        if repository not in self.branches:
            raise RepositoryNotFoundError(f"404 {repository}\nmany lines")
        commit = self.branches[repository].get(revision or "main", revision)
        if commit not in self.commits:
            raise RevisionNotFoundError(f"404 {revision}")
        return commit

    def model_info(self, repo_id: str, *, revision: str | None = None, files_metadata: bool = False) -> Any:
        self._asked("info")
        commit = self._commit(repo_id, revision)
        sizes = {name: len(content) if files_metadata else None for name, content in self.commits[commit].items()}
        return SimpleNamespace(
            sha=commit, siblings=[SimpleNamespace(rfilename=name, size=size) for name, size in sizes.items()]
        )

    def snapshot_download(
        self, repo_id: str, *, revision: str | None = None, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        place = self.cache / f"models--{repo_id.replace('/', '--')}"
        ref = place / "refs" / (revision or "main")
        if local_files_only:
            snapshot = place / "snapshots" / (ref.read_text() if ref.exists() else str(revision))
            if not snapshot.exists():
                raise LocalEntryNotFoundError("not in the cache")
            return str(snapshot)
        self._asked("download")
        commit = self._commit(repo_id, revision)
        if self.gated:
            raise GatedRepoError("403")
        snapshot = place / "snapshots" / commit
        for name, content in self.commits[commit].items():
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                (snapshot / name).write_bytes(content)
        if revision != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)
        return str(snapshot)

    def create_repo(self, repo_id: str, *, private: bool | None = None) -> None:
        self._asked("create")
        self.private[repo_id] = private
        self.put(repo_id, {".gitattributes": b""})

    def create_branch(self, repo_id: str, *, branch: str) -> None:
        self._asked("branch")
        self.branches[repo_id][branch] = self.branches[repo_id]["main"]

    def create_commit(
        self, repo_id: str, operations: list[Any], *, commit_message: str, revision: str | None, parent_commit: str
    ) -> Any:
        self._asked("commit")
        assert parent_commit == self._commit(repo_id, revision)
        files = dict(self.files(repo_id, revision))
        for operation in operations:
            if hasattr(operation, "path_or_fileobj"):
                content = operation.path_or_fileobj
                files[operation.path_in_repo] = content if isinstance(content, bytes) else Path(content).read_bytes()
            else:
                del files[operation.path_in_repo]
        return SimpleNamespace(oid=self.put(repo_id, files, revision or "main"), message=commit_message)


def install(monkeypatch: Any, cache: Path) -> Hub:
    """Put the stand-in where ``import huggingface_hub`` finds it."""
    shutil.rmtree(cache, ignore_errors=True)
    hub = Hub(cache)
    errors = ModuleType("huggingface_hub.errors")
    for error in (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    ):
        setattr(errors, error.__name__, error)
    module = ModuleType("huggingface_hub")
    vars(module).update(
        errors=errors,
        snapshot_download=hub.snapshot_download,
        HfApi=lambda: hub,
        CommitOperationAdd=lambda path_in_repo, path_or_fileobj: SimpleNamespace(
            path_in_repo=path_in_repo, path_or_fileobj=path_or_fileobj
        ),
        CommitOperationDelete=lambda path_in_repo: SimpleNamespace(path_in_repo=path_in_repo),
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return hub
