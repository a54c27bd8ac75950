"""Floor plans: a rectangle divided into rooms, with a door in every dividing wall."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np

from genworld.world.rooms.boxes import Box

WALL = 0.12
"""Thickness of walls, metres."""
CEILING = 2.5
"""Height of rooms, metres."""
DOOR_WIDTH, DOOR_HEIGHT = 0.95, 2.05

_AREA = (12.0, 18.0)  # square metres per room
_LEAST_SIDE = 3.0
_LEAST_SHARED = DOOR_WIDTH + 0.5  # metres of common wall that a door needs
_TRIES = 3000
_FRAME = 0.05  # width of the frame around a door


class Rectangle(NamedTuple):
    """A rectangle along the axes, metres."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def size(self) -> tuple[float, float]:
        """Extent along x and y."""
        return self.x1 - self.x0, self.y1 - self.y0

    @property
    def centre(self) -> tuple[float, float]:
        """Its middle."""
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def shrunk(self, by: float) -> Rectangle:
        """Moved inwards on all sides."""
        return Rectangle(self.x0 + by, self.y0 + by, self.x1 - by, self.y1 - by)

    def contains(self, x: float, y: float) -> bool:
        """Whether a point lies in it."""
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1


@dataclass(frozen=True)
class Door:
    """An opening in the wall between two rooms.

    Attributes:
        rooms: indices of the two rooms.
        position: its middle, metres.
        along: axis (0 or 1) in which the wall runs.
    """

    rooms: tuple[int, int]
    position: tuple[float, float]
    along: int

    @property
    def box(self) -> Box:
        """The opening."""
        half = np.array([DOOR_WIDTH / 2, WALL / 2])[:: 1 if self.along == 0 else -1]
        low, high = np.array(self.position) - half, np.array(self.position) + half
        return Box(np.array([*low, 0.0]), np.array([*high, DOOR_HEIGHT]))


class Slab(NamedTuple):
    """A piece of the building."""

    box: Box
    frame: bool


@dataclass(frozen=True)
class FloorPlan:
    """Rooms, doors and the walls around them.

    Attributes:
        outline: the whole floor, to the middle of the outer walls.
        rooms: to the middle of their walls; `interior` is the usable part.
        doors: they connect all rooms.
        walls: boxes, door frames among them.
    """

    outline: Rectangle
    rooms: tuple[Rectangle, ...]
    doors: tuple[Door, ...]
    walls: tuple[Slab, ...]

    def interior(self, room: int) -> Rectangle:
        """A room without its walls."""
        return self.rooms[room].shrunk(WALL / 2)


class _Split(NamedTuple):
    """A dividing wall: runs along axis `along` at `at` on the other axis, from `start` to `stop`."""

    along: int
    at: float
    start: float
    stop: float


def draw_plan(chance: Random, num_rooms: int) -> FloorPlan:
    """A plan with so many rooms, each at least 3 m wide to the middle of its walls."""
    for _ in range(_TRIES):
        area = num_rooms * chance.uniform(*_AREA)
        aspect = chance.uniform(1.0, 1.4 if num_rooms == 1 else 1.8)
        width, depth = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        if chance.random() < 0.5:
            width, depth = depth, width
        outline = Rectangle(0.0, 0.0, round(width, 2), round(depth, 2))
        rooms: list[Rectangle] = []
        splits: list[_Split] = []
        _divide(chance, outline, num_rooms, rooms, splits)
        if min(min(room.size) for room in rooms) < _LEAST_SIDE:
            continue
        doors = [_door(chance, split, rooms) for split in splits]
        if all(doors):
            kept = tuple(door for door in doors if door)
            return FloorPlan(outline, tuple(rooms), kept, tuple(_walls(outline, splits, kept)))
    raise AssertionError(f"no plan with {num_rooms} rooms in {_TRIES} tries")


def _divide(chance: Random, whole: Rectangle, count: int, rooms: list[Rectangle], splits: list[_Split]) -> None:
    if count == 1:
        rooms.append(whole)
        return
    first = count // 2 if chance.random() < 0.5 else count - count // 2
    part = first / count + chance.uniform(-0.06, 0.06)
    width, depth = whole.size
    if width >= depth:
        x = round(whole.x0 + part * width, 2)
        splits.append(_Split(1, x, whole.y0, whole.y1))
        halves = Rectangle(whole.x0, whole.y0, x, whole.y1), Rectangle(x, whole.y0, whole.x1, whole.y1)
    else:
        y = round(whole.y0 + part * depth, 2)
        splits.append(_Split(0, y, whole.x0, whole.x1))
        halves = Rectangle(whole.x0, whole.y0, whole.x1, y), Rectangle(whole.x0, y, whole.x1, whole.y1)
    _divide(chance, halves[0], first, rooms, splits)
    _divide(chance, halves[1], count - first, rooms, splits)


def _door(chance: Random, split: _Split, rooms: list[Rectangle]) -> Door | None:
    """A door through a dividing wall, where two rooms share enough of it; None if no two do."""
    places: list[tuple[tuple[int, int], float, float]] = []
    for i, one in enumerate(rooms):
        for j, other in enumerate(rooms):
            ends = (one.y1, other.y0) if split.along == 0 else (one.x1, other.x0)
            if ends != (split.at, split.at):
                continue
            low = max(one[split.along], other[split.along], split.start)
            high = min(one[split.along + 2], other[split.along + 2], split.stop)
            if high - low >= _LEAST_SHARED:
                places.append(((i, j), low, high))
    if not places:
        return None
    pair, low, high = places[int(chance.random() * len(places))]
    margin = (DOOR_WIDTH + WALL) / 2 + _FRAME + 0.1
    middle = round(chance.uniform(low + margin, high - margin), 2)
    return Door(pair, (middle, split.at) if split.along == 0 else (split.at, middle), split.along)


def _walls(outline: Rectangle, splits: list[_Split], doors: tuple[Door, ...]) -> list[Slab]:
    x0, y0, x1, y1 = outline
    half = WALL / 2
    slabs = [Slab(_block(0, y, x0 - half, x1 + half, (0.0, CEILING)), False) for y in (y0, y1)] + [
        Slab(_block(1, x, y0 + half, y1 - half, (0.0, CEILING)), False) for x in (x0, x1)
    ]
    for split, door in zip(splits, doors, strict=True):
        middle = door.position[split.along]
        left, right = middle - DOOR_WIDTH / 2, middle + DOOR_WIDTH / 2
        start, stop = split.start + half, split.stop - half
        slabs += [
            Slab(_block(split.along, split.at, start, left, (0.0, CEILING)), False),
            Slab(_block(split.along, split.at, right, stop, (0.0, CEILING)), False),
            Slab(_block(split.along, split.at, left, right, (DOOR_HEIGHT, CEILING)), False),
        ]
        thick, lip, top = WALL + 0.04, 0.01, DOOR_HEIGHT + _FRAME  # the lip hides the ends of the walls
        slabs += [
            Slab(_block(split.along, split.at, left - _FRAME, left + lip, (0.0, top), thick), True),
            Slab(_block(split.along, split.at, right - lip, right + _FRAME, (0.0, top), thick), True),
            Slab(_block(split.along, split.at, left, right, (DOOR_HEIGHT - lip, top), thick), True),
        ]
    return slabs


def _block(along: int, at: float, start: float, stop: float, height: tuple[float, float], thick: float = WALL) -> Box:
    low, high = [start, at - thick / 2], [stop, at + thick / 2]
    if along == 1:
        low.reverse()
        high.reverse()
    return Box(np.array([*low, height[0]]), np.array([*high, height[1]]))
