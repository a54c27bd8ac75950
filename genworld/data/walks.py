"""Walks as files: what an agent had seen when it asked where to go, and what was true then. Lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genworld.data.walk_prompts import Deed
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.route_facts import Clause

_DEEDS: dict[str, Deed] = {"door": "through", "pass": "past", "cross": "past", "stop": "stop"}


@dataclass(frozen=True)
class Task:
    """One clause of what is told, and where it leads.

    Attributes:
        clause: to be put into words.
        index: of the door or thing on its floor.
    """

    clause: Clause
    index: int

    @property
    def deed(self) -> Deed:
        """What is to be done."""
        return _DEEDS[self.clause.verb]


@dataclass(frozen=True)
class State:
    """An agent that asks.

    Attributes:
        views: how many of the walk's views it had taken.
        started: where it was when the clause that it was at began.
        number: of that clause.
        things: indices of the things of the floor that these views show well enough.
        doors: of the doors.
    """

    views: int
    started: Stance
    number: int
    things: tuple[int, ...]
    doors: tuple[int, ...]


@dataclass(frozen=True)
class WalkRecord:
    """One walk.

    Attributes:
        seed: of the floor.
        name: of the episode.
        taken: from where the views were taken, in order.
        tasks: what is told; empty where a thing is looked for.
        target: index of the thing at the end.
        states: some of the moments in which it asked.
        success: whether it arrived.
    """

    seed: int
    name: str
    taken: tuple[Stance, ...]
    tasks: tuple[Task, ...]
    target: int
    states: tuple[State, ...]
    success: bool


def write_walks(path: Path, walks: Iterable[WalkRecord]) -> int:
    """Write walks as they come, whole or not at all; returns how many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, count = path.with_suffix(f"{path.suffix}.part"), 0
    with draft.open("w", encoding="utf-8") as file:
        for walk in walks:
            file.write(json.dumps(asdict(walk)) + "\n")
            count += 1
    draft.replace(path)
    return count


def read_walks(paths: Sequence[Path]) -> list[WalkRecord]:
    """The walks of files.

    Raises:
        ValueError: a file is not there, a line is no walk, or there is none at all.
    """
    found: list[WalkRecord] = []
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is no file of walks: write it with tools/record_walks.py --out {path}")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                found.append(_walk(json.loads(line)))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected a walk of tools/record_walks.py, got {error}"
                ) from None
    if not found:
        raise ValueError(f"there is not one walk in {', '.join(map(str, paths)) or 'no files'}")
    return found


def _walk(fields: dict[str, Any]) -> WalkRecord:
    return WalkRecord(
        fields["seed"],
        fields["name"],
        tuple(Stance(*one) for one in fields["taken"]),
        tuple(Task(Clause(**one["clause"]), one["index"]) for one in fields["tasks"]),
        fields["target"],
        tuple(
            State(one["views"], Stance(*one["started"]), one["number"], tuple(one["things"]), tuple(one["doors"]))
            for one in fields["states"]
        ),
        fields["success"],
    )
