"""Pinhole cameras: rays, projection and poses. OpenCV camera axes (x right, y down, z forward), metres."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def relative_to_first(world_from_camera: Float[Tensor, "F 4 4"]) -> Float[Tensor, "F 4 4"]:
    """The same poses with the first camera's axes for the world's: the first becomes the identity."""
    first = world_from_camera[0]
    inverse = torch.eye(4, dtype=first.dtype, device=first.device)
    inverse[:3, :3] = first[:3, :3].T
    inverse[:3, 3] = -first[:3, :3].T @ first[:3, 3]
    return inverse @ world_from_camera


def project(
    points: Float[Tensor, "F N 3"], world_from_camera: Float[Tensor, "F 4 4"], intrinsics: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "F N 2"], Float[Tensor, "F N"]]:
    """Where points in world axes are seen, each by its frame's camera.

    Returns:
        Column and row in pixels (the first pixel spans 0 to 1; may be outside the picture), and depth: metres along
        the camera's z axis. What has no positive depth is behind the camera, and its pixel means nothing.
    """
    rotation, eye = world_from_camera[:, :3, :3], world_from_camera[:, None, :3, 3]
    seen = torch.einsum("fji,fnj->fni", rotation, points - eye)
    homogeneous = torch.einsum("ij,fnj->fni", intrinsics, seen)
    return homogeneous[..., :2] / homogeneous[..., 2:], seen[..., 2]


def unproject(
    pixels: Float[Tensor, "F N 2"],
    depth: Float[Tensor, "F N"],
    world_from_camera: Float[Tensor, "F 4 4"],
    intrinsics: Float[Tensor, "3 3"],
) -> Float[Tensor, "F N 3"]:
    """Points in world axes from pixels and depth; the inverse of `project`."""
    rotation, eye = world_from_camera[:, :3, :3], world_from_camera[:, None, :3, 3]
    seen = _homogeneous(pixels) @ torch.linalg.inv(intrinsics).T * depth[..., None]
    return torch.einsum("fij,fnj->fni", rotation, seen) + eye


def plucker(
    world_from_camera: Float[Tensor, "T 4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "T rows columns 6"]:
    """The viewing ray through the centre of every cell of a grid laid over the picture, in Plücker coordinates.

    Unit direction d and moment o x d, o being the camera's centre: the same for every o on the ray (Sitzmann et al.
    2021, section 3.1). Both are in the axes of the poses; models take those of `relative_to_first`.

    Args:
        world_from_camera: one pose per layer of the grid.
        intrinsics: in pixels of `size`.
        size: height and width of the picture, pixels.
        grid: rows and columns.
    """
    (height, width), (rows, columns) = size, grid
    down = (torch.arange(rows).to(intrinsics) + 0.5) * (height / rows)
    across = (torch.arange(columns).to(intrinsics) + 0.5) * (width / columns)
    centres = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)
    seen = F.normalize(_homogeneous(centres) @ torch.linalg.inv(intrinsics).T, dim=-1)
    direction = torch.einsum("tij,rcj->trci", world_from_camera[:, :3, :3], seen)
    eye = world_from_camera[:, None, None, :3, 3].expand_as(direction)
    return torch.cat([direction, torch.linalg.cross(eye, direction)], dim=-1)


def _homogeneous(pixels: Float[Tensor, "*N 2"]) -> Float[Tensor, "*N 3"]:
    return F.pad(pixels, (0, 1), value=1.0)
