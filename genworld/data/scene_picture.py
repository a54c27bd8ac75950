"""A scene from above and from the side: for people to see whether it is what they think it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_hypotheses import moved, points_of, sample_pixels
from genworld.types import Scene, SceneBox, View

_POINTS_PER_VIEW = 6000
_CEILING = 2.1  # metres above the floor: what is higher hides a room from above


def coloured_points(
    scene: Scene, views: Sequence[View], per_view: int = _POINTS_PER_VIEW
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
    """Points of a scene in its own axes with their colours in [0, 1]: its cloud, or else what the views show.

    Raises:
        ValueError: it has neither points nor views with depth.
    """
    if scene.points is not None and len(scene.points):
        points, colours = scene.points.double(), scene.colours
        if colours is None:
            colours = torch.full_like(scene.points, 0.4)
    else:
        deep = [view for view in views if view.depth is not None]
        if not deep:
            raise ValueError(f"{scene.name}: nothing to draw: it has neither points nor views with depth")
        points = points_of(deep, per_view)
        colours = torch.cat([_colours(view, per_view) for view in deep])
    return moved(points, scene.aligned_from_world.double()).float(), colours.float()


def draw_scene(
    scene: Scene, views: Sequence[View], path: Path, colours_of_boxes: Sequence[str] = (), dot: float = 1.5
) -> Path:
    """Write a picture of a scene from above and from the side (looking along y), with its cameras and boxes, metres.

    Args:
        scene: its points, or those of `views`, are drawn; from above without what is over 2.1 m, if it has a floor and
            a ceiling.
        views: their cameras are drawn.
        path: of the picture to write; its folder is made.
        colours_of_boxes: of each box; red by default.
        dot: area of a point's dot, in square points of print.

    Raises:
        ValueError: there is nothing to draw.
    """
    from matplotlib.figure import Figure

    points, colours = coloured_points(scene, views)
    low, high = (torch.quantile(_some(points), q, dim=0) for q in (0.005, 0.995))
    inside = ((points >= low - 0.2) & (points <= high + 0.2)).all(dim=-1)
    points, colours = points[inside], colours[inside]
    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    above, side = figure.subplots(1, 2)
    low_enough = points[:, 2] < low[2] + _CEILING if 2.2 < float(high[2] - low[2]) < 6 else points[:, 2] < torch.inf
    _draw(above, points[low_enough], colours[low_enough], (0, 1, 2), dot)
    _draw(side, points, colours, (0, 2, 1), dot)
    for view in views:
        pose = scene.aligned_from_world @ view.world_from_camera.float()
        for axes, (across, up) in ((above, (0, 1)), (side, (0, 2))):
            eye, way = pose[:3, 3], pose[:3, 2]
            axes.plot(float(eye[across]), float(eye[up]), "k.", markersize=4)
            axes.annotate(
                "",
                (float(eye[across] + 0.25 * way[across]), float(eye[up] + 0.25 * way[up])),
                (float(eye[across]), float(eye[up])),
                arrowprops={"arrowstyle": "->", "lw": 0.6},
            )
    for box, colour in zip(scene.boxes, colours_of_boxes or ["red"] * len(scene.boxes), strict=True):
        _outline(above, box, (0, 1), colour)
        _outline(side, box, (0, 2), colour)
    above.set(title=f"{scene.name} from above", xlabel="x, m", ylabel="y, m")
    side.set(title="from the side", xlabel="x, m", ylabel="z, m")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _colours(view: View, num: int) -> Tensor:
    pixels, _ = sample_pixels(view, num)
    columns, rows = pixels.floor().long().unbind(-1)
    return (rearrange(view.pixels, "c h w -> h w c")[rows, columns] + 1) / 2


def _some(points: Tensor, most: int = 100_000) -> Tensor:
    return points[:: max(len(points) // most, 1)]


def _draw(axes: Any, points: Tensor, colours: Tensor, order: tuple[int, int, int], dot: float) -> None:
    """Dots, the nearest last: from above the highest, from the side the one with the least y."""
    across, up, towards = order
    distance = points[:, towards] if towards == 2 else -points[:, towards]
    nearest_last = distance.argsort()
    shown = points[nearest_last]
    axes.scatter(
        *(shown[:, axis].numpy() for axis in (across, up)),
        s=dot,
        c=np.clip(colours[nearest_last].numpy(), 0, 1),
        linewidths=0,
    )
    axes.set_aspect("equal")
    axes.grid(visible=True, linewidth=0.3)


def _outline(axes: Any, box: SceneBox, plane: tuple[int, int], colour: str) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    across, up = plane
    corner = (float(box.lower[across]), float(box.lower[up]))
    axes.add_patch(Rectangle(corner, float(box.size[across]), float(box.size[up]), fill=False, color=colour, lw=0.9))
    outline = [withStroke(linewidth=1.5, foreground="white")]
    above = (corner[0], float(box.upper[up]))
    axes.text(*above, box.label, fontsize=7, color=colour, va="bottom", path_effects=outline)
