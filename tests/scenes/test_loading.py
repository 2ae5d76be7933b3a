"""Loading: one recording in every format comes in the same; what is converted or assumed is said."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from recording_helpers import (
    FORMATS,
    POINTS,
    house_views,
    matrix_text,
    pixel_lens,
    poses,
    write_arrays,
    write_colmap_text,
    write_film,
    write_images,
    write_lyra,
    write_realestate10k_folder,
    write_record3d,
    write_transforms_json,
    write_tum,
)

from vmemkit.core import Views, image_bytes, intrinsics, save_image, unproject
from vmemkit.scenes import find_source, load, load_capture, write_realestate10k, write_transforms

WITH_DEPTH = ("transforms", "tum", "scannet", "record3d", "arrays")
FOV = {"tum": {"fov": 75.0}}  # formats that lack a lens
BITS = 0.51 / 255


@pytest.fixture(scope="module")
def recorded() -> Views:
    return house_views()


@pytest.fixture(scope="module")
def places(recorded, tmp_path_factory):
    """The path of the recording in each format."""
    pytest.importorskip("OpenEXR")
    root = tmp_path_factory.mktemp("formats")
    made = {}
    for name, write in FORMATS.items():
        (root / name).mkdir()
        made[name] = write(recorded, root / name)
    return made


@pytest.fixture
def copied(places, tmp_path):
    """A function that gives a copy of a recording's folder that may be changed."""
    return lambda name: shutil.copytree(places[name], tmp_path / "copy")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_recording(recorded, places, name):
    loaded = load(places[name], **FOV.get(name, {}))
    poses = loaded.cameras.world_from_cam
    torch.testing.assert_close(poses, recorded.cameras.world_from_cam, atol=2e-6, rtol=0)
    torch.testing.assert_close(loaded.cameras.K, recorded.cameras.K, atol=1e-6, rtol=0)
    if name == "lyra":
        assert loaded.views is None
        return
    assert torch.allclose(loaded.views.image, recorded.image, atol=BITS)
    assert loaded.recorded_size == (48, 64)
    if name in WITH_DEPTH:
        assert torch.allclose(loaded.views.depth, recorded.depth, atol=0.00051)
    else:
        assert loaded.views.depth is None


@pytest.mark.parametrize("name", FORMATS)
def test_it_says_what_it_took_the_path_for(places, name):
    loaded = load(places[name], **FOV.get(name, {}))
    words = {
        "transforms": "nerfstudio",
        "colmap text": "COLMAP model, text",
        "colmap binary": "COLMAP model, binary",
        "tum": "TUM",
        "scannet": "ScanNet",
        "record3d": "Record3D",
        "arrays": "NumPy",
        "lyra": "w2c",
        "realestate10k": "RealEstate10K",
    }
    assert words[name] in loaded.what
    assert repr(loaded).startswith("Recording(")


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "lyra"])
def test_views_have_the_height_and_the_share_of_frames_that_is_asked_for(recorded, places, name):
    options = FOV.get(name, {})
    loaded = load(places[name], height=24, every=2, **options)
    assert loaded.views.image.shape == (2, 3, 24, 32)
    assert loaded.recorded_size == (48, 64)
    torch.testing.assert_close(loaded.cameras.position, recorded.cameras.position[::2])
    assert torch.equal(loaded.cameras.K, load(places[name], **options).cameras.K[::2])


def test_numbers_of_frames_and_heights_must_make_sense(places):
    for bad in ({"every": 0}, {"height": 0}, {"height": 20_000}):
        with pytest.raises(ValueError, match=r"every >= 1 and a height"):
            load(places["scannet"], **bad)


# ---- recognising ---------------------------------------------------------------------------------


def test_a_folder_that_is_nothing_known_is_refused_with_what_it_holds(recorded, tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(ValueError, match=r"holds notes\.md\. Recognised are transforms: .*colmap"):
        load(tmp_path)
    write_images(recorded, tmp_path, ["0.png", "1.png"])
    with pytest.raises(ValueError, match="its 2 images need poses: give cameras="):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"cannot read .*gone: there is no such"):
        load(tmp_path / "gone")
    (tmp_path / "a.r3d").write_bytes(b"PK")
    with pytest.raises(ValueError, match="unpack it first"):
        load(tmp_path / "a.r3d")


def test_of_several_formats_one_is_taken_and_the_others_are_named(recorded, places, tmp_path):
    folder = shutil.copytree(places["colmap text"], tmp_path / "both")
    write_transforms_json(recorded, folder)
    taken = load(folder)
    assert "nerfstudio" in taken.what
    assert any("format= chooses: colmap" in note for note in taken.notes)
    assert "COLMAP" in load(folder, format="colmap").what
    with pytest.raises(ValueError, match="format must be one of transforms, colmap"):
        load(folder, format="blender")


def test_an_option_that_does_not_apply_is_refused(places):
    with pytest.raises(ValueError, match=r"convention does not .* \(COLMAP model"):
        load(places["colmap text"], convention="opengl")
    with pytest.raises(ValueError, match=r"fov does not .* \(export of ScanNet"):
        load(places["scannet"], fov=60.0)


def test_a_small_file_that_would_fill_the_memory_is_refused(recorded, tmp_path):
    folder = write_realestate10k_folder(recorded[:1], tmp_path)
    file = next((folder / "images").iterdir())
    Image.new("1", (10_000, 6_000)).save(file)
    assert file.stat().st_size < 100_000
    with pytest.raises(ValueError, match="images need 1 to 25000000 pixels"):
        load(folder)


LINKED = {
    "transforms": "transforms.json",
    "colmap text": "sparse/0/points3D.txt",
    "colmap binary": "sparse/0/images.bin",
    "tum": "groundtruth.txt",
    "scannet": "pose/10.txt",
    "record3d": "metadata.json",
    "arrays": "intrinsics.npy",
}


@pytest.mark.parametrize("name", LINKED)
def test_links_that_lead_out_of_the_folder_are_refused(copied, tmp_path, name):
    folder = copied(name)
    file = folder / LINKED[name]
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=f"{file.name} is a link that leads out of"):
        load(folder, **FOV.get(name, {}))


# ---- COLMAP --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["colmap text", "colmap binary"])
def test_points_of_a_colmap_model_come_along(places, name):
    torch.testing.assert_close(load(places[name]).points, torch.tensor(POINTS))


@pytest.mark.parametrize("place", ["", "sparse", "sparse/0", "colmap/sparse/0"])
def test_a_colmap_model_is_found_where_programs_put_it(recorded, tmp_path, place):
    folder = write_colmap_text(recorded, tmp_path / "a")
    model = tmp_path / "scene" / place
    shutil.copytree(folder / "sparse/0", model)
    shutil.copytree(folder / "images", tmp_path / "scene" / "images")
    assert load(tmp_path / "scene").views.image.shape[0] == 3
    assert load(model).views.image.shape[0] == 3


def test_of_several_models_the_first_is_taken_and_that_is_said(recorded, tmp_path):
    folder = write_colmap_text(recorded, tmp_path)
    shutil.copytree(folder / "sparse/0", folder / "sparse/1")
    assert any("of 2 models, 0 was taken" in note for note in load(folder).notes)


def test_a_colmap_model_without_images_is_a_trajectory(copied):
    folder = copied("colmap binary")
    shutil.rmtree(folder / "images")
    loaded = load(folder)
    assert loaded.views is None
    assert any("cameras and no images" in note for note in loaded.notes)


def test_all_missing_images_of_a_colmap_model_are_listed(copied):
    folder = copied("colmap text")
    for name in ("f0.png", "f2.png"):
        (folder / "images" / name).unlink()
    with pytest.raises(ValueError, match=r"2 files are missing: 'f0\.png', 'f2\.png'"):
        load(folder)


def test_the_pose_of_an_image_is_not_taken_for_points(copied):
    folder = copied("colmap text")
    file = folder / "sparse/0/images.txt"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("1.5")]
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"images\.txt, line 3 must be the 2-D points"):
        load(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("FOV", "lens model 'FOV', which is not one of"),
        ("PINHOLE 1", "PINHOLE has 4 parameters"),
        ("SIMPLE_PINHOLE", "SIMPLE_PINHOLE has 3 parameters"),
    ],
)
def test_lenses_that_are_not_known_are_refused_by_name(copied, model, message):
    folder = copied("colmap text")
    file = folder / "sparse/0/cameras.txt"
    words = file.read_text().replace("PINHOLE", model)
    if model == "PINHOLE 1":
        words = file.read_text().rstrip() + " 0.5\n"
    file.write_text(words)
    with pytest.raises(ValueError, match=message):
        load(folder)


# Written by pycolmap 4.2.1: an OPENCV camera of 64 x 48, an image turned by 90 degrees about y, a point.
PYCOLMAP = {
    "cameras.bin": "0100000000000000070000000400000040000000000000003000000000000000000000000000494000000000008"
    "04940000000000080404000000000000037409a9999999999b9bf7b14ae47e17a943ffca9f1d24d62503ffca9f1d24d62"
    "60bf",
    "images.bin": "010000000000000003000000cd3b7f669ea0e63f0000000000000000cd3b7f669ea0e63f00000000000000000000"
    "00000000f03f0000000000000040000000000000084007000000726f6f6d20312f612e706e67000100000000000000000"
    "000000000f83f00000000000004400100000000000000",
    "points3D.bin": "01000000000000000100000000000000000000000000e03f000000000000d03f0000000000000040010203000000"
    "000000f0bf01000000000000000300000000000000",
    "cameras.txt": "7 OPENCV 64 48 50 51 33 23 -0.10000000000000001 0.02 0.001 -0.002\n",
    "images.txt": "# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n"
    "3 0.70710678118654757 0 0.70710678118654757 0 1 2 3 7 room 1/a.png\n1.5 2.5 1 \n",
    "points3D.txt": "1 0.5 0.25 2 1 2 3 -1 3 0\n",
}


@pytest.mark.parametrize("suffix", ["bin", "txt"])
def test_what_pycolmap_writes_is_what_it_says(tmp_path, suffix):
    for name, content in PYCOLMAP.items():
        if name.endswith(suffix):
            is_text = suffix == "txt"
            (tmp_path / name).write_bytes(content.encode() if is_text else bytes.fromhex(content))
    source = find_source(tmp_path)
    expected = [[0.0, 0, -1, 3], [0, 1, 0, -2], [1, 0, 0, -1], [0, 0, 0, 1]]  # pycolmap's inverse
    torch.testing.assert_close(
        source.cameras.world_from_cam[0], torch.tensor(expected), atol=1e-6, rtol=0
    )
    assert source.sizes == ((48, 64),)
    assert source.names == ("room 1/a.png",)
    assert source.distortions[0].coefficients == (-0.1, 0.02, 0.001, -0.002, 0, 0, 0, 0)
    torch.testing.assert_close(source.points, torch.tensor([[0.5, 0.25, 2.0]]))
    K = source.cameras.K[0].double()
    pixels = K[:2].T[[0, 1, 2, 2], [0, 1, 0, 1]] * torch.tensor([64, 48, 64, 48])
    torch.testing.assert_close(pixels.float(), torch.tensor([50.0, 51, 33, 23]))


# ---- transforms.json -----------------------------------------------------------------------------


def test_a_mask_makes_depth_unknown_and_says_so(recorded, copied):
    folder = copied("transforms")
    data = json.loads((folder / "transforms.json").read_text())
    (folder / "masks").mkdir()
    mask = np.full((24, 32), 255, np.uint8)
    mask[:6] = 0
    Image.fromarray(mask).save(folder / "masks/1.png")
    data["frames"][1]["mask_path"] = "masks/1.png"
    (folder / "transforms.json").write_text(json.dumps(data))
    loaded = load(folder)
    assert loaded.views.depth[1, :12].isnan().all()
    assert torch.allclose(loaded.views.depth[1, 12:], recorded.depth[1, 12:], atol=0.00051)
    assert not loaded.views.depth[[0, 2]].isnan().any()
    assert any("mask" in note and "unknown depth" in note for note in loaded.notes)
    assert torch.equal(load_capture(folder).depth.isnan(), loaded.views.depth.isnan())


def test_notes_tell_what_was_done_to_a_transforms_json(recorded, tmp_path):
    turned = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0.5]]
    changes = {"applied_scale": 2.0, "applied_transform": turned}
    loaded = load(write_transforms_json(recorded, tmp_path, **changes))
    torch.testing.assert_close(loaded.cameras.position, recorded.cameras.position / 2)
    assert any("divided by applied_scale = 2" in note for note in loaded.notes)
    assert any("applied_transform" in note for note in loaded.notes)
    assert "OpenGL" in loaded.axes
    assert "metres" in loaded.scale


# ---- TUM, ScanNet, Record3D ----------------------------------------------------------------------


def test_the_usual_lens_of_tum_has_its_pixels_centred_at_whole_numbers(tmp_path):
    view = house_views(1, 480, 640)
    K = load(write_tum(view, tmp_path)).cameras.K[0]
    expected = [[525 / 640, 0, 0.5], [0, 525 / 480, 0.5], [0, 0, 1]]
    torch.testing.assert_close(K, torch.tensor(expected))


def test_poses_of_tum_alone_are_a_trajectory_without_a_lens(recorded, places, tmp_path):
    file = places["tum"] / "groundtruth.txt"
    with pytest.raises(ValueError, match="states no lens: give fov"):
        load(file)
    loaded = load(file, fov=75.0)
    assert loaded.views is None
    poses = recorded.cameras.world_from_cam
    torch.testing.assert_close(loaded.cameras.world_from_cam, poses, atol=2e-6, rtol=0)
    torch.testing.assert_close(loaded.cameras.K[0], intrinsics(75.0))
    film = load(write_film(recorded, tmp_path), cameras=file, fov=75.0)
    torch.testing.assert_close(film.cameras.world_from_cam, poses, atol=2e-6, rtol=0)


def test_images_without_a_pose_near_in_time_are_left_out_and_counted(recorded, copied):
    folder = copied("tum")
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join([*lines[:2], *lines[3:]]))
    depths = (folder / "depth.txt").read_text().splitlines()
    (folder / "depth.txt").write_text("\n".join(depths[:-1]))
    loaded = load(folder, fov=75.0)
    torch.testing.assert_close(loaded.cameras.position, recorded.cameras.position[[0, 2]])
    assert any("1 of 3 images have no pose" in note for note in loaded.notes)
    assert any("1 of 2 images have no depth" in note for note in loaded.notes)
    assert loaded.views.depth[1].isnan().all()


def test_frames_of_scannet_that_lost_tracking_are_left_out_and_counted(recorded, copied):
    folder = copied("scannet")
    (folder / "pose/10.txt").write_text(matrix_text(np.full((4, 4), -np.inf)))
    loaded = load(folder)
    torch.testing.assert_close(loaded.cameras.position, recorded.cameras.position[[0, 2]])
    assert any("1 of 3 frames lost tracking" in note for note in loaded.notes)
    for i in (0, 20):
        (folder / f"pose/{i}.txt").write_text(matrix_text(np.full((4, 4), np.nan)))
    with pytest.raises(ValueError, match="lost in all 3 frames"):
        load(folder)


def test_depth_of_scannet_through_another_lens_is_refused(copied):
    folder = copied("scannet")
    lens = np.diag([50.0, 50, 1, 1])
    lens[:2, 2] = 31.5, 23.5
    (folder / "intrinsic/intrinsic_depth.txt").write_text(matrix_text(lens))
    with pytest.raises(ValueError, match="lenses of colour and depth differ"):
        load(folder)


def test_an_unpacked_r3d_file_is_read(recorded, tmp_path):
    pytest.importorskip("liblzfse")
    loaded = load(write_record3d(recorded, tmp_path, depth="lzfse"))
    assert torch.equal(loaded.views.depth, recorded.depth)
    assert loaded.times == (0.0, 1 / 30, 2 / 30)


def test_the_lens_of_each_frame_of_record3d_comes_before_the_common_one(recorded, copied):
    folder = copied("record3d")
    data = json.loads((folder / "metadata.json").read_text())
    fx, fy, cx, cy = pixel_lens(recorded)
    data["perFrameIntrinsicCoeffs"] = [[fx * (1 + i), fy, cx, cy] for i in range(3)]
    (folder / "metadata.json").write_text(json.dumps(data))
    K = load(folder).cameras.K[:, 0, 0]
    torch.testing.assert_close(K, recorded.cameras.K[:, 0, 0] * torch.tensor([1.0, 2, 3]))


# ---- arrays --------------------------------------------------------------------------------------


def test_poses_are_camera_to_world_unless_told_otherwise(recorded, tmp_path):
    folder = write_arrays(recorded, tmp_path)
    assert any("world_to_camera=True inverts" in note for note in load(folder).notes)
    np.save(folder / "poses.npy", np.linalg.inv(poses(recorded)))
    loaded = load(folder / "poses.npy", world_to_camera=True)
    expected = recorded.cameras.world_from_cam
    torch.testing.assert_close(loaded.cameras.world_from_cam, expected, atol=1e-6, rtol=0)
    assert not any("world_to_camera" in note for note in loaded.notes)


@pytest.mark.parametrize("kind", ["shares", "four", "one for each", "fov"])
def test_intrinsics_are_read_as_people_write_them(recorded, tmp_path, kind):
    folder = write_arrays(recorded, tmp_path)
    K, four = recorded.cameras.K[0].numpy(), np.array(pixel_lens(recorded))
    values = {"shares": K, "four": four, "one for each": np.tile(four, (3, 1)), "fov": K}
    np.save(folder / "intrinsics.npy", values[kind])
    if kind == "fov":
        (folder / "intrinsics.npy").unlink()
        with pytest.raises(ValueError, match=r"states no lens: give fov .* intrinsics beside"):
            load(folder)
    else:
        with pytest.raises(ValueError, match="has intrinsics, so it needs no fov"):
            load(folder, fov=75.0)
    loaded = load(folder, **({"fov": 75.0} if kind == "fov" else {}))
    torch.testing.assert_close(loaded.cameras.K, recorded.cameras.K, atol=1e-5, rtol=0)


def test_arrays_without_a_size_take_it_from_the_principal_point(recorded, tmp_path):
    folder = write_arrays(recorded, tmp_path)
    shutil.rmtree(folder / "images")
    loaded = load(folder)
    torch.testing.assert_close(loaded.cameras.K, recorded.cameras.K, atol=1e-5, rtol=0)
    assert any("64 x 48, twice the principal point" in note for note in loaded.notes)


def test_arrays_that_are_not_used_are_named(recorded, tmp_path):
    file = write_lyra(recorded, tmp_path)
    with np.load(file) as arrays:
        np.savez(file, **arrays, bounds=np.zeros(2), names=np.array(["a"], object))
    assert any("bounds, names were not used" in note for note in load(file).notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w2c": np.zeros((3, 4, 4))}, "number 0: the matrix must be rigid"),
        ({"w2c": np.eye(4)}, r"must be \[t 4 4\] or \[t 3 4\], got \[4, 4\]"),
        ({"w2c": np.full((1, 4, 4), np.nan)}, "got NaN or larger"),
        ({"w2c": np.array([object()])}, "cannot read"),
        ({"w2c": np.eye(4, dtype=complex)[None]}, "cannot read"),
        ({"intrinsics": np.eye(2)}, r"must be \[3 3\]"),
        ({"intrinsics": np.eye(3) * 40}, "without skew"),
        ({"image_height": np.array([1, 2])}, "image_height must be a number"),
        ({"c2w": np.eye(4)[None]}, "one array of poses"),
    ],
)
def test_arrays_that_cannot_be_are_refused(recorded, tmp_path, change, message):
    file = write_lyra(recorded, tmp_path)
    with np.load(file) as arrays:
        np.savez(file, **(dict(arrays) | change))
    with pytest.raises(ValueError, match=message):
        load(file)


# ---- RealEstate10K -------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [True, False])
@pytest.mark.parametrize("names", ["times", "numbers"])
def test_images_belong_to_cameras_by_time_or_one_for_one(recorded, tmp_path, address, names):
    folder = write_realestate10k_folder(recorded, tmp_path, address)
    if names == "times":  # one more image, which no camera has
        write_images(recorded[:1], folder / "images", ["5.png"])
    else:
        shutil.rmtree(folder / "images")
        write_images(recorded, folder, ["a9.png", "a10.png", "a11.png"])
    loaded = load(folder)
    assert torch.allclose(loaded.views.image, recorded.image, atol=BITS)
    assert loaded.times == pytest.approx([0.033333, 0.066666, 0.099999])
    assert load(folder / "cameras.txt").views is None


# ---- pictures with cameras of another file -------------------------------------------------------


@pytest.mark.parametrize("kind", ["realestate10k", "transforms", "lyra", "colmap text"])
def test_a_video_takes_its_poses_from_a_file_of_any_format(recorded, places, tmp_path, kind):
    film = write_film(recorded, tmp_path)
    file = places[kind]
    if kind == "realestate10k":  # frames 0, 1 and 2
        file = tmp_path / "a.txt"
        write_realestate10k(file, recorded.cameras)
    loaded = load(film, cameras=file)
    assert "video" in loaded.what
    assert loaded.views.depth is None
    torch.testing.assert_close(
        loaded.cameras.world_from_cam, recorded.cameras.world_from_cam, atol=2e-6, rtol=0
    )
    assert (loaded.views.image - recorded.image).abs().mean() < 0.03  # the film is compressed
    assert torch.equal(load(film, cameras=file, every=2).views.image, loaded.views.image[::2])


def test_times_of_cameras_choose_the_frames_of_a_video(recorded, tmp_path):
    film = write_film(recorded, tmp_path)
    write_realestate10k(tmp_path / "a.txt", recorded.cameras[[0, 2]], [0, 66_667])
    loaded = load(film, cameras=tmp_path / "a.txt")
    everything = load(film, cameras=write_lyra(recorded, tmp_path)).views.image
    assert torch.equal(loaded.views.image, everything[[0, 2]])
    write_realestate10k(tmp_path / "a.txt", recorded.cameras[:2], [0, 500_000])
    with pytest.raises(ValueError, match="has 3 frames for 16 cameras"):
        load(film, cameras=tmp_path / "a.txt")
    write_realestate10k(tmp_path / "a.txt", recorded.cameras[:2], [0, 1])  # no times of frames
    with pytest.raises(ValueError, match="has 3 frames for 2 cameras"):
        load(film, cameras=tmp_path / "a.txt")


def test_a_video_of_another_shape_than_the_lens_is_refused(recorded, tmp_path):
    film = write_film(recorded, tmp_path)
    write_transforms(tmp_path / "a.json", recorded.cameras, (48, 48))
    with pytest.raises(ValueError, match=r"film\.mp4 is 64 x 48, and the lens .* for 48 x 48"):
        load(film, cameras=tmp_path / "a.json")


def test_a_video_alone_has_no_poses(recorded, tmp_path):
    film = write_film(recorded, tmp_path)
    with pytest.raises(ValueError, match="no poses: give cameras="):
        load(film)
    (tmp_path / "b.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"cannot read .*b\.mp4"):
        load(tmp_path / "b.mp4", cameras=write_lyra(recorded, tmp_path))


def test_a_folder_of_images_takes_its_poses_from_another_file(recorded, places, tmp_path):
    write_images(recorded, tmp_path / "shots", ["0.png", "2.png", "10.png"])
    loaded = load(tmp_path / "shots", cameras=places["lyra"])
    assert torch.allclose(loaded.views.image, recorded.image, atol=BITS)
    write_images(recorded[:1], tmp_path / "shots", ["11.png"])
    with pytest.raises(ValueError, match="4 images for 3 cameras"):
        load(tmp_path / "shots", cameras=places["lyra"])


def test_the_names_in_a_colmap_model_find_images_elsewhere(recorded, copied, tmp_path):
    folder = copied("colmap text")
    shots = shutil.copytree(folder / "images", tmp_path / "shots")
    write_images(recorded[:1], shots, ["another.png"])
    for _ in range(2):  # with images of its own, and without
        loaded = load(shots, cameras=folder)
        assert torch.allclose(loaded.views.image, recorded.image, atol=BITS)
        shutil.rmtree(folder / "images", ignore_errors=True)


# ---- photos --------------------------------------------------------------------------------------


def test_a_photo_has_the_lens_of_its_exif_data_or_a_guess_and_says_which(recorded, tmp_path):
    save_image(tmp_path / "a.png", recorded.image[0])
    loaded = load(tmp_path / "a.png")
    torch.testing.assert_close(loaded.cameras.K[0], intrinsics(65.0, 64 / 48))
    assert any("are a guess" in note for note in loaded.notes)
    tag = Image.Exif()
    tag.get_ifd(0x8769)[0xA405] = 18  # FocalLengthIn35mmFilm: 36 mm across are 90 degrees
    Image.fromarray(image_bytes(recorded.image)[0]).save(tmp_path / "a.jpg", exif=tag)
    loaded = load(tmp_path / "a.jpg")
    torch.testing.assert_close(loaded.cameras.K[0], intrinsics(90.0, 64 / 48))
    assert any("EXIF's focal length: 90.0 degrees" in note for note in loaded.notes)
    torch.testing.assert_close(
        load(tmp_path / "a.jpg", fov=50.0).cameras.K[0], intrinsics(50.0, 64 / 48)
    )


# ---- geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_of_one_view_lands_on_the_surfaces_of_the_next(recorded, places, name):
    views = load(places[name], **FOV.get(name, {})).views
    ours, truth = (unproject(v.cameras, v.depth) for v in (views, recorded))
    assert (ours - truth).norm(dim=-1).max() < 0.002
