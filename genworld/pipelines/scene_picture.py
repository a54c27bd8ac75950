"""A picture of an answer: the scene from above, and the view that shows best what the answer names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float
from PIL import Image, ImageChops, ImageDraw, ImageFont
from torch import Tensor

from genworld.data.scene_files import some_views
from genworld.data.scene_picture import draw_scene
from genworld.models.points import FeatureCloud
from genworld.ops.geometry import project, unproject
from genworld.ops.pictures import to_uint8
from genworld.types import Scene, SceneBox, View

_VIEWS = 12
_NEAR = 0.05  # metres: what is nearer to a camera is not drawn, and what is nearer to a box belongs to it
_LARGE = 0.15  # of a picture: what is shown so large is shown well
_NAMED, _GROUNDED = (255, 40, 40), (230, 120, 0)  # boxes that an answer names; that the model found for its words
_DOT = 3000.0  # square points of print for a square metre of voxel: they nearly touch in a room of a few metres
_MARGIN = 8  # pixels
_FONT, _LINE = 15, 26  # pixels of letters, and for the legend
_EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if (a ^ b).bit_count() == 1]


def draw_answer(
    scene: Scene, boxes: Sequence[SceneBox], path: Path, num_views: int = _VIEWS, grounded: Sequence[SceneBox] = ()
) -> Path:
    """Write the scene from above and from the side with the boxes, and below it the view that shows most of them.

    Args:
        scene: with views.
        boxes: that the answer names; where there are none at all, the middle view is shown.
        path: of the picture; its folder is made.
        num_views: views that are looked at, spread evenly.
        grounded: boxes that the model found for things that the answer names in words; drawn in another colour, with a
            legend that says so.
    """
    scene, views = some_views(scene, num_views)
    every = [*((box, _NAMED) for box in boxes), *((box, _GROUNDED) for box in grounded)]
    with TemporaryDirectory() as folder:
        colours = ["#{:02x}{:02x}{:02x}".format(*colour) for _, colour in every]
        with_boxes = replace(scene, boxes=tuple(box for box, _ in every))
        drawn = draw_scene(with_boxes, views, Path(folder) / "above.png", colours)
        above = Image.open(drawn).convert("RGB")
    aligned = [scene.align(view) for view in views]
    shown = (
        max(aligned, key=lambda view: _shown(view, [box for box, _ in every])) if every else aligned[len(views) // 2]
    )
    view = _with_boxes(shown, every, above.width // 2)
    legend = _LINE if grounded else 0
    page = Image.new("RGB", (above.width, above.height + view.height + legend), "white")
    page.paste(above, (0, 0))
    page.paste(view, ((above.width - view.width) // 2, above.height))
    if grounded:
        said = "orange: named in words by the answer, and grounded by the model" + (
            "; red: boxes of the answer" * bool(boxes)
        )
        ImageDraw.Draw(page).text((6, above.height + view.height + 6), said, _GROUNDED, ImageFont.load_default(_FONT))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def draw_clouds(name: str, clouds: Mapping[str, FeatureCloud], path: Path) -> Path:
    """Write what lifters made of a scene, one below the other, each from above and from the side.

    Args:
        name: of the scene.
        clouds: by the names of their lifters.
        path: of the picture; its folder is made.
    """
    rows = []
    with TemporaryDirectory() as folder:
        for lifter, cloud in clouds.items():
            title = f"{name}, {lifter} ({len(cloud)} points)"
            lifted = Scene(title, points=cloud.points, colours=cloud.colours)
            drawn = draw_scene(lifted, (), Path(folder) / "cloud.png", dot=_DOT * cloud.voxel**2)
            row = Image.open(drawn).convert("RGB")
            _, top, _, bottom = ImageChops.invert(row).getbbox() or (0, 0, *row.size)
            rows.append(row.crop((0, max(top - _MARGIN, 0), row.width, bottom + _MARGIN)))
    page = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for number, row in enumerate(rows):
        page.paste(row, (0, sum(above.height for above in rows[:number])))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.quantize(128).save(path, optimize=True)  # thousands of dots: a fifth of the bytes
    return path


def _corners(box: SceneBox) -> Float[Tensor, "8 3"]:
    ends = torch.stack([box.lower, box.upper])
    return torch.stack([ends[list(pick), torch.arange(3)] for pick in itertools.product((0, 1), repeat=3)])


def _project(view: View, points: Float[Tensor, "n 3"]) -> tuple[Tensor, Tensor]:
    pixels, depth = project(points.double()[None], view.world_from_camera.double()[None], view.intrinsics.double())
    return pixels[0], depth[0]


def _shown(view: View, boxes: Sequence[SceneBox]) -> float:
    """How well a view shows boxes: the part of it that shows what is in them, up to `_LARGE` of it for each.

    Without depth, what is hidden is not known: then the middles that are in it, the nearer to its own middle the more.
    """
    height, width = view.pixels.shape[1:]
    if view.depth is None:
        places = [_project(view, box.centre[None]) for box in boxes]
        near = [(pixels[0] / torch.tensor([width, height]) - 0.5).abs().max() for pixels, far in places if far > _NEAR]
        return float(sum((1 - away for away in near if away < 0.5), torch.zeros(())))
    down, right = (torch.arange(side) + 0.5 for side in (height, width))
    pixels = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=-1).flatten(0, 1).double()
    depth = view.depth.flatten().double()
    points = unproject(pixels[None], depth[None], view.world_from_camera.double()[None], view.intrinsics.double())[0]
    inside = [((points > box.lower - _NEAR) & (points < box.upper + _NEAR)).all(dim=-1) & (depth > 0) for box in boxes]
    return sum(min(float(mask.double().mean()), _LARGE) for mask in inside)


def _with_boxes(view: View, boxes: Sequence[tuple[SceneBox, tuple[int, int, int]]], width: int) -> Image.Image:
    picture = Image.fromarray(to_uint8(view.pixels[:, None])[0].numpy())
    scale = width / picture.width
    picture = picture.resize((width, round(picture.height * scale)), Image.Resampling.BILINEAR)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT)
    for box, colour in boxes:
        pixels, depth = _project(view, _corners(box))
        places = (pixels * scale).tolist()
        if float(depth.min()) < _NEAR:
            continue  # it reaches behind the camera: its edges have no ends in the picture
        ends = [sorted(place[axis] for place in places) for axis in (0, 1)]
        if any(each[-1] < 0 or each[0] > side for each, side in zip(ends, picture.size, strict=True)):
            continue  # beside the picture
        for a, b in _EDGES:
            pen.line((*places[a], *places[b]), fill=colour, width=2)
        left, top = (max(each[0], 0) for each in ends)
        pen.text((left, max(top - _FONT - 4, 0)), box.label, colour, font, stroke_width=2, stroke_fill="white")
    return picture
