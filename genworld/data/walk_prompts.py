"""What is said between an agent that walks and the model that guides it: one wording for training and for use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_prompts import Standing, situated_prompt
from genworld.ops.lifted import LiftedScene

Deed = Literal["through", "past", "stop"]
"""Go through a door, go past a thing, stop at a thing."""

EXPLORE = "explore"
"""Said where what is meant was not seen yet."""
DEEDS: dict[Deed, str] = {"through": "go through", "past": "go past", "stop": "stop at"}

_BREAK = re.compile(r"[.;,]|\bthen\b|\band finally\b|\band then\b", re.IGNORECASE)
_FIRST = re.compile(r"^(?:first|finally|next|now|and)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Said:
    """An answer, read.

    Attributes:
        deed: what to do; None to look further.
        box: where, lower and upper corner, metres, scene axes.
    """

    deed: Deed | None
    box: Float[Tensor, "2 3"] | None = None


def find_text(category: str) -> str:
    """A category of an object as an instruction."""
    words = category.strip().rstrip(".")
    return f"find {words if words.lower().startswith(('the ', 'a ', 'an ')) else f'the {words}'}"


def walk_prompt(scene: LiftedScene, text: str, position: tuple[float, ...], heading: float) -> str:
    """Asks what to do for one thing that is told, from where that holds.

    Args:
        scene: what was seen so far.
        text: one clause of an instruction.
        position: x and y, metres, where the clause begins: its left and right are those of who stands there.
        heading: radians.
    """
    words = text.strip().rstrip(".")
    return situated_prompt(scene, f"{words[:1].upper()}{words[1:]}. Where to?", Standing("", position[:2], heading))


def walk_answer(scene: LiftedScene, deed: Deed | None, lower: Tensor | None = None, upper: Tensor | None = None) -> str:
    """What is to be done, in words and location tokens."""
    if deed is None:
        return EXPLORE
    assert lower is not None
    assert upper is not None
    return f"{DEEDS[deed]} {scene.box_text(lower, upper)}"


def read_answer(scene: LiftedScene, text: str) -> Said | None:
    """The meaning of an answer; None where it has none."""
    if text.strip().lower().startswith(EXPLORE):
        return Said(None)
    deed = next((deed for deed, words in DEEDS.items() if text.strip().lower().startswith(words)), None)
    boxes = scene.boxes_in(text)
    return None if deed is None or not boxes else Said(deed, boxes[0])


def clauses_of(instruction: str) -> list[str]:
    """What an instruction says, one thing at a time; the whole where it cannot be parted."""
    parts = (_FIRST.sub("", part.strip()) for part in _BREAK.split(instruction))
    return [part for part in parts if part] or [instruction.strip()]
