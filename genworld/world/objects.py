"""What the world is made of: shapes, colours, sizes, materials, and the record of one object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Shape = Literal["sphere", "cube", "cylinder", "cone", "torus"]
Colour = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"]
Size = Literal["small", "medium", "large"]
Material = Literal["matte", "shiny"]

SHAPES: tuple[Shape, ...] = ("sphere", "cube", "cylinder", "cone", "torus")
COLOURS: tuple[Colour, ...] = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES: dict[Size, float] = {"small": 0.50, "medium": 0.66, "large": 0.86}
"""The radius, in metres, of the sphere of each size; other shapes are scaled to look about as big."""
MATERIALS: tuple[Material, ...] = ("matte", "shiny")

PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.10, 0.12),
    "orange": (1.00, 0.48, 0.04),
    "yellow": (0.98, 0.88, 0.08),
    "green": (0.14, 0.70, 0.16),
    "cyan": (0.08, 0.80, 0.80),
    "blue": (0.12, 0.26, 0.94),
    "purple": (0.50, 0.14, 0.86),
    "pink": (0.98, 0.22, 0.68),
}
"""Display (gamma-encoded) RGB in [0, 1]. Hues lie at least 22 degrees apart and no light of the world changes them."""
WALL_COLOUR = (0.42, 0.40, 0.39)

# Half extents and radii in units of the object's size; chosen so that all five cover a similar area on screen.
_PROPORTIONS: dict[Shape, tuple[float, float, float]] = {
    "sphere": (1.0, 1.0, 1.0),
    "cube": (0.80, 0.80, 0.80),  # half edges
    "cylinder": (0.74, 0.74, 0.92),  # radius, radius, half height
    "cone": (1.0, 1.0, 1.02),  # base radius, base radius, half height
    "torus": (0.84, 0.36, 0.36),  # ring radius, tube radius, half height
}


@dataclass(frozen=True, kw_only=True)
class WorldObject:
    """One thing in the world, as it is at time 0.

    Attributes:
        shape: one of `SHAPES`, or "wall": a grey standing box that hides what passes behind it.
        colour: name in `PALETTE` ("grey" for a wall).
        dims: half extents in metres along the object's own axes; torus: (ring radius, tube radius, tube radius).
        position: centre at time 0, metres, world axes (z up).
        yaw: turn about the vertical, radians.
        velocity: horizontal velocity at time 0, metres per second.
        bounciness: part of the speed of an impact that is left after it, 0 to 1.
    """

    shape: Shape | Literal["wall"]
    colour: Colour | Literal["grey"]
    size: Size
    material: Material
    dims: tuple[float, float, float]
    position: tuple[float, float, float]
    yaw: float = 0.0
    velocity: tuple[float, float] = (0.0, 0.0)
    bounciness: float = 0.6

    @property
    def noun(self) -> str:
        """What people call it."""
        return {"sphere": "ball", "torus": "ring"}.get(self.shape, self.shape)

    @property
    def name(self) -> str:
        """Colour and noun; unique in a scene, because no two objects of a scene share a colour."""
        return f"{self.colour} {self.noun}"

    @property
    def half_height(self) -> float:
        """Height of the centre above the floor when standing on it, metres."""
        return self.dims[2]

    @property
    def bounding_radius(self) -> float:
        """Radius of a sphere around the centre that holds the whole object, metres."""
        a, b, c = self.dims
        if self.shape == "sphere":
            return a
        if self.shape == "torus":
            return a + b
        return math.hypot(a, c) if self.shape in ("cylinder", "cone") else math.hypot(a, b, c)

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Display colour."""
        return PALETTE.get(self.colour, WALL_COLOUR)


def proportions(shape: Shape, size: Size) -> tuple[float, float, float]:
    """`WorldObject.dims` of a shape at a size."""
    a, b, c = _PROPORTIONS[shape]
    radius = SIZES[size]
    return a * radius, b * radius, c * radius


def nearest_colour(rgb: Float[Tensor, "*batch 3"]) -> Int[Tensor, "*batch"]:
    """Index into `COLOURS` of the palette entry whose hue is nearest.

    Hue is the direction that is left when brightness and greyness are taken away, so shade and highlight do not
    matter; a colour without any hue gets an arbitrary index.

    Args:
        rgb: display colours in any range that starts at 0 (subtract -1 and halve pixels of a `Clip` first).
    """
    palette = torch.tensor([PALETTE[name] for name in COLOURS], dtype=rgb.dtype, device=rgb.device)
    return (_hue_direction(rgb) @ _hue_direction(palette).T).argmax(-1)


def _hue_direction(rgb: Tensor) -> Tensor:
    plane = torch.tensor(
        [[1.0, -0.5, -0.5], [0.0, math.sqrt(0.75), -math.sqrt(0.75)]], dtype=rgb.dtype, device=rgb.device
    )
    return torch.nn.functional.normalize(rgb @ plane.T, dim=-1)
