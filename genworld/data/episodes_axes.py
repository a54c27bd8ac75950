"""Between Habitat's axes and ours.

Habitat has x to the right, y up and z backward: an agent whose rotation is the identity looks along -z. Ours have z up:
Habitat's (x, y, z) is (x, -z, y) here, the least rotation that brings up to z, as readers of scenes take it too. A
heading is 0 along our +x and grows towards +y: the identity looks along pi/2, and a turn to the left adds to it.
Matterport3DSimulator (R2R, RxR) has z up as we have; its heading is 0 along +y and grows to the *right*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from genworld.world.navigation.episode import Position

Rotation = tuple[float, float, float, float]
"""Quaternion x, y, z, w, as Habitat's files have it."""

_UPRIGHT = 1e-3  # length of the level part of the way one looks, below which it has no heading


def from_habitat(position: Sequence[float]) -> Position:
    """A place in Habitat's axes, in ours; metres."""
    x, y, z = position
    return x, -z, y


def to_habitat(position: Sequence[float]) -> Position:
    """The inverse of `from_habitat`; exact."""
    x, y, z = position
    return x, z, -y


def heading_of_rotation(rotation: Sequence[float]) -> float:
    """The heading, in [-pi, pi], of an agent with a rotation in Habitat's axes; a tilt of its head does not count.

    Raises:
        ValueError: it is no rotation, or the agent looks straight up or down.
    """
    length = math.hypot(*rotation)
    if len(rotation) != 4 or not 0.5 < length < 2:
        raise ValueError(f"expected a unit quaternion x, y, z, w, got {list(rotation)}")
    x, y, z, w = (value / length for value in rotation)
    right, back = -2 * (x * z + w * y), -(1 - 2 * (x * x + y * y))  # where -z is turned to
    if math.hypot(right, back) < _UPRIGHT:
        raise ValueError(f"rotation {list(rotation)} looks straight up or down, so that it has no heading")
    return math.atan2(-back, right)


def rotation_of_heading(heading: float) -> Rotation:
    """The upright rotation in Habitat's axes of an agent with a heading."""
    half = (heading - math.pi / 2) / 2
    return 0.0, math.sin(half), 0.0, math.cos(half)


def from_matterport(heading: float) -> float:
    """A heading of Matterport3DSimulator as ours, and the other way round."""
    return math.pi / 2 - heading
