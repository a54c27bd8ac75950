"""One frame that is lost costs that frame and nothing else, whoever reads the folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scene_files import world_scene, write_rgbd
from tiny_rooms import points_config

from genworld.data.scene_check import check_scene
from genworld.data.scene_files import some_views, without_unreadable
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns, AnnotationFile
from genworld.data.scenes import open_scenes
from genworld.data.scenes_rgbd import RgbdFolder
from genworld.experiment import build_task, load_experiment
from genworld.models.images import EncodedViews, RandomEncoder, RandomEncoderConfig
from genworld.models.points import DirectLifterConfig, select_views
from genworld.models.points_cache import CloudCache
from genworld.models.points_field import FieldLifterConfig
from genworld.models.points_fusion import FusionLifterConfig
from genworld.models.scene_points import LifterConfig, ScenePoints, build_lifter
from genworld.pipelines.scene import SceneAssistant
from genworld.pipelines.scene_picture import draw_answer
from genworld.tasks.converse import Converse
from genworld.types import Scene, UnreadableViewError
from genworld.world.navigation.mapping import scene_points

SMOKE = Path(__file__).resolve().parents[2] / "configs" / "smoke" / "scene.yaml"
LOST = "frame-000001"
NUM = 4


def without_readings(folder: Path, name: str = LOST) -> str:
    """A Kinect that lost the scene: sizes are right, and not one reading."""
    Image.fromarray(np.zeros((24, 32), np.uint16)).save(folder / f"{name}.depth.png")
    return "not one valid reading"


def broken_colour(folder: Path, name: str = LOST) -> str:
    """A copy that was cut off: the header says what it should be."""
    path = folder / f"{name}.color.png"
    path.write_bytes(path.read_bytes()[:200])
    return "not a readable picture"


def broken_depth(folder: Path, name: str = LOST) -> str:
    """A bad block on a disk."""
    path = folder / f"{name}.depth.png"
    data = bytearray(path.read_bytes())
    data[60:] = bytes(len(data) - 60)
    path.write_bytes(data)
    return "not a readable depth picture"


WAYS = [without_readings, broken_colour, broken_depth]
LIFTERS: list[LifterConfig] = [
    DirectLifterConfig(voxel=0.2),
    FusionLifterConfig(voxel=0.2),
    FieldLifterConfig(voxel=0.5, far=8.0, steps=40, rays=64, size=12, rate=0.5, sweeps=1, visible=0.02),
]
FEATURES = EncodedViews(RandomEncoder(RandomEncoderConfig(patch=8, width=4)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_rgbd(tmp_path / "room", world_scene(0, NUM, 24, 32))


def read(folder: Path, up: str = "auto") -> Scene:
    """By the default, or told what is up: then nothing has been decoded yet."""
    return RgbdFolder(folder, up=up).read(folder.name)  # type: ignore[arg-type]


@pytest.mark.parametrize("spoil", WAYS)
def test_the_reader_and_the_check_leave_it_out_with_a_warning(
    folder: Path, spoil: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = read(folder)
    reason = spoil(folder)
    scene = open_scenes(folder).read("room")
    assert scene.num_views == NUM - 1
    ((name, why),) = scene.skipped
    assert name == LOST
    assert reason in why
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"view {LOST} is left out: " in warning.getMessage()
    assert torch.equal(scene.aligned_from_world, whole.aligned_from_world)
    assert check_scene(scene).skipped == scene.skipped
    report = check_scene(read(folder, up="z"))
    assert (report.num_views, report.skipped) == (NUM - 1, scene.skipped)
    assert f"1 left out\n  {LOST}" in str(report)


@pytest.mark.parametrize("spoil", WAYS)
@pytest.mark.parametrize("config", LIFTERS, ids=lambda config: config.kind)
def test_every_lifter_makes_what_the_others_show(
    folder: Path, config: LifterConfig, spoil: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = read(folder, up="z")
    rest = replace(whole, views=tuple(whole.view(index) for index in range(NUM) if index != 1))
    wanted = build_lifter(config).lift(rest, FEATURES)
    assert wanted.skipped == ()
    reason = spoil(folder)
    cloud = build_lifter(config).lift(read(folder, up="z"), FEATURES)
    for part in ("points", "features", "colours", "weights"):
        assert torch.equal(getattr(cloud, part), getattr(wanted, part))
    ((name, why),) = cloud.skipped
    assert name == LOST
    assert reason in why
    assert reason in caplog.text


@pytest.mark.parametrize("spoil", WAYS)
def test_a_map_to_walk_on_is_made_of_what_the_others_show(folder: Path, spoil: Callable[[Path], str]) -> None:
    whole = read(folder, up="z")
    rest = replace(whole, points=None, views=tuple(whole.view(index) for index in range(NUM) if index != 1))
    wanted = scene_points(rest)
    spoil(folder)
    for found, true in zip(scene_points(replace(read(folder, up="z"), points=None)), wanted, strict=True):
        np.testing.assert_array_equal(found, true)


def test_nothing_is_left_is_an_error_that_says_why(folder: Path) -> None:
    for index in range(NUM):
        WAYS[index % 3](folder, f"frame-{index:06}")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match=r"room: not one of its views can be read:\n  frame-000000: .*valid reading"):
        read(folder)
    scene = read(folder, up="z")
    with pytest.raises(UnreadableViewError, match="not one valid reading"):
        scene.view(0)
    with pytest.raises(ValueError, match="not one of its views can be read"):
        check_scene(scene)
    for config in LIFTERS:
        with pytest.raises(ValueError, match=r"frame-000000: .*not one valid reading"):
            build_lifter(config).lift(scene, FEATURES)
    with pytest.raises(ValueError, match=r"the scene is empty; frame-000000: .*not one valid reading"):
        scene_points(scene)
    with pytest.raises(ValueError, match="none has any"):
        select_views(scene, 2)


def test_views_are_tried_until_some_can_be_read(folder: Path) -> None:
    for index in (0, 3):  # those that two spread evenly would be
        without_readings(folder, f"frame-{index:06}")
    scene, views = some_views(read(folder, up="z"), 2)
    assert [view.name for view in views] == ["frame-000001", "frame-000002"]
    assert [item.name for item in scene.skipped] == ["frame-000000", "frame-000003"]
    assert [view.name for view in scene.views] == ["frame-000001", "frame-000002"]
    assert some_views(scene, 2)[0] is scene
    bare = Scene("bare")
    assert some_views(bare, 2) == (bare, [])


def test_views_that_nobody_looked_at_stay_and_are_lost_later(folder: Path) -> None:
    without_readings(folder)
    scene, views = some_views(read(folder, up="z"), 2)
    assert [view.name for view in views] == ["frame-000000", "frame-000003"]
    assert (scene.num_views, scene.skipped) == (NUM, ())
    assert [item.name for item in without_unreadable(scene).skipped] == [LOST]
    assert 1 not in select_views(scene, NUM)


@pytest.mark.parametrize("up", ["auto", "z"])
def test_the_assistant_lifts_and_draws_the_rest(folder: Path, tmp_path: Path, up: str) -> None:
    task = build_task(load_experiment(SMOKE))
    assert isinstance(task, Converse)
    without_readings(folder)
    scene = read(folder, up=up)
    lifted = SceneAssistant(task, ScenePoints(points_config())).lift(scene)
    assert len(lifted.points) == points_config().max_points
    few = replace(points_config(), max_views=2)
    assert len(SceneAssistant(task, ScenePoints(few)).lift(scene).points) > 0
    flat = replace(points_config(), lifted=False)
    assert SceneAssistant(task, ScenePoints(flat)).lift(scene).points.voxels[:, 0].unique().numel() == NUM - 1
    assert Image.open(draw_answer(scene, [], tmp_path / "answer.png")).height > 300


def test_a_kept_cloud_remembers_it(folder: Path, tmp_path: Path) -> None:
    without_readings(folder)
    cache, lifter = CloudCache(tmp_path / "clouds"), build_lifter(LIFTERS[0])
    first = cache.lift(read(folder, up="z"), lifter, FEATURES)
    again = cache.lift(read(folder, up="z"), lifter, FEATURES)
    assert again.skipped == first.skipped
    assert [item.name for item in again.skipped] == [LOST]


def test_questions_about_the_scene_are_kept(folder: Path, tmp_path: Path) -> None:
    without_readings(folder)
    asked = {"question_id": "q", "scene_id": "room", "question": "What is here?", "answers": ["a ball"]}
    (tmp_path / "qa.json").write_text(json.dumps([asked]))
    files = [AnnotationFile(format="scanqa", path=tmp_path / "qa.json")]
    data = AnnotatedData(scenes=folder, files=files, held_out=files, batch=1, validation=1)
    source = AnnotatedTurns(data, ScenePoints(points_config()))
    assert (len(source), source.skipped) == (1, [])
    assert source.read(0, 0).answer == "a ball"
