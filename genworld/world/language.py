"""Captions by a small grammar over the facts of a `Story`: they say nothing that is not so."""

from __future__ import annotations

from collections.abc import Sequence

from genworld.world.layout import CaptionStyle
from genworld.world.objects import WorldObject
from genworld.world.story import Story

_WAYS = {
    "left": "to the left",
    "right": "to the right",
    "towards": "towards the camera",
    "away": "away from the camera",
}
_TERSE_WAYS = {"left": "left", "right": "right", "towards": "closer", "away": "away"}
_MOST_HITS = 3  # of more collisions only the first are told: captions stay below 50 words
_PASSAGES = {"behind": "passes behind", "into": "disappears behind", "out": "comes out from behind"}


def describe(story: Story, style: CaptionStyle) -> str:
    """A caption.

    Styles: "terse" names objects by colour and shape with a verb ("red ball rolls left, blue cube"); "sentence" is a
    full sentence with collisions; "detailed" adds sizes, materials (for up to three objects), the wall and the camera.
    """
    if not story.seen:
        return "empty floor" if style == "terse" else "An empty floor under a pale sky."
    return _terse(story) if style == "terse" else _Teller(story, detailed=style == "detailed").tell()


def _terse(story: Story) -> str:
    things = [index for index in story.seen if story.objects[index].shape != "wall"] or list(story.seen)
    return ", ".join(" ".join([_name(story.objects[i]), *_terse_verb(story, i)]) for i in things)


def _terse_verb(story: Story, index: int) -> list[str]:
    act, thing = story.acts[index], story.objects[index]
    if story.still or act in ("stay", "unclear", "pushed"):
        return []
    return [{"bounce": "bounces", "fall": "falls"}.get(act) or f"{_gait(thing)} {_TERSE_WAYS[act]}"]


def _gait(thing: WorldObject) -> str:
    return "rolls" if thing.shape == "sphere" else "slides"


def _name(thing: WorldObject) -> str:
    return "wall" if thing.shape == "wall" else thing.name


class _Teller:
    """One caption in the making: remembers what was named, so that "a" becomes "the"."""

    def __init__(self, story: Story, detailed: bool) -> None:
        self.story = story
        self.detailed = detailed
        self.named: set[int] = set()
        self.adjectives = detailed and len(story.seen) <= 3

    def tell(self) -> str:
        """All sentences."""
        things = [i for i in self.story.seen if self.story.objects[i].shape != "wall"]
        if self.story.still:
            return f"{_capital(_list([self._mention(i) for i in self.story.seen]))}."
        clauses = [clause for index in things if (clause := self._clause(index))]
        rest = [index for index in things if index not in self.named]
        resting = self._resting(rest)
        if (self.detailed or not things) and (walls := set(self.story.seen) - set(things) - self.named):
            resting.append(f"{_list([self._mention(i) for i in walls])} stands nearby")
        # "while" and the comma keep apart who is hit and who rests.
        text = ", while ".join(", and ".join(part) for part in (clauses, resting) if part)
        text = f"{_capital(text)}."
        return f"{text} The camera {self.story.camera}." if self.detailed and self.story.camera else text

    def _clause(self, index: int) -> str | None:
        """What a mover does; None for what does nothing of its own."""
        act, thing = self.story.acts[index], self.story.objects[index]
        deeds = []
        if act in _WAYS:
            deeds.append(f"{_gait(thing)} {_WAYS[act]}")
        elif act in ("bounce", "fall"):
            deeds.append("drops and bounces" if act == "bounce" else "falls")
        elif act == "unclear":
            deeds.append("moves")
        targets = [whom for who, whom in self.story.hits[:_MOST_HITS] if who == index]
        passage = self.story.passages.get(index) if self.detailed else None
        if not targets and not passage and act in ("stay", "pushed", "unclear"):
            return None
        subject = self._mention(index)
        if passage:
            wall = next(i for i in self.story.seen if self.story.objects[i].shape == "wall")
            deeds.append(f"{_PASSAGES[passage]} {self._mention(wall)}")
        if targets:
            deeds.append(f"hits {_list([self._mention(whom) for whom in targets])}")
        return f"{subject} {_list(deeds)}" if deeds else None

    def _resting(self, rest: Sequence[int]) -> list[str]:
        stay = [i for i in rest if self.story.acts[i] == "stay"]
        other = [i for i in rest if self.story.acts[i] != "stay"]
        clauses = []
        if stay:
            verb = "stays still" if len(stay) == 1 else "stay still"
            clauses.append(f"{_list([self._mention(i) for i in stay])} {verb}")
        clauses += [f"there is {self._mention(i)}" for i in other]
        return clauses

    def _mention(self, index: int) -> str:
        thing = self.story.objects[index]
        if index in self.named:
            return f"the {_name(thing)}"
        self.named.add(index)
        adjectives = f"{thing.size} {thing.material} " if self.adjectives and thing.shape != "wall" else ""
        phrase = f"{adjectives}{'grey wall' if thing.shape == 'wall' else thing.name}"
        return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _list(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
