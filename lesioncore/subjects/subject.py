"""A subject: a scan in a file, or a simulated one."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import lesioncore.phantom
from lesioncore.data.files import file_digest
from lesioncore.data.grid import SliceGrid
from lesioncore.data.nifti import load_image
from lesioncore.models.prior import PriorMetadata
from lesioncore.phantom import simulate
from lesioncore.preprocess.pipeline import Step, preprocess
from lesioncore.restoration.prepare import prepare
from lesioncore.restoration.scan import Scan
from lesioncore.restoration.volumes import Volume, brain_of, read_mask, read_volume


class Loaded(NamedTuple):
    """A subject's images as :func:`lesioncore.restoration.scan.prepare` takes them.

    Attributes
    ----------
    volume : nibabel image or ndarray
        The scan.
    affine : ndarray or None
        Voxel-to-world matrix (mm) of a scan that is an array.
    mask : volume or None
        Brain mask; None where it is to be derived from the background.
    lesion : bool ndarray or None
        Lesion on the scan's grid, in its storage order.
    to_template : ndarray or None
        Of a scan that was preprocessed already: its registration, of no meaning where it was not registered.
    excluded : bool ndarray or None
        What is neither lesion nor healthy, on the scan's grid, in its storage order.
    """

    volume: Volume
    affine: npt.NDArray[np.float64] | None
    mask: Volume | None
    lesion: npt.NDArray[np.bool_] | None
    to_template: npt.NDArray[np.float64] | None = None
    excluded: npt.NDArray[np.bool_] | None = None

    def preprocess(self, steps: Sequence[Step]) -> Loaded:
        """The scan after the steps; itself where there is nothing to do. Errors as for :func:`prepare`."""
        if not steps or self.to_template is not None:
            return self
        values, affine = read_volume(self.volume, masked=self.mask is not None)
        affine = affine if self.affine is None else self.affine
        if affine is None:  # slices, or an array at the prior's voxel size
            return self
        mask = None if self.mask is None else brain_of(self.mask, values, affine, affine)
        scan = preprocess(values, affine, mask=mask, steps=steps)
        registration = np.eye(4) if scan.to_template is None else scan.to_template
        return Loaded(scan.values, affine, scan.brain, self.lesion, registration, self.excluded)

    def prepare(
        self, metadata: PriorMetadata, *, normalized: bool = False, steps: Sequence[Step] | None = None
    ) -> Scan:
        """Bring the scan to a prior's grid and intensities; arguments and errors as for :func:`prepare`."""
        return prepare(
            self.volume,
            metadata,
            mask=self.mask,
            affine=self.affine,
            normalized=normalized,
            steps=steps,
            to_template=self.to_template,
        )


@dataclass(frozen=True)
class Subject(ABC):
    """One scan and its masks.

    Attributes
    ----------
    id : str
        Name of the scan; no two of a data set share one.
    person : str
        Who it is of. Scans of one person are never divided between training and validation.
    modality : str or None
        Its contrast, such as ``T2w``, where its name tells one.
    """

    id: str
    person: str
    modality: str | None

    @abstractmethod
    def key(self) -> str:
        """SHA-256 of everything that determines the subject's images."""

    @abstractmethod
    def load(self, grid: SliceGrid) -> Loaded:
        """Read or simulate the images; `grid` is the one that they are wanted for."""


@dataclass(frozen=True)
class FileSubject(Subject):
    """A scan in a file, with masks on its grid where there are any."""

    scan: Path
    mask: Path | None = None
    lesion: Path | None = None
    excluded: Path | None = None

    def key(self) -> str:
        digest = hashlib.sha256()
        for path in (self.scan, self.mask, self.lesion, self.excluded):
            digest.update(b"-" if path is None else file_digest(path))
        return digest.hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        image = load_image(self.scan, allow_infinite=self.mask is not None)
        lesion, excluded = (
            None if path is None else read_mask(path, image.shape, image.affine, name=str(path))
            for path in (self.lesion, self.excluded)
        )
        return Loaded(image, None, self.mask, lesion, excluded=excluded)


@dataclass(frozen=True)
class PhantomSubject(Subject):
    """A simulated subject (:func:`lesioncore.phantom.simulate`), with the voxel size of the grid it is wanted for."""

    modality: str
    number: int
    split: str
    lesion: str | None = None
    seed: int = 0

    @classmethod
    def of(cls, modality: str, number: int, split: str, lesion: str | None = None) -> PhantomSubject:
        """Make a subject whose name follows from its contrast, number, split and lesion.

        The same number has the same anatomy in each contrast, with a lesion or without: it is one person.
        """
        person = f"phantom-{split}-{number:04d}"
        kind = "" if lesion is None else f"_{lesion}"
        return cls(f"{person}{kind}", person, modality, number, split, lesion)

    def key(self) -> str:
        facts = {**asdict(self), "code": source_hash(Path(lesioncore.phantom.__file__).parent)}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def load(self, grid: SliceGrid) -> Loaded:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError as error:
            raise ImportError(
                "phantoms need threadpoolctl; install it with: pip install 'lesioncore[phantom]'"
            ) from error
        # Processes share the cores already: BLAS threads of their own would wait for each other most of the time.
        with threadpool_limits(1):
            phantom = simulate(
                self.number,
                split=self.split,
                seed=self.seed,
                contrast=self.modality,
                lesion=self.lesion,
                voxel_size=grid.voxel_size,
            )
        lesion = None if self.lesion is None else phantom.lesion_mask
        # Simulated in the template's space, without a skull: as a scan is after all steps.
        return Loaded(phantom.image, phantom.affine, phantom.brain_mask, lesion, np.eye(4))


@lru_cache
def source_hash(*files: Path) -> str:
    """Hash of Python files; a folder stands for all that lie in it and below.

    What was made by code is made anew when the code changes, also between releases.
    """
    digest = hashlib.sha256()
    for file in files:
        for part in sorted(file.rglob("*.py")) if file.is_dir() else [file]:
            digest.update(part.name.encode() + b"\0" + part.read_bytes())
    return digest.hexdigest()
