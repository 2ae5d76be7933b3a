"""Buffers: what a 3-D scene draws, as arrays on the graphics card that are overwritten in place.

In: surfels with a colour each, line ends, images of views. Out: pythreejs objects that follow.
A browser that is handed a new object flickers; one whose arrays change does not. So `Discs`, `Lines`
and `Images` keep their objects and replace arrays, whole, as that is what pythreejs notices.
"""

from __future__ import annotations

import math

import numpy as np
import pythreejs as three
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vmemkit.core import SplatConfig, Surfels, Views, resize
from vmemkit.memory import Memory

MAX_IMAGES = 12  # views that carry their image

THUMBNAIL = 96  # rows of these images

SEED = 0  # of the sample

VERTEX = """
attribute float radius; attribute vec4 rgba; uniform float rows; uniform float scale;
varying vec3 color; varying vec3 centre; varying vec3 away; varying float reach;
void main() {
  vec4 eye = modelViewMatrix * vec4(position, 1.0);
  color = rgba.rgb; centre = eye.xyz; away = normalize(normalMatrix * normal); reach = scale * radius;
  bool hidden = rgba.a < 0.5 || dot(away, eye.xyz) <= 0.0;
  gl_Position = hidden ? vec4(2.0, 2.0, 2.0, 1.0) : projectionMatrix * eye;
  gl_PointSize = max(1.0, reach * projectionMatrix[1][1] * rows / -eye.z);
}
"""

# The ray through the fragment meets the disc's plane within its radius, or nothing is drawn.
FRAGMENT = """
precision highp float;
varying vec3 color; varying vec3 centre; varying vec3 away; varying float reach;
void main() {
  vec2 at = (gl_PointCoord * 2.0 - 1.0) * vec2(1.0, -1.0);
  vec3 ray = vec3(centre.xy + at * reach, centre.z);
  vec3 off = ray * (dot(away, centre) / dot(away, ray)) - centre;
  if (dot(off, off) > reach * reach) discard;
  gl_FragColor = vec4(color * (0.85 + 0.15 * abs(dot(away, normalize(ray)))), 1.0);
}
"""


class DiscMesh:
    """Surfels on the graphics card. Buffers grow by doubling and are then overwritten in place."""

    def __init__(self, rows: int) -> None:
        uniforms = {"rows": {"value": float(rows)}, "scale": {"value": SplatConfig.scale}}
        material = three.ShaderMaterial(
            vertexShader=VERTEX, fragmentShader=FRAGMENT, uniforms=uniforms
        )
        self.points = three.Points(geometry(**self._empty(1)), material, frustumCulled=False)
        self._rows = torch.zeros(0).long()  # of the surfels in the buffers
        self._position = torch.zeros(0, 3)  # of all surfels that were there to choose from

    def show(self, memory: Memory, paint: Float[Tensor, "n 3"], cap: int) -> int:
        """Draw the memory's surfels, of more than `cap` a sample; returns how many are drawn."""
        surfels = memory.surfels.to("cpu")
        n, held = len(surfels), self._position
        if n > len(held) or not torch.equal(surfels.position, held[:n]):
            self._upload(surfels, cap)
        rgba = np.zeros((len(self._attribute("rgba")), 4), np.uint8)
        there = int((self._rows < n).sum())  # rows ascend: undo hides the last ones
        rgba[:there, :3] = _bytes(paint[self._rows[:there]])
        rgba[:there, 3] = 255
        self.points.geometry.attributes["rgba"].array = rgba
        return there

    def _upload(self, surfels: Surfels, cap: int) -> None:
        n = len(surfels)
        rows = torch.arange(n)
        if n > cap:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(SEED))
            rows = order[:cap].sort().values
        # what a sample leaves out, its discs make up for
        widen = math.sqrt(max(1.0, n / cap))
        capacity = len(self._attribute("radius"))
        if len(rows) > capacity:
            capacity = max(len(rows), min(cap, 2 * capacity))
        arrays = self._empty(capacity)
        arrays["position"][: len(rows)] = surfels.position[rows].numpy()
        arrays["normal"][: len(rows)] = surfels.normal[rows].numpy()
        arrays["radius"][: len(rows)] = widen * surfels.radius[rows].numpy()
        resized(self.points, **arrays)
        self._rows, self._position = rows, surfels.position.clone()

    def _attribute(self, name: str) -> np.ndarray:
        return self.points.geometry.attributes[name].array

    @staticmethod
    def _empty(n: int) -> dict[str, np.ndarray]:
        vector = np.zeros((n, 3), np.float32)
        rgba = np.zeros((n, 4), np.uint8)
        radius = np.zeros(n, np.float32)
        return {"position": vector, "normal": vector.copy(), "radius": radius, "rgba": rgba}


class Lines:
    """Line segments with a colour per end."""

    def __init__(self) -> None:
        empty = np.zeros((2, 3), np.float32)
        material = three.LineBasicMaterial(vertexColors="VertexColors")
        ends = geometry(position=empty, color=empty.copy())
        self.lines = three.LineSegments(ends, material, frustumCulled=False)

    def show(self, ends: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"]) -> None:
        resized(self.lines, position=ends.numpy(), color=colors.numpy())


class Images:
    """A fixed number of pictures in space, as many of them shown as are needed."""

    def __init__(self) -> None:
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        index = np.array([0, 1, 2, 0, 2, 3], np.uint32)
        self.meshes = []
        self._held: list[torch.Tensor | None] = [None] * MAX_IMAGES  # what each mesh shows
        for _ in range(MAX_IMAGES):
            blank = three.DataTexture(np.zeros((1, 1, 4), np.uint8), format="RGBAFormat")
            material = three.MeshBasicMaterial(map=blank, side="BackSide")  # seen as from the eye
            corners = geometry(index, position=np.zeros((4, 3), np.float32), uv=uv)
            mesh = three.Mesh(corners, material, visible=False, frustumCulled=False)
            self.meshes.append(mesh)

    def show(self, memory: Memory, pyramids: Float[Tensor, "t 5 3"], views: list[int]) -> None:
        """The images of `views` on the base of their pyramids."""
        for i, mesh in enumerate(self.meshes):
            mesh.visible = i < len(views)
            if mesh.visible:
                mesh.geometry.attributes["position"].array = pyramids[views[i], 1:].numpy()
                view = memory.views[views[i] : views[i] + 1]
                # Rows of a memory never change: what lies in the same place is the same image.
                if self._held[i] is None or self._held[i].data_ptr() != view.image.data_ptr():
                    mesh.material.map, self._held[i] = _texture(_thumbnail(view)), view.image


def _thumbnail(view: Views) -> UInt8[np.ndarray, "h w 4"]:
    height, width = view.image.shape[2:]
    rows = min(THUMBNAIL, height)
    small = resize(view, rows, max(1, round(width * rows / height))).image[0]
    pixels = _bytes(small.cpu().permute(1, 2, 0))
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)


def _texture(pixels: UInt8[np.ndarray, "h w 4"]) -> three.DataTexture:
    return three.DataTexture(
        pixels, format="RGBAFormat", minFilter="LinearFilter", magFilter="LinearFilter"
    )


def ball() -> three.Mesh:
    """What marks the surfel that was clicked on."""
    ball = three.SphereBufferGeometry(radius=1.0, widthSegments=12, heightSegments=8)
    return three.Mesh(ball, three.MeshBasicMaterial(color="#e8112d"), visible=False)


def geometry(index: np.ndarray | None = None, **arrays: np.ndarray) -> three.BufferGeometry:
    """A geometry of attributes; bytes become shares of 255."""
    attributes = {
        name: three.BufferAttribute(array, normalized=array.dtype == np.uint8)
        for name, array in arrays.items()
    }
    if index is None:
        return three.BufferGeometry(attributes=attributes)
    return three.BufferGeometry(
        attributes=attributes, index=three.BufferAttribute(index, normalized=False)
    )


def resized(thing: three.Points | three.Line, **arrays: np.ndarray) -> None:
    """Overwrite a geometry's attributes; one of another length takes its place."""
    held = thing.geometry.attributes
    if all(held[name].array.shape == array.shape for name, array in arrays.items()):
        for name, array in arrays.items():
            held[name].array = array
        return
    thing.geometry = geometry(**arrays)


def _bytes(colors: Float[Tensor, "*n c"]) -> UInt8[np.ndarray, "*n c"]:
    return (255 * colors.clamp(0, 1)).round().to(torch.uint8).numpy()
