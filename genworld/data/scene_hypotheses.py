"""What the poses, depths, points and boxes of a scene would mean under each usual convention, and how well that fits.

Everything here is evidence: shares of points that views confirm. What follows from it is said in `scene_check`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.data.scene_axes import aligned_from_up, up_vector
from genworld.data.scene_files import OPENCV_FROM_OPENGL, inverse
from genworld.ops.geometry import project, unproject
from genworld.types import SceneBox, View

CameraAxes = Literal["opencv", "opengl", "vehicle"]

TOLERANCE = 0.03  # of the depth: Kinects err by one to two percent
_POINTS = 500  # of a view
_VEHICLE = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])  # x forward, y left, z up
_AXES: dict[CameraAxes, Tensor] = {"opencv": torch.eye(4), "opengl": OPENCV_FROM_OPENGL, "vehicle": _VEHICLE}
_CORE, _MARGIN, _FEW = 0.8, 0.04, 10  # of a box's size; metres; rays


@dataclass(frozen=True)
class Convention:
    """How the numbers of a view may be meant.

    Attributes:
        inverted: the poses are camera-from-world.
        axes: the camera's.
        depth_unit: metres, or whatever the poses are in, per unit of depth.
    """

    inverted: bool = False
    axes: CameraAxes = "opencv"
    depth_unit: float = 1.0

    def pose(self, given: Float[Tensor, "*V 4 4"]) -> Float[Tensor, "*V 4 4"]:
        """World from an OpenCV camera."""
        return (inverse(given) if self.inverted else given) @ _AXES[self.axes].to(given)


CONVENTIONS = tuple(map(Convention, *zip(*product((False, True), _AXES, (1.0, 1e-3, 1e3)), strict=True)))


@dataclass(frozen=True)
class Fit:
    """What came of projecting the points of every view into every other.

    Attributes:
        confirmed: part of all points that another view sees at their own depth, on average over the other views.
        overlap: part that falls into the other picture, where it has depth.
        agreement: part of the overlap that has the other view's depth.
        in_front: part of the overlap that stands before what the other view saw: nothing can be there.
        error: median relative difference of depth within the overlap.
    """

    confirmed: float
    overlap: float
    agreement: float
    in_front: float
    error: float

    @property
    def consistency(self) -> float:
        """Part of the points not hidden from the other view that it confirms: walls hide, but nothing shows through."""
        return self.agreement / max(self.agreement + self.in_front, 1e-9)

    @staticmethod
    def of(ratio: Float[Tensor, " M"], num_points: int) -> Fit:
        """From the relative differences of depth of those points that fall where the other view has depth."""
        if not len(ratio):
            return Fit(0.0, 0.0, 0.0, 0.0, float("nan"))
        close = float((ratio.abs() < TOLERANCE).double().mean())
        overlap = len(ratio) / max(num_points, 1)
        front = float((ratio < -TOLERANCE).double().mean())
        return Fit(close * overlap, overlap, close, front, float(ratio.abs().median()))


def sample_pixels(view: View, num: int = _POINTS) -> tuple[Float[Tensor, "N 2"], Float[Tensor, " N"]]:
    """Pixel centres with depth, and the depth: spread over the picture by a fixed draw."""
    assert view.depth is not None, view.name
    rows, columns = torch.nonzero(view.depth > 0, as_tuple=True)
    chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:num]
    pixels = torch.stack([columns[chosen], rows[chosen]], dim=-1).double() + 0.5
    return pixels, view.depth[rows[chosen], columns[chosen]].double()


def reproject(views: Sequence[View], conventions: Sequence[Convention] = CONVENTIONS) -> dict[Convention, Fit]:
    """How well the depths of the views agree with one another under each convention."""
    units = torch.tensor([c.depth_unit for c in conventions], dtype=torch.float64)
    poses = [torch.stack([c.pose(view.world_from_camera.double()) for c in conventions]) for view in views]
    found: list[list[Tensor]] = [[] for _ in conventions]
    total = 0
    for source, source_pose in zip(views, poses, strict=True):
        pixels, depth = sample_pixels(source)
        scaled = units[:, None] * depth
        world = unproject(pixels.expand(len(units), -1, -1), scaled, source_pose, source.intrinsics.double())
        for target, target_pose in zip(views, poses, strict=True):
            if target is source:
                continue
            total += len(depth)
            ratio, seen = _difference(world, target, target_pose, units)
            for kept, each, where in zip(found, ratio, seen, strict=True):
                kept.append(each[where])
    empty = torch.zeros(0, dtype=torch.float64)
    return {c: Fit.of(torch.cat(r) if r else empty, total) for c, r in zip(conventions, found, strict=True)}


def _difference(
    world: Float[Tensor, "C N 3"], target: View, pose: Float[Tensor, "C 4 4"], units: Float[Tensor, " C"]
) -> tuple[Float[Tensor, "C N"], Bool[Tensor, "C N"]]:
    """Relative difference from the depth that `target` has there, and whether it has one."""
    assert target.depth is not None, target.name
    height, width = target.depth.shape
    pixel, depth = project(world, pose, target.intrinsics.double())
    column, row = pixel.unbind(-1)
    seen = (depth > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    index = torch.where(seen, row.floor() * width + column.floor(), 0.0).long()
    there = target.depth.reshape(-1)[index].double() * units[:, None]
    seen &= there > 0
    return (depth - there) / there.clamp_min(1e-12), seen


def points_of(views: Sequence[View], num: int = 4000) -> Float[Tensor, "P 3"]:
    """Some points of what the views show, world axes."""
    parts = []
    for view in views:
        if view.depth is None:
            continue
        pixels, depth = sample_pixels(view, num)
        pose = view.world_from_camera.double()
        parts.append(unproject(pixels[None], depth[None], pose[None], view.intrinsics.double())[0])
    return torch.cat(parts) if parts else torch.zeros(0, 3, dtype=torch.float64)


def readings(aligned_from_world: Float[Tensor, "4 4"], forth: str, back: str) -> dict[str, Float[Tensor, "4 4"]]:
    """What the coordinates of points or boxes may be by mistake, and the transform that would put them right.

    Args:
        aligned_from_world: of the scene. Where it is the identity, the first two mistakes do not exist.
        forth: the mistake that aligning would put right.
        back: the mistake that undoing the alignment would put right.
    """
    z_from_y, aligned = aligned_from_up(up_vector("y")).double(), aligned_from_world.double()
    unit = torch.diag(torch.tensor([1e-3, 1e-3, 1e-3, 1.0], dtype=torch.float64))
    found = {"y up": z_from_y, "z up": inverse(z_from_y), "in millimetres": unit}
    if torch.allclose(aligned, torch.eye(4, dtype=torch.float64), atol=1e-3):
        return found
    return {forth: aligned, back: inverse(aligned)} | found


def moved(points: Float[Tensor, "P 3"], pose: Float[Tensor, "4 4"]) -> Float[Tensor, "P 3"]:
    """Points in other axes."""
    return points @ pose[:3, :3].T + pose[:3, 3]


def fit_points(points: Float[Tensor, "P 3"], views: Sequence[View]) -> Fit:
    """How well a cloud in world axes agrees with the depths of the views."""
    chosen = points[torch.linspace(0, len(points) - 1, min(len(points), 4 * _POINTS)).long()].double()
    parts, unit = [], torch.ones(1, dtype=torch.float64)
    for view in views:
        ratio, seen = _difference(chosen[None], view, view.world_from_camera.double()[None], unit)
        parts.append(ratio[seen])
    return Fit.of(torch.cat(parts), len(chosen) * len(views))


@dataclass(frozen=True)
class Rays:
    """What the views saw through some of their pixels: from `eyes` to the first surface, at `ends`."""

    eyes: Float[Tensor, "R 3"]
    ends: Float[Tensor, "R 3"]

    def moved(self, pose: Float[Tensor, "4 4"]) -> Rays:
        """The same rays in other axes."""
        return Rays(moved(self.eyes, pose), moved(self.ends, pose))


def rays_of(views: Sequence[View], num: int = 1000) -> Rays:
    """Rays of the views, `num` each, world axes."""
    eyes, ends = [], []
    for view in views:
        ends.append(points_of([view], num))
        eyes.append(view.world_from_camera[:3, 3].double().expand_as(ends[-1]))
    return Rays(torch.cat(eyes), torch.cat(ends))


def fit_boxes(rays: Rays, boxes: Sequence[SceneBox]) -> float:
    """How solid the boxes are: of the rays that come to a box and aim at its core, the part that end inside.

    A box in the right place stops most of them; one that stands elsewhere is looked through. On average over the boxes;
    one that fewer than ten rays come to counts as 0. In (0, 1), and only comparable for the same boxes and rays.
    """
    lower, upper = (torch.stack([getattr(box, end) for box in boxes]).double() for end in ("lower", "upper"))
    centre, half = (lower + upper) / 2, (upper - lower) / 2
    start, way = rays.eyes[:, None], (rays.ends - rays.eyes)[:, None]
    way = torch.where(way.abs() < 1e-9, 1e-9, way)

    def crossed(half: Tensor) -> tuple[Tensor, Tensor]:
        ends = torch.stack([(centre - half - start) / way, (centre + half - start) / way])
        return ends.amin(dim=0).amax(dim=-1), ends.amax(dim=0).amin(dim=-1)

    core_enter, core_leave = crossed(half * _CORE)
    enter, leave = crossed(half + _MARGIN)
    comes = (core_enter < core_leave) & (core_enter > 0) & (enter <= 1)
    inside, all_of_them = (comes & (leave >= 1)).sum(dim=0), comes.sum(dim=0)
    return float(torch.where(all_of_them >= _FEW, inside / all_of_them.clamp_min(1), 0.0).mean())


def displacements(boxes: Sequence[SceneBox], near: int = 20, far: int = 28) -> list[Float[Tensor, "4 4"]]:
    """Turns about the vertical and moves along the floor to compare boxes with, the near ones first: a fixed draw.

    The near ones are up to 20 degrees and 0.15 to 0.5 m, the far ones any angle and 0.5 to 2 m.
    """
    draw = torch.rand(near + far, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centre = torch.stack([box.centre for box in boxes]).double().mean(dim=0)
    found = []
    for index, (turn, distance, direction) in enumerate(draw.tolist()):
        angle, length = ((turn - 0.5) * 0.7, 0.15 + 0.35 * distance)
        if index >= near:
            angle, length = turn * math.tau, 0.5 + 1.5 * distance
        pose = torch.eye(4, dtype=torch.float64)
        cos, sin = math.cos(angle), math.sin(angle)
        pose[:2, :2] = torch.tensor([[cos, -sin], [sin, cos]])
        way = length * torch.tensor([math.cos(direction * math.tau), math.sin(direction * math.tau), 0.0])
        pose[:3, 3] = centre - pose[:3, :3] @ centre + way
        found.append(pose)
    return found
