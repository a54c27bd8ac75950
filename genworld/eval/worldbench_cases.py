"""The cases of the world benchmark: prompts in a world whose truth is known, fixed by a hash.

A case is a scene of the procedural world and what may be told of it to a model: its caption, for some cases its first
frames, for some the path of its camera. Of many random scenes only clear ones are taken: see `worldbench_scenes`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from genworld.data.synthetic import camera_path, from_bytes, to_bytes
from genworld.eval.worldbench_scenes import CYCLES, Kind, Suite, find_scene
from genworld.types import CameraPath, ClipShape
from genworld.world.clip import WorldClip
from genworld.world.objects import WorldObject

SUITES: tuple[Suite, ...] = ("single", "full")
Ability = Literal["text", "coherence", "consistency", "permanence", "interaction", "reasoning"]
ABILITIES: dict[Ability, str] = {
    "text": "text understanding",
    "coherence": "3D motion coherence",
    "consistency": "object consistency",
    "permanence": "object permanence",
    "interaction": "interaction",
    "reasoning": "reasoning beyond what is seen",
}
Ask = Literal["prompt", "frames", "camera"]
"""What a case needs a model to take besides a prompt: nothing, first frames, or a camera path."""
ASKS: tuple[Ask, ...] = ("prompt", "frames", "camera")

SHAPE = ClipShape(17, 64, 64, 8.0)
FINGERPRINTS: dict[Suite, str] = {
    "single": "8e60148ee348632433601b93158c98a3ad625687f0a2e9749b70e3a5b680dbcf",
    "full": "96a90d84655043288d0207811213a445146e571115336ef8f3c973e2d520c854",
}
"""sha256 of the first 24 cases of each suite at the default shape: see `fingerprint`."""

_SHORTEST, _LONGEST, _FEWEST, _SMALLEST = 1.5, 3.5, 9, 48


@dataclass(frozen=True)
class Case:
    """One question to a model, and the truth.

    Attributes:
        suite: it belongs to.
        index: in the suite.
        kind: what the scene was chosen for.
        seed: of the scene, and of the sample's noise.
        clip: the truth: scene, motion, events, pictures.
        num_given: first frames that belong to the question.
    """

    suite: Suite
    index: int
    kind: Kind
    seed: int
    clip: WorldClip
    num_given: int

    def afresh(self) -> Case:
        """The same case without what it has computed and kept: of many, only those at hand need hold their pictures."""
        return replace(self, clip=replace(self.clip))

    @property
    def prompt(self) -> str:
        """The caption of the scene."""
        return self.clip.caption

    @property
    def shape(self) -> ClipShape:
        """Of the video asked for."""
        return self.clip.shape

    @property
    def ask(self) -> Ask:
        """What a model has to take."""
        return "camera" if self.kind == "camera" else "frames" if self.num_given else "prompt"

    @property
    def ability(self) -> Ability:
        """What the scene was chosen for."""
        return OWN_ABILITY[self.kind]

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """All that the video is scored on; the others do not apply."""
        asked: set[Ability] = {self.ability, "consistency"}
        if self.ask == "prompt":
            asked.add("text")
            if "bounce" in self.clip.story.acts:
                asked.add("interaction")
        return tuple(name for name in ABILITIES if name in asked)

    @property
    def objects(self) -> tuple[WorldObject, ...]:
        """What is in the scene, without the wall."""
        return tuple(thing for thing in self.clip.scene.objects if thing.shape != "wall")

    @cached_property
    def camera(self) -> CameraPath:
        """Where the camera is in every frame."""
        return camera_path(self.clip.scene.camera, self.shape)

    @cached_property
    def pixels(self) -> Float[Tensor, "3 F H W"]:
        """The real video, rounded to 8 bits."""
        return from_bytes(to_bytes(self.clip.clip.pixels))

    @property
    def given(self) -> Float[Tensor, "3 n H W"]:
        """The first frames, as far as they belong to the question."""
        return self.pixels[:, : max(self.num_given, int(self.ask == "camera"))]

    @cached_property
    def wall(self) -> Bool[np.ndarray, "H W"] | None:
        """The pixels of the wall in the first frame, if there is one."""
        walls = [i for i, thing in enumerate(self.clip.scene.objects) if thing.shape == "wall"]
        return self.clip.masks[0, walls[0]].numpy() if walls else None


OWN_ABILITY: dict[Kind, Ability] = {
    "words": "text",
    "drop": "interaction",
    "collision": "interaction",
    "wall": "permanence",
    "rest": "reasoning",
    "fall": "reasoning",
    "race": "reasoning",
    "reveal": "reasoning",
    "camera": "coherence",
}


def cases(suite: Suite, num: int, shape: ClipShape = SHAPE, asks: Sequence[Ask] = ASKS, first: int = 0) -> list[Case]:
    """The first `num` cases of a suite, or the first from some index on: a function of the arguments and nothing else.

    Args:
        suite: "single": one large object, as the configs for small machines train; "full": several objects of all
            shapes, collisions, walls and moving cameras.
        num: how many. A smaller number gives the beginning of a larger one.
        shape: of the videos.
        asks: leave out cases that need a model to take anything else.
        first: index in the suite to begin at.

    Raises:
        ValueError: an unknown suite, no cases, a negative index, or a shape in which the truth could not be seen.
    """
    if suite not in SUITES:
        raise ValueError(f"unknown suite {suite!r} of the world benchmark: choose from {', '.join(SUITES)}")
    if num < 1 or not asks:
        raise ValueError(f"the world benchmark needs at least one case, got num={num} and asks={list(asks)}")
    if first < 0:
        raise ValueError(f"the cases of the world benchmark are numbered from 0 on, got first={first}")
    _check_shape(shape)
    cycle = CYCLES[suite]
    if not any(what_asks(kind) in asks for kind in cycle):
        raise ValueError(f"suite {suite!r} has no case that asks for {list(asks)} alone")
    asked = (index for index in count(first) if what_asks(cycle[index % len(cycle)]) in asks)
    return [_case(suite, index, shape) for index in islice(asked, num)]


def _case(suite: Suite, index: int, shape: ClipShape) -> Case:
    kind, seed, clip, num_given = find_scene(suite, index, shape)
    return Case(suite, index, kind, seed, clip, num_given).afresh()


def fingerprint(cases: Sequence[Case]) -> str:
    """sha256 over the prompts, seeds and truth of cases: equal numbers were measured on equal questions."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(json.dumps(_facts(case.afresh()), sort_keys=True).encode())
    return digest.hexdigest()


def _facts(case: Case) -> list[object]:
    """What decides a case; millimetres, so that the last digit of a processor does not matter."""
    places = np.round(case.clip.trajectory.positions(case.clip.times), 3) + 0.0
    things = [(thing.shape, thing.colour, thing.size, thing.material) for thing in case.clip.scene.objects]
    poses = np.round(case.camera.world_from_camera.double().numpy(), 3) + 0.0
    told = [case.suite, case.index, case.kind, case.seed, case.prompt, case.num_given, list(case.shape)]
    return [*told, case.abilities, things, places.tolist(), poses.tolist()]


def _check_shape(shape: ClipShape) -> None:
    seconds = (shape.num_frames - 1) / shape.fps
    if shape.num_frames < _FEWEST or not _SHORTEST <= seconds <= _LONGEST:
        raise ValueError(
            f"the world benchmark needs videos of {_SHORTEST:g} to {_LONGEST:g} seconds in at least {_FEWEST} frames, "
            f"got {shape} ({seconds:.2f} s): sample {SHAPE} for example"
        )
    if min(shape.height, shape.width) < _SMALLEST:
        raise ValueError(f"the world benchmark needs {_SMALLEST} pixels along the shorter side, got {shape}")


def what_asks(kind: Kind) -> Ask:
    """What cases of a kind need a model to take besides a prompt."""
    return "camera" if kind == "camera" else "frames" if OWN_ABILITY[kind] == "reasoning" else "prompt"


def asks_for(suite: Suite, ability: Ability) -> set[Ask]:
    """What the cases of a suite that are about an ability need a model to take; empty where there are none."""
    asks = {what_asks(kind) for kind in CYCLES[suite] if OWN_ABILITY[kind] == ability}
    anywhere = {"consistency", "text", "interaction"}  # of any prompt: what is shown, what is said, what drops
    return asks | ({"prompt"} if ability in anywhere else set())
