"""What the training loop speaks of: where packs come from, where a run is, how it ended."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor

from genworld.train.checkpoint import has_checkpoint
from genworld.types import Pack

OWN_UNITS = "#units"
"""Ends the name of how many units a sum of that name is over, where that is not all of them."""


class Loader(Protocol):
    """Where packs come from: an endless order that can be entered anywhere."""

    def steps(self, start_step: int) -> Iterator[Sequence[Pack[Any]]]:
        """This rank's packs of optimiser step `start_step`, of the next one, and so on."""
        ...


@dataclass
class TrainState:
    """The few numbers that say where a run is."""

    seed: int
    step: int = 0
    elapsed: float = 0.0
    skipped: int = 0
    skipped_in_row: int = 0


@dataclass(frozen=True)
class TrainResult:
    """How `Trainer.fit` ended: `stopped` by a signal after saving, or `finished`."""

    status: Literal["finished", "stopped"]
    step: int
    seconds: float
    skipped: int
    loss: float
    checkpoint: Path
    signal: int | None = None

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal's number as shells have it: 143 for SIGTERM, 130 for SIGINT, 138 for SIGUSR1."""
        return 0 if self.status == "finished" else 128 + (self.signal or signal.SIGTERM)


class DivergedError(ValueError):
    """Too many steps in a row had no finite loss and gradient."""


def check_run(run: Path, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume one that is not there. Cheap: for before anything is built.

    Raises:
        ValueError: see above.
    """
    if has_checkpoint(run) and not resume:
        raise ValueError(f"{run} already holds checkpoints: continue it with --resume, or name another with run=...")
    if resume and not has_checkpoint(run):
        raise ValueError(f"{run} holds no checkpoint to resume: start it without --resume")


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> list[str]:
    """The keys in which two configs (as plain data) differ, as `train.max_seconds: 2400 -> 6600`."""
    changes = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changes += changed_keys(before, after, f"{path}{key}.")
        elif before != after:
            changes.append(f"{path}{key}: {before} -> {after}")
    return changes


@dataclass(frozen=True)
class Step:
    """What one optimiser step computed: the loss per unit over all ranks, gradient norms, this rank's named sums."""

    loss: float
    norms: dict[str, float]
    sums: dict[str, Tensor]
    units: float
    learning_rate: float

    @property
    def is_finite(self) -> bool:
        """Whether the optimiser may see this step."""
        return all(map(math.isfinite, (self.loss, *self.norms.values())))


def mean_by_name(sums: Sequence[Mapping[str, float]], units: float) -> dict[str, float]:
    """Add up by name over ranks, which need not all know the same names, and divide; of no units, there is no mean.

    Args:
        sums: of each rank; with `name#units` beside `name` for those that have units of their own.
        units: of all others.
    """
    names = sorted({name for part in sums for name in part})
    totals = {name: sum(part.get(name, 0.0) for part in sums) for name in names}
    counts = {name: totals.get(name + OWN_UNITS, units) for name in names if not name.endswith(OWN_UNITS)}
    return {name: totals[name] / count for name, count in counts.items() if count}
