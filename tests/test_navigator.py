"""The agent that a scene model guides: it arrives, sees nothing but its observations, and learns from walks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from tiny_rooms import points_config

from genworld.data.walk_prompts import (
    Said,
    clauses_of,
    find_text,
    read_answer,
    walk_answer,
    walk_prompt,
)
from genworld.data.walk_turns import DOOR, WalksData, WalkTurns
from genworld.data.walks import read_walks, write_walks
from genworld.experiment import load_experiment, train
from genworld.models.points import DirectLifter
from genworld.models.scene_points import ScenePoints
from genworld.pipelines.command import USER_ERROR, run_command
from genworld.pipelines.navigate import FilmConfig, film_walk
from genworld.pipelines.navigation_agents import scene_agents
from genworld.pipelines.navigation_evaluation import NavigationExam, evaluate_navigation
from genworld.pipelines.navigation_walks import LessonPlan, record_walks
from genworld.pipelines.navigator import Advice, Navigator, NavigatorConfig, Query
from genworld.pipelines.navigator_eyes import SceneEyes
from genworld.pipelines.navigator_guide import ClauseGuide, GuideConfig, Reply, Request
from genworld.pipelines.navigator_teacher import Teacher, tasks_of
from genworld.types import Scene
from genworld.world.navigation.baselines import run
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.motion import Action, MotionConfig, Stance
from genworld.world.navigation.observed import view_of
from genworld.world.navigation.occupancy import AgentConfig
from genworld.world.navigation.place import Place, place_of_floor
from genworld.world.navigation.route_facts import Surroundings
from genworld.world.navigation.routes import RouteConfig, draw_route, object_episode, route_episodes
from genworld.world.navigation.scout import Scout, ViewChoice
from genworld.world.navigation.views import FloorViews
from tests.navigation_bound import bound
from tests.world.room_floors import floor_of
from tools import evaluate_nav

CAMERA = CameraConfig(size=(48, 48))
CONFIG = NavigationConfig(task="instruction", camera=CAMERA, pose=True, distances=False, max_steps=200)
ROOT = Path(__file__).resolve().parents[1]


@cache
def place_of(seed: int, camera: CameraConfig = CAMERA) -> Place:
    return place_of_floor(floor_of(seed), AgentConfig(), camera)


@cache
def around(seed: int) -> Surroundings:
    return Surroundings(floor_of(seed), place_of(seed))


class Brightest:
    """An adviser that goes to the most colourful thing, once it has looked around: by what was seen, and no more."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def reset(self) -> None:
        self.told = []

    def answer(self, query: Query, requests: Sequence[Request]) -> list[Reply]:
        self.told += [request.text for request in requests]
        scene = query.scene()
        if len(query.scout.memory.kept) < 6:
            return [Reply("explore", Said(None)) for _ in requests]
        colours, points = scene.points.colours, scene.points.points
        best = points[int((colours.amax(1) - colours.amin(1)).argmax())]
        text = walk_answer(scene, "stop", best - 0.1, best + 0.1)
        return [Reply(text, read_answer(scene, text)) for _ in requests]


def eyes(blind: bool = False) -> SceneEyes:
    return SceneEyes(ScenePoints(points_config()), CAMERA, blind)


def follower(env: Any) -> Navigator:
    return Navigator(env.config, ClauseGuide(Brightest()), None, eyes())


def walks(count: int = 3, seed: int = 1) -> list[tuple[Any, Episode]]:
    found = (route_episodes(around(seed), RouteConfig(wordings=1), f"0.{number}") for number in range(count))
    return [(route, episodes[0]) for route, episodes in (each for each in found if each is not None)]


def test_a_taught_agent_arrives_by_the_way_it_is_told() -> None:
    config = replace(CONFIG, camera=CameraConfig())
    place = place_of_floor(floor_of(1), config.agent, config.camera)
    for route, episode in walks(1):
        env = NavigationEnv([episode], lambda _: place, config)
        teacher = Teacher(floor_of(1), config.camera, tasks_of(around(1), route))
        done = run(env, Navigator(config, ClauseGuide(teacher), None, teacher))
        assert done.success
        walked = np.linalg.norm(np.diff(done.positions, axis=0), axis=-1).sum()
        assert walked < 1.5 * route.length + 2


class _Locked:
    """An environment that shows its config and nothing else."""

    def __init__(self, config: NavigationConfig) -> None:
        self.config = config

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the agent looked at env.{name}")


def thing_episode() -> Episode:
    found = object_episode(around(1), RouteConfig(wordings=1), "0.0")
    assert found is not None
    return found[1]


@pytest.mark.parametrize("task", ["object", "instruction"])
@pytest.mark.parametrize("adviser", ["by colour", "model"])
def test_hiding_map_objects_and_goal_changes_nothing(task: Any, adviser: str, request: pytest.FixtureRequest) -> None:
    config, episode = replace(CONFIG, task=task), thing_episode() if task == "object" else walks(1)[0][1]
    make: Callable[[Any], Any] = follower
    if adviser == "model":
        config = replace(config, camera=CameraConfig())  # exploring by 48x48 pixels, it never stops to look around
        make = partial(scene_agents(request.getfixturevalue("folder") / "run", blind=False)[0].make, seed=0)
    place = place_of(1, config.camera)
    actions, seen = _walked(make, NavigationEnv([episode], lambda _: place, config), 40)
    assert len(set(actions)) > 1
    locked = make(_Locked(config))  # it is given observations, and can reach nothing
    assert [locked.act(one) for one in seen] == actions
    assert locked.said

    other = next(name for name in ("chair", "table") if name != episode.category)
    away = replace(episode, id="other", goals=(Goal(episode.start_position, 0.1),), reference_path=())
    away = replace(away, category=other) if task == "instruction" else replace(away, instruction=f"find the {other}")
    moved = NavigationEnv([away], lambda _: place, config)
    policy = make(moved)
    observation, _ = moved.reset()
    policy.reset()
    for action in actions:
        hidden = {name: getattr(moved, name) for name in ("episode", "place", "field", "goals", "mover", "stance")}
        for name in hidden:  # none of them is there when it acts
            setattr(moved, name, None)
        assert policy.act(observation) == action
        for name, value in hidden.items():
            setattr(moved, name, value)
        if action != Action.STOP:
            observation, *_ = moved.step(int(action))


def _walked(make: Callable[[Any], Any], env: NavigationEnv, steps: int) -> tuple[list[Action], list[dict[str, Any]]]:
    """Actions of an agent, and the observations at which it took them."""
    actions: list[Action] = []
    seen: list[dict[str, Any]] = []
    policy = make(env)
    observation, _ = env.reset()
    policy.reset()
    while len(actions) < steps and Action.STOP not in actions:
        seen.append({name: np.copy(x) if isinstance(x, np.ndarray) else x for name, x in observation.items()})
        actions.append(policy.act(observation))
        observation, *_ = env.step(int(actions[-1]))
    return actions, seen


def test_a_walk_is_the_same_every_time() -> None:
    (_, episode), *_ = walks(1)
    env = NavigationEnv([episode], lambda _: place_of(1), replace(CONFIG, max_steps=50))
    policy = follower(env)
    first, again, other = run(env, policy), run(env, policy), run(env, follower(env))
    assert np.array_equal(first.positions, again.positions)
    assert np.array_equal(first.positions, other.positions)


def test_lifting_view_by_view_is_lifting_all_at_once() -> None:
    see, sight, points = FloorViews(floor_of(1).stage, CAMERA), eyes(), ScenePoints(points_config())
    x, y = place_of(1).map.places()[100].tolist()
    stances = [Stance(x, y, 0.7 * k) for k in range(5)]
    for stance in stances:
        sight.add(*see(stance), stance)
        grown = sight.scene()
    whole = points(Scene("whole", [view_of(*see(s), s, CAMERA, "") for s in stances]))
    assert isinstance(points.lifter, DirectLifter)
    assert grown.codec == whole.codec
    for name in ("features", "points", "colours", "voxels"):
        assert torch.equal(getattr(grown.points, name), getattr(whole.points, name))
    sight.reset()
    sight.add(*see(stances[0]), stances[0])
    first = points(Scene("first", [view_of(*see(stances[0]), stances[0], CAMERA, "")]))
    assert torch.equal(sight.scene().points.points, first.points.points)  # nothing is left of the walk before


def test_a_blind_agent_sees_black() -> None:
    see, stance = FloorViews(floor_of(1).stage, CAMERA), Stance(*place_of(1).map.places()[100].tolist(), 0.0)
    sighted, blind = eyes(), eyes(blind=True)
    for one in (sighted, blind):
        one.add(*see(stance), stance)
    assert float(blind.scene().points.colours.max()) == 0
    assert float(sighted.scene().points.colours.max()) > 0.2
    assert torch.equal(blind.scene().points.points.amax(0), sighted.scene().points.points.amax(0))  # depth remains


def test_instructions_fall_into_their_clauses() -> None:
    counted = 0
    for seed in range(4):
        chance = Random(seed)
        for number in range(4):
            route = draw_route(around(seed), RouteConfig(), chance)
            found = route_episodes(around(seed), RouteConfig(wordings=3), f"0.{number}")
            assert route is not None
            for episode in [] if found is None else found[1]:
                assert len(clauses_of(episode.instruction)) == len(found[0].clauses), episode.instruction
                counted += 1
    assert counted > 30
    assert clauses_of("first take the door, then pass the bed, and finally stop at the lamp.") == [
        "take the door",
        "pass the bed",
        "stop at the lamp",
    ]
    assert clauses_of("...") == ["..."]
    assert find_text("red chair") == "find the red chair"


def test_answers_are_read_as_they_are_written() -> None:
    sight, stance = eyes(), Stance(*place_of(1).map.places()[100].tolist(), 0.0)
    sight.add(*FloorViews(floor_of(1).stage, CAMERA)(stance), stance)
    scene = sight.scene()
    middle = scene.points.points[0]
    text = walk_answer(scene, "through", middle - 0.3, middle + 0.3)
    said = read_answer(scene, text)
    assert said is not None
    assert said.deed == "through"
    assert said.box is not None
    assert (said.box - torch.stack([middle - 0.3, middle + 0.3])).abs().max() <= max(scene.codec.cell_size)
    assert read_answer(scene, walk_answer(scene, None)) == Said(None)
    assert read_answer(scene, "a red chair") is None
    assert read_answer(scene, "stop at <loc1>") is None
    assert walk_prompt(scene, "take the door.", stance[:2], 0.0).endswith("> Take the door. Where to?")


def test_only_what_is_new_is_kept() -> None:
    choice = ViewChoice(metres=0.5, degrees=40)
    kept = [Stance(0, 0, 0)]
    assert not choice.wants(kept, Stance(0.3, 0, 0.5))
    assert choice.wants(kept, Stance(0.6, 0, 0.5))
    assert choice.wants(kept, Stance(0.3, 0, 0.8))
    assert not choice.wants(kept, Stance(0, 0, 2 * np.pi - 0.1))
    with pytest.raises(ValueError, match="degrees above 0"):
        ViewChoice(degrees=0)


def test_a_scout_stands_where_a_thing_is_seen() -> None:
    floor, place = floor_of(1), place_of(1)
    scout = Scout(AgentConfig(), CAMERA, MotionConfig())
    index = next(i for i in range(len(floor.things)) if len(around(1).sights(i)) > 8)
    x, y = around(1).sights(index)[0].tolist()
    see = FloorViews(floor.stage, CAMERA)
    for k in range(24):
        scout.look(see(Stance(x, y, k * np.pi / 12))[1], Stance(x, y, k * np.pi / 12))
    box = floor.things[index].box
    stand = scout.stand_at(box.lower, box.upper)
    assert stand is not None
    assert around(1).field(index).distance(*stand) < 0.25  # which is arriving
    assert scout.stand_at(box.lower + 50, box.upper + 50) is None
    assert place.map.is_free(*stand)
    assert all(scout.is_frontier(frontier.place) for frontier in scout.frontiers())


def test_guides_that_say_little_end_in_a_stop() -> None:
    class Silent:
        def reset(self) -> None: ...

        def advise(self, query: Query) -> Advice:
            return Advice("stop", "stop")

    (_, episode), *_ = walks(1)
    env = NavigationEnv([episode], lambda _: place_of(1), CONFIG)
    done = run(env, Navigator(CONFIG, Silent()))
    assert done.stopped
    assert len(done.positions) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walks of a teacher, and a run that was trained on them for a few steps."""
    folder = tmp_path_factory.mktemp("walks")
    for name, floors, first in (("teacher", 2, 0), ("held_out", 1, 5)):
        plan = LessonPlan(floors=floors, first=first, states=2, max_steps=40, cache=folder / "floors")
        assert write_walks(folder / f"{name}.jsonl", record_walks(plan)) == 2 * floors
    smoke = load_experiment(ROOT / "configs" / "smoke" / "scene.yaml", [f"run={folder / 'run'}", "train.steps=2"])
    assert smoke.task.kind == "converse"
    task = replace(smoke.task, points=replace(smoke.task.points, cache=folder / "points"))
    settings = replace(smoke.train, threads=1, preview_every=0, validate_every=2)
    assert train(replace(smoke, task=task, data=data(folder), train=settings)).status == "finished"
    return folder


def data(folder: Path) -> WalksData:
    return WalksData(
        files=(folder / "teacher.jsonl",),
        held_out=(folder / "held_out.jsonl",),
        cache=folder / "floors",
        batch=4,
        validation=4,
        points=1,
    )


def turns(folder: Path, split: Any = "train", seed: int = 0) -> WalkTurns:
    return WalkTurns(data(folder), ScenePoints(points_config(folder / "tiny")), split, seed)


def test_turns_of_walks_lead_to_what_was_meant(folder: Path) -> None:
    source, again = turns(folder), turns(folder)
    kinds, answers = set(), set()
    for position in range(60):
        index = position % len(source)
        turn, scene = source.read(index, position), source.lifted(index)
        other = again.read(index, position)
        assert (turn.prompt, turn.answer, turn.about) == (other.prompt, other.answer, other.about)
        kinds.add(turn.kind)
        said = read_answer(scene, turn.answer)
        assert said is not None
        answers.add(said.deed)
        if said.box is None:
            assert turn.about == ()
            continue
        (about,) = turn.about
        thing = turn.things[about.thing]
        assert (thing.label == DOOR) == (said.deed == "through")
        low, high = (scene.codec.metres(scene.codec.voxels(x)) for x in (thing.lower, thing.upper))
        assert (said.box.double() - torch.stack([low, high])).abs().max() <= max(scene.codec.cell_size) / 2 + 1e-6
    assert kinds == {"walk/find", "walk/clause", "walk/last"}
    assert {None, "stop"} <= answers
    assert turns(folder, "validation").places[0].walk.seed == 5


def test_moments_of_few_points_are_passed_over(folder: Path) -> None:
    points = ScenePoints(replace(points_config(folder / "many"), max_points=4096))
    every = WalkTurns(data(folder), points)
    counts = [len(every.lifted(index).points) for index in range(len(every))]
    most = max(counts)
    assert min(counts) < most  # else nothing is passed over
    full = WalkTurns(replace(data(folder), points=most), points)
    assert {len(full.read(index, index).points) for index in range(len(full))} == {most}
    first = counts.index(most)
    assert full.read(first, 3).prompt == every.read(first, 3).prompt
    with pytest.raises(ValueError, match=f"has {most + 1} points"):
        WalkTurns(replace(data(folder), points=most + 1), points).read(0, 0)


def test_a_run_walks_is_measured_and_filmed(folder: Path, tmp_path: Path) -> None:
    agents = scene_agents(folder / "run")
    assert [agent.name for agent in agents] == ["agent", "blind"]
    exam = NavigationExam(floors=2, first=3, max_steps=12)
    scores = evaluate_navigation(exam, agents)
    assert scores.reports["agent"].num == 2
    assert evaluate_navigation(exam, agents, at_once=1).to_dict() == scores.to_dict()
    with pytest.raises(ValueError, match="at_once of at least 1"):
        evaluate_navigation(exam, agents, at_once=0)
    filmed = film_walk(floor_of(1), agents[0], tmp_path / "walk.mp4", 0, 0, FilmConfig(size=64), 6)
    assert "/instruction/0.0_0" in filmed.episode.id
    assert filmed.video.is_file()
    pupil = agents[0].make
    (walk, *_) = record_walks(LessonPlan(floors=1, first=1, states=2, lead=0.0, max_steps=12), pupil)  # type: ignore[arg-type]
    assert walk.states


def test_the_example_of_the_documents_runs(folder: Path) -> None:
    text = (ROOT / "docs" / "navigation.md").read_text()
    (code,) = [part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "from_pretrained" in part]
    for old, new in (("weights/navigate", str(folder / "run")), ("max_steps=200", "max_steps=8")):
        assert old in code
        code = code.replace(old, new)
    found: dict[str, Any] = {}
    exec(code, found)
    assert isinstance(found["navigator"], Navigator)
    assert found["walked"].episode.startswith("rooms-1000020/thing/")
    assert 1 < len(found["walked"].positions) <= 9
    assert found["navigator"].said  # it asked its model
    assert Navigator.from_pretrained(folder / "run", blind=True).config.task == "object"


def test_bad_settings_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="needs images and pose"):
        Navigator(replace(CONFIG, pose=False), ClauseGuide(Brightest()))
    with pytest.raises(ValueError, match="told things or instructions"):
        Navigator(replace(CONFIG, task="point"), ClauseGuide(Brightest()))
    with pytest.raises(ValueError, match="every of at least 1"):
        NavigatorConfig(every=0)
    with pytest.raises(ValueError, match="through < beyond"):
        GuideConfig(through=1.0)
    with pytest.raises(ValueError, match="lifter of kind direct"):
        SceneEyes(ScenePoints(replace(points_config(), lifted=False)), CAMERA)
    with pytest.raises(ValueError, match="is no file of walks"):
        read_walks([tmp_path / "nothing.jsonl"])
    (tmp_path / "bad.jsonl").write_text('{"seed": 1}\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 1: expected a walk"):
        read_walks([tmp_path / "bad.jsonl"])
    with pytest.raises(ValueError, match="validation needs walks"):
        replace(data(folder), held_out=())
    with pytest.raises(ValueError, match="corners with a box"):
        Advice("", "box")
    with pytest.raises(ValueError, match="lead in"):
        LessonPlan(lead=2.0)


def test_a_folder_that_is_no_run_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate_nav.py", "--run", str(tmp_path), "--floors", "1"])
    assert run_command(evaluate_nav.main) == USER_ERROR
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path} is not a run")


@pytest.mark.slow
@pytest.mark.parametrize(("sort", "spl", "ndtw"), [("object", 0.70, 0.70), ("instruction", 0.80, 0.85)])
def test_with_a_guide_that_never_errs_it_is_good_enough(sort: str, spl: float, ndtw: float) -> None:
    report = bound(sort, 50, 900_000)
    assert report.figures["success"].value >= 0.95
    assert report.figures["spl"].value >= spl
    assert report.figures["ndtw"].value >= ndtw
