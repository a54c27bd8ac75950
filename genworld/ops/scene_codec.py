"""One codec between metres, voxels and location tokens, stored with every scene.

3D-LLM threw the transform between metres and voxels away, so that nobody could read the places it speaks of. Here the
transform is a small record that goes to and from JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenStyle = Literal["axis", "flat32"]
"""One token per axis, as in 3D-LLM's paper, or one for a cell of 32^3: x 32^2 + y 32 + z, as in its code."""

FLAT_CELLS = 32
_TOKEN = re.compile(r"<loc(\d+)>")
_AXES = {f"{mark}{axis}": (sign, i) for mark, sign in (("+", 1.0), ("-", -1.0)) for i, axis in enumerate("xyz")}


@dataclass(frozen=True)
class SceneCodec:
    """A box of cells laid over a scene.

    A point p in metres, scene axes, is first told in the codec's axes; then (p - centroid) / scale runs from -1 to 1,
    and that from 0 to `cells`. A cell stands for its centre, so that what comes back is at most half a cell away.

    Attributes:
        centroid: middle of the box, metres, scene axes.
        scale: half of its sides, metres, along the codec's axes.
        lower: least x, y, z of what the scene holds, metres, scene axes.
        upper: greatest x, y, z.
        axes: which scene axis each axis of the codec is: `("+x", "-z", "+y")` lays z-up points out as y-up ones.
        cells: along each axis.
    """

    centroid: tuple[float, float, float]
    scale: tuple[float, float, float]
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    axes: tuple[str, str, str] = ("+x", "+y", "+z")
    cells: int = 256

    def __post_init__(self) -> None:
        numbers = (*self.centroid, *self.scale, *self.lower, *self.upper)
        if not all(map(_is_finite, numbers)) or min(self.scale) <= 0:
            raise ValueError(
                f"a codec needs finite numbers and a positive scale, got centroid {self.centroid}, scale {self.scale}, "
                f"bounds {self.lower} to {self.upper}"
            )
        if any(low > high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"bounds of a codec must go from low to high, got {self.lower} to {self.upper}")
        known = [_AXES.get(name, (0.0, -1))[1] for name in self.axes]
        if sorted(known) != [0, 1, 2]:
            raise ValueError(f"axes of a codec are x, y and z in some order, each with its sign, got {self.axes}")
        if self.cells < 2:
            raise ValueError(f"a codec needs at least 2 cells along an axis, got {self.cells}")

    @classmethod
    def from_bounds(
        cls, lower: Sequence[float] | Tensor, upper: Sequence[float] | Tensor, *, cubic: bool = True, cells: int = 256
    ) -> Self:
        """The smallest box of cells around bounds in metres; the same cell size along all axes when `cubic`."""
        low, high = _triple(lower), _triple(upper)
        middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        # A hundredth of a millimetre keeps what is flat, or a single point, from having no size.
        half = tuple(max((b - a) / 2, 1e-5) for a, b in zip(low, high, strict=True))
        return cls(_triple(middle), (max(half),) * 3 if cubic else _triple(half), low, high, cells=cells)

    @classmethod
    def from_points_3dllm(cls, points: Float[Tensor, "P 3"]) -> Self:
        """3D-LLM's convention: about the mean of the points, scaled by the greatest distance from it, 256 cells.

        Its voxels are `int(p * 128 + 128)` of p in the unit ball (`gen_scene_feat_blip.py`), which are 256, one too
        many, at p = 1: here they are 255.

        Raises:
            ValueError: there is no point, or one is not finite.
        """
        if not len(points) or not points.isfinite().all():
            raise ValueError(f"a codec needs finite points, got {len(points)} of which some may not be")
        points = points.double()
        centroid = points.mean(dim=0)
        radius = max((points - centroid).norm(dim=-1).max().item(), 1e-5)
        return cls(_triple(centroid), (radius,) * 3, _triple(points.amin(0)), _triple(points.amax(0)))

    @property
    def cell_size(self) -> tuple[float, float, float]:
        """Sides of a cell along the codec's axes, metres."""
        return _triple([2 * half / self.cells for half in self.scale])

    def normalize(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Points in metres to -1 … 1 along the codec's axes, in float64: half a cell must not depend on rounding."""
        seen = (points.double() - self._row(self.centroid, points)) @ self._turn(points).T
        return seen / self._row(self.scale, points)

    def denormalize(self, places: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """The inverse of `normalize`."""
        return places.double() * self._row(self.scale, places) @ self._turn(places) + self._row(self.centroid, places)

    def inside(self, points: Float[Tensor, "*n 3"]) -> Bool[Tensor, "*n"]:
        """Which points, in metres, lie in the box of cells; a billionth of it further out still counts."""
        return (self.normalize(points).abs() <= 1 + 1e-9).all(dim=-1)

    def voxels(self, points: Float[Tensor, "*n 3"], *, cells: int | None = None) -> Int[Tensor, "*n 3"]:
        """The cells that points in metres lie in; what is outside is in the nearest cell (see `inside`).

        Args:
            points: metres, scene axes.
            cells: along each axis, instead of the codec's own number.
        """
        count = cells or self.cells
        return ((self.normalize(points) + 1) * (count / 2)).floor().long().clamp(0, count - 1)

    def metres(self, voxels: Int[Tensor, "*n 3"], *, cells: int | None = None) -> Float[Tensor, "*n 3"]:
        """Centres of cells in metres, scene axes; the inverse of `voxels` to half a cell.

        Raises:
            ValueError: there is no such cell.
        """
        count = cells or self.cells
        if voxels.numel() and (voxels.min() < 0 or voxels.max() >= count):
            raise ValueError(
                f"cells run from 0 to {count - 1}, got {int(voxels.min())} to {int(voxels.max())}: these voxels belong "
                "to another codec"
            )
        return self.denormalize((voxels.double() + 0.5) * (2 / count) - 1)

    def tokens(self, points: Float[Tensor, "*n 3"], style: TokenStyle = "axis") -> Int[Tensor, "*n k"]:
        """Numbers of the location tokens of points in metres: three each in style `axis`, one in style `flat32`.

        Raises:
            ValueError: a point lies outside the box of cells.
        """
        outside = ~self.inside(points)
        if outside.any():
            first = points[outside][0].tolist()
            raise ValueError(
                f"{int(outside.sum())} of {outside.numel()} points, the first at {first} m, lie outside the codec's "
                f"box (centroid {self.centroid}, half sides {self.scale}): do they have the scene's axes and unit?"
            )
        if style == "axis":
            return self.voxels(points)
        weights = torch.tensor([FLAT_CELLS**2, FLAT_CELLS, 1], device=points.device)
        return (self.voxels(points, cells=FLAT_CELLS) * weights).sum(dim=-1, keepdim=True)

    def points(self, tokens: Int[Tensor, "*n k"], style: TokenStyle = "axis") -> Float[Tensor, "*n 3"]:
        """Points in metres from numbers of location tokens; the inverse of `tokens` to half a cell.

        Raises:
            ValueError: the wrong number of tokens, or a token that stands for no cell.
        """
        wanted = tokens_per_point(style)
        if tokens.shape[-1] != wanted:
            raise ValueError(f"style {style!r} has {wanted} tokens a point, got {tokens.shape[-1]}")
        if style == "axis":
            return self.metres(tokens)
        number = tokens[..., 0]
        voxels = torch.stack([number // FLAT_CELLS**2, number // FLAT_CELLS % FLAT_CELLS, number % FLAT_CELLS], dim=-1)
        return self.metres(voxels, cells=FLAT_CELLS)

    def box_tokens(
        self, lower: Float[Tensor, "*n 3"], upper: Float[Tensor, "*n 3"], style: TokenStyle = "axis"
    ) -> Int[Tensor, "*n k2"]:
        """Boxes as their two corners: the least cells first, whichever way the codec's axes point.

        Raises:
            ValueError: a corner lies outside the box of cells.
        """
        corners = torch.stack([lower, upper], dim=-2).double()
        seen = corners @ self._turn(corners).T
        low, high = seen.amin(dim=-2) @ self._turn(corners), seen.amax(dim=-2) @ self._turn(corners)
        return torch.cat([self.tokens(low, style), self.tokens(high, style)], dim=-1)

    def boxes(
        self, tokens: Int[Tensor, "*n k2"], style: TokenStyle = "axis"
    ) -> tuple[Float[Tensor, "*n 3"], Float[Tensor, "*n 3"]]:
        """Lower and upper corners in metres from `box_tokens`, each side to half a cell.

        A side whose corners share a cell comes back half a cell thick, not flat: a quarter further out at either end.

        Raises:
            ValueError: the wrong number of tokens, or a token that stands for no cell.
        """
        wanted = 2 * tokens_per_point(style)
        if tokens.shape[-1] != wanted:
            raise ValueError(f"a box has {wanted} tokens in style {style!r}, got {tokens.shape[-1]}")
        corners = torch.stack([self.points(each, style) for each in tokens.chunk(2, dim=-1)])
        lower, upper = corners.amin(dim=0), corners.amax(dim=0)
        count = self.cells if style == "axis" else FLAT_CELLS
        quarter = (self._row(self.scale, lower) @ self._turn(lower)).abs() / (2 * count)
        flat = upper - lower < quarter
        return lower - quarter * flat, upper + quarter * flat

    def num_tokens(self, style: TokenStyle = "axis") -> int:
        """How many different location tokens there are."""
        return self.cells if style == "axis" else FLAT_CELLS**3

    def to_json(self) -> str:
        """The codec as text, for the metadata of a file."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: it is not that.
        """
        try:
            fields: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
            }
            return cls(**fields)
        except (TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"not a codec: {error}; expected what SceneCodec.to_json writes, got {text[:80]!r}"
            ) from None

    def _turn(self, like: Tensor) -> Float[Tensor, "3 3"]:
        """Rows are the codec's axes in the scene's."""
        turn = torch.zeros(3, 3, dtype=torch.float64, device=like.device)
        for row, name in enumerate(self.axes):
            sign, axis = _AXES[name]
            turn[row, axis] = sign
        return turn

    @staticmethod
    def _row(numbers: Sequence[float], like: Tensor) -> Float[Tensor, " 3"]:
        return torch.tensor(numbers, dtype=torch.float64, device=like.device)


def tokens_per_point(style: TokenStyle) -> int:
    """Location tokens that one point takes."""
    return 3 if style == "axis" else 1


def tokens_to_text(tokens: Int[Tensor, " k"] | Sequence[int]) -> str:
    """Location tokens as they stand in a text: `<loc3><loc56><loc34>`."""
    return "".join(f"<loc{int(number)}>" for number in tokens)


def tokens_in_text(text: str) -> list[int]:
    """Numbers of all location tokens in a text, in their order."""
    return [int(number) for number in _TOKEN.findall(text)]


def _is_finite(number: float) -> bool:
    return number - number == 0


def _triple(numbers: Sequence[float] | Tensor) -> tuple[float, float, float]:
    x, y, z = (float(number) for number in numbers)
    return x, y, z
