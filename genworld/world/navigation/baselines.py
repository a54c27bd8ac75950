"""Agents to compare with: at random, straight ahead, the shortest way, and looking everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.explore import DepthMapper, frontiers
from genworld.world.navigation.follow import next_action
from genworld.world.navigation.geodesic import CellField, Place
from genworld.world.navigation.motion import Action, Mover, Stance
from genworld.world.navigation.occupancy import OccupancyMap

Baseline = Literal["oracle", "frontier", "forward", "random"]
Deed = Action | Sequence[float] | Float[np.ndarray, " 3"]
"""What a policy does next: an action, or a waypoint as three numbers (see `NavigationConfig.actions`)."""

_REPLAN = 12  # steps after which the frontier explorer looks for the best frontier again
_THERE = 0.3  # metres from a frontier that are near enough
_CHANCES = {Action.STOP: 0.02, Action.FORWARD: 0.68, Action.LEFT: 0.15, Action.RIGHT: 0.15}


class Policy(Protocol):
    """An agent."""

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def act(self, observation: dict[str, Any]) -> Deed:
        """What to do next."""
        ...


class Run(NamedTuple):
    """What an agent did in an episode.

    Attributes:
        episode: its id.
        positions: at the start and after each action, scene axes, metres.
        stopped: whether it called STOP.
        collisions: steps in which something was in its way.
        success: whether it stopped within the radius of a goal.
        headings: at each of the positions; radians, 0 along +x, growing towards +y.
    """

    episode: str
    positions: Float[np.ndarray, "T 3"]
    stopped: bool
    collisions: int
    success: bool
    headings: Float[np.ndarray, " T"]


def run(env: NavigationEnv, policy: Policy, episode: str | None = None) -> Run:
    """Let an agent walk one episode, the next one if none is named."""
    observation, info = env.reset(options=None if episode is None else {"episode": episode})
    policy.reset()
    positions, headings = list(info["path"]), [info["heading"]]
    stopped = truncated = False
    while not (stopped or truncated):
        observation, _, stopped, truncated, info = env.step(_deed(policy.act(observation)))
        positions += info["path"]
        headings += [info["heading"]] * len(info["path"])  # who walks to a waypoint turns before the first step
    done = info["collisions"], info["success"]
    return Run(info["episode"], np.array(positions), stopped, *done, np.array(headings))


def _deed(deed: Deed) -> int | Float[np.ndarray, " 3"]:
    """As the environment's spaces have it: a number of theirs, or a waypoint of their type."""
    return int(deed) if isinstance(deed, int | np.integer) else np.asarray(deed, dtype=np.float32)


class RandomPolicy:
    """Actions with the chances of VLN-CE's random agent: forward 0.68, turns 0.15 each, STOP 0.02."""

    def __init__(self, seed: int = 0) -> None:
        self._chance = Random(seed)

    def reset(self) -> None:
        """See `Policy`."""

    def act(self, observation: dict[str, Any]) -> Action:
        """See `Policy`."""
        return self._chance.choices(list(_CHANCES), list(_CHANCES.values()))[0]


class ForwardPolicy:
    """Straight ahead, and STOP after so many steps; 37 of them are R2R-CE's average way."""

    def __init__(self, steps: int = 37) -> None:
        self.steps, self._left = steps, steps

    def reset(self) -> None:
        """See `Policy`."""
        self._left = self.steps

    def act(self, observation: dict[str, Any]) -> Action:
        """See `Policy`."""
        self._left -= 1
        return Action.FORWARD if self._left >= 0 else Action.STOP


class OraclePolicy:
    """The shortest way with the agent's own actions: it looks at the map and the goal, which no agent may.

    Attributes:
        env: whose state it reads.
    """

    def __init__(self, env: NavigationEnv) -> None:
        self.env = env

    def reset(self) -> None:
        """See `Policy`."""

    def act(self, observation: dict[str, Any]) -> Action:
        """See `Policy`; the best action from wherever the agent has come to."""
        near = min(0.25, *(goal.radius / 2 for goal in self.env.episode.goals), 1.0)
        return next_action(self.env.mover, self.env.stance, self.env.field, near)


class FrontierPolicy:
    """Goes to the nearest end of what it has seen, by its depth and pose only (Yamauchi 1997).

    A point goal draws it: it prefers frontiers on the way there, goes to it once it is known ground, and stops. Without
    one it stops when there is nothing left to see.

    Attributes:
        config: of the environment; its observations must hold depth and pose.
    """

    def __init__(self, config: NavigationConfig) -> None:
        if not (config.images and config.pose):
            raise ValueError("the frontier explorer needs images and pose: set both to True")
        self.config = config
        self.reset()

    def reset(self) -> None:
        """See `Policy`."""
        self.mapper = DepthMapper(self.config.agent, self.config.camera)
        self.ways: CellField | None = None
        self._before: Stance | None = None
        self._target: Place | None = None
        self._age = 0
        self._turns = 0
        self._forward = False

    def act(self, observation: dict[str, Any]) -> Action:
        """See `Policy`."""
        stance = Stance(*observation["pose"].tolist())
        self.mapper.add(observation["depth"], stance)
        if (
            self._forward
            and self._before
            and math.dist(self._before[:2], stance[:2]) < 0.5 * self.config.motion.forward
        ):
            self.mapper.bump(stance)
            self.ways = None
        if self._turns < math.ceil(360 / self.config.motion.turn):  # look around first
            self._turns += 1
            return Action.LEFT
        action = self._go(observation, stance)
        self._before, self._forward = stance, action == Action.FORWARD
        return action

    def _go(self, observation: dict[str, Any], stance: Stance) -> Action:
        for fresh in (False, True):
            self._age += 1
            if fresh or self.ways is None or self._age > _REPLAN:
                self._plan(observation, stance)
            if self.ways is None:
                return Action.STOP
            near = _THERE if self._target is None else 0.5 * self.config.motion.forward
            action = next_action(Mover(self.ways.map, self.config.motion), stance, self.ways, near)
            if action != Action.STOP or (self._target is not None and self.ways.distance(*stance[:2]) < _THERE):
                return action
        return Action.STOP

    def _plan(self, observation: dict[str, Any], stance: Stance) -> None:
        ground = self.mapper.map(stance)
        self._age = 0
        goal = _goal_of(observation, stance)
        from_here = CellField(ground, [(stance.x, stance.y)])
        if goal is not None:
            near = _known_near(ground, goal, from_here)
            if near is not None:
                self._target, self.ways = near, CellField(ground, [near])
                return
        self._target, self.ways = None, None
        best = math.inf
        for place in frontiers(ground):
            cost = from_here.distance(*place) + (math.dist(place, goal) if goal is not None else 0.0)
            if from_here.distance(*place) > _THERE and cost < best:
                best, self.ways = cost, CellField(ground, [place])


def build_baseline(name: Baseline, env: NavigationEnv, seed: int = 0) -> Policy:
    """The agent of a name; `seed` is that of a random one."""
    if name == "oracle":
        return OraclePolicy(env)
    if name == "frontier":
        return FrontierPolicy(env.config)
    return ForwardPolicy() if name == "forward" else RandomPolicy(seed)


def _goal_of(observation: dict[str, Any], stance: Stance) -> Place | None:
    if "pointgoal" not in observation:
        return None
    length, angle = observation["pointgoal"].tolist()
    return (
        stance.x + length * math.cos(stance.heading + angle),
        stance.y + length * math.sin(stance.heading + angle),
    )


def _known_near(ground: OccupancyMap, goal: Place, from_here: CellField) -> Place | None:
    """The goal, or free ground within a cell or two of it, if a way leads there."""
    reach = 2 * ground.cell
    tried = [(goal[0] + i * ground.cell, goal[1] + j * ground.cell) for i in (0, -1, 1) for j in (0, -1, 1)]
    found = [place for place in tried if math.isfinite(from_here.distance(*place))]
    near = min(found, key=lambda place: math.dist(place, goal), default=None)
    return near if near is not None and math.dist(near, goal) <= reach else None
