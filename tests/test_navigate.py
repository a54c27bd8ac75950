"""Walks that are filmed, goals in words and numbers, and tables of agents."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from genworld.pipelines import navigation_evaluation
from genworld.pipelines.command import USER_ERROR, run_command
from genworld.pipelines.navigate import FilmConfig, film_walk
from genworld.pipelines.navigation_agents import BASELINES, Agent, baseline_agent
from genworld.pipelines.navigation_evaluation import HELD_OUT, NavigationExam, evaluate_navigation, write_scores
from genworld.pipelines.navigation_goals import goal_episode, goal_point, open_ground, thing_named
from genworld.types import Scene
from genworld.world.navigation.baselines import Policy
from genworld.world.navigation.environment import NavigationEnv
from genworld.world.navigation.place import Place, place_of_floor, place_of_scene
from genworld.world.rooms.language.facts import Facts
from genworld.world.rooms.language.referring import phrases
from tests.world.room_floors import floor_of
from tools import evaluate_nav, navigate

SMALL = FilmConfig(size=64)


@cache
def place_of(seed: int) -> Place:
    return place_of_floor(floor_of(seed))


def scan() -> Scene:
    """An empty floor of 3 x 2 m with a pillar."""
    x, y = np.meshgrid(np.arange(0, 3, 0.03), np.arange(0, 2, 0.03))
    ground = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    pillar = np.array([[1.5 + i, 1.0 + j, z] for i in (0, 0.03) for j in (0, 0.03) for z in np.arange(0, 1, 0.05)])
    points = torch.from_numpy(np.concatenate([ground, pillar])).float()
    return Scene("pillar", points=points, colours=torch.full_like(points, 0.5))


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def test_words_find_the_one_thing_that_they_fit() -> None:
    facts = Facts(floor_of(1))
    told = {i: str(found[0]) for i in range(len(facts.things)) if (found := phrases(facts, i))}
    assert len(told) > 5
    for index, phrase in told.items():
        assert thing_named(facts, f"Find {phrase}.") == index


def test_goals_that_fit_nothing_or_several_are_refused_with_what_there_is() -> None:
    facts = Facts(floor_of(1))
    with pytest.raises(ValueError, match=r"names no thing that floors have; on rooms-1 there are .*the bed"):
        thing_named(facts, "find the unicorn")
    with pytest.raises(ValueError, match=r"names several things \(the bed, the sofa\)"):
        thing_named(facts, "find the bed and the sofa")
    with pytest.raises(ValueError, match=r"no such thing; there are .*the bed"):
        thing_named(facts, "find the pink sofa")
    stools = sum(thing.kind == "stool" for thing in facts.things)
    with pytest.raises(ValueError, match=f"fits {stools} things of rooms-1: say which of .*that no phrase tells apart"):
        thing_named(facts, "go to the stool")


def test_an_episode_to_a_thing_ends_where_it_is_seen() -> None:
    episode = goal_episode(floor_of(1), place_of(1), "find the bed", seed=3)
    facts = Facts(floor_of(1))
    (index,) = [i for i, thing in enumerate(facts.things) if thing.kind == "bed"]
    low, high = facts.things[index].box.lower[:2], facts.things[index].box.upper[:2]
    for goal in episode.goals:
        place = np.array(goal.position[:2])
        assert np.hypot(*np.maximum(low - place, place - high).clip(0)) <= 1.0 + 1e-9
    assert episode.instruction == "find the bed"
    assert episode.category == "bed"
    assert episode.geodesic_distance is not None
    assert episode.geodesic_distance >= 1.5
    assert episode == goal_episode(floor_of(1), place_of(1), "find the bed", seed=3)
    assert episode.start_position != goal_episode(floor_of(1), place_of(1), "find the bed", seed=4).start_position


def test_points_are_told_from_words_and_must_be_on_free_ground() -> None:
    assert goal_point("1.5,-2") == (1.5, -2.0)
    assert goal_point(" -.5 , +3 ") == (-0.5, 3.0)
    assert goal_point("find the bed") is None
    assert goal_point("1") is None
    room = scan()
    place = place_of_scene(room)
    episode = goal_episode(room, place, "0.5,0.5")
    assert episode.goals[0].position[:2] == (0.5, 0.5)
    assert episode.goals[0].radius == 0.2
    with pytest.raises(ValueError, match=r"nobody can walk to \(1.51, 1.01\) m; the nearest place .* is \("):
        goal_episode(room, place, "1.51,1.01")


def test_a_thing_of_a_scan_is_where_one_is_told_that_it_is() -> None:
    room = scan()
    place = place_of_scene(room)
    with pytest.raises(ValueError, match="have no names to go by: say on which free ground"):
        goal_episode(room, place, "find the table")
    with pytest.raises(ValueError, match=r"names no thing that floors have; agents have words for .*table"):
        goal_episode(room, place, "find the pillar", at=(0.5, 0.5))
    episode = goal_episode(room, place, "find the red table", at=(0.5, 0.5))
    assert (episode.category, episode.instruction) == ("red table", "find the red table")
    (goal,) = episode.goals
    assert (*goal.position[:2], goal.radius) == (0.5, 0.5, 1.0)
    for goal_, at in (("0.5,0.5", (0.5, 0.5)), ("", (0.5, 0.5))):
        with pytest.raises(ValueError, match="with a goal in words, in a scan"):
            goal_episode(room, place, goal_, at=at)
    with pytest.raises(ValueError, match="with a goal in words, in a scan"):
        goal_episode(floor_of(1), place_of(1), "find the bed", at=(0.5, 0.5))


def test_grounds_are_floors_or_folders(tmp_path: Path) -> None:
    assert open_ground("3").name == "rooms-3"
    with pytest.raises(ValueError, match="no such file or folder"):
        open_ground(str(tmp_path / "nothing"))


def test_a_walk_becomes_a_film_and_a_picture(tmp_path: Path) -> None:
    filmed = film_walk(floor_of(0), baseline_agent("oracle"), tmp_path / "walk.mp4", "find the large rug", 0, SMALL)
    assert filmed.measures["success"] == 1
    assert filmed.measures["spl"] > 0.9
    assert str(filmed).startswith("arrived: rooms-0/thing/")
    frames = frames_of(filmed.video)
    steps = len(filmed.run.positions) - 1
    assert len(frames) == steps + round(1.5 * SMALL.fps)  # one before each action, and the end for a while
    view = [frame[26 : 26 + 64, :64].astype(float) for frame in frames]
    assert np.abs(view[0] - view[steps // 2]).mean() > 5  # the view moves
    red = [((frame[..., 0] > 150) & (frame[..., 1:] < 110).all(-1))[:, 70:].sum() for frame in frames]
    assert red[-1] > red[0]  # so does the way on the map
    assert filmed.picture == tmp_path / "walk.png"
    assert min(Image.open(filmed.picture).size) > 400


def test_a_scan_is_walked_to_a_random_point(tmp_path: Path) -> None:
    filmed = film_walk(scan(), baseline_agent("frontier"), tmp_path / "walk.gif", config=SMALL, max_steps=40)
    assert filmed.video.is_file()
    assert filmed.run.episode == "pillar/0"
    other = film_walk(scan(), baseline_agent("forward"), tmp_path / "other.mp4", config=SMALL, max_steps=3)
    assert not other.run.stopped
    assert str(other).startswith("cut ")


def test_bad_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a video, .mp4 or .gif"):
        film_walk(scan(), baseline_agent("oracle"), tmp_path / "walk.png")
    with pytest.raises(ValueError, match="at least 64 pixels"):
        FilmConfig(size=10)


def test_agents_walk_each_episode_once_and_scores_do_not_depend_on_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = NavigationExam(floors=2, max_steps=40)
    agents = [baseline_agent("oracle"), baseline_agent("random")]
    scores = evaluate_navigation(exam, agents)
    ids = [episode.id for episode in scores.episodes]
    assert [name.split("/")[0] for name in ids] == [f"rooms-{HELD_OUT + i}" for i in range(2)]
    assert all([row["episode_id"] for row in report.rows] == ids for report in scores.reports.values())
    errors = [report.figures["navigation_error"].value for report in scores.reports.values()]
    assert errors[0] < errors[1]

    parts: list[list] = []
    for rank in (1, 0):  # as two processes share it
        world = replace(navigation_evaluation.find_world(), rank=rank, size=2)
        monkeypatch.setattr(navigation_evaluation, "find_world", lambda world=world: world)
        monkeypatch.setattr(navigation_evaluation, "gather", lambda mine: parts.append(mine) or parts)
        shared = evaluate_navigation(exam, agents)
        assert shared.is_main == (rank == 0)
        monkeypatch.undo()
    assert shared.to_dict() == scores.to_dict()

    results, card = write_scores(scores, tmp_path / "nav" / "results.json", {"command": "this"})
    record = json.loads(results.read_text())
    assert record["provenance"] == {"command": "this"}
    assert len(record["agents"]["random"]["rows"]) == 2
    assert card.name == "card.md"
    assert f"| oracle | {scores.reports['oracle'].figures['success'].value:.3f} [" in card.read_text()


def test_walks_that_were_walked_are_not_walked_again(tmp_path: Path) -> None:
    made: list[str] = []

    def counting(name: str, version: str = "1") -> Agent:
        agent = baseline_agent("random")

        def make(env: NavigationEnv, seed: int) -> Policy:
            made.append(name)
            return agent.make(env, seed)

        return Agent(name, make, False, "", version)

    exam, kept = NavigationExam(floors=1, max_steps=20), tmp_path / "walks"
    plain = evaluate_navigation(exam, [counting("a")])
    first = evaluate_navigation(exam, [counting("a")], kept)
    assert first.to_dict() == plain.to_dict()
    assert made == ["a", "a"]
    assert evaluate_navigation(exam, [counting("a")], kept).to_dict() == plain.to_dict()
    assert made == ["a", "a"]
    evaluate_navigation(exam, [counting("a"), counting("b")], kept)
    assert made == ["a", "a", "b"]
    evaluate_navigation(exam, [counting("a", "2")], kept)  # trained on
    evaluate_navigation(replace(exam, max_steps=21), [counting("a", "2")], kept)
    assert made == ["a", "a", "b", "a", "a"]
    (file,) = (kept / "b").iterdir()
    file.write_text(file.read_text()[:40])  # as a full disk leaves it
    evaluate_navigation(exam, [counting("b")], kept)
    assert made[5:] == ["b"]


def test_tables_say_which_dtw_was_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ["--floors", "1", "--sort", "instruction", "--policies", "forward", "--max-steps", "40"]
    found = {}
    for name in ("exact", "fastdtw"):
        out = tmp_path / "out.json"  # the same walks, which are kept
        monkeypatch.setattr("sys.argv", ["evaluate_nav.py", *arguments, "--dtw", name, "--out", str(out)])
        assert evaluate_nav.main() == 0
        found[name] = json.loads(out.read_text())["agents"]["forward"]
        assert found[name]["dtw"] == name
        assert f"{name} DTW" in (tmp_path / "out-card.md").read_text()
    assert found["fastdtw"]["rows"][0]["ndtw"] <= found["exact"]["rows"][0]["ndtw"]


def test_every_sort_of_episode_has_its_own_goals() -> None:
    for sort, told in (("object", "category"), ("instruction", "instruction"), ("point", "reference_path")):
        exam = NavigationExam(floors=1, sort=sort, each=2)  # type: ignore[arg-type]
        found = exam.episodes(floor_of(1), place_of(1))
        assert len(found) == 2
        assert all(f"/{sort}/" in episode.id and getattr(episode, told) for episode in found)


def test_bad_exams_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NavigationExam(floors=0)
    twice = [baseline_agent("forward")] * 2
    with pytest.raises(ValueError, match="different names, got forward, forward"):
        evaluate_navigation(NavigationExam(floors=1), twice)


def test_only_the_explorer_among_the_baselines_sees() -> None:
    assert [name for name in BASELINES if baseline_agent(name).images] == ["frontier"]


def test_tools_know_all_baselines_and_refuse_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert set(navigate.POLICIES) == set(evaluate_nav.POLICIES) == set(BASELINES)
    out = tmp_path / "walk.mp4"
    monkeypatch.setattr("sys.argv", ["navigate.py", "--scene", "1", "--goal", "the unicorn", "--out", str(out)])
    assert run_command(navigate.main) == USER_ERROR
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: goal 'the unicorn' names no thing")
    assert not out.exists()
