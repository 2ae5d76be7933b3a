"""One recording written in every format that `scenes.load` reads, by hand, not by the package."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vmemkit.core import Views, cameras, intrinsics, look_at, save_depth, save_image, save_video
from vmemkit.scenes import rooms

OPENGL = np.diag([1.0, -1, -1, 1])
POINTS = [[0.5, 0.25, 2.0], [-1.0, 0.5, 3.0], [1.5, -0.5, 4.0]]


def house_views(count: int = 3, height: int = 48, width: int = 64, fov: float = 75.0) -> Views:
    """Views of a room along a short path, with depth."""
    house = rooms(seed=1)
    steps = torch.linspace(0, 1, count)[:, None]
    position = house.centres[0] + steps * torch.tensor([0.3, 0.0, 0.1])
    ahead = torch.tensor([0.4, 0.15, 1.0]) + steps * torch.tensor([0.2, 0.1, 0.0])
    lens = intrinsics(fov, width / height)
    return house.render(cameras(look_at(position, position + ahead), lens), height, width)


def pixel_lens(views: Views) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of the first view, in pixels from the image's corner."""
    h, w = views.image.shape[2:]
    K = views.cameras.K[0].double()
    return tuple(float(x) for x in (K[0, 0] * w, K[1, 1] * h, K[0, 2] * w, K[1, 2] * h))


def poses(views: Views) -> np.ndarray:
    return views.cameras.world_from_cam.double().numpy()


def quaternion(R: np.ndarray) -> list[float]:
    """(x, y, z, w) of a rotation, by SciPy."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(R).as_quat().tolist()


def write_images(views: Views, folder: Path, names: list[str], depth: Path | None = None) -> None:
    """PNG images, and depth in millimetres with the same stems in another folder."""
    for place in filter(None, (folder, depth)):
        place.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        save_image(folder / name, views.image[i])
        if depth is not None:
            save_depth(depth / f"{Path(name).stem}.png", views.depth[i])


def write_transforms_json(views: Views, folder: Path, **changes) -> Path:
    h, w = views.image.shape[2:]
    fx, fy, cx, cy = pixel_lens(views)
    names = [f"{i}.png" for i in range(len(views))]
    write_images(views, folder / "images", names, folder / "depth")
    frames = [
        {
            "file_path": f"images/{name}",
            "depth_file_path": f"depth/{name}",
            "transform_matrix": (pose @ OPENGL).tolist(),
        }
        for name, pose in zip(names, poses(views), strict=True)
    ]
    data = {"w": w, "h": h, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data | changes))
    return folder


def colmap_images(views: Views) -> list[tuple[int, list[float], str]]:
    """Number, quaternion (w, x, y, z) and translation of each world-to-camera pose, and name."""
    images = []
    for i, pose in enumerate(np.linalg.inv(poses(views))):
        x, y, z, w = quaternion(pose[:3, :3])
        images.append((i + 1, [w, x, y, z, *pose[:3, 3].tolist()], f"f{i}.png"))
    return images


def write_colmap_text(
    views: Views, folder: Path, model: str = "PINHOLE", extra: tuple[float, ...] = ()
) -> Path:
    h, w = views.image.shape[2:]
    lens = " ".join(map(repr, (*pixel_lens(views), *extra)))
    place = folder / "sparse/0"
    place.mkdir(parents=True)
    (place / "cameras.txt").write_text(f"# cameras\n7 {model} {w} {h} {lens}\n")
    lines = ["# images"]
    for number, pose, name in reversed(colmap_images(views)):
        lines += [f"{number} {' '.join(map(repr, pose))} 7 {name}", "1.5 2.5 -1 3.5 4.5 63"]
    (place / "images.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{i} {x} {y} {z} 1 2 3 0.5 1 0" for i, (x, y, z) in enumerate(POINTS)]
    (place / "points3D.txt").write_text("# points\n" + "\n".join(rows) + "\n")
    write_images(views, folder / "images", [name for *_, name in colmap_images(views)])
    return folder


def write_colmap_binary(
    views: Views, folder: Path, model: int = 1, extra: tuple[float, ...] = ()
) -> Path:
    h, w = views.image.shape[2:]
    lens = (*pixel_lens(views), *extra)
    place = folder / "sparse/0"
    place.mkdir(parents=True)
    camera = struct.pack(f"<QiiQQ{len(lens)}d", 1, 7, model, w, h, *lens)
    (place / "cameras.bin").write_bytes(camera)
    content = struct.pack("<Q", len(views))
    for number, pose, name in reversed(colmap_images(views)):
        content += struct.pack("<i7di", number, *pose, 7) + name.encode() + b"\0"
        content += struct.pack("<Qddqddq", 2, 1.5, 2.5, -1, 3.5, 4.5, 63)
    (place / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(POINTS))
    for i, point in enumerate(POINTS):
        content += struct.pack("<Q3d3BdQii", i, *point, 1, 2, 3, 0.5, 1, 1, 0)
    (place / "points3D.bin").write_bytes(content)
    write_images(views, folder / "images", [name for *_, name in colmap_images(views)])
    return folder


def write_tum(views: Views, folder: Path) -> Path:
    """Three lists with clocks of their own; depth in 1/5000 m."""
    times = [100 + i / 30 for i in range(len(views))]
    write_images(views, folder / "rgb", [f"{time:.6f}.png" for time in times])
    (folder / "depth").mkdir()
    rgb, depth, truth = ["# color"], ["# depth"], ["# timestamp tx ty tz qx qy qz qw"]
    for i, (time, pose) in enumerate(zip(times, poses(views), strict=True)):
        save_depth(folder / f"depth/{time + 0.012:.6f}.png", views.depth[i], 1 / 5000)
        rgb.append(f"{time:.6f} rgb/{time:.6f}.png")
        depth.append(f"{time + 0.012:.6f} depth/{time + 0.012:.6f}.png")
        numbers = [*pose[:3, 3].tolist(), *quaternion(pose[:3, :3])]
        truth.append(f"{time - 0.008:.4f} " + " ".join(map(repr, numbers)))
    for name, lines in (("rgb", rgb), ("depth", depth), ("groundtruth", truth)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def matrix_text(matrix: np.ndarray) -> str:
    return "\n".join(" ".join(map(repr, row)) for row in np.asarray(matrix).tolist()) + "\n"


def write_scannet(views: Views, folder: Path) -> Path:
    names = [f"{10 * i}.png" for i in range(len(views))]
    write_images(views, folder / "color", names, folder / "depth")
    for name in ("pose", "intrinsic"):
        (folder / name).mkdir()
    fx, fy, cx, cy = pixel_lens(views)
    lens = np.diag([fx, fy, 1.0, 1.0])
    lens[:2, 2] = cx - 0.5, cy - 0.5
    for kind in ("color", "depth"):
        (folder / f"intrinsic/intrinsic_{kind}.txt").write_text(matrix_text(lens))
    for name, pose in zip(names, poses(views), strict=True):
        (folder / f"pose/{Path(name).stem}.txt").write_text(matrix_text(pose))
    return folder


def write_record3d(views: Views, folder: Path, depth: str = "exr") -> Path:
    """An EXR + JPG export, or with `depth="lzfse"` an unpacked .r3d file."""
    h, w = views.image.shape[2:]
    fx, fy, cx, cy = pixel_lens(views)
    photos = folder / ("rgb" if depth == "exr" else "rgbd")
    write_images(views, photos, [f"{i}.png" for i in range(len(views))])
    (folder / "depth").mkdir()
    for i, metres in enumerate(views.depth.numpy()):
        if depth == "exr":
            import OpenEXR

            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            OpenEXR.File(header, {"R": metres}).write(str(folder / f"depth/{i}.exr"))
        else:
            import liblzfse

            (photos / f"{i}.depth").write_bytes(liblzfse.compress(metres.tobytes()))
    data = {
        "w": w,
        "h": h,
        "dw": w,
        "dh": h,
        "K": [fx, 0, 0, 0, fy, 0, cx, cy, 1],
        "frameTimestamps": [i / 30 for i in range(len(views))],
        "poses": [
            [*quaternion((pose @ OPENGL)[:3, :3]), *pose[:3, 3].tolist()] for pose in poses(views)
        ],
    }
    name = "metadata.json" if depth == "exr" else "metadata"
    (folder / name).write_text(json.dumps(data))
    return folder


def write_arrays(views: Views, folder: Path) -> Path:
    names = [f"{i}.png" for i in range(len(views))]
    write_images(views, folder / "images", names, folder / "depth")
    fx, fy, cx, cy = pixel_lens(views)
    np.save(folder / "poses.npy", poses(views)[:, :3])
    np.save(folder / "intrinsics.npy", np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]))
    return folder


def write_lyra(views: Views, folder: Path) -> Path:
    """The .npz of a trajectory as Lyra 2 takes it; the path is the file."""
    h, w = views.image.shape[2:]
    fx, fy, cx, cy = pixel_lens(views)
    lens = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]], np.float32)
    folder.mkdir(exist_ok=True)
    np.savez(
        folder / "path.npz",
        w2c=np.linalg.inv(poses(views)).astype(np.float32),
        intrinsics=np.tile(lens, (len(views), 1, 1)),
        image_height=h,
        image_width=w,
    )
    return folder / "path.npz"


def write_realestate10k_folder(views: Views, folder: Path, address: bool = True) -> Path:
    """A text with images that are named by its times."""
    K = views.cameras.K[0].tolist()
    times = [33_333 * (i + 1) for i in range(len(views))]
    write_images(views, folder / "images", [f"{time}.png" for time in times])
    lines = ["https://a.b/c"] if address else []
    for time, pose in zip(times, np.linalg.inv(poses(views)), strict=True):
        lens = [K[0][0], K[1][1], K[0][2], K[1][2], 0, 0]
        lines.append(" ".join(map(repr, [time, *lens, *pose[:3].flatten().tolist()])))
    (folder / "cameras.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_film(views: Views, folder: Path) -> Path:
    """A video of the views at 30 frames per second; the path is the file."""
    folder.mkdir(exist_ok=True)
    save_video(folder / "film.mp4", views.image, 30.0)
    return folder / "film.mp4"


FORMATS: dict[str, Callable[[Views, Path], Path]] = {
    "transforms": write_transforms_json,
    "colmap text": write_colmap_text,
    "colmap binary": write_colmap_binary,
    "tum": write_tum,
    "scannet": write_scannet,
    "record3d": write_record3d,
    "arrays": write_arrays,
    "lyra": write_lyra,
    "realestate10k": write_realestate10k_folder,
}
