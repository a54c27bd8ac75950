"""Furnished floors from a seed: the plan, the things, the views, and what can be seen in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genworld.types import Scene, SceneBox, View
from genworld.world.rooms.furnish import FEWEST_THINGS, MOST_THINGS, ROOM_NAMES, SIGNATURE, Furnisher
from genworld.world.rooms.furniture import KINDS, Thing
from genworld.world.rooms.plan import FloorPlan, draw_plan
from genworld.world.rooms.render import RoomViews, render, trace
from genworld.world.rooms.stage import RoomStage, stage_floor
from genworld.world.rooms.surface import sample_surfaces
from genworld.world.rooms.walk import EYE, Ground, free_ground, intrinsics, look

WATCH = 64
"""Height and width, in pixels, at which it is settled what can be seen: the same at every size of the views."""
SEEN = 8
"""Pixels of its own colour, of `WATCH` x `WATCH`, that a thing must show in one view to be called seen."""
HALF_FOV = math.radians(41)
"""Half the field of view across the shorter side of a view, radians."""

_BETTER = 14  # pixels: what shows fewer in all views gets one of its own
_MOST_VIEWS = 8  # per room
_CANDIDATES = 8
_APART = 0.4  # metres between the places of two views of a room
_TRIES = 60


@dataclass(frozen=True, kw_only=True)
class FloorConfig:
    """What floors are like.

    Attributes:
        min_rooms: fewest rooms.
        max_rooms: most rooms, up to five.
    """

    min_rooms: int = 1
    max_rooms: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.min_rooms <= self.max_rooms <= len(ROOM_NAMES):
            raise ValueError(
                f"expected 1 <= min_rooms <= max_rooms <= {len(ROOM_NAMES)}, got {self.min_rooms} and {self.max_rooms}"
            )


@dataclass(frozen=True)
class Floor:
    """One furnished floor and everything that is true about it.

    Attributes:
        seed: it is a function of the seed and the config.
        plan: rooms, doors and walls.
        room_names: one per room, all different.
        things: all of them can be seen in at least one view.
        ground: where there is room to stand.
        poses: of the views, in the order of a walk through the rooms; OpenCV camera axes, metres.
        view_rooms: the room in which each view is taken.
        pixels: of each thing in each view at `WATCH` x `WATCH`, in the thing's own colour only.
    """

    seed: int
    plan: FloorPlan
    room_names: tuple[str, ...]
    things: tuple[Thing, ...]
    ground: Ground
    poses: Float[np.ndarray, "V 4 4"]
    view_rooms: tuple[int, ...]
    pixels: Int[np.ndarray, "V N"]

    @property
    def name(self) -> str:
        """Unique among floors of one config."""
        return f"rooms-{self.seed}"

    @cached_property
    def boxes(self) -> tuple[SceneBox, ...]:
        """Exact boxes; the id is the thing's index."""
        found = []
        for index, thing in enumerate(self.things):
            box, own = thing.box, thing.own_box
            middle = thing.rotation @ own.centre + thing.position
            turned = torch.tensor([*middle, *own.size, thing.yaw], dtype=torch.float32)
            found.append(
                SceneBox(thing.kind, index, torch.tensor(box.lower).float(), torch.tensor(box.upper).float(), turned)
            )
        return tuple(found)

    @cached_property
    def stage(self) -> RoomStage:
        """For the renderer."""
        return stage_floor(self.plan, self.things, Random(f"rooms/{self.seed}/tints"))

    @cached_property
    def route(self) -> Float[np.ndarray, "K 2"]:
        """The walk past all views, through the doors, in steps of a cell; metres."""
        return self.ground.route([(float(pose[0, 3]), float(pose[1, 3])) for pose in self.poses])

    def render(
        self, views: Sequence[int] | None = None, size: tuple[int, int] = (128, 128), device: torch.device | str = "cpu"
    ) -> tuple[Float[Tensor, "V 3 H W"], Float[Tensor, "V H W"]]:
        """Pictures in [-1, 1] and depth in metres of some views (all by default)."""
        poses, pinhole = self._cameras(views, size, device)
        return render(self.stage.map(lambda x: x.to(device)), poses, pinhole, size)

    def trace(
        self, views: Sequence[int] | None = None, size: tuple[int, int] = (128, 128), device: torch.device | str = "cpu"
    ) -> RoomViews:
        """Depth, ids and normals of some views (all by default)."""
        poses, pinhole = self._cameras(views, size, device)
        return trace(self.stage.map(lambda x: x.to(device)), poses, pinhole, size)

    def scene(self, size: tuple[int, int] = (128, 128), num_points: int = 20_000) -> Scene:
        """The floor as a scene: views are rendered when asked for; points lie on the visible surfaces."""
        points, colours, _ = self.points(num_points)
        return Scene(self.name, LazyViews(self, size), points, colours, self.boxes)

    def points(self, count: int) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"], Int[Tensor, " P"]]:
        """Points on the surfaces of building and things, their colours in [0, 1] and ids (0: the building)."""
        return sample_surfaces(self.stage, self.plan, count, self.seed)

    def _cameras(
        self, views: Sequence[int] | None, size: tuple[int, int], device: torch.device | str
    ) -> tuple[Tensor, Tensor]:
        chosen = self.poses if views is None else self.poses[list(views)]
        return (
            torch.from_numpy(chosen).float().to(device),
            torch.from_numpy(intrinsics(size, HALF_FOV)).float().to(device),
        )


class LazyViews(Sequence[View]):
    """The views of a floor, each rendered when asked for."""

    def __init__(self, floor: Floor, size: tuple[int, int]) -> None:
        self.floor, self.size = floor, size

    def __len__(self) -> int:
        return len(self.floor.poses)

    def __getitem__(self, index: int | slice) -> View | list[View]:  # type: ignore[override]
        if isinstance(index, slice):
            return self._read(range(*index.indices(len(self))))
        return self._read([range(len(self))[index]])[0]

    def _read(self, indices: Sequence[int]) -> list[View]:
        pixels, depth = self.floor.render(indices, self.size)
        pinhole = torch.from_numpy(intrinsics(self.size, HALF_FOV)).float()
        poses = torch.from_numpy(self.floor.poses).float()
        return [
            View(pixels[i], depth[i], poses[view], pinhole, f"{self.floor.name}/{view}")
            for i, view in enumerate(indices)
        ]


def sample_floor(seed: int, config: FloorConfig | None = None) -> Floor:
    """The floor of a seed: a function of its arguments and nothing else."""
    config = config or FloorConfig()
    for attempt in range(_TRIES):
        chance = Random(f"rooms/{seed}/{attempt}")
        floor = _draw(seed, chance, config)
        if floor is not None:
            return floor
    raise AssertionError(f"no floor for seed {seed} in {_TRIES} tries")


def _draw(seed: int, chance: Random, config: FloorConfig) -> Floor | None:
    num_rooms = config.min_rooms + int(chance.random() * (config.max_rooms - config.min_rooms + 1))
    plan = draw_plan(chance, num_rooms)
    names = tuple(chance.sample(ROOM_NAMES, num_rooms))
    # A coin per kind: nobody who has not seen the floor knows what is there.
    allowed = frozenset(kind for kind in KINDS if chance.random() < 0.5)
    furnisher = Furnisher(chance, plan)
    furnisher.fill(names, allowed)
    things = furnisher.things
    complete = all(any(t.kind == SIGNATURE[n] and t.room == i for t in things) for i, n in enumerate(names))
    ground = free_ground(plan, things)
    if not complete or ground is None or len(things) < FEWEST_THINGS:
        return None
    watch = _Watch(seed, plan, things, ground)
    rooms = _tour(plan)
    for room in rooms:
        watch.survey(room)
    things = _drop_unseen(things, watch.counts())
    complete = all(any(t.kind == SIGNATURE[n] and t.room == i for t in things) for i, n in enumerate(names))
    if not complete or not FEWEST_THINGS <= len(things) <= MOST_THINGS:
        return None
    order = _walk_order(watch.poses, watch.rooms)
    poses, view_rooms = np.stack([watch.poses[i] for i in order]), tuple(watch.rooms[i] for i in order)
    # What was dropped may have hidden others: count again.
    pixels = own_pixels(stage_floor(plan, things, Random(seed)), poses)
    return Floor(seed, plan, names, tuple(things), ground, poses, view_rooms, pixels)


def own_pixels(stage: RoomStage, poses: Float[np.ndarray, "V 4 4"]) -> Int[np.ndarray, "V N"]:
    """Pixels of each thing in its own colour, per view."""
    count = int(stage.owner.max())
    if not len(poses):
        return np.zeros((0, count), dtype=np.int64)
    pinhole = torch.from_numpy(intrinsics((WATCH, WATCH), HALF_FOV)).float()
    views = trace(stage, torch.from_numpy(np.asarray(poses)).float(), pinhole, (WATCH, WATCH))
    ids = torch.where(stage.own[views.parts] > 0, views.ids, 0)
    frame = torch.arange(len(poses))[:, None, None] * (count + 1)
    return (
        torch.bincount((ids + frame).reshape(-1), minlength=len(poses) * (count + 1))
        .view(len(poses), -1)[:, 1:]
        .numpy()
    )


class _Watch:
    """Chooses views until all that can be seen of a room is seen."""

    def __init__(self, seed: int, plan: FloorPlan, things: Sequence[Thing], ground: Ground) -> None:
        self.plan, self.things, self.ground = plan, things, ground
        self.stage = stage_floor(plan, things, Random(seed))
        self.poses: list[np.ndarray] = []
        self.rooms: list[int] = []
        self._counts: list[np.ndarray] = []

    def counts(self) -> Int[np.ndarray, "V N"]:
        return np.stack(self._counts)

    def survey(self, room: int) -> None:
        """Views from the four corners of a room, and of each thing that they do not show well."""
        inside = self.plan.interior(room)
        x, y = inside.centre
        spots = [(inside.x0 + 0.5, inside.y0 + 0.5), (inside.x1 - 0.5, inside.y0 + 0.5)]
        spots += [(inside.x1 - 0.5, inside.y1 - 0.5), (inside.x0 + 0.5, inside.y1 - 0.5)]
        here = self.ground.within(inside)
        corners: list[np.ndarray] = []
        for spot in spots:
            eye = here[np.argmin(((here - spot) ** 2).sum(1))]
            if any(np.hypot(*(eye - pose[:2, 3])) < _APART for pose in corners):
                continue  # one free place was nearest to two corners
            corners.append(look((float(eye[0]), float(eye[1])), (2 * x - eye[0], 2 * y - eye[1], 0.35)))
        self._add(corners, room, own_pixels(self.stage, np.stack(corners)))
        for index, thing in enumerate(self.things):
            views = sum(r == room for r in self.rooms)
            if thing.room != room or views >= _MOST_VIEWS or self.counts()[:, index].max() >= _BETTER:
                continue
            poses = self._close(thing, here)
            if not poses:
                continue
            found = own_pixels(self.stage, np.stack(poses))
            best = int(found[:, index].argmax())
            if found[best, index] > self.counts()[:, index].max():
                self._add([poses[best]], room, found[best : best + 1])

    def _add(self, poses: list[np.ndarray], room: int, counts: np.ndarray) -> None:
        self.poses += poses
        self.rooms += [room] * len(poses)
        self._counts += list(counts)

    def _close(self, thing: Thing, here: np.ndarray) -> list[np.ndarray]:
        centre = thing.box.centre
        away = np.hypot(*(here - centre[:2]).T)
        near = here[(away > 0.7) & (away < 2.2)]
        if not len(near):
            return []
        angle = np.arctan2(*(near - centre[:2]).T)
        order = near[np.argsort(angle, kind="stable")]
        chosen = order[np.linspace(0, len(order) - 1, min(_CANDIDATES, len(order))).round().astype(int)]
        return [look((float(x), float(y)), centre, EYE) for x, y in chosen]


def _drop_unseen(things: list[Thing], pixels: np.ndarray) -> list[Thing]:
    """Without the things that no view shows, and without what stands on those."""
    seen = pixels.max(0) >= SEEN
    for index, thing in enumerate(things):
        if thing.on is not None and not seen[thing.on]:
            seen[index] = False
    kept = np.nonzero(seen)[0].tolist()
    new = {old: place for place, old in enumerate(kept)}
    return [replace(things[i], on=None if (on := things[i].on) is None else new[on]) for i in kept]


def _walk_order(poses: Sequence[np.ndarray], rooms: Sequence[int]) -> list[int]:
    """Room after room, in each always on to the nearest place."""
    order = [0]
    while len(order) < len(poses):
        here = poses[order[-1]][:2, 3]
        left = [i for i in range(len(poses)) if i not in order]
        room = rooms[left[0]] if all(rooms[i] != rooms[order[-1]] for i in left) else rooms[order[-1]]
        order.append(min((i for i in left if rooms[i] == room), key=lambda i: (np.hypot(*(poses[i][:2, 3] - here)), i)))
    return order


def _tour(plan: FloorPlan) -> list[int]:
    """The rooms in the order of a walk that goes on through the nearest door."""
    order, waiting = [0], [0]
    while waiting:
        here = waiting[-1]
        beyond = [b if a == here else a for a, b in (door.rooms for door in plan.doors) if here in (a, b)]
        fresh = [room for room in beyond if room not in order]
        if not fresh:
            waiting.pop()
            continue
        order.append(fresh[0])
        waiting.append(fresh[0])
    return order
