"""Questions about where things are: relations, comparisons, and directions for somebody who stands somewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from random import Random

import numpy as np

from genworld.world.rooms.furniture import COLOURS
from genworld.world.rooms.language.facts import DIRECTIONS, Direction, Facts, Situation, direction
from genworld.world.rooms.language.questions import (
    COMMON,
    YES_NO,
    Question,
    choose,
    coloured_phrase,
    pick,
    yes_no,
)
from genworld.world.rooms.language.referring import refer

_NEARER, _NEARER_BY = 1.35, 0.5  # of two distances, one is said to be shorter: ratio, and metres
_BESIDE = 0.75  # part of the situations that name what one stands beside; others give metres
_LOOKS = 30  # places and headings that are tried for a question
_WAYS: dict[Direction, str] = {
    "left": "to my left",
    "right": "to my right",
    "front": "in front of me",
    "behind": "behind me",
}


def on_what(facts: Facts, chance: Random) -> Question | None:
    """What does a thing stand on?"""
    answer = choose(chance, ("floor", "table", "desk", "cabinet"))
    movable = [i for i, thing in enumerate(facts.things) if thing.kind in ("vase", "box", "ball", "plant")]
    index = pick(chance, movable, lambda i: facts.support(i) == answer)
    phrase = None if index is None else refer(facts, chance, index)
    if index is None or phrase is None or " on " in phrase:
        return None
    return Question(
        type="relation",
        template="stands on",
        text=f"What does {phrase} stand on?",
        answer=answer,
        things=(index,),
    )


def what_is_on(facts: Facts, chance: Random) -> Question | None:
    """What stands on a thing that bears just one?"""
    host = pick(chance, range(len(facts)), lambda i: len(facts.on(i)) == 1)
    phrase = None if host is None else refer(facts, chance, host)
    if host is None or phrase is None:
        return None
    (index,) = facts.on(host)
    return Question(
        type="relation",
        template="is on",
        text=f"What is on {phrase}?",
        answer=facts.things[index].kind,
        things=(index, host),
    )


def is_next_to(facts: Facts, chance: Random) -> Question | None:
    """Is one thing next to another? Of the same two kinds, some pairs are and some are not."""
    return _pair(facts, chance, "next to", "Is {0} next to {1}?", facts.next_to, facts.apart)


def is_in_room_with(facts: Facts, chance: Random) -> Question | None:
    """Are two things in one room? Of the same two kinds, some pairs are and some are not."""
    room = np.array([thing.room for thing in facts.things])
    same = room[:, None] == room
    return _pair(facts, chance, "same room", "Is {0} in the same room as {1}?", same, ~same)


def _pair(
    facts: Facts, chance: Random, template: str, text: str, holds: np.ndarray, fails: np.ndarray
) -> Question | None:
    pairs: dict[tuple[str, str], tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}
    named = [i for i in range(len(facts)) if coloured_phrase(facts, i)]
    for i, j in permutations(named, 2):
        if holds[i, j] or fails[i, j]:
            kinds = (facts.things[i].kind, facts.things[j].kind)
            pairs.setdefault(kinds, ([], []))[0 if holds[i, j] else 1].append((i, j))
    both = [kinds for kinds, (yes, no) in pairs.items() if yes and no]
    if not both:
        return None
    yes, no = pairs[choose(chance, both)]
    wanted = chance.random() < 0.5
    pair = choose(chance, yes if wanted else no)
    return Question(
        type="relation",
        template=template,
        text=text.format(*(coloured_phrase(facts, i) for i in pair)),
        answer=yes_no(wanted),
        things=pair,
        options=YES_NO,
    )


def which_is_larger(facts: Facts, chance: Random) -> Question | None:
    """Which of two things of one kind is larger?"""
    word = choose(chance, ("larger", "smaller"))
    pairs = [
        (i, j)
        for i, j in permutations(range(len(facts)), 2)
        if facts.things[i].kind == facts.things[j].kind and facts.things[i].size != facts.things[j].size
    ]
    return _either(facts, chance, pairs, word, lambda i, _: (facts.things[i].size == "large") == (word == "larger"))


def which_is_nearer(facts: Facts, chance: Random) -> Question | None:
    """Which of two things of one kind is nearer to a third?"""
    anchor = pick(chance, range(len(facts)), lambda i: coloured_phrase(facts, i) is not None)
    if anchor is None:
        return None
    away = np.linalg.norm(facts.centres - facts.centres[anchor], axis=-1)
    pairs = [
        (i, j)
        for i, j in permutations(range(len(facts)), 2)
        if facts.things[i].kind == facts.things[j].kind
        and anchor not in (i, j)
        and max(away[i], away[j]) > _NEARER * min(away[i], away[j])
        and abs(away[i] - away[j]) > _NEARER_BY
    ]
    word = choose(chance, ("nearer to", "further from"))
    return _either(
        facts,
        chance,
        pairs,
        f"{word} {coloured_phrase(facts, anchor)}",
        lambda i, j: bool(away[i] < away[j]) == (word == "nearer to"),
        (anchor,),
    )


def _either(
    facts: Facts,
    chance: Random,
    pairs: list[tuple[int, int]],
    word: str,
    first_is: Callable[[int, int], bool],
    others: tuple[int, ...] = (),
) -> Question | None:
    """Which is `word`: one of a pair, or the other? The answer is one of their colours."""
    good = [
        (i, j)
        for i, j in pairs
        if coloured_phrase(facts, i) and coloured_phrase(facts, j) and facts.things[i].colour != facts.things[j].colour
    ]
    if not good:
        return None
    i, j = choose(chance, good)
    one, other = facts.things[i], facts.things[j]
    return Question(
        type="comparison",
        template=word.split()[0],
        text=f"Which {one.kind} is {word}, the {one.colour} one or the {other.colour} one?",
        answer=one.colour if first_is(i, j) else other.colour,
        things=(i, j, *others),
        options=(one.colour, other.colour),
    )


def more_of_which(facts: Facts, chance: Random) -> Question | None:
    """Are there more things of one colour than of another?"""
    one, other = chance.sample(COLOURS, 2)
    if facts.colours[one] == facts.colours[other]:
        return None
    things = tuple(i for i, thing in enumerate(facts.things) if thing.colour in (one, other))
    return Question(
        type="comparison",
        template="more",
        text=f"Are there more {one} things than {other} things?",
        answer=yes_no(facts.colours[one] > facts.colours[other]),
        things=things,
        options=YES_NO,
    )


def same_colour(facts: Facts, chance: Random) -> Question | None:
    """Do two things of different kinds, each the only one of its kind, have one colour?"""
    wanted = chance.random() < 0.5
    single = [i for i, thing in enumerate(facts.things) if facts.kinds[thing.kind] == 1]
    pair = pick(
        chance,
        permutations(single, 2),
        lambda pair: (facts.things[pair[0]].colour == facts.things[pair[1]].colour) == wanted,
    )
    if pair is None:
        return None
    return Question(
        type="comparison",
        template="same colour",
        text="Do the {} and the {} have the same colour?".format(*(facts.things[i].kind for i in pair)),
        answer=yes_no(wanted),
        things=pair,
        options=YES_NO,
    )


def where_is(facts: Facts, chance: Random) -> Question | None:
    """Where is a thing for somebody who stands beside one thing and faces another?"""
    wanted, (manner, stand) = choose(chance, DIRECTIONS), _manner(chance)
    for _ in range(_LOOKS):
        found = stand(facts, chance)
        if found is None:
            continue
        situation, ways = found
        index = pick(chance, range(len(facts)), lambda i, ways=ways: ways[i] == wanted)  # type: ignore[misc]
        phrase = None if index is None else coloured_phrase(facts, index)
        if index is not None and phrase is not None:
            return Question(
                type="situated",
                template=f"where, {manner}",
                text=f"Is {phrase} to my left, to my right, in front of me or behind me?",
                answer=wanted,
                things=(index,),
                options=DIRECTIONS,
                situation=situation,
            )
    return None


def colour_there(facts: Facts, chance: Random) -> Question | None:
    """What colour is the only thing of a kind in a direction?"""
    manner, stand = _manner(chance)
    for _ in range(_LOOKS):
        found = stand(facts, chance)
        if found is None:
            continue
        situation, ways = found
        room = [i for i in range(len(facts)) if ways[i] is not None]
        index = pick(chance, room, lambda i, f=facts: f.things[i].kind in COMMON)  # type: ignore[misc]
        if index is None:
            continue
        kind, here = facts.things[index].kind, facts.things[index].room
        alike = [i for i, t in enumerate(facts.things) if t.kind == kind and t.room == here and i != index]
        if all(ways[i] not in (None, ways[index]) for i in alike):
            way = ways[index]
            assert way is not None
            return Question(
                type="situated",
                template=f"colour, {manner}",
                text=f"What colour is the {kind} {_WAYS[way]} in this room?",
                answer=facts.things[index].colour,
                things=(index,),
                situation=situation,
            )
    return None


_Stand = Callable[[Facts, Random], "tuple[Situation, list[Direction | None]] | None"]


def _manner(chance: Random) -> tuple[str, _Stand]:
    """How a situation is told: beside what one stands, or where in metres."""
    return ("beside", _beside) if chance.random() < _BESIDE else ("metres", _measured)


def _beside(facts: Facts, chance: Random) -> tuple[Situation, list[Direction | None]] | None:
    named = [i for i in range(len(facts)) if coloured_phrase(facts, i)]
    beside = pick(chance, named, lambda i: bool(facts.standing[i]))
    facing = pick(chance, named, lambda i: i != beside)
    if beside is None or facing is None:
        return None
    ways = facts.directions_from(beside, facing)
    if not any(ways):
        return None
    spots = facts.beside(beside)
    x, y = spots[int(chance.random() * len(spots))].tolist()
    ahead = facts.centres[facing, :2] - (x, y)
    text = f"I am standing beside {coloured_phrase(facts, beside)}, facing {coloured_phrase(facts, facing)}."
    return Situation(text, (x, y), math.atan2(ahead[1], ahead[0])), ways


def _measured(facts: Facts, chance: Random) -> tuple[Situation, list[Direction | None]] | None:
    """A place told in metres, to which both its numbers are rounded."""
    places = facts.floor.ground.places()
    x, y = (round(float(value), 1) for value in places[int(chance.random() * len(places))])
    room = next((r for r in range(len(facts.floor.plan.rooms)) if facts.floor.plan.interior(r).contains(x, y)), None)
    facing = pick(
        chance, range(len(facts)), lambda i: facts.things[i].room == room and coloured_phrase(facts, i) is not None
    )
    if room is None or facing is None:
        return None
    ahead = facts.centres[facing, :2] - (x, y)
    if math.hypot(*ahead) < 0.5:
        return None
    heading = math.atan2(ahead[1], ahead[0])
    ways = [
        direction((x, y), heading, (float(facts.centres[i, 0]), float(facts.centres[i, 1])))
        if thing.room == room and i != facing
        else None
        for i, thing in enumerate(facts.things)
    ]
    text = f"I am standing at {x:.1f}, {y:.1f}, facing {coloured_phrase(facts, facing)}."
    return Situation(text, (x, y), heading), ways
