"""Exchanges about scenes from the annotation files of the field, over a folder of scenes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

import torch

from genworld.data.examples import ExamplesSettings
from genworld.data.questions import Question, QuestionSet, read_3dmv_vqa, read_scanqa, read_scanrefer, read_sqa3d
from genworld.data.scene_prompts import Standing, describe_prompt, ground_prompt, seen_from, situated_prompt
from genworld.data.scene_turns import Exam, PointSource, Split
from genworld.data.scenes import open_scenes
from genworld.ops.lifted import LiftedScene
from genworld.ops.random import seed_of
from genworld.types import Scene, SceneBox, Skipped, Turn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AnnotationFile:
    """One file of questions.

    Attributes:
        format: whose it is.
        path: the file.
        answers: SQA3D's second file, with answers and poses.
    """

    format: Literal["scanqa", "sqa3d", "scanrefer", "3dmv-vqa"]
    path: Path
    answers: Path | None = None

    def read(self) -> QuestionSet:
        """The questions in it."""
        if self.format == "sqa3d":
            return read_sqa3d(self.path, self.answers)
        readers: dict[str, Callable[[Path], QuestionSet]] = {
            "scanqa": read_scanqa,
            "scanrefer": read_scanrefer,
            "3dmv-vqa": read_3dmv_vqa,
        }
        return readers[self.format](self.path)


@dataclass(frozen=True, kw_only=True)
class AnnotatedData(ExamplesSettings):
    """Scenes in a folder, and files of questions about them. ScanRefer's phrases are asked for, and asked about.

    Attributes:
        scenes: the folder; see `open_scenes`.
        files: to train on.
        held_out: to validate and evaluate on.
    """

    kind: Literal["annotated"] = "annotated"
    scenes: Path
    files: list[AnnotationFile]
    held_out: list[AnnotationFile]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.files:
            raise ValueError("files: give at least one file of annotations")
        if self.validation and not self.held_out:
            raise ValueError("validation needs questions of its own: name files under held_out")


@dataclass(frozen=True)
class _Asked:
    """A question, and the box that it names, where it is about one."""

    question: Question
    kind: str
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
        self.source = open_scenes(data.scenes)
        files: Sequence[AnnotationFile] = data.files if split == "train" else data.held_out
        self.skipped: list[Skipped] = []
        self._lifted: dict[str, LiftedScene | str] = {}
        self._boxes: dict[str, tuple[SceneBox, ...]] = {}
        self.asked = [found for file in files for question in self._read(file) for found in self._ask(file, question)]
        for reason, count in Counter(item.reason for item in self.skipped).items():
            logger.warning("%d entries left out: %s", count, reason)
        if not self.asked:
            raise ValueError(
                f"not one question of {', '.join(str(file.path) for file in files) or 'no file'} can be asked about "
                f"the scenes in {data.scenes}: {Counter(item.reason for item in self.skipped).most_common(3)}"
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
        name = f"{asked.kind}/{question.id}"
        turn = Turn(position, question.scene, lifted.points, history, prompt, answer, asked.kind, name)
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

    def exam(self, each: int = 0) -> Exam:
        """Every question once, with all its answers."""
        turns = tuple(self.read(index, index) for index in range(len(self)))
        asked = tuple(
            replace(item.question, id=turn.id, type=turn.kind, answers=item.question.answers or (turn.answer,))
            for turn, item in zip(turns, self.asked, strict=True)
        )
        pairs = zip(turns, self.asked, strict=True)
        truth = {turn.id: item.box for turn, item in pairs if turn.kind == "ground" and item.box is not None}
        scenes = {turn.scene: self.lifted(index) for index, turn in enumerate(turns)}
        return Exam(turns, asked, truth, scenes)

    def _read(self, file: AnnotationFile) -> Sequence[Question]:
        found = file.read()
        self.skipped += found.skipped
        return found.questions

    def _ask(self, file: AnnotationFile, question: Question) -> list[_Asked]:
        reason = self._why_not(file, question)
        if reason is not None:
            self.skipped.append(Skipped(question.id, reason))
            return []
        if file.format != "scanrefer":
            return [_Asked(question, question.type or file.format)]
        box = next(box for box in self._boxes[question.scene] if (box.id,) == question.object_ids)
        return [_Asked(question, kind, box) for kind in ("ground", "describe")]

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

    def _lift(self, name: str) -> None:
        if name not in set(self.source.names):
            self._lifted[name] = "its scene is not in the folder"
            return
        scenes: list[Scene] = []

        def read() -> Scene:
            scenes.append(self.source.read(name))
            return scenes[0]

        try:
            self._boxes[name] = read().boxes
            self._lifted[name] = self.points.lift(name, lambda: scenes[0])
        except ValueError as error:
            self._lifted[name] = f"its scene cannot be lifted: {error}"

    def _said(self, asked: _Asked, lifted: LiftedScene, chance: Random) -> tuple[str, str]:
        question = asked.question
        if asked.box is None:
            return situated_prompt(lifted, question.text, _standing(question, lifted)), chance.choice(question.answers)
        box = lifted.box_text(asked.box.lower, asked.box.upper)
        if asked.kind == "ground":
            return ground_prompt(question.text), box
        return describe_prompt(box), question.text


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
