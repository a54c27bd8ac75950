"""Walking a shortest way with an agent's own actions."""

from __future__ import annotations

import math

from genworld.world.navigation.geodesic import Ways
from genworld.world.navigation.motion import Action, Mover, Stance, turned, wrap

_LEAST = 1e-3  # metres: a step forward must bring the agent so much nearer
_TURN_COST = 1e-3  # metres that a turn is counted as: of two equal ways the one with fewer turns


def next_action(mover: Mover, stance: Stance, field: Ways, stop_within: float = 0.25) -> Action:
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
    everywhere = range(-around, around)
    turns = _best(mover, stance, field, left, range(middle - 1, middle + 2), steps=1)
    for steps in (1, 2):  # an agent that does not slide may have to step away from a wall first
        turns = _best(mover, stance, field, left, everywhere, steps) if turns is None else turns
    if turns is None:
        return Action.STOP
    if turns == 0:
        return Action.FORWARD
    return Action.LEFT if turns > 0 else Action.RIGHT


def _best(mover: Mover, stance: Stance, field: Ways, left: float, turns: range, steps: int) -> int | None:
    """The number of turns to the left before `steps` forward that bring the agent nearest; None if none brings it."""
    best, least = None, left - _LEAST
    for count in turns:
        heading = turned(stance, count * math.radians(mover.config.turn))
        length = _after(mover, heading, field, steps) + _TURN_COST * abs(count)
        if length < least:
            best, least = count, length
    return best


def _after(mover: Mover, stance: Stance, field: Ways, steps: int) -> float:
    """What is left after a step forward and, if there are two, a second one in the best direction."""
    there, _ = mover.walk(stance, mover.config.forward)
    if steps == 1:
        return field.distance(there.x, there.y)
    if (there.x, there.y) == (stance.x, stance.y):
        return math.inf
    step = math.radians(mover.config.turn)
    count = math.ceil(2 * math.pi / step)
    return min(_after(mover, turned(there, number * step), field, 1) for number in range(count))
