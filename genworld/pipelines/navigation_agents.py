"""Agents that can be sent for a walk, by name, with what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from genworld.world.navigation.baselines import Baseline, Policy, build_baseline
from genworld.world.navigation.environment import NavigationEnv


@dataclass(frozen=True)
class Agent:
    """Somebody who walks.

    Attributes:
        name: in tables.
        make: the policy for an environment and a seed; asked for anew for every episode.
        images: whether it sees.
        note: what it knows and does, for readers of tables.
    """

    name: str
    make: Callable[[NavigationEnv, int], Policy]
    images: bool
    note: str


BASELINES: tuple[Baseline, ...] = get_args(Baseline)

_NOTES: Mapping[Baseline, str] = {
    "oracle": "shortest way; reads the map and the goal, which no agent may",
    "frontier": (
        "explores by depth and pose. A point goal draws it; of things and instructions it understands nothing and "
        "stops only where nothing is left to see: its OSR (did it come by?) says something, its SR is luck"
    ),
    "forward": "37 steps straight ahead, then STOP; sees and knows nothing",
    "random": "forward 0.68, turns 0.15 each, STOP 0.02; sees and knows nothing",
}


def baseline_agent(name: Baseline) -> Agent:
    """One of the agents that others are compared with."""
    return Agent(name, lambda env, seed: build_baseline(name, env, seed), name == "frontier", _NOTES[name])
