"""Putting furniture into rooms: against walls, around tables, on tables, nothing overlapping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, TypeVar

import numpy as np

from genworld.world.rooms.boxes import Box
from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES, Thing
from genworld.world.rooms.plan import CEILING, DOOR_WIDTH, FloorPlan, Rectangle

RoomName = Literal["living room", "bedroom", "kitchen", "study", "dining room"]
ROOM_NAMES: tuple[RoomName, ...] = ("living room", "bedroom", "kitchen", "study", "dining room")
SIGNATURE: dict[str, str] = {
    "living room": "sofa",
    "bedroom": "bed",
    "kitchen": "fridge",
    "study": "desk",
    "dining room": "table",
}
"""What makes a room what it is called: every room of the name has one. Only tables are found in other rooms too."""

MOST_THINGS, FEWEST_THINGS = 30, 8

T = TypeVar("T")

_TRIES = 40
_GAP = 0.015  # metres between a thing and the wall or the thing it touches
_CLEAR = 0.08  # between neighbours on the floor
_STEP, _FRAME = 0.85, 0.10  # kept free on both sides of a door, and beside it for its frame
_LIKELY: dict[str, tuple[str, ...]] = {
    "living room": ("tv", "cabinet", "table", "shelf", "lamp", "rug", "plant"),
    "bedroom": ("cabinet", "shelf", "lamp", "rug", "tv"),
    "kitchen": ("stove", "sink", "table", "cabinet", "bin"),
    "study": ("shelf", "lamp", "cabinet", "bin", "plant"),
    "dining room": ("cabinet", "plant", "rug", "lamp", "sink"),
}
_ANYWHERE = ("box", "box", "ball", "ball", "vase", "vase", "plant", "bin", "stool", "clock", "lamp", "cabinet", "chair")
_ORDER = (
    "bed",
    "sofa",
    "fridge",
    "desk",
    "stove",
    "sink",
    "table",
    "shelf",
    "cabinet",
    "chair",
    "stool",
    "tv",
    "clock",
)


@dataclass
class Furnisher:
    """Fills the rooms of a plan, one thing at a time.

    Attributes:
        chance: where choices come from.
        plan: what is filled.
        things: what stands already.
        keep: boxes that must stay free: in front of doors and of what hangs on walls.
    """

    chance: Random
    plan: FloorPlan
    things: list[Thing] = field(default_factory=list)
    keep: list[Box] = field(default_factory=list)

    def __post_init__(self) -> None:
        for door in self.plan.doors:
            beside = DOOR_WIDTH / 2 + _FRAME
            reach = (beside, _STEP) if door.along == 0 else (_STEP, beside)
            middle = np.array([*door.position, CEILING / 2])
            half = np.array([*reach, CEILING / 2])
            self.keep.append(Box(middle - half, middle + half))

    def fill(self, names: Sequence[str], allowed: frozenset[str]) -> None:
        """Furnish every room. `allowed`: the kinds that this floor may have besides its rooms' signatures."""
        wishes = [self._wishes(name, allowed, len(names)) for name in names]
        quota = max(MOST_THINGS // len(names), 5)
        for room, wish in enumerate(wishes):
            self._fill_room(room, wish, quota)

    def _wishes(self, name: str, allowed: frozenset[str], num_rooms: int) -> list[str]:
        """Kinds for a room, in the order in which they are placed."""
        likely = [kind for kind in _LIKELY[name] if kind in allowed and kind not in SIGNATURE.values()]
        likely += ["table"] if "table" in _LIKELY[name] and "table" in allowed else []
        extra = [kind for kind in _ANYWHERE if kind in allowed]
        self.chance.shuffle(likely)
        chosen = [SIGNATURE[name], *likely[: 6 if num_rooms < 3 else 4]]
        more = 9 if num_rooms == 1 else 6 if num_rooms == 2 else 5
        chosen += [_choose(self.chance, extra) for _ in range(more if extra else 0)]
        return sorted(chosen, key=lambda kind: _ORDER.index(kind) if kind in _ORDER else len(_ORDER))

    def _fill_room(self, room: int, wishes: Sequence[str], quota: int) -> None:
        before = len(self.things)
        seats_allowed = [kind for kind in ("chair", "stool") if kind in wishes]
        for kind in wishes:
            if len(self.things) - before >= quota or len(self.things) >= MOST_THINGS:
                return
            model = self._model(kind, room)
            placed = self._place(model)
            if placed and kind in ("table", "desk"):
                self._seats(len(self.things) - 1, seats_allowed, before + quota)

    def _model(self, kind: str, room: int) -> Thing:
        return Thing(
            kind=kind,
            colour=_choose(self.chance, COLOURS),
            size=_choose(self.chance, SIZES),
            material=_choose(self.chance, MATERIALS),
            room=room,
        )

    def _place(self, model: Thing) -> bool:
        kind = KINDS[model.kind]
        if kind.place == "wall":
            return self._try(model, self._against_wall)
        if kind.place == "hung":
            return self._try(model, self._on_wall, front=0.5)
        if kind.place == "centre":
            return self._try(model, self._in_the_middle) or self._try(model, self._anywhere)
        if kind.place == "top" or (model.kind in ("box", "ball", "plant") and self._small_enough(model)):
            return self._try(model, self._on_top) or self._try(model, self._anywhere)
        return self._try(model, self._anywhere)

    def _small_enough(self, model: Thing) -> bool:
        return model.size == "small" and self.chance.random() < 0.85

    def _seats(self, at: int, kinds: Sequence[str], most: int) -> None:
        """Chairs or stools around a table, at most one at a desk; often of one make."""
        if not kinds:
            return
        host = self.things[at]
        model = self._model(_choose(self.chance, kinds), host.room)
        alike = self.chance.random() < 0.6
        sides = _sides(host) if host.kind == "table" else _sides(host)[:1]
        self.chance.shuffle(sides)
        for side in sides[: 1 + int(self.chance.random() * 4)]:
            if len(self.things) >= min(most + 1, MOST_THINGS):
                return
            seat = model if alike else self._model(model.kind, host.room)
            seat = replace(seat, size=model.size)
            self._stand(_seated(seat, host, side))

    def _try(self, model: Thing, propose: Callable[[Thing], Thing | None], front: float = 0.0) -> bool:
        for _ in range(_TRIES):
            thing = propose(model)
            if thing is not None and self._stand(thing, front):
                return True
        return False

    def _stand(self, thing: Thing, front: float = 0.0) -> bool:
        """Add a thing unless it is in the way. `front` metres before it stay free."""
        box = thing.box
        inside = self.plan.interior(thing.room)
        if not (inside.contains(*box.lower[:2]) and inside.contains(*box.upper[:2])):
            return False
        margin = 0.01 if thing.on is not None else _CLEAR
        for index, other in enumerate(self.things):
            if index != thing.on and box.overlaps(other.box, margin if other.on == thing.on else 0.005):
                return False
        if thing.on is None and any(box.overlaps(free) for free in self.keep):
            return False
        if front:
            space = _before(thing, front)
            if any(space.overlaps(other.box) for other in self.things):
                return False
            self.keep.append(space)
        self.things.append(thing)
        return True

    def _against_wall(self, model: Thing) -> Thing:
        return self._at_wall(model, 0.0, corner=model.kind == "lamp")

    def _on_wall(self, model: Thing) -> Thing:
        height = 1.0 if model.kind == "tv" else 1.55
        return self._at_wall(model, self.chance.uniform(height, height + 0.2))

    def _at_wall(self, model: Thing, height: float, corner: bool = False) -> Thing:
        inside = self.plan.interior(model.room)
        side = int(self.chance.random() * 4)
        width, depth, _ = model.extent
        length = inside.size[side % 2] - width - 2 * _GAP
        place = self.chance.random()
        if corner:
            place = 0.0 if place < 0.5 else 1.0
        along = _GAP + width / 2 + place * max(length, 0.0)
        back = depth / 2 + _GAP
        x, y = (
            (inside.x0 + along, inside.y0 + back),
            (inside.x1 - back, inside.y0 + along),
            (inside.x0 + along, inside.y1 - back),
            (inside.x0 + back, inside.y0 + along),
        )[side]
        return replace(model, position=(x, y, height), yaw=side * math.pi / 2)

    def _in_the_middle(self, model: Thing) -> Thing:
        inside = self.plan.interior(model.room)
        x, y = inside.centre
        w, d = inside.size
        turned = 0.0 if w >= d else math.pi / 2
        place = (x + self.chance.uniform(-0.16, 0.16) * w, y + self.chance.uniform(-0.16, 0.16) * d, 0.0)
        return replace(model, position=place, yaw=turned)

    def _anywhere(self, model: Thing) -> Thing:
        inside = self.plan.interior(model.room).shrunk(_GAP)
        reach = max(model.extent[:2]) / 2
        if model.kind in ("rug", "table"):
            yaw = math.pi / 2 * int(self.chance.random() * 2)
        else:
            yaw = self.chance.uniform(-math.pi, math.pi)
        spot = _within(self.chance, inside, reach)
        if model.kind in ("bin", "plant") and self.chance.random() < 0.7:  # along a wall rather than in the way
            side = int(self.chance.random() * 4)
            edge = (inside.y0 + reach, inside.x1 - reach, inside.y1 - reach, inside.x0 + reach)[side]
            spot = (spot[0], edge) if side % 2 == 0 else (edge, spot[1])
        return replace(model, position=(*spot, 0.0), yaw=yaw)

    def _on_top(self, model: Thing) -> Thing | None:
        hosts = [i for i, thing in enumerate(self.things) if thing.room == model.room and KINDS[thing.kind].holds]
        if not hosts:
            return None
        index = _choose(self.chance, hosts)
        host = self.things[index]
        width, depth, height = host.extent
        reach = max(model.extent[:2]) / 2 * (1.42 if model.kind == "box" else 1)
        if min(width, depth) < 2 * reach + 0.04:
            return None
        spot = _within(self.chance, Rectangle(-width / 2, -depth / 2, width / 2, depth / 2).shrunk(0.02), reach)
        x, y, _ = host.rotation @ (*spot, 0.0) + host.position
        yaw = self.chance.uniform(-math.pi, math.pi)
        return replace(model, position=(float(x), float(y), height), yaw=yaw, on=index)


def _choose(chance: Random, options: Sequence[T]) -> T:
    return options[int(chance.random() * len(options))]


def _within(chance: Random, area: Rectangle, reach: float) -> tuple[float, float]:
    return (
        chance.uniform(area.x0 + reach, max(area.x1 - reach, area.x0 + reach)),
        chance.uniform(area.y0 + reach, max(area.y1 - reach, area.y0 + reach)),
    )


def _sides(host: Thing) -> list[tuple[float, float, float]]:
    """Places to sit at, in the host's axes: a point of its edge and the way to look, radians from its +x."""
    width, depth, _ = host.extent
    front = [(0.0, depth / 2, -math.pi / 2)]
    if host.kind == "desk":
        return [(-0.12 * width, depth / 2, -math.pi / 2)]
    back = [(0.0, -depth / 2, math.pi / 2)]
    ends = [(width / 2, 0.0, math.pi), (-width / 2, 0.0, 0.0)]
    return [*front, *back, *ends]


def _seated(seat: Thing, host: Thing, side: tuple[float, float, float]) -> Thing:
    x, y, look = side
    away = seat.extent[1] / 2 + 0.09
    local = (x - away * math.cos(look), y - away * math.sin(look), 0.0)
    spot = host.rotation @ local + host.position
    yaw = host.yaw + look - math.pi / 2  # the front is +y
    return replace(seat, position=(float(spot[0]), float(spot[1]), 0.0), yaw=yaw)


def _before(thing: Thing, reach: float) -> Box:
    """The space in front of what hangs on a wall."""
    box, (x, y) = thing.box, thing.front
    step = np.array([x, y, 0.0]) * reach
    return Box(np.minimum(box.lower, box.lower + step), np.maximum(box.upper, box.upper + step))
