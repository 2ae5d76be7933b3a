"""Finishes: procedural paints, wallpapers, woods and fabrics for the surfaces of a house.

In: points on surfaces (metres along and up each surface) and the size of a pixel there. Out: their
colours before lighting. A pattern is one short function in `PATTERNS`; a `Finish` says which
pattern, in which three colours and at which scale.
Patterns are integrated over the pixel's footprint instead of sampled, so that a distant brick wall
becomes its mean colour and no moire. Random tones come from an integer hash, equal on all devices.
Source of the filtered pulse: Apodaca and Gritz, Advanced RenderMan, chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vmemkit.core import TensorStruct
from vmemkit.core.kernels import accelerated

Column = Float[Tensor, " n"]
Pairs = Float[Tensor, "n 2"]
Rgb = Float[Tensor, "n 3"]
WHITE = (0.93, 0.92, 0.89)  # skirting, frames, ceilings
GROUT = (0.80, 0.78, 0.74)
SHADOW = (0.16, 0.13, 0.11)  # picture frames, and the dark behind books

EVEN = -1  # seed of surfaces without random tones

# Lengths are in metres.
SKIRTING, CORNICE = 0.11, 0.06  # heights of the boards at the bottom and the top of a wall
DADO, BAND, TILED = 0.95, 1.25, 1.35  # heights of a dado rail, a painted band and a tiled part
GAP = 0.006  # between boards
BRICK = (0.24, 0.085)  # length, height
TILE = 0.15  # side
BOOK = 0.05  # width of a spine
DOT_RADIUS = 0.2  # share of a repeat


@dataclass(frozen=True, repr=False)
class Finish(TensorStruct):
    """The finishes of n surfaces."""

    pattern: Int[Tensor, " n"]  # row of PATTERNS
    colors: Float[Tensor, "n 3 3"]  # main, second, accent; rgb in [0, 1]
    scale: Float[Tensor, " n"]  # length of one repeat, metres
    seed: Int[Tensor, " n"]  # of the random tones, another one for each surface
    glow: Float[Tensor, " n"]  # share of the colour that shines without other light


@dataclass(frozen=True, repr=False)
class Surface(TensorStruct):
    """Points to be painted: `uv` runs along and up their surfaces, from the lower corner."""

    uv: Float[Tensor, "n 2"]  # metres
    extent: Float[Tensor, "n 2"]  # size of the whole surface, metres
    pixel: Float[Tensor, "n 2"]  # size of a pixel on the surface, metres along u and v
    finish: Finish

    @property
    def main(self) -> Rgb:
        return self.finish.colors[:, 0]

    @property
    def second(self) -> Rgb:
        return self.finish.colors[:, 1]

    @property
    def accent(self) -> Rgb:
        return self.finish.colors[:, 2]

    @property
    def seed(self) -> Int[Tensor, " n"]:
        return self.finish.seed

    @property
    def repeats(self) -> tuple[Pairs, Pairs]:
        """`uv` and `pixel` counted in repeats of the finish."""
        return self.uv / self.finish.scale[:, None], self.pixel / self.finish.scale[:, None]


def paint(surface: Surface) -> Rgb:
    """The colour of every point, rgb in [0, 1], before lighting."""
    color = torch.zeros_like(surface.main)
    for index, pattern in enumerate(PATTERNS.values()):
        rows = (surface.finish.pattern == index).nonzero()[:, 0]
        if len(rows):
            color.index_copy_(0, rows, pattern(surface.at(rows)))
    return color.clamp(0, 1)


def skirting(surface: Surface) -> Column:
    """1 on the skirting board and on the cornice of a wall, 0 between them, filtered."""
    v, width = surface.uv[:, 1], surface.pixel[:, 1]
    return 1 - above(v, SKIRTING, width) + above(v, surface.extent[:, 1] - CORNICE, width)


# ---- tools: filtered edges and pulses, hashes, noise ---------------------------------------------


def pulse(x: Column, duty: float | Column, width: Column) -> Column:
    """Filtered stripes: the share of the interval of `width` around x in which frac(x) < duty."""

    def integral(x: Tensor) -> Tensor:
        whole = x.floor()
        return whole * duty + torch.minimum(x - whole, torch.zeros_like(x) + duty)

    width = width.clamp(min=1e-4)  # float32 resolves no less, a hundred repeats from the corner
    return ((integral(x + width / 2) - integral(x - width / 2)) / width).clamp(0, 1)


def above(x: Column, edge: float | Column, width: Column) -> Column:
    """A filtered step: the share of the interval of `width` around x that lies above `edge`."""
    return ((x - edge) / width.clamp(min=1e-4) + 0.5).clamp(0, 1)


def between(x: Column, low: float | Column, high: float | Column, width: Column) -> Column:
    """Share of the interval of `width` around x that lies between two edges."""
    return above(x, low, width) - above(x, high, width)


def joints(x: Pairs, width: Pairs, share_u: float | Column, share_v: float | Column) -> Column:
    """1 on the joints of a unit grid, 0 between them, filtered; the shares are joint widths."""
    along = pulse(x[:, 0], share_u, width[:, 0])
    return torch.maximum(along, pulse(x[:, 1], share_v, width[:, 1]))


def border(surface: Surface, margin: float) -> Column:
    """1 within `margin` metres of the surface's edge, 0 further inside, filtered."""
    inside = torch.minimum(surface.uv, surface.extent - surface.uv)
    across = above(inside[:, 0], margin, surface.pixel[:, 0])
    return 1 - across * above(inside[:, 1], margin, surface.pixel[:, 1])


def mix(a: Rgb, b: Rgb | tuple, share: Column) -> Rgb:
    """Linear blend: a where `share` is 0, b where it is 1."""
    return a + (torch.as_tensor(b, dtype=a.dtype, device=a.device) - a) * share[:, None]


def tone(color: Rgb, amount: Column) -> Rgb:
    """The colour lighter (amount > 0) or darker (amount < 0) by that share."""
    return color * (1 + amount)[:, None]


def chance(*integers: Tensor) -> Column:
    """A hash of the integers: numbers in [0, 1) that look random and are equal on all devices."""
    mask = 0xFFFFFFFF
    state = torch.zeros_like(integers[0], dtype=torch.int64)
    for integer in integers:
        state = ((state ^ (integer.long() & mask)) * 0x9E3779B1) & mask
        state = ((state ^ (state >> 15)) * 0x85EBCA6B) & mask
        state = state ^ (state >> 13)
    return (state & 0xFFFFFF).float() / 0x1000000  # 24 bits fit a float32 exactly


def noise(surface: Surface, length_u: float, length_v: float) -> Column:
    """Smooth noise in [-1, 1] with features of these lengths, faded where pixels are larger."""
    if bool((surface.seed == EVEN).all()):
        return torch.zeros_like(surface.uv[:, 0])
    place, tones, fade = _corner_tones(
        surface.uv, surface.pixel, surface.seed, (length_u, length_v)
    )
    low = torch.lerp(tones[0], tones[1], place[0])
    high = torch.lerp(tones[2], tones[3], place[0])
    return (2 * torch.lerp(low, high, place[1]) - 1) * fade


@accelerated
def _corner_tones(
    uv: Pairs, pixel: Pairs, seed: Int[Tensor, " n"], length: tuple[float, float]
) -> tuple[Float[Tensor, "2 n"], Float[Tensor, "4 n"], Column]:
    """Of points on a grid with cells of these lengths: the smoothed place in their cell, the random
    tones of its corners, and the fade for large pixels."""
    size = uv.new_tensor(length)
    place = uv / size
    corner = place.floor()
    t = place - corner
    t = t * t * (3 - 2 * t)
    i, j = corner.long().unbind(1)
    tones = [chance(i + di, j + dj, seed) for dj in (0, 1) for di in (0, 1)]
    return t.T, torch.stack(tones), _fade(pixel / size)


def cells(x: Pairs, width: Pairs, seed: Int[Tensor, " n"]) -> Column:
    """A random tone in [-1, 1] per cell of a unit grid, faded where pixels are larger."""
    if bool((seed == EVEN).all()):
        return torch.zeros_like(x[:, 0])
    return (2 * chance(*x.floor().long().unbind(1), seed) - 1) * _fade(width)


def _fade(width: Pairs) -> Column:
    return 1 / (1 + width.amax(1) ** 2)


def _pick(colors: Float[Tensor, "n k 3"], share: Column) -> Rgb:
    """One of k colours per row, chosen by a number in [0, 1)."""
    row = torch.arange(len(share), device=share.device)
    return colors[row, (share * colors.shape[1]).long()]


# ---- walls ---------------------------------------------------------------------------------------


def _plaster(s: Surface) -> Rgb:
    return tone(s.main, 0.03 * noise(s, 0.6, 0.5) + 0.02 * noise(s, 0.09, 0.07))


def _limewash(s: Surface) -> Rgb:
    cloud = 0.5 * noise(s, 0.9, 0.6) + 0.3 * noise(s, 0.3, 0.25) + 0.2 * noise(s, 0.1, 0.1)
    return mix(s.main, s.second, 0.35 + 0.35 * cloud)


def _stripes(s: Surface) -> Rgb:
    x, width = (both[:, 0] for both in s.repeats)
    color = mix(_plaster(s), s.second, 0.75 * pulse(x, 0.5, width))
    return mix(color, s.accent, 0.6 * pulse(x + 0.03, 0.06, width))


def _plaid(s: Surface) -> Rgb:
    x, width = s.repeats
    bands = pulse(x[:, 0], 0.5, width[:, 0]) + pulse(x[:, 1], 0.5, width[:, 1])
    return mix(s.main, s.second, 0.4 * bands)


def _dots(s: Surface) -> Rgb:
    (u, v), width = s.repeats[0].unbind(1), s.repeats[1].amax(1)
    u = u + 0.5 * (v.floor() % 2)
    radius = torch.stack([u - u.floor() - 0.5, v - v.floor() - 0.5], 1).norm(dim=1)
    mean = math.pi * DOT_RADIUS**2
    share = mean + (1 - above(radius, DOT_RADIUS, width) - mean) / (1 + width**2)
    return mix(_plaster(s), s.second, share)


def _lattice(s: Surface) -> Rgb:
    (u, v), width = s.repeats[0].unbind(1), s.repeats[1].sum(1)
    diagonal = torch.maximum(pulse(u + v, 0.1, width), pulse(u - v, 0.1, width))
    return mix(_plaster(s), s.second, 0.85 * diagonal)


def _wainscot(s: Surface) -> Rgb:
    """Paint above, grooved panelling below a dado rail."""
    v, width, board = s.uv[:, 1], s.pixel[:, 1], 0.14
    groove = pulse(s.uv[:, 0] / board, GAP / board, s.pixel[:, 0] / board)
    color = mix(tone(s.second, -0.35 * groove), _plaster(s), above(v, DADO, width))
    rail, shade = between(v, DADO - 0.05, DADO, width), between(v, DADO - 0.08, DADO - 0.05, width)
    return tone(mix(color, s.second, rail), 0.12 * rail - 0.25 * shade)


def _two_tone(s: Surface) -> Rgb:
    v, width = s.uv[:, 1], s.pixel[:, 1]
    color = tone(mix(s.second, s.main, above(v, BAND, width)), 0.03 * noise(s, 0.5, 0.5))
    return mix(color, s.accent, between(v, BAND, BAND + 0.07, width))


def _moulding(s: Surface) -> Rgb:
    """Plain panels framed by a raised moulding."""
    u, v, width = s.uv[:, 0] % 1.1, s.uv[:, 1], s.pixel.amax(1)
    inside = torch.stack([u - 0.12, 0.98 - u, v - 0.35, 2.1 - v]).amin(0)
    light, dark = between(inside, 0.0, 0.025, width), between(inside, 0.025, 0.045, width)
    return tone(_plaster(s), 0.12 * light - 0.18 * dark)


def _brick(s: Surface) -> Rgb:
    size = s.uv.new_tensor(BRICK)
    x, width = s.uv / size, s.pixel / size
    x = torch.stack([x[:, 0] + 0.5 * (x[:, 1].floor() % 2), x[:, 1]], 1)  # every other row shifted
    brick = tone(s.main, 0.16 * cells(x, width, s.seed) + 0.05 * noise(s, 0.03, 0.03))
    return mix(brick, s.second, 0.9 * joints(x, width, 0.05, 0.13))


def _tiles(s: Surface) -> Rgb:
    """Glazed tiles up to shoulder height under a bright line, paint above."""
    x, width, v, high = s.uv / TILE, s.pixel / TILE, s.uv[:, 1], s.pixel[:, 1]
    tile = tone(s.second, 0.05 * cells(x, width, s.seed))
    color = mix(tile, GROUT, joints(x, width, 0.05, 0.05))
    color = mix(color, _plaster(s), above(v, TILED, high))
    return mix(color, s.accent, between(v, TILED, TILED + 0.05, high))


def _boards(s: Surface) -> Rgb:
    """Vertical boards, longer than any wall is high."""
    return _long_boards(s.replace(uv=s.uv.flip(1), pixel=s.pixel.flip(1)), length=9.0)


# ---- floors --------------------------------------------------------------------------------------


def _planks(s: Surface) -> Rgb:
    return _long_boards(s, length=1.4)


def _long_boards(s: Surface, length: float) -> Rgb:
    """Boards along u with staggered ends and a fine grain, each of its own tone."""
    size = torch.stack([torch.full_like(s.finish.scale, length), s.finish.scale], 1)
    x, width = s.uv / size, s.pixel / size
    stagger = chance(x[:, 1].floor().long(), s.seed)
    x = torch.stack([x[:, 0] + stagger, x[:, 1]], 1)
    board = tone(s.main, 0.10 * cells(x, width, s.seed) + 0.07 * noise(s, 0.5, 0.02))
    return tone(board, -0.55 * joints(x, width, GAP / length, GAP / s.finish.scale))


def _checker(s: Surface) -> Rgb:
    x, width = (both / 2 for both in s.repeats)  # one repeat is one square
    a, b = pulse(x[:, 0], 0.5, width[:, 0]), pulse(x[:, 1], 0.5, width[:, 1])
    marble = 0.05 * noise(s, 0.12, 0.12) + 0.04 * noise(s, 0.5, 0.4)
    return tone(mix(s.main, s.second, a * (1 - b) + b * (1 - a)), marble)


def _parquet(s: Surface) -> Rgb:
    """Squares of four strips each, laid crosswise."""
    x, width = s.repeats
    crosswise = (x.floor().sum(1) % 2 > 0)[:, None]
    x, width = torch.where(crosswise, x.flip(1), x), torch.where(crosswise, width.flip(1), width)
    four = x.new_tensor([1.0, 4.0])
    x, width = x * four, width * four
    strip = tone(s.main, 0.13 * cells(x, width, s.seed) + 0.04 * noise(s, 0.05, 0.05))
    return tone(strip, -0.4 * joints(x, width, 0.015, 0.06))


def _carpet(s: Surface) -> Rgb:
    pile = 0.06 * noise(s, 0.02, 0.02) + 0.05 * noise(s, 0.07, 0.06) + 0.03 * noise(s, 0.6, 0.5)
    return tone(s.main, pile)


def _slabs(s: Surface) -> Rgb:
    """Large stone slabs with pale joints."""
    x, width = s.repeats
    stone = 0.05 * cells(x, width, s.seed) + 0.06 * noise(s, 0.25, 0.2)
    return mix(tone(s.main, stone), GROUT, 0.7 * joints(x, width, 0.02, 0.02))


# ---- furniture, pictures, windows ----------------------------------------------------------------


def _wood(s: Surface) -> Rgb:
    return tone(s.main, 0.09 * noise(s, 0.35, 0.018) + 0.04 * noise(s, 0.8, 0.2))


def _fabric(s: Surface) -> Rgb:
    return tone(s.main, 0.05 * noise(s, 0.03, 0.03) + 0.05 * noise(s, 0.25, 0.2))


def _leaves(s: Surface) -> Rgb:
    return tone(s.main, 0.22 * noise(s, 0.06, 0.05) + 0.15 * noise(s, 0.025, 0.02))


def _plain(s: Surface) -> Rgb:
    return s.main


def _doors(s: Surface) -> Rgb:
    """Cupboard doors, one per repeat."""
    across = (s.extent[:, 0] / s.finish.scale).round().clamp(min=1)
    return _fronts(s, torch.stack([across, torch.ones_like(across)], 1))


def _drawers(s: Surface) -> Rgb:
    """Drawers one repeat high and about two repeats wide."""
    return _fronts(s, (s.extent / s.finish.scale[:, None] / s.uv.new_tensor([2.0, 1.0])).round())


def _fronts(s: Surface, count: Pairs) -> Rgb:
    """Panelled fronts with one knob each; `count` is their number across and up."""
    size, width = s.extent / count.clamp(min=1), s.pixel.amax(1)
    place = s.uv % size
    edge = torch.minimum(place, size - place).amin(1)
    shade = 0.6 * (1 - above(edge, 0.008, width)) + 0.22 * between(edge, 0.06, 0.075, width)
    knob = (place - size * size.new_tensor([0.5, 0.62])).norm(dim=1)
    return mix(tone(_wood(s), -shade), s.accent, 1 - above(knob, 0.025, width))


def _books(s: Surface) -> Rgb:
    """Shelves of books: spines of different colours and heights, and a few gaps."""
    level = (s.uv[:, 1] / s.finish.scale).floor().long()
    height = s.uv[:, 1] % s.finish.scale
    x = s.uv[:, 0] / BOOK + 7 * chance(level, s.seed)
    book = x.floor().long()
    pick, tall = chance(book, level, s.seed), chance(level, book, s.seed)
    color = mix(_pick(s.finish.colors, pick), WHITE, 0.8 * (pick * 37 % 1 < 0.25).float())
    color = tone(color, 0.5 * chance(book, s.seed, level) - 0.25)
    top = s.finish.scale * (0.62 + 0.25 * tall) * (tall > 0.08)
    color = mix(color, SHADOW, above(height, top, s.pixel[:, 1]))
    color = tone(color, -0.5 * pulse(x, 0.1, s.pixel[:, 0] / BOOK))
    return mix(color, s.main, 1 - above(height, 0.03, s.pixel[:, 1]))


def _picture(s: Surface) -> Rgb:
    """A framed print with a white mount: hills and a sun, blocks of colour, or rings."""
    prints = torch.stack([_hills(s), _blocks(s), _rings(s)], 1)
    color = mix(_pick(prints, chance(s.seed)), WHITE, border(s, 0.11))
    return mix(color, SHADOW, border(s, 0.035))


def _hills(s: Surface) -> Rgb:
    a, b, c = (chance(s.seed + k) for k in (1, 2, 3))
    x, y = (s.uv / s.extent).unbind(1)
    width = (s.pixel / s.extent).amax(1)
    sky = mix(mix(s.second, WHITE, torch.full_like(a, 0.6)), s.accent, 0.5 * (1 - y))
    sun = torch.stack([0.25 + 0.5 * a, torch.full_like(a, 0.68)], 1) * s.extent
    color = mix(sky, s.accent, 1 - above((s.uv - sun).norm(dim=1), 0.07, s.pixel.amax(1)))
    for near, height in enumerate((0.50, 0.40, 0.27)):
        ridge = height + 0.07 * torch.sin(x * (5 + 3 * near + 4 * b) + 9 * c + 2 * near)
        color = mix(color, s.main * (1 - 0.25 * near), 1 - above(y, ridge, width))
    return color


def _blocks(s: Surface) -> Rgb:
    x, y = (5 * s.uv / s.extent).unbind(1)
    row = y.floor().long()
    block = (x + chance(row, s.seed)).floor().long() // 2
    white = torch.ones_like(s.finish.colors[:, :1]) * s.uv.new_tensor(WHITE)
    return _pick(torch.cat([s.finish.colors, white], 1), chance(block, row, s.seed))


def _rings(s: Surface) -> Rgb:
    a, b = chance(s.seed + 1), chance(s.seed + 2)
    centre = torch.stack([0.3 + 0.4 * a, 0.35 + 0.3 * b], 1) * s.extent
    radius, width = (s.uv - centre).norm(dim=1) / 0.16, s.pixel.amax(1) / 0.16
    color = mix(s.main, s.second, pulse(radius, 0.5, width))
    return mix(color, s.accent, 1 - above(radius, 0.5, width))


def _window(s: Surface) -> Rgb:
    """A bright sky over distant green behind white glazing bars."""
    y = s.uv[:, 1] / s.extent[:, 1]
    sky = mix(s.main, WHITE, (1.35 * (1 - y)).clamp(0, 1))
    trees = 0.24 + 0.10 * noise(s, 0.35, 9.0) + 0.04 * noise(s, 0.09, 9.0)
    view = mix(sky, s.second, 0.8 * (1 - above(y, trees, 0.05 + s.pixel[:, 1])))
    bar = above((s.uv - s.extent / 2).abs().amin(1), 0.02, s.pixel.amin(1))
    return mix(view, WHITE, torch.maximum(1 - bar, border(s, 0.06)))


def _rug(s: Surface) -> Rgb:
    """A border, a thin line, and a field of diamonds."""
    (u, v), width = s.repeats[0].unbind(1), s.repeats[1].sum(1)
    diamonds = pulse(u + v, 0.5, width) + pulse(u - v, 0.5, width)
    color = mix(mix(s.main, s.second, 0.35 * diamonds), s.accent, border(s, 0.22))
    color = mix(mix(color, s.main, border(s, 0.16)), s.second, border(s, 0.04))
    return tone(color, 0.05 * noise(s, 0.02, 0.02))


PATTERNS: dict[str, Callable[[Surface], Tensor]] = {
    "plaster": _plaster,
    "limewash": _limewash,
    "stripes": _stripes,
    "plaid": _plaid,
    "dots": _dots,
    "lattice": _lattice,
    "wainscot": _wainscot,
    "two_tone": _two_tone,
    "moulding": _moulding,
    "brick": _brick,
    "tiles": _tiles,
    "boards": _boards,
    "planks": _planks,
    "checker": _checker,
    "parquet": _parquet,
    "carpet": _carpet,
    "slabs": _slabs,
    "wood": _wood,
    "fabric": _fabric,
    "leaves": _leaves,
    "plain": _plain,
    "doors": _doors,
    "drawers": _drawers,
    "books": _books,
    "picture": _picture,
    "window": _window,
    "rug": _rug,
}
