"""Analytic ray casting of the world in torch: pictures, and the geometry behind them.

No loop over pixels or frames. An object is tried only against the pixels of its projected bounds; shadows and contact
shade only against what can cast them; and only pixels that differ from a neighbour are supersampled, by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.world.culling import NEARBY, Pairs, object_bounds, pixel_pairs, shade_bounds, subpixel_pairs
from genworld.world.primitives import KINDS, Vec, intersect, normals
from genworld.world.stage import Stage

_SUN, _SKY_LIGHT, _FLOOR_LIGHT = 0.78, 0.50, 0.22
_EDGE = 0.08  # pixels that differ this much (display units, 0..1) from a neighbour are supersampled
_SUBPIXELS = ((-0.125, -0.375), (0.375, -0.125), (-0.375, 0.125), (0.125, 0.375))  # a rotated grid
_RAYS_PER_CHUNK = {"cpu": 1 << 17, "cuda": 1 << 23}


@dataclass(frozen=True)
class Geometry:
    """What is where in each pixel's centre.

    Attributes:
        depth: metres along the camera's z axis; infinite in the sky.
        ids: 0 for floor and sky, 1 + index for an object.
        normals: outward, world axes; (0, 0, 1) on the floor, 0 in the sky.
        visibility: part of each object's pixels that no other object covers; 0 when it is out of the picture.
        in_picture: whether the picture would show the object if it were alone.
    """

    depth: Float[Tensor, "F H W"]
    ids: Int[Tensor, "F H W"]
    normals: Float[Tensor, "F H W 3"]
    visibility: Float[Tensor, "F N"]
    in_picture: Bool[Tensor, "F N"]


class _Rays(NamedTuple):
    """Rays in two dimensions; `frame` broadcasts against them, so that tables per frame are looked up only once."""

    frame: Tensor
    eye: Vec
    direction: Vec

    @property
    def shape(self) -> torch.Size:
        return self.direction.x.shape


class _Hits(NamedTuple):
    """The nearest surface of every ray, and the objects among them as flat lists."""

    depth: Tensor
    ids: Tensor
    ray: Tensor
    instance: Tensor
    local: Vec
    normal: Vec
    touched: Tensor  # how many rays hit each instance, covered or not


def render(stage: Stage, height: int, width: int) -> Float[Tensor, "3 F H W"]:
    """Pictures in [-1, 1], antialiased."""
    chunks = [_picture(part, height, width) for part in _split(stage, height, width)]
    return rearrange(torch.cat(chunks, dim=1).clamp_(0, 1).sqrt_().mul_(2).sub_(1), "c f (h w) -> c f h w", h=height)


def trace(stage: Stage, height: int, width: int) -> Geometry:
    """Depth, ids, normals and visibility at pixel centres."""
    parts = [_geometry(part, height, width) for part in _split(stage, height, width)]
    fields = zip(*((p.depth, p.ids, p.normals, p.visibility, p.in_picture) for p in parts), strict=True)
    return Geometry(*(torch.cat(field) for field in fields))


def _split(stage: Stage, height: int, width: int) -> list[Stage]:
    frames = max(1, _RAYS_PER_CHUNK.get(stage.kind.device.type, 1 << 20) // (height * width))
    pieces = [slice(first, first + frames) for first in range(0, len(stage), frames)]
    return [stage.map(itemgetter(piece)) for piece in pieces]


def _picture(stage: Stage, height: int, width: int) -> Tensor:
    """Linear colours [3 F HW]."""
    bounds, shades = object_bounds(stage, height, width), shade_bounds(stage, height, width)
    rays = _pixel_rays(stage, height, width)
    hits = _cast(stage, rays, pixel_pairs(bounds))
    colour = _shade(stage, rays, hits, pixel_pairs(shades))
    edge = true_rows(_edges(colour, hits.ids, height, width).reshape(-1))
    fine, samples = _subpixel_rays(stage, edge, height, width), len(_SUBPIXELS)
    hits = _cast(stage, fine, subpixel_pairs(bounds, edge, samples))
    finer = _shade(stage, fine, hits, subpixel_pairs(shades, edge, samples))
    colour.view(3, -1).index_copy_(1, edge, finer.mean(1))
    return colour


def _geometry(stage: Stage, height: int, width: int) -> Geometry:
    rays = _pixel_rays(stage, height, width)
    hits = _cast(stage, rays, pixel_pairs(object_bounds(stage, height, width)))
    frames, objects = stage.kind.shape
    seen = torch.bincount(hits.instance, minlength=frames * objects)
    normal = torch.stack([torch.zeros_like(hits.depth)] * 2 + [(hits.depth < torch.inf).float()], dim=-1).view(-1, 3)
    normal[hits.ray] = torch.stack(hits.normal, dim=-1)
    return Geometry(
        hits.depth.view(frames, height, width),
        hits.ids.view(frames, height, width),
        normal.view(frames, height, width, 3),
        (seen / hits.touched.clamp_min(1)).view(frames, objects).to(stage.dims.dtype),
        (hits.touched > 0).view(frames, objects),
    )


def _ray_directions(stage: Stage, frame: Tensor, x: Tensor, y: Tensor) -> _Rays:
    """Rays through pixel coordinates. Along the camera's z axis they advance by 1: `t` is depth."""
    focal, centre = stage.intrinsics[:, 0, 0], stage.intrinsics[:, :2, 2]
    u = (x - centre[:, 0][frame]) / focal[frame]
    v = (y - centre[:, 1][frame]) / focal[frame]
    pose = stage.world_from_camera
    direction = Vec(*(pose[:, i, 0][frame] * u + (pose[:, i, 1][frame] * v + pose[:, i, 2][frame]) for i in range(3)))
    return _Rays(frame, Vec(*(pose[:, i, 3][frame] for i in range(3))), direction)


def _pixel_rays(stage: Stage, height: int, width: int) -> _Rays:
    device = stage.kind.device
    pixel = torch.arange(height * width, device=device)[None]
    frame = torch.arange(len(stage), device=device)[:, None]
    return _ray_directions(stage, frame, pixel % width + 0.5, pixel // width + 0.5)


def _subpixel_rays(stage: Stage, pixels: Tensor, height: int, width: int) -> _Rays:
    offset = torch.tensor(_SUBPIXELS, device=pixels.device)[:, :, None] + 0.5
    frame, pixel = (pixels // (height * width))[None], (pixels % (height * width))[None]
    return _ray_directions(stage, frame, pixel % width + offset[:, 0], pixel // width + offset[:, 1])


def _cast(stage: Stage, rays: _Rays, pairs: Pairs) -> _Hits:
    """Nearest hits of all rays, floor included."""
    rotation, dims, kind = _tables(stage)
    offset = (stage.world_from_camera[:, None, :3, 3] - stage.centre).reshape(-1, 3).T
    origin = Vec(*offset).unrotated(rotation)  # the eye in each object's axes: once per instance, not per ray
    flat = Vec(*(c.reshape(-1) for c in rays.direction))
    nearest = _floor_depth(rays).reshape(-1)
    found: list[tuple[Pairs, Tensor, Vec, Vec, int]] = []
    touched = torch.zeros_like(kind)
    for number, chosen in _by_kind(pairs, kind):
        turned = flat.pick(chosen.ray).unrotated(rotation.index_select(1, chosen.instance))
        start, size = origin.pick(chosen.instance), Vec(*dims.index_select(1, chosen.instance))
        t = intersect(number, start, turned, size)
        hit = true_rows(t < torch.inf)
        chosen, t, start, turned = chosen.where(hit), t[hit], start.pick(hit), turned.pick(hit)
        touched += torch.bincount(chosen.instance, minlength=len(kind))
        nearest = nearest.scatter_reduce(0, chosen.ray, t, "amin")
        found.append((chosen, t, start.along(turned, t), size.pick(hit), number))
    ids = torch.zeros_like(nearest, dtype=torch.int64)
    parts = []
    for chosen, t, local, size, number in found:
        seen = true_rows(t == nearest[chosen.ray])
        chosen, local = chosen.where(seen), local.pick(seen)
        ids[chosen.ray] = chosen.instance % stage.kind.shape[1] + 1
        normal = normals(number, local, size.pick(seen)).rotated(rotation.index_select(1, chosen.instance))
        parts.append((*chosen, *local, *normal))
    ray, instance, *rest = (torch.cat(part) for part in zip(*parts, strict=True)) if parts else _nothing(flat.x)
    return _Hits(nearest.view(rays.shape), ids.view(rays.shape), ray, instance, Vec(*rest[:3]), Vec(*rest[3:]), touched)


def _nothing(like: Tensor) -> list[Tensor]:
    return [like.new_zeros(0, dtype=torch.int64)] * 2 + [like.new_zeros(0)] * 6


def _tables(stage: Stage) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation [9 FN], dims [3 FN], kind [FN]."""
    rotation = rearrange(stage.rotation, "f n i j -> (i j) (f n)").contiguous()
    return rotation, rearrange(stage.dims, "f n i -> i (f n)").contiguous(), stage.kind.reshape(-1)


def _by_kind(pairs: Pairs, kind: Tensor) -> list[tuple[int, Pairs]]:
    kinds = kind.index_select(0, pairs.instance)
    return [(number, pairs.where(true_rows(kinds == number))) for number in kind.unique().tolist() if number >= 0]


def _floor_depth(rays: _Rays) -> Tensor:
    down = rays.direction.z
    return torch.where(down < -1e-6, -rays.eye.z / down, torch.inf)


def _shade(stage: Stage, rays: _Rays, hits: _Hits, shades: Pairs) -> Tensor:
    """Linear colours [3 A B] of rays [A B]; `shades` says which objects may take light from which."""
    sky = true_rows((hits.depth == torch.inf).reshape(-1))
    depth = hits.depth.clamp_max(1e3)
    point = Vec(*(o + depth * d for o, d in zip(rays.eye, rays.direction, strict=True)))
    normal = Vec(*(torch.full_like(depth, value) for value in (0.0, 0.0, 1.0)))
    for dense, value in zip(normal, hits.normal, strict=True):
        dense.view(-1).index_copy_(0, hits.ray, value)
    lit, open_sky = _light(stage, point, normal, hits, shades)
    colour = _floor_colour(stage, rays, point, depth, lit, open_sky)
    flat = colour.view(3, -1)
    view = Vec(*(c.reshape(-1)[hits.ray] for c in rays.direction)).unit()
    flat.index_copy_(
        1, hits.ray, _object_colour(stage, hits, view, lit.reshape(-1)[hits.ray], open_sky.reshape(-1)[hits.ray])
    )
    frame = rays.frame.expand(rays.shape).reshape(-1)[sky]
    flat.index_copy_(1, sky, _sky_colour(stage, frame, Vec(*(c.reshape(-1)[sky] for c in rays.direction)).unit().z))
    return colour


def _light(stage: Stage, point: Vec, normal: Vec, hits: _Hits, shades: Pairs) -> tuple[Tensor, Tensor]:
    """How much of the sun (0 or 1) and of the sky (0 to 1) each point sees, [A B] each."""
    shape, objects = point.x.shape, stage.kind.shape[1]
    point, normal = Vec(*(c.reshape(-1) for c in point)), Vec(*(c.reshape(-1) for c in normal))
    centre = Vec(*stage.centre.reshape(-1, 3).T.index_select(1, shades.instance))
    away = Vec(*(c - p for c, p in zip(centre, point.pick(shades.ray), strict=True)))
    sun = Vec(*stage.sun.T.repeat_interleave(objects, 1).index_select(1, shades.instance))
    bound = stage.bound.reshape(-1).index_select(0, shades.instance)
    distance2, ahead, radius2 = away.dot(away).clamp_min(1e-4), away.dot(sun), bound * bound
    foreign = hits.ids.reshape(-1).index_select(0, shades.ray) != shades.instance % objects + 1
    # Sky hidden by a sphere of the object's size, cos(angle) (r / d)^2, brought to an end at `NEARBY`: the soft shade
    # where things stand.
    near = true_rows((distance2 < NEARBY**2 * radius2) & foreign)
    ray, d2, r2 = shades.ray[near], distance2[near], radius2[near]
    tilt = away.pick(near).dot(normal.pick(ray)) * torch.rsqrt(d2)
    hidden = ((r2 / d2 - 1 / NEARBY**2) * tilt).clamp(0, 0.75)
    covered = torch.zeros_like(point.x).scatter_reduce_(0, ray, hidden, "amax")
    # Only a ring can shade itself beyond what turning away from the sun does.
    other = foreign | (stage.kind == KINDS.index("torus")).reshape(-1).index_select(0, shades.instance)
    crossed = (distance2 - ahead * ahead < radius2) & (ahead > -bound) & other
    lit = torch.ones_like(point.x)
    lit[_shadowed(stage, shades.where(true_rows(crossed)), point, normal)] = 0
    return lit.view(shape), 1 - covered.view(shape)


def _shadowed(stage: Stage, pairs: Pairs, point: Vec, normal: Vec) -> Tensor:
    """Rays of `pairs` whose point is shaded from the sun by the pair's object."""
    rotation, dims, kind = _tables(stage)
    centre = Vec(*stage.centre.reshape(-1, 3).T.contiguous())
    sun = Vec(*stage.sun.T.repeat_interleave(stage.kind.shape[1], 1)).unrotated(rotation)
    dark = []
    for number, chosen in _by_kind(pairs, kind):
        start, out = point.pick(chosen.ray), normal.pick(chosen.ray)
        # A little off the surface, so that it does not hit itself.
        offset = Vec(*(p + 4e-3 * n - c for p, n, c in zip(start, out, centre.pick(chosen.instance), strict=True)))
        local = offset.unrotated(rotation.index_select(1, chosen.instance))
        t = intersect(number, local, sun.pick(chosen.instance), Vec(*dims.index_select(1, chosen.instance)))
        dark.append(chosen.ray[t < torch.inf])
    return torch.cat(dark) if dark else pairs.ray


def _floor_colour(stage: Stage, rays: _Rays, point: Vec, depth: Tensor, lit: Tensor, open_sky: Tensor) -> Tensor:
    """Soft squares of one metre that fade with distance, under a haze."""
    wave = torch.sin(torch.pi * point.x) * torch.sin(torch.pi * point.y)
    far2 = depth * depth
    pattern = 1 + 0.13 * (5 * wave).clamp(-1, 1) / (1 + far2 * 0.006)
    light = pattern * (_SUN * stage.sun[:, 2][rays.frame] * lit + _SKY_LIGHT * open_sky)
    haze = far2 / (far2 + 900)
    clear = light * (1 - haze)
    return torch.stack(
        [clear * stage.floor[:, i][rays.frame] + haze * stage.horizon[:, i][rays.frame] for i in range(3)]
    )


def _object_colour(stage: Stage, hits: _Hits, view: Vec, lit: Tensor, open_sky: Tensor) -> Tensor:
    """Linear colours [3 P] of object surfaces: sun, sky from above, light from the floor below, highlight."""
    frame = hits.instance // stage.kind.shape[1]
    sun = Vec(*stage.sun.T.index_select(1, frame))
    facing = hits.normal.dot(sun).clamp_min(0)
    up = 0.5 + 0.5 * hits.normal.z
    light = _SUN * facing * lit + (_FLOOR_LIGHT + (_SKY_LIGHT - _FLOOR_LIGHT) * up) * open_sky
    half = Vec(*(s - v for s, v in zip(sun, view, strict=True))).unit()
    gloss = stage.gloss.reshape(-1)[hits.instance]
    shine = gloss * (0.75 * hits.normal.dot(half).clamp_min(0).pow(48) * lit * (facing > 0))
    # A ball carries a faint band: without it nobody could see it roll.
    round_ = (stage.kind.reshape(-1) == KINDS.index("sphere"))[hits.instance]
    latitude = (hits.local.z / stage.dims[..., 0].reshape(-1)[hits.instance]).abs()
    light = light * (1 - 0.34 * round_ * ((0.26 - latitude) * 14).clamp(0, 1))
    return stage.albedo.reshape(-1, 3).T.index_select(1, hits.instance) * light + shine


def _sky_colour(stage: Stage, frame: Tensor, up: Tensor) -> Tensor:
    blend = 1 - torch.exp(-4 * up.clamp_min(0))
    return torch.lerp(stage.horizon.T[:, frame], stage.zenith.T[:, frame], blend)


def _edges(colour: Tensor, ids: Tensor, height: int, width: int) -> Bool[Tensor, "F HW"]:
    """Pixels that differ from one of their four neighbours in what they show or in brightness."""
    shade = (0.35 * colour[0] + 0.4 * colour[1] + 0.25 * colour[2]).clamp(0, 1).sqrt_()
    shade = rearrange(shade, "f (h w) -> f h w", h=height)
    ids = rearrange(ids, "f (h w) -> f h w", h=height)
    marked = torch.zeros(shade.shape, dtype=torch.bool, device=shade.device)
    for first, second in (
        ((..., slice(1, None)), (..., slice(None, -1))),
        ((..., slice(1, None), slice(None)), (..., slice(None, -1), slice(None))),
    ):
        differs = ((shade[first] - shade[second]).abs_() > _EDGE) | (ids[first] != ids[second])
        marked[first] |= differs
        marked[second] |= differs
    return marked.view(len(shade), height * width)
