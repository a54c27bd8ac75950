"""Files of JSON lines that grow a line at a time and outlive a crash."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def append_line(path: Path, data: Any) -> None:
    """Add a line of JSON in one write, on disk before this returns."""
    with path.open("ab", buffering=0) as file:
        file.write((json.dumps(data) + "\n").encode())
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON lines; none where there is no file.

    Raises:
        ValueError: a line is not JSON.
    """
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
    return found


def mend_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, without a last one that a crash cut off, which is removed."""
    if path.is_file():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            logger.warning("%s: the last line was cut off; its job is asked for again", path)
            write_whole(path, whole.decode())
    return read_lines(path)


def to_lines(items: Iterable[Any]) -> str:
    """Items as lines of JSON."""
    return "".join(json.dumps(item) + "\n" for item in items)


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
