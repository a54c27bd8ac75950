"""A real room from its files to points and answers, by the same way as any other; skipped where its files are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genworld.data.scene_check import check_scene
from genworld.data.scenes import open_scenes
from genworld.experiment import load_experiment, train
from genworld.models.images import EncodedViews, RandomEncoder, RandomEncoderConfig
from genworld.models.points import DirectLifterConfig, FeatureCloud
from genworld.models.points_field import FieldLifterConfig
from genworld.models.points_fusion import FusionLifterConfig
from genworld.models.scene_points import LifterConfig, build_lifter
from genworld.pipelines.navigation_agents import scene_agents
from genworld.pipelines.navigator import Navigator
from genworld.pipelines.scene import SceneAssistant
from genworld.pipelines.scene_picture import draw_answer, draw_clouds
from genworld.types import Scene
from genworld.world.navigation.baselines import OraclePolicy, run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.place import Place, place_of_scene, point_goal

ROOT = Path(__file__).resolve().parents[1]
AGENT = ROOT / "weights" / "navigate"
ROOM = ROOT.parent / "shared" / "data" / "rgbd_room"
LIFTERS: dict[str, LifterConfig] = {
    "direct": DirectLifterConfig(),
    "fusion": FusionLifterConfig(),
    "field": FieldLifterConfig(steps=200, rays=256, size=48, sweeps=2, voxel=0.2),
}

pytestmark = pytest.mark.skipif(not ROOM.is_dir(), reason=f"the real room is not here: {ROOM}")


@pytest.fixture(scope="module")
def room() -> Scene:
    source = open_scenes(ROOM)
    return source.read(source.names[0])


@pytest.fixture(scope="module")
def clouds(room: Scene) -> dict[str, FeatureCloud]:
    """By every lifter, as the tool for looking at scenes makes them."""
    features = EncodedViews(RandomEncoder(RandomEncoderConfig(width=4)))
    return {name: build_lifter(config).lift(room, features) for name, config in LIFTERS.items()}


def test_its_axes_and_units_are_right(room: Scene) -> None:
    report = check_scene(room)
    assert report.causes == ()
    assert {finding.verdict for finding in report.findings} == {"right"}
    assert room.skipped == ()


@pytest.mark.parametrize("lifter", ["direct", "fusion"])
def test_it_is_a_kitchen_with_a_table(clouds: dict[str, FeatureCloud], lifter: str) -> None:
    points, colours = clouds[lifter].points, clouds[lifter].colours
    heights = torch.histc(points[:, 2], bins=40, min=-1.75, max=0.25)  # by 5 cm
    floor = -1.75 + 0.05 * int(heights[:8].argmax())
    top = points[:, 2] - floor
    # The table: level, at the height of tables, wooden, and more than a metre long with room to walk all around it.
    near = (points[:, 1] < 2.2) & (points[:, 0].abs() < 1.6)
    levels = torch.histc(top[near], bins=10, min=0.6, max=0.9)  # by 3 cm
    level = 0.6 + 0.03 * int(levels.argmax())
    table = near & (top > level - 0.015) & (top < level + 0.045)
    length, width = (points[table][:, :2].quantile(0.95, dim=0) - points[table][:, :2].quantile(0.05, dim=0)).tolist()
    assert 1.5 < length < 2.4
    assert 0.6 < width < 1.0
    assert levels.max() > 3 * levels.median()
    red, _, blue = colours[table].mean(dim=0).tolist()
    assert red > blue + 0.05
    # The cupboards behind it are red, and stand on the floor.
    behind = (points[:, 1] > 2.6) & (top > 0.1) & (top < 0.8) & (points[:, 0] < -0.2)
    assert (colours[behind, 0] - colours[behind, 1]).median() > 0.1


def test_every_lifter_is_drawn(clouds: dict[str, FeatureCloud], tmp_path: Path) -> None:
    assert min(map(len, clouds.values())) > 20  # the field is fitted for a second only
    assert all(cloud.skipped == () for cloud in clouds.values())
    page = Image.open(draw_clouds("room", clouds, tmp_path / "clouds.png"))
    assert page.height > 3 * 200


def test_it_is_asked_about_like_any_other(room: Scene, tmp_path: Path) -> None:
    caches = [f"data.cache={tmp_path / 'floors'}", f"task.points.cache={tmp_path / 'points'}"]
    rest = ["train.steps=1", "train.validate_every=0", "train.preview_every=0", "train.threads=1", "data.floors=1"]
    train(load_experiment(ROOT / "configs" / "smoke" / "scene.yaml", [*caches, *rest, f"run={tmp_path / 'run'}"]))
    assistant = SceneAssistant.from_pretrained(tmp_path / "run", "cpu")
    lifted = assistant.lift(replace(room, views=[room.view(index) for index in (0, 10, 20)]))
    answer = assistant.ask(lifted, "How many chairs are there?")
    assert isinstance(answer, str)
    page = draw_answer(room, [], tmp_path / "answer.png", 3, assistant.ground_mentions(lifted, f"{answer} a table"))
    assert Image.open(page).height > 300


@pytest.fixture(scope="module")
def place(room: Scene) -> Place:
    return place_of_scene(room)


def test_the_oracle_walks_through_it(place: Place) -> None:
    episode = point_goal(place, 1)
    env = NavigationEnv([episode], lambda _: place, NavigationConfig(images=False))
    done = run(env, OraclePolicy(env))
    assert done.success
    assert done.stopped
    length = np.linalg.norm(np.diff(done.positions, axis=0), axis=-1).sum()
    assert episode.geodesic_distance is not None
    assert episode.geodesic_distance - 0.25 < length < 1.2 * episode.geodesic_distance + 0.25
    assert all(place.map.is_free(*spot[:2]) for spot in done.positions.tolist())


@pytest.mark.skipif(not AGENT.is_dir(), reason=f"the trained agent is not here: {AGENT}")
@pytest.mark.parametrize("task", ["object", "instruction"])
def test_the_trained_agent_takes_steps_in_it(place: Place, task: Any) -> None:
    agent = scene_agents(AGENT, blind=False, device="cpu")[0]
    told = {"category": "table"} if task == "object" else {"instruction": "Pass the table, then stop at the chair."}
    episode = replace(point_goal(place, 1), **told)
    env = NavigationEnv([episode], lambda _: place, NavigationConfig(task=task, pose=True, max_steps=10))
    policy = agent.make(env, 0)
    assert isinstance(policy, Navigator)
    done = run(env, policy)
    assert len(done.positions) == 11 or done.stopped
    assert all(place.map.is_free(*spot[:2]) for spot in done.positions.tolist())
    assert policy.said  # it saw enough to ask
