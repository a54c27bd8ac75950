"""Pictures of floors for people: the plan from above, and sheets of views with what is said about them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genworld.world.rooms.boxes import Box
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.furniture import TINTS

_SCALE = 56  # pixels per metre
_EDGE = 0.25  # metres around the plan
_INK, _WALL, _PAPER = (40, 40, 40), (70, 66, 62), (250, 250, 248)
_ROUTE, _CAMERA = (150, 150, 150), (220, 60, 40)
_GAP, _FONT = 6, 13


def draw_plan(floor: Floor) -> Image.Image:
    """From above: rooms, doors, things with their names, the walk (grey) and the cameras (red)."""
    width, depth = floor.plan.outline.size
    size = (round((width + 2 * _EDGE) * _SCALE), round((depth + 2 * _EDGE) * _SCALE))
    picture = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_FONT)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x + _EDGE) * _SCALE, (depth + _EDGE - y) * _SCALE

    def corners(box: Box) -> list[tuple[float, float]]:
        (x0, y0, _), (x1, y1, _) = box.lower, box.upper
        return [at(x0, y0), at(x1, y0), at(x1, y1), at(x0, y1)]

    for room, tint in enumerate(floor.stage.floors.sqrt()):
        x0, y0, x1, y1 = floor.plan.rooms[room]
        colour = tuple(round(255 * (0.45 * float(value) + 0.55)) for value in tint)
        pen.polygon([at(x0, y0), at(x1, y0), at(x1, y1), at(x0, y1)], fill=colour)
    for slab in floor.plan.walls:
        if slab.box.lower[2] == 0 and not slab.frame:
            pen.polygon(corners(slab.box), fill=_WALL)
    pen.line([at(*place) for place in floor.route.tolist()], fill=_ROUTE, width=2)
    for index in sorted(range(len(floor.things)), key=lambda i: floor.things[i].box.upper[2]):
        thing = floor.things[index]
        w, d, _ = thing.extent
        outline = [thing.rotation @ (i * w / 2, j * d / 2, 0) + thing.position for i, j in _AROUND]
        fill = tuple(round(255 * value) for value in TINTS[thing.colour])
        pen.polygon([at(*point[:2]) for point in outline], fill=fill, outline=_INK)
    for thing in floor.things:
        x, y = at(*thing.position[:2])
        pen.text((x, y), thing.kind, fill=_INK, font=font, anchor="mm", stroke_width=2, stroke_fill=_PAPER)
    for pose in floor.poses:
        x, y = at(*pose[:2, 3])
        ahead = pose[:2, 2] / np.linalg.norm(pose[:2, 2]) * 14
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_CAMERA)
        pen.line((x, y, x + ahead[0], y - ahead[1]), fill=_CAMERA, width=2)
    return picture


_AROUND = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def draw_sheet(floor: Floor, size: int, columns: int, lines: Sequence[str]) -> Image.Image:
    """The plan, views in two rows beside it, and lines of text below."""
    chosen = np.linspace(0, len(floor.poses) - 1, min(2 * columns, len(floor.poses))).round().astype(int).tolist()
    pixels, _ = floor.render(chosen, (size, size))
    views = ((pixels.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    height = 2 * size + _GAP
    plan = draw_plan(floor)
    plan.thumbnail((round(1.6 * height), height), Image.Resampling.LANCZOS)
    width = plan.width + columns * (size + _GAP) + 2 * _GAP
    wrapped = [part for line in lines for part in textwrap.wrap(line, width // 7)]
    sheet = Image.new("RGB", (width, height + 2 * _GAP + len(wrapped) * (_FONT + 4)), "white")
    sheet.paste(plan, (_GAP, _GAP))
    for number, view in enumerate(views):
        row, column = divmod(number, columns)
        place = (plan.width + 2 * _GAP + column * (size + _GAP), _GAP + row * (size + _GAP))
        sheet.paste(Image.fromarray(view), place)
    text = "\n".join(wrapped)
    ImageDraw.Draw(sheet).text((_GAP, height + 2 * _GAP), text, fill="black", font=ImageFont.load_default(_FONT))
    return sheet
