"""Boxes along the axes: the arithmetic that furnishing and language share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Box(NamedTuple):
    """Everything between two corners, metres."""

    lower: Float[np.ndarray, " 3"]
    upper: Float[np.ndarray, " 3"]

    @property
    def centre(self) -> Float[np.ndarray, " 3"]:
        """Its middle."""
        return (self.lower + self.upper) / 2

    @property
    def size(self) -> Float[np.ndarray, " 3"]:
        """Extent along x, y and z."""
        return self.upper - self.lower

    @property
    def volume(self) -> float:
        """Cubic metres."""
        return float(np.prod(self.size))

    def gap(self, other: Box) -> float:
        """Least distance between points of the two, metres; 0 when they touch or overlap."""
        apart = np.maximum(self.lower - other.upper, other.lower - self.upper).clip(0)
        return float(np.linalg.norm(apart))

    def overlaps(self, other: Box, margin: float = 0.0) -> bool:
        """Whether they come closer than `margin` along every axis (a margin of 0: share some volume)."""
        return bool((self.lower < other.upper + margin).all() and (other.lower < self.upper + margin).all())

    def grown(self, x: float, y: float, z: float = 0.0) -> Box:
        """Moved outwards on all sides."""
        by = np.array([x, y, z])
        return Box(self.lower - by, self.upper + by)
