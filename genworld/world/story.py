"""What happens in a stretch of a scene, as facts: the ground that language, questions and judges stand on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from genworld.world.layout import Scene
from genworld.world.objects import WorldObject
from genworld.world.physics import Event, Trajectory

Act = Literal["stay", "left", "right", "towards", "away", "bounce", "fall", "pushed", "unclear"]
"""What an object does: "pushed" moves only because it was hit; "unclear" is too little or too slanting to name."""
Passage = Literal["behind", "into", "out"]
"""At a wall: goes behind it and comes out again; only goes behind; only comes out."""

_SAMPLES = 33
_MOVED = 0.25  # metres: less is not called a movement
_APPROACH = 0.12  # metres: enough for a movement that ends in a collision
_STILL = 0.02  # metres: less is called staying
_SLANT = math.radians(32)  # a direction further from an axis of the camera has no name
_IN_PICTURE = 0.95  # part of the half width of the picture's inner square


@dataclass(frozen=True)
class Story:
    """Facts about the objects that can be seen between two times.

    Attributes:
        objects: all objects of the scene.
        seen: indices of the objects in the picture, by time of their first doing, movers first.
        acts: what each object does (also of those not seen).
        hits: (who, whom) of the first collision of each pair among the seen, in order of time.
        passages: what objects do at the wall.
        camera: what the camera does in words; None when it stands or there is only one frame.
        still: whether there is only one frame, so that nothing can be seen to move.
    """

    objects: tuple[WorldObject, ...]
    seen: tuple[int, ...]
    acts: tuple[Act, ...]
    hits: tuple[tuple[int, int], ...]
    passages: dict[int, Passage]
    camera: str | None
    still: bool


def tell(scene: Scene, trajectory: Trajectory, start: float, end: float, events: Sequence[Event]) -> Story:
    """The story from `start` to `end` seconds; `events` are those of that stretch."""
    times = np.linspace(start, end, _SAMPLES if end > start else 1)
    places = trajectory.positions(times)
    poses = scene.camera.world_from_camera(times)
    shown = _shown(scene, places, poses)
    acts = tuple(_act(scene, trajectory, index, (start, end), events) for index in range(len(scene.objects)))
    hits: dict[frozenset[int], tuple[int, int]] = {}
    for event in events:
        if event.kind == "collision" and event.whom is not None and shown[event.who] and shown[event.whom]:
            hits.setdefault(frozenset((event.who, event.whom)), (event.who, event.whom))
    walls = [index for index, thing in enumerate(scene.objects) if thing.shape == "wall" and shown[index]]
    order = {who: -len(hits) + i for i, (who, _) in reversed(list(enumerate(hits.values())))}
    seen = [index for index in range(len(scene.objects)) if shown[index]]
    seen.sort(key=lambda i: (order.get(i, 0), acts[i] in ("stay", "unclear", "pushed")))
    return Story(
        objects=scene.objects,
        seen=tuple(seen),
        acts=acts,
        hits=tuple(hits.values()),
        passages=_passages(scene, trajectory, events, walls[0], seen) if walls else {},
        camera=scene.camera.phrase if scene.camera.motion != "stand" and end > start else None,
        still=end <= start,
    )


def _shown(scene: Scene, places: Float[np.ndarray, "F N 3"], poses: Float[np.ndarray, "F 4 4"]) -> list[bool]:
    """Whether each object is in the picture for a good part of the time, and not behind the wall all along."""
    seen = np.einsum("fji,fnj->fni", poses[:, :3, :3], places - poses[:, None, :3, 3])
    limit = _IN_PICTURE * math.tan(scene.camera.half_fov) * seen[..., 2:]
    inside = (np.abs(seen[..., :2]) < limit).all(-1)
    open_ = inside.copy()
    for index, wall in enumerate(scene.objects):
        if wall.shape == "wall":
            for other in range(index):
                open_[:, other] &= ~_behind(wall, poses[:, :3, 3], places[:, other])
    return [bool(i > 0.3 and o > 0) for i, o in zip(inside.mean(0), open_.mean(0), strict=True)]


def _act(scene: Scene, trajectory: Trajectory, index: int, span: tuple[float, float], events: Sequence[Event]) -> Act:
    start, end = span
    met = [event.time for event in events if event.kind == "collision" and index in (event.who, event.whom)]
    free = met[0] if met else end  # until then it moves of itself
    path = trajectory.positions(np.linspace(start, end, _SAMPLES))[:, index]
    first, last, free_end = path[0], path[-1], trajectory.positions(np.array([free]))[0, index]
    height = float(np.ptp(path[:, 2]))
    if height > _MOVED:
        landed = [event.time for event in events if event.kind in ("land", "bounce") and event.who == index]
        return "bounce" if landed and landed[0] < end - 0.15 else "fall"
    if float(np.ptp(path, axis=0).max()) < _STILL:
        return "stay"
    way = free_end - first
    if math.hypot(way[0], way[1]) < (_APPROACH if met else _MOVED):
        still = math.hypot(way[0], way[1]) < _STILL
        return "pushed" if still and math.hypot(*(last - free_end)[:2]) > _MOVED else "unclear"
    pose = scene.camera.world_from_camera(np.array([start]))[0]
    ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2])
    angle = math.atan2(float(way[:2] @ ahead), float(way[:2] @ pose[:2, 0]))
    names: tuple[Act, ...] = ("right", "away", "left", "towards")
    quarter = round(angle / (math.pi / 2))
    return names[quarter % 4] if abs(angle - quarter * math.pi / 2) < _SLANT else "unclear"


def _passages(
    scene: Scene, trajectory: Trajectory, events: Sequence[Event], wall: int, seen: Sequence[int]
) -> dict[int, Passage]:
    found: dict[int, Passage] = {}
    for event in events:
        if event.kind not in ("hidden", "reappears") or event.who not in seen:
            continue
        eye = scene.camera.world_from_camera(np.array([event.time]))[:, :3, 3]
        place = trajectory.positions(np.array([event.time]))[:, event.who]
        if not _behind(scene.objects[wall], eye, place)[0]:
            continue  # something else hides it
        if event.kind == "hidden":
            found[event.who] = "into"
        else:
            found[event.who] = "behind" if event.who in found else "out"
    return found


def _behind(wall: WorldObject, eyes: Float[np.ndarray, "F 3"], places: Float[np.ndarray, "F 3"]) -> np.ndarray:
    """Whether the wall cuts the line from each eye to each place."""
    c, s = math.cos(wall.yaw), math.sin(wall.yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    origin, step = (eyes - wall.position) @ turn, (places - eyes) @ turn
    inverse = 1 / np.where(np.abs(step) < 1e-9, 1e-9, step)
    middle, width = -origin * inverse, np.asarray(wall.dims) * np.abs(inverse)
    near, far = (middle - width).max(-1), (middle + width).min(-1)
    return (near <= far) & (far > 0) & (near < 1)
