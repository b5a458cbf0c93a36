"""Reading, checks, orientation and writing of images."""

import gzip
import itertools
import os
import stat
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from lesioncore.data.files import replace_atomically
from lesioncore.data.nifti import check_image, load_image, save_image
from lesioncore.data.orientation import Orientation

SHAPE = (5, 4, 3)
ALL_48 = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]


def volume(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rotation(x, y, z):
    """Rotation by three angles in radians."""
    result = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def affine_of(axes, signs, voxel=(1.0, 2.0, 3.0), turn=None):
    """Affine whose stored axis `axes[i]` points along anatomical axis i, with `signs[i]` and `voxel[i]` mm."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for anatomical, stored in enumerate(axes):
        affine[anatomical, stored] = signs[anatomical] * voxel[anatomical]
    if turn is not None:
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (10, -20, 30)
    return affine


def write(path, data, affine=None, header=None):
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine, header), path)
    return path


class TestLoad:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mgz", "a.hdr"])
    def test_reads_what_was_written(self, tmp_path, name):
        data = volume()
        kind = {"a.mgz": nib.MGHImage, "a.hdr": nib.Nifti1Pair}.get(name, nib.Nifti1Image)
        nib.save(kind(data, np.diag([2.0, 2, 2, 1])), tmp_path / name)
        image = load_image(tmp_path / name)
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), data)
        np.testing.assert_allclose(image.affine, np.diag([2, 2, 2, 1]))

    @pytest.mark.parametrize(
        ("stored", "seen"), [((5, 4, 3, 1), (5, 4, 3)), ((5, 4, 1, 1, 1), (5, 4, 1)), ((1, 4, 3), (1, 4, 3))]
    )
    def test_drops_axes_of_one_volume_and_no_others(self, tmp_path, stored, seen):
        data = volume(stored)
        affine = affine_of((1, 0, 2), (1, -1, 1))
        image = load_image(write(tmp_path / "a.nii.gz", data, affine))
        assert image.shape == seen
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), data.reshape(seen))
        np.testing.assert_allclose(image.affine, affine)

    def test_one_slice_becomes_a_volume(self):
        image = check_image(nib.Nifti1Image(volume((5, 4)), np.eye(4)))
        assert image.shape == (5, 4, 1)

    def test_scaled_integers_are_squeezed_by_value(self, tmp_path):
        source = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3, 1), np.eye(4))
        source.header.set_slope_inter(0.5, 7)
        nib.save(source, tmp_path / "a.nii")
        expected = np.asarray(nib.load(tmp_path / "a.nii").dataobj)[..., 0]
        image = load_image(tmp_path / "a.nii")
        np.testing.assert_allclose(image.get_fdata(dtype=np.float32), expected)
        nib.save(image, tmp_path / "b.nii")
        np.testing.assert_allclose(load_image(tmp_path / "b.nii").get_fdata(dtype=np.float32), expected)

    def test_missing_and_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no such file"):
            load_image(tmp_path / "a.nii")
        with pytest.raises(IsADirectoryError, match="folder"):
            load_image(tmp_path)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.txt"])
    @pytest.mark.parametrize("content", [b"", b"not an image" * 100])
    def test_not_an_image(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_image(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("kept", [0.3, 0.9])
    def test_cut_short(self, tmp_path, name, kept):
        path = write(tmp_path / name, volume((20, 20, 20)))
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
        with pytest.raises(ValueError, match="damaged or cut short"):
            load_image(path)

    def test_damaged_gzip(self, tmp_path):
        path = write(tmp_path / "a.nii.gz", volume((20, 20, 20)))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
        with pytest.raises(ValueError, match=r"a\.nii\.gz"):
            load_image(path)

    @pytest.mark.parametrize("lengths", [(-5, 4, 3), (5, 0, 3), (30000, 30000, 30000), (-30000, -30000, 3)])
    def test_damaged_shape(self, tmp_path, lengths):
        path = write(tmp_path / "a.nii", volume())
        content = bytearray(path.read_bytes())
        content[42:48] = np.array(lengths, dtype="<i2").tobytes()
        path.write_bytes(bytes(content))
        with pytest.raises((ValueError, MemoryError), match=r"a\.nii: .*(at least one voxel|damaged)"):
            load_image(path)

    def test_gifti_is_not_a_volume(self, tmp_path):
        nib.save(nib.gifti.GiftiImage(), tmp_path / "a.gii")
        with pytest.raises(ValueError, match="expected a volume"):
            load_image(tmp_path / "a.gii")

    def test_several_volumes(self, tmp_path):
        with pytest.raises(ValueError, match="2 volumes"):
            load_image(write(tmp_path / "a.nii", volume((5, 4, 3, 2))))

    def test_complex_and_rgb(self, tmp_path):
        with pytest.raises(ValueError, match="complex"):
            load_image(write(tmp_path / "a.nii", volume().astype(np.complex64)))
        rgb = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(ValueError, match="RGB"):
            load_image(write(tmp_path / "b.nii", rgb))

    def test_empty_axis(self):
        with pytest.raises(ValueError, match="at least one voxel"):
            check_image(nib.Nifti1Image(np.zeros((5, 0, 3), np.float32), np.eye(4)))

    @pytest.mark.parametrize(("value", "dtype"), [(np.inf, np.float32), (-np.inf, np.float32), (1e300, np.float64)])
    def test_counts_voxels_that_are_infinite(self, tmp_path, value, dtype):
        data = volume().astype(dtype)
        data[0, :2, 1] = value
        with pytest.raises(ValueError, match="2 of 60 voxels"):
            load_image(write(tmp_path / "a.nii", data))

    @pytest.mark.parametrize(
        "columns",
        [[[1, 0, 0], [0, 1, 0], [0, 0, 0]], [[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[np.nan, 0, 0], [0, 1, 0], [0, 0, 1]]],
    )
    def test_affine_that_cannot_be_inverted(self, columns):
        image = nib.Nifti1Image(volume(), np.eye(4))
        image.affine[:3, :3] = columns
        with pytest.raises(ValueError, match="affine"):
            check_image(image)

    @pytest.mark.parametrize("voxel", [1e-3, 1e3])
    def test_small_and_large_voxels_are_no_reason_to_refuse(self, voxel):
        affine = np.diag([voxel, voxel, voxel, 1])
        assert check_image(nib.Nifti1Image(volume(), affine)).shape == SHAPE

    def test_other_units(self):
        image = nib.Nifti1Image(volume(), np.eye(4))
        image.header.set_xyzt_units("meter", "sec")
        with pytest.raises(ValueError, match="metres"):
            check_image(image)

    def test_warns_where_the_orientation_is_a_guess(self, tmp_path):
        image = nib.Nifti1Image(volume(), None)
        nib.save(image, tmp_path / "a.nii")
        with pytest.warns(UserWarning, match="neither qform nor sform"):
            load_image(tmp_path / "a.nii")

    def test_warns_of_analyze_files_without_orientation(self, tmp_path):
        nib.save(nib.AnalyzeImage(volume(), None), tmp_path / "a.img")
        with pytest.warns(UserWarning, match=r"a\.img is an Analyze file without orientation"):
            image = load_image(tmp_path / "a.img")
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        affine = affine_of((1, 0, 2), (1, -1, 1))
        nib.save(nib.Spm99AnalyzeImage(volume(), affine), tmp_path / "b.img")  # with a .mat file
        nib.save(nib.Nifti1Pair(volume(), affine), tmp_path / "c.img")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for name in ("b.img", "c.img"):
                np.testing.assert_allclose(load_image(tmp_path / name).affine, affine)

    def test_nan_is_left_to_those_who_know_what_is_background(self):
        data = volume()
        data[0] = np.nan
        assert np.isnan(check_image(nib.Nifti1Image(data, np.eye(4))).get_fdata()).sum() == 12

    def test_files_without_their_content(self, tmp_path):
        (tmp_path / "a.nii").symlink_to(".git/annex/objects/x")
        (tmp_path / "b.nii").write_text("/annex/objects/MD5E-s9--0.nii\n")
        for name in ("a.nii", "b.nii"):
            with pytest.raises(FileNotFoundError, match=rf"{name}: content is not here: datalad get .*{name}"):
                load_image(tmp_path / name)


class TestSave:
    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_round_trip(self, tmp_path, name, kind):
        data, affine = volume(), affine_of((2, 0, 1), (-1, 1, -1))
        save_image(kind(data), affine, tmp_path / name)
        image = load_image(tmp_path / name)
        np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), data)
        np.testing.assert_allclose(image.affine, affine)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert os.listdir(tmp_path) == [name]

    def test_same_bytes_under_any_name_at_any_time(self, tmp_path, monkeypatch):
        save_image(volume(), np.eye(4), tmp_path / "a.nii.gz")
        monkeypatch.setattr("time.time", lambda: 1.0)
        save_image(volume(), np.eye(4), tmp_path / "b.nii.gz")
        assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
        assert gzip.decompress((tmp_path / "a.nii.gz").read_bytes())

    @pytest.mark.parametrize(
        ("given", "on_disk"),
        [(np.bool_, np.uint8), (np.float64, np.float32), (np.int64, np.int32), (np.int16, np.int16), ("f2", "f4")],
    )
    def test_default_types(self, tmp_path, given, on_disk):
        data = (np.arange(60).reshape(SHAPE) % 2).astype(given)
        save_image(data, np.eye(4), tmp_path / "a.nii")
        image = nib.load(tmp_path / "a.nii")
        assert image.get_data_dtype() == on_disk
        np.testing.assert_array_equal(np.asarray(image.dataobj), data.astype(on_disk))

    @pytest.mark.parametrize(
        ("value", "dtype"), [(300, np.uint8), (0.5, np.int16), (-1, np.uint16), (2**40, None), (1e300, None)]
    )
    def test_refuses_a_type_that_cannot_hold_the_values(self, tmp_path, value, dtype):
        with pytest.raises(ValueError, match="dtype"):
            save_image(np.full(SHAPE, value), np.eye(4), tmp_path / "a.nii", dtype=dtype)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize("voxel", [(1.0, 1.0, 1.0), (0.45, 0.45, 5.0)])
    def test_keeps_both_forms_of_the_header_to_the_bit(self, tmp_path, voxel):
        """A registered file: sform in template space, qform in the scanner's."""
        source = nib.Nifti1Image(volume(), np.eye(4))
        source.set_sform(affine_of((0, 1, 2), (1, 1, 1), voxel, rotation(0.1, 0, 0.2)), code="mni")
        source.set_qform(affine_of((0, 1, 2), (-1, 1, 1), voxel, rotation(-0.3, 0.2, 0)), code="scanner")
        source.header.set_xyzt_units("mm", "sec")
        nib.save(source, tmp_path / "in.nii")
        source = load_image(tmp_path / "in.nii")
        save_image(volume(seed=1), source.affine, tmp_path / "out.nii", header=source.header)
        header = nib.load(tmp_path / "out.nii").header
        for name in ("sform_code", "qform_code", "srow_x", "quatern_b", "quatern_d", "qoffset_y", "xyzt_units"):
            np.testing.assert_array_equal(header[name], source.header[name])
        np.testing.assert_array_equal(header["pixdim"][:4], source.header["pixdim"][:4])
        np.testing.assert_array_equal(nib.load(tmp_path / "out.nii").affine, source.affine)

    @pytest.mark.parametrize("codes", [(0, 0), (0, 1), (4, 0), (4, 1)])
    @pytest.mark.parametrize("sheared", [False, True])
    def test_another_affine_than_the_headers_is_the_one_that_is_read_back(self, tmp_path, codes, sheared):
        source = nib.Nifti1Image(volume(), np.eye(4))
        source.header["sform_code"], source.header["qform_code"] = codes
        affine = affine_of((1, 2, 0), (1, -1, -1), turn=rotation(0.4, -0.2, 1.0))
        if sheared:
            affine[0, 1] += 0.4
        save_image(volume(), affine, tmp_path / "a.nii", header=source.header)
        saved = nib.load(tmp_path / "a.nii")
        np.testing.assert_allclose(saved.affine, affine, atol=1e-4)
        if codes[0]:
            assert int(saved.header["sform_code"]) == codes[0]

    def test_a_foreign_header_gives_nothing_wrong(self, tmp_path):
        source = nib.MGHImage(volume(), affine_of((0, 2, 1), (-1, 1, -1)))
        save_image(volume(), source.affine, tmp_path / "a.nii", header=source.header)
        np.testing.assert_allclose(load_image(tmp_path / "a.nii").affine, source.affine, atol=1e-5)

    def test_bad_arguments(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.nii or \.nii\.gz"):
            save_image(volume(), np.eye(4), tmp_path / "a.mgz")
        with pytest.raises(ValueError, match="volume"):
            save_image(volume((5, 4)), np.eye(4), tmp_path / "a.nii")
        with pytest.raises(ValueError, match="60 NaN"):
            save_image(np.full(SHAPE, np.nan), np.eye(4), tmp_path / "a.nii")
        with pytest.raises(ValueError, match="affine"):
            save_image(volume(), np.eye(3), tmp_path / "a.nii")
        with pytest.raises(ValueError, match="affine"):
            save_image(volume(), np.diag([1.0, 1, 0, 1]), tmp_path / "a.nii")
        with pytest.raises(TypeError, match="real"):
            save_image(volume().astype(complex), np.eye(4), tmp_path / "a.nii")
        with pytest.raises(FileNotFoundError, match="create it"):
            save_image(volume(), np.eye(4), tmp_path / "no" / "a.nii")
        (tmp_path / "d.nii").mkdir()
        with pytest.raises(IsADirectoryError, match="folder"):
            save_image(volume(), np.eye(4), tmp_path / "d.nii")


class TestReplaceAtomically:
    def test_a_failure_leaves_the_old_file_and_no_other(self, tmp_path):
        path = tmp_path / "a.nii.gz"
        path.write_text("old")

        def fail():
            with replace_atomically(path) as temporary:
                assert temporary.name.endswith(".nii.gz")
                temporary.write_text("half")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.nii.gz"]

    def test_permissions_are_those_of_any_new_file(self, tmp_path):
        (tmp_path / "plain.nii").write_text("")
        save_image(volume(), np.eye(4), tmp_path / "saved.nii")
        modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("plain.nii", "saved.nii")}
        assert len(modes) == 1


class TestOrientation:
    @pytest.mark.parametrize(("axes", "signs"), ALL_48)
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_all_48_storage_orders(self, axes, signs, kind):
        affine = affine_of(axes, signs)
        data = volume()
        orientation = Orientation.from_affine(affine, SHAPE)
        ras = orientation.to_ras(kind(data))
        assert type(ras) is type(kind(data))
        assert tuple(ras.shape) == orientation.ras_shape
        assert orientation.voxel_size == (1, 2, 3)
        np.testing.assert_array_equal(orientation.ras_affine[:3, :3], np.diag([1, 2, 3]))
        # Every voxel keeps its place in the world.
        for index in itertools.product(*(range(length) for length in ras.shape)):
            world = orientation.ras_affine @ [*index, 1]
            stored = np.rint(np.linalg.solve(affine, world)).astype(int)[:3]
            assert ras[index] == data[tuple(stored)]
        np.testing.assert_array_equal(orientation.from_ras(ras), data)

    @given(
        order=st.sampled_from(ALL_48),
        angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
        shear=st.tuples(*[st.floats(-0.7, 0.7)] * 3),
        shape=st.tuples(*[st.integers(1, 4)] * 3),
    )
    @settings(max_examples=200, deadline=None)
    def test_oblique_and_sheared(self, order, angles, shear, shape):
        affine = affine_of(*order, turn=rotation(*angles))
        affine[:3, :3] = affine[:3, :3] @ np.array([[1, shear[0], shear[1]], [0, 1, shear[2]], [0, 0, 1]])
        orientation = Orientation.from_affine(affine, shape)
        assert sorted(orientation.axes) == [0, 1, 2]
        data = volume(shape)
        ras = orientation.to_ras(data)
        np.testing.assert_array_equal(orientation.from_ras(ras), data)
        # The reordered affine places the volume's corners where the stored one does.
        index = np.arange(data.size).reshape(shape)
        for corner in itertools.product(*((0, length - 1) for length in ras.shape)):
            stored = np.unravel_index(orientation.to_ras(index)[corner], shape)
            np.testing.assert_allclose(orientation.ras_affine @ [*corner, 1], affine @ [*stored, 1], atol=1e-9)
        lengths = np.linalg.norm(orientation.ras_affine[:3, :3], axis=0)
        np.testing.assert_allclose(orientation.voxel_size, lengths)

    @given(order=st.sampled_from(ALL_48), angles=st.tuples(*[st.floats(-0.45, 0.45)] * 3))
    @settings(max_examples=100, deadline=None)
    def test_a_tilted_head_keeps_its_axes(self, order, angles):
        straight = Orientation.from_affine(affine_of(*order), SHAPE)
        tilted = Orientation.from_affine(affine_of(*order, turn=rotation(*angles)), SHAPE)
        assert (tilted.axes, tilted.flips) == (straight.axes, straight.flips)

    @pytest.mark.parametrize("angle", [np.pi / 4, -np.pi / 4, 3 * np.pi / 4])
    def test_ties_give_some_whole_order(self, angle):
        affine = affine_of((0, 1, 2), (1, 1, 1), voxel=(1, 1, 1), turn=rotation(angle, angle, angle))
        orientation = Orientation.from_affine(affine, SHAPE)
        np.testing.assert_array_equal(orientation.from_ras(orientation.to_ras(volume())), volume())

    def test_the_result_is_a_copy_that_torch_takes(self):
        data = volume()
        ras = Orientation.from_affine(np.eye(4), SHAPE).to_ras(data)
        assert not np.shares_memory(ras, data)
        flipped = Orientation.from_affine(np.diag([-1.0, -1, 1, 1]), SHAPE).to_ras(data)
        assert torch.from_numpy(flipped).shape == SHAPE

    def test_bad_arguments(self):
        orientation = Orientation.from_affine(affine_of((1, 2, 0), (1, 1, 1)), SHAPE)
        with pytest.raises(ValueError, match=r"stored shape \(5, 4, 3\)"):
            orientation.to_ras(volume((4, 5, 3)))
        with pytest.raises(ValueError, match="reordered shape"):
            orientation.from_ras(volume())
        with pytest.raises(ValueError, match="inverted"):
            Orientation.from_affine(np.diag([1.0, 1, 0, 1]), SHAPE)
        with pytest.raises(ValueError, match="shape"):
            Orientation.from_affine(np.eye(4), (5, 4))
