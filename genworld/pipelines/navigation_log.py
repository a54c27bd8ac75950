"""Walks that have been walked, in files: an examination that was cut goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genworld.eval.navigation import Walk
from genworld.pipelines.lines import to_lines, write_whole

Walked = tuple[tuple[str, Walk], ...]
"""Walks with the ids of their episodes."""


@dataclass(frozen=True)
class WalkLog:
    """A folder with the walks of each agent on each floor.

    Attributes:
        folder: where; None keeps nothing.
        told: what was asked of all: walks that something else was asked of are not taken.
    """

    folder: Path | None
    told: dict[str, Any]

    def walks(self, agent: str, version: str, floor: str, walk: Callable[[], Sequence[tuple[str, Walk]]]) -> Walked:
        """Those that are there, of this version of the agent; or else those of `walk`, which are kept.

        A file that is damaged, or of another examination or version, is written anew.
        """
        if self.folder is None:
            return tuple(walk())
        path = self.folder / agent / f"{floor}.json"
        told = {**self.told, "version": version}
        known = _read(path, told)
        if known is None:
            known = tuple(walk())
            _write(path, told, known)
        return known


def _read(path: Path, told: dict[str, Any]) -> Walked | None:
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["told"] != told:
            return None
        return tuple(
            (one["episode"], Walk(np.array(one["positions"]), one["stopped"], one["collisions"]))
            for one in record["walks"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, told: dict[str, Any], walks: Walked) -> None:
    rows = [
        {
            "episode": episode,
            "stopped": bool(walk.stopped),
            "collisions": int(walk.collisions),
            "positions": np.asarray(walk.positions, dtype=float).tolist(),
        }
        for episode, walk in walks
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, to_lines([{"told": told, "walks": rows}]))
