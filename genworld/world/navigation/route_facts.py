"""What is true about a walk through a floor: the doors it takes, what it passes, and on which side they are.

All that an instruction says stands on this; nothing is said that depends on where exactly somebody turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from random import Random
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import shortest_path

from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.geodesic import Field
from genworld.world.navigation.occupancy import OccupancyMap
from genworld.world.navigation.place import Place, place_of_floor
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.language.facts import Direction, Facts, direction
from genworld.world.rooms.language.referring import Phrase, phrases

REACH = 1.0
"""Metres from a thing, seen from above, within which one is at it: those of the view points of HM3D's ObjectNav."""
PASS = 0.8
"""Metres from a thing within which one passes it."""
LATTICE = 0.25
"""Metres between places from which a thing is seen; nowhere between them is one further from one of them than this."""

_STEP = 0.05  # metres between the points at which a walk is looked at
_ENTERED = 0.3  # metres beyond a door's middle, where one stands having come through
_APART = 0.5  # metres on the walk between two things that are told
_AWAY = 0.15  # metres further from a thing that is passed, before and after
_EQUAL = 0.02  # metres: as near as at the nearest
_CROSSED = 0.3  # metres on a rug that make a crossing
_LEVEL = 0.05  # metres: what is no higher is walked over
_BACK = 1.0  # metres: the door just come through is no choice
_SECTOR = math.radians(33)
_PERSON = CameraConfig().height


def lattice_of(ground: OccupancyMap) -> Float[np.ndarray, "K 2"]:
    """Places of the largest free area of a map that lie `LATTICE` apart, metres."""
    places = ground.places()
    every = max(1, round(LATTICE / ground.cell))
    return places[(np.floor(ground.grid(places)).astype(int) % every == 0).all(-1)]


def gaps_to(
    places: Float[np.ndarray, "K 2"], lower: Float[np.ndarray, " 3"], upper: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, " K"]:
    """Metres from places to a box, seen from above; 0 on it."""
    return np.hypot(*np.maximum(lower[:2] - places, places - upper[:2]).clip(0).T)


class Surroundings:
    """A floor, its free ground, and from where its things are seen.

    Attributes:
        floor: the floor.
        place: its free ground.
        facts: what is true about its things.
    """

    def __init__(self, floor: Floor, place: Place | None = None) -> None:
        self.floor, self.place = floor, place or place_of_floor(floor)
        self.facts = Facts(floor)
        self._sights: dict[int, Float[np.ndarray, "K 2"]] = {}
        self._fields: dict[int, Field] = {}

    @cached_property
    def lattice(self) -> Float[np.ndarray, "K 2"]:
        """Free places that lie `LATTICE` apart, metres."""
        return lattice_of(self.place.map)

    @cached_property
    def doors_between(self) -> Float[np.ndarray, "R R"]:
        """How many doors lead from room to room."""
        count = len(self.floor.plan.rooms)
        joined = np.zeros((count, count))
        for door in self.floor.plan.doors:
            joined[door.rooms] = 1
        return shortest_path(joined, directed=False, unweighted=True)

    def doors_of(self, room: int) -> list[int]:
        """The doors of a room."""
        return [i for i, door in enumerate(self.floor.plan.doors) if room in door.rooms]

    def room_of(self, places: Float[np.ndarray, "K 2"]) -> np.ndarray:
        """The room of each place."""
        rooms = np.array(self.floor.plan.rooms)
        low, high = places[:, None] >= rooms[None, :, :2], places[:, None] <= rooms[None, :, 2:]
        return (low & high).all(-1).argmax(-1)

    def gaps(self, places: Float[np.ndarray, "K 2"], index: int) -> Float[np.ndarray, " K"]:
        """Metres from places to a thing, seen from above; 0 on it."""
        box = self.floor.things[index].box
        return gaps_to(places, box.lower, box.upper)

    def sights(self, index: int) -> Float[np.ndarray, "K 2"]:
        """Places on the lattice, in the thing's room and in its reach, from which its middle is seen."""
        if index not in self._sights:
            near = self.lattice[self.gaps(self.lattice, index) <= REACH]
            near = near[self.room_of(near) == self.floor.things[index].room]
            self._sights[index] = near[self._seen(near, index)]
        return self._sights[index]

    def field(self, index: int) -> Field:
        """Distances to the nearest of the places from which a thing is seen."""
        if index not in self._fields:
            goals = [(float(x), float(y)) for x, y in self.sights(index).tolist()]
            self._fields[index] = self.place.geodesics.toward(goals)
        return self._fields[index]

    def _seen(self, places: Float[np.ndarray, "K 2"], index: int) -> Bool[np.ndarray, " K"]:
        """Whether nothing's box is in the way from the eyes to the middle of a thing."""
        others = [thing.box for i, thing in enumerate(self.floor.things) if i != index]
        if not others or not len(places):
            return np.ones(len(places), dtype=bool)
        low, high = (np.stack([getattr(box, end) for box in others]) for end in ("lower", "upper"))
        eyes = np.concatenate([places, np.full((len(places), 1), _PERSON)], axis=1)
        way = self.facts.centres[index] - eyes
        way = np.where(np.abs(way) < 1e-9, 1e-9, way)
        ends = np.stack([(low[None] - eyes[:, None]) / way[:, None], (high[None] - eyes[:, None]) / way[:, None]])
        enter, leave = ends.min(0).max(-1), ends.max(0).min(-1)
        return ~((enter < leave) & (leave > 0) & (enter < 1)).any(-1)

    def name(self, index: int, chance: Random, simple: bool = False) -> Phrase | None:
        """A short phrase that fits only this thing; `simple`: without another thing in it."""
        found = [phrase for phrase in phrases(self.facts, index) if not (simple and phrase.anchor)]
        few = [phrase for phrase in found if phrase.words <= found[0].words + 1]
        return chance.choice(few) if few else None


class Moment(NamedTuple):
    """Where somebody is on a walk, and looks which way."""

    position: tuple[float, float]
    heading: float


class Crossing(NamedTuple):
    """A door that is gone through, after so many metres, from room to room."""

    at: float
    door: int
    rooms: tuple[int, int]


@dataclass(frozen=True)
class Clause:
    """One thing to do on a walk.

    Attributes:
        verb: go through a door, pass a thing, cross a rug, stop at a thing.
        at: after how many metres.
        side: where the door or thing is for whoever has done what was said before; None where that is not certain.
        phrase: the thing.
        room: name of the room behind the door.
        door: "the door" or "the other door", where that can only be one; "" elsewhere.
        thing: index of the thing.
    """

    verb: Literal["door", "pass", "cross", "stop"]
    at: float
    side: Direction | None = None
    phrase: str = ""
    room: str = ""
    door: Literal["", "the door", "the other door"] = ""
    thing: int | None = None


class Way:
    """A walk from a start to a thing.

    Attributes:
        around: where it is.
        heading: at its start.
        points: every few centimetres, metres.
        at: metres walked at each.
    """

    def __init__(self, around: Surroundings, path: Float[np.ndarray, "K 2"], heading: float) -> None:
        self.around, self.heading = around, heading
        self.points = spaced(path, _STEP)
        self.at = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=-1)))

    @property
    def length(self) -> float:
        """Metres."""
        return float(self.at[-1])

    @cached_property
    def rooms(self) -> np.ndarray:
        """The room of each point."""
        return self.around.room_of(self.points)

    @cached_property
    def crossings(self) -> list[Crossing]:
        """The doors, in order."""
        doors = self.around.floor.plan.doors
        found = []
        for i in np.nonzero(np.diff(self.rooms))[0].tolist():
            rooms = int(self.rooms[i]), int(self.rooms[i + 1])
            options = [number for number, door in enumerate(doors) if set(door.rooms) == set(rooms)]
            door = min(options, key=lambda number: math.dist(doors[number].position, self.points[i]))
            found.append(Crossing(float(self.at[i]), door, rooms))
        return found

    def moment(self, at: float) -> Moment:
        """Where one is after so many metres, looking along the walk."""
        before, here, after = (
            np.array([np.interp(s, self.at, self.points[:, axis]) for axis in (0, 1)])
            for s in (at - 0.15, at, at + 0.15)
        )
        dx, dy = after - before
        return Moment((float(here[0]), float(here[1])), math.atan2(dy, dx))

    def entered(self, crossing: Crossing) -> list[Moment]:
        """Having come through a door: looking straight away from it, and along the walk."""
        door = self.around.floor.plan.doors[crossing.door]
        rooms = self.around.floor.plan.rooms
        across = 1 - door.along
        ahead = [0.0, 0.0]
        ahead[across] = math.copysign(1.0, rooms[crossing.rooms[1]].centre[across] - door.position[across])
        here = self.moment(crossing.at + _ENTERED)
        return [Moment(here.position, math.atan2(ahead[1], ahead[0])), here]

    def clauses(self, target: int, chance: Random, most_passed: int) -> list[Clause] | None:
        """What to do on the walk, in order; None where the target cannot be named.

        Args:
            target: index of the thing at its end.
            chance: for a choice of what is passed and of names.
            most_passed: how many things are told that are passed.
        """
        name = self.around.name(target, chance)
        if name is None:
            return None
        passed = self._chosen(target, chance, most_passed)
        ends = [0.0, *(crossing.at for crossing in self.crossings), self.length]
        found: list[Clause] = []
        for leg, (start, stop) in enumerate(pairwise(ends)):
            here = [clause for clause in passed if start < clause.at < stop]
            moments = [Moment(self._place(0), self.heading)] if leg == 0 else self.entered(self.crossings[leg - 1])
            moments += [self.moment(clause.at) for clause in here]
            found += here
            if leg < len(self.crossings):
                found.append(self._door(leg, moments))
            else:
                side = None if name.anchor else self._side(moments, target)
                found.append(Clause("stop", self.length, side, str(name), thing=target))
        return found

    def _place(self, index: int) -> tuple[float, float]:
        x, y = self.points[index].tolist()
        return x, y

    def _door(self, leg: int, moments: list[Moment]) -> Clause:
        crossing = self.crossings[leg]
        plan, names = self.around.floor.plan, self.around.floor.room_names
        came = None if leg == 0 else self.crossings[leg - 1].door
        others = [i for i in self.around.doors_of(crossing.rooms[0]) if i != crossing.door]
        choices = [i for i in others if i != came]
        side = common_direction(moments, plan.doors[crossing.door].position)
        for other in others:
            place = plan.doors[other].position
            if other == came and all(math.dist(place, moment.position) < _BACK for moment in moments):
                continue
            ways = {direction(moment.position, moment.heading, place) for moment in moments}
            if side in ways or None in ways:
                side = None
        door: Literal["", "the door", "the other door"] = ""
        if not choices:
            door = "the door" if came is None else "the other door"
        return Clause("door", crossing.at, side, room=names[crossing.rooms[1]], door=door)

    def _side(self, moments: list[Moment], index: int) -> Direction | None:
        x, y, _ = self.around.facts.centres[index].tolist()
        return common_direction(moments, (x, y))

    def _chosen(self, target: int, chance: Random, most: int) -> list[Clause]:
        """Some of the things on the way, apart from each other and from doors and ends, in order."""
        options = [clause for i in range(len(self.around.facts)) if i != target for clause in self._passes(i, chance)]
        ends = [0.0, self.length, *(crossing.at for crossing in self.crossings)]
        found: list[Clause] = []
        for clause in chance.sample(options, len(options)):
            taken = [*ends, *(other.at for other in found)]
            if len(found) < most and min(abs(clause.at - at) for at in taken) >= _APART:
                found.append(clause)
        return sorted(found, key=lambda clause: clause.at)

    def _passes(self, index: int, chance: Random) -> list[Clause]:
        thing = self.around.floor.things[index]
        if not self.around.facts.standing[index]:
            return []
        inside = np.nonzero(self.rooms == thing.room)[0]
        gaps = self.around.gaps(self.points[inside], index)
        if not len(inside) or len(inside) != inside[-1] - inside[0] + 1:
            return []
        flat = float(thing.box.size[2]) <= _LEVEL
        least = float(gaps.min())
        nearest = inside[gaps <= least + 1e-6]  # several where one walks along it
        at = float(self.at[nearest[len(nearest) // 2]])
        near = least == 0 and len(nearest) * _STEP >= _CROSSED if flat else least <= PASS
        # What is nearest at a door or an end is not passed: one only comes near it, or leaves it.
        alongside = self.at[inside[gaps <= least + _EQUAL]]
        between = self.at[inside[0]] + _APART <= alongside[0] and alongside[-1] <= self.at[inside[-1]] - _APART
        between = between and min(gaps[0], gaps[-1]) >= least + _AWAY
        name = self.around.name(index, chance, simple=True) if near and between else None
        if name is None:
            return []
        return [
            Clause("cross" if flat else "pass", at, None if flat else self._beside(at, index), str(name), thing=index)
        ]

    def _beside(self, at: float, index: int) -> Direction | None:
        """Left or right, where both the middle and the nearest point of a thing are there."""
        moment = self.moment(at)
        box = self.around.floor.things[index].box
        nearest = np.clip(moment.position, box.lower[:2], box.upper[:2])
        sides = {_flank(moment, place) for place in (nearest, box.centre[:2])}
        return sides.pop() if len(sides) == 1 else None


def _flank(moment: Moment, place: np.ndarray) -> Direction | None:
    x, y = place - moment.position
    turn = math.remainder(math.atan2(y, x) - moment.heading, 2 * math.pi)
    if abs(abs(turn) - math.pi / 2) > _SECTOR:
        return None
    return "left" if turn > 0 else "right"


def common_direction(moments: Sequence[Moment], place: tuple[float, float]) -> Direction | None:
    """Where a place is at all moments; None where they differ, or it is too near or too slanting to name."""
    ways = {direction(moment.position, moment.heading, place) for moment in moments}
    return ways.pop() if len(ways) == 1 else None


def spaced(corners: Float[np.ndarray, "K 2"], step: float) -> Float[np.ndarray, "M 2"]:
    """Points on a line through corners, `step` metres apart along it, its end included (nearer to the last but one)."""
    lengths = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=-1)))
    stops = np.append(np.arange(0.0, lengths[-1] - 1e-6, step), lengths[-1])
    return np.stack([np.interp(stops, lengths, corners[:, axis]) for axis in (0, 1)], axis=-1)
