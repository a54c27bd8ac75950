"""Captions of floors and of single things."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Literal

from genworld.world.rooms.floor import Floor
from genworld.world.rooms.language.facts import Facts, article, listed, name_of, plural
from genworld.world.rooms.language.referring import refer

CaptionStyle = Literal["terse", "overview", "detailed"]
CAPTION_STYLES: tuple[CaptionStyle, ...] = ("terse", "overview", "detailed")

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def number(count: int) -> str:
    """In words up to ten."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def caption(floor: Floor | Facts, style: CaptionStyle = "overview") -> str:
    """What is on a floor.

    Styles: "terse" counts the kinds of things ("two chairs, a bed and a lamp"); "overview" goes through the rooms and
    names colours; "detailed" also tells sizes, materials and what stands on what.
    """
    facts = floor if isinstance(floor, Facts) else Facts(floor)
    if style == "terse":
        return listed(_grouped(Counter(thing.kind for thing in facts.things)))
    names = facts.floor.room_names
    rooms = "one room" if len(names) == 1 else f"{number(len(names))} rooms"
    sentences = [f"A floor with {rooms}: {listed([article(name) for name in names])}."]
    for room, name in enumerate(names):
        indices = [i for i, thing in enumerate(facts.things) if thing.room == room]
        sentences += _room(facts, name, indices, style == "detailed")
    return " ".join(sentences)


def describe(facts: Facts, index: int) -> str:
    """One thing, with what is on it, under it and next to it."""
    thing = facts.things[index]
    text = f"{article(f'{thing.size} {thing.material} {thing.colour} {thing.kind}')} in the "
    text += facts.floor.room_names[thing.room]
    if thing.on is not None:
        text += f", on {article(name_of(facts.things[thing.on]))}"
    elif facts.support(index) == "wall":
        text += ", on the wall"
    elif beside := sorted(i for i in range(len(facts)) if facts.next_to[index, i]):
        text += f", next to {listed([article(name_of(facts.things[i])) for i in beside[:2]])}"
    if above := facts.on(index):
        text += f", with {listed([article(name_of(facts.things[i])) for i in above])} on it"
    return f"{text[0].upper()}{text[1:]}."


def _room(facts: Facts, name: str, indices: list[int], detailed: bool) -> list[str]:
    base = [i for i in indices if facts.things[i].on is None]
    upper = [i for i in indices if facts.things[i].on is not None]
    if detailed:
        seen = [" ".join((t.size, t.material, t.colour, t.kind)) for t in (facts.things[i] for i in base)]
        parts = [article(phrase) for phrase in seen]
    else:
        parts = _grouped(Counter(name_of(facts.things[i]) for i in base))
    verb = "is" if len(base) == 1 or parts[0].startswith(("a ", "an ")) else "are"
    sentences = [f"In the {name} there {verb} {listed(parts)}."] if parts else []
    hosts = sorted({on for i in upper if (on := facts.things[i].on) is not None})
    for host in hosts:
        above = _grouped(Counter(name_of(facts.things[i]) for i in facts.on(host)))
        where = refer(facts, Random(host), host) or f"one {name_of(facts.things[host])}"
        verb = "stands" if len(facts.on(host)) == 1 else "stand"
        text = f"{listed(above)} {verb} on {where}."
        sentences.append(f"{text[0].upper()}{text[1:]}")
    return sentences


def _grouped(counts: Counter[str]) -> list[str]:
    """Counted: two red chairs, a bed."""
    parts = []
    for phrase, count in counts.items():
        *before, kind = phrase.split()
        parts.append(article(phrase) if count == 1 else " ".join((number(count), *before, plural(kind))))
    return parts
