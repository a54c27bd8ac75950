"""Maps with ways on them, as pictures for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from einops import repeat
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from genworld.world.navigation.motion import Stance
from genworld.world.navigation.occupancy import OccupancyMap
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.furniture import TINTS

UNKNOWN, OCCUPIED, TIGHT, FREE = (120, 124, 130), (52, 50, 48), (214, 208, 198), (250, 250, 248)
"""Colours of cells: never seen; an obstacle; too near to one for the agent's middle; free."""

_INK, _PAPER, _WALK, _WAY = (40, 40, 40), (250, 250, 248), (214, 40, 40), (30, 110, 220)
_START, _GOAL = (30, 150, 60), (240, 150, 0)
_FONT = 11


class MapPicture:
    """A map from above, north (y) up, to draw ways on.

    Attributes:
        map: the ground.
        scale: pixels per cell.
    """

    def __init__(self, map: OccupancyMap, scale: int = 3) -> None:
        self.map, self.scale = map, scale
        colours = np.empty((*map.shape, 3), dtype=np.uint8)
        colours[:] = UNKNOWN
        for cells, colour in ((map.known, TIGHT), (map.free, FREE), (map.occupied, OCCUPIED)):
            colours[cells] = colour
        upright = repeat(colours[:, ::-1], "x y c -> (y s) (x t) c", s=scale, t=scale)
        self._ground = Image.fromarray(np.ascontiguousarray(upright))

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Column and row of a place, pixels."""
        i, j = ((value - start) / self.map.cell for value, start in zip((x, y), self.map.origin, strict=True))
        return i * self.scale, (self.map.shape[1] - j) * self.scale

    def show_floor(self, floor: Floor, names: bool = True) -> MapPicture:
        """Lay rooms and things of a floor of the world, from above, over the map; what is unfree stays visible."""
        pen = ImageDraw.Draw(self._ground, "RGBA")
        for room, tint in enumerate(floor.stage.floors.sqrt().tolist()):
            x0, y0, x1, y1 = floor.plan.interior(room)
            pen.rectangle((*self.at(x0, y1), *self.at(x1, y0)), fill=(*_bytes(tint), 70))
        for thing in sorted(floor.things, key=lambda thing: thing.box.upper[2]):
            w, d, _ = thing.extent
            corners = ((-w, -d), (w, -d), (w, d), (-w, d))
            outline = [thing.rotation @ (i / 2, j / 2, 0) + thing.position for i, j in corners]
            pen.polygon([self.at(*point[:2]) for point in outline], fill=(*_bytes(TINTS[thing.colour]), 230))
        if names:
            inner = [floor.plan.interior(number) for number in range(len(floor.room_names))]
            rooms = [
                (name, self.at(x0, y1), "la") for name, (x0, _, _, y1) in zip(floor.room_names, inner, strict=True)
            ]
            things = [(thing.kind, self.at(*thing.position[:2]), "mm") for thing in floor.things]
            _write_apart(pen, [(name, (x + 3, y + 2), anchor) for name, (x, y), anchor in rooms] + things)
        return self

    def show_points(
        self, points: Float[np.ndarray, "P 3"], colours: Float[np.ndarray, "P 3"], ceiling: float = 2.0
    ) -> MapPicture:
        """Lay a cloud, from above, over the map.

        Args:
            points: scene axes, metres.
            colours: in [0, 1].
            ceiling: what is higher above the floor is left out, metres.
        """
        order = np.argsort(points[:, 2], kind="stable")
        order = order[points[order, 2] < self.map.floor + ceiling]
        cells = self.map.grid(points[order, :2]) * self.scale
        column, row = cells[:, 0].astype(int), self._ground.height - 1 - cells[:, 1].astype(int)
        picture = np.asarray(self._ground).copy()
        inside = (column >= 0) & (column < picture.shape[1]) & (row >= 0) & (row < picture.shape[0])
        picture[row[inside], column[inside]] = (colours[order][inside] * 255).astype(np.uint8)
        self._ground = Image.fromarray(picture)
        return self

    def draw(
        self,
        path: Sequence[Sequence[float]] = (),
        stance: Stance | None = None,
        goals: Sequence[Sequence[float]] = (),
        way: Sequence[Sequence[float]] = (),
    ) -> Image.Image:
        """A copy with ways on it.

        Args:
            path: that was walked (red, from a green dot), metres.
            stance: where the agent is and looks.
            goals: orange rings.
            way: that should be walked (blue).
        """
        picture = self._ground.copy()
        pen = ImageDraw.Draw(picture)
        for places, colour in ((way, _WAY), (path, _WALK)):
            if len(places) > 1:
                pen.line([self.at(*place[:2]) for place in places], fill=colour, width=2, joint="curve")
        for place in goals:
            x, y = self.at(*place[:2])
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), outline=_GOAL, width=3)
        if len(path):
            x, y = self.at(*path[0][:2])
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=_START)
        if stance is not None:
            x, y = self.at(stance.x, stance.y)
            around = [stance.heading + turn for turn in (0, 2.5, -2.5)]
            pen.polygon([(x + 9 * math.cos(a), y - 9 * math.sin(a)) for a in around], fill=_WALK, outline=_INK)
        return picture


def _bytes(colour: Sequence[float]) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in colour)


def _write_apart(pen: ImageDraw.ImageDraw, texts: Sequence[tuple[str, tuple[float, float], str]]) -> None:
    """Texts at their places, as far as there is room: on small maps, those that would cover another are left out."""
    font = ImageFont.load_default(_FONT)
    taken: list[tuple[float, ...]] = []
    for text, place, anchor in texts:
        left, top, right, bottom = pen.textbbox(place, text, font=font, anchor=anchor)
        if all(right < a or left > c or bottom < b or top > d for a, b, c, d in taken):
            taken.append((left, top, right, bottom))
            pen.text(place, text, fill=_INK, font=font, anchor=anchor, stroke_width=2, stroke_fill=_PAPER)
