"""What an agent is asked to do: where it starts, what it is told, and where it should come to."""

from __future__ import annotations

import math
from dataclasses import dataclass

Position = tuple[float, float, float]
"""x, y and z of a place on the floor, metres, scene axes (z up)."""


@dataclass(frozen=True)
class Goal:
    """A place that counts as arrived.

    Attributes:
        position: metres, on the floor. For an object: a place from which it is seen, or the foot of the object.
        radius: the episode is a success when the agent stops within this geodesic distance, metres.
    """

    position: Position
    radius: float = 3.0

    def __post_init__(self) -> None:
        _check_place("goal", self.position)
        if not (self.radius >= 0 and math.isfinite(self.radius)):
            raise ValueError(f"expected the radius of a goal in metres, at least 0, got {self.radius}")


@dataclass(frozen=True)
class Episode:
    """One task of navigation. Positions are in scene axes (z up), metres.

    Attributes:
        id: unique in its file.
        scene: name of the scene, as its source has it.
        start_position: on the floor.
        start_heading: radians in scene axes, 0 along +x, growing towards +y.
        goals: any of them will do.
        instruction: what the agent is told; "" in an episode that has only a point or an object as its goal.
        category: of the object that is looked for.
        reference_path: the way that the instruction describes, start and end included; () where it is not known.
        geodesic_distance: from the start to the nearest goal, metres; None where it has not been computed.
    """

    id: str
    scene: str
    start_position: Position
    start_heading: float
    goals: tuple[Goal, ...]
    instruction: str = ""
    category: str | None = None
    reference_path: tuple[Position, ...] = ()
    geodesic_distance: float | None = None

    def __post_init__(self) -> None:
        _check_place(f"episode {self.id!r}: start", self.start_position)
        if not math.isfinite(self.start_heading):
            raise ValueError(f"episode {self.id!r}: expected a heading in radians, got {self.start_heading}")
        if not self.goals:
            raise ValueError(f"episode {self.id!r}: expected at least one goal, got none")
        for place in self.reference_path:
            _check_place(f"episode {self.id!r}: reference path", place)


def _check_place(what: str, place: Position) -> None:
    if len(place) != 3 or not all(math.isfinite(value) for value in place):
        raise ValueError(f"{what}: expected x, y and z in metres, got {place}")
