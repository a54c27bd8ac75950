"""Questions with answers about a floor, balanced so that the question alone does not give the answer away.

Each maker draws the answer first and then looks for a question that has it; where the things asked about could hint at
the answer, the two answers are drawn from the same kinds of things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, TypeVar

from genworld.world.rooms.floor import Floor
from genworld.world.rooms.furniture import COLOURS, KINDS, SIZES
from genworld.world.rooms.language.facts import Facts, Situation, article, plural
from genworld.world.rooms.language.referring import Phrase, refer

QuestionType = Literal["existence", "count", "colour", "size", "relation", "comparison", "situated"]
QUESTION_TYPES: tuple[QuestionType, ...] = (
    "existence",
    "count",
    "colour",
    "size",
    "relation",
    "comparison",
    "situated",
)
MOST = 5
"""Counts that are asked for go up to this."""
COMMON = ("cabinet", "lamp", "chair", "stool", "plant", "bin", "box", "ball", "vase", "clock", "table", "rug", "tv")
"""Kinds that any room may have: where they are says little about which room it is."""

T = TypeVar("T")
Maker = Callable[["Facts", Random], "Question | None"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question and its answer.

    Attributes:
        type: what it asks for.
        template: the form of the sentence.
        text: the question; a situation is told apart from it.
        answer: one or two words, lower case.
        things: indices of the things that it is about.
        options: the answers that it leaves open, where it names them: yes and no, or the choices.
        situation: where it is asked from.
    """

    type: QuestionType
    template: str
    text: str
    answer: str
    things: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    situation: Situation | None = None


YES_NO = ("yes", "no")


def yes_no(value: bool) -> str:
    """The word."""
    return "yes" if value else "no"


def choose(chance: Random, options: Sequence[T]) -> T:
    """One of them."""
    return options[int(chance.random() * len(options))]


def pick(chance: Random, options: Iterable[T], good: Callable[[T], bool]) -> T | None:
    """A random one of those that are good."""
    found = [option for option in options if good(option)]
    return choose(chance, found) if found else None


def any_thing(facts: Facts, chance: Random) -> Question | None:
    """Is there a thing of a kind, on the whole floor?"""
    wanted = chance.random() < 0.5
    kind = pick(chance, KINDS, lambda kind: (kind in facts.kinds) == wanted)
    if kind is None:
        return None
    things = tuple(i for i, thing in enumerate(facts.things) if thing.kind == kind)
    return Question(
        type="existence",
        template="kind",
        text=f"Is there {article(kind)} on this floor?",
        answer=yes_no(wanted),
        things=things,
        options=YES_NO,
    )


def any_coloured(facts: Facts, chance: Random) -> Question | None:
    """Is there a thing of a kind and colour? For "no", a thing that is there lends its kind, but not its colour."""
    thing = choose(chance, facts.things)
    colour: str | None = thing.colour
    wanted = chance.random() < 0.5
    if not wanted:
        colour = pick(chance, COLOURS, lambda colour: (colour, thing.kind) not in facts.coloured)
    if colour is None:
        return None
    things = tuple(i for i, t in enumerate(facts.things) if (t.colour, t.kind) == (colour, thing.kind))
    return Question(
        type="existence",
        template="colour and kind",
        text=f"Is there {article(f'{colour} {thing.kind}')}?",
        answer=yes_no(wanted),
        things=things,
        options=YES_NO,
    )


def any_in_room(facts: Facts, chance: Random) -> Question | None:
    """Is there a thing of a kind in the room with some other thing?"""
    rooms = range(len(facts.floor.plan.rooms))
    has = {kind: [any(t.kind == kind and t.room == room for t in facts.things) for room in rooms] for kind in COMMON}
    kind = pick(chance, COMMON, lambda kind: any(has[kind]) and not all(has[kind]))
    if kind is None:
        return None
    wanted = chance.random() < 0.5
    room = pick(chance, rooms, lambda room: has[kind][room] == wanted)
    anchor = pick(chance, range(len(facts)), lambda i: facts.things[i].room == room and facts.things[i].kind != kind)
    phrase = None if anchor is None else refer(facts, chance, anchor)
    if anchor is None or phrase is None or "same room" in phrase:
        return None
    found = [i for i, t in enumerate(facts.things) if t.kind == kind and t.room == room]
    return Question(
        type="existence",
        template="in a room",
        text=f"Is there {article(kind)} in the room with {phrase}?",
        answer=yes_no(wanted),
        things=(anchor, *found),
        options=YES_NO,
    )


def count_colour(facts: Facts, chance: Random) -> Question | None:
    """How many things have a colour?"""
    answer = int(chance.random() * (MOST + 1))
    colour = pick(chance, COLOURS, lambda colour: facts.colours[colour] == answer)
    if colour is None:
        return None
    things = tuple(i for i, thing in enumerate(facts.things) if thing.colour == colour)
    return _counted("colour", f"How many things are {colour}?", things)


def count_kind(facts: Facts, chance: Random) -> Question | None:
    """How many things of a kind are there?"""
    answer = 1 + int(chance.random() * MOST)
    kind = pick(chance, KINDS, lambda kind: facts.kinds[kind] == answer)
    if kind is None:
        return None
    things = tuple(i for i, thing in enumerate(facts.things) if thing.kind == kind)
    return _counted("kind", f"How many {plural(kind)} are there?", things)


def count_in_room(facts: Facts, chance: Random) -> Question | None:
    """How many things of a kind are in the room with some other thing?"""
    answer = int(chance.random() * 5)
    rooms = range(len(facts.floor.plan.rooms))
    places = [(kind, room) for kind in COMMON if facts.kinds[kind] > 1 for room in rooms]
    number = {
        (kind, room): tuple(i for i, t in enumerate(facts.things) if t.kind == kind and t.room == room)
        for kind, room in places
    }
    place = pick(chance, places, lambda place: len(number[place]) == answer)
    if place is None or len(rooms) == 1:
        return None
    kind, room = place
    anchor = pick(chance, range(len(facts)), lambda i: facts.things[i].room == room and facts.things[i].kind != kind)
    phrase = None if anchor is None else refer(facts, chance, anchor)
    if phrase is None or "same room" in phrase:
        return None
    return _counted("in a room", f"How many {plural(kind)} are in the room with {phrase}?", number[place])


def _counted(template: str, text: str, things: tuple[int, ...]) -> Question:
    return Question(type="count", template=template, text=text, answer=str(len(things)), things=things)


def colour_of(facts: Facts, chance: Random) -> Question | None:
    """What colour is a thing?"""
    colour = choose(chance, COLOURS)
    index = pick(chance, range(len(facts)), lambda i: facts.things[i].colour == colour)
    phrase = None if index is None else refer(facts, chance, index, hide=("colour",))
    if index is None or phrase is None:
        return None
    return Question(type="colour", template="colour", text=f"What colour is {phrase}?", answer=colour, things=(index,))


def size_of(facts: Facts, chance: Random) -> Question | None:
    """Is a thing small or large for its kind?"""
    size = choose(chance, SIZES)
    index = pick(chance, range(len(facts)), lambda i: facts.things[i].size == size)
    phrase = None if index is None else refer(facts, chance, index, hide=("size",))
    if index is None or phrase is None:
        return None
    first, second = chance.sample(SIZES, 2)
    return Question(
        type="size",
        template="size",
        text=f"Is {phrase} {first} or {second}?",
        answer=size,
        things=(index,),
        options=(first, second),
    )


def coloured_phrase(facts: Facts, index: int) -> str | None:
    """Colour and kind, where that fits only this thing."""
    thing = facts.things[index]
    return _phrase(thing.colour, thing.kind) if facts.coloured[thing.colour, thing.kind] == 1 else None


@cache
def _phrase(colour: str, kind: str) -> str:
    return str(Phrase(kind, colour))


def ask(floor: Floor | Facts, makers: dict[QuestionType, tuple[Maker, ...]], each: int, seed: int) -> list[Question]:
    """Questions of every type, up to `each` of one, none twice: a function of the arguments."""
    facts = floor if isinstance(floor, Facts) else Facts(floor)
    found: list[Question] = []
    for kind, options in makers.items():
        chance = Random(f"{facts.floor.seed}/{seed}/{kind}")
        asked: dict[tuple[str, str], Question] = {}
        for _ in range(12 * each):
            if len(asked) == each:
                break
            made = choose(chance, options)(facts, chance)
            if made is not None:
                asked.setdefault((made.situation.text if made.situation else "", made.text), made)
        found += asked.values()
    return found
