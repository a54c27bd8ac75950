"""Which pixels an object can touch, so that only those are computed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.world.primitives import KINDS
from genworld.world.stage import Stage

NEARBY = 1.5
"""Contact shade reaches this many bounding radii from an object's centre."""

_PAD = 1.0  # pixels: the neighbours of a covered pixel count too, because their subpixels may be covered
_BEHIND = 0.1  # metres: bounds this close to the camera's plane are not projected but taken as the whole picture


class Pairs(NamedTuple):
    """Which ray may meet which instance (frame x object), as flat lists."""

    ray: Tensor
    instance: Tensor

    def where(self, keep: Tensor) -> Pairs:
        """The pairs at the indices `keep`."""
        return Pairs(self.ray.index_select(0, keep), self.instance.index_select(0, keep))


def object_bounds(stage: Stage, height: int, width: int) -> Bool[Tensor, "F N HW"]:
    """Pixels that may show each object: the tighter of its bounding sphere and box, projected."""
    centre = _in_camera(stage, stage.centre)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], device=centre.device)] * 3)
    ring = stage.dims[..., 0] + stage.dims[..., 1]
    torus = torch.stack([ring, ring, stage.dims[..., 1]], dim=-1)
    half = torch.where((stage.kind == KINDS.index("torus"))[..., None], torus, stage.dims)
    turn = torch.einsum("fji,fnjk->fnik", stage.world_from_camera[:, :3, :3], stage.rotation)
    corners = centre[:, :, None] + torch.einsum("fnik,ck,fnk->fnci", turn, signs, half)
    projected = corners[..., :2] / corners[..., 2:].clamp_min(_BEHIND)
    close = (corners[..., 2].amin(-1) < _BEHIND)[..., None]
    sphere_low, sphere_high = _sphere_outline(centre, stage.bound)
    low = torch.maximum(torch.where(close, -torch.inf, projected.amin(-2)), sphere_low)
    high = torch.minimum(torch.where(close, torch.inf, projected.amax(-2)), sphere_high)
    return _pixels_between(stage, low, high, height, width)


def shade_bounds(stage: Stage, height: int, width: int) -> Bool[Tensor, "F N HW"]:
    """Pixels whose light each object may take: those around it, and all on the way of its shadow to the floor.

    The shadow of the bounding sphere is a tube, which lies in the hull of its two ends.
    """
    sun = stage.sun[:, None]
    end = stage.centre - sun * (stage.centre[..., 2:] / sun[..., 2:])
    outlines = [
        _sphere_outline(_in_camera(stage, stage.centre), NEARBY * stage.bound),
        _sphere_outline(_in_camera(stage, end), stage.bound),
    ]
    low = torch.minimum(outlines[0][0], outlines[1][0])
    high = torch.maximum(outlines[0][1], outlines[1][1])
    return _pixels_between(stage, low, high, height, width)


def pixel_pairs(bounds: Bool[Tensor, "F N HW"]) -> Pairs:
    """The bounds as pairs, for one ray per pixel, counted through all frames."""
    _, objects, pixels = bounds.shape
    flat = true_rows(bounds.reshape(-1))
    instance = flat // pixels
    return Pairs(flat - (instance - instance // objects) * pixels, instance)


def subpixel_pairs(bounds: Bool[Tensor, "F N HW"], chosen: Tensor, samples: int) -> Pairs:
    """The bounds as pairs, for rays [S Q]: `samples` in each of the pixels `chosen` (counted through all frames)."""
    _, objects, pixels = bounds.shape
    frame = chosen // pixels
    which, thing = bounds[frame, :, chosen % pixels].nonzero(as_tuple=True)
    ray = which + torch.arange(samples, device=chosen.device)[:, None] * len(chosen)
    return Pairs(ray.reshape(-1), (frame[which] * objects + thing).repeat(samples))


def _in_camera(stage: Stage, points: Float[Tensor, "F N 3"]) -> Float[Tensor, "F N 3"]:
    pose = stage.world_from_camera
    return torch.einsum("fji,fnj->fni", pose[:, :3, :3], points - pose[:, None, :3, 3])


def _sphere_outline(centre: Tensor, radius: Tensor) -> tuple[Float[Tensor, "F N 2"], Float[Tensor, "F N 2"]]:
    """Lowest and highest x/z and y/z of spheres: the tangents in the plane of each axis and depth."""
    depth = centre[..., 2:]
    middle = torch.atan2(centre[..., :2], depth)
    spread = torch.asin((radius[..., None] / torch.hypot(centre[..., :2], depth)).clamp_max(1.0))
    low, high = middle - spread, middle + spread
    edge = torch.pi / 2 - 0.01
    return (
        torch.where(low < -edge, -torch.inf, torch.tan(low.clamp(-edge, edge))),
        torch.where(high > edge, torch.inf, torch.tan(high.clamp(-edge, edge))),
    )


def _pixels_between(stage: Stage, low: Tensor, high: Tensor, height: int, width: int) -> Bool[Tensor, "F N HW"]:
    masks = []
    for axis, size in ((0, width), (1, height)):
        focal, at = stage.intrinsics[:, None, axis, axis], stage.intrinsics[:, None, axis, 2]
        pixel = torch.arange(size, device=low.device) + 0.5
        first, last = low[..., axis] * focal + at - _PAD, high[..., axis] * focal + at + _PAD
        masks.append((pixel > first[..., None]) & (pixel < last[..., None]))
    rows = masks[1] & (stage.kind >= 0)[..., None]
    return rearrange(rows[..., :, None] & masks[0][..., None, :], "f n h w -> f n (h w)")
