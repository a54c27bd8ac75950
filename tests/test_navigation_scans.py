"""Goals in words in scans: boxes with labels say where things are; where none does, walks are not measured."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from genworld.pipelines.navigate import UNMEASURED, FilmConfig, film_walk
from genworld.pipelines.navigation_agents import Agent, baseline_agent
from genworld.pipelines.navigation_goals import goal_episode, goal_marks
from genworld.pipelines.navigation_scans import is_aimless, named_boxes, named_noun
from genworld.types import Scene, SceneBox
from genworld.world.navigation.baselines import ForwardPolicy
from genworld.world.navigation.place import Place, place_of_scene
from genworld.world.navigation.route_facts import REACH, gaps_to, lattice_of

SMALL = FilmConfig(size=64)
PUPIL = Agent("pupil", lambda env, seed: ForwardPolicy(3), images=False, note="")
CHAIR = ((1.3, 1.0, 0.0), (1.7, 1.4, 0.8))


def block(lower: tuple[float, ...], upper: tuple[float, ...]) -> np.ndarray:
    """Points that fill a box, metres."""
    axes = [np.arange(low, high, 0.05) for low, high in zip(lower, upper, strict=True)]
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3)


@cache
def scan(*labels: str) -> Scene:
    """A floor of 4 x 3 m with a chair, beside it a wall that is open at one end, and labels for boxes of the chair."""
    x, y = np.meshgrid(np.arange(0, 4, 0.03), np.arange(0, 3, 0.03))
    ground = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    solid = [block(*CHAIR), block((1.95, 0.0, 0.0), (2.0, 2.3, 2.0))]
    points = torch.from_numpy(np.concatenate([ground, *solid])).float()
    boxes = tuple(SceneBox(label, i, torch.tensor(CHAIR[0]), torch.tensor(CHAIR[1])) for i, label in enumerate(labels))
    return Scene("den", points=points, colours=torch.full_like(points, 0.5), boxes=boxes)


@cache
def place() -> Place:
    return place_of_scene(scan())


def test_labels_are_named_by_their_nouns() -> None:
    room = scan("Office  Chair", "chair", "table", "desk", "towel")

    def named(goal: str) -> list[int]:
        return [box.id for box in named_boxes(room, goal)[0]]

    assert named("Find the chair.") == [0, 1]
    assert named("find the office chair") == [0]
    assert named("go to the towel, please") == [4]
    assert named("find the red table") == [2]  # there is only one
    assert named("find the table next to the desk") == [2]
    assert named("find the desk lamp") == []  # which is no desk
    assert named("find the armchair") == []
    assert named_boxes(room, "find the sofa")[1] == (
        "no label of the scan den is that (chair, desk, office chair, table, towel)"
    )
    for goal in ("find the red chair", "find the rolling chair", "find the chair next to the desk"):
        assert named_boxes(room, goal) == ([], "2 things of the scan den are labelled chair, and labels tell no more")
    with pytest.raises(ValueError, match=r"several things \(the chair, the towel\): name the one"):
        named_boxes(room, "find the chair and the towel")
    assert named_noun(room, "look for something") is None
    assert named_boxes(scan(), "find the chair")[1] == "things of the scan den have no names to go by"


def test_a_labelled_thing_is_reached_from_where_it_is_seen() -> None:
    room, lower, upper = scan("office chair"), np.array(CHAIR[0]), np.array(CHAIR[1])
    episode = goal_episode(room, place(), "find the chair", seed=1)
    goals = np.array([goal.position[:2] for goal in episode.goals])
    near = lattice_of(place().map)
    near = near[gaps_to(near, lower, upper) <= REACH]
    assert (near[:, 0] > 2).any()  # behind the wall one is near enough
    assert (goals[:, 0] < 2).all()  # and does not see it
    assert len(goals) == (near[:, 0] < 2).sum() > 5
    assert {goal.radius for goal in episode.goals} == {0.25}
    assert (episode.category, episode.instruction) == ("chair", "find the chair")
    assert episode.geodesic_distance is not None
    assert episode.geodesic_distance >= 1
    assert episode == goal_episode(room, place(), "find the chair", seed=1)
    assert episode.start_position != goal_episode(room, place(), "find the chair", seed=2).start_position
    assert goal_marks(room, episode) == [pytest.approx((1.5, 1.2, 0.4))]
    assert goal_episode(room, place(), "find the office chair").category == "office chair"


def test_a_place_that_is_given_comes_before_labels() -> None:
    given = goal_episode(scan("chair"), place(), "find the red chair", at=(0.5, 0.5))
    assert given == goal_episode(scan(), place(), "find the red chair", at=(0.5, 0.5))
    assert goal_marks(scan("chair"), given) == [given.goals[0].position]


def test_a_thing_that_nobody_can_place_or_reach_is_an_error_for_who_must_know() -> None:
    with pytest.raises(ValueError, match=r"have no names to go by: say on which free ground .*--at=1.5,-2"):
        goal_episode(scan(), place(), "find the chair")
    with pytest.raises(ValueError, match=r"no label of the scan den is that \(table\): say on which"):
        goal_episode(scan("table"), place(), "find the chair")
    far = SceneBox("chair", 0, torch.full((3,), 9.0), torch.full((3,), 9.5))
    away = Scene("den", points=scan().points, colours=scan().colours, boxes=(far,))
    with pytest.raises(ValueError, match=r"nobody can stand within 1.0 m of that in the scan den: say on which"):
        goal_episode(away, place(), "find the chair")
    with pytest.raises(ValueError, match="names no thing that floors have; agents have words for"):
        goal_episode(scan(), place(), "find the unicorn", must_know=False)


def test_a_walk_that_cannot_be_measured_is_filmed_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "genworld.pipelines.navigation_goals"):
        filmed = film_walk(scan(), PUPIL, tmp_path / "walk.mp4", "find the chair", config=SMALL)
    assert "so that the walk is not measured" in caplog.text
    assert is_aimless(filmed.episode)
    assert filmed.episode.category == "chair"
    assert goal_marks(scan(), filmed.episode) == []
    assert filmed.measures == {}
    assert filmed.run.stopped
    assert not filmed.run.success  # though it may stop where it began, which is the goal that stands there for none
    assert str(filmed).startswith("stopped: den/aimless/0, 4 steps, ")
    assert str(filmed).endswith(f", {UNMEASURED}")
    assert filmed.video.is_file()
    assert filmed.picture.is_file()
    with pytest.raises(ValueError, match=r"--at=1.5,-2"):
        film_walk(scan(), baseline_agent("oracle"), tmp_path / "other.mp4", "find the chair", config=SMALL)
    assert not (tmp_path / "other.mp4").exists()


def test_walks_to_labelled_things_are_measured(tmp_path: Path) -> None:
    room = scan("office chair", "table")
    filmed = film_walk(room, baseline_agent("oracle"), tmp_path / "walk.gif", "find the chair", 1, SMALL)
    assert filmed.measures["success"] == 1
    assert filmed.measures["ndtw"] > 0.8
    assert str(filmed).startswith("arrived: den/box/0/1, ")
    other = film_walk(room, PUPIL, tmp_path / "other.mp4", "find the chair", 1, SMALL)
    assert other.measures["navigation_error"] > 0
    assert UNMEASURED not in str(other)
