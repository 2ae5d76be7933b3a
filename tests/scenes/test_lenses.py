"""Lens distortion is undone: images made by the formulas come back to sub-pixel accuracy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vmemkit.scenes import load, load_capture, read_transforms

SIZE = HEIGHT, WIDTH = 120, 160
LENS = FX, FY, CX, CY = 120.0, 122.0, 82.0, 58.5  # pixels from the image's corner
DOTS = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 7), np.linspace(-0.36, 0.36, 5)), -1).reshape(
    -1, 2
)
WIDTH_OF_DOT = 0.016  # a dot is a Gaussian of this width, in focal lengths: two pixels

# Model of COLMAP, number of focal lengths, coefficients in the file's order.
LENSES = {
    "barrel": ("SIMPLE_RADIAL", 1, [-0.15]),
    "pincushion": ("RADIAL", 1, [0.12, 0.02]),
    "OPENCV": ("OPENCV", 2, [-0.12, 0.03, 0.004, -0.006]),
    "FULL_OPENCV": ("FULL_OPENCV", 2, [0.05, 0.02, 0.002, 0.003, -0.01, 0.15, 0.02, 0.01]),
    "fisheye": ("OPENCV_FISHEYE", 2, [0.03, -0.01, 0.004, -0.002]),
    "one-parameter fisheye": ("SIMPLE_RADIAL_FISHEYE", 1, [0.05]),
}


def bent(points: np.ndarray, model: str, values: list[float]) -> np.ndarray:
    """Where the lens shows points (n, 2) of the plane at distance 1: the formulas of COLMAP's manual."""
    x, y = points.T
    if "FISHEYE" in model:
        r = np.maximum(np.hypot(x, y), 1e-12)
        theta = np.arctan(r)
        k = [*values, 0, 0, 0][:4]
        bend = theta * (1 + sum(c * theta ** (2 * i + 2) for i, c in enumerate(k))) / r
        return np.stack([x * bend, y * bend], -1)
    k1, k2, p1, p2, k3, k4, k5, k6 = [*values, *[0.0] * 8][:8]
    q = x * x + y * y
    bend = (1 + k1 * q + k2 * q**2 + k3 * q**3) / (1 + k4 * q + k5 * q**2 + k6 * q**3)
    return np.stack(
        [
            x * bend + 2 * p1 * x * y + p2 * (q + 2 * x * x),
            y * bend + 2 * p2 * x * y + p1 * (q + 2 * y * y),
        ],
        -1,
    )


def straight(places: np.ndarray, model: str, values: list[float]) -> np.ndarray:
    """The inverse of `bent`, by fixed-point steps."""
    points = places.copy()
    for _ in range(200):
        points += places - bent(points, model, values)
    assert np.abs(bent(points, model, values) - places).max() < 1e-9
    return points


def pixel_places(fx=FX, fy=FY) -> np.ndarray:
    """The points (n, 2) of the plane at distance 1 behind the pixels' centres, row by row."""
    u, v = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return np.stack([(u - CX) / fx, (v - CY) / fy], -1).reshape(-1, 2)


def picture(points: np.ndarray) -> np.ndarray:
    """A plane with white dots, seen at these points."""
    square = ((points[:, None] - DOTS) ** 2).sum(-1)
    return np.exp(-square / (2 * WIDTH_OF_DOT**2)).sum(1).clip(0, 1).reshape(HEIGHT, WIDTH)


def slanted(points: np.ndarray) -> np.ndarray:
    """The planar depth of a slanted plane, metres."""
    return (1 / (0.5 + 0.2 * points[:, 0] - 0.1 * points[:, 1])).reshape(HEIGHT, WIDTH)


def save_seen(file, points) -> None:
    pixels = (picture(points) * 255).round().astype(np.uint8)
    Image.fromarray(pixels).convert("RGB").save(file)


def centre_of_dot(image: np.ndarray, column: float, row: float) -> np.ndarray:
    """The weighted centre of the light within 5 pixels."""
    left, top = round(column) - 5, round(row) - 5
    window = image[top : top + 11, left : left + 11]
    rows, columns = np.mgrid[top : top + 11, left : left + 11] + 0.5
    return np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()


def colmap(folder, name: str):
    """A COLMAP model of one image that this lens has taken."""
    model, focals, values = LENSES[name]
    fx, fy = FX, FY if focals == 2 else FX
    save_seen(folder / "a.png", straight(pixel_places(fx, fy), model, values))
    numbers = [*[fx, fy][:focals], CX, CY, *values]
    words = f"1 {model} {WIDTH} {HEIGHT} {' '.join(map(repr, numbers))}"
    (folder / "cameras.txt").write_text(words)
    (folder / "images.txt").write_text("1 1 0 0 0 0 0 0 1 a.png\n\n")
    return folder


@pytest.mark.parametrize("name", LENSES)
def test_dots_are_where_the_pinhole_sees_them(tmp_path, name):
    loaded = load(colmap(tmp_path, name))
    K = loaded.cameras.K[0].double().numpy()
    fx, fy = K[0, 0] * WIDTH, K[1, 1] * HEIGHT
    image = loaded.views.image[0, 0].double().numpy()
    errors = []
    for dot in DOTS:
        column, row = dot * [fx, fy] + [CX, CY]
        if 8 < column < WIDTH - 8 and 8 < row < HEIGHT - 8:
            errors.append(np.abs(centre_of_dot(image, column, row) - [column, row]).max())
    assert len(errors) >= 9
    assert max(errors) < 0.1  # pixels; without undoing it is 1 to 10
    truth = picture(pixel_places(fx, fy))
    assert np.abs(image - truth).max() < 0.08
    assert any(
        f"such as {'fisheye' if 'fish' in name else 'polynomial'}" in n for n in loaded.notes
    )


@pytest.mark.parametrize(("name", "grows"), [("barrel", False), ("pincushion", True)])
def test_the_focal_length_grows_only_where_pixels_were_not_recorded(tmp_path, name, grows):
    loaded = load(colmap(tmp_path, name))
    factor = float(loaded.cameras.K[0, 0, 0]) * WIDTH / FX
    assert loaded.cameras.K[0, :2, 2].tolist() == pytest.approx([CX / WIDTH, CY / HEIGHT])
    if not grows:
        assert factor == pytest.approx(1)
        assert any("K was kept" in note for note in loaded.notes)
        return
    assert 1.01 < factor < 1.3
    model, _, values = LENSES[name]
    corner = np.array([[-CX / FX, -CY / FX]]) / factor
    seen = bent(corner, model, values)[0] * FX + [CX, CY]
    assert seen.min() > -0.51  # the border of the recorded image, to half a pixel
    assert any("times as long, so that every pixel was recorded" in note for note in loaded.notes)


def transforms(folder, model: str, values: dict[str, float], **changes):
    """A transforms.json of one image with depth that a lens has taken."""
    order = ("k1", "k2", "k3", "k4") if "FISHEYE" in model else ("k1", "k2", "p1", "p2", "k3")
    points = straight(pixel_places(), model, [values.get(key, 0.0) for key in order])
    save_seen(folder / "a.png", points)
    np.save(folder / "d.npy", slanted(points).astype(np.float32))
    frame = {
        "file_path": "a.png",
        "depth_file_path": "d.npy",
        "transform_matrix": np.eye(4).tolist(),
    }
    lens = {"w": WIDTH, "h": HEIGHT, "fl_x": FX, "fl_y": FY, "cx": CX, "cy": CY}
    data = {"camera_model": model, **lens, **values, **changes, "frames": [frame]}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ("OPENCV", {"k1": -0.12, "k2": 0.03, "p1": 0.004, "p2": -0.006, "k3": 0.01}),
        ("OPENCV_FISHEYE", {"k1": 0.03, "k2": -0.01}),
    ],
)
def test_depth_is_that_of_the_pinhole(tmp_path, model, values):
    loaded = load_capture(transforms(tmp_path, model, values))
    K = loaded.cameras.K[0].double().numpy()
    truth = slanted(pixel_places(K[0, 0] * WIDTH, K[1, 1] * HEIGHT))
    step = max(np.abs(np.diff(truth, axis=axis)).max() for axis in (0, 1))
    assert (
        np.abs(loaded.depth[0].numpy() - truth).max() < step
    )  # the nearest pixel is half a step off
    with pytest.raises(ValueError, match=r"frame 0.*(undistort|pinhole)"):
        read_transforms(tmp_path)


def test_distortion_params_are_in_the_order_of_nerfstudio(tmp_path):
    values = {"k1": -0.12, "k2": 0.03, "p1": 0.004, "p2": -0.006}
    named = load_capture(transforms(tmp_path, "OPENCV", values))
    listed = {"distortion_params": [-0.12, 0.03, 0, 0, 0.004, -0.006]} | dict.fromkeys(values)
    changed = load_capture(transforms(tmp_path, "OPENCV", values, **listed))
    assert torch.equal(changed.image, named.image)


def test_instant_ngp_says_that_a_lens_is_a_fisheye(tmp_path):
    values = {"k1": 0.03, "k2": -0.01}
    expected = load_capture(transforms(tmp_path, "OPENCV_FISHEYE", values))
    other = {"camera_model": "OPENCV", "is_fisheye": True}
    folder = transforms(tmp_path, "OPENCV_FISHEYE", values, **other)
    assert torch.equal(load_capture(folder).image, expected.image)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k4": 0.1}, r"distortion \['k4'\], which OPENCV does not have"),
        ({"b1": 0.1}, r"distortion \['b1'\]"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, r"distortion \['p1'\]"),
        ({"is_fisheye": True, "p1": 0.1}, r"\['p1'\], which OPENCV with is_fisheye does not"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera_model"),
        ({"distortion_params": [0.1] * 4}, r"nerfstudio's 6 numbers .* got 4"),
        ({"distortion_params": [0.1] * 6, "k1": 0.2}, "stand alone"),
        ({"k1": -50.0}, "cannot be undone, because its formula leaves the image or folds"),
        ({"k1": 1e9}, "cannot be undone"),
        ({"k1": 1e-300, "k3": -1e9}, "cannot be undone"),
    ],
)
def test_distortion_that_cannot_be_undone_is_refused_by_name(tmp_path, changes, message):
    folder = transforms(tmp_path, "OPENCV", {}, **changes)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_without_images_the_distortion_is_left_out_and_said(tmp_path):
    colmap(tmp_path, "barrel")
    (tmp_path / "a.png").unlink()
    loaded = load(tmp_path)
    assert loaded.views is None
    assert any("distortion was left out" in note for note in loaded.notes)


def test_smaller_copies_have_the_same_lens(tmp_path):
    folder = colmap(tmp_path, "OPENCV")
    large = load(folder, height=60)
    with Image.open(folder / "a.png") as image:
        image.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX).save(folder / "a.png")
    small = load(folder)
    assert torch.equal(small.cameras.K, large.cameras.K)
    assert float((small.views.image - large.views.image).abs().max()) < 0.1
