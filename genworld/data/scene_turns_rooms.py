"""What is asked and said about the world's floors, one exchange at a time, each drawn anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
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
    where_prompt,
)
from genworld.ops.lifted import LiftedScene
from genworld.types import About, Counted, Told
from genworld.world.rooms.furniture import COLOURS
from genworld.world.rooms.language import MAKERS, Facts, Maker, Question
from genworld.world.rooms.language.captions import CAPTION_STYLES, caption, describe
from genworld.world.rooms.language.dialogue import dialogue
from genworld.world.rooms.language.facts import plural
from genworld.world.rooms.language.mentions import every_mention, mentions
from genworld.world.rooms.language.plans import plans
from genworld.world.rooms.language.questions import MOST, choose
from genworld.world.rooms.language.referring import fits, refer


class Exchange(NamedTuple):
    """What is said: earlier turns, what is asked, the right answer; which things both are about, and from where."""

    prompt: str
    answer: str
    history: tuple[str, ...] = ()
    about: tuple[About, ...] = ()
    standing: tuple[float, float, float] | None = None
    counted: tuple[Counted, ...] = ()
    told: tuple[Told, ...] = ()


_COUNTED = MOST + 1
"""Things that are counted together at most: each of them has one part in so many of what is looked at."""

_HOLDS = 0.5
"""How much of what is looked at last is the first of two things that stand in the relation that is asked for."""

_TOLD_HOW = 0.7
"""How often who asks where a thing is says that they want a box; people rarely do."""

Teller = Callable[[Facts, LiftedScene, Random], "Exchange | None"]
"""Draws an exchange about a floor; None where the draw came to nothing."""


def exchange_of(question: Question, facts: Facts, scene: LiftedScene) -> Exchange:
    """A question as it is put to a model."""
    told = question.situation
    standing = None if told is None else Standing(told.text, told.position, told.heading)
    prompt = situated_prompt(scene, question.text, standing)
    things = () if question.template == "in a room" else question.things  # what it names tells the rest
    about = known_at(facts, prompt, things, counted=question.type == "count" or question.template == "more")
    about = (*about, *_telling(facts, question, prompt))
    counted = _counted(facts, question, prompt)
    return Exchange(prompt, question.answer, about=about, standing=seen_from(standing), counted=counted)


def _telling(facts: Facts, question: Question, prompt: str) -> tuple[About, ...]:
    """What tells the answer when it is looked at last, and what must not be; and from where distances are judged.

    Of a choice, the one that it is; whether two things are as is asked, by the word that names the second of them; and
    of what is in a room with something, nothing of other rooms.
    """
    end, named = len(prompt), len(prompt.rstrip("?"))
    if question.type == "relation" and question.options:
        return (About(question.things[0], named, _HOLDS if question.answer == "yes" else 0.0, late=True),)
    if question.template == "same colour":
        second = re.search(rf"the {facts.things[question.things[1]].kind}\b", prompt)
        assert second is not None, "the question names both"
        return (About(question.things[0], second.end(), _HOLDS if question.answer == "yes" else 0.0, late=True),)
    if question.type == "comparison" and question.answer in COLOURS:
        told = (i for i in question.things[:2] if facts.things[i].colour == question.answer)
        return (*(About(i, end, late=True) for i in told), *(About(i, end) for i in question.things[2:]))
    if question.template == "in a room":
        kind = mentions(prompt)[0].meant.kind
        alike = [i for i, thing in enumerate(facts.things) if thing.kind == kind]
        here = [i for i in alike if i in question.things]
        share = 1 / _COUNTED if question.type == "count" else _HOLDS / max(1, len(here))
        return tuple(About(i, named, share if i in here else 0.0, late=True) for i in alike)
    return ()


def _counted(facts: Facts, question: Question, prompt: str) -> tuple[Counted, ...]:
    """What a question counts, and by which words it is known: how many there are, whether any, or of which more.

    Whether two things are as is asked is whether the first is among those that stand so to the second.
    """
    named = len(prompt.rstrip("?"))
    if (question.type == "relation" and question.options) or question.template == "same colour":
        (told,) = _telling(facts, question, prompt)
        return (Counted(told.known_at, question.things[:1] if question.answer == "yes" else ()),)
    if question.template == "more":
        ends = [(match[0], match.end()) for match in re.finditer("|".join(COLOURS), prompt)]
        return tuple(Counted(end, tuple(i for i in question.things if facts.things[i].colour == x)) for x, end in ends)
    if question.type not in ("count", "existence"):
        return ()
    if question.template == "in a room":
        return (Counted(named, question.things[question.type == "existence" :]),)  # the first is what tells the room
    found = mentions(prompt)
    return (Counted(found[0].noun if found else named, question.things),)


def known_at(facts: Facts, prompt: str, things: Iterable[int], counted: bool = False) -> tuple[About, ...]:
    """Where in a prompt it can be known of each thing that it is about it; then the same of others that it names.

    A phrase that fits one thing alone tells it where it ends, "the red one" of a choice there, a lone noun ("How many
    chairs are there?") or a colour at once, and anything else at the end. Things that are known together share what is
    looked at; where they are counted, each has the same part of it, so that it tells how many there are.
    """
    named, single = mentions(prompt), dict[int, int]()
    for mention in named:
        plain = replace(mention.meant, relation="", anchor=None)
        for phrase, end in ((mention.meant, mention.end), (plain, mention.noun)):
            if len(fit := fits(facts, phrase)) == 1:
                single[fit[0]] = end
    found = dict[int, list[int]]()
    for thing in things:
        told = facts.things[thing]
        words = [f"{told.colour} one"] if " one " in prompt else [told.kind, plural(told.kind), told.colour]
        word = _last(prompt, words) if len(named) <= 1 or " one " in prompt else None
        found.setdefault(single.pop(thing, 0) or word or len(prompt), []).append(thing)
    shares = {end: 1 / (_COUNTED if counted else len(them)) for end, them in found.items()}
    about = [About(thing, end, shares[end]) for end, them in found.items() for thing in them]
    return (*about, *(About(*other) for other in single.items()))


def told_in(facts: Facts, answer: str, among: Iterable[int] = (), first: int | None = None) -> tuple[Told, ...]:
    """Which words of an answer tell of which things: all those that a phrase fits share it.

    Args:
        facts: of the floor.
        answer: names things.
        among: where it names some of these, no others are meant.
        first: what it names first, where that is known.
    """
    found, among = list[Told](), set(among)
    for number, mention in enumerate(every_mention(answer)):
        meant = fits(facts, mention.meant)
        things = [first] if number == 0 and first is not None else [i for i in meant if i in among] or meant
        found += [Told(thing, mention.start, mention.noun, 1 / len(things)) for thing in things]
    return tuple(found)


def _last(text: str, words: Iterable[str]) -> int | None:
    """Where the last of some words ends; None where there is none."""
    return max((match.end() for word in words for match in re.finditer(rf"\b{word}\b", text)), default=None)


def box_of(facts: Facts, scene: LiftedScene, index: int) -> str:
    """The box of a thing as location tokens."""
    box = facts.things[index].box
    return scene.box_text(torch.from_numpy(box.lower), torch.from_numpy(box.upper))


def _asker(makers: Sequence[Maker]) -> Teller:
    def tell(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
        question = choose(chance, makers)(facts, chance)
        return None if question is None else exchange_of(question, facts, scene)

    return tell


def _caption(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    style = choose(chance, CAPTION_STYLES)
    text = caption(facts, style)
    return Exchange(CAPTION_PROMPTS[style], text, told=told_in(facts, text))


def _dialogue(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    turns = dialogue(facts, chance.randrange(1 << 30))
    said = [turn.text for turn in turns]
    place = 2 * chance.randrange(len(said) // 2)
    prompt, answer, things = said[place], said[place + 1], turns[place].things
    about = known_at(facts, prompt, things) if len(things) == 1 else ()
    counted = (Counted(mentions(prompt)[0].noun, things),) if " other " in prompt else ()  # and one less is said
    told = told_in(facts, answer, _around(facts, things))
    return Exchange(prompt, answer, tuple(said[:place]), about, counted=counted, told=told)


def _plan(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
    for plan in plans(facts, 1, chance.randrange(1 << 30)):
        prompt = plan_prompt(plan.goal, plan.situation)
        return Exchange(prompt, plan.text, about=known_at(facts, prompt, ()), told=told_in(facts, plan.text))
    return None


def _ground(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange | None:
    index = chance.randrange(len(facts))
    phrase = refer(facts, chance, index)
    if phrase is None:
        return None
    prompt = (ground_prompt if chance.random() < _TOLD_HOW else where_prompt)(phrase)
    return Exchange(prompt, box_of(facts, scene, index), about=known_at(facts, prompt, (index,)))


def _describe(facts: Facts, scene: LiftedScene, chance: Random) -> Exchange:
    index = chance.randrange(len(facts))
    prompt, text = describe_prompt(box_of(facts, scene, index)), describe(facts, index)
    told = told_in(facts, text, _around(facts, (index,)), first=index)
    return Exchange(prompt, text, about=(About(index, len(prompt)),), told=told)


def _around(facts: Facts, things: Sequence[int]) -> set[int]:
    """Things, and what each stands on, bears and stands next to where it is alone."""
    if len(things) != 1:
        return set(things)
    (index,), beside = things, range(len(facts))
    host = facts.things[index].on
    return {*facts.on(index), *(i for i in beside if facts.next_to[index, i])} | ({host} if host is not None else set())


TELLERS: dict[str, Teller] = {
    **{kind: _asker(makers) for kind, makers in MAKERS.items()},
    **{f"{kind}/{one.__name__}": _asker((one,)) for kind, makers in MAKERS.items() for one in makers},
    "caption": _caption,
    "dialogue": _dialogue,
    "plan": _plan,
    "ground": _ground,
    "describe": _describe,
}
"""How an exchange of each kind is drawn; questions of one form alone too, such as `count/count_in_room`."""
