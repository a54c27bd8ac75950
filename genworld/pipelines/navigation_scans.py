"""Things of scans: which boxes words name, and the free ground from which they are reached."""

from __future__ import annotations

import re
from itertools import pairwise
from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from genworld.types import Scene, SceneBox
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.episode import Episode, Goal, Position
from genworld.world.navigation.mapping import scene_points
from genworld.world.navigation.place import Place
from genworld.world.navigation.route_facts import LATTICE, REACH, gaps_to, lattice_of, spaced
from genworld.world.navigation.routes import STEP
from genworld.world.navigation.scout import sees_middle, voxel_keys
from genworld.world.rooms.furniture import COLOURS, KINDS, MATERIALS, SIZES

_TRIES = 1000
_LEAST = 1.0  # metres from start to goal on foot
_LISTED = 16  # labels named in an error
_SAID_OF = {*COLOURS, *MATERIALS, *SIZES}
_ARTICLES = {"the", "a", "an", "any", "some"}
_RELATIONS = {"on", "in", "next", "near", "beside", "between", "by", "under", "behind", "at", "with", "of"}


class Noun(NamedTuple):
    """What words name.

    Attributes:
        word: a label of the scan, or a kind of thing that the world knows; lower case.
        more: whether they say more of it than labels can tell, such as its colour or what it stands next to.
    """

    word: str
    more: bool


def named_noun(scene: Scene, goal: str) -> Noun | None:
    """The thing that a goal names, by the labels of a scan and the world's words; None where it names none.

    Raises:
        ValueError: it names several.
    """
    text = " ".join(goal.lower().split())
    known = sorted({*_labels(scene), *KINDS}, key=len, reverse=True)
    word = "|".join(map(re.escape, known))
    found = list(re.finditer(rf"(?<!\w)(?:{word})(?: (?:{word}))*(?!\w)", text))  # "desk lamp" is one noun
    if not found:
        return None
    for one, other in pairwise(found):
        if not _RELATIONS.intersection(text[one.end() : other.start()].split()[:1]):
            said = ", ".join(f"the {match[0]}" for match in found)
            raise ValueError(f"goal {goal!r} names several things ({said}): name the one to go to")
    before, after = text[: found[0].start()].split(), text[found[0].end() :].split()
    article = max((i for i, each in enumerate(before) if each in _ARTICLES), default=len(before))
    more = article + 1 < len(before) or _SAID_OF.intersection(before[-1:]) or _RELATIONS.intersection(after[:1])
    return Noun(found[0][0], bool(more))


def named_boxes(scene: Scene, goal: str) -> tuple[list[SceneBox], str]:
    """The boxes of a scan that a goal in words may mean, any of them; where there are none, why not.

    A label fits a noun that it ends with: an office chair is a chair.

    Raises:
        ValueError: the goal names several things.
    """
    if not _labels(scene):
        return [], f"things of the scan {scene.name} have no names to go by"
    noun = named_noun(scene, goal)
    fit = [box for box in scene.boxes if noun and f" {_label(box)}".endswith(f" {noun.word}")]
    if noun is None or not fit:
        labels = sorted(_labels(scene))
        rest = ", …" if len(labels) > _LISTED else ""
        return [], f"no label of the scan {scene.name} is that ({', '.join(labels[:_LISTED])}{rest})"
    if noun.more and len(fit) > 1:
        return [], f"{len(fit)} things of the scan {scene.name} are labelled {noun.word}, and labels tell no more"
    return fit, ""


def box_episode(scene: Scene, place: Place, boxes: list[SceneBox], seed: int) -> Episode | None:
    """A walk from a random start to any of some boxes, by the rule of the world's floors: a function of its arguments.

    One has arrived near a place on a lattice of free ground, within `REACH` of a box, from which its middle is seen (of
    a box that is seen from none of them: near any of them). None where there is no such place.

    Raises:
        ValueError: no start is far enough from them on foot.
    """
    solid = np.unique(voxel_keys(scene_points(scene)[0]))
    spots = np.concatenate([_spots(place, box, solid) for box in boxes])
    if not len(spots):
        return None
    spots = np.unique(spots, axis=0)
    field = place.geodesics.toward([(float(x), float(y)) for x, y in spots.tolist()])
    chance = Random(f"box/{scene.name}/{seed}")
    starts = place.map.places().tolist()
    drawn = (chance.choice(starts) for _ in range(_TRIES))
    start = next(((x, y) for x, y in drawn if field.distance(x, y) >= _LEAST), None)
    if start is None:
        raise ValueError(f"{scene.name}: no start is {_LEAST} m or more from that on foot: take a goal further away")
    return Episode(
        id=f"{scene.name}/box/{'+'.join(str(box.id) for box in boxes)}/{seed}",
        scene=place.name,
        start_position=_position(place, start),
        start_heading=chance.uniform(-3.14159, 3.14159),
        goals=tuple(Goal(_position(place, (x, y)), LATTICE) for x, y in spots.tolist()),
        reference_path=tuple(_position(place, (x, y)) for x, y in spaced(field.path(*start), STEP).tolist()),
        geodesic_distance=field.distance(*start),
    )


def boxes_of_episode(scene: Scene, episode: Episode) -> list[SceneBox]:
    """The boxes that an episode of `box_episode` leads to; none of another."""
    *_, sort, which, _ = ("", "", *episode.id.split("/"))
    return [box for box in scene.boxes if sort == "box" and str(box.id) in which.split("+")]


def aimless_episode(place: Place, seed: int) -> Episode:
    """A random start and nowhere to come to: for walks to what nobody can place.

    The environment wants a goal. It is the start itself, within 0 m: nobody arrives there, and nothing is measured.
    """
    chance = Random(f"aimless/{place.name}/{seed}")
    x, y = chance.choice(place.map.places().tolist())
    start = _position(place, (x, y))
    return Episode(
        f"{place.name}/aimless/{seed}", place.name, start, chance.uniform(-3.14159, 3.14159), (Goal(start, 0.0),)
    )


def is_aimless(episode: Episode) -> bool:
    """Whether nobody knows where an episode should lead."""
    return all(goal.radius == 0 for goal in episode.goals)


def _spots(place: Place, box: SceneBox, solid: Int[np.ndarray, " S"]) -> Float[np.ndarray, "K 2"]:
    """Where one is at a box, metres; see `box_episode`."""
    lower, upper = (corner.double().numpy() for corner in (box.lower, box.upper))
    lattice = lattice_of(place.map)
    near = lattice[gaps_to(lattice, lower, upper) <= REACH]
    height = place.map.floor + CameraConfig().height
    eyes = np.concatenate([near, np.full((len(near), 1), height)], axis=1)
    seen = near[sees_middle(eyes, lower, upper, solid)]
    return seen if len(seen) else near


def _position(place: Place, spot: tuple[float, float]) -> Position:
    return float(spot[0]), float(spot[1]), place.map.floor


def _label(box: SceneBox) -> str:
    return " ".join(box.label.lower().split())


def _labels(scene: Scene) -> set[str]:
    return {_label(box) for box in scene.boxes} - {""}
