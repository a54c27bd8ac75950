"""Lifting: processor seconds of 100 frames of 640x480 with 1,024-wide patch features given; memory; growth with frames.

A camera turns and walks in a room of 6 x 5 x 2.7 m, so that later frames see what earlier ones saw, as in a real scan.
Depth is computed beforehand and held in 16 bits, millimetres, as cameras give it; reading that, geometry, occlusion and
fusion are timed, on one thread, in a fresh process, whose memory includes torch (540 MiB before anything is done).

The floor, counted for one frame: 40x30 patches of 16 pixels, 19,200 samples of depth (every fourth pixel), 1,885
voxels of 5 cm in 4,554 pairs of voxel and patch (means over the frames).

    geometry    19,200 samples x about 60 operations, and a sort of 19,200 keys (15 compares each)    1.4 M operations
    fusion      2 x 1,024 operations for each pair; rounding and adding, 4 x 1,024 for each voxel      17 M operations
    bytes       features read once, 4 x 1,024 x 1,200; their sums per voxel written and read, 2 x 4 x 1,024 x 1,885;
                the exact sums read and written, 2 x 8 x 1,024 x 1,885                                  51 MB

Memory decides: 5.1 GB for 100 frames and 0.3 GB for the means at the end, 0.55 s at the 10 GB/s of one core, where
1.9 GFLOP take 0.1 s. Held are the exact sums and the means of 24,360 voxels, 12 x 1,024 bytes each: 300 MB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from genworld.models.points import DirectLifter, DirectLifterConfig, FeatureCloud, FeatureTable
from genworld.types import Scene, View
from tools.measuring import in_fresh_process, peak_memory, row

FRAMES, SIZE, PATCH, WIDTH = 100, (480, 640), 16, 1024
LOWER, UPPER = torch.tensor([0.02, 0.02, 0.02]), torch.tensor([6.02, 5.02, 2.72])
"""Of the room, metres; the walls do not lie on borders of voxels, where rounding would share them out to two layers."""
SECONDS, MEMORY, GROWTH = 2.0, 1024.0, 1.1


def run(frames: int = FRAMES) -> Iterator[dict[str, Any]]:
    """Time and memory against their limits; time per frame of twice the frames against that of these."""
    seconds, memory = in_fresh_process(measure, frames)
    name = f"lift: {frames} frames of 640x480, {WIDTH} wide"
    yield row(name, seconds, SECONDS, "cpu-s, one thread", 1.0)
    yield row(f"{name}, peak memory", memory, MEMORY, "MiB", 1.0)
    longer, _ = in_fresh_process(measure, 2 * frames)
    yield row(f"lift: {2 * frames} frames, a frame", longer / 2 / frames, seconds / frames, "cpu-s", GROWTH)


def measure(frames: int) -> tuple[float, float]:
    """Processor seconds for all frames, the least of three times, and the peak memory of this process in MiB."""
    torch.set_num_threads(1)
    scene, lifter = Scene("room", Recording(frames)), DirectLifter(DirectLifterConfig())
    times = []
    for _ in range(3):
        start = time.process_time()
        cloud = lifter.lift(scene, Patches())
        times.append(time.process_time() - start)
        check(cloud)
        del cloud
    return min(times), peak_memory()


class Patches:
    """The same patch features for every view."""

    name = "random"

    def __init__(self):
        grid = (SIZE[0] // PATCH, SIZE[1] // PATCH, WIDTH)
        self.table = FeatureTable.from_patches(torch.randn(grid, generator=torch.Generator().manual_seed(0)))

    def __call__(self, index: int, view: View) -> FeatureTable:
        """See `ViewFeatures`."""
        return self.table


class Recording(Sequence[View]):
    """What the camera sees on its way through the room: distances to the walls, by a formula."""

    def __init__(self, frames: int):
        height, width = SIZE
        focal = 585.0
        self.intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
        self.poses = [camera(2 * math.pi * frame / FRAMES) for frame in range(frames)]
        rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        rays = torch.stack([(columns - width / 2) / focal, (rows - height / 2) / focal, torch.ones_like(rows)], dim=-1)
        self.millimetres = torch.empty(frames, height, width, dtype=torch.int16)  # in one piece: nothing lies between
        for frame, pose in enumerate(self.poses):
            self.millimetres[frame] = self._look(rays, pose)
        self.pixels = torch.zeros(3, height, width)

    def __len__(self) -> int:
        return len(self.poses)

    def __getitem__(self, index: int) -> View:
        return View(self.pixels, self.millimetres[index].float() / 1000, self.poses[index], self.intrinsics)

    @staticmethod
    def _look(rays: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        towards = rays @ pose[:3, :3].T
        leave = torch.maximum((UPPER - pose[:3, 3]) / towards, (LOWER - pose[:3, 3]) / towards).amin(dim=-1)
        return (leave * 1000).round().to(torch.int16)


def camera(turn: float) -> torch.Tensor:
    """Pose at an angle of the round: on a circle of 1 m, looking outwards and a little up and down."""
    pitch = 0.35 * math.sin(3 * turn)
    forward = torch.tensor([math.cos(turn) * math.cos(pitch), math.sin(turn) * math.cos(pitch), -math.sin(pitch)])
    right = torch.tensor([math.sin(turn), -math.cos(turn), 0.0])
    pose = torch.eye(4)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = (LOWER + UPPER) / 2 + torch.tensor([math.cos(turn), math.sin(turn), 0.2])
    return pose


def check(cloud: FeatureCloud) -> None:
    """The cloud must be the walls."""
    away = torch.minimum((cloud.points - LOWER).abs(), (UPPER - cloud.points).abs()).amin(dim=-1)
    assert away.max() < 0.05, f"a point lies {away.max():.3f} m off the walls"
