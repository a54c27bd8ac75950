"""Which things a text of the world's language names: found by the words that the world has for things."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES
from genworld.world.rooms.language.captions import NUMBERS
from genworld.world.rooms.language.facts import plural
from genworld.world.rooms.language.referring import Phrase, Relation

_KINDS = {**{plural(kind): kind for kind in KINDS}, **{kind: kind for kind in KINDS}}


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


_NOUN = re.compile(
    rf"\b(?:(?P<count>the|an?|{_any(NUMBERS)}|\d+) )?"
    rf"(?P<words>(?:(?:{_any((*SIZES, *MATERIALS, *COLOURS))}) )*)(?P<kind>{_any(_KINDS)})\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Mention:
    """A thing, or several of a kind, that a text names.

    Attributes:
        text: as it is said, such as "two red chairs".
        meant: what is said of one of them, as a referring expression.
        many: whether several are meant.
        start: how many characters of the text lie before the phrase.
        noun: how many characters of the text lie before the end of the noun.
        end: the same of the whole phrase, with what the thing is related to.
    """

    text: str
    meant: Phrase
    many: bool = False
    start: int = field(default=0, compare=False)
    noun: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)

    @property
    def phrase(self) -> str:
        """That refers to one of them, such as "the red chair"."""
        return str(self.meant)


def mentions(text: str) -> list[Mention]:
    """All things that a text names, in order, none twice; what it says there is none of is left out."""
    named: dict[str, Mention] = {}
    for mention in every_mention(text):
        named.setdefault(mention.phrase, mention)
    return list(named.values())


def every_mention(text: str) -> list[Mention]:
    """The same, each as often as it is named."""
    found, named = list(_NOUN.finditer(text)), list[Mention]()
    for match, follower in zip(found, [*found[1:], None], strict=False):
        if (match["count"] or "").lower() not in ("no", "0"):
            mention = _mention(match)
            if follower and (relation := _relation(text, match, follower)):
                anchor = _mention(follower)
                meant = replace(mention.meant, relation=relation, anchor=anchor.meant)
                text_of = f"{mention.text} {relation} {anchor.text}"
                mention = Mention(text_of, meant, start=mention.start, noun=mention.noun, end=anchor.noun)
            named.append(mention)
    return named


def _relation(text: str, match: re.Match[str], follower: re.Match[str]) -> Relation:
    """What a referring expression says of a thing and the next one that is named; "" where it is none.

    "The chair on the table" is one; "a chair on the table" tells where it is, and "put the box on the table" where to.
    """
    between = text[match.end() : follower.start()].strip()
    if any((one["count"] or "").lower() != "the" for one in (match, follower)):
        return ""
    put = text[: match.start()].lower().endswith("put ")
    if between == "on":
        return "" if put and not text[follower.end() :].startswith(" on the ") else "on"
    return "next to" if between == "next to" else "in the same room as" if between == "in the same room as" else ""


def _mention(match: re.Match[str]) -> Mention:
    words = match["words"].lower().split()
    kind = _KINDS[match["kind"].lower()]
    size, colour = (next((word for word in words if word in some), None) for some in (SIZES, COLOURS))
    many, end = match["kind"].lower() != kind, match.end()
    return Mention(match[0], Phrase(kind, colour, size), many, match.start(), end, end)
