"""What is true about the things of a floor: the ground that everything said about it stands on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from genworld.world.rooms.floor import Floor
from genworld.world.rooms.furniture import Thing

Direction = Literal["left", "right", "front", "behind"]
DIRECTIONS: tuple[Direction, ...] = ("left", "right", "front", "behind")
_MIDDLES: dict[Direction, float] = {"front": 0.0, "left": math.pi / 2, "right": -math.pi / 2, "behind": math.pi}

NEXT = 0.40
"""Metres between two things that are called next to one another."""
APART = 0.80
"""Metres between two things that are said not to be; in between, nothing is said."""

_SECTOR = math.radians(33)  # a direction further from an axis of the person has no name
_BESIDE = (0.2, 0.6)  # metres from a thing to who stands beside it
_LEAST_AWAY = 0.5  # metres: what is nearer than this has no direction
_FEWEST_SPOTS = 3


@dataclass(frozen=True)
class Situation:
    """Where somebody stands and which way they look.

    Attributes:
        text: in words.
        position: metres, scene axes.
        heading: radians from +x towards +y.
    """

    text: str
    position: tuple[float, float]
    heading: float


class Facts:
    """Relations between the things of a floor, each worked out once."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.things = floor.things

    def __len__(self) -> int:
        return len(self.things)

    @cached_property
    def kinds(self) -> Counter[str]:
        """How many things of each kind."""
        return Counter(thing.kind for thing in self.things)

    @cached_property
    def colours(self) -> Counter[str]:
        """How many things of each colour."""
        return Counter(thing.colour for thing in self.things)

    @cached_property
    def coloured(self) -> Counter[tuple[str, str]]:
        """How many things of each colour and kind."""
        return Counter((thing.colour, thing.kind) for thing in self.things)

    @cached_property
    def gaps(self) -> Float[np.ndarray, "N N"]:
        """Metres between boxes, 0 where they touch; infinite between rooms."""
        low = np.stack([thing.box.lower for thing in self.things])
        high = np.stack([thing.box.upper for thing in self.things])
        apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None]).clip(0)
        room = np.array([thing.room for thing in self.things])
        return np.where(room[:, None] == room, np.linalg.norm(apart, axis=-1), np.inf)

    @cached_property
    def centres(self) -> Float[np.ndarray, "N 3"]:
        """Middles of the boxes, metres."""
        return np.stack([thing.box.centre for thing in self.things])

    @cached_property
    def standing(self) -> Bool[np.ndarray, " N"]:
        """What stands on the floor."""
        return np.array([thing.on is None and thing.position[2] < 0.1 for thing in self.things])

    @cached_property
    def next_to(self) -> Bool[np.ndarray, "N N"]:
        """Things on the floor that stand next to one another."""
        both = self.standing[:, None] & self.standing
        return (self.gaps <= NEXT) & both & ~np.eye(len(self), dtype=bool)

    @cached_property
    def apart(self) -> Bool[np.ndarray, "N N"]:
        """Things on the floor that surely do not."""
        return (self.gaps >= APART) & self.standing[:, None] & self.standing

    def on(self, index: int) -> list[int]:
        """What stands on a thing."""
        return [i for i, thing in enumerate(self.things) if thing.on == index]

    def support(self, index: int) -> str:
        """What a thing is on: the name of a kind, "floor" or "wall"."""
        thing = self.things[index]
        if thing.on is not None:
            return self.things[thing.on].kind
        return "floor" if self.standing[index] else "wall"

    def same_room(self, one: int, other: int) -> bool:
        """Whether two things are in one room."""
        return self.things[one].room == self.things[other].room

    def beside(self, index: int) -> Float[np.ndarray, "K 2"]:
        """Where somebody can stand who is beside a thing."""
        return self._beside[index]

    @cached_property
    def _beside(self) -> list[Float[np.ndarray, "K 2"]]:
        return [self._around(thing) for thing in self.things]

    def _around(self, thing: Thing) -> Float[np.ndarray, "K 2"]:
        places, box = self._places[thing.room], thing.box
        apart = np.maximum(box.lower[:2] - places, places - box.upper[:2]).clip(0)
        distance = np.hypot(*apart.T)
        return places[(distance >= _BESIDE[0]) & (distance <= _BESIDE[1])]

    @cached_property
    def _places(self) -> list[Float[np.ndarray, "K 2"]]:
        plan = self.floor.plan
        return [self.floor.ground.within(plan.interior(room)) for room in range(len(plan.rooms))]

    def directions_from(self, beside: int, facing: int) -> list[Direction | None]:
        """Where each thing is for somebody beside one thing who faces another.

        None where that depends on which side they stand, or is too slanting to name, or too near, or in another room.
        """
        spots = self.beside(beside)
        if len(spots) < _FEWEST_SPOTS or not self.same_room(beside, facing):
            return [None] * len(self)
        ahead = self.centres[facing, :2] - spots
        if np.hypot(*ahead.T).min() < _LEAST_AWAY:
            return [None] * len(self)
        heading = np.arctan2(ahead[:, 1], ahead[:, 0])
        room = self.things[beside].room
        named = [i for i, thing in enumerate(self.things) if thing.room == room and i not in (beside, facing)]
        ways = dict(zip(named, _common(spots, heading, self.centres[named, :2]), strict=True))
        return [ways.get(i) for i in range(len(self))]


def direction(position: tuple[float, float], heading: float, target: tuple[float, float]) -> Direction | None:
    """Where a point is for somebody; None when too near or too slanting to name."""
    return _common(np.array([position]), np.array([heading]), np.array([target]))[0]


def _common(
    spots: Float[np.ndarray, "K 2"], heading: Float[np.ndarray, " K"], targets: Float[np.ndarray, "N 2"]
) -> list[Direction | None]:
    """Where each target is from all of the spots alike; None where that differs, or it is too near or too slanting."""
    way = targets[:, None] - spots
    turn = np.arctan2(way[..., 1], way[..., 0]) - heading  # positive to the left
    within = np.cos(turn[..., None] - np.array([*_MIDDLES.values()])) >= math.cos(_SECTOR)
    fits = within.all(axis=1) & (np.hypot(*way.T).T.min(axis=1) >= _LEAST_AWAY)[:, None]
    names = [*_MIDDLES]
    return [names[row.argmax()] if row.any() else None for row in fits]


def article(phrase: str) -> str:
    """The phrase with "a" or "an"."""
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def listed(parts: list[str]) -> str:
    """In a row: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def plural(kind: str) -> str:
    """The plural of a kind's name."""
    return {"box": "boxes", "shelf": "shelves", "bench": "benches"}.get(kind, f"{kind}s")


def name_of(thing: Thing) -> str:
    """Colour and kind."""
    return f"{thing.colour} {thing.kind}"
