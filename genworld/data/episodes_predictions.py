"""Walks as the servers of the R2R-CE and RxR-Habitat challenges take them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genworld.data.episodes_axes import from_habitat, to_habitat
from genworld.data.episodes_records import list_of, number_of, position_of, text_of
from genworld.data.scene_files import read_json
from genworld.world.navigation.baselines import Run
from genworld.world.navigation.episode import Position

_QUARTER = math.pi / 2  # Habitat's heading is 0 along its -z, which is our +y


class AgentState(NamedTuple):
    """Where an agent was after a step.

    Attributes:
        position: metres, scene axes.
        heading: radians, 0 along +x, growing towards +y.
        stop: whether it had said STOP.
    """

    position: Position
    heading: float
    stop: bool


def states_of(run: Run) -> list[AgentState]:
    """A walk as predictions have it: the start, and where the agent was after each action; STOP is said by the last.

    Files name walks as the challenge does: for R2R-CE `run.episode`; for RxR the instruction's id, which stands in
    `record.raw["instruction"]["instruction_id"]` of an episode that was read from RxR-CE.
    """
    last = len(run.positions) - 1
    return [
        AgentState((x, y, z), heading, run.stopped and number == last)
        for number, ((x, y, z), heading) in enumerate(zip(run.positions.tolist(), run.headings.tolist(), strict=True))
    ]


def write_r2r_predictions(path: Path | str, walks: Mapping[str, Sequence[AgentState]]) -> None:
    """JSON: for each id of an episode its states; headings in Habitat's sense, 0 along -z and growing to the left."""
    contents = {name: [_encode(state) for state in walk] for name, walk in walks.items()}
    Path(path).write_text(json.dumps(contents, indent=1), encoding="utf-8")


def read_r2r_predictions(path: Path | str) -> dict[str, list[AgentState]]:
    """What `write_r2r_predictions` wrote.

    Raises:
        ValueError: it is something else; names the file and, where it is JSON, the episode.
    """
    contents = read_json(Path(path))
    if not isinstance(contents, dict):
        raise ValueError(f"{path}: expected an object of walks by id of their episode, got {contents!r:.60}")
    found = {}
    for name in contents:
        try:
            found[name] = [_decode(each) for each in list_of(contents, name)]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}, episode {name}: expected position, heading and stop of each step: {error!r}"
            ) from None
    return found


def write_rxr_predictions(path: Path | str, walks: Mapping[str, Sequence[AgentState]]) -> None:
    """JSON lines of `instruction_id` and `path`; positions that repeat the one before (turns) are left out."""
    lines = []
    for name, walk in walks.items():
        places: list[list[float]] = []
        for state in walk:
            place = list(to_habitat(state.position))
            if not places or places[-1] != place:
                places.append(place)
        lines.append(json.dumps({"instruction_id": name, "path": places}))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_rxr_predictions(path: Path | str) -> dict[str, list[Position]]:
    """What `write_rxr_predictions` wrote: for each id of an instruction the places on the way, metres, scene axes.

    The format keeps neither headings nor STOP: they do not come back.

    Raises:
        ValueError: it is something else, or an instruction comes twice; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    found: dict[str, list[Position]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            name = text_of(item, "instruction_id")
            if name in found:
                raise ValueError(f"instruction {name} comes a second time")
            found[name] = [from_habitat(position_of(place, "a place of the path")) for place in list_of(item, "path")]
        except (AttributeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: expected an object of instruction_id and path: {error}") from None
    return found


def _decode(state: dict[str, Any]) -> AgentState:
    if not isinstance(state["stop"], bool):
        raise ValueError(f"expected stop as true or false, got {state['stop']!r:.60}")
    position = from_habitat(position_of(state["position"], "position"))
    return AgentState(position, number_of(state["heading"], "heading") + _QUARTER, state["stop"])


def _encode(state: AgentState) -> dict[str, Any]:
    heading = math.remainder(state.heading - _QUARTER, 2 * math.pi)
    return {"position": list(to_habitat(state.position)), "heading": heading, "stop": state.stop}
