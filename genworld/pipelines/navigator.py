"""An agent that walks by what a guide says: observe, lift, ask, snap, plan, walk, repeat, stop (3D-LLM's loop).

Nothing but observations reaches it: pictures, depth, its pose, and what it is told. The map is its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float

from genworld.ops.lifted import LiftedScene
from genworld.world.navigation.environment import NavigationConfig
from genworld.world.navigation.geodesic import Place
from genworld.world.navigation.motion import Action, Stance
from genworld.world.navigation.scout import Scout, ScoutConfig

_TRIES = 8


@dataclass(frozen=True)
class Query:
    """What a guide is asked with: all that the agent knows.

    Attributes:
        told: the category of an object, or an instruction.
        task: which of both.
        scout: its map, where it is, and where it has been.
        scene: lifts what was seen so far, in the axes of the pose.
        said: what was answered before, the oldest first.
    """

    told: str
    task: Literal["object", "instruction"]
    scout: Scout
    scene: Callable[[], LiftedScene]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Advice:
    """What a guide says.

    Attributes:
        text: as it was said.
        kind: go to a box and stop there, go to a place and ask again, look further, or stop here.
        corners: of the box, or twice the place; metres, scene axes.
    """

    text: str
    kind: Literal["box", "place", "explore", "stop"]
    corners: Float[np.ndarray, "2 3"] | None = None

    def __post_init__(self) -> None:
        if (self.corners is None) != (self.kind in ("explore", "stop")):
            raise ValueError(f"expected corners with a box or a place and nowhere else, got {self}")


class Guide(Protocol):
    """Says where to go."""

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def advise(self, query: Query) -> Advice:
        """What to do next."""
        ...


class Eyes(Protocol):
    """What an agent sees, as a model takes it."""

    def reset(self) -> None:
        """A new episode begins."""
        ...

    def add(self, rgb: np.ndarray, depth: np.ndarray, stance: Stance) -> None:
        """Another view."""
        ...

    def scene(self) -> LiftedScene:
        """All that was seen so far."""
        ...


@dataclass(frozen=True, kw_only=True)
class NavigatorConfig:
    """When an agent asks, and how it walks.

    Attributes:
        scout: how it explores and where it stands.
        every: steps after which it asks again, where no view was worth keeping.
        waypoint: metres from a waypoint that are near enough.
        arrived: metres from where it wants to stand that are near enough.
    """

    scout: ScoutConfig = field(default_factory=ScoutConfig)
    every: int = 8
    waypoint: float = 0.3
    arrived: float = 0.13

    def __post_init__(self) -> None:
        if self.every < 1 or min(self.waypoint, self.arrived) <= 0:
            raise ValueError(f"expected every of at least 1 and distances above 0, got {self}")


class Navigator:
    """The policy. Asks its guide when enough was seen that is new, and walks there over its own map.

    Examples:
        >>> navigator = Navigator.from_pretrained("weights/navigate")  # doctest: +SKIP
        >>> env = NavigationEnv(episodes, places, navigator.config)  # doctest: +SKIP
        >>> run(env, navigator).success  # doctest: +SKIP

    Args:
        config: of the environment; its observations must hold images and pose.
        guide: who says where to go.
        settings: when it asks, and how it walks.
        eyes: lift what is seen; None for guides that need no scene.
    """

    def __init__(
        self,
        config: NavigationConfig,
        guide: Guide,
        settings: NavigatorConfig | None = None,
        eyes: Eyes | None = None,
    ) -> None:
        if not (config.images and config.pose):
            raise ValueError("the navigator needs images and pose: set both to True")
        if config.task == "point" or config.actions not in ("discrete", "looks"):
            raise ValueError(
                "the navigator is told things or instructions and takes steps and turns, got task "
                f"{config.task!r} with {config.actions!r} actions"
            )
        self.config, self.guide, self.settings, self.eyes = config, guide, settings or NavigatorConfig(), eyes
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        run: str | Path,
        config: NavigationConfig | None = None,
        device: str | torch.device | None = None,
        blind: bool = False,
    ) -> Navigator:
        """One that the scene model of a run guides, with its newest checkpoint.

        Args:
            run: the folder that training `configs/scene/navigate.yaml` wrote.
            config: of the environments it will walk in; by default it is told things to find.
            device: CUDA where there is one, by default.
            blind: pictures are black (see `SceneEyes`).

        Raises:
            ValueError: the folder is no such run, or the config is none for navigators.
        """
        from genworld.pipelines.navigation_agents import SceneWalker  # which makes navigators

        walker = SceneWalker.from_pretrained(run, device, blind)
        return walker.navigator(config or NavigationConfig(task="object", pose=True))

    def reset(self) -> None:
        """See `Policy`."""
        config = self.config
        self.scout = Scout(config.agent, config.camera, config.motion, self.settings.scout)
        self.said: list[str] = []
        self._advice = Advice("", "explore")
        self._since = 0
        self._station = True  # a place from which it looks around
        self._target: Place | None = None
        self._vain: list[Place] = []
        if self.eyes is not None:
            self.eyes.reset()
        self.guide.reset()

    def act(self, observation: dict[str, Any]) -> Action:
        """See `Policy`."""
        stance = Stance(*observation["pose"].tolist())
        kept = self.scout.look(observation["depth"], stance)
        if kept and self.eyes is not None:
            self.eyes.add(observation["rgb"], observation["depth"], stance)
        self._since += 1
        if kept or self._since > self.settings.every:
            self._ask(observation)
        action = self._follow()
        if action is None and self._since:  # there: is that still right?
            self._ask(observation)
            action = self._follow()
        return Action.STOP if action is None else action

    def _ask(self, observation: dict[str, Any]) -> None:
        task: Literal["object", "instruction"] = "object" if self.config.task == "object" else "instruction"
        told = observation["objectgoal" if task == "object" else "instruction"]
        query = Query(told, task, self.scout, self._scene, tuple(self.said))
        self._advice = self.guide.advise(query)
        self.said.append(self._advice.text)
        self._since = 0

    def _scene(self) -> LiftedScene:
        assert self.eyes is not None, "this guide needs eyes"
        return self.eyes.scene()

    def _follow(self) -> Action | None:
        """The next action; None where what was said leads no further."""
        advice = self._advice
        if advice.kind == "stop":
            return None
        if advice.corners is None:
            return self._explore()
        return self._to_box(*advice.corners) if advice.kind == "box" else self._to_place(advice.corners[0])

    def _to_place(self, place: Float[np.ndarray, " 3"]) -> Action | None:
        x, y, _ = place.tolist()
        action = self.scout.toward(self.scout.nearest((x, y)), self.settings.waypoint)
        return action if action != Action.STOP else self._explore((x, y))

    def _to_box(self, lower: Float[np.ndarray, " 3"], upper: Float[np.ndarray, " 3"]) -> Action | None:
        """To where one stands at a box; None there. Where no such place is known yet, on towards it."""
        stand = self.scout.stand_at(lower, upper)
        if stand is None:
            x, y, _ = ((lower + upper) / 2).tolist()
            action = self._explore((x, y))
            if action is not None:
                return action
            stand = self.scout.stand_at(lower, upper, strict=False)
            if stand is None:
                return None
        action = self.scout.toward(stand, self.settings.arrived)
        return None if action == Action.STOP else action

    def _explore(self, draw: Place | None = None) -> Action | None:
        """Look around, then go to the best frontier; None where nothing is left to see."""
        scout = self.scout
        for _ in range(_TRIES):
            if self._station:
                action = scout.survey()
                if action != Action.STOP:
                    return action
                self._station = False
            if self._target is None:
                self._target = scout.best_frontier(self._vain, draw)
                if self._target is None and scout.squeeze():
                    self._vain.clear()
                    self._target = scout.best_frontier(draw=draw)
                if self._target is None:
                    return None
            if scout.is_frontier(self._target):
                action = scout.toward(self._target, self.settings.scout.near)
                if action != Action.STOP:
                    return action
                self._vain.append(self._target)  # it was reached, and there is more that cannot be seen
            self._station, self._target = True, None
        return None
