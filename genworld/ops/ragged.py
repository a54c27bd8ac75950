"""Ragged batches: tensors of different lengths laid end to end, or padded, and the lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from jaxtyping import Bool, Int, Int32, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """The lengths of sequences laid end to end along a first dimension.

    Raises:
        ValueError: there is no segment, or one is empty.
    """

    lengths: tuple[int, ...]
    _on_device: dict[tuple[str, torch.device], Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"a packed batch needs segments of at least one token each, got lengths {self.lengths}")

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def total(self) -> int:
        """Tokens in all segments together."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return max(self.lengths)

    @property
    def equal(self) -> bool:
        """Whether all segments have the same length, so that the pack is also a plain batch."""
        return len(set(self.lengths)) == 1

    def offsets(self, device: torch.device | str = "cpu") -> Int32[Tensor, " n+1"]:
        """Where each segment starts, and the total at the end (`cu_seqlens` of attention kernels)."""
        return self._cached("offsets", device, lambda: torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32))

    def ids(self, device: torch.device | str = "cpu") -> Int[Tensor, " L"]:
        """For each token, the index of its segment."""
        return self._cached(
            "ids", device, lambda: torch.arange(len(self)).repeat_interleave(torch.tensor(self.lengths))
        )

    def _cached(self, name: str, device: torch.device | str, make: Callable[[], Tensor]) -> Tensor:
        key = (name, torch.device(device))
        if key not in self._on_device:
            self._on_device[key] = make().to(device, non_blocking=True)
        return self._on_device[key]


def pack(sequences: Sequence[Shaped[Tensor, "l_i ..."]]) -> tuple[Shaped[Tensor, "L ..."], Segments]:
    """Lay sequences end to end.

    Raises:
        ValueError: the list or one of the sequences is empty.
    """
    segments = Segments(tuple(len(sequence) for sequence in sequences))
    return torch.cat(list(sequences)), segments


def unpack(x: Shaped[Tensor, "L ..."], segments: Segments) -> list[Shaped[Tensor, "l_i ..."]]:
    """The sequences of a pack, as views into it.

    Raises:
        ValueError: `x` does not have as many rows as the segments say.
    """
    if len(x) != segments.total:
        raise ValueError(f"segments hold {segments.total} tokens, but the pack has {len(x)} rows")
    return list(x.split(list(segments.lengths)))


def padded(
    rows: Sequence[Sequence[int]], device: torch.device, *, left: bool, filling: int = 0
) -> tuple[Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
    """Rows of numbers as a rectangle, and which of it are theirs."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), filling)
    keep = torch.zeros(len(rows), length, dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(length - len(row), None) if left else slice(0, len(row))
        ids[number, place], keep[number, place] = torch.tensor(row, dtype=torch.long), True
    return ids.to(device), keep.to(device)
