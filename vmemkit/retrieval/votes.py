"""Votes: from what a camera sees of the memory to a ranking, and from a ranking to k views.

In: a memory and the surfels that query cameras see. Out: votes per view, and views chosen by votes
with suppression of like poses, or by coverage. The policies of retrieval.py are made of these
parts, and policies of your own may be.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core import Cameras, Splat, SurfelConfig, dot, footprint, root
from vmemkit.core.kernels import backend, footprints, pixel_counts
from vmemkit.memory import Memory, sightings_of, weight_by_view

SLANT = SurfelConfig.slant


def pixels_per_surfel(memory: Memory, seen: Splat) -> Float[Tensor, " n"]:
    """How many pixels of all query cameras each surfel of the memory won.

    Errors: ValueError for surfels that the memory does not have.
    """
    surfels = len(memory.surfels)
    # On a CPU only: a GPU would have to wait, and stops at such an index by itself. In numpy: see
    # native._zeros.
    if seen.surfel.device.type == "cpu" and (most := int(seen.surfel.numpy().max())) >= surfels:
        raise ValueError(f"pixels see surfels up to {most}, of {surfels}: read this memory")
    if backend(memory.device) == "numba":
        return pixel_counts(seen.surfel, surfels)
    ids = seen.surfel.flatten() + 1  # the pixels that see none are counted in front, and cut off
    count = torch.zeros(surfels + 1, device=ids.device)
    return count.index_add_(0, ids, torch.ones_like(ids, dtype=count.dtype))[1:]


def count_votes(memory: Memory, weight: Float[Tensor, " n"]) -> Float[Tensor, " t"]:
    """Per view the sum of the weights of the surfels that it saw.

    Errors: ValueError unless there is a weight for every surfel.
    """
    if weight.shape != (len(memory.surfels),):
        raise ValueError(
            f"votes need a weight for each of {len(memory.surfels)} surfels, got "
            f"{list(weight.shape)}"
        )
    return weight_by_view(memory.marks, weight, len(memory))


def released_votes(memory: Memory, canvas: Splat) -> Float[Tensor, " t"]:
    """The released code's votes from one camera: cos / (1 + depth) per pixel and view."""
    hit = canvas.surfel.flatten() >= 0
    ids, total = canvas.surfel.flatten()[hit], len(memory.surfels)
    weight = (canvas.cosine / (1 + canvas.depth)).flatten()[hit]
    votes = count_votes(memory, torch.zeros(total, device=ids.device).index_add_(0, ids, weight))
    # The first pixel of a view counts twice: the code sets the vote, then adds to it.
    none, place = len(ids), torch.arange(len(ids), device=ids.device)
    first = torch.full((total,), none, device=ids.device).scatter_reduce_(0, ids, place, "amin")
    surfel, view = sightings_of(memory.marks, first < none)
    of_view = torch.full((len(memory),), none, device=ids.device)
    of_view.scatter_reduce_(0, view, first[surfel], "amin")
    return votes + torch.cat([weight, weight.new_zeros(1)])[of_view]


def sharpness(
    memory: Memory, query: Cameras, seen: Splat, surfel: Tensor, view: Tensor
) -> Float[Tensor, " e"]:
    """How finely a view sampled a surfel, against the query camera that sees it largest; at most 1.

    The measure is the footprint of a pixel (as in the surfels' radius).
    """
    need = torch.full((len(memory.surfels),), torch.inf, device=memory.device)
    for i in range(len(query)):
        ids = seen.surfel[i][seen.surfel[i] >= 0].unique()
        need[ids] = torch.minimum(
            need[ids], _footprints(memory, query, ids, torch.full_like(ids, i))
        )
    have = _footprints(memory, memory.views.cameras, surfel, view)
    return (need[surfel] / have).clamp(max=1)


def _footprints(
    memory: Memory, cameras: Cameras, surfel: Int[Tensor, " e"], camera: Int[Tensor, " e"]
) -> Float[Tensor, " e"]:
    """World size of a pixel of `camera[e]` (of an image of unit height) at `surfel[e]`."""
    eye, forward, focal = cameras.position, cameras.forward, cameras.K[:, 1, 1]
    position, normal = memory.surfels.position, memory.surfels.normal
    if backend(memory.device) == "numba":
        return footprints(position, normal, eye, forward, focal, surfel, camera, SLANT)
    sight = position[surfel] - eye[camera]
    depth = dot(sight, forward[camera]).clamp(min=1e-6)
    cosine = dot(sight, normal[surfel]) / root(dot(sight, sight)).clamp(min=1e-6)
    return footprint(depth, focal[camera], cosine.clamp(min=0))
