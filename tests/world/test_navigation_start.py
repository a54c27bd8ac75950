"""Which episodes, places and cameras go together, and the depth that a camera of the field tells."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from genworld.eval.navigation import Geodesic
from genworld.world.navigation.camera import CameraConfig
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv, r2r_config, rxr_config
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.explore import DepthMapper
from genworld.world.navigation.motion import Action, MotionConfig, Stance
from genworld.world.navigation.observed import view_of
from genworld.world.navigation.occupancy import AgentConfig
from genworld.world.navigation.place import Place, place_of_floor, point_goal
from genworld.world.navigation.scout import Scout
from genworld.world.navigation.splat import PointViews
from genworld.world.navigation.views import FloorViews
from tests.world.room_floors import floor_of

BLIND = NavigationConfig(images=False)
SHORT = CameraConfig(size=(48, 48), near=0.5, far=1.5)


@cache
def place() -> Place:
    return place_of_floor(floor_of(1))


@cache
def episode() -> Episode:
    return point_goal(place(), 3, 2.0)


def begin(start: float = 0.0, *goals: tuple[float, float, float], config: NavigationConfig = BLIND) -> NavigationEnv:
    """An environment at the start of the episode, so many metres above the floor, with other goals if there are any."""
    x, y, _ = episode().start_position
    some = tuple(Goal(goal, 0.2) for goal in goals) or episode().goals
    env = NavigationEnv([replace(episode(), start_position=(x, y, start), goals=some)], lambda _: place(), config)
    env.reset()
    return env


def here() -> tuple[float, float]:
    return episode().goals[0].position[:2]


def test_a_goal_of_another_scene_is_not_the_nearest_free_cell() -> None:
    x, y = here()
    with pytest.raises(ValueError, match=r"'rooms-1/3' in rooms-1: goal \(.*m from the nearest free ground.*its axes"):
        begin(0.0, (x + 50, y, 0.0))
    with pytest.raises(ValueError, match=r"Nor are its 2 other goals on this map"):
        begin(0.0, (x + 50, y, 0.0), (x, y + 50, 0.0), (x, y, 9.0))


def test_a_goal_on_a_thing_counts_as_the_free_place_beside_it() -> None:
    ground = place().map
    away = ndimage.distance_transform_edt(~ground.free) * ground.cell * ground.occupied
    x, y = ground.metres(np.argwhere((away > 0.3) & (away < 0.45))[0] + 0.5).tolist()
    env = begin(0.0, (x, y, 0.4))
    assert env.field.distance(*env.stance[:2]) == place().geodesics.distance(env.stance[:2], ground.snap(x, y))


@pytest.mark.parametrize("height", [3.0, -3.0, 1.1])
def test_a_start_on_another_storey_is_named(height: float) -> None:
    told = f"{abs(height):.2f} m {'above' if height > 0 else 'below'} the floor of the map, which is of one storey"
    with pytest.raises(ValueError, match=rf"episode 'rooms-1/3' in rooms-1: its start \(.*\) is {told}"):
        begin(height)


def test_goals_may_hang_but_not_on_another_storey() -> None:
    x, y = here()
    begin(0.3, (x, y, 1.8))  # a picture's middle; a floor is level to within some steps
    for height in (2.7, -2.7):
        with pytest.raises(ValueError, match=r"goal \(.*is 2.70 m .* the floor of the map"):
            begin(0.0, (x, y, height))


def test_goals_that_are_not_on_the_map_are_as_those_that_no_way_leads_to() -> None:
    (x, y), start = here(), episode().start_position
    goals = ((x, y, 0.0), (*start[:2], 2.9), (x + 50, y, 0.0))  # the second is right above the start
    env = begin(0.0, *goals)
    left = place().geodesics.distance(start[:2], (x, y))
    assert env.reset()[1]["distance_to_goal"] == left > 1
    assert Geodesic(place().geodesics)(np.array([start]), np.array(goals)) == pytest.approx([left], abs=1e-9)
    assert not env.step(int(Action.STOP))[4]["success"]


def test_what_was_made_for_another_camera_or_agent_is_refused() -> None:
    episodes = [replace(episode(), instruction="go on")]
    config = r2r_config()
    with pytest.raises(ValueError, match=r"made for CameraConfig\(size=\(128, 128\).*config\.agent, config\.camera"):
        NavigationEnv(episodes, lambda _: place(), config).reset()
    seen = replace(place(), viewer=FloorViews(floor_of(1).stage, config.camera))
    with pytest.raises(ValueError, match=r"made for AgentConfig\(radius=0.18.* has AgentConfig\(radius=0.1,"):
        NavigationEnv(episodes, lambda _: seen, config).reset()
    with pytest.raises(ValueError, match="made for AgentConfig"):
        NavigationEnv(episodes, lambda _: place(), replace(config, images=False)).reset()
    unknown = replace(place(), agent=None)  # a map of one's own may be for anybody
    NavigationEnv(episodes, lambda _: unknown, replace(config, images=False)).reset()


def test_the_settings_of_the_field() -> None:
    r2r, rxr = r2r_config(), rxr_config()
    assert r2r.camera == CameraConfig(size=(224, 224), height=1.25, fov=90.0, near=0.0, far=10.0)
    assert rxr.camera == CameraConfig(size=(480, 640), height=0.88, fov=79.0, near=0.5, far=5.0)
    assert (r2r.agent.radius, r2r.agent.height) == (0.1, 1.5)
    assert (rxr.agent.radius, rxr.agent.height) == (0.18, 0.88)
    assert r2r.motion == MotionConfig(forward=0.25, turn=15.0, sliding=True)
    assert rxr.motion == MotionConfig(forward=0.25, turn=30.0, look=30.0, sliding=False)
    assert (r2r.actions, rxr.actions) == ("discrete", "looks")
    assert {each.max_steps for each in (r2r, rxr)} == {500}


def stances(count: int = 8) -> list[Stance]:
    x, y = place().map.places()[100].tolist()
    return [Stance(x, y, 2 * math.pi * number / count) for number in range(count)]


@pytest.mark.parametrize("smooth", [False, True])
def test_depth_is_clamped_as_habitat_does(smooth: bool) -> None:
    stage, whole = floor_of(1).stage, replace(SHORT, near=0.0, far=math.inf)
    ranged, plain = FloorViews(stage, SHORT, smooth), FloorViews(stage, whole, smooth)
    for stance in (stances()[0], stances()[0]._replace(pitch=-0.5)):
        (colour, depth), (same, true) = ranged(stance), plain(stance)
        assert (colour == same).all()
        assert depth.dtype == np.float32
        assert np.array_equal(depth, np.clip(true, 0.5, 1.5))
        assert (depth < true).any()
    wall = np.stack(np.meshgrid(1.0, np.arange(-0.2, 0.2, 0.02), np.arange(1, 1.5, 0.02)), axis=-1).reshape(-1, 3)
    _, depth = PointViews(wall, np.ones_like(wall), 0.0, SHORT)(Stance(0.0, 0.0, 0.0))
    assert depth[24, 24] == pytest.approx(1.0, abs=0.02)
    assert depth[0, 0] == 0.5  # no reading


def test_the_ends_of_the_range_are_no_walls() -> None:
    whole = CameraConfig(size=SHORT.size)
    see, found = FloorViews(floor_of(1).stage, SHORT), []
    for camera in (SHORT, whole):
        mapper, scout = DepthMapper(AgentConfig(), camera), Scout(AgentConfig(), camera, MotionConfig())
        true = FloorViews(floor_of(1).stage, camera)
        for stance in stances():
            mapper.add(true(stance)[1], stance)
            scout.look(true(stance)[1], stance)
        ground = mapper.map(stances()[0])
        cells = np.round(ground.metres(np.argwhere(ground.occupied) + 0.5), 3)
        found.append((set(map(tuple, cells.tolist())), set(scout._solid)))
    for ranged, plain in zip(*found, strict=True):
        assert ranged
        assert ranged < plain
    picture, depth = see(stances()[0])
    view = view_of(picture, depth, stances()[0], SHORT, "")
    assert view.depth is not None
    assert view.depth.max() < 1.5
    assert (view.depth.numpy() == 0).sum() == ((depth == 0.5) | (depth == 1.5)).sum() > 0


def test_a_range_must_be_one_and_names_of_kept_points_stay() -> None:
    with pytest.raises(ValueError, match="0 <= near < far"):
        CameraConfig(near=2.0, far=1.0)
    # Keys of points that were lifted before cameras had a range are made of this text.
    assert repr(CameraConfig()) == "CameraConfig(size=(128, 128), height=1.25, fov=90.0)"
    assert repr(SHORT) == "CameraConfig(size=(48, 48), height=1.25, fov=90.0, near=0.5, far=1.5)"
