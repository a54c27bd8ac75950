"""Tasks about a floor, and the steps that fulfil them with the things that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from genworld.world.rooms.furniture import KINDS
from genworld.world.rooms.language.facts import Facts
from genworld.world.rooms.language.questions import choose, pick
from genworld.world.rooms.language.referring import refer

_MOST_TIDIED, _MOST_WATERED = 3, 6


class Step(NamedTuple):
    """One step of a plan: what to do, in words and as a verb with the things and the room that it needs."""

    text: str
    verb: str
    things: tuple[int, ...] = ()
    room: int | None = None


@dataclass(frozen=True)
class Plan:
    """A task and its steps.

    Attributes:
        goal: what is asked for.
        start: the room in which one is when it is asked.
        situation: that, in words.
        steps: in order.
    """

    goal: str
    start: int
    situation: str
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """Numbered steps, one a line."""
        return "\n".join(f"{i}. {step.text}" for i, step in enumerate(self.steps, 1))


@dataclass
class _Writer:
    """A plan in the making; knows in which room one is."""

    facts: Facts
    chance: Random
    room: int
    steps: list[Step] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    at: int | None = None

    def name(self, index: int) -> str:
        """The thing's phrase, the same in all steps."""
        phrase = self.names.get(index) or refer(self.facts, self.chance, index)
        if phrase is None:
            raise _NamelessError
        return self.names.setdefault(index, phrase)

    def go(self, index: int) -> None:
        """Walk to a thing, through the doors on the way."""
        if self.at == index:
            return
        rooms = self.facts.floor.room_names
        for room in _way(self.facts, self.room, self.facts.things[index].room):
            self.steps.append(Step(f"Go through the door into the {rooms[room]}.", "enter", (), room))
        self.room, self.at = self.facts.things[index].room, index
        self.steps.append(Step(f"Walk to {self.name(index)}.", "walk", (index,)))

    def do(self, text: str, verb: str, *things: int) -> None:
        """An action; `text` has a place for each thing."""
        self.steps.append(Step(text.format(*(self.name(index) for index in things)), verb, things))


class _NamelessError(Exception):
    """A thing that no phrase fits alone: the plan cannot be told."""


def _way(facts: Facts, start: int, end: int) -> list[int]:
    """The rooms to enter on the way from one to another."""
    before: dict[int, int] = {start: start}
    queue = [start]
    for room in queue:
        for pair in (door.rooms for door in facts.floor.plan.doors):
            if room in pair:
                other = pair[0] if pair[1] == room else pair[1]
                if other not in before:
                    before[other] = room
                    queue.append(other)
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[-2::-1]


def _of(facts: Facts, *kinds: str, room: int | None = None) -> list[int]:
    return [i for i, t in enumerate(facts.things) if t.kind in kinds and room in (None, t.room)]


def _nearest(facts: Facts, room: int, options: list[int]) -> int | None:
    """The one in the nearest room, by doors on the way."""
    return min(options, key=lambda i: (len(_way(facts, room, facts.things[i].room)), i), default=None)


def _throw_away(write: _Writer) -> str | None:
    facts = write.facts
    thing = pick(write.chance, _of(facts, "box", "ball"), lambda i: facts.things[i].size == "small")
    bin_ = None if thing is None else _nearest(facts, facts.things[thing].room, _of(facts, "bin"))
    if thing is None or bin_ is None:
        return None
    write.go(thing)
    write.do("Pick up {0}.", "pick up", thing)
    write.go(bin_)
    write.do("Drop {0} into {1}.", "drop", thing, bin_)
    return f"Throw {write.name(thing)} away."


def _tidy(write: _Writer) -> str | None:
    facts = write.facts
    room = choose(write.chance, range(len(facts.floor.room_names)))
    loose = [i for i in _of(facts, "box", "ball", room=room) if facts.things[i].on is None]
    hosts = [i for i in _of(facts, "cabinet", "desk", "table", room=room) if KINDS[facts.things[i].kind].holds]
    if not loose or not hosts or len(loose) > _MOST_TIDIED:
        return None
    host = choose(write.chance, hosts)
    for index in loose:
        write.go(index)
        write.do("Pick up {0}.", "pick up", index)
        write.go(host)
        write.do("Put {0} on {1}.", "put", index, host)
    return f"Tidy up the boxes and balls on the floor of the {facts.floor.room_names[room]}."


def _water(write: _Writer) -> str | None:
    facts = write.facts
    plants, vases, sinks = (_of(facts, kind) for kind in ("plant", "vase", "sink"))
    if not plants or len(plants) > _MOST_WATERED or not vases or not sinks:
        return None
    vase = choose(write.chance, vases)
    sink = _nearest(facts, facts.things[vase].room, sinks)
    assert sink is not None
    write.go(vase)
    write.do("Pick up {0}.", "pick up", vase)
    write.go(sink)
    write.do("Fill {0} with water at {1}.", "fill", vase, sink)
    for plant in plants:
        write.go(plant)
        write.do("Water {0} from {1}.", "water", plant, vase)
    return "Water all the plants."


def _watch(write: _Writer) -> str | None:
    facts = write.facts
    tv = pick(write.chance, _of(facts, "tv"), lambda i: bool(_seats(facts, i)))
    if tv is None:
        return None
    seat = choose(write.chance, _seats(facts, tv))
    write.go(tv)
    write.do("Turn on {0}.", "turn on", tv)
    write.go(seat)
    write.do("Sit down on {0}.", "sit", seat)
    return "I want to watch something."


def _seats(facts: Facts, index: int) -> list[int]:
    room = facts.things[index].room
    return _of(facts, "sofa", room=room) or _of(facts, "chair", "stool", room=room)


def _work(write: _Writer) -> str | None:
    facts = write.facts
    desk = pick(
        write.chance, _of(facts, "desk"), lambda i: bool(_of(facts, "chair", "stool", room=facts.things[i].room))
    )
    if desk is None:
        return None
    room = facts.things[desk].room
    for lamp in _of(facts, "lamp", room=room)[:1]:
        write.go(lamp)
        write.do("Turn on {0}.", "turn on", lamp)
    seat = choose(write.chance, _of(facts, "chair", "stool", room=room))
    write.go(seat)
    if not facts.next_to[seat, desk]:
        write.do("Move {0} to {1}.", "move", seat, desk)
    write.do("Sit down on {0}.", "sit", seat)
    write.do("Start to work at {0}.", "work", desk)
    return f"I want to work at {write.name(desk)}."


def _cook(write: _Writer) -> str | None:
    facts = write.facts
    fridge, stove = (next(iter(_of(facts, kind)), None) for kind in ("fridge", "stove"))
    if fridge is None or stove is None:
        return None
    write.go(fridge)
    write.do("Take some food out of {0}.", "take", fridge)
    write.go(stove)
    write.do("Cook the food on {0}.", "cook", stove)
    table = _nearest(facts, facts.things[stove].room, _of(facts, "table"))
    if table is not None:
        write.go(table)
        write.do("Serve the food on {0}.", "serve", table)
    return "Make something warm to eat."


def _sleep(write: _Writer) -> str | None:
    facts = write.facts
    bed = next(iter(_of(facts, "bed")), None)
    if bed is None:
        return None
    for lamp in _of(facts, "lamp", room=facts.things[bed].room):
        write.go(lamp)
        write.do("Turn off {0}.", "turn off", lamp)
    write.go(bed)
    write.do("Lie down on {0}.", "lie", bed)
    return "I am tired and want to sleep."


def _bring(write: _Writer) -> str | None:
    facts = write.facts
    thing = pick(write.chance, _of(facts, "vase", "ball", "box"), lambda i: facts.things[i].size == "small")
    hosts = [i for i in range(len(facts)) if KINDS[facts.things[i].kind].holds]
    host = None if thing is None else pick(write.chance, hosts, lambda i: i != facts.things[thing].on)
    if thing is None or host is None:
        return None
    write.go(thing)
    write.do("Pick up {0}.", "pick up", thing)
    write.go(host)
    write.do("Put {0} on {1}.", "put", thing, host)
    return f"Put {write.name(thing)} on {write.name(host)}."


_TASKS: tuple[Callable[[_Writer], str | None], ...] = (
    _throw_away,
    _tidy,
    _water,
    _watch,
    _work,
    _cook,
    _sleep,
    _bring,
)


def plans(facts: Facts, most: int = 4, seed: int = 0) -> list[Plan]:
    """Plans for up to `most` different tasks: a function of the floor and the seed."""
    chance = Random(f"{facts.floor.seed}/{seed}/plans")
    made: list[Plan] = []
    for task in chance.sample(_TASKS, len(_TASKS)):
        if len(made) == most:
            break
        start = choose(chance, range(len(facts.floor.room_names)))
        writer = _Writer(facts, chance, start)
        try:
            goal = task(writer)
        except _NamelessError:
            continue
        if goal:
            made.append(Plan(goal, start, f"I am in the {facts.floor.room_names[start]}.", tuple(writer.steps)))
    return made
