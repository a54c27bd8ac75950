"""Episodes on floors of the world: a point, a thing, or a walk that an instruction describes.

A thing is only looked for by a phrase that fits it alone, and an instruction is read off a shortest way, so that every
clause is true (see `route_facts`). What can be drawn freely is drawn first: how many doors, which kind of thing, and on
which side the first door is. So none of them can be guessed from the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from jaxtyping import Float

from genworld.world.navigation.episode import Episode, Goal, Position
from genworld.world.navigation.geodesic import Field
from genworld.world.navigation.place import Place, point_goal
from genworld.world.navigation.route_facts import LATTICE, REACH, Clause, Surroundings, Way, spaced
from genworld.world.navigation.route_words import FIND, POINT, wordings
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.language.facts import DIRECTIONS

STEP = 0.25
"""Metres between the points of a reference path: a step forward of VLN-CE, as its ground truth has them."""

_TURNS = {"front": 0.0, "left": math.pi / 2, "right": -math.pi / 2, "behind": math.pi}
_SWAY = math.radians(25)  # how far from straight ahead, left, right or behind the first landmark may be
_TRIES = 40
_FEWEST_SIGHTS = 3


@dataclass(frozen=True, kw_only=True)
class RouteConfig:
    """What episodes of a floor are like.

    Attributes:
        points: how many go to a point.
        objects: to a thing.
        instructions: along a described walk.
        wordings: instructions to each walk.
        least: metres from start to goal on foot.
        most_doors: through how many doors a described walk leads at most.
        most_passed: how many things it is told to pass at most.
    """

    points: int = 2
    objects: int = 4
    instructions: int = 4
    wordings: int = 3
    least: float = 1.5
    most_doors: int = 4
    most_passed: int = 2

    def __post_init__(self) -> None:
        if min(self.points, self.objects, self.instructions, self.most_doors, self.most_passed) < 0:
            raise ValueError(f"expected counts of at least 0, got {self}")
        if self.wordings < 1 or self.least <= 0:
            raise ValueError(f"expected wordings >= 1 and least > 0 metres, got {self.wordings} and {self.least}")


def floor_episodes(
    floor: Floor, config: RouteConfig | None = None, seed: int = 0, place: Place | None = None
) -> list[Episode]:
    """Episodes of a floor, up to the configured numbers of each sort: a function of its arguments.

    Args:
        floor: the floor.
        config: what they are like.
        seed: of the choice among all that the floor has.
        place: its free ground, where that has been worked out.
    """
    config, around = config or RouteConfig(), Surroundings(floor, place)
    return [
        *_each(config.points, lambda i: _point(around, config, f"{seed}.{i}")),
        *_each(config.objects, lambda i: _object(around, config, f"{seed}.{i}")),
        *_each(config.instructions, lambda i: _instructed(around, config, f"{seed}.{i}")),
    ]


def thing_goal(around: Surroundings, index: int, instruction: str, seed: int = 0, least: float = 1.5) -> Episode:
    """A walk to one thing from a random start: a function of its arguments.

    Args:
        around: the floor.
        index: of the thing.
        instruction: what the agent is told.
        seed: of the start.
        least: metres from start to goal on foot.

    Raises:
        ValueError: the thing is seen from nowhere near it, or no start is far enough.
    """
    chance = Random(f"thing/{around.floor.name}/{index}/{seed}")
    kind = around.floor.things[index].kind
    if not len(around.sights(index)):
        raise ValueError(f"{around.floor.name}: nobody can stand within {REACH} m of that {kind} and see it")
    rooms = range(len(around.floor.plan.rooms))
    starts = (_start(around, chance, around.field(index), least, room) for room in chance.sample(rooms, len(rooms)))
    start = next((start for start in starts if start is not None), None)
    if start is None:
        raise ValueError(f"{around.floor.name}: no start is {least} m or more from that {kind} on foot: ask for less")
    path = spaced(around.field(index).path(*start), STEP)
    heading, length = chance.uniform(-math.pi, math.pi), around.field(index).distance(*start)
    episode = _episode(around, f"thing/{index}/{seed}", start, heading, index, path, length)
    return replace(episode, instruction=instruction, category=kind)


@dataclass(frozen=True)
class Route:
    """A walk that an instruction describes.

    Attributes:
        start: metres.
        heading: radians.
        path: from start to end in steps of `STEP`, metres.
        length: metres.
        clauses: what to do, in order.
        target: index of the thing at its end.
    """

    start: tuple[float, float]
    heading: float
    path: Float[np.ndarray, "K 2"]
    length: float
    clauses: tuple[Clause, ...]
    target: int


def draw_route(around: Surroundings, config: RouteConfig, chance: Random) -> Route | None:
    """A walk through so many doors (drawn first) to a kind of thing (drawn next); None if none is found."""
    reachable = around.doors_between
    for _ in range(_TRIES):
        doors = chance.randint(0, min(config.most_doors, int(reachable.max())))
        target = _target(around, chance, lambda i, n=doors: bool((reachable[_room(around, i)] == n).any()))  # type: ignore[misc]
        if target is None:
            continue
        rooms = np.nonzero(reachable[_room(around, target)] == doors)[0].tolist()
        field = around.field(target)
        start = _start(around, chance, field, config.least, chance.choice(rooms))
        if start is None:
            continue
        path = spaced(field.path(*start), STEP)
        landmark = _landmark(Way(around, path, 0.0), target)
        bearing = math.atan2(landmark[1] - start[1], landmark[0] - start[0])
        heading = bearing - _TURNS[chance.choice(DIRECTIONS)] + chance.uniform(-_SWAY, _SWAY)
        way = Way(around, path, math.remainder(heading, 2 * math.pi))
        clauses = way.clauses(target, chance, chance.randint(0, config.most_passed))
        if clauses is not None:
            return Route(start, way.heading, path, field.distance(*start), tuple(clauses), target)
    return None


def route_episodes(around: Surroundings, config: RouteConfig, name: str) -> tuple[Route, list[Episode]] | None:
    """A walk by a name, which draws it, and an episode for each wording of it; None where none is found."""
    chance = Random(f"instruction/{around.floor.name}/{name}")
    route = draw_route(around, config, chance)
    if route is None:
        return None
    episode = _episode(
        around, f"instruction/{name}", route.start, route.heading, route.target, route.path, route.length
    )
    texts = wordings(route.clauses, config.wordings, chance)
    return route, [replace(episode, id=f"{episode.id}_{part}", instruction=text) for part, text in enumerate(texts)]


def _instructed(around: Surroundings, config: RouteConfig, name: str) -> list[Episode]:
    found = route_episodes(around, config, name)
    return [] if found is None else found[1]


def object_episode(around: Surroundings, config: RouteConfig, name: str) -> tuple[int, Episode] | None:
    """A thing to look for by a name, which draws it: its index and the episode; None where there is none."""
    chance = Random(f"object/{around.floor.name}/{name}")
    for _ in range(_TRIES):
        target = _target(around, chance, lambda _: True)
        if target is None:
            return None
        field = around.field(target)
        start = _start(around, chance, field, config.least, chance.randrange(len(around.floor.plan.rooms)))
        phrase = around.name(target, chance)
        if start is None or phrase is None:
            continue
        heading, path = chance.uniform(-math.pi, math.pi), spaced(field.path(*start), STEP)
        episode = _episode(around, f"object/{name}", start, heading, target, path, field.distance(*start))
        text = chance.choice(FIND).format(thing=phrase)
        return target, replace(episode, instruction=text, category=str(phrase).removeprefix("the "))
    return None


def _object(around: Surroundings, config: RouteConfig, name: str) -> list[Episode]:
    found = object_episode(around, config, name)
    return [] if found is None else [found[1]]


def _point(around: Surroundings, config: RouteConfig, name: str) -> list[Episode]:
    chance = Random(f"point/{around.floor.name}/{name}")
    try:
        episode = point_goal(around.place, chance.randrange(1 << 30), config.least)
    except ValueError:  # the floor is too small: no such episode, as of the other sorts
        return []
    (x, y, _), (u, v, _) = episode.start_position, episode.goals[0].position
    c, s = math.cos(episode.start_heading), math.sin(episode.start_heading)
    ahead, left = (u - x) * c + (v - y) * s, (v - y) * c - (u - x) * s
    along = f"{abs(ahead):.1f} metres {'ahead of' if ahead > 0 else 'behind'} you"
    across = f"{abs(left):.1f} metres to your {'left' if left > 0 else 'right'}"
    text = chance.choice(POINT).format(along=along, across=across)
    path = spaced(around.place.geodesics.path((x, y), (u, v)), STEP)
    return [
        replace(
            episode,
            id=f"{around.floor.name}/point/{name}",
            instruction=text,
            reference_path=_positions(around, path),
        )
    ]


def _episode(
    around: Surroundings,
    name: str,
    start: tuple[float, float],
    heading: float,
    target: int,
    path: Float[np.ndarray, "K 2"],
    length: float,
) -> Episode:
    return Episode(
        id=f"{around.floor.name}/{name}",
        scene=around.floor.name,
        start_position=_positions(around, np.array([start]))[0],
        start_heading=heading,
        goals=tuple(Goal(place, LATTICE) for place in _positions(around, around.sights(target))),
        reference_path=_positions(around, path),
        geodesic_distance=length,
    )


def _positions(around: Surroundings, places: Float[np.ndarray, "K 2"]) -> tuple[Position, ...]:
    return tuple((float(x), float(y), around.place.map.floor) for x, y in places.tolist())


def _each(count: int, make: Callable[[int], Iterable[Episode]]) -> list[Episode]:
    return [episode for i in range(count) for episode in make(i)]


def _room(around: Surroundings, index: int) -> int:
    return around.floor.things[index].room


def _target(around: Surroundings, chance: Random, good: Callable[[int], bool]) -> int | None:
    """A thing that can be named and seen from where one can stand: first the kind is drawn, then the thing."""
    kinds = sorted({thing.kind for i, thing in enumerate(around.floor.things) if good(i)})
    for kind in chance.sample(kinds, len(kinds)):
        some = [i for i, thing in enumerate(around.floor.things) if thing.kind == kind and good(i)]
        fit = [i for i in some if around.name(i, Random(0)) and len(around.sights(i)) >= _FEWEST_SIGHTS]
        if fit:
            return chance.choice(fit)
    return None


def _start(around: Surroundings, chance: Random, field: Field, least: float, room: int) -> tuple[float, float] | None:
    """A free place in a room that is far enough from the goals on foot."""
    places = around.lattice[around.room_of(around.lattice) == room].tolist()
    for x, y in chance.sample(places, min(len(places), _TRIES)):
        if least <= field.distance(x, y) < math.inf:
            return x, y
    return None


def _landmark(way: Way, target: int) -> tuple[float, float]:
    """The first door of a walk, or the thing at its end where it leads through none."""
    if way.crossings:
        return way.around.floor.plan.doors[way.crossings[0].door].position
    x, y, _ = way.around.facts.centres[target].tolist()
    return x, y
