"""The world's objects as bodies of its physics."""

from __future__ import annotations

import math

from genworld.world.objects import WorldObject
from genworld.world.physics import Body

_ROLLING, _SLIDING = 0.035, 0.085


def friction_of(thing: WorldObject) -> float:
    """Its deceleration as a part of gravity: spheres roll, all others slide."""
    return _ROLLING if thing.shape == "sphere" else _SLIDING


def body_of(thing: WorldObject) -> Body:
    """It as the physics sees it: as heavy as it is large."""
    a, b, c = thing.dims
    volume = {
        "sphere": 4 / 3 * math.pi * a**3,
        "cube": 8 * a * b * c,
        "cylinder": 2 * math.pi * a * a * c,
        "cone": 2 / 3 * math.pi * a * a * c,
        "torus": 2 * math.pi**2 * a * b * b,
        "wall": math.inf,
    }[thing.shape]
    return Body(
        shape=thing.shape,
        dims=thing.dims,
        position=thing.position,
        velocity=thing.velocity,
        yaw=thing.yaw,
        mass=volume,
        friction=friction_of(thing),
        bounciness=thing.bounciness,
    )
