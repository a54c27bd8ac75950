"""What an evaluation gathers while videos pass: measures, hashes, skips, times, and a few pictures; no other pixels."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import UInt8
from torch import Tensor

from genworld.data.synthetic import from_bytes, to_bytes
from genworld.pipelines.entries import MADE, REAL, Batch, Entry, Measure
from genworld.train.runtime import World

T = TypeVar("T")
SHOWN = 8
"""Videos in the contact sheet."""
GIVEN = "given"
"""Its column of videos that were not made from captions, but read from files."""


def gather(value: T) -> list[T]:
    """The `value` of every process, on every process."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


@dataclass(frozen=True)
class Seen:
    """One video that was counted."""

    position: int
    name: str
    text: str
    digest: str


@dataclass(frozen=True)
class Shown:
    """One video of the contact sheet, in 8 bits by column."""

    position: int
    text: str
    columns: Mapping[str, UInt8[Tensor, "3 F H W"]]


@dataclass
class Tally:
    """What has passed so far, in this process.

    Attributes:
        world: which process this is.
        measures: fed with every batch.
        seen: what was counted, of made (or reconstructed) and of real videos.
        shown: the first few.
        skipped: clips that could not be used, by name, with the reason.
        seconds: by part.
    """

    world: World
    measures: Sequence[Measure]
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    shown: list[Shown] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def clock(self, part: str) -> Iterator[None]:
        """Count the time of a `with` block."""
        begun = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - begun

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of a list."""
        return items[self.world.rank :: self.world.size]

    def add(self, batch: Batch, names: Sequence[str], side: str) -> None:
        """Feed the measures and keep what is to be kept.

        Args:
            batch: of videos.
            names: of the videos.
            side: of `seen`: "real" or "made", whichever was read from files.
        """
        with self.clock("metrics"):
            for measure in self.measures:
                measure.update(batch)
        read = batch.made if side == MADE else batch.real
        assert read is not None
        for i, (position, name, text) in enumerate(zip(batch.positions, names, batch.texts, strict=True)):
            digest = hashlib.sha256(to_bytes(read[i]).cpu().numpy().tobytes()).hexdigest()
            self.seen.setdefault(side, []).append(Seen(position, name, text, digest))
            if position < SHOWN:
                made = GIVEN if side == MADE else MADE
                videos = {REAL: batch.real, "reconstructed": batch.again, made: batch.made}
                columns = {key: to_bytes(value[i]).cpu() for key, value in videos.items() if value is not None}
                self.shown.append(Shown(position, text, columns))

    def results(self) -> tuple[dict[str, Entry], dict[str, dict[str, list[Any]]]]:
        """All numbers, and the values of each video. Every process has to call it, and gets the same."""
        entries: dict[str, Entry] = {}
        tables: dict[str, dict[str, list[Any]]] = {}
        with self.clock("results"):
            for measure in self.measures:
                entries |= measure.entries()
                tables |= {name: _plain(table) for name, table in measure.tables().items() if table}
        return entries, tables

    def everyone(self) -> Tally:
        """What all processes have seen together."""
        parts = gather((self.seen, self.shown, self.skipped, self.seconds))
        seen: dict[str, list[Seen]] = {}
        for each, _, _, _ in parts:
            for side, rows in each.items():
                seen.setdefault(side, []).extend(rows)
        for rows in seen.values():
            rows.sort(key=lambda row: row.position)
        shown = sorted((row for _, rows, _, _ in parts for row in rows), key=lambda row: row.position)
        skipped = {name: reason for _, _, each, _ in parts for name, reason in sorted(each.items())}
        names = {name for *_, each in parts for name in each}
        seconds = {name: max(each.get(name, 0.0) for *_, each in parts) for name in sorted(names)}
        return Tally(self.world, self.measures, seen, shown, skipped, seconds)


def clips_record(seen: Sequence[Seen]) -> dict[str, Any]:
    """Which videos these are: their number, and hashes of their prompts and their pixels, in order."""
    return {
        "num": len(seen),
        "prompts_sha256": _digest([row.text for row in seen]),
        "pixels_sha256": _digest([row.digest for row in seen]),
        "positions": [row.position for row in seen],
        "texts": [row.text for row in seen],
        "names": [row.name for row in seen],
    }


def as_stored(pixels: Tensor) -> Tensor:
    """Pixels as an 8-bit file holds them."""
    return from_bytes(to_bytes(pixels))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _plain(table: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """As JSON takes it: positions are whole numbers, and what a video lacks is null."""

    def number(name: str, value: float) -> float | int | None:
        if math.isnan(value):
            return None
        return int(value) if name == "position" else value

    return {name: [number(name, value) for value in column.tolist()] for name, column in table.items()}


def need_videos(num: int, what: str, skipped: Mapping[str, str]) -> None:
    """Refuse to go on with nothing.

    Raises:
        ValueError: there is no video left; says why the first was skipped.
    """
    if num == 0:
        first = next(iter(skipped.items()), None)
        raise ValueError(f"not one of {what} can be used" + (f"; {first[0]}: {first[1]}" if first else ""))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision of training."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
