"""Walking a shortest way with an agent's own actions."""

from __future__ import annotations

import math

from genworld.world.navigation.geodesic import Field
from genworld.world.navigation.motion import Action, Mover, Stance, turned, wrap

_LEAST = 1e-3  # metres: a step forward must bring the agent so much nearer
_TURN_COST = 1e-3  # metres that a turn is counted as: of two equal ways the one with fewer turns


def next_action(mover: Mover, stance: Stance, field: Field, stop_within: float = 0.25) -> Action:
    """The action that takes an agent to the goals of a field; STOP once it is there or no action brings it nearer.

    It turns to the heading, among those it can turn to, from which a step forward ends nearest to the goal.

    Args:
        mover: the agent on the field's map.
        stance: where it is.
        field: distances to its goals.
        stop_within: metres from a goal that are near enough.
    """
    ahead = field.turn(stance.x, stance.y)
    if ahead is None or ahead[1] <= stop_within:
        return Action.STOP
    (x, y), left = ahead
    step = math.radians(mover.config.turn)
    bearing = wrap(math.atan2(y - stance.y, x - stance.x) - stance.heading)
    around = math.ceil(math.pi / step)
    middle = round(bearing / step)
    near = _best(mover, stance, field, left, range(middle - 1, middle + 2))
    turns = near if near is not None else _best(mover, stance, field, left, range(-around, around))
    if turns is None:
        return Action.STOP
    if turns == 0:
        return Action.FORWARD
    return Action.LEFT if turns > 0 else Action.RIGHT


def _best(mover: Mover, stance: Stance, field: Field, left: float, turns: range) -> int | None:
    """The number of turns to the left before the step forward that brings the agent nearest; None if none does."""
    best, least = None, left - _LEAST
    for count in turns:
        heading = turned(stance, count * math.radians(mover.config.turn))
        there, _ = mover.walk(heading, mover.config.forward)
        length = field.distance(there.x, there.y) + _TURN_COST * abs(count)
        if length < least:
            best, least = count, length
    return best
