"""What benchmarks share: fresh processes, their memory, and lines of the table. Imports nothing heavy."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def in_fresh_process(function: Callable[..., tuple[float, float]], *args: Any) -> tuple[float, float]:
    """Call a function where nothing was allocated before."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def peak_memory() -> float:
    """The most memory that this process has had so far, in MiB. Linux only."""
    # getrusage would count the memory of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def row(name: str, ours: float, reference: float, unit: str, most: float) -> dict[str, Any]:
    """A line of the table that holds when ours is at most `most` times the reference."""
    ratio = ours / reference
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "unit": unit,
        "target": f"<= {most:.2f}",
        "holds": ratio <= most,
    }
