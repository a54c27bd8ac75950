"""What a walk is to lead to: a thing that words name, a point, or any point."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genworld.data.scenes import open_scenes
from genworld.pipelines.navigation_scans import (
    aimless_episode,
    box_episode,
    boxes_of_episode,
    is_aimless,
    named_boxes,
    named_noun,
)
from genworld.types import Scene
from genworld.world.navigation.episode import Episode, Position
from genworld.world.navigation.place import Place, point_goal
from genworld.world.navigation.route_facts import Surroundings
from genworld.world.navigation.routes import RouteConfig, route_episodes, thing_goal
from genworld.world.rooms import Floor, sample_floor
from genworld.world.rooms.furniture import KINDS
from genworld.world.rooms.language.facts import Facts
from genworld.world.rooms.language.mentions import Mention, mentions
from genworld.world.rooms.language.referring import fits, phrases

logger = logging.getLogger(__name__)

_POINT = re.compile(r"\s*([-+]?\d*\.?\d+)\s*,\s*([-+]?\d*\.?\d+)\s*")
_LISTED = 16  # things named in an error
_REACH = 1.0  # metres from where a thing of a scan is to be approached that are near enough; of things of floors too


def open_ground(name: str, which: str | None = None) -> Floor | Scene:
    """A floor of the world from its seed, or a scan from its folder.

    Args:
        name: a seed or a path.
        which: the scene of a folder; its first by default.

    Raises:
        ValueError: there is no such folder, or no such scene in it.
    """
    if name.isdecimal() and not Path(name).exists():
        return sample_floor(int(name))
    source = open_scenes(Path(name))
    return source.read(which or source.names[0])


def goal_point(goal: str) -> tuple[float, float] | None:
    """The x and y of a goal such as "1.5,-2"; None of one in words."""
    match = _POINT.fullmatch(goal)
    return None if match is None else (float(match[1]), float(match[2]))


def goal_episode(
    ground: Floor | Scene,
    place: Place,
    goal: str | int = "",
    seed: int = 0,
    at: tuple[float, float] | None = None,
    must_know: bool = True,
) -> Episode:
    """An episode to a goal from a random start, or a walk that an instruction describes.

    Args:
        ground: the floor or scan.
        place: its free ground.
        goal: words that name one thing of a floor, or a thing of a scan; x,y in metres; "" for a random point; the
            number of a described walk.
        seed: of the start, and of a random goal.
        at: x and y of free ground beside the thing that words name, in scans, where no box of theirs says where that is
            (see `named_boxes`). Walks are measured by it, and the oracle takes it; no other agent is told.
        must_know: whether a thing of a scan that nobody can place is an error; else the episode leads nowhere and
            cannot be measured (see `is_aimless`).

    Raises:
        ValueError: the goal names nothing or several things, is in words where nobody knows where that is and somebody
            must, or cannot be reached.
    """
    words = isinstance(goal, str) and goal.strip() and goal_point(goal) is None
    if at is not None and not (words and isinstance(ground, Scene)):
        raise ValueError("a place beside a thing is given with a goal in words, in a scan: leave `at` out elsewhere")
    if isinstance(goal, int):
        return _described(ground, place, goal, seed)
    point = goal_point(goal)
    if point is not None or not goal.strip():
        return point_goal(place, seed, goal=point)
    if isinstance(ground, Scene):
        episode = _to_thing(ground, place, goal, seed, at, must_know)
        return replace(episode, instruction=goal, category=_category(ground, goal))
    around = Surroundings(ground, place)
    episode = thing_goal(around, thing_named(around.facts, goal), goal, seed)
    return replace(episode, category=_named(around.facts, goal).phrase.removeprefix("the "))


def goal_marks(ground: Floor | Scene, episode: Episode) -> list[Position]:
    """Where the goal of an episode is shown: a thing's middle or the end of a described walk, not all that will do."""
    if isinstance(ground, Scene):
        middles = [box.centre.tolist() for box in boxes_of_episode(ground, episode)]
    elif episode.category is not None:
        middles = [ground.things[int(episode.id.split("/")[-2])].box.centre.tolist()]
    else:
        middles = []
    if middles or is_aimless(episode):
        return [(x, y, z) for x, y, z in middles]
    return [goal.position for goal in episode.goals] if len(episode.goals) == 1 else [episode.reference_path[-1]]


def _to_thing(
    scene: Scene, place: Place, goal: str, seed: int, at: tuple[float, float] | None, must_know: bool
) -> Episode:
    if at is not None:
        return point_goal(place, seed, radius=_REACH, goal=at)
    boxes, why = named_boxes(scene, goal)
    episode = box_episode(scene, place, boxes, seed) if boxes else None
    if episode is not None:
        return episode
    why = why or f"nobody can stand within {_REACH} m of that in the scan {scene.name}"
    if must_know:
        raise ValueError(
            f"goal {goal!r}: {why}: say on which free ground beside it one should end, as x,y in metres "
            "(--at=1.5,-2); or give that alone as the goal, or none"
        )
    logger.warning("goal %r: %s, so that the walk is not measured", goal, why)
    return aimless_episode(place, seed)


def _category(scene: Scene, goal: str) -> str:
    """What the agent is told to find: in the world's words, or else by a label of the scan."""
    noun = named_noun(scene, goal)
    if noun is not None and noun.word not in KINDS:
        return noun.word
    return _mentioned(goal, f"agents have words for {', '.join(KINDS)}").phrase.removeprefix("the ")


def _described(ground: Floor | Scene, place: Place, number: int, seed: int) -> Episode:
    if isinstance(ground, Scene):
        raise ValueError(f"the scan {ground.name} has no described walks: they are read off plans, which it has not")
    found = route_episodes(Surroundings(ground, place), RouteConfig(wordings=1), f"{seed}.{number}")
    if found is None:
        raise ValueError(f"{ground.name} has no walk number {number} that can be described: take another")
    return found[1][0]


def _named(facts: Facts, goal: str) -> Mention:
    return _mentioned(goal, f"on {facts.floor.name} there are {_names(facts, range(len(facts.things)))}")


def _mentioned(goal: str, instead: str) -> Mention:
    """The one thing that a goal names; an error says what there is instead."""
    every = mentions(goal)
    anchors = {str(mention.meant.anchor) for mention in every if mention.meant.anchor}
    named = [mention for mention in every if mention.phrase not in anchors]
    if not named:
        raise ValueError(f"goal {goal!r} names no thing that floors have; {instead}")
    if len(named) > 1:
        said = ", ".join(mention.phrase for mention in named)
        raise ValueError(f"goal {goal!r} names several things ({said}): name the one to go to")
    return named[0]


def thing_named(facts: Facts, goal: str) -> int:
    """Index of the one thing that a goal names.

    Raises:
        ValueError: it names nothing that is there, or several things.
    """
    floor = facts.floor.name
    found = fits(facts, _named(facts, goal).meant)
    if not found:
        raise ValueError(
            f"goal {goal!r}: {floor} has no such thing; there are {_names(facts, range(len(facts.things)))}"
        )
    if len(found) > 1:
        raise ValueError(f"goal {goal!r} fits {len(found)} things of {floor}: say which of {_names(facts, found)}")
    return found[0]


def _names(facts: Facts, some: Sequence[int]) -> str:
    """Things by the shortest phrase that fits each alone, and how many there are without one."""
    alone = [next(map(str, phrases(facts, i)), None) for i in some]
    names = sorted(name for name in alone if name is not None)
    rest = len(alone) - len(names)
    told = [*names[:_LISTED], *([f"{len(names) - _LISTED} more"] if len(names) > _LISTED else [])]
    return ", ".join([*told, *([f"{rest} that no phrase tells apart"] if rest else [])])
