"""Regions: kind, colour, size and material that the rooms' encoder tells of held-out things, by cell, thing and voxel.

    python -m tools.benchmarks.regions [FOLDER] [FLOORS]

prints the same by kind, and what is mistaken for what.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from genworld.data.room_views import BUILDING, Look, RoomViewSource, cell_labels
from genworld.models.images import EncodedViews, WorldEncoder, WorldEncoderConfig
from genworld.models.points import DirectLifter
from genworld.world.rooms import sample_floor
from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES

FIRST = 500_400  # beyond all floors of configs/align/rooms.yaml
FLOORS = 16
MOSTLY = 0.75  # of a cell
TARGET = 0.95
NAMES: dict[str, tuple[str, ...]] = {
    "kind": (*(look.kind for look in BUILDING), *KINDS),
    "colour": COLOURS,
    "size": SIZES,
    "material": MATERIALS,
}


@dataclass
class Judge:
    """Compares features with phrases, and counts."""

    encoder: WorldEncoder
    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    mistaken: Counter = field(default_factory=Counter)

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


def judge_views(judge: Judge, source: RoomViewSource, index: int) -> None:
    """Cells of a floor's views that mostly show one thing, and the mean over all cells of each thing."""
    views = source.all_views(index)
    grids = judge.encoder.many(torch.stack([view.pixels for view in views]))
    sums: dict[int, Tensor] = {}
    for view, grid in zip(views, grids, strict=True):
        labels, share = cell_labels(view.labels, *grid.shape[:2])
        for label in labels.unique().tolist():
            look, mostly = view.looks[label], (labels == label) & (share >= MOSTLY)
            if label < len(BUILDING):
                judge.judge("cells of the building", grid[mostly], look, ("kind",))
                continue
            judge.judge("cells", grid[mostly], look)
            most = grid[(labels == label) & (share >= 0.5)]
            if len(most):
                sums[label] = sums.get(label, 0) + most.sum(dim=0)
    for label, total in sums.items():
        judge.judge("things", total[None], views[0].looks[label])


def judge_voxels(judge: Judge, source: RoomViewSource, index: int) -> None:
    """The mean over the voxels inside each thing's box, features lifted from all views."""
    floor = sample_floor(source.seeds[index], source.config)
    cloud = DirectLifter().lift(floor.scene(source.size), EncodedViews(judge.encoder))
    for box, thing in zip(floor.boxes, floor.things, strict=True):
        inside = ((cloud.points >= box.lower) & (cloud.points <= box.upper)).all(dim=-1)
        look = Look(thing.kind, thing.colour, thing.size, thing.material)
        if inside.any():
            judge.judge("voxels", cloud.features[inside].mean(dim=0, keepdim=True), look)
        else:
            judge.right["voxels/unseen"].append(True)


def judge_floors(folder: Path | None = None, floors: int = FLOORS) -> Judge:
    """All of it on held-out floors."""
    judge = Judge(WorldEncoder(WorldEncoderConfig(path=folder)))
    source = RoomViewSource(range(FIRST, FIRST + floors), cache=Path("runs/room_views"))
    for index in range(floors):
        judge_views(judge, source, index)
        judge_voxels(judge, source, index)
    return judge


def speed(dtype: Any) -> float:
    """Views of 128 x 128 pixels per second of CPU time, one by one, on one thread."""
    threads, encoder = torch.get_num_threads(), WorldEncoder(WorldEncoderConfig(dtype=dtype))
    torch.set_num_threads(1)
    pixels = torch.rand(3, 128, 128) * 2 - 1
    encoder(pixels)
    start = time.process_time()
    for _ in range(50):
        encoder(pixels)
    torch.set_num_threads(threads)
    return 50 / (time.process_time() - start)


def run() -> list[dict[str, Any]]:
    """The rows of `tools/bench.py`."""
    judge, rows = judge_floors(), []
    for group in ("cells of the building", "cells", "things", "voxels"):
        for part in NAMES:
            if (name := f"{group}/{part}") in judge.right:
                wanted = TARGET if group == "things" and part in ("kind", "colour") else None
                rows.append(_row(name, judge.share(name), f"of {len(judge.right[name])}", wanted))
    rows += [_row(f"views of 128x128, {dtype}", speed(dtype), "per cpu-second", 100.0) for dtype in _DTYPES]
    return rows


_DTYPES = ("bfloat16", "float32")


def _row(name: str, ours: float, unit: str, wanted: float | None) -> dict[str, Any]:
    target, holds = ("-", True) if wanted is None else (f">= {wanted:g}", ours >= wanted)
    return {
        "name": name, "ours": ours, "reference": None, "ratio": None, "unit": unit, "target": target, "holds": holds,
    }  # fmt: skip


def main() -> None:
    """Print everything."""
    judge = judge_floors(*(f(x) for f, x in zip((Path, int), sys.argv[1:], strict=False)))
    for name in judge.right:
        print(f"{name:<40} {judge.share(name):.3f} of {len(judge.right[name])}")
    for (group, truth, found), count in judge.mistaken.most_common():
        if group == "things":
            print(f"{truth} taken for {found}: {count}")


if __name__ == "__main__":
    main()
