"""Scores of answers about scenes that are published with annotation files: by named protocols, and of boxes' captions.

The answers are those that `scene_evaluation` scores: nothing is asked again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genworld.data.questions import Question
from genworld.data.scene_turns import Exam
from genworld.data.scene_turns_annotated import AnnotatedExam
from genworld.eval.grounding import (
    THRESHOLDS,
    CaptionReport,
    box_iou,
    caption_key,
    caption_references,
    corners_of,
    score_captions,
    unique_or_multiple,
)
from genworld.eval.meteor import nltk_meteor
from genworld.eval.qa import Answers, Report, Scorer
from genworld.eval.qa_protocols import Protocol

FLOORS = "floors"
"""What questions about the world's floors are called, which are of no file."""

ByFile = Mapping[str, Mapping[str, Report]]
"""Reports by the name of the protocol, and by what the file of the questions is called."""


def report_protocols(
    ways: Sequence[Protocol], exam: Exam, questions: Sequence[Question], answers: Answers, blind: Answers
) -> dict[str, dict[str, Report]]:
    """Each file by each protocol: CIDEr-D depends on the set that is scored, so that no two benchmarks may be mixed.

    Args:
        ways: the protocols.
        exam: knows which file a question is of.
        questions: with short answers.
        answers: to all questions of the exam, at least.
        blind: those of a model that was shown another scene.
    """
    files: dict[str, list[Question]] = {}
    for question in questions:
        files.setdefault(exam.files[question.id] if isinstance(exam, AnnotatedExam) else FLOORS, []).append(question)
    return {way.name: {name: _report(way, some, answers, blind) for name, some in files.items()} for way in ways}


def _report(way: Protocol, questions: Sequence[Question], answers: Answers, blind: Answers) -> Report:
    said, unseen = ({question.id: texts[question.id] for question in questions} for texts in (answers, blind))
    return Scorer(way)(questions, said, unseen)


def groups_of(exam: Exam, phrases: Sequence[Question]) -> dict[str, str] | None:
    """ScanRefer's groups, unique and multiple, of phrases by id; None where there is no file of them."""
    if not isinstance(exam, AnnotatedExam):
        return None
    return {question.id: unique_or_multiple(question, exam.named[question.scene]) for question in phrases}


def captions_in_boxes(exam: Exam, answers: Answers, blind: Answers) -> dict[str, CaptionReport]:
    """Scan2Cap's m@kIoU of objects whose boxes are given, by k; nothing where there are none.

    A box counts as the location tokens tell it, and that is not exactly: of small things, it may be wrong. Published
    figures are mostly of boxes that a detector finds, which are worse.
    """
    if not isinstance(exam, AnnotatedExam) or not exam.described:
        return {}
    prompts = {turn.id: turn.prompt for turn in exam.turns}
    asked = [question for question in exam.questions if question.id in exam.described]
    one = {caption_key(question): question for question in asked}  # all phrases of an object ask the same of the model
    ious = {}
    for key, question in one.items():
        (told,) = exam.scenes[question.scene].boxes_in(prompts[question.id])
        ious[key] = float(box_iou(told[None], corners_of(exam.described[question.id])[None]))
    said, unseen = ({key: texts[question.id] for key, question in one.items()} for texts in (answers, blind))
    references = caption_references(asked)
    return {
        f"{least:g}": score_captions(said, ious, references, unseen, least, meteor=nltk_meteor())
        for least in THRESHOLDS
    }


def protocol_card(reports: ByFile, left_out: Mapping[str, int], facts: Mapping[str, Any]) -> str:
    """A card in markdown: a table for each file and protocol, with quirks, and where the numbers come from.

    Args:
        reports: what is shown.
        left_out: entries of all files that could not be asked, by reason.
        facts: for the end; what is under "provenance" comes last.
    """
    lines = [
        "# Answers about scenes, by protocol",
        "",
        "Percent. Brackets: 95 % intervals over scenes. Blind: the same model, shown another scene. Figures of two",
        "protocols, or of two sets of questions, are not comparable.",
    ]
    for name, files in reports.items():
        for file, report in files.items():
            lines += ["", f"## {file} by {name}", "", *_table(report)]
    lines += ["", *(f"- {count} entries of the files left out: {reason}" for reason, count in left_out.items())]
    origin = {**facts, **facts.get("provenance", {})}
    lines += ["", *(f"- {key}: {value}" for key, value in origin.items() if key != "provenance")]
    return "\n".join(lines) + "\n"


def _table(report: Report) -> Iterator[str]:
    left = f"; {report.num_left_out} about other scenes left out" if report.num_left_out else ""
    yield f"{report.num} questions about {report.num_scenes} scenes{left}; tokens: {report.tokeniser}."
    yield ""
    yield from (f"- note: {quirk}" for quirk in report.quirks)
    yield from ([""] if report.quirks else [])
    yield from ("| score | value | blind |", "| --- | ---: | ---: |")
    yield from (f"| {name} | {figure} | {report.blind.get(name, '-')} |" for name, figure in report.scores.items())
    yield f"| gain over the blind baseline | {report.gain} | |"
