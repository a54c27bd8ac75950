"""Longer answers about the world's floors, read: what a description tells, and whether a plan can be followed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from genworld.data.questions import Question
from genworld.eval.by_scene import Figure, number_scenes, percent
from genworld.world.rooms.language import Facts
from genworld.world.rooms.language.mentions import mentions
from genworld.world.rooms.language.referring import fits

Marks = Mapping[str, float]
"""What an answer earns by name, 0 to 1."""

_THING = r"the [a-z ]+"
_STEPS = (
    r"go through the door into the [a-z ]+",
    rf"(?:walk to|pick up|turn on|turn off|sit down on|lie down on|start to work at) {_THING}",
    rf"(?:drop {_THING} into|put {_THING} on|move {_THING} to|water {_THING} from) {_THING}",
    rf"fill {_THING} with water at {_THING}",
    rf"(?:take some food out of|cook the food on|serve the food on) {_THING}",
)
_STEP = re.compile(rf"(?:{'|'.join(_STEPS)})\.")
_ROOM = re.compile(r"into the ([a-z ]+)\.")
_NUMBERED = re.compile(r"(\d+)\. (.*)")


@dataclass(frozen=True)
class Shares:
    """Marks of answers in percent, beside those of a baseline that sees another scene.

    Attributes:
        num: how many answers.
        scores: by name.
        blind: the same of the baseline.
    """

    num: int
    scores: Mapping[str, Figure]
    blind: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        said = (f"{name} {figure} (blind {self.blind[name].value:.1f})" for name, figure in self.scores.items())
        return f"{self.num}: {', '.join(said)}"


def score_descriptions(questions: Sequence[Question], answers: Mapping[str, str], blind: Mapping[str, str]) -> Shares:
    """Whether descriptions name the kind, colour and size of their thing, and all of these, first of all.

    Args:
        questions: each with the true description.
        answers: by id.
        blind: of the baseline, by id.
    """
    return _shares(questions, answers, blind, lambda question, said: mark_description(said, question.answers[0]))


def score_plans(
    questions: Sequence[Question], answers: Mapping[str, str], blind: Mapping[str, str], facts: Mapping[str, Facts]
) -> Shares:
    """Whether plans can be followed on their floor, and are the ones wanted; see `mark_plan`.

    Args:
        questions: each with the true plan.
        answers: by id.
        blind: of the baseline, by id.
        facts: of the floors, by scene.
    """
    return _shares(
        questions, answers, blind, lambda question, said: mark_plan(said, question.answers[0], facts[question.scene])
    )


def mark_description(said: str, truth: str) -> Marks:
    """Compares what the first thing that both texts name is called."""
    named, meant = mentions(said), mentions(truth)[0].meant
    if not named:
        return dict.fromkeys(("kind", "colour", "size", "all three"), 0.0)
    found = named[0].meant
    parts = {name: float(getattr(found, name) == getattr(meant, name)) for name in ("kind", "colour", "size")}
    return {**parts, "all three": min(parts.values())}


def mark_plan(said: str, truth: str, facts: Facts) -> Marks:
    """A plan's marks. Capitals make no difference: not every language model writes any.

    - well-formed: there are steps, numbered from one, each of a form that the world's plans have.
    - things exist: every thing that it names is on the floor, and every room; it names some.
    - steps: how many are those wanted, in their place, of the longer plan's.
    - exact: it is the plan wanted. Others may do as well: this is the least that can be said for a plan.
    """
    lines, wanted = said.strip().lower().splitlines(), truth.lower().splitlines()
    numbered = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    steps = [match[2] for match in numbered if match]
    formed = bool(lines) and all(
        match is not None and int(match[1]) == number and _STEP.fullmatch(match[2])
        for number, match in enumerate(numbered, 1)
    )
    named = [mention.meant for step in steps for mention in mentions(step)]
    rooms = [room for step in steps for room in _ROOM.findall(step) if step.startswith("go ")]
    exist = bool(named) and all(fits(facts, phrase) for phrase in named)
    same = sum(one.strip() == other for one, other in zip(lines, wanted, strict=False))
    return {
        "well-formed": float(formed),
        "things exist": float(exist and set(rooms) <= set(facts.floor.room_names)),
        "steps": same / max(len(lines), len(wanted)),
        "exact": float(same == len(lines) == len(wanted)),
    }


def _shares(
    questions: Sequence[Question],
    answers: Mapping[str, str],
    blind: Mapping[str, str],
    mark: Callable[[Question, str], Marks],
) -> Shares:
    places = number_scenes([question.scene for question in questions])

    def figures(said: Mapping[str, str]) -> dict[str, Figure]:
        rows = [mark(question, said[question.id]) for question in questions]
        return {name: percent(np.array([row[name] for row in rows]), places) for name in rows[0]}

    return Shares(len(questions), figures(answers), figures(blind))
