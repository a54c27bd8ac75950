"""Whether an episode fits a place: its start stands on the map, and a way leads to a goal that is on it, too."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.occupancy import OccupancyMap
from genworld.world.navigation.place import Place

SNAP = 0.5
"""Metres that a goal may be away from free ground: one on a thing is, one of another scene or in other axes is not."""
STOREY = 1.0
"""Metres that feet may be above or below a map's floor: more than steps and what files differ by, not a storey."""
HANGING = 2.0
"""Metres that a goal may be above it: of objects, files may list the middle, and pictures and shelves hang high."""


def standing(
    ground: OccupancyMap, position: Sequence[float], snap: float = SNAP, above: float = STOREY
) -> tuple[float, float]:
    """The place on free ground that a position counts as: itself, or the nearest one; metres.

    Args:
        ground: the map, of one storey.
        position: x, y and z, metres, scene axes.
        snap: metres that it may be moved.
        above: metres that it may be above the floor; it may be `STOREY` below.

    Raises:
        ValueError: it is further away from free ground, or on another storey.
    """
    x, y, z = (float(value) for value in position)
    height = z - ground.floor
    if not -STOREY <= height <= above:
        raise ValueError(
            f"({x:.2f}, {y:.2f}, {z:.2f}) is {abs(height):.2f} m {'above' if height > 0 else 'below'} the floor of the "
            "map, which is of one storey: is it of this storey and scene, and in its axes (z up)?"
        )
    near = ground.snap(x, y)
    moved = math.dist(near, (x, y))
    if moved > snap:
        raise ValueError(
            f"({x:.2f}, {y:.2f}) is {moved:.2f} m from the nearest free ground, more than {snap} m: "
            "is it of this scene, and in its axes (z up)?"
        )
    return near


def standing_goals(
    ground: OccupancyMap, positions: Sequence[Sequence[float]], snap: float = SNAP
) -> dict[int, tuple[float, float]]:
    """The places that goals count as (see `standing`), by number, without those that are not on the map.

    Any goal will do, and files list all objects of a kind: one on another storey is as one that no way leads to.

    Raises:
        ValueError: none of them is on the map; says why the first is not.
    """
    found, wrong = {}, []
    for number, position in enumerate(positions):
        try:
            found[number] = standing(ground, position, snap, HANGING)
        except ValueError as error:
            wrong.append(str(error))
    if not found:
        rest = f" Nor are its {len(wrong) - 1} other goals on this map." if len(wrong) > 1 else ""
        raise ValueError(f"goal {wrong[0]}{rest}")
    return found


def reachable_goals(place: Place, episode: Episode) -> list[Goal]:
    """The goals of an episode that a way leads to from its start, on free ground.

    Raises:
        ValueError: the episode starts inside an obstacle or on another storey, or none of its goals is on the map or
            can be reached; names the episode.
    """
    ground, named = place.map, f"episode {episode.id!r}"
    x, y, _ = episode.start_position
    what = "its start "
    try:
        near = standing(ground, episode.start_position, math.inf)
        what = ""
        goals = standing_goals(ground, [goal.position for goal in episode.goals])
    except ValueError as error:
        raise ValueError(f"{named} in {place.name}: {what}{error}") from None
    area = ground.area(x, y)
    if not area:
        raise ValueError(
            f"{named}: it starts inside an obstacle of {place.name}, at ({x:.2f}, {y:.2f}); "
            f"the nearest free place is ({near[0]:.2f}, {near[1]:.2f})"
        )
    found = [
        Goal((*spot, ground.floor), episode.goals[number].radius)
        for number, spot in goals.items()
        if ground.area(*spot) == area
    ]
    if not found:
        count = len(episode.goals)
        raise ValueError(
            f"{named}: no way leads from its start ({x:.2f}, {y:.2f}) to "
            f"{'its goal' if count == 1 else f'any of its {count} goals'} in {place.name}"
        )
    return found
