"""What readers and writers of episodes share: an episode beside what its file has, and checks of its parts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from genworld.types import Skipped
from genworld.world.navigation.episode import Episode, Position

EpisodeFormat = Literal["r2r", "rxr", "r2r_ce", "rxr_ce", "objectnav", "pointnav"]
Role = Literal["guide", "follower", ""]
"""In RxR: who described the path, and who walked it from that description."""

RADII: dict[EpisodeFormat, float] = {
    "r2r": 3.0,
    "rxr": 3.0,
    "r2r_ce": 3.0,
    "rxr_ce": 3.0,
    "objectnav": 0.1,
    "pointnav": 0.2,
}
"""Metres within which one has arrived, where the file does not say: of VLN, of HM3D's challenge (from a place where the
object is seen), and of Habitat's PointNav."""


@dataclass(frozen=True)
class EpisodeRecord:
    """An episode, and what its file says besides.

    Attributes:
        episode: change it with `dataclasses.replace`; what differs from `original` is written anew.
        raw: the entry as the file has it; empty for a new episode.
        original: the episode that was read from `raw`.
        part: which of the entry's instructions (R2R has three to a path).
        language: such as "en-IN"; "" where the file does not say.
        role: of who wrote the instruction.
    """

    episode: Episode
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    original: Episode | None = field(default=None, repr=False)
    part: int = 0
    language: str = ""
    role: Role = ""

    def changed(self, name: str) -> bool:
        """Whether an attribute of the episode differs from what `raw` says."""
        return self.original is None or getattr(self.original, name) != getattr(self.episode, name)


@dataclass(frozen=True)
class EpisodeSet:
    """The episodes of a file.

    Attributes:
        format: of the file.
        records: in its order.
        header: what it holds beside the episodes.
        skipped: entries that could not be used, with reasons.
    """

    format: EpisodeFormat
    records: tuple[EpisodeRecord, ...]
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    skipped: tuple[Skipped, ...] = ()

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """Without what the file says besides."""
        return tuple(record.episode for record in self.records)

    def reasons(self) -> Counter[str]:
        """How many entries were left out for each reason."""
        return Counter(item.reason for item in self.skipped)

    def chosen(self, languages: Collection[str] | None = None, roles: Collection[Role] | None = None) -> EpisodeSet:
        """Only the episodes in some languages ("en" stands for "en-US" and "en-IN" too), or of some roles."""

        def wanted(record: EpisodeRecord) -> bool:
            spoken = {record.language, record.language.split("-")[0]}
            return (languages is None or bool(spoken & set(languages))) and (roles is None or record.role in roles)

        return replace(self, records=tuple(filter(wanted, self.records)))

    def converted(self, format: EpisodeFormat) -> EpisodeSet:
        """The episodes for a file of another format; what only the old format knows is left behind."""
        return EpisodeSet(
            format, tuple(EpisodeRecord(r.episode, language=r.language, role=r.role) for r in self.records)
        )


def new_set(format: EpisodeFormat, episodes: Sequence[Episode], language: str = "", role: Role = "") -> EpisodeSet:
    """Episodes that come from no file."""
    return EpisodeSet(format, tuple(EpisodeRecord(each, language=language, role=role) for each in episodes))


Parse = Callable[[Mapping[str, Any]], list[EpisodeRecord]]


def position_of(value: Any, what: str) -> Position:
    """Three numbers, metres.

    Raises:
        ValueError: it is something else. So for all readers of parts here.
    """
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(map(is_finite, value)):
        raise ValueError(f"expected {what} as [x, y, z] in metres, got {value!r:.60}")
    return value[0], value[1], value[2]


def number_of(value: Any, what: str) -> float:
    """One finite number."""
    if not is_finite(value):
        raise ValueError(f"expected {what} as a number, got {value!r:.60}")
    return float(value)


def text_of(item: Mapping[str, Any], key: str) -> str:
    """A text that is not empty; numbers are taken as texts."""
    value = item.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected {key!r} as a text, got {value!r:.60}")
    return value


def list_of(item: Mapping[str, Any], key: str) -> list[Any]:
    """A list; empty when it is missing or null."""
    value = item.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"expected {key!r} as a list, got {value!r:.60}")
    return value


def object_of(item: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object; empty when it is missing or null."""
    value = item.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"expected {key!r} as an object, got {value!r:.60}")
    return value


def is_finite(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
