"""Policies that name waypoints instead of actions walk with the same loop as all others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest

from genworld.world.navigation.baselines import run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.mapping import map_of_footprints
from genworld.world.navigation.place import Place
from genworld.world.rooms.plan import Rectangle

START, HEADING, GOAL = (1.0, 1.0, 0.0), -1.0, (3.0, 2.0, 0.0)


class Straight:
    """Goes to its goal in a straight line, and stops there."""

    def __init__(self, actions: Literal["polar", "metres"]) -> None:
        self.actions = actions

    def reset(self) -> None: ...

    def act(self, observation: dict[str, Any]) -> Sequence[float] | np.ndarray:
        length, angle = observation["pointgoal"].tolist()
        if length < 0.1:
            return (1, 0, 0)
        if self.actions == "polar":
            return (0, length, angle)
        x, y, heading, _ = observation["pose"].tolist()
        return np.array([0, x + length * math.cos(heading + angle), y + length * math.sin(heading + angle)])


@pytest.mark.parametrize("actions", ["polar", "metres"])
def test_a_policy_of_waypoints_arrives(actions: Literal["polar", "metres"]) -> None:
    place = Place("box", map_of_footprints([], Rectangle(0.0, 0.0, 4.0, 3.0)))
    episode = Episode("one", "box", START, HEADING, (Goal(GOAL, 0.2),))
    config = NavigationConfig(actions=actions, images=False, pose=True)
    done = run(NavigationEnv([episode], lambda _: place, config), Straight(actions))
    assert done.success
    assert done.collisions == 0
    assert done.positions[0] == pytest.approx(START)
    assert done.positions[-1] == pytest.approx(GOAL, abs=1e-3)
    assert len(done.positions) == 1 + 1 + math.ceil(math.dist(START, GOAL) / 0.25) + 1  # start, turn, steps, STOP
    assert len(done.headings) == len(done.positions)
    assert done.headings[0] == HEADING
    assert done.headings[1:] == pytest.approx(math.atan2(GOAL[1] - START[1], GOAL[0] - START[0]), abs=1e-4)
