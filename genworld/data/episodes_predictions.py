"""Walks as the servers of the R2R-CE and RxR-Habitat challenges take them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genworld.data.episodes_axes import from_habitat, to_habitat
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


def write_r2r_predictions(path: Path | str, walks: Mapping[str, Sequence[AgentState]]) -> None:
    """JSON: for each id of an episode its states; headings in Habitat's sense, 0 along -z and growing to the left."""
    contents = {name: [_encode(state) for state in walk] for name, walk in walks.items()}
    Path(path).write_text(json.dumps(contents, indent=1), encoding="utf-8")


def read_r2r_predictions(path: Path | str) -> dict[str, list[AgentState]]:
    """What `write_r2r_predictions` wrote.

    Raises:
        ValueError: it is something else; names the episode.
    """
    contents = json.loads(Path(path).read_text(encoding="utf-8"))
    found = {}
    for name, states in contents.items():
        try:
            found[name] = [
                AgentState(from_habitat(each["position"]), each["heading"] + _QUARTER, bool(each["stop"]))
                for each in states
            ]
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


def _encode(state: AgentState) -> dict[str, Any]:
    heading = math.remainder(state.heading - _QUARTER, 2 * math.pi)
    return {"position": list(to_habitat(state.position)), "heading": heading, "stop": state.stop}
