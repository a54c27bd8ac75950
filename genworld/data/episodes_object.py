"""ObjectNav's files (Batra et al. 2020; HM3D's and MP3D's challenges): goals are shared by scene and category."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from genworld.data.episodes_axes import rotation_of_heading, to_habitat
from genworld.data.episodes_ce import encode_habitat, goals_of, mean_place, parse_habitat
from genworld.data.episodes_records import RADII, EpisodeRecord, EpisodeSet, Parse, Role, list_of, object_of, text_of
from genworld.world.navigation.episode import Episode, Goal

_BY_CATEGORY = "goals_by_category"


def goals_key(scene: str, category: str) -> str:
    """Under which the goals are listed: the name of the scene's file, and the category."""
    return f"{scene.rsplit('/', 1)[-1]}_{category}"


def object_parser(header: Mapping[str, Any], role: Role) -> Parse:
    """Reads entries of a file with this header.

    Raises:
        ValueError: `goals_by_category` is no object.
    """
    listed = object_of(header, _BY_CATEGORY)
    known: dict[str, tuple[Goal, ...]] = {}

    def parse(item: Mapping[str, Any]) -> list[EpisodeRecord]:
        own = list_of(item, "goals")
        if own:
            return [parse_habitat(item, "objectnav", role, goals_of(own, "objectnav"))]
        key = goals_key(text_of(item, "scene_id"), text_of(item, "object_category"))
        if key not in listed:
            raise ValueError(f"{_BY_CATEGORY!r} has no goals under {key!r}")
        if key not in known:
            known[key] = goals_of(list_of(listed, key), "objectnav")
        return [parse_habitat(item, "objectnav", role, known[key])]

    return parse


def encode_objectnav(given: EpisodeSet) -> dict[str, Any]:
    """The contents of a file.

    A new object's `position`, which no episode tells, is the middle of the places from which it is seen.

    Raises:
        ValueError: two episodes of a scene look for one category and have different goals.
    """
    header = {**given.header, _BY_CATEGORY: dict(object_of(given.header, _BY_CATEGORY))}
    goals: dict[str, tuple[Goal, ...]] = {}
    fresh: dict[str, Episode] = {}
    items = []
    for record in given.records:
        item = encode_habitat(record, "objectnav")
        items.append(item)
        if item.get("goals"):
            continue
        _share(goals, record.episode)
        if any(map(record.changed, ("goals", "scene", "category"))):
            fresh[_key(record.episode)] = record.episode
    for key, episode in fresh.items():
        header[_BY_CATEGORY][key] = _objects(episode.goals, episode.category or "")
    if not given.header:
        names = sorted({record.episode.category or "" for record in given.records})
        header["category_to_task_category_id"] = {name: number for number, name in enumerate(names)}
        header["category_to_scene_annotation_category_id"] = dict(header["category_to_task_category_id"])
    return {"episodes": items, **header}


def _key(episode: Episode) -> str:
    return goals_key(episode.scene, episode.category or "")


def _share(goals: dict[str, tuple[Goal, ...]], episode: Episode) -> None:
    if goals.setdefault(_key(episode), episode.goals) != episode.goals:
        raise ValueError(
            f"episode {episode.id!r}: another one that looks for {episode.category!r} in {episode.scene!r} has other "
            "goals, but objectnav lists goals by scene and category: give them different categories"
        )


def _objects(goals: tuple[Goal, ...], category: str) -> list[dict[str, Any]]:
    groups = [(radius, list(some)) for radius, some in groupby(goals, key=lambda goal: goal.radius)]
    return [
        {
            "object_id": number,
            "object_name": f"{category}_{number}",
            "object_category": category,
            "position": list(to_habitat(mean_place(group))),
            "radius": None if radius == RADII["objectnav"] else radius,
            "view_points": [
                {
                    "agent_state": {
                        "position": list(to_habitat(goal.position)),
                        "rotation": list(rotation_of_heading(0.0)),
                    },
                    "iou": 0.0,
                }
                for goal in group
            ],
        }
        for number, (radius, group) in enumerate(groups)
    ]
