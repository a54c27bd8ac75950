"""What an agent sees in a scan: its points, splatted with a depth buffer."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from genworld.ops.masks import true_rows
from genworld.world.navigation.camera import CameraConfig, world_from_camera
from genworld.world.navigation.motion import Stance

_LEVELS = 5
_NEAREST = 0.15  # metres: what is nearer is in the agent itself
_BEHIND = 0.1  # metres: what a coarse level shows so much nearer hides what shines through between points


class PointViews:
    """Implements `Viewer` for clouds of points.

    Near points cover several pixels: they are drawn into pictures of 1/2, 1/4, … of the size too, in which they touch,
    and these close the gaps.

    Attributes:
        camera: what the points are seen with.
        floor: height of the floor, metres.
        spacing: points in a cube of this side become their mean, metres; they are taken to be so far apart.
    """

    def __init__(
        self,
        points: Float[np.ndarray, "P 3"],
        colours: Float[np.ndarray, "P 3"],
        floor: float,
        camera: CameraConfig | None = None,
        spacing: float = 0.02,
    ) -> None:
        if not len(points):
            raise ValueError("expected points to see, got none: the scene is empty")
        self.camera, self.floor, self.spacing = camera or CameraConfig(), floor, spacing
        cells = np.floor((points - points.min(0)) / spacing).astype(np.int64)
        _, cube = np.unique(cells @ np.array([1, 1 << 20, 1 << 40]), return_inverse=True)
        count = np.bincount(cube)
        means = [np.bincount(cube, values) / count for values in (*points.T, *colours.T)]
        self._points = torch.from_numpy(np.stack(means[:3])).float()
        self._colours = torch.from_numpy((np.stack(means[3:], axis=1) * 255 + 0.5).astype(np.uint8))

    def __call__(self, stance: Stance) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        """See `Viewer`. Where nothing was scanned, colour and depth are 0 (the depth: `near`, of a camera with one)."""
        pose = torch.from_numpy(world_from_camera(stance, self.floor + self.camera.height)).float()
        seen = pose[:3, :3].T @ (self._points - pose[:3, 3:])
        height, width = self.camera.size
        depth = seen[2]
        x = seen[0] / depth * self.camera.focal + width / 2
        y = seen[1] / depth * self.camera.focal + height / 2
        kept = true_rows((depth > _NEAREST) & (x >= 0) & (x < width) & (y >= 0) & (y < height))
        x, y, depth = x[kept], y[kept], depth[kept]
        nearest = torch.full((height, width), torch.inf)
        which = torch.full((height, width), -1)
        for level in range(_LEVELS):
            if level:
                close = true_rows(depth < self.camera.focal * self.spacing * 1.5 / 2 ** (level - 1))
                x, y, depth, kept = x[close], y[close], depth[close], kept[close]
            coarse, index = _splat(x, y, depth, kept, self.camera.size, 2**level)
            better = coarse < nearest - (_BEHIND if level else 0)
            nearest, which = torch.where(better, coarse, nearest), torch.where(better, index, which)
        empty = which < 0
        picture = self._colours[which.clamp_min(0)]
        picture[empty] = 0
        return picture.numpy(), self.camera.clamped(torch.where(empty, 0, nearest).numpy())


def _splat(
    x: Tensor, y: Tensor, depth: Tensor, index: Tensor, size: tuple[int, int], block: int
) -> tuple[Float[Tensor, "H W"], Tensor]:
    """The nearest point of every block of pixels: its depth (infinite without one) and index."""
    rows, columns = -(-size[0] // block), -(-size[1] // block)
    flat = (y / block).long() * columns + (x / block).long()
    nearest = torch.full((rows * columns,), torch.inf).scatter_reduce_(0, flat, depth, "amin")
    which = torch.full((rows * columns,), -1)
    top = true_rows(depth == nearest[flat])
    which[flat[top]] = index[top]

    def whole(image: Tensor) -> Tensor:
        big = image.view(rows, columns).repeat_interleave(block, 0).repeat_interleave(block, 1)
        return big[: size[0], : size[1]]

    return whole(nearest), whole(which)
