"""What is asked and said about the world's floors, one exchange at a time, each drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import torch

from genworld.data.scene_prompts import (
    CAPTION_PROMPTS,
    Standing,
    describe_prompt,
    ground_prompt,
    plan_prompt,
    seen_from,
    situated_prompt,
)
from genworld.ops.lifted import LiftedScene
from genworld.world.rooms.language import MAKERS, QUESTION_TYPES, Facts, Question, QuestionType
from genworld.world.rooms.language.captions import CAPTION_STYLES, caption, describe
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.plans import plans
from genworld.world.rooms.language.questions import choose
from genworld.world.rooms.language.referring import refer


class Exchange(NamedTuple):
    """What is said: earlier turns, what is asked, and the right answer; which things it is about, and from where."""

    prompt: str
    answer: str
    history: tuple[str, ...] = ()
    about: tuple[int, ...] = ()
    standing: tuple[float, float, float] | None = None


Teller = Callable[[Facts, LiftedScene, Random], "Exchange | None"]
"""Draws an exchange about a floor; None where the draw came to nothing."""


def exchange_of(question: Question, scene: LiftedScene) -> Exchange:
    """A question as it is put to a model."""
    told = question.situation
    standing = None if told is None else Standing(told.text, told.position, told.heading)
    prompt = situated_prompt(scene, question.text, standing)
    return Exchange(prompt, question.answer, about=question.things, standing=seen_from(standing))


def box_of(facts: Facts, scene: LiftedScene, index: int) -> str:
    """The box of a thing as location tokens."""
    box = facts.things[index].box
    return scene.box_text(torch.from_numpy(box.lower), torch.from_numpy(box.upper))


def _asker(kind: QuestionType) -> Teller:
    def tell(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
        question = choose(chance, MAKERS[kind])(facts, chance)
        return None if question is None else exchange_of(question, scene)

    return tell


def _caption(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    style = choose(chance, CAPTION_STYLES)
    return Exchange(CAPTION_PROMPTS[style], caption(facts, style))


def _dialogue(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    said = [turn.text for turn in dialogue(facts, chance.randrange(1 << 30))]
    place = 2 * chance.randrange(len(said) // 2)
    return Exchange(said[place], said[place + 1], tuple(said[:place]))


def _plan(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
    for plan in plans(facts, 1, chance.randrange(1 << 30)):
        return Exchange(plan_prompt(plan.goal, plan.situation), plan.text)
    return None


def _ground(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
    index = chance.randrange(len(facts))
    phrase = refer(facts, chance, index)
    if phrase is None:
        return None
    return Exchange(ground_prompt(phrase), box_of(facts, scene, index), about=(index,))


def _describe(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    index = chance.randrange(len(facts))
    return Exchange(describe_prompt(box_of(facts, scene, index)), describe(facts, index), about=(index,))


TELLERS: dict[str, Teller] = {
    **{kind: _asker(kind) for kind in QUESTION_TYPES},
    "caption": _caption,
    "dialogue": _dialogue,
    "plan": _plan,
    "ground": _ground,
    "describe": _describe,
}
"""How an exchange of each kind is drawn."""
