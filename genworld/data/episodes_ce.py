"""Entries of Habitat's episode files: R2R-CE and RxR-CE (Krantz et al. 2020), PointNav, and what ObjectNav shares.

Positions and rotations are in Habitat's axes there, in ours here. What a format has no place for (an instruction in
PointNav, say) is kept in `info`, which Habitat leaves free.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from genworld.data.episodes_axes import from_habitat, heading_of_rotation, rotation_of_heading, to_habitat
from genworld.data.episodes_records import (
    RADII,
    EpisodeFormat,
    EpisodeRecord,
    EpisodeSet,
    Role,
    list_of,
    number_of,
    object_of,
    position_of,
    text_of,
)
from genworld.world.navigation.episode import Episode, Goal, Position

INSTRUCTED: tuple[EpisodeFormat, ...] = ("r2r_ce", "rxr_ce")
_NUM_TOKENS = 200  # R2R-CE pads to this
_PAD, _UNKNOWN = 0, 1  # as in R2R-CE's vocabulary


def parse_habitat(item: Mapping[str, Any], format: EpisodeFormat, role: Role, goals: tuple[Goal, ...]) -> EpisodeRecord:
    """An entry of any of Habitat's formats.

    Args:
        item: the entry.
        format: of its file.
        role: that the file's name tells.
        goals: of the entry.

    Raises:
        ValueError: something in it is missing or malformed.
    """
    info, instruction = object_of(item, "info"), object_of(item, "instruction")
    rotation = list_of(item, "start_rotation")
    path = list_of(item, "reference_path") if format in INSTRUCTED else list_of(info, "reference_path")
    length = info.get("geodesic_distance")
    told = text_of(instruction, "instruction_text") if format in INSTRUCTED else str(info.get("instruction", ""))
    episode = Episode(
        id=text_of(item, "episode_id"),
        scene=text_of(item, "scene_id"),
        start_position=from_habitat(position_of(item.get("start_position"), "start_position")),
        start_heading=heading_of_rotation([number_of(value, "start_rotation") for value in rotation]),
        goals=goals,
        instruction=told,
        category=item.get("object_category") if format == "objectnav" else info.get("object_category"),
        reference_path=tuple(from_habitat(position_of(place, "reference_path")) for place in path),
        geodesic_distance=None if length is None else number_of(length, "geodesic_distance"),
    )
    language = str(instruction.get("language", ""))
    return EpisodeRecord(episode, item, episode, language=language, role=role)


def goals_of(entries: Sequence[Any], format: EpisodeFormat) -> tuple[Goal, ...]:
    """Goals of an entry: places from which an object is seen where they are listed, and else its own place.

    Raises:
        ValueError: there are none, or one is malformed.
    """
    found = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"expected a goal as an object with a position, got {entry!r:.60}")
        radius = entry.get("radius")
        metres = RADII[format] if radius is None else number_of(radius, "the radius of a goal")
        seen_from = list_of(entry, "view_points")
        states = [object_of(view, "agent_state") if isinstance(view, dict) else {} for view in seen_from]
        places = [state.get("position") for state in states] or [entry.get("position")]
        found += [Goal(from_habitat(position_of(place, "the position of a goal")), metres) for place in places]
    if not found:
        raise ValueError("it has no goal (splits for a server keep them secret), so that nothing can be measured")
    return tuple(found)


def encode_habitat(record: EpisodeRecord, format: EpisodeFormat) -> dict[str, Any]:
    """The entry of a record but for goals of objects: what did not change is as it was, byte for byte."""
    item = dict(record.raw)
    for name, write in _WRITERS.items():
        if record.changed(name):
            write(item, record, format)
    item.setdefault("info", {})
    if format == "pointnav":
        item.setdefault("shortest_paths", None)
    return item


def goal_entry(goal: Goal, format: EpisodeFormat) -> dict[str, Any]:
    """A goal as files have it."""
    silent = format in ("pointnav", "objectnav") and goal.radius == RADII[format]
    return {"position": list(to_habitat(goal.position)), "radius": None if silent else goal.radius}


def _write_id(item: dict[str, Any], record: EpisodeRecord, format: EpisodeFormat) -> None:
    name = record.episode.id
    item["episode_id"] = int(name) if format in INSTRUCTED and str(_as_int(name)) == name else name


def _write_scene(item: dict[str, Any], record: EpisodeRecord, _: EpisodeFormat) -> None:
    item["scene_id"] = record.episode.scene


def _write_start(item: dict[str, Any], record: EpisodeRecord, _: EpisodeFormat) -> None:
    item["start_position"] = list(to_habitat(record.episode.start_position))


def _write_heading(item: dict[str, Any], record: EpisodeRecord, _: EpisodeFormat) -> None:
    item["start_rotation"] = list(rotation_of_heading(record.episode.start_heading))


def _write_goals(item: dict[str, Any], record: EpisodeRecord, format: EpisodeFormat) -> None:
    item["goals"] = [] if format == "objectnav" else [goal_entry(goal, format) for goal in record.episode.goals]


def _write_instruction(item: dict[str, Any], record: EpisodeRecord, format: EpisodeFormat) -> None:
    text = record.episode.instruction
    if format not in INSTRUCTED:
        _tell(item, "instruction", text)
        return
    if not text:
        raise ValueError(
            f"episode {record.episode.id!r}: {format} wants an instruction, it has none: write as pointnav"
        )
    said = {**object_of(item, "instruction"), "instruction_text": text}
    said.pop("instruction_tokens", None)  # those of the old text
    said.pop("timed_instruction", None)
    if format == "rxr_ce":
        said.setdefault("instruction_id", record.episode.id)
        said.setdefault("language", record.language)
    item["instruction"] = said


def _write_category(item: dict[str, Any], record: EpisodeRecord, format: EpisodeFormat) -> None:
    if format == "objectnav":
        if record.episode.category is None:
            raise ValueError(f"episode {record.episode.id!r}: objectnav wants a category, it has none")
        item["object_category"] = record.episode.category
    else:
        _tell(item, "object_category", record.episode.category)


def _write_path(item: dict[str, Any], record: EpisodeRecord, format: EpisodeFormat) -> None:
    places: list[list[float]] = [list(to_habitat(place)) for place in record.episode.reference_path]
    if format in INSTRUCTED:
        item["reference_path"] = places
    else:
        _tell(item, "reference_path", places)


def _write_length(item: dict[str, Any], record: EpisodeRecord, _: EpisodeFormat) -> None:
    _tell(item, "geodesic_distance", record.episode.geodesic_distance)


def _tell(item: dict[str, Any], key: str, value: Any) -> None:
    """Set or, where there is nothing to say, remove a key of `info`."""
    info = {name: each for name, each in object_of(item, "info").items() if name != key}
    if value not in (None, "", []):
        info[key] = value
    item["info"] = info


_WRITERS: dict[str, Callable[[dict[str, Any], EpisodeRecord, EpisodeFormat], None]] = {
    "id": _write_id,
    "scene": _write_scene,
    "start_position": _write_start,
    "start_heading": _write_heading,
    "geodesic_distance": _write_length,
    "goals": _write_goals,
    "instruction": _write_instruction,
    "category": _write_category,
    "reference_path": _write_path,
}


def encode_ce(given: EpisodeSet) -> dict[str, Any]:
    """The contents of a file of R2R-CE, RxR-CE or PointNav; R2R-CE's has a vocabulary, and tokens of each text."""
    items = [encode_habitat(record, given.format) for record in given.records]
    header = dict(given.header)
    if given.format == "r2r_ce":
        words = header.setdefault("instruction_vocab", None) or vocabulary(r.episode.instruction for r in given.records)
        header["instruction_vocab"] = words
        for item in items:
            if "instruction_tokens" not in item["instruction"]:
                tokens = tokens_of(item["instruction"]["instruction_text"], words)
                item["instruction"] = {**item["instruction"], "instruction_tokens": tokens}
    return {"episodes": items, **header}


def words_of(text: str) -> list[str]:
    """Words in lower case, and signs."""
    return re.findall(r"\w+|[^\w\s]", text.lower())


def vocabulary(texts: Iterable[str]) -> dict[str, Any]:
    """R2R-CE's `instruction_vocab` of some instructions."""
    words = ["<pad>", "<unk>", *sorted({word for text in texts for word in words_of(text)})]
    index = {word: number for number, word in enumerate(words)}
    return {
        "word_list": words,
        "word2idx_dict": index,
        "itos": words,
        "stoi": index,
        "num_vocab": len(words),
        "UNK_INDEX": _UNKNOWN,
        "PAD_INDEX": _PAD,
    }


def tokens_of(text: str, vocab: Mapping[str, Any]) -> list[int]:
    """Numbers of an instruction's words, padded to 200 as R2R-CE has them; longer ones are kept whole.

    Raises:
        ValueError: the vocabulary is not like R2R-CE's.
    """
    known = vocab.get("word2idx_dict") or vocab.get("stoi")
    if not isinstance(known, dict):
        raise ValueError("expected 'instruction_vocab' with 'word2idx_dict' or 'stoi'")
    numbers = [int(known.get(word, vocab.get("UNK_INDEX", _UNKNOWN))) for word in words_of(text)]
    return numbers + [int(vocab.get("PAD_INDEX", _PAD))] * (_NUM_TOKENS - len(numbers))


def _as_int(name: str) -> int | None:
    return int(name) if name.isdecimal() else None


def mean_place(goals: Sequence[Goal]) -> Position:
    """The middle of some goals."""
    x, y, z = (sum(goal.position[axis] for goal in goals) / len(goals) for axis in range(3))
    return x, y, z
