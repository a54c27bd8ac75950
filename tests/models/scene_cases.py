"""Scenes whose truth is a formula: a room with a pillar, seen from inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from genworld.models.points import FeatureTable
from genworld.types import Scene, View

ROOM = (torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0, 3.0, 2.5]))
PILLAR = (torch.tensor([1.8, 1.3, 0.0]), torch.tensor([2.2, 1.7, 2.5]))
COLOURS = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9], [0.9, 0.9, 0.2], [0.5, 0.5, 0.5], [1, 1, 1]])
"""Of the room's sides: x low, x high, y low, y high, floor, ceiling. The pillar is black."""


def camera(x: float, y: float, yaw: float, pitch: float = 0.0, z: float = 1.2) -> torch.Tensor:
    """Pose of a camera that looks along yaw (from x towards y), and down by pitch."""
    forward = torch.tensor([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)])
    right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
    pose = torch.eye(4)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = torch.tensor([x, y, z])
    return pose


def view(pose: torch.Tensor, size: tuple[int, int] = (96, 128), pillar: bool = True, name: str = "") -> View:
    """What a camera in the room sees, by intersecting rays with boxes."""
    height, width = size
    focal = width / 2
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, torch.ones_like(rows)], dim=-1)
    rays, eye = rays @ pose[:3, :3].T, pose[:3, 3]
    near, far = ((side - eye) / rays for side in ROOM)
    leave = torch.maximum(near, far)
    depth, axis = leave.min(dim=-1)  # rays have z = 1 in the camera: what they take is depth
    high = rays.gather(-1, axis[..., None])[..., 0] > 0
    colours = COLOURS[2 * axis + high.long()]
    if pillar:
        near, far = ((side - eye) / rays for side in PILLAR)
        enter, leave = torch.minimum(near, far).amax(dim=-1), torch.maximum(near, far).amin(dim=-1)
        hit = (enter < leave) & (enter > 0)
        depth = torch.where(hit, enter, depth)
        colours = torch.where(hit[..., None], torch.zeros(3), colours)
    return View(colours.permute(2, 0, 1) * 2 - 1, depth, pose, intrinsics, name)


def room(number: int = 8, size: tuple[int, int] = (96, 128), pillar: bool = True) -> Scene:
    """Cameras on a circle round the pillar, looking outwards and inwards in turn."""
    views = []
    for i in range(number):
        angle = 2 * math.pi * i / number
        pose = camera(2 + math.cos(angle), 1.5 + math.sin(angle), angle + math.pi * (i % 2), 0.2 * (-1) ** (i // 2))
        views.append(view(pose, size, pillar, name=f"view-{i}"))
    return Scene("room", tuple(views))


def distance_to_sides(points: torch.Tensor, pillar: bool = True) -> torch.Tensor:
    """Of points to the nearest side of the room or of the pillar, metres."""
    sides = torch.stack([(points - side).abs() for side in ROOM]).amin(dim=0).amin(dim=-1)
    if not pillar:
        return sides
    outside = torch.stack([PILLAR[0] - points, points - PILLAR[1]]).amax(dim=0)  # per axis, negative inside
    away = outside.clamp(min=0).norm(dim=-1)
    within = outside.amax(dim=-1).clamp(max=0).abs()
    return torch.minimum(sides, away + within)


@dataclass(frozen=True)
class Given:
    """Patch features as a list of tensors [rows columns D]."""

    patches: Sequence[torch.Tensor]
    name: str = "given"

    def __call__(self, index: int, view: View) -> FeatureTable:
        return FeatureTable.from_patches(self.patches[index])


def random_patches(number: int, grid: tuple[int, int] = (6, 8), width: int = 5) -> Given:
    generator = torch.Generator().manual_seed(7)
    return Given([torch.randn(*grid, width, generator=generator) for _ in range(number)])
