"""Regions: kind, colour, size and material that the rooms' encoder tells of held-out things, by cell, thing and voxel.

    python -m tools.benchmarks.regions [FOLDER] [FLOORS]

prints the same by kind, and what is mistaken for what.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from genworld.data.room_views import RoomViewSource
from genworld.eval.regions import FIRST, FLOORS, RegionJudge, judge_regions
from genworld.models.images import WorldEncoder, WorldEncoderConfig

TARGET = 0.95


def judge_floors(folder: Path | None = None, floors: int = FLOORS) -> RegionJudge:
    """All of it on held-out floors."""
    source = RoomViewSource(range(FIRST, FIRST + floors), cache=Path("runs/room_views"))
    return judge_regions(WorldEncoder(WorldEncoderConfig(path=folder)), source)


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
    for name, share in judge.scores().items():
        wanted = TARGET if name in ("things/kind", "things/colour") else None
        rows.append(_row(name, share, f"of {len(judge.right[name])}", wanted))
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
