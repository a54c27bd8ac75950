"""Where objects are, as their tokens tell it: to everybody, and to who stands somewhere and asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genworld.models.connector_parts import ObjectSteps, Part, SceneObjects, SceneTokens, waves
from genworld.models.point_batch import PointBatch
from genworld.ops.precision import without_autocast

_SCALES = [1 / 16] * 3 + [1.0] * 3 + [0.25] * 3 + [1.0] * 6 + [1 / 16, 1 / 16, 0.25, 0.25, 1 / 16, 0.25]
"""Of places and bearings, before they become waves."""
_OCTAVES = 7
_LOUD = 0.19
"""Of the first weights of `Places`: with it, where an object is begins about as large as what it is."""


@dataclass(frozen=True, kw_only=True)
class PlacesConfig:
    """Adds to the tokens of objects where they are: for everybody, and for who asks, where that is told (`view_from`).

    Waves of centre, size, corners and bearings go through one linear layer, each octave half as loud as the one below
    it: with all alike, the fast ones drown what is needed first, and nothing is learned of places.
    """

    kind: Literal["places"] = "places"

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return Places(in_width)


class Places(Part):
    """See `PlacesConfig`."""

    loud: Tensor

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.out_width, count = in_width, len(_SCALES)
        self.tell = nn.Linear(count * (2 * _OCTAVES + 1), in_width)
        nn.init.normal_(self.tell.weight, std=_LOUD)
        octaves = torch.tensor([0.5**octave for octave in range(_OCTAVES)]).repeat(2 * count)
        self.register_buffer("loud", torch.cat([torch.full((count,), 2.0), octaves]), persistent=False)

    def forward(self, tokens: SceneTokens, batch: PointBatch | None) -> SceneTokens:
        """See `Part`.

        Raises:
            ValueError: tokens are no objects.
        """
        if tokens.objects is None:
            raise ValueError("a part of kind places tells where objects are: put it after one of kind objects")
        places, bearings = tokens.objects.places, tokens.objects.bearings
        with without_autocast(places):
            if bearings is None:
                bearings = places.new_zeros(*places.shape[:2], 6)
            numbers = torch.cat([places, bearings], dim=-1)
            where = waves(numbers * numbers.new_tensor(_SCALES), _OCTAVES) * self.loud
        return tokens._replace(x=tokens.x + self.tell(where))


def view_from(tokens: SceneTokens, views: Sequence[tuple[int, tuple[float, float, float] | None]]) -> SceneTokens:
    """Tokens of scenes for who stands somewhere in them (situation-guided re-encoding, Man et al. 2024, of places).

    Args:
        tokens: of each scene, settled.
        views: scene, and x, y and heading there; None where no place is told.
    """
    rows = torch.tensor([row for row, _ in views], device=tokens.x.device)
    x, keep, objects = tokens.x[rows], tokens.keep[rows], tokens.objects
    if objects is None:
        return SceneTokens(x, keep)
    last, places = SceneObjects(*(part[rows] for part in objects.last)), objects.places[rows]
    with without_autocast(places):
        middles = (last.lower + last.upper).detach()[..., :2] / 2
        told = places.new_tensor([[*(standing or (0.0, 0.0, 0.0)), standing is not None] for _, standing in views])
        away, heading = middles - told[:, None, :2], told[:, None, 2:3]
        ahead = (away * torch.cat([heading.cos(), heading.sin()], dim=-1)).sum(dim=-1)
        left = (away * torch.cat([-heading.sin(), heading.cos()], dim=-1)).sum(dim=-1)
        far = away.norm(dim=-1)
        near = far.clamp(min=0.1)
        bearings = torch.stack([ahead, left, ahead / near, left / near, far, torch.ones_like(far)], dim=-1)
        bearings = bearings * told[:, None, 3:]
    same = {name: getattr(objects, name)[rows] for name in ("things", "keep", "rooms", "corners")}
    return SceneTokens(x, keep, ObjectSteps(steps=(), last=last, places=places, bearings=bearings, **same))


def places_of(objects: SceneObjects, batch: PointBatch, cells: int) -> Float[Tensor, "B Q 15"]:
    """See `ObjectSteps`."""
    with without_autocast(batch.points):
        lower, upper = objects.lower.detach(), objects.upper.detach()
        centre = (lower + upper) / 2
        metres = centre - batch.middles()[:, None]
        parts, least, most = (batch.cells_at(place) / cells - 0.5 for place in (centre, lower, upper))
        return torch.cat([metres, parts, upper - lower, least, most], dim=-1)


def corners_of(places: Float[Tensor, "B Q 15"], cells: int) -> Int[Tensor, "B Q 6"]:
    """See `ObjectSteps`; of what `places_of` gave."""
    one, other = ((places.float()[..., 9:] + 0.5) * cells).floor().long().clamp(0, cells - 1).chunk(2, dim=-1)
    return torch.cat([torch.minimum(one, other), torch.maximum(one, other)], dim=-1)  # the codec's axes may be turned
