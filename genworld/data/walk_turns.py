"""What an agent should be told on its walks, as exchanges about what it had seen by then."""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import torch

from genworld.data.examples import ExamplesSettings, read_share
from genworld.data.scene_turns import PointSource, Split
from genworld.data.walk_prompts import Deed, find_text, walk_answer, walk_prompt
from genworld.data.walks import State, WalkRecord, read_walks
from genworld.ops.lifted import LiftedScene
from genworld.ops.random import seed_of
from genworld.ops.recent import recent
from genworld.types import About, Scene, SceneBox, Turn
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.observed import view_of
from genworld.world.navigation.route_words import phrase
from genworld.world.navigation.views import FloorViews
from genworld.world.rooms.boxes import Box
from genworld.world.rooms.floor import Floor, FloorConfig
from genworld.world.rooms.language import Facts
from genworld.world.rooms.language.referring import refer
from genworld.world.rooms.store import FloorStore

logger = logging.getLogger(__name__)

DOOR = "door"
"""What doors are called among the things of a scene."""

_KEPT_FACTS, _KEPT_POINTS = 256, 4
_DRAWS = 40

Kind = Literal["find", "clause", "last"]


class _Place(NamedTuple):
    """A walk, and a moment of it."""

    walk: WalkRecord
    state: State


class _Asked(NamedTuple):
    """What is asked, what to do where it was seen, and of what: a number among the floor's things, or its doors."""

    text: str
    deed: Deed
    which: int


@dataclass(frozen=True, kw_only=True)
class WalksData(ExamplesSettings):
    """Moments of walks on floors of the world (see `tools/record_walks.py`), and what the right answer was.

    Attributes:
        files: of walks to train on: those of the teacher, and of each round of DAgger.
        held_out: of walks to validate on.
        camera: that took the views.
        floor: what floors are like.
        cache: folder in which drawn floors are kept.
        weights: how often is asked for a thing of the floor ("find"), for the clause that the agent was at ("clause"),
            and for the last one of its instruction ("last"), in proportion.
        views: of a moment, at least.
        points: of a moment, at least: with fewer than a connector makes tokens, evidence (see `ConverseConfig`) cannot
            be taught. In place of a moment with fewer, the next one is asked about.
        seen: how often a thing that is asked for was seen; of the others the answer is to look further.
    """

    kind: Literal["walks"] = "walks"
    files: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()
    camera: CameraConfig = field(default_factory=CameraConfig)
    floor: FloorConfig = field(default_factory=FloorConfig)
    cache: Path
    weights: dict[Kind, float] = field(default_factory=lambda: {"find": 1.0, "clause": 1.0, "last": 1.0})
    views: int = 2
    points: int = 64
    seen: float = 0.65

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files:
            raise ValueError("files: expected files of walks, got none: write one with tools/record_walks.py")
        if self.validation and not self.held_out:
            raise ValueError("validation needs walks of its own: set held_out to files of them, or validation to 0")
        if min(self.views, self.points) < 1:
            raise ValueError(f"views and points must be at least 1, got {self.views} and {self.points}")
        if not 0 < self.seen <= 1 or not self.weights.get("find", 0.0) > 0 or min(self.weights.values()) < 0:
            raise ValueError(
                "expected seen in (0, 1] and weights of at least 0, that of find above 0 (not every walk has clauses), "
                f"got {self.seen} and {self.weights}"
            )


class WalkTurns:
    """Turns about moments of walks; an `ExampleSource`.

    Args:
        data: which walks, and how often what is asked.
        points: gives the points of what was seen.
        split: which files.
        seed: of what is asked.

    Raises:
        ValueError: the files are not there, hold no walks, or nothing is held out.
    """

    def __init__(self, data: WalksData, points: PointSource, split: Split = "train", seed: int = 0) -> None:
        if split == "validation" and not data.held_out:
            raise ValueError("data.held_out names no files, so no walks are held out: set it")
        self.data, self.points, self.seed = data, points, seed
        walks = read_walks(data.files if split == "train" else data.held_out)
        every = [_Place(walk, state) for walk in walks for state in walk.states]
        self.places = [
            place for place in every if place.state.views >= data.views and (place.state.things or place.state.doors)
        ]
        if left := len(every) - len(self.places):
            logger.warning(
                "%d of %d moments are left out: less than %d views or no thing seen", left, len(every), data.views
            )
        if not self.places:
            raise ValueError(f"none of {len(every)} moments of {len(walks)} walks shows a thing: record others")
        self.store = FloorStore(data.cache, data.floor)
        self._facts: OrderedDict[int, Facts] = OrderedDict()
        self._lifted: OrderedDict[int, LiftedScene] = OrderedDict()

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int, position: int) -> Turn:
        """A turn about moment `index`: a function of (seed, position)."""
        index = self._full(index)
        walk, state = self.places[index]
        facts, scene = self.facts(walk.seed), self.lifted(index)
        chance = Random(seed_of(self.seed, "walk", position))
        kinds = [kind for kind in self.data.weights if kind == "find" or walk.tasks]
        (kind,) = chance.choices(kinds, [self.data.weights[kind] for kind in kinds])
        asked = self._asked(kind, walk, state, facts, chance)
        door = asked.deed == "through"
        known, index_in = (state.doors, len(state.things)) if door else (state.things, 0)
        seen = asked.which in known
        answer = walk_answer(scene, None)
        if seen:
            answer = walk_answer(scene, asked.deed, *_corners(_box(facts.floor, asked.which, door)))
        prompt = walk_prompt(scene, asked.text, state.started[:2], state.started.heading)
        return Turn(
            position,
            scene.name,
            scene.points,
            (),
            prompt,
            answer,
            f"walk/{kind}",
            f"{walk.name}/{position}",
            self.things(facts.floor, state),
            (About(index_in + known.index(asked.which), len(prompt)),) if seen else (),
            (*state.started[:2], state.started.heading),
        )

    def _full(self, index: int) -> int:
        """The moment itself, or the next one that has enough points."""
        for number in (*range(index, len(self)), *range(index)):
            if len(self.lifted(number).points) >= self.data.points:
                return number
        raise ValueError(f"none of {len(self)} moments has {self.data.points} points: lower data.points")

    def facts(self, seed: int) -> Facts:
        """What is true about a floor."""
        return recent(self._facts, _KEPT_FACTS, seed, lambda: Facts(self.store(seed)))

    def lifted(self, index: int) -> LiftedScene:
        """The points of what had been seen at moment `index`; the same tensors in calls that follow one another."""

        def lift() -> LiftedScene:
            walk, state = self.places[index]
            taken = walk.taken[: state.views]
            numbers = repr((taken, self.data.camera, self.data.floor)).encode()
            key = f"walk-{walk.seed}-{hashlib.blake2b(numbers, digest_size=8).hexdigest()}"
            return self.points.lift(key, lambda: self.scene(walk.seed, taken))

        return recent(self._lifted, _KEPT_POINTS, index, lift)

    def scene(self, seed: int, taken: Sequence[Stance]) -> Scene:
        """The views from some places on a floor."""
        floor, camera = self.facts(seed).floor, self.data.camera
        see = FloorViews(floor.stage, camera)
        views = [view_of(*see(stance), stance, camera, f"view {number}") for number, stance in enumerate(taken)]
        return Scene(f"{floor.name}-walk", views)

    @staticmethod
    def things(floor: Floor, state: State) -> tuple[SceneBox, ...]:
        """What was seen by then, with the words of its size, colour and kind, and doors after that."""
        names = [f"{thing.size} {thing.colour} {thing.kind}" for thing in floor.things]
        told = [(names[index], _box(floor, index)) for index in state.things]
        told += [(DOOR, _box(floor, index, door=True)) for index in state.doors]
        return tuple(SceneBox(name, number, *_corners(box)) for number, (name, box) in enumerate(told))

    def prepare(self, rank: int = 0, world_size: int = 1) -> None:
        """Lift this rank's share of the moments, so that training does not wait for it."""
        read_share(self.lifted, len(self), rank, world_size, "moments of walks lifted")

    def texts(self, num: int) -> list[str]:
        """What is said in `num` turns, for a tokenizer."""
        turns = (self.read(position % len(self), position) for position in range(num))
        return [text for turn in turns for text in (turn.prompt, turn.answer)]

    def _asked(self, kind: Kind, walk: WalkRecord, state: State, facts: Facts, chance: Random) -> _Asked:
        if kind != "find":
            task = walk.tasks[state.number if kind == "clause" else -1]
            return _Asked(phrase(task.clause, chance), task.deed, task.index)
        want = chance.random() < self.data.seen
        some = [index for index in range(len(facts)) if (index in state.things) == want]
        some = some or list(range(len(facts)))
        for _ in range(_DRAWS):
            index = chance.choice(some)
            name = refer(facts, chance, index)
            if name is not None:
                return _Asked(find_text(name), "stop", index)
        return _Asked(find_text(walk_name(facts, walk)), "stop", walk.target)


def walk_name(facts: Facts, walk: WalkRecord) -> str:
    """The thing at the end of a walk, in words that need not fit it alone."""
    thing = facts.floor.things[walk.target]
    return f"{thing.size} {thing.colour} {thing.kind}"


def _box(floor: Floor, index: int, door: bool = False) -> Box:
    return floor.plan.doors[index].box if door else floor.things[index].box


def _corners(box: Box) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(box.lower).float(), torch.from_numpy(box.upper).float()
