"""Dialogues about a floor: questions that build on one another, with "it" for what was named before."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Literal, NamedTuple

from genworld.world.rooms.language.captions import number
from genworld.world.rooms.language.facts import Facts, article, listed, name_of, plural
from genworld.world.rooms.language.questions import choose
from genworld.world.rooms.language.referring import refer


class Turn(NamedTuple):
    """Something that is said, and the things it is about."""

    speaker: Literal["human", "assistant"]
    text: str
    things: tuple[int, ...] = ()


def dialogue(facts: Facts, seed: int = 0) -> list[Turn]:
    """A dialogue of three to six pairs of turns: a function of the floor and the seed."""
    chance = Random(f"{facts.floor.seed}/{seed}/dialogue")
    turns: list[Turn] = []

    def exchange(question: str, answer: str, *things: int) -> None:
        turns.append(Turn("human", question, things))
        turns.append(Turn("assistant", answer, things))

    names = facts.floor.room_names
    if len(names) > 1 and chance.random() < 0.5:
        exchange("Which rooms are there?", _sentence(listed([article(name) for name in names])))
    room = choose(chance, range(len(names)))
    here = [i for i, thing in enumerate(facts.things) if thing.room == room]
    counts = Counter(facts.things[i].kind for i in here)
    parts = [article(kind) if count == 1 else f"{number(count)} {plural(kind)}" for kind, count in counts.items()]
    exchange(f"What is in the {names[room]}?", _sentence(listed(parts)), *here)
    named = {i: phrase for i in here if (phrase := refer(facts, chance, i, hide=("colour",)))}
    if not named:
        return turns
    index = choose(chance, sorted(named))
    thing = facts.things[index]
    exchange(f"What colour is {named[index]}?", f"It is {thing.colour}.", index)
    if " large " not in f" {named[index]} " and " small " not in f" {named[index]} ":
        exchange("Is it small or large?", f"It is {thing.size}.", index)
    if chance.random() < 0.7:
        exchange(*_surroundings(facts, index), index)
    others = facts.kinds[thing.kind] - 1
    exchange(
        f"Are there other {plural(thing.kind)} on this floor?",
        f"Yes, {number(others)}." if others else "No, it is the only one.",
        *(i for i, t in enumerate(facts.things) if t.kind == thing.kind),
    )
    return turns


def _surroundings(facts: Facts, index: int) -> tuple[str, str]:
    host = facts.things[index].on
    if host is not None:
        return "What is it on?", f"It is on {article(name_of(facts.things[host]))}."
    if facts.support(index) == "wall":
        return "Where does it hang?", "It hangs on the wall."
    beside = [facts.things[i] for i in range(len(facts)) if facts.next_to[index, i]]
    if not beside:
        above = [article(name_of(facts.things[i])) for i in facts.on(index)]
        return "Is anything on it?", f"Yes, {listed(above)}." if above else "No."
    return "What is next to it?", _sentence(listed([article(name_of(other)) for other in beside]))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
