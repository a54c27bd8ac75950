"""Navigation: environment steps per second of one core, with and without pictures; distances against closed forms.

- Steps: point goals on floors of the world, a random agent that does not stop, episodes of 500 steps, resets (with the
  distances to each goal) included, maps and floors made beforehand. `info` and reward hold geodesic distances. With and
  without 128x128 RGB-D, and 8 environments at once under gymnasium's SyncVectorEnv. Processor seconds, one thread.
- Views: a level view of 128x128 against the renderer of rooms without its antialiasing, on the same poses.
- Distances: an empty box (straight lines) and an L-shape (two tangents and an arc round the corner), random pairs of
  places, radius 0 and 0.18 m; the greatest error in cells of 0.05 m.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import torch

from genworld.world.navigation.camera import CameraConfig, world_from_camera
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.geodesic import Geodesics
from genworld.world.navigation.mapping import block, map_of_footprints
from genworld.world.navigation.motion import Action, Stance
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap
from genworld.world.navigation.place import Place, Places, place_of_floor, point_goal
from genworld.world.navigation.views import FloorViews
from genworld.world.rooms import sample_floor
from genworld.world.rooms.plan import Rectangle
from genworld.world.rooms.render import trace

_FLOORS, _EPISODES, _ROUNDS = 8, 3, 3
_STEPS, _SEEN = 2000.0, 150.0
_BLIND_STEPS, _SEEING_STEPS, _TOGETHER = 3000, 300, 8
_PAIRS, _CORNERS = 200, ((2.5, 1.7), (2.53, 1.71), (2.515, 1.74))


def run() -> Iterator[dict[str, Any]]:
    """Steps, views, distances."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        places = Places(lambda name: place_of_floor(sample_floor(int(name.rpartition("-")[2]))), _FLOORS)
        yield from _rates(places)
        yield _views(places)
    finally:
        torch.set_num_threads(threads)
    yield _row("empty box, greatest error", _box_error(), 0.5, "cells of 0.05 m", most=True)
    yield _row("L-shape, greatest error", _corner_error(), 0.5, "cells of 0.05 m", most=True)


def _rates(places: Places) -> Iterator[dict[str, Any]]:
    episodes = [point_goal(places(f"rooms-{floor}"), seed) for floor in range(_FLOORS) for seed in range(_EPISODES)]
    for name, images, count, least in (
        ("steps without pictures", False, _BLIND_STEPS, _STEPS),
        ("steps with 128x128 RGB-D", True, _SEEING_STEPS, _SEEN),
    ):
        config = NavigationConfig(images=images)
        env = NavigationEnv(episodes, places, config)
        yield _row(name, _median(lambda e=env, n=count: _walk(e, n)), least, "steps per cpu-second")
        envs = gymnasium.vector.SyncVectorEnv(
            [lambda c=config, n=n: NavigationEnv(episodes[n:] + episodes[:n], places, c) for n in range(_TOGETHER)]
        )
        rate = _median(lambda e=envs, n=count: _walk_together(e, n // _TOGETHER))
        yield _row(f"{name}, {_TOGETHER} at once", rate, least, "steps per cpu-second")


def _median(measure: Callable[[], float]) -> float:
    """Of some rounds, after one that warms up."""
    return statistics.median([measure() for _ in range(_ROUNDS + 1)][1:])


def _walk(env: NavigationEnv, count: int) -> float:
    chance = np.random.default_rng(0)
    actions = chance.choice([Action.FORWARD, Action.LEFT, Action.RIGHT], size=count, p=[0.6, 0.2, 0.2])
    env.reset()
    begin = time.process_time()
    for action in actions:
        _, _, stopped, truncated, _ = env.step(int(action))
        if stopped or truncated:
            env.reset()
    return count / (time.process_time() - begin)


def _walk_together(envs: gymnasium.vector.SyncVectorEnv, count: int) -> float:
    chance = np.random.default_rng(0)
    actions = chance.choice([1, 2, 3], size=(count, envs.num_envs), p=[0.6, 0.2, 0.2])
    envs.reset()
    begin = time.process_time()
    for several in actions:
        envs.step(several)
    return actions.size / (time.process_time() - begin)


def _views(places: Places) -> dict[str, Any]:
    camera, chance = CameraConfig(), np.random.default_rng(0)
    pinhole = torch.from_numpy(camera.intrinsics).float()
    ours, theirs = [], []
    for number in range(_FLOORS):
        place, stage = places(f"rooms-{number}"), sample_floor(number).stage
        views, spots = FloorViews(stage, camera), place.map.places()
        stances = [Stance(*chance.choice(spots), chance.uniform(-math.pi, math.pi)) for _ in range(12)]
        poses = torch.from_numpy(np.stack([world_from_camera(each, camera.height) for each in stances])).float()
        ours.append(_seconds(lambda v=views, s=stances: [v(each) for each in s]))
        theirs.append(_seconds(lambda s=stage, p=poses: [trace(s, each[None], pinhole, camera.size) for each in p]))
    name = "views, against rooms.render.trace alone"
    return _row(name, 12 / statistics.median(ours), 12 / statistics.median(theirs), "views per cpu-second")


def _seconds(call: Callable[[], Any]) -> float:
    call()
    begin = time.process_time()
    call()
    return time.process_time() - begin


def _room(radius: float, corner: tuple[float, float] | None) -> OccupancyMap:
    walls = [(-0.1, -0.1, 0.0, 4.1), (6.0, -0.1, 6.1, 4.1), (-0.1, -0.1, 6.1, 0.0), (-0.1, 4.0, 6.1, 4.1)]
    blocks = [block(Rectangle(*wall)) for wall in walls]
    if corner is not None:
        blocks.append(block(Rectangle(*corner, 6.0, 4.0)))
    return map_of_footprints(blocks, Rectangle(0.0, 0.0, 6.0, 4.0), AgentConfig(radius=radius))


def _box_error() -> float:
    return max(_error(radius, None) for radius in (0.0, 0.18))


def _corner_error() -> float:
    return max(_error(radius, corner) for radius in (0.0, 0.18) for corner in _CORNERS)


def _error(radius: float, corner: tuple[float, float] | None) -> float:
    ground = _room(radius, corner)
    place = Place("room", ground)
    spots = ground.places()
    found = []
    for one, other in spots[np.random.default_rng(0).integers(len(spots), size=(_PAIRS, 2))]:
        exact = math.dist(one, other) if corner is None else _around(one - corner, other - corner, radius)
        found.append(abs(_distance(place.geodesics, one, other) - exact) / ground.cell)
    return max(found)


def _distance(ways: Geodesics, one: np.ndarray, other: np.ndarray) -> float:
    return ways.distance((float(one[0]), float(one[1])), (float(other[0]), float(other[1])))


def _around(one: np.ndarray, other: np.ndarray, radius: float) -> float:
    """Length of the way round a disc about the origin, where all with x > 0 and y > 0 is blocked."""
    first, second = ((math.atan2(y, x) - math.pi / 2) % (2 * math.pi) for x, y in (one, other))
    lengths = [float(np.hypot(*place)) for place in (one, other)]
    arc = abs(first - second) - sum(math.acos(min(1.0, radius / length)) for length in lengths)
    if arc <= 0:
        return math.dist(one, other)
    return sum(math.sqrt(max(0.0, length**2 - radius**2)) for length in lengths) + radius * arc


def _row(name: str, ours: float, reference: float, unit: str, most: bool = False) -> dict[str, Any]:
    return {
        "name": f"nav: {name}",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "unit": unit,
        "target": f"{'<=' if most else '>='} {reference:.4g}",
        "holds": ours <= reference if most else ours >= reference,
    }
