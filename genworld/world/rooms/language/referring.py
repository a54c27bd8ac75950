"""Referring expressions: phrases that fit one thing of a floor and no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Literal

from genworld.world.rooms.language.facts import Facts

Attribute = Literal["colour", "size"]
Relation = Literal["", "on", "next to", "in the same room as"]


@dataclass(frozen=True)
class Phrase:
    """A description of a thing.

    Attributes:
        kind: what it is.
        colour: None where that is not said.
        size: None where that is not said.
        relation: "on", "next to" or "in the same room as", with `anchor`; "" without.
        anchor: what it is related to; described by kind and colour only.
    """

    kind: str
    colour: str | None = None
    size: str | None = None
    relation: Relation = ""
    anchor: Phrase | None = None

    def __str__(self) -> str:
        words = [word for word in (self.size, self.colour, self.kind) if word]
        tail = f" {self.relation} {self.anchor}" if self.anchor else ""
        return f"the {' '.join(words)}{tail}"

    @property
    def words(self) -> int:
        """How long it is."""
        return len(str(self).split())


@dataclass(frozen=True)
class Reference:
    """A phrase and the only thing that it fits."""

    text: str
    thing: int
    distractors: int


def fits(facts: Facts, phrase: Phrase) -> list[int]:
    """All things that a phrase describes."""
    found = [
        i
        for i, thing in enumerate(facts.things)
        if thing.kind == phrase.kind and phrase.colour in (None, thing.colour) and phrase.size in (None, thing.size)
    ]
    if phrase.anchor is None:
        return found
    anchors = fits(facts, phrase.anchor)
    return [i for i in found if any(i != j and _related(facts, phrase.relation, i, j) for j in anchors)]


def _related(facts: Facts, relation: str, one: int, other: int) -> bool:
    if relation == "on":
        return facts.things[one].on == other
    if relation == "next to":
        return not bool(facts.apart[one, other])  # a reader may take what is in between either way
    return facts.same_room(one, other)


def phrases(facts: Facts, index: int, hide: tuple[Attribute, ...] = ()) -> list[Phrase]:
    """Phrases that fit only this thing, shortest first; `hide` are attributes that must not be told."""
    thing = facts.things[index]
    colours = (None,) if "colour" in hide else (None, thing.colour)
    sizes = (None,) if "size" in hide else (None, thing.size)
    found = [
        phrase
        for colour, size in product(colours, sizes)
        if fits(facts, phrase := Phrase(thing.kind, colour, size)) == [index]
    ]
    if not found:
        found = [
            phrase
            for colour in colours
            for relation, anchor in _relations(facts, index)
            if fits(facts, phrase := Phrase(thing.kind, colour, None, relation, anchor)) == [index]
        ]
    return sorted(found, key=lambda phrase: (phrase.words, str(phrase)))


def _relations(facts: Facts, index: int) -> Iterator[tuple[Relation, Phrase]]:
    for j, other in enumerate(facts.things):
        if j == index:
            continue
        simple = [Phrase(other.kind), Phrase(other.kind, other.colour)]
        anchor = next((phrase for phrase in simple if fits(facts, phrase) == [j]), None)
        if anchor is None:
            continue
        if facts.things[index].on == j:
            yield "on", anchor
        elif facts.next_to[index, j]:
            yield "next to", anchor
        elif facts.same_room(index, j) and len(facts.floor.plan.rooms) > 1:
            yield "in the same room as", anchor


def refer(facts: Facts, chance: Random, index: int, hide: tuple[Attribute, ...] = ()) -> str | None:
    """A short phrase for a thing, with some variety; None when no phrase fits it alone."""
    found = phrases(facts, index, hide)
    if not found:
        return None
    few = [phrase for phrase in found if phrase.words <= found[0].words + 1]
    return str(few[int(chance.random() * len(few))])


def references(facts: Facts, chance: Random, each: int = 1) -> list[Reference]:
    """Referring expressions for all things that have one, up to `each` per thing."""
    made = []
    for index, thing in enumerate(facts.things):
        found = phrases(facts, index)
        chosen = chance.sample(found, min(each, len(found)))
        made += [Reference(str(phrase), index, facts.kinds[thing.kind] - 1) for phrase in chosen]
    return made
