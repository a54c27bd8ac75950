"""Filling the gaps of a manifest: facts measured from the files, in parallel, and remembered beside it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from genworld.data.manifest import ManifestRow
from genworld.data.media import MediaError, MediaInfo, MediaLimits
from genworld.data.readers import open_reader

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

MEASUREMENT = (
    1  # raise it when `MediaInfo` comes to be measured differently: what was remembered is then measured again
)


@dataclass(frozen=True)
class Rejected:
    """A row of a manifest that cannot be used, and why."""

    row: ManifestRow
    reason: str


def complete(
    rows: Sequence[ManifestRow], manifest: Path, limits: MediaLimits | None = None, verify: bool = False
) -> tuple[list[ManifestRow], list[Rejected]]:
    """Give every row its facts, or the reason why it has none.

    A row with a fact missing has all of them measured: the file is right where it and the manifest disagree. What was
    measured is kept beside the manifest (or in the user's cache folder, where that is read-only) under the file's path,
    size and time of change.

    Args:
        rows: of `read_manifest`.
        manifest: what they were read from.
        limits: on each file.
        verify: compare files with the manifest's `sha256` column; reads every byte.

    Returns:
        Usable rows, in order, with every fact; and the others.
    """
    limits = limits or MediaLimits()
    stats = {row.path: _stat(row.path) for row in rows}
    reasons = {
        path: f"{path}: no such file: correct its path or the data root" for path, stat in stats.items() if not stat
    }
    if verify:
        reasons |= _verify([row for row in rows if row.path not in reasons])
    facts: dict[Path, MediaInfo] = {}
    wanted = dict.fromkeys(row.path for row in rows if not row.complete and row.path not in reasons)
    if wanted:
        cache = _Cache(manifest)
        facts = {path: info for path in wanted if (info := cache.get(path, stats[path])) is not None}
        found = _parallel(
            lambda path: _probe(path, limits), [path for path in wanted if path not in facts], "probing clips"
        )
        measured = {path: result for path, result in found.items() if isinstance(result, MediaInfo)}
        reasons |= {path: result for path, result in found.items() if isinstance(result, str)}
        cache.add({path: (stats[path], info) for path, info in measured.items()})
        facts |= measured
    usable: list[ManifestRow] = []
    rejected: list[Rejected] = []
    for row in rows:
        if row.path in reasons:
            rejected.append(Rejected(row, reasons[row.path]))
            continue
        try:
            usable.append(row if row.complete else _fill(row, facts[row.path], limits))
        except MediaError as error:
            rejected.append(Rejected(row, str(error)))
    return usable, rejected


def _fill(row: ManifestRow, info: MediaInfo, limits: MediaLimits) -> ManifestRow:
    # Limits again, because what is remembered was measured under the limits of that time.
    limits.check(row.path, pixels=info.height * info.width, frames=info.num_frames, seconds=info.seconds)
    num_frames = info.num_frames
    if row.start or row.end is not None:
        info.check_time(row.path, row.end if row.end is not None else row.start)
        end = min(row.end, info.seconds) if row.end is not None else info.seconds
        num_frames = int((end - row.start) * info.fps + 0.5)
        if num_frames < 1:
            raise MediaError(
                f"{row.path}: no frame between {row.start:g} and {end:g} s: correct the times in the manifest"
            )
    return replace(row, num_frames=num_frames, height=info.height, width=info.width, fps=info.fps)


def _stat(path: Path) -> os.stat_result | None:
    return path.stat() if path.is_file() else None


def _probe(path: Path, limits: MediaLimits) -> MediaInfo | str:
    try:
        with open_reader(path, limits=limits) as reader:
            return reader.info
    except (MediaError, OSError) as error:
        return str(error)


def _verify(rows: Iterable[ManifestRow]) -> dict[Path, str]:
    expected = {row.path: row.sha256.lower() for row in rows if row.sha256}
    found = _parallel(_sha256, list(expected), "verifying clips")
    return {
        path: f"{path}: its sha256 is {digest}, but the manifest says {expected[path]}: fetch it again"
        for path, digest in found.items()
        if digest != expected[path]
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parallel(work: Callable[[Path], Result], paths: Sequence[Path], label: str) -> dict[Path, Result]:
    """Threads, not processes: demuxing, decoding and hashing all release the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(work, paths), total=len(paths), desc=label, unit="file", disable=None if paths else True)
        return dict(zip(paths, bar, strict=True))


def _signature(stat: os.stat_result) -> list[int]:
    return [MEASUREMENT, stat.st_size, stat.st_mtime_ns]


class _Cache:
    """One JSON file: for each path its size, time of change and facts. A file that changed is measured again."""

    def __init__(self, manifest: Path) -> None:
        manifest = manifest.resolve()
        beside = manifest / ".facts.json" if manifest.is_dir() else manifest.with_name(f".{manifest.name}.facts.json")
        key = hashlib.sha256(str(manifest).encode()).hexdigest()[:16]
        self._places = [beside, Path.home() / ".cache" / "genworld" / f"{manifest.stem}-{key}.facts.json"]
        self._entries: dict[str, dict] = {}
        for place in reversed(self._places):  # what lies beside the manifest wins
            self._entries |= self._load(place)

    @staticmethod
    def _load(place: Path) -> dict[str, dict]:
        try:
            entries = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or unreadable: measuring again is always right
            return {}
        return entries if isinstance(entries, dict) else {}

    def get(self, path: Path, stat: os.stat_result | None) -> MediaInfo | None:
        entry = self._entries.get(str(path))
        if entry is None or stat is None or entry.get("file") != _signature(stat):
            return None
        try:
            return MediaInfo(**entry["facts"])
        except (KeyError, TypeError):  # written by another version
            return None

    def add(self, facts: dict[Path, tuple[os.stat_result | None, MediaInfo]]) -> None:
        if not facts:
            return
        for path, (stat, info) in facts.items():
            assert stat is not None
            self._entries[str(path)] = {"file": _signature(stat), "facts": asdict(info)}
        errors = []
        for place in self._places:
            part = place.with_name(f"{place.name}.{os.getpid()}.part")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                part.write_text(json.dumps(self._entries, indent=0), encoding="utf-8")
                part.replace(place)
            except OSError as error:
                errors.append(f"{place}: {error.strerror}")
                continue
            if errors:
                logger.info("%s; clip facts are kept in %s", errors[0], place)
            return
        logger.warning("clip facts cannot be kept, so they will be measured every time (%s)", "; ".join(errors))
