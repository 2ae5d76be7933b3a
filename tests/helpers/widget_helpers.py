"""What the tests of the widgets share: a generator to steer, a scene without truth, and readers."""

from __future__ import annotations

import base64
import io
import threading

import numpy as np
import torch
from PIL import Image

from vmemkit.generation import SEEN, Generation

H, W = 24, 32


class Paints:
    """A generator that knows the truth of a scene, and blurs it by its random numbers. It can be
    made to wait, or to fail."""

    def __init__(self, scene, waits=False, fails=False):
        self.scene, self.fails = scene, fails
        self.entered, self.go = threading.Event(), threading.Event()
        if not waits:
            self.go.set()

    def __call__(self, context, targets, rng):
        self.entered.set()
        assert self.go.wait(30)
        if self.fails:
            raise ValueError("out of paint")
        truth = self.scene.render(targets, *context.image.shape[2:])
        image = 0.9 * truth.image + 0.1 * torch.rand(truth.image.shape, generator=rng)
        yield Generation(image, truth.depth, torch.full_like(truth.depth, SEEN))


def picture(address):
    """The pixels of a data address, [3 h w] in [0, 1]."""
    kind, _, data = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255


def ids(gallery):
    return [item["id"] for item in gallery.items]


class Nowhere:
    """A scene that knows nothing of any camera."""

    def render(self, cameras, height, width):
        raise ValueError("inside a wall")

    def visible(self, points_world, cameras):
        raise ValueError("inside a wall")


def agrees(found, by_hand):
    return (
        found.policy == by_hand.policy
        and torch.equal(found.chosen, by_hand.chosen)
        and torch.equal(found.votes, by_hand.votes)
    )
