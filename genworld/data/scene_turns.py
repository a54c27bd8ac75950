"""Exchanges about the world's floors as examples, drawn anew at every visit."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal, Protocol

from genworld.data.examples import ExamplesSettings, read_share
from genworld.data.questions import Question
from genworld.data.scene_prompts import CAPTION_PROMPTS, ground_prompt
from genworld.data.scene_turns_rooms import TELLERS, Exchange, box_of, exchange_of
from genworld.ops.lifted import LiftedScene
from genworld.ops.random import seed_of
from genworld.ops.recent import recent
from genworld.types import Scene, SceneBox, Turn
from genworld.world.rooms.floor import FloorConfig
from genworld.world.rooms.language import Facts, questions
from genworld.world.rooms.language.captions import caption
from genworld.world.rooms.language.referring import references
from genworld.world.rooms.store import FloorStore

logger = logging.getLogger(__name__)

_KEPT_FACTS, _KEPT_POINTS = 8192, 4
_DRAWS = 200

Split = Literal["train", "validation"]


class PointSource(Protocol):
    """Gives the points of a scene: an encoder and a lifter with a cache (`models.scene_points`)."""

    def lift(self, key: str, scene: Callable[[], Scene]) -> LiftedScene:
        """The points of the scene that `scene` gives; `key` tells scenes apart."""
        ...


@dataclass(frozen=True)
class Exam:
    """Turns that are scored.

    Attributes:
        turns: each with an id of its own.
        questions: the same as scorers want them, in the same order.
        boxes: exact ones of the turns of kind "ground", by id.
        scenes: by name.
    """

    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    boxes: Mapping[str, SceneBox]
    scenes: Mapping[str, LiftedScene]


@dataclass(frozen=True, kw_only=True)
class RoomsData(ExamplesSettings):
    """The world's floors, with questions, captions, dialogues, plans and boxes drawn anew at every visit.

    Attributes:
        floors: how many to train on; `held_out` floors come on top.
        held_out: floors for validation and evaluation.
        offset: seed of the first floor.
        size: height and width of the views, pixels.
        floor: what floors are like.
        cache: folder in which drawn floors are kept.
        weights: how often each kind of exchange is drawn, in proportion; kinds that are not named, never. All forms of
            a question type together, such as `count`, or one alone, such as `count/count_in_room`.
        longest: words of a prompt in training, at most: short ones name things by their looks alone, and are learned
            first.
    """

    kind: Literal["rooms"] = "rooms"
    floors: int
    held_out: int = 0
    offset: int = 0
    size: tuple[int, int] = (96, 96)
    floor: FloorConfig = field(default_factory=FloorConfig)
    cache: Path
    weights: dict[str, float] = field(default_factory=lambda: {kind: 1.0 for kind in TELLERS if "/" not in kind})
    longest: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.floors < 1 or self.held_out < 0 or self.offset < 0 or min(self.size) < 1:
            raise ValueError("floors and size must be positive, held_out and offset at least 0")
        if self.longest is not None and self.longest < 1:
            raise ValueError(f"longest must be at least 1 word, or null for any, got {self.longest}")
        unknown = [kind for kind in self.weights if kind not in TELLERS]
        if unknown:
            raise ValueError(f"weights: there is no kind {unknown[0]!r}; there are {', '.join(TELLERS)}")
        if min(self.weights.values(), default=0.0) < 0 or not sum(self.weights.values()) > 0:
            raise ValueError(f"weights must be at least 0, and one of them positive, got {self.weights}")
        if self.validation and not self.held_out:
            raise ValueError("validation needs floors of its own: set held_out")

    def seeds(self, split: Split) -> range:
        """Seeds of the floors of one split.

        Raises:
            ValueError: nothing is held out.
        """
        first = self.offset
        if split == "train":
            return range(first, first + self.floors)
        if not self.held_out:
            raise ValueError("data.held_out is 0, so no floors are held out: set it to a number of floors")
        return range(first + self.floors, first + self.floors + self.held_out)


class RoomTurns:
    """Turns about floors; an `ExampleSource`.

    Args:
        data: which floors, and how often what is asked.
        points: gives their points.
        split: which floors.
        seed: of what is asked.
    """

    def __init__(self, data: RoomsData, points: PointSource, split: Split = "train", seed: int = 0) -> None:
        self.data, self.points, self.seed = data, points, seed
        self.seeds = data.seeds(split)
        self.store = FloorStore(data.cache, data.floor)
        self._facts: OrderedDict[int, Facts] = OrderedDict()
        self._points: OrderedDict[int, LiftedScene] = OrderedDict()
        self._boxes: OrderedDict[int, tuple[SceneBox, ...]] = OrderedDict()
        self._kinds = [kind for kind, weight in data.weights.items() if weight > 0]
        self._weights = [data.weights[kind] for kind in self._kinds]

    def __len__(self) -> int:
        return len(self.seeds)

    def read(self, index: int, position: int) -> Turn:
        """A turn about floor `index`: a function of (seed, position)."""
        facts, lifted = self.facts(index), self.lifted(index)
        chance = Random(seed_of(self.seed, "turn", position))
        for _ in range(_DRAWS):
            (kind,) = chance.choices(self._kinds, self._weights)
            told = TELLERS[kind](facts, lifted, chance)
            if told is not None and len(told.prompt.split()) <= (self.data.longest or len(told.prompt)):
                name = f"{facts.floor.name}/{position}"
                return Turn(
                    position,
                    facts.floor.name,
                    lifted.points,
                    told.history,
                    told.prompt,
                    told.answer,
                    kind.split("/")[0],
                    name,
                    self._things(index),
                    told.about,
                    told.standing,
                    told.counted,
                    told.told,
                )
        raise ValueError(f"{facts.floor.name}: nothing of {', '.join(self._kinds)} can be said about it")

    def facts(self, index: int) -> Facts:
        """What is true about floor `index`."""
        return recent(self._facts, _KEPT_FACTS, index, lambda: Facts(self.store(self.seeds[index])))

    def _things(self, index: int) -> tuple[SceneBox, ...]:
        """What stands on floor `index`, with the words of its size, colour and kind."""

        def told() -> tuple[SceneBox, ...]:
            floor = self.facts(index).floor
            return tuple(
                replace(box, label=f"{thing.size} {thing.colour} {thing.kind}")
                for box, thing in zip(floor.boxes, floor.things, strict=True)
            )

        return recent(self._boxes, _KEPT_FACTS, index, told)

    def lifted(self, index: int) -> LiftedScene:
        """The points of floor `index`; the same tensors in calls that follow one another."""

        def lift() -> LiftedScene:
            floor = self.facts(index).floor
            config, (height, width) = self.data.floor, self.data.size
            key = f"{floor.name}-{config.min_rooms}-{config.max_rooms}-{height}x{width}"
            return self.points.lift(key, lambda: floor.scene(self.data.size, num_points=1))

        return recent(self._points, _KEPT_POINTS, index, lift)

    def prepare(self, rank: int = 0, world_size: int = 1) -> None:
        """Draw and lift this rank's share of the floors, so that training does not wait for it."""
        read_share(self.lifted, len(self), rank, world_size, "floors drawn and lifted")

    def texts(self, num: int) -> list[str]:
        """What is said in `num` turns, for a tokenizer."""
        turns = (self.read(position % len(self), position) for position in range(num))
        return [text for turn in turns for text in (*turn.history, turn.prompt, turn.answer)]

    def exam(self, each: int = 4) -> Exam:
        """Fixed turns about every floor, to be scored: questions of all types, boxes to find, and one caption.

        Args:
            each: of every type and floor, at most.

        """
        turns: list[Turn] = []
        truth: dict[str, SceneBox] = {}
        for index in range(len(self)):
            facts, lifted = self.facts(index), self.lifted(index)
            said: list[tuple[str, Exchange]] = [
                (question.type, exchange_of(question, facts, lifted)) for question in questions(facts, each, self.seed)
            ]
            named = references(facts, Random(f"{facts.floor.name}/{self.seed}/exam"))
            for reference in islice(named, each):
                box = box_of(facts, lifted, reference.thing)
                said.append(("ground", Exchange(ground_prompt(reference.text), box)))
                truth[f"{facts.floor.name}/ground/{len(said) - 1}"] = facts.floor.boxes[reference.thing]
            said.append(("caption", Exchange(CAPTION_PROMPTS["terse"], caption(facts, "terse"))))
            for number, (kind, told) in enumerate(said):
                floor, name = facts.floor.name, f"{facts.floor.name}/{kind}/{number}"
                turn = Turn(len(turns), floor, lifted.points, (), told.prompt, told.answer, kind, name)
                turns.append(replace(turn, standing=told.standing))
        asked = tuple(Question(t.id, t.scene, t.prompt, (t.answer,), t.kind) for t in turns)
        codecs = {self.facts(index).floor.name: self.lifted(index) for index in range(len(self))}
        return Exam(tuple(turns), asked, truth, codecs)
