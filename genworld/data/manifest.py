"""Lists of clips, as people keep them: one function reads them all into rows.

Formats: a folder of clips with a .txt beside each; CSV, TSV, Parquet, JSON and JSON Lines; a folder that holds a
metadata.* file; paired lists such as prompts.txt and videos.txt. Columns are found by any of the names in `COLUMNS`,
which cover Open-Sora, the Hugging Face folder layouts, WebVid, OpenVid-1M, Panda-70M and Koala-36M.
"""

from __future__ import annotations

import ast
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from genworld.data.records import MEDIA_SUFFIXES, find_table, read_records

logger = logging.getLogger(__name__)

# Names a column goes by, most specific first. `name` is WebVid's caption, `frame` OpenVid's frame count.
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_name", "video_path", "video", "videos", "file", "filename", "image", "image_path"),
        *("video_name", "clip_path", "videoid", "video_id"),
    ),
    "text": ("text", "caption", "captions", "prompt", "description", "name"),
    "num_frames": ("num_frames", "frame", "frames", "frame_count"),
    "height": ("height",),
    "width": ("width",),
    "fps": ("fps", "frame_rate"),
    "start": ("start", "start_time", "start_sec", "clip_start"),
    "end": ("end", "end_time", "end_sec", "clip_end"),
    "timestamp": ("timestamp", "timestamps"),
    "folder": ("page_dir",),
    "sha256": ("sha256",),
}


@dataclass(frozen=True)
class ManifestRow:
    """One clip of a manifest. Facts that the manifest does not give are None until they are probed.

    Attributes:
        where: manifest and row, for messages.
        path: absolute, inside the data root.
        name: the path as seen from the root, with the times of a clip within a file.
        text: the caption; empty when there is none.
        num_frames: of the clip.
        height: in pixels.
        width: in pixels.
        fps: frames per second.
        start: seconds into the file where the clip begins.
        end: seconds into the file where it ends; None: where the file does.
        sha256: of the file, when the manifest gives it.
    """

    where: str
    path: Path
    name: str
    text: str = ""
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    start: float = 0.0
    end: float | None = None
    sha256: str | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing needs probing."""
        return None not in (self.num_frames, self.height, self.width, self.fps)

    @property
    def facts(self) -> tuple[int, int, int, float]:
        """Frames, height, width and frame rate of a complete row."""
        num_frames, height, width, fps = self.num_frames, self.height, self.width, self.fps
        assert num_frames, f"{self.where} was not probed"
        assert height, f"{self.where} was not probed"
        assert width, f"{self.where} was not probed"
        assert fps, f"{self.where} was not probed"
        return num_frames, height, width, fps


def read_manifest(path: str | Path, root: str | Path | None = None) -> list[ManifestRow]:
    """Read a manifest of any supported format. Opens no clip and does not ask whether the files exist.

    Args:
        path: a folder, a table, or one of two paired lists.
        root: folder that paths are relative to and may not leave; by default the manifest's own.

    Raises:
        ValueError: no such manifest, nothing in it, a cell that cannot be read, or a path that leaves the root
            (directly or through a link); names row and column.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"{path}: no such manifest: give a folder of clips, or a .csv, .parquet, .jsonl or videos.txt file"
        )
    path = find_table(path) if path.is_dir() else path
    confine = _Confinement(Path(root) if root is not None else path if path.is_dir() else path.parent)
    rows = [row for where, record in read_records(path) for row in _rows(where, record, confine)]
    if not rows:
        kinds = ", ".join(sorted(MEDIA_SUFFIXES)) if path.is_dir() else "at least one row below its header"
        raise ValueError(f"{path}: the manifest is empty: expected {kinds}")
    if silent := sum(not row.text for row in rows):
        logger.warning("%s: %d of %d clips have no caption", path, silent, len(rows))
    return rows


def _rows(where: str, record: Mapping[str, Any], confine: _Confinement) -> Iterator[ManifestRow]:
    """The clips of one record: one, or as many as its list of timestamps has."""
    cells = _Cells(where, record)
    spans = cells.spans()
    texts = cells.texts(len(spans))
    for index, ((start, end), text) in enumerate(zip(spans, texts, strict=True)):
        path, cut = confine.resolve(cells, index)
        start, end = (0.0, None) if cut else (start, end)
        name = confine.name(path)
        row = ManifestRow(
            where,
            path,
            name,
            text,
            num_frames=cells.count("num_frames"),
            height=cells.count("height"),
            width=cells.count("width"),
            fps=cells.number("fps"),
            sha256=cells.text("sha256") or None,
        )
        if start or end is not None:
            if end is not None and end <= start:
                raise ValueError(f"{where}: the clip ends at {end:g} s, before it starts at {start:g} s")
            row = replace(
                row, start=start, end=end, num_frames=None, name=f"{name}@{start:g}-{'' if end is None else f'{end:g}'}"
            )
            if row.fps and end is not None:
                row = replace(row, num_frames=max(round((end - start) * row.fps), 1))
        elif len(spans) > 1:
            row = replace(row, num_frames=None)
        yield row


class _Cells:
    """One record under the canonical column names; empty, NaN and null cells count as absent."""

    def __init__(self, where: str, record: Mapping[str, Any]) -> None:
        self.where = where
        given = {str(key).strip().lower(): key for key in record}
        self.columns = {name: next((a for a in aliases if a in given), None) for name, aliases in COLUMNS.items()}
        self.values = {name: record[given[alias]] for name, alias in self.columns.items() if alias is not None}
        if self.columns["path"] is None:
            raise ValueError(
                f"{where}: no column names the clip: expected one of {list(COLUMNS['path'])}, got {list(record)}"
            )

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        text = " ".join(value.split()) if isinstance(value, str) else str(value)
        return "" if text.lower() in ("nan", "none", "null", "<na>") else text

    def number(self, name: str) -> float | None:
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(Fraction(text)) if "/" in text else float(text)
        except (ValueError, ZeroDivisionError):
            raise self.error(name, "a number") from None
        if value < 0 or not math.isfinite(value):
            raise self.error(name, "a positive number")
        return value or None  # tools write 0 for what they could not measure

    def count(self, name: str) -> int | None:
        value = self.number(name)
        if value is not None and value != int(value):
            raise self.error(name, "a whole number")
        return None if value is None else int(value)

    def seconds(self, name: str, value: Any) -> float:
        try:
            parts = [float(part) for part in str(value).strip().split(":")]
        except ValueError:
            parts = [-1.0]
        if not 1 <= len(parts) <= 3 or not all(part >= 0 and math.isfinite(part) for part in parts):
            raise self.error(name, "seconds or hours:minutes:seconds")
        return sum(part * 60**power for power, part in enumerate(reversed(parts)))

    def spans(self) -> list[tuple[float, float | None]]:
        """Start and end of each clip in the file: Panda-70M has a list of pairs, Koala-36M one pair."""
        if not self.text("timestamp"):
            start, end = self.text("start"), self.text("end")
            return [(self.seconds("start", start) if start else 0.0, self.seconds("end", end) if end else None)]
        pairs = self.listed("timestamp")
        pairs = [pairs] if pairs and not isinstance(pairs[0], list | tuple) else pairs
        if not pairs or any(not isinstance(pair, list | tuple) or len(pair) != 2 for pair in pairs):
            raise self.error("timestamp", "a [start, end] pair or a list of them")
        return [(self.seconds("timestamp", start), self.seconds("timestamp", end)) for start, end in pairs]

    def texts(self, count: int) -> list[str]:
        if count == 1 and not self.text("text").startswith("["):
            return [self.text("text")]
        texts = self.listed("text") if self.text("text").startswith("[") else []
        if count == 1 and len(texts) != 1:  # a caption that merely begins with a bracket
            return [self.text("text")]
        if len(texts) != count:
            raise self.error("text", f"a list of {count} captions, one per timestamp")
        return [" ".join(str(text).split()) for text in texts]

    def listed(self, name: str) -> list[Any]:
        value = self.values[name]
        try:
            value = ast.literal_eval(value) if isinstance(value, str) else value
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return []
        return list(value) if isinstance(value, list | tuple) else []

    def error(self, name: str, expected: str) -> ValueError:
        shown = repr(self.values.get(name))
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return ValueError(f"{self.where}, column {self.columns[name]!r}: expected {expected}, got {shown}")


class _Confinement:
    """Finds files under the data root, and nowhere else."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ValueError(f"{root}: the data root is no folder")
        self._root = Path(os.path.realpath(root))
        self._folders: dict[str, str] = {}  # resolving a folder costs a system call per part; rows share folders

    def name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def resolve(self, cells: _Cells, index: int) -> tuple[Path, bool]:
        """The file of clip `index` of a record, and whether it is already cut to that clip.

        Sets keyed by video name their files after it; the cut ones carry `_index` before the suffix.
        """
        if not cells.text("path"):
            raise cells.error("path", "a path")
        text = str(cells.values["path"]).strip("\r\n")  # white space inside is part of a file's name
        if "://" in text or "\0" in text:
            raise cells.error("path", "the path of a local file (download the clips first)")
        base = os.path.join(str(self._root), text)
        if Path(text).suffix.lower() in MEDIA_SUFFIXES:
            return self._confine(cells, base), False
        folders = [cells.text("folder"), os.path.join("videos", cells.text("folder")), ""]
        for folder in dict.fromkeys(folders):
            for stem, cut in ((f"{text}_{index}", bool(cells.text("timestamp"))), (text, False)):
                if stem != text and not cut:
                    continue
                for suffix in (".mp4", ".mkv", ".webm"):
                    candidate = self._confine(cells, os.path.join(str(self._root), folder, stem + suffix))
                    if candidate.is_file():
                        return candidate, cut
        is_id = (cells.columns["path"] or "").replace("_", "") == "videoid"
        return self._confine(cells, base + ".mp4" if is_id else base), False

    def _confine(self, cells: _Cells, path: str) -> Path:
        folder, name = os.path.split(os.path.normpath(path))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        real = os.path.realpath(real) if os.path.islink(real) else real
        if not Path(real).is_relative_to(self._root):
            raise ValueError(
                f"{cells.where}, column {cells.columns['path']!r}: {cells.text('path')!r} leads to {real}, "
                f"outside the data root {self._root}: set the root to a folder that holds every clip"
            )
        return Path(real)
