"""Rays against primitives in the primitives' own axes (z up, centred), on flat lists of (ray, primitive) pairs.

Everything is written component by component (`x`, `y`, `z` as separate lists), which is what makes it fast on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genworld.ops.masks import true_rows

KINDS = ("sphere", "cube", "cylinder", "cone", "torus")
"""Index in this tuple is the `kind` of an instance; a wall is a cube with its own dims."""

_TORUS_STEPS = 24
_TINY = 1e-9


class Vec(NamedTuple):
    """Three tensors of one shape: the components of many vectors."""

    x: Tensor
    y: Tensor
    z: Tensor

    def dot(self, other: Vec) -> Tensor:
        """Inner products."""
        return self.x * other.x + self.y * other.y + self.z * other.z

    def along(self, direction: Vec, t: Tensor) -> Vec:
        """`self + t * direction`."""
        return Vec(*(torch.addcmul(o, t, d) for o, d in zip(self, direction, strict=True)))

    def scaled(self, factor: Tensor) -> Vec:
        """`self * factor`."""
        return Vec(self.x * factor, self.y * factor, self.z * factor)

    def unit(self) -> Vec:
        """Normalised to length 1."""
        return self.scaled(torch.rsqrt(self.dot(self).clamp_min(_TINY)))

    def pick(self, index: Tensor) -> Vec:
        """The vectors at `index` of flat lists."""
        return Vec(*(c.index_select(0, index) for c in self))

    def rotated(self, matrix: Tensor) -> Vec:
        """`matrix @ self`; `matrix` is [9 P] (row-major)."""
        m = matrix
        return Vec(*(m[i] * self.x + m[i + 1] * self.y + m[i + 2] * self.z for i in (0, 3, 6)))

    def unrotated(self, matrix: Tensor) -> Vec:
        """`matrix.T @ self`; `matrix` is [9 P] (row-major)."""
        m = matrix
        return Vec(*(m[i] * self.x + m[i + 3] * self.y + m[i + 6] * self.z for i in (0, 1, 2)))


def intersect(kind: int, origin: Vec, direction: Vec, dims: Vec) -> Tensor:
    """Where each ray enters its primitive: `t` of `origin + t direction`, infinite when it misses.

    Entries behind the origin are misses, so the origin has to be outside.
    """
    # Start from the point nearest the centre: quadratics lose digits when the origin is far away.
    shift = -origin.dot(direction) / direction.dot(direction)
    t = _ENTRIES[kind](origin.along(direction, shift), direction, dims) + shift
    return torch.where(t > 0, t, torch.inf)


def normals(kind: int, point: Vec, dims: Vec) -> Vec:
    """Outward unit normals at points on the surface."""
    return _NORMALS[kind](point, dims)


def _interval(near: Tensor, far: Tensor) -> Tensor:
    return torch.where(near <= far, near, torch.inf)


def _slab(origin: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    inverse = torch.where(direction.abs() < _TINY, _TINY, direction).reciprocal()
    middle, width = -origin * inverse, half * inverse.abs()
    return middle - width, middle + width


def _disc(o: Vec, d: Vec, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Interval inside an endless upright cylinder (NaN when missed)."""
    a = (d.x * d.x + d.y * d.y).clamp_min(_TINY)
    b = o.x * d.x + o.y * d.y
    root = torch.sqrt(b * b - a * (o.x * o.x + o.y * o.y - radius * radius))
    return (-b - root) / a, (-b + root) / a


def _sphere(o: Vec, d: Vec, dims: Vec) -> Tensor:
    left = (dims.x * dims.x - o.dot(o)) / d.dot(d)  # `o` is the nearest point, so the chord is symmetric about it
    return torch.where(left >= 0, -torch.sqrt(left), torch.inf)


def _box(o: Vec, d: Vec, dims: Vec) -> Tensor:
    x, y, z = (_slab(*each) for each in zip(o, d, dims, strict=True))
    near = torch.maximum(torch.maximum(x[0], y[0]), z[0])
    return _interval(near, torch.minimum(torch.minimum(x[1], y[1]), z[1]))


def _cylinder(o: Vec, d: Vec, dims: Vec) -> Tensor:
    side, caps = _disc(o, d, dims.x), _slab(o.z, d.z, dims.z)
    return _interval(torch.maximum(side[0], caps[0]), torch.minimum(side[1], caps[1]))


def _cone(o: Vec, d: Vec, dims: Vec) -> Tensor:
    """Apex at +z. A ray is inside the double cone between its roots, or, when steep, outside them."""
    slope = (dims.x / (2 * dims.z)) ** 2
    w, dw = dims.z - o.z, -d.z
    a = d.x * d.x + d.y * d.y - slope * dw * dw
    b = o.x * d.x + o.y * d.y - slope * w * dw
    c = o.x * o.x + o.y * o.y - slope * w * w
    a = torch.where(a.abs() < 1e-7, 1e-7, a)
    root = torch.sqrt(b * b - a * c)
    low, high = (-b - root) / a, (-b + root) / a
    caps = _slab(o.z, d.z, dims.z)
    steep = a < 0  # then `high` is the smaller root
    near = torch.where(steep, torch.where(dw > 0, low, -torch.inf), low)
    far = torch.where(steep, torch.where(dw > 0, torch.inf, high), high)
    return _interval(torch.maximum(near, caps[0]), torch.minimum(far, caps[1]))


def _torus(o: Vec, d: Vec, dims: Vec) -> Tensor:
    """Sphere tracing through the slab and cylinder around it, then one Newton step."""
    ring, tube = dims.x, dims.y
    length = torch.sqrt(d.dot(d))
    unit = d.scaled(length.reciprocal())
    side, caps = _disc(o, unit, ring + tube), _slab(o.z, unit.z, tube)
    near, far = torch.maximum(side[0], caps[0]), torch.minimum(side[1], caps[1])
    out = torch.full_like(near, torch.inf)
    inside = true_rows(near <= far)
    o, unit, ring, tube = o.pick(inside), unit.pick(inside), ring[inside], tube[inside]
    t, far = near[inside], far[inside]
    start, way = torch.stack(o), torch.stack(unit)
    for _ in range(_TORUS_STEPS):
        t += _torus_distance(torch.addcmul(start, t, way), ring, tube)
    point = torch.addcmul(start, t, way)
    left = _torus_distance(point, ring, tube)
    facing = _torus_normal(Vec(*point), Vec(ring, tube, tube)).dot(unit).clamp_max(-0.05)
    # What still hovers just above the surface is a grazing ray; a thousandth of the tube is far below a pixel.
    hit = (left < 1e-3 * tube) & (t <= far + 1e-3)
    out[inside] = torch.where(hit, t - left / facing, torch.inf)
    return out / length


def _torus_distance(point: Tensor, ring: Tensor, tube: Tensor) -> Tensor:
    """Of points [3 P]; in few calls, as rooms show tori of a few pixels, dozens of times each."""
    x2, y2, z2 = point.square()
    return (x2 + y2).sqrt_().sub_(ring).square_().add_(z2).sqrt_().sub_(tube)


def _sphere_normal(p: Vec, dims: Vec) -> Vec:
    return p.scaled(dims.x.reciprocal())


def _box_normal(p: Vec, dims: Vec) -> Vec:
    x, y, z = p.x / dims.x, p.y / dims.y, p.z / dims.z
    top = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
    on_x = x.abs() == top
    on_y = (y.abs() == top) & ~on_x
    return Vec(x.sign() * on_x, y.sign() * on_y, z.sign() * ~(on_x | on_y))


def _cylinder_normal(p: Vec, dims: Vec) -> Vec:
    radius = torch.sqrt(p.x * p.x + p.y * p.y).clamp_min(_TINY)
    cap = dims.z - p.z.abs() < dims.x - radius
    return Vec(torch.where(cap, 0, p.x / radius), torch.where(cap, 0, p.y / radius), torch.where(cap, p.z.sign(), 0))


def _cone_normal(p: Vec, dims: Vec) -> Vec:
    radius = torch.sqrt(p.x * p.x + p.y * p.y).clamp_min(_TINY)
    slope = dims.x / (2 * dims.z)
    base = p.z + dims.z < slope * (dims.z - p.z) - radius
    up = slope * torch.rsqrt(1 + slope * slope)
    out = up / slope / radius
    return Vec(torch.where(base, 0, p.x * out), torch.where(base, 0, p.y * out), torch.where(base, -1, up))


def _torus_normal(p: Vec, dims: Vec) -> Vec:
    inward = 1 - dims.x * torch.rsqrt((p.x * p.x + p.y * p.y).clamp_min(_TINY))
    return Vec(p.x * inward, p.y * inward, p.z).unit()


_ENTRIES: tuple[Callable[[Vec, Vec, Vec], Tensor], ...] = (_sphere, _box, _cylinder, _cone, _torus)
_NORMALS: tuple[Callable[[Vec, Vec], Vec], ...] = (
    _sphere_normal,
    _box_normal,
    _cylinder_normal,
    _cone_normal,
    _torus_normal,
)
