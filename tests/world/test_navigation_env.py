"""The environment, what is seen in it, and the agents to compare with."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import ImageDraw

from genworld.world.navigation.baselines import ForwardPolicy, FrontierPolicy, OraclePolicy, RandomPolicy, run
from genworld.world.navigation.camera import CameraConfig, world_from_camera
from genworld.world.navigation.environment import ID, NavigationConfig, NavigationEnv, register, rxr_config
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.explore import DepthMapper
from genworld.world.navigation.motion import Action, Stance
from genworld.world.navigation.occupancy import AgentConfig
from genworld.world.navigation.picture import FREE, OCCUPIED, UNKNOWN, MapPicture
from genworld.world.navigation.place import Place, place_of_floor, place_of_scene, point_goal
from genworld.world.navigation.splat import PointViews
from genworld.world.navigation.views import FloorViews
from genworld.world.rooms.render import render, trace
from tests.world.room_floors import floor_of

CAMERA = CameraConfig(size=(32, 32))
BLIND = NavigationConfig(images=False)


@cache
def place_of(name: str, camera: CameraConfig = CAMERA) -> Place:
    return place_of_floor(floor_of(int(name.rpartition("-")[2])), AgentConfig(), camera)


def episodes(count: int = 3, **changes) -> list[Episode]:
    return [replace(point_goal(place_of(f"rooms-{n}"), n, 2.0), **changes) for n in range(count)]


def make(config: NavigationConfig = BLIND, some: list[Episode] | None = None) -> NavigationEnv:
    return NavigationEnv(some or episodes(), place_of, config)


@pytest.mark.parametrize(
    "config",
    [
        NavigationConfig(camera=CAMERA, pose=True),
        replace(BLIND, actions="polar"),
        replace(BLIND, actions="metres", pose=True),
        replace(rxr_config((32, 32)), agent=AgentConfig()),
        replace(BLIND, task="object", actions="looks"),
    ],
)
def test_gymnasiums_own_checker_is_content(config: NavigationConfig) -> None:
    register()
    register()  # a second time does no harm
    given = {"episodes": episodes(category="chair", instruction="go to the lamp"), "config": config}
    given["places"] = lambda name: place_of(name, config.camera if config.images else CAMERA)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(gymnasium.make(ID, **given, render_mode="rgb_array").unwrapped)


def test_without_arguments_there_are_floors_of_the_world() -> None:
    register()
    env = gymnasium.make(ID)
    observation, info = env.reset(seed=0)
    assert observation["rgb"].shape == (128, 128, 3)
    assert info["episode"].startswith("rooms-")


@pytest.mark.parametrize(
    ("vector", "settings"),
    # Shared memory would show the texts that were there when it was made: those of no episode.
    [(gymnasium.vector.SyncVectorEnv, {}), (gymnasium.vector.AsyncVectorEnv, {"shared_memory": False})],
)
def test_many_at_once_are_each_what_they_are_alone(vector, settings) -> None:
    config = NavigationConfig(task="instruction", camera=CAMERA, distances=False)
    some = episodes(instruction="go on")
    envs = vector([lambda n=n: make(config, some[n:]) for n in range(2)], **settings)
    envs.reset()
    seen, *_ = envs.step(np.array([Action.LEFT, Action.FORWARD]))
    envs.close()
    for number, action in enumerate((Action.LEFT, Action.FORWARD)):
        env = make(config, some[number:])
        env.reset()
        alone, *_ = env.step(int(action))
        assert (seen["rgb"][number] == alone["rgb"]).all()
        assert seen["instruction"][number] == "go on"


@pytest.mark.parametrize("task", ["object", "instruction"])
def test_an_observation_does_not_depend_on_where_the_goal_is(task) -> None:
    config = NavigationConfig(task=task, camera=CAMERA, pose=True)
    first = episodes(1, instruction="stop at the lamp", category="lamp")[0]
    place = place_of(first.scene)
    x, y = place.map.places()[0].tolist()
    moved = replace(first, goals=(Goal((x, y, 0.0), 0.5),), reference_path=((x, y, 0.0),), geodesic_distance=1.0)
    seen = []
    for episode in (first, moved):
        env = make(config, [episode])
        observations = [env.reset()[0]] + [env.step(int(action))[0] for action in (1, 2, 1, 3, 1)]
        assert observations[0].keys() == {"rgb", "depth", "pose", f"{task}goal" if task == "object" else task}
        seen.append(observations)
    for one, other in zip(*seen, strict=True):
        for name, value in one.items():
            assert np.array_equal(value, other[name]), name


def test_an_episode_ends_by_stop_or_by_its_length() -> None:
    env = make(replace(BLIND, max_steps=3))
    env.reset()
    ends = [env.step(int(Action.LEFT))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(ValueError, match="the episode is over"):
        env.step(int(Action.LEFT))
    env.reset()
    *_, stopped, truncated, info = env.step(int(Action.STOP))
    assert (stopped, truncated, info["success"], info["steps"]) == (True, False, False, 1)


def test_the_reward_adds_up_to_the_way_that_was_made() -> None:
    env = make()
    _, info = env.reset()
    start, rewards, stopped = info["distance_to_goal"], [], False
    oracle = OraclePolicy(env)
    while not stopped:
        _, reward, stopped, _, info = env.step(int(oracle.act({})))
        rewards.append(reward)
    assert info["success"]
    assert sum(rewards) == pytest.approx(start - info["distance_to_goal"] + 2.5 - 0.01 * info["steps"])


def test_waypoints_are_walked_to_and_counted_as_steps() -> None:
    for actions in ("polar", "metres"):
        env = make(replace(BLIND, actions=actions))
        env.reset()
        x, y, heading = env.stance[:3]
        angle = math.radians(40)
        there = (x + 0.6 * math.cos(heading + angle), y + 0.6 * math.sin(heading + angle))
        goal = (0.6, angle) if actions == "polar" else there
        *_, info = env.step(np.array([0, *goal], dtype=np.float32))
        if not info["collided"]:
            assert info["position"][:2] == pytest.approx(there, abs=1e-4)
            assert info["steps"] == 3 + 3  # three turns of 15 degrees, three steps of at most 0.25 m
            assert len(info["path"]) == 4
        *_, stopped, _, _ = env.step(np.array([1, 0, 0], dtype=np.float32))
        assert stopped


def test_bad_episodes_are_named() -> None:
    place, episode = place_of("rooms-0"), episodes(1)[0]
    i, j = np.argwhere(~place.map.free & place.map.occupied)[0]
    x, y = place.map.metres(np.array([i, j]) + 0.5).tolist()
    with pytest.raises(ValueError, match="starts inside an obstacle"):
        make(BLIND, [replace(episode, start_position=(x, y, 0.0))]).reset()
    cut = replace(place.map, free=place.map.free.copy())
    cut.free[:] = False
    for place_, side in ((episode.start_position, 2), (episode.goals[0].position, 2)):
        i, j = cut.index(*place_[:2])
        cut.free[i - side : i + side, j - side : j + side] = True
    with pytest.raises(ValueError, match="no way leads from its start"):
        NavigationEnv([episode], lambda _: Place("rooms-0", cut), BLIND).reset()
    with pytest.raises(ValueError, match="at least one episode"):
        NavigationEnv([], place_of, BLIND)
    with pytest.raises(ValueError, match="expected an instruction"):
        make(replace(BLIND, task="instruction"))
    with pytest.raises(ValueError, match="nothing can be seen"):
        NavigationEnv([episode], lambda _: Place("rooms-0", place.map), NavigationConfig()).reset()
    with pytest.raises(ValueError, match="rooms-SEED"):
        NavigationEnv([replace(episode, scene="elsewhere")], None, BLIND).reset()
    env = make()
    env.reset()
    with pytest.raises(ValueError, match="expected an action"):
        env.step(9)


def stances(seed: int, count: int) -> list[Stance]:
    chance, places = np.random.default_rng(seed), place_of(f"rooms-{seed}").map.places()
    return [Stance(*places[chance.integers(len(places))], chance.uniform(-3, 3)) for _ in range(count)]


def flat(picture: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Pixels that differ from no neighbour, which the slow twin does not antialias."""
    plain = np.ones(ids.shape, dtype=bool)
    for axis in (0, 1):
        step = np.abs(np.diff(picture.astype(int), axis=axis)).max(-1) > 0.04 * 255
        step |= np.diff(ids, axis=axis) != 0
        for side in ((0, 1), (1, 0)):
            plain &= ~np.pad(step, [side if axis == each else (0, 0) for each in (0, 1)])
    return plain


@pytest.mark.parametrize("seed", range(5))
def test_views_are_those_of_the_slow_twin(seed: int) -> None:
    stage, camera = floor_of(seed).stage, CameraConfig(size=(48, 64))
    views, some = FloorViews(stage, camera), stances(seed, 6)
    some += [some[0]._replace(pitch=0.5)]
    poses = torch.from_numpy(np.stack([world_from_camera(stance, camera.height) for stance in some])).float()
    pinhole = torch.from_numpy(camera.intrinsics).float()
    pixels, depth = render(stage, poses, pinhole, camera.size)
    owners = trace(stage, poses, pinhole, camera.size).ids
    for number, stance in enumerate(some):
        picture, mine = views(stance)
        assert np.isclose(mine, depth[number].numpy(), rtol=1e-3, atol=1e-3).mean() > 0.998
        theirs = ((pixels[number].permute(1, 2, 0) + 1) * 127.5).numpy()
        plain = flat(picture, owners[number].numpy())
        assert (np.abs(picture - theirs).max(-1)[plain] < 2).mean() > 0.995
        assert plain.mean() > 0.5
    smooth, _ = FloorViews(stage, camera, smooth=True)(some[0])
    assert np.abs(smooth - ((pixels[0].permute(1, 2, 0) + 1) * 127.5).numpy()).max() <= 1


def test_points_are_seen_where_they_are() -> None:
    y, z = (axis.reshape(-1) for axis in np.meshgrid(np.arange(-2, 2, 0.02), np.arange(0, 2.5, 0.02)))
    wall = np.stack([np.full_like(y, 3.0), y, z], axis=1)
    near = wall[np.abs(y - 0.5) < 0.2] - (1.5, 0, 0)
    red, blue = np.tile([1.0, 0, 0], (len(wall), 1)), np.tile([0, 0, 1.0], (len(near), 1))
    views = PointViews(np.concatenate([wall, near]), np.concatenate([red, blue]), 0.0, CAMERA)
    picture, depth = views(Stance(0.0, 0.0, 0.0))
    assert depth[16, 16] == pytest.approx(3.0, abs=0.02)
    assert picture[16, 16].tolist() == [255, 0, 0]
    column = round(16 - 0.5 / 1.5 * CAMERA.focal)  # what is to the left is at a smaller column
    assert depth[16, column] == pytest.approx(1.5, abs=0.02)
    assert picture[16, column].tolist() == [0, 0, 255]
    assert (views(Stance(0.0, 0.0, math.pi))[1] == 0).all()
    with pytest.raises(ValueError, match="empty"):
        PointViews(np.zeros((0, 3)), np.zeros((0, 3)), 0.0)


def test_a_scan_can_be_walked() -> None:
    place = place_of_scene(floor_of(2).scene(num_points=100_000), camera=CAMERA)
    env = NavigationEnv([point_goal(place, 0, 2.0)], lambda _: place, NavigationConfig(camera=CAMERA))
    assert run(env, OraclePolicy(env)).success
    exact, (_, depth) = place_of("rooms-2"), place.viewer(env.stance)
    assert exact.viewer is not None
    assert np.median(np.abs(depth - exact.viewer(env.stance)[1])) < 0.1


def test_depth_becomes_the_map() -> None:
    place = place_of("rooms-0")
    mapper, stance = DepthMapper(AgentConfig(), CAMERA), stances(0, 1)[0]
    for number in range(8):
        here = stance._replace(heading=number * math.pi / 4)
        assert place.viewer is not None
        mapper.add(place.viewer(here)[1], here)
    seen = mapper.map(stance)
    obstacles = seen.metres(np.argwhere(seen.occupied) + 0.5)
    i, j = np.floor(place.map.grid(obstacles)).astype(int).T
    near = np.stack([place.map.occupied[i + a, j + b] for a in (-1, 0, 1) for b in (-1, 0, 1)]).any(0)
    assert near.mean() > 0.97
    assert seen.free.sum() > 400


def test_agents_stand_in_the_order_that_they_should() -> None:
    config = NavigationConfig(camera=CAMERA, pose=True, max_steps=250)
    env = make(config, episodes(3))
    names = [episode.id for episode in env.episodes]
    won = {}
    for name, policy in {
        "oracle": OraclePolicy(env),
        "frontier": FrontierPolicy(config),
        "random": RandomPolicy(),
        "forward": ForwardPolicy(),
    }.items():
        runs = [run(env, policy, episode) for episode in names]
        assert [each.episode for each in runs] == names
        assert all(place_of(f"rooms-{n}").map.is_free(*p[:2]) for n, each in enumerate(runs) for p in each.positions)
        won[name] = sum(each.success for each in runs)
    assert won["oracle"] == 3
    assert won["frontier"] >= 2
    assert max(won["random"], won["forward"]) <= 1
    with pytest.raises(ValueError, match="needs images and pose"):
        FrontierPolicy(BLIND)


def test_who_looks_everywhere_sees_almost_all_and_stops() -> None:
    config = NavigationConfig(task="object", camera=CAMERA, pose=True)
    env = make(config, episodes(1, category="chair"))
    policy = FrontierPolicy(config)
    assert run(env, policy).stopped
    found, place = policy.mapper.map(env.stance), place_of("rooms-0")
    places = place.map.places()
    assert np.mean([bool(found.known[found.index(*spot)]) for spot in places]) > 0.9


def test_maps_are_drawn_with_their_ways() -> None:
    place, episode = place_of("rooms-0"), episodes(1)[0]
    picture = MapPicture(place.map)
    pixels = np.asarray(picture.draw())
    assert pixels.shape[:2] == (3 * place.map.shape[1], 3 * place.map.shape[0])
    for colour, cells in ((FREE, place.map.free), (OCCUPIED, place.map.occupied), (UNKNOWN, ~place.map.known)):
        i, j = np.argwhere(cells)[0]
        x, y = picture.at(*place.map.metres(np.array([i, j]) + 0.5))
        assert tuple(pixels[int(y), int(x)]) == colour
    path = place.geodesics.path(episode.start_position[:2], episode.goals[0].position[:2])
    drawn = picture.show_floor(floor_of(0)).draw(path, Stance(*path[-1], 0.0), [path[-1]])
    assert (np.asarray(drawn) != pixels).any(-1).mean() > 0.02


def test_names_on_a_map_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[float, ...]] = []
    plain = ImageDraw.ImageDraw.text

    def note(pen: ImageDraw.ImageDraw, place: Any, text: str, **options: Any) -> None:
        written.append(pen.textbbox(place, text, font=options["font"], anchor=options["anchor"]))
        plain(pen, place, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    place, floor = place_of("rooms-0"), floor_of(0)
    counts = []
    for scale in (1, 20):
        written.clear()
        MapPicture(place.map, scale).show_floor(floor)
        counts.append(len(written))
        for i, (left, top, right, bottom) in enumerate(written):
            assert all(right < a or left > c or bottom < b or top > d for a, b, c, d in written[:i])
    assert 0 < counts[0] < counts[1]
