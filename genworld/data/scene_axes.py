"""Which way is up: alignment of a scene whose recording does not say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from genworld.types import View

Up = Literal["x", "y", "z", "-x", "-y", "-z"]
UPS: tuple[Up, ...] = ("x", "y", "z", "-x", "-y", "-z")

_BLOCK = 8  # pixels: depth is averaged over so many before it is differentiated
_CANDIDATES = 400
_FLAT = math.cos(math.radians(6.0))
_LEANING = math.cos(math.radians(50.0))  # how far a camera may be tilted
_SNAP = math.cos(math.radians(2.5))


def up_vector(up: Up) -> Float[Tensor, " 3"]:
    """Unit vector of a named axis."""
    vector = torch.zeros(3)
    vector["xyz".index(up[-1])] = -1.0 if up.startswith("-") else 1.0
    return vector


def aligned_from_up(up: Float[Tensor, " 3"]) -> Float[Tensor, "4 4"]:
    """The least rotation that takes `up` (unit length, world axes) to z."""
    x, y, z = up.double().tolist()
    pose = torch.eye(4)
    if z < -1 + 1e-9:
        return torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    k = 1 / (1 + z)
    pose[:3, :3] = torch.tensor(
        [[1 - x * x * k, -x * y * k, -x], [-x * y * k, 1 - y * y * k, -y], [x, y, 1 - (x * x + y * y) * k]]
    )
    return pose


def estimate_up(views: Sequence[View], most: int = 8) -> Float[Tensor, " 3"]:
    """The direction, in world axes, that looks like up: unit length.

    Cameras are held more or less upright, so it lies within 50 degrees of their mean upward direction; where there is
    depth, it is the direction that most surfaces nearby are level with or stand along. It becomes a world axis when it
    is within 2.5 degrees of one.

    Args:
        views: looked at: `most` of them, spread evenly.
        most: how many to read.
    """
    chosen = [views[i] for i in torch.linspace(0, len(views) - 1, min(most, len(views))).round().long().tolist()]
    guess = F.normalize(-torch.stack([view.world_from_camera[:3, 1] for view in chosen]).mean(dim=0), dim=0)
    normals = [surface_normals(view) for view in chosen if view.depth is not None]
    found = _refine(guess, torch.cat(normals)) if normals else guess
    axis = max(map(up_vector, UPS), key=lambda vector: float(vector @ found))
    return axis if float(axis @ found) > _SNAP else found


def surface_normals(view: View) -> Float[Tensor, "N 3"]:
    """Unit normals of the surfaces in a view, towards the camera, world axes: one per block of pixels with depth."""
    assert view.depth is not None, view.name
    depth = view.depth
    valid = (depth > 0).float()
    block = max(min(_BLOCK, min(depth.shape) // 12), 1)
    count = F.avg_pool2d(valid[None, None], block)[0, 0]
    mean = F.avg_pool2d((depth * valid)[None, None], block)[0, 0] / count.clamp_min(1e-6)
    rows, columns = ((torch.arange(n) + 0.5) * block for n in mean.shape)
    k = view.intrinsics
    across = (columns[None, :] - k[0, 2]) / k[0, 0] * mean
    down = (rows[:, None] - k[1, 2]) / k[1, 1] * mean
    points = torch.stack([across, down, mean], dim=-1)
    right, below = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = torch.linalg.cross(below, right)
    whole = F.max_pool2d((count < 0.99).float()[None, None], 3, stride=1)[0, 0] == 0
    step = torch.maximum(right.norm(dim=-1), below.norm(dim=-1))
    # A jump in depth is no surface: neighbours there lie much further apart than their pixels do.
    smooth = step < 10 * (2 * block / k[0, 0]) * points[1:-1, 1:-1, 2]
    chosen = rearrange(normal, "r c i -> (r c) i")[(whole & smooth).flatten()]
    return F.normalize(chosen @ view.world_from_camera[:3, :3].T, dim=-1)


def _refine(guess: Tensor, normals: Tensor) -> Tensor:
    """The direction near `guess` that most normals are parallel to, or square with."""
    level = normals[(normals @ guess).abs() > _LEANING]
    if len(level) < 20:
        return guess
    candidates = level[torch.linspace(0, len(level) - 1, min(_CANDIDATES, len(level))).long()]
    candidates = candidates * (candidates @ guess).sign()[:, None]
    cosine = (normals @ candidates.T).abs()
    votes = (cosine > _FLAT).float().mean(dim=0) + 0.5 * (cosine < math.sqrt(1 - _FLAT**2)).float().mean(dim=0)
    best = candidates[votes.argmax()]
    for _ in range(3):
        along = normals @ best
        near = along.abs() > _FLAT
        best = F.normalize((normals[near] * along[near].sign()[:, None]).mean(dim=0), dim=0)
    return best
