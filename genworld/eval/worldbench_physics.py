"""3D coherence, permanence and interaction: a video of the world against its camera, its wall and the laws of motion.

Every function gives readable criteria by name, each in [0, 1]; one that does not apply is None.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from genworld.eval.tracking import Thing, hidden_frames, shrunk
from genworld.eval.worldbench_reading import BLINK, Reading, closeness, weakest
from genworld.eval.worldbench_scores import Criteria, contact_frame, metres_per_side, shape_doubt
from genworld.world.physics import GRAVITY, REBOUND_SPEED

# ---- 3D motion coherence ----


def coherence_criteria(reading: Reading) -> Criteria:
    """Whether what rests is seen where one rigid scene would show it under the camera's path; means over the objects.

    - `rigid`: one point in space explains the object's centres: the reprojection error of the best;
    - `follows`: its apparent motion is that of a thing on the floor, from where it is seen first.
    """
    rigid, follows = [], []
    for wanted, thing in zip(reading.case.objects, reading.matches, strict=True):
        options = () if thing is None else (thing.whole, thing.present & ~thing.cut)
        use = next((frames for frames in options if frames.sum() >= 2 * BLINK), None)
        if thing is None or use is None:
            rigid.append(0.0)
            follows.append(0.0)
            continue
        seen, frames = thing.centres[use], np.flatnonzero(use)
        start = reading.floor_places(thing, wanted)[frames[0]]
        expected = _seen_from(reading, start)[frames]
        sweep = _rms(expected - expected[0])
        rigid.append(closeness(_unexplained(reading, thing, frames), 0.012, max(0.04, 0.5 * sweep)))
        follows.append(closeness(_rms((seen - seen[0]) - (expected - expected[0])), 0.01, max(0.02, 0.55 * sweep)))
    return {"rigid": float(np.mean(rigid)), "follows": float(np.mean(follows))}


def _seen_from(reading: Reading, point: Float[np.ndarray, 3]) -> Float[np.ndarray, "F 2"]:
    """Where a point is seen in every frame, in shorter sides."""
    camera, case = reading.case.camera, reading.case
    poses, intrinsics = camera.world_from_camera.double().numpy(), camera.intrinsics.double().numpy()
    local = np.einsum("fji,fj->fi", poses[:, :3, :3], point - poses[:, :3, 3]) @ intrinsics.T
    return local[:, :2] / np.maximum(local[:, 2:], 1e-3) / min(case.shape.height, case.shape.width)


def _unexplained(reading: Reading, thing: Thing, frames: np.ndarray) -> float:
    """How far a thing's centres are from where the best point in space would be seen, RMS in shorter sides.

    All distances are tried along the viewing ray of a middle frame; the mean offset is left out, as if the direction
    had been refined. (The point nearest to all rays would not do: under a camera that only turns it is the camera.)
    """
    case, middle = reading.case, frames[len(frames) // 2]
    pose = case.camera.world_from_camera[middle].double().numpy()
    pixel = np.append(thing.centres[middle] * min(case.shape.height, case.shape.width), 1.0)
    ray = pose[:3, :3] @ np.linalg.inv(case.camera.intrinsics.double().numpy()) @ pixel
    errors = []
    for depth in np.geomspace(2.0, 30.0, 60):
        off = _seen_from(reading, pose[:3, 3] + depth * ray)[frames] - thing.centres[frames]
        errors.append(_rms(off - off.mean(0)))
    return min(errors)


def _rms(offsets: Float[np.ndarray, "n 2"]) -> float:
    return float(np.sqrt((offsets**2).sum(-1).mean()))


# ---- object permanence ----


def permanence_criteria(reading: Reading) -> Criteria:
    """Whether what goes behind the wall comes out again.

    - `returns`: it is seen, gets hidden by the wall, and is seen again beyond it, in the same colour;
    - `shape`: it comes out in the shape in which it went in;
    - `place`: it comes out where and when one that keeps rolling or sliding would.
    """
    story = reading.case.clip.story
    parts = [_passage(reading, who) for who in story.passages]
    return {name: weakest([part[name] for part in parts]) for name in ("returns", "shape", "place")}


def _passage(reading: Reading, who: int) -> Criteria:
    nothing: Criteria = {"returns": 0.0, "shape": 0.0, "place": 0.0}
    thing = reading.matches[who]
    if thing is None or reading.wall is None:
        return nothing
    behind = np.flatnonzero(hidden_frames(thing, reading.wall))
    if len(behind) == 0:
        return nothing
    frames = np.flatnonzero(thing.present)
    before, after = frames[frames < behind[0]], frames[frames > behind[-1]]
    if len(before) < BLINK or len(after) < BLINK:
        return nothing
    middle = np.flatnonzero(reading.wall.any(0)).mean() / min(reading.wall.shape)
    sides = thing.centres[before, 0].mean() - middle, thing.centres[after, 0].mean() - middle
    if sides[0] * sides[1] >= 0:
        return nothing
    return {
        "returns": 1.0,
        "shape": closeness(shape_doubt(reading, thing, [before, after]), 0.4, 1.6),
        "place": _place(reading, who, thing, before, after),
    }


def _place(reading: Reading, who: int, thing: Thing, before: np.ndarray, after: np.ndarray) -> float:
    """Where it is seen again against where its speed would have taken it, in metres.

    Partly hidden, its middle is not seen; but going in, its rear edge is, and coming out its front edge.
    """
    right = float(thing.centres[after[-1], 0] > thing.centres[before[0], 0]) * 2 - 1
    columns = [np.flatnonzero(mask.any(0)) for mask in thing.masks]
    spans = np.array([(c[0], c[-1] + 1.0) if len(c) else (np.nan, np.nan) for c in columns]) / min(
        thing.masks.shape[1:]
    )
    half = np.nanmax(spans[:, 1] - spans[:, 0]) / 2
    rear, front = spans[:, int(right < 0)] + right * half, spans[:, int(right > 0)] - right * half
    times = np.arange(len(columns)) / reading.case.shape.fps
    slow = reading.case.clip.scene.bodies[who].friction * GRAVITY / metres_per_side(reading, thing)
    errors = []
    for speed in np.linspace(0.02, 0.8, 79):  # shorter sides per second
        way = right * _way(times, float(speed), slow)
        start = (rear[before] - way[before]).mean()
        errors.append(
            (float(((rear - start - way)[before] ** 2).mean()), float(np.abs(front - start - way)[after].mean()))
        )
    likely = min(fit for fit, _ in errors)
    # All speeds that the frames before allow: few pixels say little about a speed.
    apart = min(miss for fit, miss in errors if fit <= likely + 0.006**2)
    return closeness(apart * metres_per_side(reading, thing), 0.3, 1.0)


def _way(times: Float[np.ndarray, " F"], speed: float, slow: float) -> Float[np.ndarray, " F"]:
    """Way gone by what begins with a speed and is slowed down evenly to rest."""
    moving = np.minimum(times, speed / slow)
    return speed * moving - slow * moving**2 / 2


# ---- interaction ----


def interaction_criteria(reading: Reading) -> Criteria:
    """Whether bounces and collisions happen as they must; each criterion is that of the object that does worst.

    - `gravity`: what drops moves as some drop from rest would, of whatever height and bounciness;
    - `rebounds`: it comes up again, each time lower than before;
    - `contact`: who is to hit another comes to it;
    - `cause`: the other rests until then, and moves from then on;
    - `solid`: nothing passes through anything;
    - `momentum`: the struck one goes where it was pushed, and the striking one loses speed.
    """
    story = reading.case.clip.story
    drops = [_bounce(reading, who) for who, act in enumerate(story.acts) if act == "bounce"]
    hits = [_collision(reading, who, whom) for who, whom in story.hits]
    names = (("gravity", "rebounds"), drops), (("contact", "cause", "solid", "momentum"), hits)
    return {name: weakest([part[name] for part in parts]) for group, parts in names for name in group}


def _bounce(reading: Reading, who: int) -> Criteria:
    thing = reading.matches[who]
    if thing is None or thing.present.sum() < 3 * BLINK:
        return {"gravity": 0.0, "rebounds": 0.0}
    return {
        "gravity": _gravity(reading, thing),
        "rebounds": float(_falls_lower(thing.centres[thing.present, 1])),
    }


def _gravity(reading: Reading, thing: Thing) -> float:
    """How far the track is from the nearest of all drops, against the spread of that drop."""
    shape, camera = reading.case.shape, reading.case.clip.scene.camera
    tilt = math.atan2(camera.height - camera.target[2], camera.distance)
    focal = 0.5 / math.tan(camera.half_fov)
    y, heights = thing.centres[thing.present, 1], _drops(shape.num_frames, shape.fps)[:, thing.present]
    best = math.inf
    for distance in np.linspace(0.75, 1.3, 12) * math.hypot(camera.distance, camera.height):
        expected = -heights * focal * math.cos(tilt) / distance
        off = (y - y.mean()) - (expected - expected.mean(1, keepdims=True))
        best = min(best, float((np.sqrt((off**2).mean(1)) / np.maximum(expected.std(1), 1e-3)).min()))
    return closeness(best, 0.2, 0.6)


@cache
def _drops(num_frames: int, fps: float) -> Float[np.ndarray, "n F"]:
    """Heights over time of drops from 0.6 to 2 metres, of all bouncinesses."""
    times = np.arange(num_frames) / fps
    return np.array(
        [_drop(high, part, times) for high in np.linspace(0.6, 2.0, 29) for part in np.linspace(0.4, 0.85, 10)]
    )


def _drop(high: float, bounciness: float, times: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    speed = math.sqrt(2 * GRAVITY * high)
    height = np.where(times < speed / GRAVITY, high - GRAVITY * times**2 / 2, 0.0)
    start = speed / GRAVITY
    while (speed := speed * bounciness) > REBOUND_SPEED and start < times[-1]:
        since = times - start
        flight = (since >= 0) & (since < 2 * speed / GRAVITY)
        height = np.where(flight, speed * since - GRAVITY * since**2 / 2, height)
        start += 2 * speed / GRAVITY
    return height


def _falls_lower(y: Float[np.ndarray, " F"]) -> bool:
    """Whether it begins highest, comes down, and goes up again at least once, each time less high."""
    y = y[np.concatenate([[True], np.abs(np.diff(y)) > 1e-4])]
    drop = float(y.max() - y[0])
    turns = [0, *(i for i in range(1, len(y) - 1) if (y[i] - y[i - 1]) * (y[i + 1] - y[i]) < 0), len(y) - 1]
    falls = [y[b] - y[a] for a, b in pairwise(turns)]
    real = [fall for fall in falls if abs(fall) > 0.12 * max(drop, 1e-3)]
    ups = [-fall for fall in real if fall < 0]
    if drop < 0.03 or len(real) < 2 or real[0] < 0:
        return False
    return bool(ups) and all(up < 0.9 * before for before, up in pairwise([drop, *ups]))


def _collision(reading: Reading, who: int, whom: int) -> Criteria:
    nothing: Criteria = dict.fromkeys(("contact", "cause", "solid", "momentum"), 0.0)
    first, second, when = reading.matches[who], reading.matches[whom], contact_frame(reading, who, whom)
    if first is None or second is None or when is None or not BLINK <= when < len(first.present) - BLINK:
        return nothing
    a, b = (_steady(reading, thing, i) for thing, i in ((first, who), (second, whom)))
    if a is None or b is None:
        return nothing
    coming = a[when] - a[0]
    ahead = coming / max(float(np.linalg.norm(coming)), 1e-6)
    left = (b - a) @ ahead  # how far the struck one is ahead
    return {
        "contact": float(np.linalg.norm(coming) > 0.1),
        "cause": _cause(b, when, reading.case.shape.fps),
        "solid": closeness(-float(left[when:].min()), 0.1, 0.5),
        "momentum": _momentum(a, b, ahead, when),
    }


def _cause(b: Float[np.ndarray, "F 2"], when: int, fps: float) -> float:
    """At rest before, moving after, and from the right moment on.

    It has set off where it is gone from its place for good: something that passes before it may seem to shift it for a
    while. And it is gone with a quarter of its way: of a slow push, a fixed one would take half a second.
    """
    rest = b[: max(when - 1, 1)].mean(0)
    away = np.linalg.norm(b - rest, axis=1)
    early = float(np.quantile(away[: max(when - 1, 1)], 0.9))
    at_place = np.flatnonzero(away <= min(0.15, 0.25 * float(away[-1])))
    late = (at_place[-1] + 1 - when) / fps if len(at_place) else -math.inf
    return min(
        closeness(early, 0.2, 0.5),
        closeness(-float(away[-BLINK:].mean()), -0.22, -0.08),
        closeness(abs(late), 0.4, 0.8),
    )


def _momentum(a: Float[np.ndarray, "F 2"], b: Float[np.ndarray, "F 2"], ahead: np.ndarray, when: int) -> float:
    push = b[-1] - b[max(when - 1, 0)]
    along = float(push @ ahead) / max(float(np.linalg.norm(push)), 1e-6)
    reach = min(4, when, len(a) - 1 - when)
    speeds = ((a[when] - a[when - reach]) @ ahead, (a[when + reach] - a[when]) @ ahead)
    return min(closeness(-along, -0.5, 0.0), closeness(float(speeds[1] / max(speeds[0], 1e-3)), 1.0, 1.5))


def _steady(reading: Reading, thing: Thing, index: int) -> Float[np.ndarray, "F 2"] | None:
    """Its way over the floor, filled in where it is not seen or half covered; None when it is hardly ever seen."""
    plan = reading.plan(thing, reading.case.objects[index])
    known = np.flatnonzero(np.isfinite(plan).all(1) & ~shrunk(thing))
    if len(known) < 3 * BLINK:
        return None
    return np.stack([np.interp(np.arange(len(plan)), known, plan[known, i]) for i in range(2)], axis=1)
