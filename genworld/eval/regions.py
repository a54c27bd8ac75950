"""What an encoder of regions tells of things: kind, colour, size and material, by cell, thing and voxel."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genworld.data.room_views import BUILDING, Look, RoomViewSource, cell_labels
from genworld.models.images import EncodedViews, WorldEncoder
from genworld.models.points import DirectLifter
from genworld.world.rooms import sample_floor
from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES

FIRST = 500_400
"""Seed of the first floor to judge on: beyond all floors of configs/align/rooms.yaml."""
FLOORS = 16
GROUPS = ("cells of the building", "cells", "things", "voxels")
"""Cells that mostly show one thing, of the building and of things; the mean over all cells of each thing; the mean over
the voxels in each thing's box."""
NAMES: dict[str, tuple[str, ...]] = {
    "kind": (*(look.kind for look in BUILDING), *KINDS),
    "colour": COLOURS,
    "size": SIZES,
    "material": MATERIALS,
}
"""What can be told, and the words for it."""

_MOSTLY, _MORE = 0.75, 0.5  # of a cell


@dataclass
class RegionJudge:
    """Compares features with phrases, and counts.

    Attributes:
        encoder: of pictures and phrases.
        right: by group and part, whether each judgement was right.
        mistaken: how often what was taken for what.
    """

    encoder: WorldEncoder
    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    mistaken: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        encode = self.encoder.network.encode_texts
        self.phrases = {"kind": encode(NAMES["kind"])}
        self.phrases |= {"colour": encode([f"{name} thing" for name in COLOURS])}
        # Sizes and materials mean something of a kind only: the mean over kinds of the phrases with each.
        for part in ("size", "material"):
            means = [encode([f"{name} {kind}" for kind in KINDS]).mean(dim=0) for name in NAMES[part]]
            self.phrases[part] = F.normalize(torch.stack(means), dim=-1)

    def judge(
        self, group: str, features: Float[Tensor, "n D"], look: Look, parts: Sequence[str] = tuple(NAMES)
    ) -> None:
        """Count what is right of some features of one thing."""
        for part in parts:
            truth = NAMES[part].index(getattr(look, part))
            found = (features @ self.phrases[part].T).argmax(dim=-1)
            self.right[f"{group}/{part}"] += (found == truth).tolist()
            if part == "kind":
                self.right[f"{group}/kind/{look.kind}"] += (found == truth).tolist()
                self.mistaken.update((group, look.kind, NAMES[part][i]) for i in found.tolist() if i != truth)

    def share(self, name: str) -> float:
        """How much is right."""
        return sum(self.right[name]) / max(len(self.right[name]), 1)

    def scores(self) -> dict[str, float]:
        """All shares by GROUP/PART, of what there was any."""
        names = (f"{group}/{part}" for group in GROUPS for part in NAMES)
        return {name: self.share(name) for name in names if name in self.right}


def judge_regions(encoder: WorldEncoder, source: RoomViewSource) -> RegionJudge:
    """Judge an encoder on floors that it has not seen, by cells, things and voxels."""
    judge = RegionJudge(encoder)
    for index in range(len(source)):
        _judge_views(judge, source, index)
        _judge_voxels(judge, source, index)
    return judge


def _judge_views(judge: RegionJudge, source: RoomViewSource, index: int) -> None:
    views = source.all_views(index)
    grids = judge.encoder.many(torch.stack([view.pixels for view in views]))
    sums: dict[int, Tensor] = {}
    for view, grid in zip(views, grids, strict=True):
        labels, share = cell_labels(view.labels, *grid.shape[:2])
        for label in labels.unique().tolist():
            look, mostly = view.looks[label], (labels == label) & (share >= _MOSTLY)
            if label < len(BUILDING):
                judge.judge("cells of the building", grid[mostly], look, ("kind",))
                continue
            judge.judge("cells", grid[mostly], look)
            most = grid[(labels == label) & (share >= _MORE)]
            if len(most):
                sums[label] = sums.get(label, 0) + most.sum(dim=0)
    for label, total in sums.items():
        judge.judge("things", total[None], views[0].looks[label])


def _judge_voxels(judge: RegionJudge, source: RoomViewSource, index: int) -> None:
    floor = sample_floor(source.seeds[index], source.config)
    cloud = DirectLifter().lift(floor.scene(source.size), EncodedViews(judge.encoder))
    for box, thing in zip(floor.boxes, floor.things, strict=True):
        inside = ((cloud.points >= box.lower) & (cloud.points <= box.upper)).all(dim=-1)
        look = Look(thing.kind, thing.colour, thing.size, thing.material)
        if inside.any():
            judge.judge("voxels", cloud.features[inside].mean(dim=0, keepdim=True), look)
        else:
            judge.right["voxels/unseen"].append(True)
