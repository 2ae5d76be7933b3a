"""Buffers: what a 3-D scene draws, as arrays on the graphics card that are overwritten in place.

In: surfels with a colour each, line ends, images of views. Out: pythreejs objects that follow.
A new object makes a browser flicker; a changed array does not. So these classes keep their objects
and replace whole arrays, because pythreejs does not notice changes within one.
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

MAX_IMAGES = 12  # views that show their image at once
THUMBNAIL = 96  # height of these images, pixels
SEED = 0  # of the random sample of surfels

VERTEX = """
attribute float radius; attribute vec4 rgba; uniform float rows; uniform float scale;
varying vec4 color; varying vec3 centre; varying vec3 away; varying float reach;
void main() {
  vec4 eye = modelViewMatrix * vec4(position, 1.0);
  color = rgba; centre = eye.xyz;
  away = normalize(normalMatrix * normal); reach = scale * radius;
  bool hidden = rgba.a == 0.0 || dot(away, eye.xyz) <= 0.0;
  gl_Position = hidden ? vec4(2.0, 2.0, 2.0, 1.0) : projectionMatrix * eye;
  gl_PointSize = max(1.0, reach * projectionMatrix[1][1] * rows / -eye.z);
}
"""

# A fragment is drawn where its ray meets the disc's plane within the disc's radius. Of a faint disc,
# only a share of the pixels is drawn, as large as its opacity: so the order of drawing and the page's
# background do not matter. `threshold` is interleaved gradient noise (Jimenez, 2014).
FRAGMENT = """
precision highp float;
varying vec4 color; varying vec3 centre; varying vec3 away; varying float reach;
float threshold(vec2 pixel) {
  return fract(52.9829189 * fract(dot(pixel, vec2(0.06711056, 0.00583715))));
}
void main() {
  vec2 at = (gl_PointCoord * 2.0 - 1.0) * vec2(1.0, -1.0);
  vec3 ray = vec3(centre.xy + at * reach, centre.z);
  vec3 off = ray * (dot(away, centre) / dot(away, ray)) - centre;
  if (dot(off, off) > reach * reach) discard;
  if (color.a <= threshold(floor(gl_FragCoord.xy))) discard;
  gl_FragColor = vec4(color.rgb * (0.85 + 0.15 * abs(dot(away, normalize(ray)))), 1.0);
}
"""


class SurfelPoints:
    """Surfels as points that the shaders widen to discs. Buffers grow by doubling."""

    def __init__(self, rows: int) -> None:
        """`rows` is the height of the canvas in pixels."""
        material = three.ShaderMaterial(
            vertexShader=VERTEX,
            fragmentShader=FRAGMENT,
            uniforms={"rows": {"value": float(rows)}, "scale": {"value": SplatConfig.scale}},
        )
        self.points = three.Points(geometry(**self._zeros(1)), material, frustumCulled=False)
        self._rows = torch.zeros(0).long()  # rows of the memory's surfels that are in the buffers
        self._position = torch.zeros(0, 3)  # of all surfels that the memory held at the upload

    def show(self, memory: Memory, paint: Float[Tensor, "n 4"], cap: int) -> int:
        """Draw the memory's surfels in colours with opacities, or a sample where there are more than
        `cap`; returns how many are drawn."""
        surfels = memory.surfels.to("cpu")
        n, uploaded = len(surfels), self._position
        if n > len(uploaded) or not torch.equal(surfels.position, uploaded[:n]):
            self._upload(surfels, cap)
        rgba = np.zeros((len(self._array("rgba")), 4), np.uint8)
        count = int((self._rows < n).sum())  # rows ascend, so an undo hides the last ones
        rgba[:count] = _bytes(paint[self._rows[:count]])
        self.points.geometry.attributes["rgba"].array = rgba
        return count

    def _upload(self, surfels: Surfels, cap: int) -> None:
        n = len(surfels)
        rows = torch.arange(n)
        if n > cap:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(SEED))
            rows = order[:cap].sort().values
        widening = math.sqrt(max(1.0, n / cap))  # the sample's discs cover the area of all
        capacity = len(self._array("radius"))
        if len(rows) > capacity:
            capacity = max(len(rows), min(cap, 2 * capacity))
        arrays = self._zeros(capacity)
        arrays["position"][: len(rows)] = surfels.position[rows].numpy()
        arrays["normal"][: len(rows)] = surfels.normal[rows].numpy()
        arrays["radius"][: len(rows)] = widening * surfels.radius[rows].numpy()
        overwrite(self.points, **arrays)
        self._rows, self._position = rows, surfels.position.clone()

    def _array(self, name: str) -> np.ndarray:
        return self.points.geometry.attributes[name].array

    @staticmethod
    def _zeros(n: int) -> dict[str, np.ndarray]:
        return {
            "position": np.zeros((n, 3), np.float32),
            "normal": np.zeros((n, 3), np.float32),
            "radius": np.zeros(n, np.float32),
            "rgba": np.zeros((n, 4), np.uint8),
        }


class LineSegments:
    """Line segments with a colour at each end."""

    def __init__(self) -> None:
        ends = np.zeros((2, 3), np.float32)
        material = three.LineBasicMaterial(vertexColors="VertexColors")
        shape = geometry(position=ends, color=ends.copy())
        self.lines = three.LineSegments(shape, material, frustumCulled=False)

    def show(self, ends: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"]) -> None:
        overwrite(self.lines, position=ends.numpy(), color=colors.numpy())


class ImageQuads:
    """Images that hang in space: a fixed number of rectangles, of which some are visible."""

    def __init__(self) -> None:
        uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
        index = np.array([0, 1, 2, 0, 2, 3], np.uint32)
        self.meshes = []
        self._images: list[torch.Tensor | None] = [None] * MAX_IMAGES  # of each mesh
        for _ in range(MAX_IMAGES):
            blank = three.DataTexture(np.zeros((1, 1, 4), np.uint8), format="RGBAFormat")
            # From the camera's eye one looks at the back of these faces.
            material = three.MeshBasicMaterial(map=blank, side="BackSide")
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
                # Rows of a memory never change, so the same address is the same image.
                if self._images[i] is None or self._images[i].data_ptr() != view.image.data_ptr():
                    old = mesh.material.map
                    mesh.material.map, self._images[i] = _texture(view), view.image
                    old.close()


def _texture(view: Views) -> three.DataTexture:
    """A small copy of a view's image."""
    height, width = view.image.shape[2:]
    rows = min(THUMBNAIL, height)
    small = resize(view, rows, max(1, round(width * rows / height))).image[0]
    pixels = _bytes(small.cpu().permute(1, 2, 0))
    opaque = np.full_like(pixels[..., :1], 255)
    return three.DataTexture(
        np.concatenate([pixels, opaque], -1),
        format="RGBAFormat",
        minFilter="LinearFilter",
        magFilter="LinearFilter",
    )


def geometry(index: np.ndarray | None = None, **arrays: np.ndarray) -> three.BufferGeometry:
    """A geometry of attributes; the card reads bytes as shares of 255."""
    attributes = {
        name: three.BufferAttribute(array, normalized=array.dtype == np.uint8)
        for name, array in arrays.items()
    }
    if index is None:
        return three.BufferGeometry(attributes=attributes)
    faces = three.BufferAttribute(index, normalized=False)
    return three.BufferGeometry(attributes=attributes, index=faces)


def overwrite(thing: three.Points | three.Line, **arrays: np.ndarray) -> None:
    """Overwrite a geometry's attributes; arrays of another length need a new geometry."""
    attributes = thing.geometry.attributes
    if all(attributes[name].array.shape == array.shape for name, array in arrays.items()):
        for name, array in arrays.items():
            attributes[name].array = array
        return
    old, thing.geometry = thing.geometry, geometry(**arrays)
    for model in (old, *old.attributes.values()):
        model.close()


def _bytes(colors: Float[Tensor, "*n c"]) -> UInt8[np.ndarray, "*n c"]:
    return (255 * colors.clamp(0, 1)).round().to(torch.uint8).numpy()
