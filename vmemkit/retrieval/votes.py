"""Votes: from what a camera sees of the memory to a number per view.

In: a memory, and the surfels that query cameras see. Out: votes per view, and how sharply each view
saw a surfel. Sums are made in memory/sightings.py; `SurfelVotes` in policies.py shares a vote.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core import (
    Cameras,
    Splat,
    SurfelConfig,
    Surfels,
    dot,
    footprint,
    root,
    unproject,
)
from vmemkit.core.kernels import RUN, accelerated
from vmemkit.memory import (
    Excerpt,
    Memory,
    PackedSightings,
    excerpt,
    sightings_by_depth,
    sightings_of,
    weight_by_view,
)


def pixels_per_surfel(memory: Memory | Excerpt, canvas: Splat) -> Float[Tensor, " n"]:
    """In how many pixels of all query cameras each surfel of the memory is the nearest.

    Errors: ValueError for surfels that the memory does not have.
    """
    surfels, device = len(memory.surfels), canvas.surfel.device
    # Checked on the CPU only: a GPU would have to wait, and stops at such an index by itself.
    # numpy's `max` does not wake torch's threads, which would slow the kernels down.
    if device.type == "cpu" and (most := int(canvas.surfel.numpy().max())) >= surfels:
        raise ValueError(
            f"the canvas shows surfel {most}, but this memory has {surfels}: render it with vmemkit.read"
        )
    return _pixel_counts(canvas.surfel, surfels)


@accelerated
def _pixel_counts(surfel: Int[Tensor, "m h w"], surfels: int) -> Float[Tensor, " n"]:
    """How many pixels see each surfel. Pixels that see none (-1) count for nothing."""
    ids = surfel.flatten() + 1
    count = torch.zeros(surfels + 1, device=ids.device)
    return count.index_add_(0, ids, torch.ones_like(ids, dtype=count.dtype))[1:]


def count_votes(memory: Memory | Excerpt, weight: Float[Tensor, " n"]) -> Float[Tensor, " t"]:
    """Per view the sum of the weights of the surfels that it saw.

    Errors: ValueError unless there is a weight for every surfel.
    """
    if weight.shape != (len(memory.surfels),):
        raise ValueError(
            f"votes need a weight for each of {len(memory.surfels)} surfels, got "
            f"{list(weight.shape)}"
        )
    return weight_by_view(memory.packed_sightings, weight, len(memory))


def released_votes(memory: Memory, canvas: Splat) -> Float[Tensor, " t"]:
    """The released code's votes from one camera: cos / (1 + depth) per pixel and view."""
    part, canvas = excerpt(memory, canvas)
    hit = canvas.surfel.flatten() >= 0
    ids, total = canvas.surfel.flatten()[hit], len(part.surfels)
    weight = (canvas.cosine / (1 + canvas.depth)).flatten()[hit]
    votes = count_votes(part, torch.zeros(total, device=ids.device).index_add_(0, ids, weight))
    # The first pixel of a view counts twice: the code sets the vote, then adds to it.
    none, place = len(ids), torch.arange(len(ids), device=ids.device)
    first = torch.full((total,), none, device=ids.device).scatter_reduce_(0, ids, place, "amin")
    surfel, view = sightings_of(part.packed_sightings, first < none)
    of_view = torch.full((len(memory),), none, device=ids.device)
    of_view.scatter_reduce_(0, view, first[surfel], "amin")
    return votes + torch.cat([weight, weight.new_zeros(1)])[of_view]


def shown_points(
    memory: Memory, query: Cameras, canvas: Splat
) -> tuple[Surfels, Float[Tensor, " p"]]:
    """The points that the query cameras see, as discs like the surfels that show them, of every
    second row and column; and the world size of a query pixel at each."""
    part = canvas.map(lambda plane: plane[:, ::2, ::2])
    camera, row, column = (part.surfel >= 0).nonzero(as_tuple=True)
    points = unproject(query, torch.where(canvas.surfel >= 0, canvas.depth, torch.nan))
    shown = memory.surfels.at(part.surfel[camera, row, column])
    discs = shown.replace(position=points[:, ::2, ::2][camera, row, column])
    ids = torch.arange(len(camera), device=memory.device)
    return discs, _footprints(discs, query, ids, camera, SurfelConfig.slant)


def verified(memory: Memory, points: Surfels) -> PackedSightings:
    """Which views of the memory see which of the points, by the views' depth."""
    runs = torch.arange(-(-len(points) // RUN), device=memory.device)
    return sightings_by_depth(points, runs, 0, memory.views, memory.config)


def finest_sizes(memory: Memory | Excerpt, query: Cameras, canvas: Splat) -> Float[Tensor, " n"]:
    """Per surfel the world size of a pixel there, of the query camera that sees it most finely;
    infinity for surfels that none of them sees."""
    count = len(memory.surfels)
    shown, cameras = canvas.surfel.flatten(1), torch.arange(len(query), device=memory.device)
    camera, ids = cameras[:, None].expand(shown.shape).flatten(), shown.flatten()
    sizes = _footprints(memory.surfels, query, ids.clamp(min=0), camera, SurfelConfig.slant)
    finest = torch.full((count + 1,), torch.inf, device=memory.device)  # the last is of no surfel
    return finest.scatter_reduce_(0, torch.where(ids < 0, count, ids), sizes, "amin")[:count]


def sharpness(
    surfels: Surfels,
    finest: Float[Tensor, " n"],
    cameras: Cameras,
    surfel: Int[Tensor, " e"],
    view: Int[Tensor, " e"],
) -> Float[Tensor, " e"]:
    """How finely view[e] sampled surfel[e]: 1 if at least as finely as every query camera, else less.

    The measure is the world size of a pixel (as in the surfels' radius): `finest` for the query
    cameras. `cameras` are the views'.
    """
    sizes = _footprints(surfels, cameras, surfel, view, SurfelConfig.slant)
    return (finest[surfel] / sizes).clamp(max=1)


@accelerated
def _footprints(
    surfels: Surfels,
    cameras: Cameras,
    surfel: Int[Tensor, " e"],
    camera: Int[Tensor, " e"],
    slant: float,
) -> Float[Tensor, " e"]:
    """World size of a pixel of camera[e], of an image of height 1, at surfel[e]."""
    sight = surfels.position[surfel] - cameras.position[camera]
    depth = dot(sight, cameras.forward[camera]).clamp(min=1e-6)
    cosine = dot(sight, surfels.normal[surfel]) / root(dot(sight, sight)).clamp(min=1e-6)
    return footprint(depth, cameras.K[camera, 1, 1], cosine.clamp(min=0), slant)
