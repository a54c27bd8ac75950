"""Episodes of navigation as the field's files hold them: read unchanged, written back the same.

Those of R2R, RxR, R2R-CE, RxR-CE, ObjectNav and PointNav become `genworld.world.navigation.episode.Episode`, in our
axes; what that has no place for stays beside it, so that writing gives back what was read.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from genworld.data.episodes_axes import from_habitat, to_habitat
from genworld.data.episodes_ce import encode_ce, goals_of, parse_habitat
from genworld.data.episodes_object import encode_objectnav, object_parser
from genworld.data.episodes_r2r import Viewpoints, encode_r2r, encode_rxr, path_parser
from genworld.data.episodes_records import (
    EpisodeFormat,
    EpisodeRecord,
    EpisodeSet,
    Parse,
    Role,
    list_of,
    new_set,
    position_of,
)
from genworld.data.scene_files import listing
from genworld.types import Skipped

logger = logging.getLogger(__name__)

FORMATS: tuple[EpisodeFormat, ...] = get_args(EpisodeFormat)
_MAGIC = b"\x1f\x8b"  # how a gzip file begins


def read_episodes(
    path: Path | str,
    format: EpisodeFormat | None = None,
    *,
    connectivity: Path | None = None,
    skip_bad: bool = False,
) -> EpisodeSet:
    """The episodes of a file, compressed or not.

    Args:
        path: the file. For ObjectNav and PointNav with a folder `content` see `read_split`.
        format: None: seen from the contents.
        connectivity: for R2R and RxR: folder with `SCAN_connectivity.json` of each scan.
        skip_bad: leave out malformed entries, counted with their reasons, instead of raising.

    Raises:
        ValueError: the file is of no such format, or an entry is malformed (names it).
    """
    path = Path(path)
    contents = _contents(path)
    format = format or _format_of(path, contents)
    items, header = _split(path, contents)
    try:
        parse = _parser(format, header, None if connectivity is None else Viewpoints(connectivity), _role(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    records, skipped = _parse_all(path, items, parse, skip_bad)
    if skipped:
        logger.warning("%s: %d of %d episodes left out:%s", path, len(skipped), len(items), listing(skipped))
    if not records and (skipped or format not in ("objectnav", "pointnav")):
        raise ValueError(f"{path}: not one of {len(items)} episodes can be used:{listing(skipped)}")
    return EpisodeSet(format, tuple(records), header, tuple(skipped))


def write_episodes(path: Path | str, given: EpisodeSet) -> None:
    """Write a file of the set's format; compressed when its name ends in .gz.

    Entries that were read and not changed are written as they were read.

    Raises:
        ValueError: the format cannot hold an episode.
    """
    path = Path(path)
    try:
        if given.format == "rxr":
            text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in encode_rxr(given))
        else:
            encode = {"r2r": encode_r2r, "objectnav": encode_objectnav}.get(given.format, encode_ce)
            text = json.dumps(encode(given), ensure_ascii=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    _write(path, text)


def read_split(path: Path | str, *, skip_bad: bool = False) -> dict[str, EpisodeSet]:
    """All files of a split of ObjectNav or PointNav: its own, whose episodes are often none, and those in `content`.

    Args:
        path: `SPLIT.json.gz`, beside which the folder `content` may stand.
        skip_bad: see `read_episodes`.

    Returns:
        Sets by file, relative to the split's folder.

    Raises:
        ValueError: a file is malformed, or there is not one episode.
    """
    path = Path(path)
    files = [path, *sorted((path.parent / "content").glob("*.json.gz"))]
    header = _split(path, _contents(path))[1]
    guess: EpisodeFormat = "objectnav" if any(name.startswith("category_to") for name in header) else "pointnav"
    sets: dict[str, EpisodeSet] = {}
    for file in files:
        contents = _contents(file)
        format = guess if not _split(file, contents)[0] else _format_of(file, contents)
        sets[str(file.relative_to(path.parent))] = read_episodes(file, format, skip_bad=skip_bad)
    if not any(each.records for each in sets.values()):
        raise ValueError(f"{path}: neither it nor any of {len(files) - 1} files in content holds an episode")
    return sets


def write_split(folder: Path | str, sets: Mapping[str, EpisodeSet]) -> None:
    """Write what `read_split` gave under another folder."""
    for name, given in sets.items():
        write_episodes(Path(folder) / name, given)


@dataclass(frozen=True, eq=False)
class ExpertPath:
    """What the expert did in an episode of VLN-CE, step by step: what nDTW compares with.

    Attributes:
        locations: scene axes, metres.
        actions: 0 STOP, 1 FORWARD, 2 LEFT, 3 RIGHT.
        forward_steps: how many of them go forward.
    """

    locations: Float[np.ndarray, "M 3"]
    actions: tuple[int, ...] = ()
    forward_steps: int = 0


def read_expert_paths(path: Path | str) -> dict[str, ExpertPath]:
    """VLN-CE's `SPLIT_gt.json.gz`, by id of episode.

    Raises:
        ValueError: it is no such file; names the episode.
    """
    path = Path(path)
    contents = _contents(path)
    if not isinstance(contents, dict) or "episodes" in contents:
        raise ValueError(f'{path}: expected an object such as {{"1": {{"locations": [[x, y, z]], "actions": [1, 0]}}}}')
    found = {}
    for name, item in contents.items():
        try:
            if not isinstance(item, dict) or not item.get("locations"):
                raise ValueError(f"expected 'locations', got {item!r:.60}")
            places = [from_habitat(position_of(place, "a location")) for place in list_of(item, "locations")]
            actions = tuple(int(action) for action in list_of(item, "actions"))
            steps = int(item.get("forward_steps", actions.count(1)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, episode {name}: {error}") from None
        found[name] = ExpertPath(np.array(places, dtype=np.float64), actions, steps)
    return found


def write_expert_paths(path: Path | str, paths: Mapping[str, ExpertPath]) -> None:
    """The inverse of `read_expert_paths`."""
    contents = {
        name: {
            "locations": [list(to_habitat(place)) for place in each.locations.tolist()],
            "forward_steps": each.forward_steps,
            "actions": list(each.actions),
        }
        for name, each in paths.items()
    }
    _write(Path(path), json.dumps(contents))


def _parser(format: EpisodeFormat, header: Mapping[str, Any], viewpoints: Viewpoints | None, role: Role) -> Parse:
    if format in ("r2r", "rxr"):
        return path_parser(format, viewpoints, role)
    if format == "objectnav":
        return object_parser(header, role)
    return lambda item: [parse_habitat(item, format, role, goals_of(list_of(item, "goals"), format))]


def _parse_all(path: Path, items: list[Any], parse: Parse, skip_bad: bool) -> tuple[list[EpisodeRecord], list[Skipped]]:
    records: list[EpisodeRecord] = []
    skipped: list[Skipped] = []
    before: set[str] = set()
    for number, item in enumerate(items):
        where = _where(path, number, item)
        try:
            if not isinstance(item, dict):
                raise ValueError(f"expected an object, got {item!r:.60}")
            found = parse(item)
            names = [record.episode.id for record in found]
            if before & set(names):
                raise ValueError("its id occurs before")
        except ValueError as error:
            if not skip_bad:
                raise ValueError(f"{where}: {error}") from None
            skipped.append(Skipped(where, str(error)))
        else:
            before.update(names)
            records += found
    return records, skipped


def _where(path: Path, number: int, item: Any) -> str:
    keys = ("episode_id", "instruction_id", "path_id")
    named = next((item[key] for key in keys if key in item), None) if isinstance(item, dict) else None
    return f"{path}, item {number}" if named is None else f"{path}, episode {named}"


def _role(path: Path) -> Role:
    found = re.search(r"(?:^|_)(guide|follower)(?:_|\.)", path.name)
    return "" if found is None else found[1]  # type: ignore[return-value]


def _format_of(path: Path, contents: Any) -> EpisodeFormat:
    items, header = _split(path, contents)
    first = next((item for item in items if isinstance(item, dict)), {})
    if "instructions" in first:
        return "r2r"
    if "timed_instruction" in first or ("scan" in first and "instruction" in first):
        return "rxr"
    if "object_category" in first or "goals_by_category" in header:
        return "objectnav"
    instruction = first.get("instruction")
    if isinstance(instruction, dict):
        return "rxr_ce" if "language" in instruction else "r2r_ce"
    if "goals" in first:
        return "pointnav"
    raise ValueError(f"{path}: cannot see which kind of episodes these are: say format=, one of {list(FORMATS)}")


def _split(path: Path, contents: Any) -> tuple[list[Any], dict[str, Any]]:
    """Entries, and the rest."""
    if isinstance(contents, list):
        return contents, {}
    if isinstance(contents, dict) and isinstance(contents.get("episodes"), list):
        return contents["episodes"], {key: value for key, value in contents.items() if key != "episodes"}
    raise ValueError(f"{path}: expected a list of episodes, or an object with 'episodes', got {contents!r:.60}")


def _contents(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = (gzip.decompress(data) if data.startswith(_MAGIC) else data).decode("utf-8")
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        return json.loads(text)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: a broken gzip file ({error}): fetch it again") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from None


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)


__all__ = [
    "FORMATS",
    "EpisodeFormat",
    "EpisodeRecord",
    "EpisodeSet",
    "ExpertPath",
    "new_set",
    "read_episodes",
    "read_expert_paths",
    "read_split",
    "write_episodes",
    "write_expert_paths",
    "write_split",
]
