"""R2R (Anderson et al. 2018) and RxR (Ku et al. 2020): paths over the panoramas of Matterport3D."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from genworld.data.episodes_axes import from_matterport
from genworld.data.episodes_records import (
    RADII,
    EpisodeFormat,
    EpisodeRecord,
    EpisodeSet,
    Parse,
    Role,
    is_finite,
    list_of,
    number_of,
    text_of,
)
from genworld.data.scene_files import read_json
from genworld.world.navigation.episode import Episode, Goal, Position

_FIXED = ("scene", "start_position", "goals", "category", "reference_path", "geodesic_distance")
_POSE = 16  # numbers of a pose, row by row


@dataclass(frozen=True)
class Viewpoints:
    """Where the panoramas of Matterport3D were taken.

    Attributes:
        folder: with `SCAN_connectivity.json` of each scan, as Matterport3DSimulator has them.
    """

    folder: Path

    def __call__(self, scan: str) -> dict[str, Position]:
        """Places on the floor below the panoramas of a scan, metres, z up.

        Raises:
            ValueError: the scan's file is missing, or malformed.
        """
        return _places(self.folder / f"{scan}_connectivity.json")


@cache
def _places(path: Path) -> dict[str, Position]:
    items = read_json(path)
    places: dict[str, Position] = {}
    for item in items if isinstance(items, list) else [None]:
        item = item if isinstance(item, dict) else {}
        name, pose, height = (item.get(key) for key in ("image_id", "pose", "height"))
        if not isinstance(pose, list) or len(pose) != _POSE or not all(map(is_finite, (*pose, height))):
            raise ValueError(f"{path}: expected a list of objects with image_id, pose (16 numbers) and height")
        places[str(name)] = (pose[3], pose[7], pose[11] - height)
    return places


def path_parser(format: EpisodeFormat, viewpoints: Viewpoints | None, role: Role) -> Parse:
    """Reads entries of R2R (three instructions to a path, so three episodes) or RxR (one).

    Raises:
        ValueError: without viewpoints, of which paths are lists, there are no positions.
    """
    if viewpoints is None:
        raise ValueError(
            f"paths of {format} are viewpoints: give connectivity=FOLDER with SCAN_connectivity.json of each scan"
        )

    def parse(item: Mapping[str, Any]) -> list[EpisodeRecord]:
        told = list_of(item, "instructions") if format == "r2r" else [item.get("instruction")]
        if not told or not all(isinstance(text, str) and text for text in told):
            raise ValueError("expected instructions as texts")
        names = [text_of(item, "path_id") + f"_{part}" for part in range(len(told))]
        if format == "rxr":
            names = [text_of(item, "instruction_id")]
        language = str(item.get("language", ""))
        episodes = [_episode(item, format, viewpoints, *each) for each in zip(names, told, strict=True)]
        return [EpisodeRecord(each, item, each, part, language, role) for part, each in enumerate(episodes)]

    return parse


def _episode(
    item: Mapping[str, Any], format: EpisodeFormat, viewpoints: Viewpoints, name: str, instruction: str
) -> Episode:
    scan, names = text_of(item, "scan"), list_of(item, "path")
    places = viewpoints(scan)
    unknown = [each for each in names if each not in places]
    if unknown:
        raise ValueError(f"viewpoint {unknown[0]!r} is not in the connectivity of {scan}")
    if len(names) < 2:
        raise ValueError(
            "its path has only a start (test splits keep the rest secret), so that nothing can be measured"
        )
    path = tuple(places[each] for each in names)
    length = item.get("distance")
    return Episode(
        id=name,
        scene=scan,
        start_position=path[0],
        start_heading=from_matterport(number_of(item.get("heading"), "heading")),
        goals=(Goal(path[-1], RADII[format]),),
        instruction=instruction,
        reference_path=path,
        geodesic_distance=None if length is None else number_of(length, "distance"),
    )


def encode_r2r(given: EpisodeSet) -> list[dict[str, Any]]:
    """The entries of an R2R file: instructions of one path together again.

    Raises:
        ValueError: some instructions of a path are missing, which would give the others new names, or a path changed.
    """
    items = []
    for _, some in groupby(given.records, key=lambda record: record.episode.id.rpartition("_")[0]):
        records = sorted(some, key=lambda record: record.part)
        item = _checked(records[0], "r2r")
        if [record.part for record in records] != list(range(len(item["instructions"]))):
            raise ValueError(
                f"episode {records[0].episode.id!r}: R2R keeps the instructions of a path together: write all of them"
            )
        heading = {record.episode.start_heading for record in map(_unmoved, records)}
        if len(heading) > 1:
            raise ValueError(
                f"episode {records[0].episode.id!r}: expected one heading for a path, got {sorted(heading)}"
            )
        item["instructions"] = [record.episode.instruction for record in records]
        items.append(item)
    return items


def encode_rxr(given: EpisodeSet) -> list[dict[str, Any]]:
    """The lines of an RxR file.

    Raises:
        ValueError: a path changed.
    """
    items = []
    for record in map(_unmoved, given.records):
        item = _checked(record, "rxr")
        if record.changed("instruction"):
            item["instruction"] = record.episode.instruction
            item.pop("timed_instruction", None)
        if record.changed("id"):
            item["instruction_id"] = record.episode.id
        items.append(item)
    return items


def _checked(record: EpisodeRecord, format: str) -> dict[str, Any]:
    item = dict(_unmoved(record).raw)
    if record.changed("start_heading"):
        item["heading"] = from_matterport(record.episode.start_heading)
    if format == "r2r" and record.changed("id"):
        raise ValueError(f"episode {record.episode.id!r}: names in R2R follow from path_id and cannot be changed")
    return item


def _unmoved(record: EpisodeRecord) -> EpisodeRecord:
    moved = [name for name in _FIXED if record.changed(name)]
    if moved:
        raise ValueError(
            f"episode {record.episode.id!r}: its {', '.join(moved)} cannot be told by viewpoints: write it as r2r_ce"
        )
    return record
