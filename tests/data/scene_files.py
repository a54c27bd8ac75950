"""Small scenes for the tests of readers and of the check, made from the world or by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genworld.ops.pictures import to_uint8
from genworld.types import ClipShape, Scene, SceneBox, View
from genworld.world.clip import sample_clip
from genworld.world.layout import WorldConfig

ROOM = Path(__file__).resolve().parents[2] / "../shared/data/rgbd_room"
FAR = 30.0


def world_scene(seed: int, num_views: int = 10, height: int = 60, width: int = 80) -> Scene:
    """A scene of the world seen from an orbit of 18 seconds, with exact depth, poses and boxes."""
    config = WorldConfig(cameras=("orbit",), motions=("stay",))
    clip = sample_clip(seed, config, ClipShape(num_views, height, width, 0.5))
    depth = torch.where(clip.depth < FAR, clip.depth, 0.0)
    views = tuple(
        View(clip.clip.pixels[:, i], depth[i], clip.world_from_camera[i], clip.intrinsics, str(i))
        for i in range(num_views)
    )
    boxes = []
    for index, thing in enumerate(clip.scene.objects):
        half = torch.tensor(thing.dims)
        if thing.shape == "torus":
            half = torch.tensor([thing.dims[0] + thing.dims[1]] * 2 + [thing.dims[1]])
        if thing.shape != "sphere":
            half = clip.stage.rotation[0, index].abs() @ half
        centre = clip.positions[0, index]
        boxes.append(SceneBox(thing.shape, index, centre - half, centre + half))
    return Scene(f"world-{seed}", views, boxes=tuple(boxes))


def in_memory(scene: Scene, most: int = 10) -> Scene:
    """The scene with some of its views read."""
    chosen = torch.linspace(0, scene.num_views - 1, min(most, scene.num_views)).round().long().tolist()
    return replace(scene, views=tuple(scene.view(i) for i in chosen))


def change(scene: Scene, pose=lambda x: x, depth=lambda x: x) -> Scene:
    """The scene with other poses and depths."""
    views = [
        replace(view, world_from_camera=pose(view.world_from_camera), depth=depth(view.depth)) for view in scene.views
    ]
    return replace(scene, views=tuple(views))


def apply(pose: Tensor, points: Tensor) -> Tensor:
    return points @ pose[:3, :3].T + pose[:3, 3]


def move_box(pose: Tensor, box: SceneBox) -> SceneBox:
    """The box that encloses a box in other axes: what comes of taking corners from the wrong ones."""
    ends = torch.stack([box.lower, box.upper])
    corners = torch.stack([ends[list(pick), [0, 1, 2]] for pick in itertools.product((0, 1), repeat=3)])
    moved = apply(pose, corners)
    return replace(box, lower=moved.amin(dim=0), upper=moved.amax(dim=0))


def offset(pose: Tensor, scale: float) -> Tensor:
    """The pose with its translation scaled."""
    pose = pose.clone()
    pose[:3, 3] *= scale
    return pose


def picture(view: View) -> Image.Image:
    return Image.fromarray(to_uint8(view.pixels[:, None])[0].numpy())


def levels(view: View) -> np.ndarray:
    """Depth in millimetres."""
    assert view.depth is not None
    return (view.depth * 1000).round().numpy().astype(np.uint16)


def opencv(view: View) -> np.ndarray:
    """Intrinsics as OpenCV gives them: the first pixel's centre at 0."""
    k = view.intrinsics.double().numpy().copy()
    k[:2, 2] -= 0.5
    return k


def write_rgbd(folder: Path, scene: Scene) -> Path:
    """The plain layout of posed RGB-D, colour as PNG."""
    folder.mkdir(parents=True)
    np.savetxt(folder / "camera-intrinsics.txt", opencv(scene.view(0)))
    for index, view in enumerate(scene.views):
        stem = folder / f"frame-{index:06}"
        picture(view).save(f"{stem}.color.png")
        Image.fromarray(levels(view)).save(f"{stem}.depth.png")
        np.savetxt(f"{stem}.pose.txt", view.world_from_camera.numpy())
    return folder


def same_view(read: View, truth: View, depth_error: float = 6e-4) -> None:
    """That a view came back as it was written, up to the rounding of its files."""
    assert read.pixels.shape == truth.pixels.shape
    assert float((read.pixels - truth.pixels).abs().max()) < 1.1 / 127.5
    assert read.depth is not None
    assert truth.depth is not None
    assert float((read.depth - truth.depth).abs().max()) < depth_error
    assert torch.allclose(read.world_from_camera.float(), truth.world_from_camera, atol=1e-4)
    assert torch.allclose(read.intrinsics.float(), truth.intrinsics, atol=1e-3)
