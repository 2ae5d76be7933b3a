"""GLB: surfels as discs or points, and cameras as frusta, in one file of binary glTF 2.0.

In: a memory. Out: a .glb that Blender, Windows and browsers open. glTF's world has y up and z towards
the viewer, so the point (x, y, z) of the memory lies at (x, -y, -z). Materials are unlit, because the
colours of surfels have their light already. Colours are linear, as glTF wants them, and float32.
The file is put together here: trimesh, which tests read it with, writes colours of 8 bits, too coarse
for linear shadows. Source: the glTF 2.0 specification (Khronos).
"""

from __future__ import annotations

import json
import math
import os
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from scipy.spatial.transform import Rotation

from vmemkit.core import Cameras, Surfels
from vmemkit.exports.places import writing_file
from vmemkit.figures import FRUSTUM_EDGES, frustum_corners, surfel_box, view_colors
from vmemkit.memory import Memory

MAX_DISCS = 200_000  # surfels, which make a file of 38 MB
CORNERS = 6  # of a disc
AXES = np.diag([1.0, -1.0, -1.0])  # from OpenCV's axes to glTF's and back, of worlds and of cameras
FRUSTUM = 0.04  # length of a drawn camera, as a share of the scene's diagonal
LEAST_FRUSTUM = 0.05  # least length of a drawn camera, world units
NEAR, FAR = 0.01, 1000.0  # world units: clipping planes of the cameras
MAGIC, VERSION, JSON_CHUNK, BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
POINTS, LINES, TRIANGLES = 0, 1, 4
COMPONENTS = {"float32": 5126, "uint32": 5125}
KINDS = {1: "SCALAR", 3: "VEC3"}
VERTICES, INDICES = 34962, 34963  # what a buffer view is for


def glb(memory: Memory, path: str | os.PathLike, points: bool = False) -> None:
    """Write the surfels and cameras of a memory as a .glb.

    The node "surfels" has a hexagon for each surfel, with the area of its disc, which shows from the
    side that was seen; or with `points` a point. The node "frusta" has a frustum in the colour of each
    view, and the nodes "view 0", ... are cameras to look through. A glTF camera has its principal point
    in the middle; the frusta are exact.
    Errors: ValueError for a memory without surfels, for more than MAX_DISCS without `points`, another
    suffix and a missing folder; OSError for a full disk.
    """
    surfels, cameras = memory.surfels.to("cpu"), memory.views.cameras.to("cpu")
    if len(surfels) == 0:
        raise ValueError("a scene needs surfels, and this memory has none: write a view first")
    if len(surfels) > MAX_DISCS and not points:
        raise ValueError(
            f"{len(surfels):,} surfels are more than the {MAX_DISCS:,} that a scene can have as discs: "
            "write them as points (points=True, or --points)"
        )
    scene = Gltf()
    scene.add_mesh("surfels", **(_points(surfels) if points else _discs(surfels)))
    scene.add_mesh("frusta", **_frusta(cameras, surfels, view_colors(len(memory)).numpy()))
    for i, camera in enumerate(cameras):
        scene.add_camera(f"view {i}", camera)
    with writing_file(path, ".glb") as draft:
        draft.write_bytes(scene.content())


@dataclass
class Gltf:
    """A glTF file to which meshes and cameras are added."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    meshes: list[dict[str, Any]] = field(default_factory=list)
    cameras: list[dict[str, Any]] = field(default_factory=list)
    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    numbers: bytearray = field(default_factory=bytearray)

    def add_mesh(
        self,
        name: str,
        mode: int,
        vertices: Float[np.ndarray, "n 3"],
        colors: Float[np.ndarray, "n 3"],
        indices: Shaped[np.ndarray, " i"] | None = None,
    ) -> None:
        """Add a node of vertices in the memory's world, with sRGB colours in [0, 1]. `mode` is POINTS,
        LINES or TRIANGLES; `indices` are the vertices of each line or triangle."""
        positions = (vertices @ AXES).astype(np.float32)
        linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
        attributes = {
            "POSITION": self._add(positions),
            "COLOR_0": self._add(linear.astype(np.float32)),
        }
        # The specification requires the bounds of positions.
        bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
        self.accessors[attributes["POSITION"]] |= bounds
        primitive = {"attributes": attributes, "mode": mode, "material": 0}
        if indices is not None:
            primitive["indices"] = self._add(indices.astype(np.uint32), INDICES)
        self.meshes.append({"name": name, "primitives": [primitive]})
        self.nodes.append({"name": name, "mesh": len(self.meshes) - 1})

    def add_camera(self, name: str, camera: Cameras) -> None:
        """Add a node to look through: a single camera, without the offset of its principal point."""
        fx, fy = camera.K[[0, 1], [0, 1]].tolist()
        lens = {"yfov": 2 * math.atan(0.5 / fy), "aspectRatio": fy / fx, "znear": NEAR, "zfar": FAR}
        pose = camera.world_from_cam.double().numpy()
        rotation = Rotation.from_matrix(AXES @ pose[:3, :3] @ AXES)
        self.cameras.append({"name": name, "type": "perspective", "perspective": lens})
        self.nodes.append(
            {
                "name": name,
                "camera": len(self.cameras) - 1,
                "translation": (AXES @ pose[:3, 3]).tolist(),
                "rotation": rotation.as_quat().tolist(),
            }
        )

    def content(self) -> bytes:
        """The bytes of the file: a header, and chunks of JSON and of numbers."""
        material = {
            "extensions": {"KHR_materials_unlit": {}},
            "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
        }
        tree = {
            "asset": {"version": "2.0", "generator": "vmemkit"},
            "extensionsUsed": ["KHR_materials_unlit"],
            "scene": 0,
            "scenes": [{"nodes": list(range(len(self.nodes)))}],
            "nodes": self.nodes,
            "meshes": self.meshes,
            "cameras": self.cameras,
            "materials": [material],
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self.numbers)}],
        }
        text = json.dumps(tree, allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        parts = [struct.pack("<II", len(text), JSON_CHUNK), text]
        parts += [struct.pack("<II", len(self.numbers), BINARY_CHUNK), bytes(self.numbers)]
        length = 12 + sum(map(len, parts))
        return b"".join([struct.pack("<III", MAGIC, VERSION, length), *parts])

    def _add(self, array: Shaped[np.ndarray, ...], target: int = VERTICES) -> int:
        """Append an array; returns the number of its accessor. Its items have 4 bytes, as alignment needs."""
        columns = 1 if array.ndim == 1 else array.shape[1]
        place = {"buffer": 0, "byteOffset": len(self.numbers), "byteLength": array.nbytes}
        self.views.append({**place, "target": target})
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": COMPONENTS[array.dtype.name],
                "count": len(array),
                "type": KINDS[columns],
            }
        )
        self.numbers += array.tobytes()
        return len(self.accessors) - 1


def _points(surfels: Surfels) -> dict[str, Any]:
    return {
        "mode": POINTS,
        "vertices": surfels.position.double().numpy(),
        "colors": surfels.color.double().numpy(),
    }


def _discs(surfels: Surfels) -> dict[str, Any]:
    """A fan of triangles for each surfel, counter-clockwise from the side that was seen."""
    normal = -surfels.normal.double().numpy()
    # Any direction across the normal begins a disc: the axis that is farthest from it makes one.
    axis = np.eye(3)[np.abs(normal).argmin(1)]
    right = np.cross(axis, normal)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(normal, right)
    angle = 2 * np.pi * np.arange(CORNERS) / CORNERS
    # A polygon of the disc's area: smaller ones leave holes between neighbours.
    reach = math.sqrt(2 * math.pi / (CORNERS * math.sin(2 * math.pi / CORNERS)))
    around = np.cos(angle)[:, None] * right[:, None] + np.sin(angle)[:, None] * up[:, None]
    radius = reach * surfels.radius.double().numpy()[:, None, None]
    vertices = surfels.position.double().numpy()[:, None] + radius * around
    fan = np.array([[0, i, i + 1] for i in range(1, CORNERS - 1)])
    starts = CORNERS * np.arange(len(surfels))
    return {
        "mode": TRIANGLES,
        "vertices": vertices.reshape(-1, 3),
        "colors": np.repeat(surfels.color.double().numpy(), CORNERS, 0),
        "indices": (starts[:, None, None] + fan).reshape(-1),
    }


def _frusta(cameras: Cameras, surfels: Surfels, colors: Float[np.ndarray, "t 3"]) -> dict[str, Any]:
    """The edges of each view's frustum, in the colour of the view."""
    low, high = surfel_box(surfels.position, cameras.position)
    length = max(LEAST_FRUSTUM, FRUSTUM * float((high - low).norm()))
    corners = frustum_corners(cameras, torch.full((len(cameras),), length)).double().numpy()
    starts = corners.shape[1] * np.arange(len(cameras))
    return {
        "mode": LINES,
        "vertices": corners.reshape(-1, 3),
        "colors": np.repeat(colors.astype(np.float64), corners.shape[1], 0),
        "indices": (starts[:, None] + FRUSTUM_EDGES).reshape(-1),
    }
