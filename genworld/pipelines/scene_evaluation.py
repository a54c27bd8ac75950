"""How well a run answers about held-out scenes, beside what can be answered without seeing them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genworld.data.questions import Question
from genworld.data.scene_exam import RoomExam, room_exam
from genworld.data.scene_turns import Exam, RoomsData, RoomTurns
from genworld.data.scene_turns_annotated import AnnotatedTurns
from genworld.eval.by_scene import Figure
from genworld.eval.grounding import CaptionReport, GroundingReport, corners_of, score_boxes
from genworld.eval.qa import BlindGuesses, Report, Scorer, gather_answers
from genworld.eval.qa_protocols import protocol
from genworld.eval.scene_texts import Shares, score_descriptions, score_plans
from genworld.experiment import open_turns
from genworld.ops.lifted import LiftedScene
from genworld.pipelines.runs import open_run, otherwise
from genworld.pipelines.scene_reports import ByFile, captions_in_boxes, groups_of, protocol_card, report_protocols
from genworld.tasks.converse import Converse
from genworld.train.runtime import find_world
from genworld.types import Pack, PointSet, Turn
from genworld.world.rooms.language import questions
from genworld.world.rooms.language.blind import Blind, blind_accuracy

CAPTIONS, DESCRIPTIONS, PLANS, BOXES, DIALOGUE = "caption", "describe", "plan", "ground", "dialogue/"
"""Types of questions with scores of their own; those of dialogues begin like that. All others have short answers."""
TRAINING_FLOORS = 300
"""How many floors the baselines learn from that see none."""

Turns = RoomTurns | AnnotatedTurns

_TOKENS = re.compile(r"\s*(?:<loc\d+>\s*)+")


@dataclass(frozen=True)
class SceneScores:
    """All that is known of a run's answers.

    Attributes:
        questions: short answers by type; the blind baseline is the model itself, shown another scene.
        captions: longer texts, scored by n-grams; None where there are none.
        descriptions: of things in boxes, likewise.
        parts: what descriptions of floors name rightly.
        dialogue: turns of dialogues by what they ask for, each after what was rightly said before.
        plans: whether they can be followed, and are those wanted; of floors.
        boxes: of phrases that were to be found, where the objects are that were named (see `Converse.at_objects`); None
            where there are none.
        told: the same as they were told, in location tokens.
        guesses: EM in percent of the most common answer to questions that begin alike in training, by type.
        blind: of models trained on the words of questions alone, by type; of the world's questions only.
        answers: every id with what was said, and what the model said that was shown another scene.
        floors: how many of the world's training floors the baselines learned from; 0 for annotation files.
        is_main: whether this process is the one that writes.
        protocols: short answers by the published protocols that were asked for.
        in_boxes: captions of given boxes as Scan2Cap scores them, by the least IoU; of annotation files only.
        left_out: how many entries of annotation files could not be asked, by reason.
    """

    questions: Report | None
    captions: Report | None
    descriptions: Report | None
    parts: Shares | None
    dialogue: Report | None
    plans: Shares | None
    boxes: GroundingReport | None
    told: GroundingReport | None
    guesses: Report | None
    blind: Mapping[str, Blind]
    answers: tuple[Mapping[str, Any], ...]
    floors: int = 0
    is_main: bool = True
    protocols: ByFile = field(default_factory=dict)
    in_boxes: Mapping[str, CaptionReport] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("questions", "captions", "descriptions", "parts", "dialogue", "plans", "boxes", "told", "guesses")
        parts = {name: getattr(self, name) for name in names}
        more: dict[str, Any] = {}
        if self.protocols:
            by_file = {
                name: {file: report.to_dict() for file, report in x.items()} for name, x in self.protocols.items()
            }
            more |= {"protocols": by_file, "left_out": dict(self.left_out)}
        if self.in_boxes:
            more["in_boxes"] = {least: report.to_dict() for least, report in self.in_boxes.items()}
        return {
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            **more,
            "floors": self.floors,
            "blind": {kind: asdict(found) | {"best": found.best} for kind, found in self.blind.items()},
            "answers": list(self.answers),
        }

    def __str__(self) -> str:
        names = ("questions", "captions", "descriptions", "parts", "dialogue", "plans")
        lines = [f"{name}: {part}" for name in names if (part := getattr(self, name)) is not None]
        lines += [f"{file} by {report}" for files in self.protocols.values() for file, report in files.items()]
        lines += [f"captions of given boxes at IoU {least}: {report}" for least, report in self.in_boxes.items()]
        for name, boxes in (("boxes", self.boxes), ("boxes as told", self.told)):
            if boxes is not None:
                said = ", ".join(f"{name} {figure}" for name, figure in boxes.scores.items())
                blind = ", ".join(f"{name} {figure}" for name, figure in boxes.blind.items())
                lines.append(f"{name}: {boxes.num} phrases, {boxes.num_missing} without a box: {said}")
                lines.append(f"  blind {blind}; gain {boxes.gain}")
                lines += [_group(group, found) for group, found in boxes.by_group.items()]
        if self.guesses is not None:
            learned = f" in {self.floors} training floors" if self.floors else ""
            lines.append(f"most common answers{learned}: EM {self.guesses.scores['em']}")
        if "all" in self.blind:
            kinds = ", ".join(f"{kind} {found.best:.3f}" for kind, found in self.blind.items())
            lines.append(f"models of the questions' words alone: {kinds}")
        return "\n".join(lines)


def evaluate_scenes(
    run: Path,
    each: int = 4,
    floors: int | None = None,
    batch: int = 16,
    blind: int = TRAINING_FLOORS,
    overrides: Sequence[str] = (),
    protocols: Sequence[str] = (),
) -> SceneScores:
    """Put the exam of the held-out scenes to a run, shared out over all processes.

    Args:
        run: the folder that `train.py` wrote.
        each: questions of every type, phrases to find, things to describe, and plans, about each floor; annotation
            files are asked whole.
        floors: only so many of the held-out floors.
        batch: answers at a time; changes none.
        blind: how many of the training floors the baselines learn from that see none.
        overrides: what is otherwise than in training, such as `task.points.lifter={kind: fusion}`.
        protocols: names of published ones (see `qa_protocols.PROTOCOLS`) by which the short answers of each file are
            scored too.

    Raises:
        ValueError: the run is of another task, nothing is held out, what was learned would be otherwise, or there is no
            such protocol.
    """
    ways = [protocol(name) for name in dict.fromkeys(protocols)]
    world = find_world()
    experiment, task = open_run(run, Converse, "answers need 'converse'", world.device)
    experiment = otherwise(experiment, run, overrides)
    data = experiment.data
    if isinstance(data, RoomsData) and floors is not None:
        experiment = replace(experiment, data=replace(data, held_out=min(floors, data.held_out)))
    source = open_turns(experiment, "validation")
    source.prepare(world.rank, world.size)
    exam = room_exam(source, each) if isinstance(source, RoomTurns) else source.exam()
    mine = exam.turns[world.rank :: world.size]
    asked = exam.questions
    if ways and not _short(exam):
        raise ValueError(f"{ways[0].name} scores short answers, but the held-out files ask for none: leave it out")
    with torch.no_grad():
        said = gather_answers(_answers(task, mine, batch), asked)
        unseen = gather_answers(_answers(task, [_elsewhere(turn, exam) for turn in mine], batch), asked)
    baselines = _learn(source, open_turns(experiment, "train"), each, blind)
    scores = _score(task, exam, said, unseen, baselines)
    more = report_protocols(ways, exam, _short(exam), said, unseen)
    skipped = source.skipped if isinstance(source, AnnotatedTurns) else []
    left_out = Counter(item.reason for item in skipped)
    return replace(scores, is_main=world.rank == 0, protocols=more, left_out=left_out)


def _answers(task: Converse, turns: Sequence[Turn], batch: int) -> list[tuple[str, str]]:
    device = next(task.parameters()).device
    moved = Pack(tuple(turns)).to(device)
    return list(zip((turn.id for turn in turns), task.answer(moved.samples, batch), strict=True))


def _elsewhere(turn: Turn, exam: Exam) -> Turn:
    """The same turn, shown the next scene of the exam; what it is shown of itself where there is only one."""
    other = _next(exam, turn.scene)
    points: PointSet = other.points
    if other.name == turn.scene:
        points = replace(points, features=torch.zeros_like(points.features), colours=torch.zeros_like(points.colours))
    return replace(turn, points=points)


def _next(exam: Exam, name: str) -> LiftedScene:
    names = list(exam.scenes)
    return exam.scenes[names[(names.index(name) + 1) % len(names)]]


@dataclass(frozen=True)
class _Baselines:
    """What was learned without seeing: questions, accuracies of models of their words, and from how many floors."""

    training: Sequence[Question]
    words: Mapping[str, Blind]
    floors: int


def _score(
    task: Converse, exam: Exam, said: Mapping[str, str], unseen: Mapping[str, str], baselines: _Baselines
) -> SceneScores:
    scorer = Scorer()

    def report(kept: Sequence[Question]) -> Report | None:
        ids = [question.id for question in kept]
        return scorer(kept, {name: said[name] for name in ids}, {name: unseen[name] for name in ids}) if kept else None

    def of(*kinds: str) -> list[Question]:
        return [question for question in exam.questions if question.type in kinds]

    talk = [
        replace(question, type=question.type.removeprefix(DIALOGUE))
        for question in exam.questions
        if question.type.startswith(DIALOGUE)
    ]
    short = _short(exam)
    guesses = BlindGuesses.of(baselines.training)(map(_without_tokens, short)) if short else {}
    described, planned = of(DESCRIPTIONS), of(PLANS)
    world = isinstance(exam, RoomExam)
    return SceneScores(
        questions=report(short),
        captions=report(of(CAPTIONS)),
        descriptions=report(described),
        parts=score_descriptions(described, said, unseen) if world and described else None,
        dialogue=report(talk),
        plans=score_plans(planned, said, unseen, exam.facts) if isinstance(exam, RoomExam) and planned else None,
        boxes=_boxes(exam, said, unseen, task),
        told=_boxes(exam, said, unseen),
        guesses=scorer(short, guesses, guesses) if short else None,
        blind=baselines.words,
        answers=tuple(_rows(exam, said, unseen)),
        floors=baselines.floors,
        in_boxes=captions_in_boxes(exam, said, unseen),
    )


def _short(exam: Exam) -> list[Question]:
    """Questions with short answers; plans that are not about floors, and so cannot be followed, are among them."""
    special = {CAPTIONS, DESCRIPTIONS, BOXES, *((PLANS,) if isinstance(exam, RoomExam) else ())}
    return [q for q in exam.questions if q.type not in special and not q.type.startswith(DIALOGUE)]


def _group(name: str, scores: Mapping[str, Figure]) -> str:
    said = ", ".join(f"{score} {figure}" for score, figure in scores.items())
    return f"  {name} {next(iter(scores.values())).num}: {said}"


def _rows(exam: Exam, said: Mapping[str, str], unseen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for turn in exam.turns:
        yield {
            "id": turn.id,
            "scene": turn.scene,
            "kind": turn.kind,
            "history": turn.history,
            "prompt": turn.prompt,
            "truth": turn.answer,
            "answer": said[turn.id],
            "shown_another_scene": unseen[turn.id],
        }


def _boxes(
    exam: Exam, said: Mapping[str, str], unseen: Mapping[str, str], task: Converse | None = None
) -> GroundingReport | None:
    """Scores of boxes as they were told, or of the objects that a model that finds objects meant by them."""
    phrases = [question for question in exam.questions if question.id in exam.boxes]
    if not phrases:
        return None

    def read(answers: Mapping[str, str], shown: Callable[[str], LiftedScene]) -> dict[str, Tensor | None]:
        found = dict[str, Tensor | None]()
        for name, scene in exam.scenes.items():
            ids = [question.id for question in phrases if question.scene == name]
            told = {each: boxes[0] for each in ids if (boxes := scene.boxes_in(answers[each]))}
            meant = list(told.values()) if task is None else task.at_objects(shown(name), list(told.values()))
            found |= dict.fromkeys(ids) | dict(zip(told, meant, strict=True))
        return found

    truth = {question.id: corners_of(exam.boxes[question.id]) for question in phrases}
    blind = read(unseen, lambda name: _next(exam, name))
    return score_boxes(phrases, read(said, lambda name: exam.scenes[name]), truth, blind, groups_of(exam, phrases))


def _learn(source: Turns, training: Turns, each: int, floors: int) -> _Baselines:
    """What can be learned without seeing, from annotation files or from so many of the world's training floors."""
    if not isinstance(source, RoomTurns) or not isinstance(training, RoomTurns):
        turns = (training.read(index, index) for index in range(len(training)))
        asked = [_asked(turn.prompt, turn.answer) for turn in turns if turn.kind not in (DESCRIPTIONS, BOXES)]
        return _Baselines(asked, {}, 0)
    floors = min(floors, len(training))
    seen, held_out = (
        [question for index in range(count) for question in questions(some.facts(index), each, source.seed)]
        for some, count in ((training, floors), (source, len(source)))
    )
    asked = [_asked(f"{q.situation.text if q.situation else ''} {q.text}", q.answer) for q in seen]
    return _Baselines(asked, blind_accuracy(seen, held_out), floors)


def _asked(text: str, answer: str) -> Question:
    return _without_tokens(Question("", "", text, (answer,)))


def _without_tokens(question: Question) -> Question:
    """Its words alone: location tokens, which are nearly always new, would end what questions have in common."""
    return replace(question, text=_TOKENS.sub(" ", question.text).strip())


def write_scores(scores: SceneScores, path: Path, facts: Mapping[str, Any]) -> Path:
    """Write `results.json`: the scores, every answer, and where they come from; with protocols, a card beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, **scores.to_dict()}, indent=2, default=str) + "\n")
    if scores.protocols:
        card = path.with_name("card.md" if path.name == "results.json" else f"{path.stem}-card.md")
        card.write_text(protocol_card(scores.protocols, scores.left_out, facts), "utf-8")
    return path
