"""How well a run answers about held-out scenes, beside what can be answered without seeing them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genworld.data.questions import Question
from genworld.data.scene_turns import Exam, RoomsData, RoomTurns
from genworld.data.scene_turns_annotated import AnnotatedTurns
from genworld.eval.grounding import GroundingReport, corners_of, score_boxes
from genworld.eval.qa import BlindGuesses, Report, Scorer, gather_answers
from genworld.experiment import open_turns
from genworld.pipelines.runs import open_run
from genworld.tasks.converse import Converse
from genworld.train.runtime import find_world
from genworld.types import Pack, PointSet, Turn
from genworld.world.rooms.language import questions
from genworld.world.rooms.language.blind import Blind, blind_accuracy

CAPTIONS, BOXES = ("caption", "describe"), "ground"
_TRAINING_FLOORS = 300


@dataclass(frozen=True)
class SceneScores:
    """All that is known of a run's answers.

    Attributes:
        questions: short answers by type; the blind baseline is the model itself, shown another scene.
        captions: longer texts, scored by n-grams; None where there are none.
        boxes: of phrases that were to be found; None where there are none.
        guesses: EM in percent of the most common answer to questions that begin alike in training, by type.
        blind: of models trained on the words of questions alone, by type; of the world's questions only.
        answers: every id with what was said, and what the model said that was shown another scene.
        is_main: whether this process is the one that writes.
    """

    questions: Report | None
    captions: Report | None
    boxes: GroundingReport | None
    guesses: Report | None
    blind: Mapping[str, Blind]
    answers: tuple[Mapping[str, Any], ...]
    is_main: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        parts = {name: getattr(self, name) for name in ("questions", "captions", "boxes", "guesses")}
        return {
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "blind": {kind: asdict(found) | {"best": found.best} for kind, found in self.blind.items()},
            "answers": list(self.answers),
        }

    def __str__(self) -> str:
        parts = (("questions", self.questions), ("captions", self.captions))
        lines = [f"{name}: {part}" for name, part in parts if part is not None]
        if self.boxes is not None:
            said = ", ".join(f"{name} {figure}" for name, figure in self.boxes.scores.items())
            blind = ", ".join(f"{name} {figure}" for name, figure in self.boxes.blind.items())
            lines.append(f"boxes: {self.boxes.num} phrases, {self.boxes.num_missing} without a box: {said}")
            lines.append(f"  blind {blind}; gain {self.boxes.gain}")
        if self.guesses is not None:
            lines.append(f"most common answers: EM {self.guesses.scores['em']}")
        if "all" in self.blind:
            kinds = ", ".join(f"{kind} {found.best:.3f}" for kind, found in self.blind.items())
            lines.append(f"models of the questions' words alone: {kinds}")
        return "\n".join(lines)


def evaluate_scenes(run: Path, each: int = 4, floors: int | None = None, batch: int = 16) -> SceneScores:
    """Put the exam of the held-out scenes to a run, shared out over all processes.

    Args:
        run: the folder that `train.py` wrote.
        each: questions of every type, and phrases to find, about each floor; annotation files are asked whole.
        floors: only so many of the held-out floors.
        batch: answers at a time; changes none.

    Raises:
        ValueError: the run is of another task, or nothing is held out.
    """
    world = find_world()
    experiment, task = open_run(run, Converse, "answers need 'converse'", world.device)
    data = experiment.data
    if isinstance(data, RoomsData) and floors is not None:
        experiment = replace(experiment, data=replace(data, held_out=min(floors, data.held_out)))
    source = open_turns(experiment, "validation")
    source.prepare(world.rank, world.size)
    exam = source.exam(each)
    mine = exam.turns[world.rank :: world.size]
    asked = exam.questions
    with torch.no_grad():
        said = gather_answers(_answers(task, mine, batch), asked)
        unseen = gather_answers(_answers(task, [_elsewhere(turn, exam) for turn in mine], batch), asked)
    scores = _score(exam, said, unseen, _training_questions(open_turns(experiment, "train")), _blind(source, each))
    return replace(scores, is_main=world.rank == 0)


def _answers(task: Converse, turns: Sequence[Turn], batch: int) -> list[tuple[str, str]]:
    device = next(task.parameters()).device
    moved = Pack(tuple(turns)).to(device)
    return list(zip((turn.id for turn in turns), task.answer(moved.samples, batch), strict=True))


def _elsewhere(turn: Turn, exam: Exam) -> Turn:
    """The same turn, shown the next scene of the exam; what it is shown of itself where there is only one."""
    names = list(exam.scenes)
    other = exam.scenes[names[(names.index(turn.scene) + 1) % len(names)]]
    points: PointSet = other.points
    if other.name == turn.scene and len(names) == 1:
        points = replace(points, features=torch.zeros_like(points.features), colours=torch.zeros_like(points.colours))
    return replace(turn, points=points)


def _score(
    exam: Exam, said: Mapping[str, str], unseen: Mapping[str, str], training: list[Question], blind: dict[str, Blind]
) -> SceneScores:
    scorer = Scorer()

    def report(kept: Sequence[Question], other: Mapping[str, str]) -> Report | None:
        if not kept:
            return None
        ids = [question.id for question in kept]
        return scorer(kept, {name: said[name] for name in ids}, {name: other[name] for name in ids})

    short = [question for question in exam.questions if question.type not in (*CAPTIONS, BOXES)]
    long = [question for question in exam.questions if question.type in CAPTIONS]
    guesses = BlindGuesses.of(training)(short) if short else {}
    guessed = scorer(short, guesses, guesses) if short else None
    rows = tuple(
        {
            "id": turn.id,
            "scene": turn.scene,
            "kind": turn.kind,
            "prompt": turn.prompt,
            "truth": turn.answer,
            "answer": said[turn.id],
            "shown_another_scene": unseen[turn.id],
        }
        for turn in exam.turns
    )
    return SceneScores(report(short, unseen), report(long, unseen), _boxes(exam, said, unseen), guessed, blind, rows)


def _boxes(exam: Exam, said: Mapping[str, str], unseen: Mapping[str, str]) -> GroundingReport | None:
    phrases = [question for question in exam.questions if question.id in exam.boxes]
    if not phrases:
        return None

    def read(answers: Mapping[str, str]) -> dict[str, Tensor | None]:
        found = {q.id: exam.scenes[q.scene].boxes_in(answers[q.id]) for q in phrases}
        return {name: boxes[0] if boxes else None for name, boxes in found.items()}

    truth = {question.id: corners_of(exam.boxes[question.id]) for question in phrases}
    return score_boxes(phrases, read(said), truth, read(unseen))


def _training_questions(source: RoomTurns | AnnotatedTurns) -> list[Question]:
    """Questions that could be learned from without seeing."""
    turns = (source.read(position % len(source), position) for position in range(4 * _TRAINING_FLOORS))
    kept = (turn for turn in turns if turn.kind not in (*CAPTIONS, BOXES, "plan", "dialogue"))
    return [Question(turn.id, turn.scene, turn.prompt, (turn.answer,), turn.kind) for turn in kept]


def _blind(source: RoomTurns | AnnotatedTurns, each: int) -> dict[str, Blind]:
    """Models of the words alone, trained on as many of the world's training floors as are at hand in its files."""
    if not isinstance(source, RoomTurns):
        return {}
    training = RoomTurns(source.data, source.points, "train", source.seed)
    some = range(min(_TRAINING_FLOORS, len(training)))
    seen = [question for index in some for question in questions(training.facts(index), each, source.seed)]
    held_out = [
        question for index in range(len(source)) for question in questions(source.facts(index), each, source.seed)
    ]
    return blind_accuracy(seen, held_out)


def write_scores(scores: SceneScores, path: Path, facts: Mapping[str, Any]) -> Path:
    """Write `results.json`: the scores, every answer, and where they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, **scores.to_dict()}, indent=2, default=str) + "\n")
    return path
