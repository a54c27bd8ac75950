"""The lists of clips that people keep, as they stand: records of named cells, and where each was found."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genworld.data.readers import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".gif", ".ts", ".mpg", ".mpeg", ".flv", ".wmv"}
)
MEDIA_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv", ".json", ".parquet")
PROMPT_LISTS = ("prompts.txt", "prompt.txt", "captions.txt", "caption.txt")
VIDEO_LISTS = ("videos.txt", "video.txt")
MAX_FIELD = 1 << 27  # characters: Panda-70M keeps all captions of a film in one CSV field


def find_table(folder: Path) -> Path:
    """The list a folder holds of its own clips, or the folder itself when it has none."""
    for name in (*(f"metadata{suffix}" for suffix in TABLE_SUFFIXES), *VIDEO_LISTS):
        if (folder / name).is_file():
            logger.info("%s: using %s", folder, name)
            return folder / name
    return folder


def read_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each record of a list stands, for messages, and its cells.

    Args:
        path: a table, one of two paired lists, or a folder of clips.

    Raises:
        ValueError: it is none of these, or cannot be read; names the row.
    """
    if path.is_dir():
        return _folder_records(path)
    if path.name.lower() in PROMPT_LISTS + VIDEO_LISTS:
        return _paired_records(path)
    return _table_records(path)


def _folder_records(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    paths = [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]
    clips = [path for path in paths if path.suffix.lower() in MEDIA_SUFFIXES]
    known = {*clips, *(path.with_suffix(".txt") for path in clips)}
    others = Counter(path.suffix.lower() or "no suffix" for path in paths if path not in known and not path.is_dir())
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
        logger.warning(
            "%s: %d files are neither clips nor their captions: %s; clips are %s",
            *(folder, others.total(), counts, ", ".join(sorted(MEDIA_SUFFIXES))),
        )
    for path in clips:
        text = path.with_suffix(".txt")
        yield str(path), {"path": str(path.relative_to(folder)), "text": _read_text(text) if text.is_file() else ""}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None


def _paired_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    def find(names: tuple[str, ...]) -> Path:
        for name in names:
            if (path.parent / name).is_file():
                return path.parent / name
        raise ValueError(f"{path}: its partner is missing: expected one of {list(names)} in {path.parent}")

    videos = path if path.name.lower() in VIDEO_LISTS else find(VIDEO_LISTS)
    prompts = path if path.name.lower() in PROMPT_LISTS else find(PROMPT_LISTS)
    paths, texts = (_read_text(each).rstrip().split("\n") for each in (videos, prompts))
    if len(paths) != len(texts):
        raise ValueError(
            f"{videos} has {len(paths)} lines but {prompts.name} has {len(texts)}: line n describes line n"
        )
    for number, (clip, text) in enumerate(zip(paths, texts, strict=True), 1):
        if clip.strip() or text.strip():
            yield f"{videos}, line {number}", {"path": clip.strip(), "text": text.strip()}


def _table_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ValueError(
            f"{path}: unknown kind of manifest: expected a folder, {', '.join(TABLE_SUFFIXES)} or videos.txt"
        )
    if suffix in (".csv", ".tsv"):
        yield from _csv_records(path, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".parquet":
        yield from _parquet_records(path)
    else:
        yield from _json_records(path)


def _csv_records(path: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    before = csv.field_size_limit(MAX_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, None)
            if header is None:
                return  # not a line: an empty manifest, which the caller says
            if not header:
                raise ValueError(f"{path}: its first line must name the columns")
            for cells in filter(None, reader):
                where = f"{path}, row {reader.line_num}"
                if len(cells) != len(header):
                    raise ValueError(
                        f"{where}: {len(cells)} cells but {len(header)} columns {header}: "
                        "put quotes around a caption that contains a comma"
                    )
                yield where, dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not a readable table ({error}): save it again as CSV") from None
    finally:
        csv.field_size_limit(before)


def _parquet_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: not a readable Parquet file ({error}): write it again") from None


def _json_records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    lines = _read_text(path).split("\n") if path.suffix.lower() == ".jsonl" else None
    numbered = [(f"line {n}", line) for n, line in enumerate(lines, 1) if line.strip()] if lines is not None else []
    if lines is None:
        items = _parse_json(path.as_posix(), _read_text(path))
        if not isinstance(items, list):
            raise ValueError(f"{path}: expected a list of objects, got {type(items).__name__}")
        parsed = [(f"{path}, item {n}", item) for n, item in enumerate(items, 1)]
    else:
        parsed = [(f"{path}, {where}", _parse_json(f"{path}, {where}", line)) for where, line in numbered]
    for where, item in parsed:
        if not isinstance(item, dict):
            raise ValueError(f'{where}: expected an object such as {{"path": ..., "text": ...}}, got {item!r:.80}')
        yield where, item


def _parse_json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where}: not valid JSON: {error}") from None
