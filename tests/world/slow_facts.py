"""The slow twin of what is said about floors: everything worked out from boxes, one pair at a time.

It uses no room numbers, no "stands on" and no tables of the floor, only where things are.
"""

from __future__ import annotations

import math
import re

from genworld.world.rooms import Floor
from genworld.world.rooms.furniture import COLOURS, KINDS, Thing

KIND = "|".join(KINDS)
COLOUR = "|".join(COLOURS)
PLURALS = {"boxes": "box", "shelves": "shelf"} | {f"{kind}s": kind for kind in KINDS}
SIMPLE = rf"the (?:(?:small|large) )?(?:(?:{COLOUR}) )?(?:{KIND})\b"
PHRASE = rf"{SIMPLE}(?: (?:on|next to|in the same room as) {SIMPLE})?"
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
NUMBERS |= {"nine": 9, "ten": 10} | {str(n): n for n in range(11, 31)}


class SlowFacts:
    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.things = floor.things
        self.all = range(len(floor.things))

    def room(self, index: int) -> int:
        x, y, _ = self.things[index].box.centre
        (found,) = (i for i, (x0, y0, x1, y1) in enumerate(self.floor.plan.rooms) if x0 < x < x1 and y0 < y < y1)
        return found

    def gap(self, one: int, other: int) -> float:
        a, b = self.things[one].box, self.things[other].box
        total = 0.0
        for axis in range(3):
            apart = max(a.lower[axis] - b.upper[axis], b.lower[axis] - a.upper[axis], 0.0)
            total += float(apart) ** 2
        return math.sqrt(total)

    def on_floor(self, index: int) -> bool:
        return bool(self.things[index].box.lower[2] < 0.02)

    def host(self, index: int) -> int | None:
        """What bears a thing: right below it, and as wide at least."""
        box = self.things[index].box
        for other in self.all:
            top = self.things[other].box
            level = top.upper[2] - 0.03 < box.lower[2] <= top.upper[2] + 1e-6 and box.lower[2] > 0.05
            within = all(top.lower[a] <= box.lower[a] and box.upper[a] <= top.upper[a] for a in (0, 1))
            if other != index and level and within:
                return other
        return None

    def near(self, one: int, other: int, most: float) -> bool:
        both = self.on_floor(one) and self.on_floor(other) and self.room(one) == self.room(other)
        return both and one != other and self.gap(one, other) <= most

    def meant(self, phrase: str) -> list[int]:
        """The things that a phrase may mean, read generously."""
        pattern = rf"the (?:(small|large) )?(?:({COLOUR}) )?({KIND})(?: (on|next to|in the same room as) (.+))?"
        found = re.fullmatch(pattern, phrase)
        assert found, phrase
        size, colour, kind, relation, anchor = found.groups()
        fit = [
            i
            for i in self.all
            if self.things[i].kind == kind
            and (size is None or self.things[i].size == size)
            and (colour is None or self.things[i].colour == colour)
        ]
        if relation is None:
            return fit
        target = self.one(anchor)
        if relation == "on":
            return [i for i in fit if self.host(i) == target]
        if relation == "next to":
            return [i for i in fit if self.near(i, target, 0.799)]
        return [i for i in fit if i != target and self.room(i) == self.room(target)]

    def meant_or_none(self, phrase: str) -> list[int]:
        """As `meant`, but nothing where what a thing is related to cannot be told."""
        try:
            return self.meant(phrase)
        except AssertionError:
            return []

    def one(self, phrase: str) -> int:
        """The only thing that a phrase means."""
        fit = self.meant(phrase)
        assert len(fit) == 1, f"{phrase!r} fits {len(fit)} things"
        return fit[0]

    def named(self, **wanted: str) -> list[int]:
        return [i for i in self.all if all(getattr(self.things[i], key) == value for key, value in wanted.items())]

    def way(self, position: tuple[float, float], heading: float, index: int) -> str | None:
        """Where a thing is, by its components along and across the heading."""
        x, y = self.things[index].box.centre[:2] - position
        ahead = x * math.cos(heading) + y * math.sin(heading)
        left = -x * math.sin(heading) + y * math.cos(heading)
        steep = math.tan(math.radians(35))
        if abs(left) <= steep * abs(ahead):
            return "front" if ahead > 0 else "behind"
        if abs(ahead) <= steep * abs(left):
            return "left" if left > 0 else "right"
        return None

    def spots(self, index: int) -> list[tuple[float, float]]:
        """Where one can stand beside a thing."""
        box, found = self.things[index].box, []
        for x, y in self.floor.ground.places().tolist():
            dx = max(box.lower[0] - x, x - box.upper[0], 0)
            dy = max(box.lower[1] - y, y - box.upper[1], 0)
            if 0.2 <= math.hypot(dx, dy) <= 0.6 and self.floor.plan.rooms[self.room(index)].contains(x, y):
                found.append((x, y))
        return found

    def heading(self, position: tuple[float, float], index: int) -> float:
        x, y = self.things[index].box.centre[:2] - position
        return math.atan2(y, x)


def counted(text: str) -> list[tuple[int, str, str]]:
    """(how many, adjectives, kind) of every "two small red chairs" in a text."""
    pattern = (
        rf"\b({'|'.join(NUMBERS)}) ((?:(?:small|large|matte|shiny|wooden|{COLOUR}) )*)({KIND}|{'|'.join(PLURALS)})\b"
    )
    return [
        (NUMBERS[count.lower()], words.strip(), PLURALS.get(kind, kind))
        for count, words, kind in re.findall(pattern, text, flags=re.IGNORECASE)
    ]


def words_of(thing: Thing, *, all_words: bool) -> str:
    return f"{thing.size} {thing.material} {thing.colour}" if all_words else thing.colour
