"""The atlas of regions is made: votes on both sides, holes filled, agreement with people who did not vote."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lesioncore import report
from lesioncore.data.files import file_digest
from lesioncore.preprocess.template import brain_template
from lesioncore.report.regions import region_atlas
from lesioncore.training.muse_regions import MUSE, UNPAIRED, kinds, sides
from lesioncore.training.region_atlas import AtlasBuild, Person, agreement, build, vote, write_atlas

pytest.importorskip("scipy.ndimage")
REGIONS = kinds()["regions"]


def muse_map() -> np.ndarray:
    """A brain on the template's grid whose regions are the packaged atlas's, as MUSE numbers of each side."""
    atlas = region_atlas()
    numbers = np.zeros((2, 256), np.uint8)  # by the atlas's: on the left and elsewhere
    for muse in range(256):
        if REGIONS[muse]:
            numbers[1 if sides()[muse] >= 0 else 0, REGIONS[muse]] = muse
    unpaired = sides()[numbers[1]] == 0
    numbers[0, unpaired] = numbers[1, unpaired]
    middle = atlas.numbers.shape[0] // 2
    labels = numbers[1][atlas.numbers]
    labels[:middle] = numbers[0][atlas.numbers[:middle]]
    return np.where(brain_template().brain, labels, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def person() -> Person:
    return Person(muse_map(), np.eye(4))


def test_a_muse_number_is_in_one_region():
    members = list(chain(*MUSE.values()))
    assert len(members) == len(set(members))
    assert set(UNPAIRED) < set(MUSE)


def test_both_sides_are_one_region_and_one_gyrus():
    for kind in kinds().values():
        assert kind[31] == kind[32] > 0  # amygdala
        assert kind[100] == kind[101] > 0  # cingulate
        assert kind[75] == kind[76] > 0  # basal forebrain, whose smaller number is on the left
        assert kind[1] == kind[0] == 0  # fluid
    assert (sides()[[31, 32, 75, 76, 89, 95]] == [1, -1, -1, 1, 0, 0]).all()
    assert kinds()["lobes"][81] == kinds()["lobes"][190]  # frontal white matter and cortex
    assert kinds()["regions"][81] != kinds()["regions"][190]


def test_the_packaged_names_are_those_of_the_code():
    expected = [(name, name not in UNPAIRED) for name in MUSE]
    assert [(region.name, region.paired) for region in region_atlas().regions] == expected


def test_people_of_one_anatomy_give_it_back(person):
    made = vote([person, person], REGIONS)
    assert np.array_equal(made[brain_template().brain], region_atlas().numbers[brain_template().brain])
    assert agreement(made, [person], REGIONS) == {"voxels": 1.0, "worst_person": 1.0, "kinds": 1.0, "bodies": 1.0}


def test_a_place_is_where_the_registration_says(person):
    # The same brain stored from right to left, and a voxel farther up.
    shape = person.numbers.shape
    other = Person(np.roll(person.numbers, 1, axis=2)[::-1], np.diag([-1.0, 1, 1, 1]))
    other.to_template[:3, 3] = [shape[0] - 1, 0, -1]
    assert np.array_equal(vote([other], REGIONS), vote([person], REGIONS))
    assert agreement(vote([person], REGIONS), [other], REGIONS)["voxels"] == 1.0


def test_another_side_is_wrong(person):
    swapped = Person(person.numbers[::-1], person.to_template)
    share = agreement(vote([person], REGIONS), [swapped], REGIONS)["voxels"]
    own = person.numbers[person.numbers > 0]
    unpaired = np.mean(sides()[own] == 0)
    assert unpaired < share < unpaired + 0.05  # and what lies on the midline
    assert share < 0.2


def test_the_most_frequent_region_wins_on_either_side(person):
    numbers = person.numbers.copy()
    box = np.s_[10:14, 50:54, 40:44]
    numbers[box] = 32
    other = Person(numbers, person.to_template)
    assert not (vote([person, other, other], REGIONS)[box] == REGIONS[32]).any()  # 2 of 6: the other side votes, too
    mirrored = numbers.copy()
    mirrored[-14:-10, 50:54, 40:44] = 31
    both = Person(mirrored, person.to_template)
    made = vote([person, both, both], REGIONS)
    assert (made[box] == REGIONS[32]).all()
    assert np.array_equal(made, made[::-1])


def test_where_few_people_have_a_region_the_nearest_is_taken(person):
    hole = np.s_[20:61, 50:70, 40:60]
    numbers = person.numbers.copy()
    numbers[hole] = 1  # fluid
    people = [person, *[Person(numbers, person.to_template)] * 4]
    made = vote(people, REGIONS)
    assert made[brain_template().brain].all()
    assert not np.array_equal(made[hole], region_atlas().numbers[hole])
    assert np.array_equal(made, made[::-1])


def test_the_same_atlas_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        write_atlas(region_atlas().numbers, tmp_path / name)
    for file in ("dseg.nii.gz", "dseg.tsv"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
        packaged = Path(report.__file__).parent / "atlas" / file
        assert (tmp_path / "first" / file).read_bytes() == packaged.read_bytes()


def test_the_command_makes_the_files_and_keeps_registrations(tmp_path, person):
    affine = brain_template().affine
    for number in range(2):
        scan = tmp_path / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz"
        labels = tmp_path / "derivatives" / "muse" / f"sub-{number}" / "anat"
        scan.parent.mkdir(parents=True)
        labels.mkdir(parents=True)
        nib.Nifti1Image(np.full((2, 2, 2), number, np.uint8), affine).to_filename(scan)
        regions = nib.Nifti1Image(person.numbers, affine)
        regions.to_filename(labels / f"sub-{number}_desc-muse_dseg.nii.gz")
        (tmp_path / "kept").mkdir(exist_ok=True)
        np.savetxt(tmp_path / "kept" / f"{file_digest(scan).hex()[:16]}.txt", np.eye(4))
    figures = build(AtlasBuild(tmp_path, tmp_path / "out", tmp_path / "kept"))
    assert list(figures) == ["gyri", "regions", "lobes"]
    assert figures["regions"]["voxels"] == 1.0
    made = nib.load(tmp_path / "out" / "dseg.nii.gz")
    assert np.array_equal(made.affine, affine)
    assert (np.asarray(made.dataobj)[brain_template().brain] > 0).all()
    assert (tmp_path / "out" / "dseg.tsv").read_text().startswith("index\tname\tsides\n1\tfrontal lobe, cortex\t2\n")


def test_one_person_makes_no_atlas(tmp_path):
    with pytest.raises(ValueError, match="folder: got 0 T1w heads"):
        build(AtlasBuild(tmp_path, tmp_path / "out"))
