"""Exchanges about scenes from the annotation files of the field, over a folder of scenes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import torch

from genworld.data.annotation_files import OTHERS, AnnotationFile, labels_of, read_classes
from genworld.data.examples import ExamplesSettings
from genworld.data.questions import Question
from genworld.data.scene_prompts import Standing, describe_prompt, ground_prompt, seen_from, situated_prompt
from genworld.data.scene_turns import Exam, PointSource, RoomsData, Split
from genworld.data.scenes import open_scenes, scene_key
from genworld.ops.lifted import LiftedScene
from genworld.ops.random import seed_of
from genworld.types import Scene, SceneBox, Skipped, Turn
from genworld.world.rooms import sample_floor

logger = logging.getLogger(__name__)

_FLOOR = re.compile(r"rooms-(\d+)")


@dataclass(frozen=True, kw_only=True)
class AnnotatedData(ExamplesSettings):
    """Scenes in a folder, and files of questions about them. ScanRefer's phrases are asked for, and asked about.

    Attributes:
        scenes: the folder; see `open_scenes`. None for floors of the world, by their names (`rooms-SEED`).
        files: to train on.
        held_out: to validate and evaluate on.
        classes: ScanNet's `scannetv2-labels.combined.tsv`, with which ScanRefer tells unique objects from multiple ones
            by 18 classes. None takes each label for a class of its own.
    """

    kind: Literal["annotated"] = "annotated"
    scenes: Path | None
    files: list[AnnotationFile]
    held_out: list[AnnotationFile]
    classes: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files:
            raise ValueError("files: give at least one file of annotations")
        if self.validation and not self.held_out:
            raise ValueError("validation needs questions of its own: name files under held_out")


@dataclass(frozen=True)
class AnnotatedExam(Exam):
    """An exam of annotation files.

    Attributes:
        files: what the file is called that each turn is of, by id.
        described: exact boxes of the turns of kind "describe", by id.
        named: classes of all objects that files of phrases name, by scene and number; "" where that is not known.
    """

    files: Mapping[str, str]
    described: Mapping[str, SceneBox]
    named: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class _Asked:
    """A question, what its file is called, and the box that it names, where it is about one."""

    question: Question
    kind: str
    file: str
    box: SceneBox | None = None


class AnnotatedTurns:
    """Turns of annotation files; an `ExampleSource`.

    What cannot be asked is left out and counted in `skipped`: questions without an answer, about scenes that are not in
    the folder or cannot be lifted, and about objects without a box.

    Args:
        data: which files.
        points: gives the points of scenes.
        split: which files of it.
        seed: of the choice among several answers.

    Raises:
        ValueError: nothing is left.
    """

    def __init__(self, data: AnnotatedData, points: PointSource, split: Split = "train", seed: int = 0) -> None:
        self.points, self.seed = points, seed
        self.source, self.folder = None if data.scenes is None else open_scenes(data.scenes), data.scenes
        files: Sequence[AnnotationFile] = data.files if split == "train" else data.held_out
        self.skipped: list[Skipped] = []
        self._lifted: dict[str, LiftedScene | str] = {}
        self._boxes: dict[str, tuple[SceneBox, ...]] = {}
        self._named: dict[str, dict[int, str]] = {}
        self._classes = None if data.classes is None else read_classes(data.classes)
        labelled = list(zip(files, labels_of(files), strict=True))
        self.asked = [
            x for file, label in labelled for asked in self._read(file) for x in self._ask(file, label, asked)
        ]
        self._ids = list(_unique(f"{item.kind}/{item.question.id}" for item in self.asked))
        for reason, count in Counter(item.reason for item in self.skipped).items():
            logger.warning("%d entries left out: %s", count, reason)
        if not self.asked:
            raise ValueError(
                f"not one question of {', '.join(str(file.path) for file in files) or 'no file'} can be asked about "
                f"{self._where}: {Counter(item.reason for item in self.skipped).most_common(3)}"
            )

    def __len__(self) -> int:
        return len(self.asked)

    def read(self, index: int, position: int) -> Turn:
        """Question `index`; which of its answers is wanted is a function of (seed, position)."""
        asked = self.asked[index]
        question, lifted = asked.question, self._lifted[asked.question.scene]
        assert isinstance(lifted, LiftedScene)
        prompt, answer = self._said(asked, lifted, Random(seed_of(self.seed, "answer", position)))
        history = tuple(turn.text for turn in question.history)
        turn = Turn(position, question.scene, lifted.points, history, prompt, answer, asked.kind, self._ids[index])
        standing = _standing(question, lifted) if asked.box is None else None
        return replace(turn, standing=seen_from(standing))

    def lifted(self, index: int) -> LiftedScene:
        """The points of the scene that question `index` is about."""
        lifted = self._lifted[self.asked[index].question.scene]
        assert isinstance(lifted, LiftedScene)
        return lifted

    def prepare(self, rank: int = 0, world_size: int = 1) -> None:
        """Scenes have been lifted already, since only then it is known which can be."""

    def texts(self, num: int) -> list[str]:
        """What is said in the first `num` questions, for a tokenizer."""
        turns = (self.read(index, index) for index in range(min(num, len(self))))
        return [text for turn in turns for text in (*turn.history, turn.prompt, turn.answer)]

    def exam(self, each: int = 0) -> AnnotatedExam:
        """Every question once, with all its answers."""
        turns = tuple(self.read(index, index) for index in range(len(self)))
        asked = tuple(
            replace(item.question, id=turn.id, type=turn.kind, answers=item.question.answers or (turn.answer,))
            for turn, item in zip(turns, self.asked, strict=True)
        )
        scenes = {turn.scene: self.lifted(index) for index, turn in enumerate(turns)}
        files = {turn.id: item.file for turn, item in zip(turns, self.asked, strict=True)}
        truth, described = (
            {turn.id: x.box for turn, x in zip(turns, self.asked, strict=True) if x.kind == kind and x.box is not None}
            for kind in ("ground", "describe")
        )
        return AnnotatedExam(turns, asked, truth, scenes, files, described, self._named)

    def _read(self, file: AnnotationFile) -> Sequence[Question]:
        found = file.read()
        self.skipped += found.skipped
        for question in found.questions if file.format == "scanrefer" else ():
            of_scene = self._named.setdefault(question.scene, {})
            of_scene[question.object_ids[0]] = self._class(question.object_names[0])
        return found.questions

    def _class(self, name: str) -> str:
        """The class of an object by its name in ScanRefer, whose words are joined by "_"; "" where it has none."""
        label = name.replace("_", " ").strip()
        return label if self._classes is None or not label else self._classes.get(label, OTHERS)

    def _ask(self, file: AnnotationFile, label: str, question: Question) -> list[_Asked]:
        reason = self._why_not(file, question)
        if reason is not None:
            self.skipped.append(Skipped(question.id, reason))
            return []
        if file.format != "scanrefer":
            return [_Asked(question, question.type or file.format, label)]
        box = next(box for box in self._boxes[question.scene] if (box.id,) == question.object_ids)
        return [_Asked(question, kind, label, box) for kind in ("ground", "describe")]

    def _why_not(self, file: AnnotationFile, question: Question) -> str | None:
        if file.format != "scanrefer" and not question.answers:
            return "it has no answer"
        if question.scene not in self._lifted:
            self._lift(question.scene)
        lifted = self._lifted[question.scene]
        if isinstance(lifted, str):
            return lifted
        ids = {box.id for box in self._boxes[question.scene]}
        if file.format == "scanrefer" and question.object_ids[0] not in ids:
            return "its object has no box in the scene"
        return None

    @property
    def _where(self) -> str:
        return "the world's floors (rooms-SEED)" if self.folder is None else f"the scenes in {self.folder}"

    def _lift(self, name: str) -> None:
        try:
            scene = self._scene(name)
            if scene is None:
                where = "no floor of the world" if self.source is None else "not in the folder"
                self._lifted[name] = f"its scene is {where}"
                return
            self._boxes[name] = scene.boxes
            key = name if self.folder is None else scene_key(self.folder, name)
            self._lifted[name] = self.points.lift(key, lambda: scene)
        except ValueError as error:
            self._lifted[name] = f"its scene cannot be lifted: {error}"

    def _scene(self, name: str) -> Scene | None:
        """The scene of that name; None where there is none."""
        if self.source is not None:
            return self.source.read(name) if name in set(self.source.names) else None
        seed = _FLOOR.fullmatch(name)
        return None if seed is None else sample_floor(int(seed[1])).scene(RoomsData.size, num_points=1)

    def _said(self, asked: _Asked, lifted: LiftedScene, chance: Random) -> tuple[str, str]:
        question = asked.question
        if asked.box is None:
            return situated_prompt(lifted, question.text, _standing(question, lifted)), chance.choice(question.answers)
        box = lifted.box_text(asked.box.lower, asked.box.upper)
        if asked.kind == "ground":
            return ground_prompt(question.text), box
        return describe_prompt(box), question.text


def _unique(names: Iterable[str]) -> Iterator[str]:
    """The names; those that occur again (files without ids number their questions) with how often they have."""
    seen = Counter[str]()
    for name in names:
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


def _standing(question: Question, lifted: LiftedScene) -> Standing | None:
    """A situation of SQA3D; its places are told from the middle of the scene's box."""
    told = question.situation
    if told is None:
        return None
    if told.position is None:
        return Standing(told.text)
    codec = lifted.codec
    middle = (torch.tensor(codec.lower) + torch.tensor(codec.upper)) / 2
    x, y, z = (torch.tensor(told.position) + middle).tolist()
    return Standing(told.text, (x, y, z), told.heading)
