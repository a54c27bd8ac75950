"""The furniture of rooms: twenty kinds of things, each built from primitives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from genworld.world.objects import PALETTE
from genworld.world.rooms.boxes import Box

Colour = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black"]
Size = Literal["small", "large"]
Material = Literal["matte", "shiny", "wooden"]
Place = Literal["wall", "centre", "seat", "top", "floor", "hung"]
"""Where a kind is put: its back to a wall; in the middle of a room; at a table or desk; on another thing; anywhere on
the floor; on a wall."""

COLOURS: tuple[Colour, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black")
SIZES: tuple[Size, ...] = ("small", "large")
MATERIALS: tuple[Material, ...] = ("matte", "shiny", "wooden")

TINTS: dict[str, tuple[float, float, float]] = {
    **PALETTE,
    "white": (0.96, 0.96, 0.94),
    "black": (0.10, 0.10, 0.11),
    "timber": (0.45, 0.30, 0.18),
    "metal": (0.62, 0.64, 0.66),
    "dark": (0.16, 0.16, 0.18),
    "linen": (0.93, 0.92, 0.88),
    "earth": (0.35, 0.25, 0.18),
}
"""Display RGB of the colours that things are named by, and of the parts that have no name."""


class Part(NamedTuple):
    """A primitive of a thing, in the thing's own axes: x to its right, y to its front, z up from its base.

    `dims` are as in `genworld.world.primitives`, about the primitive's axis, which lies along `axis`. `tint` is a name
    in `TINTS`, or "own": the thing's colour and material.
    """

    shape: Literal["sphere", "cube", "cylinder", "cone", "torus"]
    dims: tuple[float, float, float]
    centre: tuple[float, float, float]
    tint: str = "own"
    axis: Literal["y", "z"] = "z"


@dataclass(frozen=True)
class Kind:
    """What all things of a name have in common.

    Attributes:
        name: the noun.
        place: where it is put.
        small: width, depth and height in metres of the small size.
        large: of the large one.
        parts: builds it from width, depth and height.
        holds: whether things may be put on it.
    """

    name: str
    place: Place
    small: tuple[float, float, float]
    large: tuple[float, float, float]
    parts: Callable[[float, float, float], list[Part]]
    holds: bool = False

    def extent(self, size: Size) -> tuple[float, float, float]:
        """Width, depth and height in metres."""
        return self.small if size == "small" else self.large


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One piece of furniture.

    Attributes:
        kind: key of `KINDS`.
        colour: of most of its surface.
        size: relative to others of its kind.
        material: of the parts in its own colour.
        position: middle of its base, metres.
        yaw: turn about the vertical, radians; at 0 its front faces +y.
        room: index of its room.
        on: index of the thing it stands on, None for the floor or a wall.
    """

    kind: str
    colour: Colour
    size: Size
    material: Material
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0
    room: int = 0
    on: int | None = None

    @property
    def extent(self) -> tuple[float, float, float]:
        """Width, depth and height along its own axes, metres."""
        return KINDS[self.kind].extent(self.size)

    @property
    def parts(self) -> list[Part]:
        """Its primitives, in its own axes."""
        return KINDS[self.kind].parts(*self.extent)

    @cached_property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """World from own axes."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    @property
    def front(self) -> tuple[float, float]:
        """The way it faces, unit length."""
        return -math.sin(self.yaw), math.cos(self.yaw)

    @cached_property
    def box(self) -> Box:
        """The exact box along the world's axes around all its primitives."""
        return _around(self.parts, self.rotation, np.asarray(self.position))

    @property
    def own_box(self) -> Box:
        """The same along its own axes, its position at the origin."""
        return _own_box(self.kind, self.size)


@cache
def _own_box(kind: str, size: Size) -> Box:
    furniture = KINDS[kind]
    return _around(furniture.parts(*furniture.extent(size)), np.eye(3), np.zeros(3))


def _around(parts: Sequence[Part], rotation: np.ndarray, position: np.ndarray) -> Box:
    lows, highs = zip(*(_bounds(part, rotation, position) for part in parts), strict=True)
    return Box(np.min(lows, axis=0), np.max(highs, axis=0))


def _bounds(part: Part, rotation: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    turn = rotation @ AXES[part.axis]
    centre = rotation @ part.centre + position
    a, b, c = part.dims
    along = turn[:, 2]
    round_ = np.sqrt(np.maximum(1 - along * along, 0))  # how far a disc about the axis reaches along each axis
    if part.shape == "sphere":
        half = np.full(3, a)
    elif part.shape == "cube":
        half = np.abs(turn) @ part.dims
    elif part.shape == "torus":
        half = a * round_ + b
    else:
        half = a * round_ + c * np.abs(along)
    low, high = centre - half, centre + half
    if part.shape == "cone":  # a disc at one end, a point at the other
        base, apex = centre - c * along, centre + c * along
        low, high = np.minimum(base - a * round_, apex), np.maximum(base + a * round_, apex)
    return low, high


AXES: dict[str, Float[np.ndarray, "3 3"]] = {
    "z": np.eye(3),
    "y": np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]),
}
"""A part's own axes from its primitive's: the primitive's z becomes `axis`."""


def _slab(w: float, d: float, low: float, high: float, tint: str = "own", at: tuple[float, float] = (0, 0)) -> Part:
    return Part("cube", (w / 2, d / 2, (high - low) / 2), (*at, (low + high) / 2), tint)


def _post(radius: float, low: float, high: float, tint: str = "own", at: tuple[float, float] = (0, 0)) -> Part:
    return Part("cylinder", (radius, radius, (high - low) / 2), (*at, (low + high) / 2), tint)


def _legs(w: float, d: float, height: float, thick: float, tint: str = "timber") -> list[Part]:
    x, y = w / 2 - thick / 2, d / 2 - thick / 2
    return [_slab(thick, thick, 0, height, tint, (i * x, j * y)) for i in (-1, 1) for j in (-1, 1)]


def _table(w: float, d: float, h: float) -> list[Part]:
    return [_slab(w, d, h - 0.06, h), *_legs(w - 0.06, d - 0.06, h - 0.06, 0.07)]


def _desk(w: float, d: float, h: float) -> list[Part]:
    chest = _slab(0.3 * w, d - 0.06, 0, h - 0.05, "own", (0.34 * w, 0))
    side = _slab(0.05, d - 0.06, 0, h - 0.05, "timber", (-w / 2 + 0.05, 0))
    back = _slab(w - 0.1, 0.03, 0.3 * h, h - 0.05, "timber", (0, -d / 2 + 0.05))
    knobs = [_slab(0.1, 0.02, z, z + 0.03, "dark", (0.34 * w, d / 2 - 0.02)) for z in (0.3 * h, 0.65 * h)]
    return [_slab(w, d, h - 0.05, h), chest, side, back, *knobs]


def _chair(w: float, d: float, h: float) -> list[Part]:
    seat = 0.5 * h
    return [
        _slab(w, d, seat - 0.05, seat),
        _slab(w, 0.05, seat, h, "own", (0, -d / 2 + 0.025)),
        *_legs(w, d, seat - 0.05, 0.045),
    ]


def _stool(w: float, d: float, h: float) -> list[Part]:
    spots = [(0.3 * w * math.cos(a), 0.3 * w * math.sin(a)) for a in (0.5, 2.6, 4.7)]
    return [_post(w / 2, h - 0.06, h), *(_post(0.022, 0, h - 0.06, "timber", spot) for spot in spots)]


def _sofa(w: float, d: float, h: float) -> list[Part]:
    seat, arm = 0.5 * h, 0.16
    arms = [_slab(arm, d, 0.04, 0.75 * h, "own", (side * (w - arm) / 2, 0)) for side in (-1, 1)]
    back = _slab(w - 2 * arm, 0.2, 0.04, h, "own", (0, -d / 2 + 0.1))
    inner = (w - 2 * arm) / 2
    cushions = [_slab(inner - 0.03, d - 0.22, 0.12, seat, "own", (side * inner / 2, 0.1)) for side in (-1, 1)]
    return [*arms, back, *cushions, _slab(w - 0.1, d - 0.1, 0, 0.1, "dark")]


def _bed(w: float, d: float, h: float) -> list[Part]:
    top = 0.5
    head = _slab(w, 0.06, 0, h, "timber", (0, -d / 2 + 0.03))
    frame = _slab(w, d - 0.06, 0.08, 0.28, "timber", (0, 0.03))
    mattress = _slab(w - 0.06, d - 0.12, 0.28, top - 0.04, "linen", (0, 0.03))
    cover = _slab(w - 0.02, 0.66 * d, top - 0.16, top, "own", (0, 0.16 * d))
    pillow = _slab(0.72 * w, 0.32, top - 0.04, top + 0.08, "linen", (0, -d / 2 + 0.28))
    return [head, frame, mattress, cover, pillow]


def _lamp(w: float, d: float, h: float) -> list[Part]:
    return [
        _post(0.36 * w, 0, 0.03, "dark"),
        _post(0.02, 0.03, h - 0.2 * h, "metal"),
        Part("cone", (w / 2, w / 2, 0.14 * h), (0, 0, h - 0.14 * h)),
    ]


def _shelf(w: float, d: float, h: float) -> list[Part]:
    sides = [_slab(0.04, d, 0, h, "own", (side * (w / 2 - 0.02), 0)) for side in (-1, 1)]
    count = 4 if h < 1.5 else 5
    boards = [_slab(w - 0.08, d, z, z + 0.04) for z in np.linspace(0.04, h - 0.04, count).tolist()]
    return [*sides, _slab(w - 0.08, 0.02, 0, h, "timber", (0, -d / 2 + 0.01)), *boards]


def _cabinet(w: float, d: float, h: float) -> list[Part]:
    body = _slab(w, d - 0.03, 0, h, "own", (0, -0.015))
    seam = _slab(0.015, 0.01, 0.06, h - 0.05, "dark", (0, d / 2 - 0.025))
    knobs = [Part("sphere", (0.02, 0.02, 0.02), (x, d / 2 - 0.02, 0.6 * h), "metal") for x in (-0.06, 0.06)]
    return [body, seam, *knobs]


def _plant(w: float, d: float, h: float) -> list[Part]:
    pot = 0.34 * h
    crown = w / 2
    balls = [
        Part("sphere", (0.62 * crown,) * 3, (0.38 * crown * x, 0.38 * crown * y, z))
        for x, y, z in (
            (1, 0.2, pot + 0.45 * (h - pot)),
            (-0.7, 0.7, pot + 0.5 * (h - pot)),
            (-0.3, -1, pot + 0.4 * (h - pot)),
        )
    ]
    top = Part("cone", (0.55 * crown, 0.55 * crown, 0.3 * (h - pot)), (0, 0, h - 0.3 * (h - pot)))
    return [_post(0.5 * crown, 0, pot, "earth"), _post(0.03, pot, h - 0.5 * (h - pot), "timber"), *balls, top]


def _bin(w: float, d: float, h: float) -> list[Part]:
    rim = 0.04 * w
    return [
        _post(0.46 * w, 0, h - rim),
        Part("torus", (w / 2 - rim, rim, rim), (0, 0, h - rim)),
        _post(0.4 * w, h - rim, h - 0.5 * rim, "dark"),
    ]


def _box(w: float, d: float, h: float) -> list[Part]:
    return [_slab(w, d, 0, h), _slab(0.16 * w, d + 0.004, 0.3 * h, h + 0.003, "earth")]


def _ball(w: float, d: float, h: float) -> list[Part]:
    return [Part("sphere", (w / 2, w / 2, w / 2), (0, 0, w / 2))]


def _vase(w: float, d: float, h: float) -> list[Part]:
    neck = _post(0.2 * w, 0.5 * h, h - 0.08 * w)
    return [
        _post(0.3 * w, 0, 0.05 * h),
        Part("sphere", (w / 2, w / 2, w / 2), (0, 0, 0.04 * h + w / 2)),
        neck,
        Part("torus", (0.2 * w, 0.08 * w, 0.08 * w), (0, 0, h - 0.08 * w)),
    ]


def _tv(w: float, d: float, h: float) -> list[Part]:
    frame = Part("cube", (w / 2, d / 2 - 0.005, h / 2), (0, -0.005, h / 2), "dark")
    return [frame, Part("cube", (w / 2 - 0.04, d / 2, h / 2 - 0.04), (0, 0, h / 2))]


def _clock(w: float, d: float, h: float) -> list[Part]:
    r = w / 2
    rim = Part("cylinder", (r, r, d / 2 - 0.008), (0, -0.008, r), "dark", "y")
    face = Part("cylinder", (0.86 * r, 0.86 * r, d / 2 - 0.004), (0, -0.004, r), "own", "y")
    hands = [
        Part("cube", (0.05 * r, d / 2, 0.3 * r), (0, 0, 1.3 * r), "metal"),
        Part("cube", (0.22 * r, d / 2, 0.05 * r), (0.22 * r, 0, r), "metal"),
    ]
    return [rim, face, *hands]


def _fridge(w: float, d: float, h: float) -> list[Part]:
    body = _slab(w, d - 0.05, 0, h, "own", (0, -0.025))
    seam = _slab(w + 0.002, d - 0.08, 0.62 * h, 0.635 * h, "dark", (0, -0.009))
    handles = [
        _slab(0.03, 0.05, low * h, high * h, "metal", (-0.4 * w, d / 2 - 0.025))
        for low, high in ((0.3, 0.58), (0.68, 0.85))
    ]
    return [body, seam, *handles]


def _sink(w: float, d: float, h: float) -> list[Part]:
    body = _slab(w, d, 0, h - 0.04)
    top = _slab(w, d, h - 0.04, h, "metal")
    basin = _slab(0.64 * w, 0.56 * d, h, h + 0.006, "linen", (0, 0.05 * d))
    tap = _post(0.02, h, h + 0.22, "metal", (0, -0.36 * d))
    spout = _slab(0.03, 0.16, h + 0.2, h + 0.23, "metal", (0, -0.36 * d + 0.07))
    return [body, top, basin, tap, spout]


def _stove(w: float, d: float, h: float) -> list[Part]:
    plates = [
        _post(0.16 * min(w, d), h, h + 0.015, "metal", (x * 0.24 * w, y * 0.24 * d)) for x in (-1, 1) for y in (-1, 1)
    ]
    door = _slab(0.7 * w, 0.03, 0.25 * h, 0.68 * h, "dark", (0, d / 2 - 0.015))
    return [
        _slab(w, d - 0.03, 0, h - 0.03, "own", (0, -0.015)),
        _slab(w, d - 0.03, h - 0.03, h, "dark", (0, -0.015)),
        door,
        *plates,
    ]


def _rug(w: float, d: float, h: float) -> list[Part]:
    return [_slab(w, d, 0, h), _slab(w - 0.2, d - 0.2, h, h + 0.003, "linen"), _slab(w - 0.26, d - 0.26, h, h + 0.006)]


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("table", "centre", (0.8, 0.8, 0.70), (1.5, 0.95, 0.78), _table, holds=True),
        Kind("chair", "seat", (0.40, 0.40, 0.76), (0.54, 0.52, 1.06), _chair),
        Kind("sofa", "wall", (1.35, 0.78, 0.72), (2.1, 0.95, 0.88), _sofa),
        Kind("bed", "wall", (0.95, 1.85, 0.85), (1.65, 2.1, 1.1), _bed),
        Kind("lamp", "wall", (0.34, 0.34, 1.2), (0.48, 0.48, 1.75), _lamp),
        Kind("shelf", "wall", (0.7, 0.3, 1.15), (1.15, 0.36, 1.95), _shelf),
        Kind("cabinet", "wall", (0.55, 0.42, 0.6), (1.1, 0.5, 0.95), _cabinet, holds=True),
        Kind("desk", "wall", (1.0, 0.58, 0.70), (1.5, 0.75, 0.78), _desk, holds=True),
        Kind("stool", "seat", (0.30, 0.30, 0.42), (0.42, 0.42, 0.68), _stool),
        Kind("plant", "floor", (0.36, 0.36, 0.6), (0.6, 0.6, 1.25), _plant),
        Kind("bin", "floor", (0.25, 0.25, 0.3), (0.38, 0.38, 0.58), _bin),
        Kind("box", "floor", (0.24, 0.20, 0.17), (0.48, 0.40, 0.36), _box),
        Kind("ball", "floor", (0.20, 0.20, 0.20), (0.38, 0.38, 0.38), _ball),
        Kind("vase", "top", (0.16, 0.16, 0.28), (0.25, 0.25, 0.48), _vase),
        Kind("tv", "hung", (0.75, 0.08, 0.48), (1.25, 0.08, 0.75), _tv),
        Kind("fridge", "wall", (0.58, 0.6, 1.35), (0.78, 0.7, 1.95), _fridge),
        Kind("sink", "wall", (0.6, 0.5, 0.82), (1.05, 0.6, 0.94), _sink),
        Kind("rug", "floor", (1.1, 0.75, 0.012), (1.9, 1.35, 0.012), _rug),
        Kind("stove", "wall", (0.46, 0.5, 0.82), (0.8, 0.64, 0.94), _stove),
        Kind("clock", "hung", (0.26, 0.05, 0.26), (0.46, 0.05, 0.46), _clock),
    )
}
"""The twenty kinds."""
