"""The exam about the world's floors: besides questions, boxes and captions, things to describe, dialogues and plans."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from genworld.data.questions import Question
from genworld.data.scene_prompts import describe_prompt, plan_prompt
from genworld.data.scene_turns import Exam, RoomTurns
from genworld.data.scene_turns_rooms import Exchange, box_of
from genworld.types import Turn
from genworld.world.rooms.language import Facts
from genworld.world.rooms.language.captions import describe
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.plans import plans

_DIALOGUE_TYPES = (
    ("rooms", "Which rooms"),
    ("contents", "What is in the"),
    ("colour", "What colour"),
    ("size", "Is it small or large"),
    ("others", "Are there other"),
)
"""Types of turns by how they begin; all others are about what is around a thing."""


@dataclass(frozen=True)
class RoomExam(Exam):
    """An exam about floors, of which all is known.

    Attributes:
        facts: of each floor, by its scene's name.
    """

    facts: Mapping[str, Facts]


def room_exam(source: RoomTurns, each: int = 4) -> RoomExam:
    """`RoomTurns.exam`, and of every floor things to describe, plans to make, and a dialogue to go on with.

    A turn of a dialogue is asked after what was rightly said before it. Its question has a type of its own
    ("dialogue/colour"); that of every other is the kind of its turn.

    Args:
        source: the floors.
        each: things to describe and plans to make, at most, and as `RoomTurns.exam`.
    """
    plain = source.exam(each)
    turns, questions = list(plain.turns), list(plain.questions)
    known: dict[str, Facts] = {}
    for index in range(len(source)):
        facts, lifted = source.facts(index), source.lifted(index)
        name = facts.floor.name
        known[name] = facts
        chance = Random(f"{name}/{source.seed}/more")
        things = sorted(chance.sample(range(len(facts)), min(each, len(facts))))
        described = [
            ("describe", Exchange(describe_prompt(box_of(facts, lifted, i)), describe(facts, i))) for i in things
        ]
        more = (*described, *_plans(facts, each, source.seed), *_dialogue(facts, source.seed))
        for number, (kind, said) in enumerate(more):
            what = kind.partition("/")[0]
            key = f"{name}/{kind}/{number}"
            turns.append(Turn(len(turns), name, lifted.points, said.history, said.prompt, said.answer, what, key))
            questions.append(Question(key, name, said.prompt, (said.answer,), kind))
    return RoomExam(tuple(turns), tuple(questions), plain.boxes, plain.scenes, known)


def _plans(facts: Facts, most: int, seed: int) -> Iterator[tuple[str, Exchange]]:
    for plan in plans(facts, most, seed):
        yield "plan", Exchange(plan_prompt(plan.goal, plan.situation), plan.text)


def _dialogue(facts: Facts, seed: int) -> Iterator[tuple[str, Exchange]]:
    said = [turn.text for turn in dialogue(facts, seed)]
    for place in range(0, len(said), 2):
        yield f"dialogue/{dialogue_type(said[place])}", Exchange(said[place], said[place + 1], tuple(said[:place]))


def dialogue_type(question: str) -> str:
    """What a turn of a dialogue asks for."""
    return next((kind for kind, start in _DIALOGUE_TYPES if re.match(start, question)), "surroundings")
