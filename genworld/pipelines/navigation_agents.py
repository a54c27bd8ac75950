"""Agents that can be sent for a walk, by name, with what they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from genworld.data.walk_turns import WalksData
from genworld.models.scene_points import ScenePoints
from genworld.pipelines.crowd import Crowd
from genworld.pipelines.navigator import Navigator, NavigatorConfig
from genworld.pipelines.navigator_eyes import SceneEyes
from genworld.pipelines.navigator_guide import ClauseGuide, GuideConfig, ModelAdviser
from genworld.pipelines.runs import open_run
from genworld.tasks.converse import Converse
from genworld.train.checkpoint import MANIFEST, latest_checkpoint
from genworld.types import Turn
from genworld.world.navigation.baselines import Baseline, Policy, build_baseline
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv


@dataclass(frozen=True)
class Agent:
    """Somebody who walks.

    Attributes:
        name: in tables.
        make: the policy for an environment and a seed; asked for anew for every episode.
        images: whether it sees.
        note: what it knows and does, for readers of tables.
        version: tells it from others of its name, such as from before more training.
        knows_goal: whether it reads where the goal is, which then must be known.
        walking: holds while it walks an episode; lets agents that share a model wait for each other (see `Crowd`).
    """

    name: str
    make: Callable[[NavigationEnv, int], Policy]
    images: bool
    note: str
    version: str = ""
    knows_goal: bool = False
    walking: Callable[[], AbstractContextManager[None]] = nullcontext


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
    return Agent(
        name,
        lambda env, seed: build_baseline(name, env, seed),
        images=name == "frontier",
        note=_NOTES[name],
        knows_goal=name == "oracle",
    )


@dataclass(frozen=True)
class SceneWalker:
    """Makes navigators that a scene model guides.

    Attributes:
        task: the model.
        points: makes points of what is seen.
        blind: pictures are black (see `SceneEyes`).
        settings: when they ask, and how they walk.
        guide: how clauses are followed.
        answer: how the model is asked; by default by each for itself.
    """

    task: Converse
    points: ScenePoints
    blind: bool = False
    settings: NavigatorConfig | None = None
    guide: GuideConfig | None = None
    answer: Callable[[Sequence[Turn]], list[str]] | None = None

    @classmethod
    def from_pretrained(
        cls, run: str | Path, device: str | torch.device | None = None, blind: bool = False
    ) -> SceneWalker:
        """With the newest checkpoint of a run of `configs/scene/navigate.yaml`.

        Raises:
            ValueError: the folder holds no finished checkpoint, its task is another, or it was not taught by walks.
        """
        experiment, task = open_run(run, Converse, "an agent needs 'converse'", device)
        if not isinstance(experiment.data, WalksData):
            raise ValueError(
                f"{run} was trained on data of kind {experiment.data.kind!r} and never learned to walk: train "
                f"configs/scene/navigate.yaml from it with init={run}"
            )
        # Folders of the training's machine are nobody's business elsewhere, and no walk is walked twice.
        return cls(task, ScenePoints(replace(task.config.points, cache=None)), blind)

    def adviser(self) -> ModelAdviser:
        """The model as it is asked."""
        return ModelAdviser(self.task, answer=self.answer)

    def eyes(self, camera: CameraConfig) -> SceneEyes:
        """For the camera of an environment."""
        return SceneEyes(self.points, camera, self.blind)

    def __call__(self, env: NavigationEnv, seed: int) -> Navigator:
        """The policy for an environment: of that it takes the config alone. Nothing in it is random."""
        return self.navigator(env.config)

    def navigator(self, config: NavigationConfig) -> Navigator:
        """The policy for environments of a config."""
        guide = ClauseGuide(self.adviser(), self.guide)
        return Navigator(config, guide, self.settings, self.eyes(config.camera))


def scene_agents(run: str | Path, blind: bool = True, device: str | torch.device | None = None) -> list[Agent]:
    """The agent of a run, and the same one with black pictures.

    Raises:
        ValueError: see `SceneWalker.from_pretrained`.
    """
    walker = SceneWalker.from_pretrained(run, device)
    crowd: Crowd[Turn, str] = Crowd(walker.task.answer)
    walker = replace(walker, answer=crowd.ask)
    version = hashlib.blake2b((latest_checkpoint(Path(run)) / MANIFEST).read_bytes(), digest_size=8).hexdigest()
    told = f"{run}: asks its scene model where to go; its own depth, pose and pictures"
    found = [Agent("agent", walker, True, told, version, walking=crowd.walking)]
    if blind:
        note = "the same with black pictures: what depth, pose and exploring are worth"
        found.append(Agent("blind", replace(walker, blind=True), True, note, version, walking=crowd.walking))
    return found
