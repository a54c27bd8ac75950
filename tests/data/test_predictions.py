"""Walks for the servers of the R2R-CE and RxR-Habitat challenges: made of what agents did, written, and read again."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from genworld.data.episodes_predictions import (
    AgentState,
    read_r2r_predictions,
    read_rxr_predictions,
    states_of,
    write_r2r_predictions,
    write_rxr_predictions,
)
from genworld.world.navigation.baselines import ForwardPolicy, OraclePolicy, Run, run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.mapping import map_of_footprints
from genworld.world.navigation.place import Place, point_goal
from genworld.world.rooms.plan import Rectangle


def walked(oracle: bool = True) -> Run:
    """A walk in an empty box: to its goal, or cut while it goes straight on."""
    place = Place("box", map_of_footprints([], Rectangle(0.0, 0.0, 6.0, 5.0)))
    config = NavigationConfig(images=False, max_steps=500 if oracle else 5)
    env = NavigationEnv([point_goal(place, 3)], lambda _: place, config)
    return run(env, OraclePolicy(env) if oracle else ForwardPolicy())


def test_a_walk_becomes_states_that_come_back_from_r2r(tmp_path: Path) -> None:
    done = walked()
    states = states_of(done)
    assert len(states) == len(done.positions) > 10
    assert len({round(state.heading, 3) for state in states}) > 2  # it turned
    steps = [pair for pair in pairwise(states) if pair[0].position != pair[1].position]
    assert done.collisions == 0
    assert len(steps) > 5
    for one, other in steps:  # each leads to where the agent looks
        (x, y, _), (u, v, _) = one.position, other.position
        assert math.cos(math.atan2(v - y, u - x) - other.heading) == pytest.approx(1.0, abs=1e-6)
    assert [state.stop for state in states] == [False] * (len(states) - 1) + [True]
    write_r2r_predictions(tmp_path / "r2r.json", {done.episode: states})
    (name, read), *rest = read_r2r_predictions(tmp_path / "r2r.json").items()
    assert (name, rest) == (done.episode, [])
    assert [(each.position, each.stop) for each in read] == [(each.position, each.stop) for each in states]
    for one, other in zip(read, states, strict=True):
        assert math.remainder(one.heading - other.heading, 2 * math.pi) == pytest.approx(0, abs=1e-9)


def test_a_walk_that_was_cut_never_stops() -> None:
    assert not any(state.stop for state in states_of(walked(oracle=False)))


def test_paths_come_back_from_rxr(tmp_path: Path) -> None:
    states = states_of(walked())
    write_rxr_predictions(tmp_path / "rxr.jsonl", {"17": states, "18": states[:1]})
    found = read_rxr_predictions(tmp_path / "rxr.jsonl")
    assert list(found) == ["17", "18"]
    moved = [one for before, one in zip([None, *states], states, strict=False) if not _same(before, one)]
    assert found["17"] == [state.position for state in moved]
    assert np.shape(found["18"]) == (1, 3)


def _same(before: AgentState | None, state: AgentState) -> bool:
    return before is not None and before.position == state.position


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"bad.json: not valid JSON"),
        ("[]", r"bad.json: expected an object of walks"),
        ('{"7": [{"position": [0, 0, 0]}]}', r"bad.json, episode 7: expected position, heading and stop"),
        ('{"7": [[0, 0, 0]]}', r"bad.json, episode 7: expected position, heading and stop"),
        ('{"7": [{"position": [0, 0], "heading": 0, "stop": true}]}', r"episode 7: .*expected position as \[x, y, z\]"),
        ('{"7": [{"position": [0, 0, 0], "heading": "n", "stop": true}]}', "episode 7: .*expected heading as a number"),
        ('{"7": [{"position": [0, 0, 0], "heading": 0, "stop": 1}]}', "episode 7: .*stop as true or false, got 1"),
    ],
)
def test_malformed_r2r_predictions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_r2r_predictions(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"bad.jsonl, line 1: expected an object of instruction_id and path"),
        ('{"instruction_id": "1", "path": []}\n[]', r"bad.jsonl, line 2: expected an object"),
        ('{"path": []}', r"bad.jsonl, line 1: .*'instruction_id' as a text"),
        ('{"instruction_id": "1", "path": [[0, 1]]}', r"line 1: .*a place of the path as \[x, y, z\]"),
        ('{"instruction_id": 1}\n{"instruction_id": "1"}', r"line 2: .*instruction 1 comes a second time"),
    ],
)
def test_malformed_rxr_predictions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rxr_predictions(tmp_path / "bad.jsonl")
    with pytest.raises(ValueError, match=r"nothing\.json: no such file"):
        read_r2r_predictions(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match=r"nothing\.jsonl: no such file"):
        read_rxr_predictions(tmp_path / "nothing.jsonl")
