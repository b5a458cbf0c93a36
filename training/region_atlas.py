"""Make the atlas of regions: ``python -m lesioncore.training.region_atlas IXI_FOLDER OUT --every 2``.

Healthy people's MUSE regions, brought to the template's space as any scan is, vote at each voxel; left and right vote
together, since the template is symmetric, so that a place's side is that of its x. Fluid around the brain has no vote:
a place in a sulcus belongs to the lobe beside it.

The grain was chosen by people who did not vote: 40 of IXI's made an atlas, 39 others judged; the side must be right.

- MUSE's 77 parcels: .73 of a person's voxels are named right, .64 of the cortical ones, and .82 of balls of .5 ml; ten
  parcels are named right in less than half of their voxels.
- The 28 regions: .77 of the voxels (worst person .74), .85 of the balls; none is named right in less than half, from
  .52 (lateral ventricles, which differ most) to .96 (cerebellum).
- Lobes, whatever the tissue: .91 of the voxels (worst person .88), .93 of the balls.

So gyri are not named and lobes are. Cortex or white matter is right most of the time, the lobe more often than that.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
import tyro

from lesioncore.data.files import file_digest, replace_atomically
from lesioncore.data.nifti import load_image
from lesioncore.preprocess.pipeline import preprocess
from lesioncore.preprocess.template import VOXEL_SIZE, brain_template
from lesioncore.training.muse_regions import MUSE, UNPAIRED, kinds, sides

Numbers = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]

_FEWEST = 0.25  # share of the people who must have a region at a voxel; where fewer do, the nearest region is taken
# Share of a head that lies on the wrong side, from which its labels have left and right mixed up: healthy midlines err
# by .0015 at most, the labels of IXI175 and IXI438 by .03 and .04.
_SWAPPED = 0.01
_AROUND = 6.0  # mm beyond the template's brain: people's brains end there
_BODY, _BODIES = 5.0, 300  # radius, mm, and number in each person of the balls that stand for lesions


@dataclass(frozen=True)
class AtlasBuild:
    """Make the atlas of regions.

    Parameters
    ----------
    folder : Path
        BIDS folder of IXI's T1w heads with ``derivatives/muse``: closed brain masks and MUSE region numbers.
    output : Path
        Folder that receives ``dseg.nii.gz`` and ``dseg.tsv``.
    registrations : Path, optional
        Folder that keeps each person's registration, which takes some 10 s.
    every : int
        Every second person with 2, and so on.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    output: Annotated[Path, tyro.conf.Positional]
    registrations: Path | None = None
    every: int = 1


class Person(NamedTuple):
    """One person's regions.

    Attributes
    ----------
    numbers : ndarray
        ``[X, Y, Z]`` uint8, MUSE numbers.
    to_template : ndarray
        ``[4, 4]``, from voxel indices to indices of the template's grid.
    """

    numbers: Numbers
    to_template: Matrix


def build(options: AtlasBuild) -> dict[str, dict[str, float]]:
    """Make the atlas of all people, and measure that of every other person on those between.

    People whose labels take left for right do not judge; they may vote, since a vote has no side.

    Returns
    -------
    dict
        For ``gyri`` (MUSE's own parcels), ``regions`` (those of the atlas) and ``lobes`` (whatever the tissue): the
        figures of :func:`agreement`.

    Raises
    ------
    ValueError
        If there are fewer than two people, or one cannot be registered.
    """
    people = list(_read(options))
    held_out = [person for person in people[1::2] if np.mean(_off_side(person)) < _SWAPPED]
    figures = {name: agreement(vote(people[::2], kind), held_out, kind) for name, kind in kinds().items()}
    write_atlas(vote(people, kinds()["regions"]), options.output)
    return figures


def vote(people: Sequence[Person], kind: Numbers) -> Numbers:
    """Give each voxel of the template the kind that most people have there, on either side.

    Parameters
    ----------
    people : sequence of Person
        Who votes.
    kind : ndarray
        ``[256]`` uint8, what a MUSE number stands for; 0, which some do, has no vote.

    Returns
    -------
    ndarray
        uint8 on the template's grid, symmetric; 0 more than 6 mm beyond its brain.
    """
    from scipy import ndimage

    brain = brain_template().brain
    places = np.stack(np.meshgrid(*map(np.arange, brain.shape), indexing="ij"), -1)
    numbers, index = np.unique(kind, return_inverse=True)
    votes = np.zeros((places[..., 0].size, len(numbers)), np.uint16)
    for person in people:
        there = _at(person.numbers, np.linalg.inv(person.to_template), places)
        votes[np.arange(len(votes)), index[there.ravel()]] += 1
    votes = votes.reshape(*brain.shape, -1)
    votes = votes + votes[::-1]
    votes[..., 0] = 0
    winner = numbers[votes.argmax(axis=-1)]
    unsure = votes.sum(axis=-1) < _FEWEST * 2 * len(people)
    nearest = ndimage.distance_transform_edt(unsure, return_distances=False, return_indices=True)
    winner = winner[tuple(nearest)]
    middle = brain.shape[0] // 2
    winner[:middle] = winner[: -middle - 1 : -1]  # of regions equally near, either side would take the first
    winner[VOXEL_SIZE * ndimage.distance_transform_edt(~brain) > _AROUND] = 0
    return winner


def agreement(atlas: Numbers, people: Sequence[Person], kind: Numbers) -> dict[str, float]:
    """Compare an atlas with the regions of people who did not vote, each on the own grid; the side must be right, too.

    Parameters
    ----------
    atlas : ndarray
        As :func:`vote` gives.
    people : sequence of Person
        Who is looked at.
    kind : ndarray
        As for :func:`vote`.

    Returns
    -------
    dict
        ``voxels``, the mean share of a person's voxels with a kind whose kind the atlas names; ``worst_person``, the
        smallest; ``kinds``, the share of all kinds of which it names more than half of the voxels; ``bodies``, the same
        as `voxels` for balls of 5 mm (.5 ml) and what most of their voxels are.
    """
    random = np.random.default_rng(0)
    reach = round(_BODY / VOXEL_SIZE)
    ball = np.argwhere(np.ones([2 * reach + 1] * 3)) - reach
    ball = ball[(ball**2).sum(axis=1) * VOXEL_SIZE**2 <= _BODY**2]
    voxels, bodies, totals = [], [], np.zeros((2, 256))
    for person in people:
        own = kind[person.numbers]
        places = np.argwhere(own)
        mapped = places @ person.to_template[:3, :3].T + person.to_template[:3, 3]
        expected, found = own.astype(np.int64), np.zeros(own.shape, np.int64)
        # Sides are told apart by the sign.
        off_side = _off_side(person)[tuple(places.T)]
        found[tuple(places.T)] = np.where(off_side, -1, 1) * _at(atlas, np.eye(4), mapped)
        right = (found == expected)[tuple(places.T)]
        voxels.append(float(right.mean()))
        totals += [np.bincount(part, minlength=256) for part in (own[own > 0], own[own > 0][right])]
        around = places[random.integers(len(places), size=_BODIES)][:, None] + ball
        around = np.clip(around, 0, np.array(own.shape) - 1)
        most = [_most(volume[tuple(np.moveaxis(around, -1, 0))]) for volume in (expected, found)]
        bodies.append(float(np.mean(most[0] == most[1])))
    known = totals[0] > 0
    return {
        "voxels": float(np.mean(voxels)),
        "worst_person": min(voxels),
        "kinds": float(np.mean(2 * totals[1, known] > totals[0, known])),
        "bodies": float(np.mean(bodies)),
    }


def write_atlas(atlas: Numbers, folder: Path) -> None:
    """Write ``dseg.nii.gz`` and ``dseg.tsv`` with the regions' names; the same atlas gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    image = nib.nifti1.Nifti1Image(atlas, brain_template().affine)
    with replace_atomically(folder / "dseg.nii.gz") as temporary:
        temporary.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))
    rows = [f"{number}\t{name}\t{1 if name in UNPAIRED else 2}" for number, name in enumerate(MUSE, 1)]
    with replace_atomically(folder / "dseg.tsv") as temporary:
        temporary.write_text("\n".join(["index\tname\tsides", *rows, ""]), encoding="utf-8", newline="\n")


def _at(numbers: Numbers, matrix: npt.NDArray[Any], places: npt.NDArray[Any]) -> Numbers:
    """Nearest voxels of a volume at ``[..., 3]`` indices of another grid; 0 outside."""
    indices = np.rint(places @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.int64)
    inside = np.all((indices >= 0) & (indices < numbers.shape), axis=-1)
    found = np.zeros(inside.shape, np.uint8)
    found[inside] = numbers[tuple(indices[inside].T)]
    return found


def _off_side(person: Person) -> npt.NDArray[np.bool_]:
    """``[X, Y, Z]``: voxels of paired regions that lie on the template's other side."""
    side = sides()[person.numbers]
    places = np.argwhere(side)
    x = places @ person.to_template[0, :3] + person.to_template[0, 3] - brain_template().brain.shape[0] // 2
    off = np.zeros(side.shape, bool)
    off[tuple(places.T)] = side[side != 0] * x < 0
    return off


def _most(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The most frequent number but 0 of each row."""
    numbers = np.unique(rows[rows != 0])
    return numbers[np.argmax([np.count_nonzero(rows == number, axis=1) for number in numbers], axis=0)]


def _read(options: AtlasBuild) -> list[Person]:
    people = []
    scans = sorted(options.folder.glob("sub-*/anat/*_T1w.nii.gz"))[:: options.every]
    if len(scans) < 2:
        raise ValueError(
            f"folder: got {len(scans)} T1w heads of {options.folder}, expected at least 2; name IXI's folder"
        )
    for number, scan in enumerate(scans, 1):
        name = scan.name.split("_")[0]
        labels = options.folder / "derivatives" / "muse" / name / "anat"
        regions = load_image(labels / f"{name}_desc-muse_dseg.nii.gz")
        to_template = np.linalg.inv(brain_template().affine) @ _registration(scan, labels, options) @ regions.affine
        people.append(Person(np.asarray(regions.dataobj).astype(np.uint8), to_template))
        print(f"{number} of {len(scans)}: {name}", file=sys.stderr, flush=True)
    return people


def _registration(scan: Path, labels: Path, options: AtlasBuild) -> Matrix:
    kept = None if options.registrations is None else options.registrations / f"{file_digest(scan).hex()[:16]}.txt"
    if kept is not None and kept.exists():
        return np.loadtxt(kept)
    image = load_image(scan)
    mask = np.asarray(load_image(labels / f"{labels.parent.name}_desc-brain_mask.nii.gz").dataobj) > 0
    values = image.get_fdata(dtype=np.float32)
    matrix = preprocess(values, image.affine, mask=mask, steps=("extract", "register")).to_template
    assert matrix is not None
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(kept) as temporary:
            np.savetxt(temporary, matrix)
    return matrix


def main() -> None:
    """Command line."""
    print(json.dumps(build(tyro.cli(AtlasBuild, description=__doc__)), indent=2))


if __name__ == "__main__":
    main()
