"""The same scene seen anew, for what must not depend on how its axes lie: turned, mirrored, with fewer points."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from genworld.types import PointSet, SceneBox, Turn

_LEAST = 0.7
"""Part of the points that stays at least."""


def seen_anew(turn: Turn, chance: torch.Generator) -> Turn:
    """A turn about the same scene, turned about z by some quarters, mirrored or not, with up to 30 % fewer points.

    Boxes go along; what is asked and answered does not, so it is of use only where nothing is asked.

    Args:
        turn: whose scene is changed.
        chance: on the CPU; decides.
    """
    swap, *flips = (torch.rand(3, generator=chance) < 0.5).tolist()
    order, signs = [1, 0, 2] if swap else [0, 1, 2], torch.tensor([-1.0 if flip else 1.0 for flip in flips] + [1.0])

    def moved(places: Tensor) -> Tensor:
        return places[..., order] * signs.to(places)

    def box(one: SceneBox) -> SceneBox:
        corners = moved(torch.stack([one.lower, one.upper]))
        return replace(one, lower=corners.amin(dim=0), upper=corners.amax(dim=0), turned=None)

    count = len(turn.points)
    stay = _LEAST + (1 - _LEAST) * torch.rand(1, generator=chance)
    kept = torch.randperm(count, generator=chance)[: max(1, int(stay * count))].sort().values
    scene = turn.points.map(lambda x: x[kept.to(x.device)])
    cells = scene.voxels[..., order]
    cells = torch.where(signs.to(cells) < 0, cells.amin(dim=0) + cells.amax(dim=0) - cells, cells)
    scene = PointSet(scene.features, moved(scene.points), scene.colours, cells)
    return replace(turn, points=scene, things=tuple(map(box, turn.things)))
