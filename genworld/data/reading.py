"""Clips that cannot be read: counted, reported once each, and replaced or left out until there are too many."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.utils.data import Dataset

from genworld.data.packing import PackOrder
from genworld.types import ClipInfo, ClipSource, Pack, Pick, Sample

logger = logging.getLogger(__name__)


class UnreadableClipError(ValueError):
    """A clip that cannot be read, but has been counted and reported: who can do without it may go on."""


@dataclass(frozen=True)
class ReadPack:
    """What reading a pack came to.

    Attributes:
        pack: the samples; None where one of them could be neither read nor replaced.
        picks: what they are: those asked for, or their replacements.
        bad: clips (index, why) that could not be read on the way.
    """

    pack: Pack | None
    picks: tuple[Pick, ...]
    bad: tuple[tuple[int, str], ...]

    def pin_memory(self) -> ReadPack:
        """A copy whose tensors are page-locked. Called by torch's loader."""
        if self.pack is None:
            return self
        return ReadPack(self.pack.map(Tensor.pin_memory), self.picks, self.bad)


@dataclass
class BadClips:
    """The clips of a source that could not be read so far.

    Attributes:
        source: where they are.
        max_fraction: the part of the source's clips that may be bad. Above 0 it allows for one at least, however few
            clips there are; 0 for none.
        found: why, by index.
    """

    source: ClipSource
    max_fraction: float = 0.0
    found: dict[int, str] = field(default_factory=dict)

    def add(self, index: int, reason: str) -> None:
        """Count a clip, and report it the first time.

        Raises:
            ValueError: there are now more than allowed.
        """
        if index not in self.found:
            self.found[index] = reason
            logger.warning("%s cannot be read %s", _title(self.source, index), reason)
        if len(self.found) > (max(self.max_fraction * len(self.source), 1) if self.max_fraction else 0):
            raise self._error()

    def accept(self, read: ReadPack) -> Pack:
        """The pack that was read; what was bad is counted.

        Raises:
            ValueError: too much was bad, or a clip had no replacement.
        """
        for index, reason in read.bad:
            self.add(index, reason)
        if read.pack is None:
            raise self._error()
        return read.pack

    def _error(self) -> ValueError:
        index, reason = next(reversed(self.found.items()))
        count = f"{len(self.found)} of {len(self.source)} clips could not be read; the last: "
        return ValueError(
            f"{count if len(self.found) > 1 else ''}{_title(self.source, index)} cannot be read {reason} "
            f"(repair or remove it; data.max_bad_fraction, now {self.max_fraction:g}, allows for bad clips)"
        )


@dataclass(frozen=True)
class PackReader(Dataset):
    """Turns the picks of a pack into a pack; where `replace`, other clips of the order stand in for bad ones.

    Lives in the loader's workers; keeps no state.
    """

    source: ClipSource
    order: PackOrder
    replace: bool

    def __getitem__(self, picks: Sequence[Pick]) -> ReadPack:
        bad: list[tuple[int, str]] = []
        read: list[tuple[Pick, Sample]] = []
        for pick in picks:
            found = self._read(pick, bad)
            if found is None:
                return ReadPack(None, (), tuple(bad))
            read.append(found)
        return ReadPack(Pack(tuple(sample for _, sample in read)), tuple(pick for pick, _ in read), tuple(bad))

    def _read(self, pick: Pick, bad: list[tuple[int, str]]) -> tuple[Pick, Sample] | None:
        """A pick, or what replaces it, with its sample; None where nothing may or can."""
        candidate: Pick | None = pick
        attempt = 0
        while candidate is not None:
            result = _try_read(self.source, candidate)
            if isinstance(result, Sample):
                return candidate, result
            bad.append((candidate.index, result))
            attempt += 1
            candidate = self.order.replacement(pick, attempt) if self.replace else None
        return None


@dataclass(frozen=True)
class CountingSource:
    """A `ClipSource` that counts its unreadable clips, for those who read clips without a loader."""

    source: ClipSource
    bad: BadClips

    def __len__(self) -> int:
        return len(self.source)

    def info(self, index: int) -> ClipInfo:
        """What is known of clip `index`."""
        return self.source.info(index)

    def read(self, pick: Pick) -> Sample:
        """Read the picked clip.

        Raises:
            UnreadableClipError: it cannot be read; may be left out.
            ValueError: that makes too many.
        """
        result = _try_read(self.source, pick)
        if isinstance(result, str):
            self.bad.add(pick.index, result)
            raise UnreadableClipError(f"{_title(self.source, pick.index)} cannot be read {result}")
        return result


def readable(source: ClipSource, picks: Iterable[Pick]) -> Iterator[Sample]:
    """The picked clips one by one, without those that raise `UnreadableClipError`."""
    for pick in picks:
        try:
            sample = source.read(pick)
        except UnreadableClipError:
            continue
        yield sample


def _try_read(source: ClipSource, pick: Pick) -> Sample | str:
    """The picked clip, or why it cannot be read."""
    try:
        return source.read(pick)
    except (ValueError, OSError) as error:  # what a broken file raises; anything else is a bug
        return f"at {pick.shape} from {pick.start:.2f} s: {error}"
    except Exception as error:
        error.add_note(f"while reading {_title(source, pick.index)} as {pick}")
        raise


def _title(source: ClipSource, index: int) -> str:
    name = source.info(index).name
    return f"clip {index} ({name})" if name else f"clip {index}"
