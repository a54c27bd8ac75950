"""Views of a furnished floor by ray casting: pictures, and the geometry behind them.

The primitives are those of the world, tried only in the rectangle that each one projects to, walls first: what they
hide is not tried. Floor and ceiling are planes. Only pixels that differ from a neighbour are supersampled.
`genworld.world.render.trace` is the slow twin of the geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.world.primitives import KINDS, Vec, intersect, normals
from genworld.world.rooms.light import shade
from genworld.world.rooms.plan import CEILING
from genworld.world.rooms.stage import RoomStage

_NEAR = 0.05  # metres: nothing is nearer to the camera than this
_PAD = 1.0  # pixels around each primitive: the neighbours of a covered pixel may have covered subpixels
_EDGE = 0.05  # display units: pixels that differ so much from a neighbour are supersampled
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))
_RAYS_PER_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 22}
_CORNERS = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
_SIDES = tuple((i, i | bit) for bit in (1, 2, 4) for i in range(8) if not i & bit)


@dataclass(frozen=True)
class RoomViews:
    """What is where in each pixel's centre.

    Attributes:
        depth: metres along the camera's z axis.
        ids: 0 for the building, 1 + index for a thing.
        parts: row of `RoomStage.owner`.
        normals: outward, world axes.
    """

    depth: Float[Tensor, "V H W"]
    ids: Int[Tensor, "V H W"]
    parts: Int[Tensor, "V H W"]
    normals: Float[Tensor, "V H W 3"]


class _Rays(NamedTuple):
    """Rays as flat lists: which view each belongs to, and its direction in the camera's axes as (u, v, 1)."""

    view: Tensor
    u: Tensor
    v: Tensor


class _Pairs(NamedTuple):
    """Which ray may meet which instance (view x primitive)."""

    ray: Tensor
    instance: Tensor

    def where(self, keep: Tensor) -> _Pairs:
        return _Pairs(self.ray.index_select(0, keep), self.instance.index_select(0, keep))


class _Seen(NamedTuple):
    """Primitives as the cameras of a chunk see them; instances are view x primitive."""

    turn: Tensor  # own axes from camera, [9 VN]
    eye: Vec  # in own axes, [VN]
    near: Tensor  # least depth, [VN]
    rectangle: Tensor  # first column, last column, first row, last row, [4 VN]


class Hits(NamedTuple):
    """The nearest surface of every ray."""

    depth: Tensor
    part: Tensor  # row of `RoomStage.albedo`
    normal: Vec


def render(
    stage: RoomStage, world_from_camera: Float[Tensor, "V 4 4"], intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]
) -> tuple[Float[Tensor, "V 3 H W"], Float[Tensor, "V H W"]]:
    """Pictures in [-1, 1], antialiased, and depth at pixel centres in metres along the camera's z axis.

    Args:
        stage: the floor.
        world_from_camera: OpenCV camera axes, metres; inside a room.
        intrinsics: in pixels of `size`.
        size: height and width.
    """
    parts = [_Camera(stage, poses, intrinsics, size).picture() for poses in _split(world_from_camera, size)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def trace(
    stage: RoomStage, world_from_camera: Float[Tensor, "V 4 4"], intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]
) -> RoomViews:
    """Depth, ids and normals at pixel centres; arguments as in `render`."""
    parts = [_Camera(stage, poses, intrinsics, size).geometry() for poses in _split(world_from_camera, size)]
    return RoomViews(*(torch.cat(fields) for fields in zip(*parts, strict=True)))


def _split(poses: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    return poses.split(max(1, _RAYS_PER_CHUNK.get(poses.device.type, 1 << 20) // (size[0] * size[1])))


class _Camera:
    """Some views of one floor."""

    def __init__(self, stage: RoomStage, poses: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> None:
        self.stage, self.poses, self.intrinsics, self.size = stage, poses, intrinsics, size
        self.seen = _see(stage, poses, intrinsics, size)
        self.turn = rearrange(poses[:, :3, :3], "v i j -> (i j) v").contiguous()
        self.eye = poses[:, :3, 3].T.contiguous()
        # Rotation and dims per primitive, by component.
        self.rotation = rearrange(stage.rotation, "n i j -> (i j) n").contiguous()
        self.dims = Vec(*stage.dims.T.contiguous())

    def geometry(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        hits, _, _ = self._whole()
        views, (height, width) = len(self.poses), self.size
        normal = torch.stack(hits.normal, dim=-1)
        return (
            hits.depth.view(views, height, width),
            self.stage.owner[hits.part].view(views, height, width),
            hits.part.view(views, height, width),
            normal.view(views, height, width, 3),
        )

    def picture(self) -> tuple[Tensor, Tensor]:
        views, (height, width) = len(self.poses), self.size
        hits, rays, pairs = self._whole()
        colour = self._colour(rays, hits)
        edge = _edges(colour.view(3, views, height, width), self.stage.owner[hits.part].view(views, height, width))
        chosen = true_rows(edge.reshape(-1))
        place = torch.full_like(hits.part, -1)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        at = place[pairs.ray]
        kept = true_rows(at >= 0)
        samples = len(_SUBPIXELS)
        offset = torch.tensor(_SUBPIXELS, device=chosen.device)
        fine = self._rays(chosen.repeat(samples), offset.repeat_interleave(len(chosen), 0))
        shift = torch.arange(samples, device=chosen.device).repeat_interleave(len(kept)) * len(chosen)
        again = _Pairs(at[kept].repeat(samples) + shift, pairs.instance[kept].repeat(samples))
        finer = self._colour(fine, self._nearest(fine, self._planes(fine), [again]))
        colour.index_copy_(1, chosen, finer.view(3, samples, len(chosen)).mean(1))
        pixels = rearrange(colour.clamp_(0, 1).sqrt_(), "c (v h w) -> v c h w", v=views, h=height)
        return pixels.mul_(2).sub_(1), hits.depth.view(views, height, width)

    def _whole(self) -> tuple[Hits, _Rays, _Pairs]:
        """All pixels, and the pairs that were tried."""
        views, (height, width) = len(self.poses), self.size
        rays = self._rays(torch.arange(views * height * width, device=self.poses.device), None)
        start = self._planes(rays)
        primitive = torch.arange(len(self.stage), device=rays.u.device).repeat(views)
        walls = self._pairs(true_rows(primitive < self.stage.num_walls))
        first = self._nearest(rays, start, [walls])
        others = self._pairs(true_rows(primitive >= self.stage.num_walls))
        open_ = self.seen.near.index_select(0, others.instance) < first.depth.index_select(0, others.ray)
        others = others.where(true_rows(open_))
        both = _Pairs(*(torch.cat(pair) for pair in zip(walls, others, strict=True)))
        return self._nearest(rays, first, [others]), rays, both

    def _rays(self, pixel: Tensor, offset: Tensor | None) -> _Rays:
        height, width = self.size
        k = self.intrinsics
        inside = pixel % (height * width)
        x, y = (inside % width).float() + 0.5, (inside // width).float() + 0.5
        if offset is not None:
            x, y = x + offset[:, 0], y + offset[:, 1]
        return _Rays(pixel // (height * width), (x - k[0, 2]) / k[0, 0], (y - k[1, 2]) / k[1, 1])

    def _world(self, rays: _Rays) -> tuple[Vec, Vec]:
        """Eye and direction in world axes."""
        turn, eye = self.turn.index_select(1, rays.view), self.eye.index_select(1, rays.view)
        direction = Vec(*(turn[i] * rays.u + (turn[i + 1] * rays.v + turn[i + 2]) for i in (0, 3, 6)))
        return Vec(*eye), direction

    def _planes(self, rays: _Rays) -> Hits:
        """Floor and ceiling: what every ray meets in the end."""
        eye, direction = self._world(rays)
        down = direction.z < 0
        rise = torch.where(direction.z.abs() < 1e-6, 1e-6, direction.z)
        depth = torch.where(down, -eye.z, CEILING - eye.z) / rise
        part = torch.where(down, len(self.stage), len(self.stage) + 1)
        flat = torch.zeros_like(depth)
        return Hits(depth, part, Vec(flat, flat.clone(), torch.where(down, 1.0, -1.0)))

    def _pairs(self, instance: Tensor) -> _Pairs:
        """Every ray in the rectangles of some instances."""
        height, width = self.size
        x0, x1, y0, y1 = self.seen.rectangle.index_select(1, instance)
        columns, rows = (x1 - x0).clamp_min(0), (y1 - y0).clamp_min(0)
        count = columns * rows
        kept = true_rows(count > 0)
        instance, count, columns, x0, y0 = (each[kept] for each in (instance, count, columns, x0, y0))
        first = instance // len(self.stage) * (height * width) + y0 * width + x0
        which = torch.repeat_interleave(count)
        offset = torch.arange(len(which), device=which.device) - (count.cumsum(0) - count).index_select(0, which)
        across = columns.index_select(0, which)
        row = torch.div(offset, across, rounding_mode="floor")
        ray = first.index_select(0, which) + row * width + (offset - row * across)
        return _Pairs(ray, instance.index_select(0, which))

    def _nearest(self, rays: _Rays, start: Hits, tried: list[_Pairs]) -> Hits:
        """The nearest of `start` and all pairs."""
        nearest, part = start.depth, start.part.clone()
        normal = Vec(*(c.clone() for c in start.normal))
        found: list[tuple[_Pairs, Tensor, Vec, int]] = []
        for pairs in tried:
            kinds = self.stage.kind.index_select(0, pairs.instance % len(self.stage))
            for number in range(len(KINDS)):
                chosen = pairs.where(true_rows(kinds == number))
                if not len(chosen.ray):
                    continue
                t, local = self._meet(number, rays, chosen)
                hit = true_rows(t < nearest.index_select(0, chosen.ray))
                chosen, t, local = chosen.where(hit), t[hit], local.pick(hit)
                nearest = nearest.scatter_reduce(0, chosen.ray, t, "amin")
                found.append((chosen, t, local, number))
        for chosen, t, local, number in found:
            top = true_rows(t == nearest.index_select(0, chosen.ray))
            chosen = chosen.where(top)
            primitive = chosen.instance % len(self.stage)
            dims, rotation = self.dims.pick(primitive), self.rotation.index_select(1, primitive)
            out = normals(number, local.pick(top), dims).rotated(rotation)
            part.index_copy_(0, chosen.ray, primitive)
            for dense, value in zip(normal, out, strict=True):
                dense.index_copy_(0, chosen.ray, value)
        return Hits(nearest, part, normal)

    def _meet(self, number: int, rays: _Rays, pairs: _Pairs) -> tuple[Tensor, Vec]:
        """Depth at which each ray enters its primitive, and where in the primitive's own axes."""
        turn = self.seen.turn.index_select(1, pairs.instance)
        u, v = rays.u.index_select(0, pairs.ray), rays.v.index_select(0, pairs.ray)
        direction = Vec(*(turn[i] * u + (turn[i + 1] * v + turn[i + 2]) for i in (0, 3, 6)))
        eye = self.seen.eye.pick(pairs.instance)
        t = intersect(number, eye, direction, self.dims.pick(pairs.instance % len(self.stage)))
        return t, eye.along(direction, t)

    def _colour(self, rays: _Rays, hits: Hits) -> Tensor:
        eye, direction = self._world(rays)
        return shade(self.stage, eye.along(direction, hits.depth), direction, hits.depth, hits.part, hits.normal)


def _see(stage: RoomStage, poses: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> _Seen:
    turn = torch.einsum("nji,vjk->vnik", stage.rotation, poses[:, :3, :3])
    offset = poses[:, None, :3, 3] - stage.centre
    eye = torch.einsum("nji,vnj->vni", stage.rotation, offset)
    ring = stage.dims[:, 0] + stage.dims[:, 1]
    torus = torch.stack([ring, ring, stage.dims[:, 1]], dim=-1)
    half = torch.where((stage.kind == KINDS.index("torus"))[:, None], torus, stage.dims)
    corners = _CORNERS.to(half) * half[:, None] - eye[:, :, None]  # from the eye, own axes
    corners = torch.einsum("vnik,vnci->vnck", turn, corners)
    near = corners[..., 2].amin(-1)
    low, high = _outline(corners)
    bounds = []
    for axis, most in ((0, size[1]), (1, size[0])):
        focal, centre = intrinsics[axis, axis], intrinsics[axis, 2]
        first = (low[..., axis] * focal + centre - _PAD - 0.5).ceil().clamp(0, most)
        last = (high[..., axis] * focal + centre + _PAD - 0.5).floor().clamp(-1, most - 1) + 1
        bounds += [first, last]
    rectangle = torch.stack(bounds).long().flatten(1)
    return _Seen(
        rearrange(turn, "v n i j -> (i j) (v n)").contiguous(),
        Vec(*rearrange(eye, "v n i -> i (v n)").contiguous()),
        near.reshape(-1),
        rectangle,
    )


def _outline(corners: Float[Tensor, "V N 8 3"]) -> tuple[Tensor, Tensor]:
    """Least and greatest x/z and y/z of what lies before the near plane of boxes, [V N 2] each."""
    one, other = (corners[:, :, list(ends)] for ends in zip(*_SIDES, strict=True))
    way = (_NEAR - one[..., 2:]) / (other[..., 2:] - one[..., 2:] + 1e-12)
    crossing = (one[..., 2:] < _NEAR) != (other[..., 2:] < _NEAR)
    cut = one + way * (other - one)
    points = torch.cat([corners, cut], dim=2)
    valid = torch.cat([corners[..., 2:] >= _NEAR, crossing], dim=2)
    flat = points[..., :2] / points[..., 2:].clamp_min(_NEAR)
    low = torch.where(valid, flat, torch.inf).amin(2)
    high = torch.where(valid, flat, -torch.inf).amax(2)
    return low.clamp(-1e3, 1e3), high.clamp(-1e3, 1e3)


def _edges(colour: Float[Tensor, "3 V H W"], ids: Int[Tensor, "V H W"]) -> Tensor:
    """Pixels that differ from one of their four neighbours in what they show or in colour."""
    display = colour.clamp(0, 1).sqrt()
    marked = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    for first, second in (
        ((..., slice(1, None)), (..., slice(None, -1))),
        ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),
    ):
        differs = ((display[first] - display[second]).abs().amax(0) > _EDGE) | (ids[first] != ids[second])
        marked[first] |= differs
        marked[second] |= differs
    return marked
