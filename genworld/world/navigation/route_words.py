"""Clauses of a walk in words: several ways to say each, and several ways to join them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from genworld.world.navigation.route_facts import Clause

DOORS: dict[str, tuple[str, ...]] = {
    "left": (
        "go through the door on your left",
        "take the door to your left",
        "turn left and go through the door",
        "leave by the door on the left",
    ),
    "right": (
        "go through the door on your right",
        "take the door to your right",
        "turn right and go through the door",
        "leave by the door on the right",
    ),
    "front": (
        "go through the door ahead of you",
        "take the door in front of you",
        "go straight on through the door",
    ),
    "behind": (
        "go through the door behind you",
        "turn around and go through the door",
    ),
}
"""The side says which door it is."""
ONLY = ("go through {door}", "leave through {door}", "take {door}")
INTO = ("go into the {room}", "enter the {room}", "go through the door into the {room}")
PASSES = ("walk past {thing}", "pass {thing}", "go past {thing}")
CROSSES = ("walk over {thing}", "cross {thing}")
STOPS = (
    "stop at {thing}",
    "walk up to {thing} and stop",
    "wait by {thing}",
    "stop by {thing}",
    "go to {thing} and stop there",
)
STOPS_BY_SIDE: dict[str, tuple[str, ...]] = {
    "left": ("stop at {thing} on your left", "turn left and stop at {thing}"),
    "right": ("stop at {thing} on your right", "turn right and stop at {thing}"),
    "front": ("stop at {thing} ahead of you", "go straight on and stop at {thing}"),
    "behind": ("stop at {thing} behind you", "turn around and stop at {thing}"),
}
FIND = ("Find {thing}.", "Go to {thing}.", "Look for {thing}.", "Walk to {thing}.", "I need {thing}: go there.")
POINT = (
    "Go to the point {along} and {across}.",
    "Walk to the place that is {along} and {across}.",
    "Your goal is {along} and {across}.",
)

_SIDE, _ROOM_TOO, _FLANK, _STOP_SIDE = 0.8, 0.25, 0.5, 0.6  # how often these are told where they could be


def wordings(clauses: Sequence[Clause], count: int, chance: Random) -> list[str]:
    """Up to `count` different instructions that say the same walk."""
    found: dict[str, None] = {}
    for _ in range(8 * count):
        if len(found) == count:
            break
        found.setdefault(chance.choice(_JOINS)([phrase(clause, chance) for clause in clauses]))
    return list(found)


def phrase(clause: Clause, chance: Random) -> str:
    """One clause in words."""
    if clause.verb == "door":
        return _door(clause, chance)
    options = {"pass": PASSES, "cross": CROSSES, "stop": STOPS}[clause.verb]
    side = clause.side
    if clause.verb == "stop" and side and chance.random() < _STOP_SIDE:
        options = STOPS_BY_SIDE[side]
    text = chance.choice(options).format(thing=clause.phrase)
    if clause.verb == "pass" and side and chance.random() < _FLANK:
        text += f" on your {side}"
    return text


def _door(clause: Clause, chance: Random) -> str:
    if clause.side and chance.random() < _SIDE:
        text = chance.choice(DOORS[clause.side])
        return f"{text} into the {clause.room}" if chance.random() < _ROOM_TOO else text
    if clause.door and chance.random() < _SIDE:
        return chance.choice(ONLY).format(door=clause.door)
    return chance.choice(INTO).format(room=clause.room)


def _sentences(parts: list[str]) -> str:
    return " ".join(f"{_capital(part)}." for part in parts)


def _commas(parts: list[str]) -> str:
    return f"{_capital(', '.join(parts))}."


def _then(parts: list[str]) -> str:
    if len(parts) < 3:
        return _sentences([", then ".join(parts)])
    middle = [f"then {part}" for part in parts[1:-1]]
    return f"{_capital(', '.join([f'first {parts[0]}', *middle]))}, and finally {parts[-1]}."


def _pairs(parts: list[str]) -> str:
    if len(parts) == 1:
        return _sentences(parts)
    return f"{_sentences([', then '.join(parts[:-1])])} {_sentences(parts[-1:])}"


_JOINS: tuple[Callable[[list[str]], str], ...] = (_sentences, _commas, _then, _pairs)


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
