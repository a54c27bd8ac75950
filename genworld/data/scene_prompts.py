"""What is said to a model about scenes: one wording for training, evaluation and use."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from genworld.ops.lifted import LiftedScene

CAPTION_PROMPTS = {
    "terse": "What is here, in a few words?",
    "overview": "Describe this place.",
    "detailed": "Describe this place in detail.",
}
"""By style of the caption."""
EYE = 1.45
"""Height of who asks, metres above the floor (z = 0), where only a place on the floor is told."""

_AHEAD = 1.0  # metres


@dataclass(frozen=True)
class Standing:
    """Where somebody is who asks.

    Attributes:
        text: in words; "" where that is not told.
        position: metres, scene axes: x and y, and z of the eyes where it is known; None where it is not told.
        heading: radians from +x towards +y, told with a position only.
    """

    text: str = ""
    position: tuple[float, ...] | None = None
    heading: float | None = None


def seen_from(standing: Standing | None) -> tuple[float, float, float] | None:
    """x, y and heading, as a turn has them; None unless all are told."""
    if standing is None or standing.position is None or standing.heading is None:
        return None
    x, y = standing.position[:2]
    return x, y, standing.heading


def where_prompt(phrase: str) -> str:
    """Asks where what a phrase names is, as people do."""
    return f"Where is {phrase.strip().rstrip('.?')}?"


def ground_prompt(phrase: str) -> str:
    """Asks for the box of what a phrase names."""
    return f"{where_prompt(phrase)} Answer with a box."


def describe_prompt(box: str) -> str:
    """Asks what is in a box, told by its location tokens."""
    return f"What is in the box {box}?"


def plan_prompt(goal: str, situation: str = "") -> str:
    """Asks for steps."""
    return f"{situation} {goal.strip()} What are the steps?".strip()


def situated_prompt(scene: LiftedScene, question: str, standing: Standing | None = None) -> str:
    """A question after the situation in which it is asked, in words and location tokens.

    A place becomes the tokens of the eyes, and a heading those of the point one metre ahead of them.

    Raises:
        ValueError: the question has no text, or the place is not two or three finite numbers.
    """
    if not question.strip():
        raise ValueError("the question has no text: ask something")
    if standing is None:
        return question.strip()
    parts = (standing.text.strip(), _place(scene, standing), question.strip())
    return " ".join(part for part in parts if part)


def _place(scene: LiftedScene, standing: Standing) -> str:
    if standing.position is None:
        return ""
    if len(standing.position) not in (2, 3) or not all(map(math.isfinite, (*standing.position, standing.heading or 0))):
        raise ValueError(f"a position is two or three finite numbers in metres, got {standing.position}")
    x, y, z = (*standing.position, EYE)[:3]
    text = scene.place_text(torch.tensor([x, y, z]))
    if standing.heading is None:
        return text
    ahead = torch.tensor([x + _AHEAD * math.cos(standing.heading), y + _AHEAD * math.sin(standing.heading), z])
    return text + scene.place_text(ahead)
