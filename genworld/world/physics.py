"""Continuous-time physics of bodies on a floor: gravity, bounce, friction, collisions.

Between two events every body moves along a parabola in time, so the whole history is a list of parabolas per body and
a list of events, found event by event with no time step. Frame rate is only a choice of where to look at it.

Two simplifications keep it exact and fast. Bodies stay upright: a ball rolls as far as it travels and nothing else
turns. And two bodies touch when their horizontal sections do, at whatever height that happens first; the push between
them is horizontal and frictionless.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

GRAVITY = 9.81
CONTACT = 1e-4  # metres: closer than this is touching
PATIENCE = 1e-3  # seconds: the shortest step towards a contact; bounds how deep bodies can sink in: speed x PATIENCE
REST_SPEED = 0.03  # m/s: slower approaches do not bounce, so that no chain of ever smaller bounces forms
REBOUND_SPEED = 0.3  # m/s: slower rebounds from the floor are not made
MAX_EVENTS = 1000

EventKind = Literal["collision", "land", "bounce", "stop", "hidden", "reappears"]


class Event(NamedTuple):
    """Something that happened.

    `who` and `whom` are indices of objects. In a collision `who` is the faster one before it; for "hidden" and
    "reappears", `whom` is None. `speed` is the speed of the impact in m/s (0 where there is none).
    """

    time: float
    kind: EventKind
    who: int
    whom: int | None = None
    speed: float = 0.0


@dataclass(frozen=True)
class Body:
    """What physics needs to know of an object.

    Attributes:
        shape: "sphere", "cylinder", "cone", "torus" (round sections) or "cube", "wall" (box).
        dims: as in `WorldObject.dims`.
        position: centre at time 0, metres.
        velocity: horizontal velocity at time 0.
        yaw: turn about the vertical; it never changes.
        mass: kilograms; infinite for what cannot be moved.
        friction: deceleration on the floor as a part of gravity (rolling resistance for a sphere).
        bounciness: restitution against the floor; between two bodies the smaller one counts.
    """

    shape: str
    dims: tuple[float, float, float]
    position: tuple[float, float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    yaw: float = 0.0
    mass: float = 1.0
    friction: float = 0.1
    bounciness: float = 0.6


class Piece(NamedTuple):
    """One parabola: position p + v s + a s^2 / 2 for s = time - start, until `end`."""

    start: float
    end: float
    p: tuple[float, float, float]
    v: tuple[float, float, float]
    a: tuple[float, float, float]

    def at(self, time: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Position and velocity."""
        s = time - self.start
        (px, py, pz), (vx, vy, vz), (ax, ay, az) = self.p, self.v, self.a
        h = 0.5 * s * s
        return (px + vx * s + ax * h, py + vy * s + ay * h, pz + vz * s + az * h), (
            vx + ax * s,
            vy + ay * s,
            vz + az * s,
        )

    @property
    def moving(self) -> bool:
        """Whether it is anything but rest."""
        return self.v != (0.0, 0.0, 0.0) or self.a != (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Trajectory:
    """All motion up to some time: parabolas per body, and events in order of time."""

    bodies: tuple[Body, ...]
    pieces: tuple[tuple[Piece, ...], ...]
    events: tuple[Event, ...]

    def positions(self, times: Float[np.ndarray, " F"]) -> Float[np.ndarray, "F N 3"]:
        """Centres in metres at `times`."""
        return np.stack([_sample(pieces, times)[0] for pieces in self.pieces], axis=1)

    def velocities(self, times: Float[np.ndarray, " F"]) -> Float[np.ndarray, "F N 3"]:
        """Velocities in m/s at `times`."""
        return np.stack([_sample(pieces, times)[1] for pieces in self.pieces], axis=1)

    def rotations(self, times: Float[np.ndarray, " F"]) -> Float[np.ndarray, "F N 3 3"]:
        """World from object axes at `times`: yaw, and for spheres the turning of rolling without slipping."""
        pairs = zip(self.bodies, self.pieces, strict=True)
        return np.stack([_roll(b, p, times) if b.shape == "sphere" else _upright(b, times) for b, p in pairs], axis=1)


@dataclass
class _State:
    bodies: Sequence[Body]
    pieces: list[list[Piece]]
    events: list[Event] = field(default_factory=list)
    meetings: dict[tuple[int, int], float] = field(default_factory=dict)
    landed: set[int] = field(default_factory=set)

    def piece(self, index: int) -> Piece:
        return self.pieces[index][-1]


def simulate(bodies: Sequence[Body], until: float) -> Trajectory:
    """Move `bodies` from time 0 to `until` seconds.

    The history up to any time does not depend on `until`.
    """
    state = _State(bodies, [[_piece(body, 0.0, body.position, (*body.velocity, 0.0))] for body in bodies])
    for pair in combinations(range(len(bodies)), 2):
        state.meetings[pair] = _meeting(state, pair, 0.0)
    while len(state.events) < MAX_EVENTS:
        ends = [pieces[-1].end for pieces in state.pieces]
        index = min(range(len(ends)), key=ends.__getitem__, default=0)
        first = min(state.meetings, key=state.meetings.__getitem__, default=None)
        own = ends[index] if ends else math.inf
        meet = state.meetings[first] if first else math.inf
        now = min(own, meet)
        if now > until:
            break
        if first is not None and meet <= own:
            _collide(state, first, now)
            changed = set(first)
        else:
            _end_of_piece(state, index, now)
            changed = {index}
        for other in state.meetings:
            if changed & set(other):
                state.meetings[other] = _meeting(state, other, now)
    return Trajectory(tuple(bodies), tuple(map(tuple, state.pieces)), tuple(state.events))


def gap(a: Body, b: Body, offset: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Horizontal distance between two bodies standing on one floor, and the direction from `a` to `b`.

    Args:
        a: first body.
        b: second body.
        offset: from the axis of `a` to the axis of `b`, metres.

    Returns:
        Distance (negative when they overlap; between corners of two boxes a lower bound) and a unit vector.
    """
    boxes = (a.shape in ("cube", "wall"), b.shape in ("cube", "wall"))
    if boxes == (False, False):
        distance = math.hypot(*offset)
        direction = (offset[0] / distance, offset[1] / distance) if distance > 0 else (1.0, 0.0)
        return distance - _reach(a.shape, a.dims, b.shape, b.dims), direction
    if boxes == (True, False):
        distance, direction = _box_to_point(a, offset)
        return distance - _radius_below(b.shape, b.dims, 2 * a.dims[2]), direction
    if boxes == (False, True):
        distance, (nx, ny) = gap(b, a, (-offset[0], -offset[1]))
        return distance, (-nx, -ny)
    return _box_to_box(a, b, offset)


def _piece(body: Body, start: float, p: tuple[float, float, float], v: tuple[float, float, float]) -> Piece:
    vx, vy, vz = v
    height = p[2] - body.dims[2]
    if height > 1e-9 or vz > 0:
        fall = (vz + math.sqrt(max(vz * vz + 2 * GRAVITY * height, 0.0))) / GRAVITY
        return Piece(start, start + fall, p, v, (0.0, 0.0, -GRAVITY))
    p = (p[0], p[1], body.dims[2])
    speed = math.hypot(vx, vy)
    if speed < 1e-6 or math.isinf(body.mass):
        return Piece(start, math.inf, p, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    slow = body.friction * GRAVITY
    if slow == 0:
        return Piece(start, math.inf, p, (vx, vy, 0.0), (0.0, 0.0, 0.0))
    return Piece(start, start + speed / slow, p, (vx, vy, 0.0), (-slow * vx / speed, -slow * vy / speed, 0.0))


def _end_of_piece(state: _State, index: int, now: float) -> None:
    body, piece = state.bodies[index], state.piece(index)
    p, v = piece.at(now)
    if piece.a[2] == 0:  # slid to a stop
        state.events.append(Event(now, "stop", index))
        v = (0.0, 0.0, 0.0)
    else:
        state.events.append(Event(now, "bounce" if index in state.landed else "land", index, None, -v[2]))
        state.landed.add(index)
        rebound = -v[2] * body.bounciness
        v = (v[0], v[1], rebound if rebound > REBOUND_SPEED else 0.0)
        p = (p[0], p[1], body.dims[2])
    state.pieces[index].append(_piece(body, now, p, v))


def _meeting(state: _State, pair: tuple[int, int], now: float) -> float:
    """When the pair touches on its present course, by conservative advancement; infinity if never."""
    i, j = pair
    a, b, first, second = state.bodies[i], state.bodies[j], state.piece(i), state.piece(j)
    if not (first.moving or second.moving):
        return math.inf
    time, limit = now, min(first.end, second.end)
    while time <= limit:
        (pa, va), (pb, vb) = first.at(time), second.at(time)
        distance, (nx, ny) = gap(a, b, (pb[0] - pa[0], pb[1] - pa[1]))
        if distance < CONTACT and (vb[0] - va[0]) * nx + (vb[1] - va[1]) * ny < -1e-6:
            return time
        speed = math.hypot(va[0], va[1]) + math.hypot(vb[0], vb[1])
        if speed < 1e-6:
            return math.inf
        time += max(distance / speed, PATIENCE)
    return math.inf


def _collide(state: _State, pair: tuple[int, int], now: float) -> None:
    i, j = pair
    a, b = state.bodies[i], state.bodies[j]
    (pa, va), (pb, vb) = state.piece(i).at(now), state.piece(j).at(now)
    _, (nx, ny) = gap(a, b, (pb[0] - pa[0], pb[1] - pa[1]))
    approach = (va[0] - vb[0]) * nx + (va[1] - vb[1]) * ny
    bounce = min(a.bounciness, b.bounciness) if approach > REST_SPEED else 0.0
    impulse = (1 + bounce) * approach / (1 / a.mass + 1 / b.mass)
    if approach > REST_SPEED:
        who, whom = (i, j) if math.hypot(*va[:2]) >= math.hypot(*vb[:2]) else (j, i)
        state.events.append(Event(now, "collision", who, whom, approach))
    for index, body, p, v, sign in ((i, a, pa, va, -1), (j, b, pb, vb, 1)):
        kick = sign * impulse / body.mass
        state.pieces[index].append(_piece(body, now, p, (v[0] + kick * nx, v[1] + kick * ny, v[2])))


@lru_cache(maxsize=4096)
def _radius_below(shape: str, dims: tuple[float, float, float], height: float) -> float:
    """Largest radius of a round body's sections between the floor and `height`."""
    return float(_profile(shape, dims, np.linspace(0, min(height, 2 * dims[2]), 65)).max())


@lru_cache(maxsize=4096)
def _reach(shape: str, dims: tuple[float, float, float], other: str, other_dims: tuple[float, float, float]) -> float:
    """Distance between the axes of two round bodies that touch: the widest pair of sections at one height."""
    heights = np.linspace(0, 2 * min(dims[2], other_dims[2]), 257)
    return float((_profile(shape, dims, heights) + _profile(other, other_dims, heights)).max())


def _profile(shape: str, dims: tuple[float, float, float], z: np.ndarray) -> np.ndarray:
    """Radius of the section at height `z` above the floor."""
    a, b, half = dims
    if shape == "sphere":
        return np.sqrt(np.maximum(a * a - (z - a) ** 2, 0))
    if shape == "torus":
        return a + np.sqrt(np.maximum(b * b - (z - b) ** 2, 0))
    return a * (1 - z / (2 * half)) if shape == "cone" else np.full_like(z, a)


def _box_to_point(box: Body, offset: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    c, s = math.cos(box.yaw), math.sin(box.yaw)
    x, y = c * offset[0] + s * offset[1], -s * offset[0] + c * offset[1]
    dx, dy = abs(x) - box.dims[0], abs(y) - box.dims[1]
    if dx > 0 and dy > 0:
        distance = math.hypot(dx, dy)
        nx, ny = math.copysign(dx / distance, x), math.copysign(dy / distance, y)
    else:
        distance = max(dx, dy)
        nx, ny = (math.copysign(1.0, x), 0.0) if dx > dy else (0.0, math.copysign(1.0, y))
    return distance, (c * nx - s * ny, s * nx + c * ny)


def _box_to_box(a: Body, b: Body, offset: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    """Separating axes: the largest gap over the four face directions."""
    best, direction = -math.inf, (1.0, 0.0)
    for yaw in (a.yaw, a.yaw + math.pi / 2, b.yaw, b.yaw + math.pi / 2):
        x, y = math.cos(yaw), math.sin(yaw)
        along = offset[0] * x + offset[1] * y
        half = sum(
            body.dims[0] * abs(math.cos(body.yaw - yaw)) + body.dims[1] * abs(math.sin(body.yaw - yaw))
            for body in (a, b)
        )
        if abs(along) - half > best:
            best, direction = abs(along) - half, (math.copysign(x, x * along), math.copysign(y, y * along))
    return best, direction


def _sample(pieces: tuple[Piece, ...], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    which = np.searchsorted([piece.start for piece in pieces], times, side="right") - 1
    table = np.array([(piece.start, *piece.p, *piece.v, *piece.a) for piece in pieces])[np.maximum(which, 0)]
    s = (times - table[:, 0])[:, None]
    p, v, a = table[:, 1:4], table[:, 4:7], table[:, 7:10]
    return p + v * s + 0.5 * a * s * s, v + a * s


def _upright(body: Body, times: np.ndarray) -> np.ndarray:
    return np.broadcast_to(_turn(np.array([0.0, 0.0, 1.0]), np.array(body.yaw)), (len(times), 3, 3))


def _roll(body: Body, pieces: tuple[Piece, ...], times: np.ndarray) -> np.ndarray:
    which = np.maximum(np.searchsorted([piece.start for piece in pieces], times, side="right") - 1, 0)
    out = np.empty((len(times), 3, 3))
    tilt = _turn(np.array([1.0, 0.0, 0.0]), np.array(0.6 + body.yaw))  # shows the band of a ball that has not moved
    turned = _turn(np.array([0.0, 0.0, 1.0]), np.array(body.yaw)) @ tilt
    for index, piece in enumerate(pieces):
        speed = math.hypot(piece.v[0], piece.v[1])
        grounded = piece.a[2] == 0 and speed > 0
        axis = np.array([-piece.v[1], piece.v[0], 0.0]) / speed if grounded else np.array([0.0, 0.0, 1.0])
        slow = math.hypot(piece.a[0], piece.a[1])

        def angle(
            s: np.ndarray, rate: float = speed / body.dims[0] * grounded, slow: float = slow / body.dims[0]
        ) -> np.ndarray:
            return rate * s - 0.5 * slow * s * s

        inside = which == index
        out[inside] = _turn(axis, angle(times[inside] - piece.start)) @ turned
        if index + 1 < len(pieces):
            turned = _turn(axis, angle(np.array(pieces[index + 1].start - piece.start))) @ turned
    return out


def _turn(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
