import math
from itertools import combinations

import numpy as np
import pytest

from genworld.world import sample_scene
from genworld.world.physics import GRAVITY, Body, gap, simulate

BALL = (0.5, 0.5, 0.5)


def ball(x: float, y: float = 0.0, z: float = 0.5, **more) -> Body:
    return Body(shape="sphere", dims=BALL, position=(x, y, z), **more)


def test_a_sliding_body_stops_where_friction_says() -> None:
    trajectory = simulate([ball(0, velocity=(2.0, 0), friction=0.1)], 10.0)
    stop = 2.0 / (0.1 * GRAVITY)
    [event] = trajectory.events
    assert event.kind == "stop"
    assert event.time == pytest.approx(stop)
    assert trajectory.positions(np.array([9.0]))[0, 0, 0] == pytest.approx(2.0**2 / (2 * 0.1 * GRAVITY))


def test_a_dropped_body_lands_and_bounces_on_time() -> None:
    trajectory = simulate([ball(0, z=1.5, bounciness=0.5)], 10.0)
    fall = math.sqrt(2 * 1.0 / GRAVITY)
    kinds = [event.kind for event in trajectory.events]
    assert kinds[0] == "land"
    assert set(kinds[1:]) == {"bounce"}
    assert trajectory.events[0].time == pytest.approx(fall)
    assert trajectory.events[1].time == pytest.approx(2 * fall)  # up and down again at half the speed
    peak = trajectory.positions(np.array([1.5 * fall]))[0, 0, 2]
    assert peak - 0.5 == pytest.approx(0.25)


def test_an_elastic_collision_keeps_momentum_and_energy() -> None:
    masses = np.array([2.0, 0.7])
    bodies = [
        ball(0, velocity=(2, 0), mass=masses[0], friction=0, bounciness=1),
        ball(3, 0.3, velocity=(-1, 0), mass=masses[1], friction=0, bounciness=1),
    ]
    trajectory = simulate(bodies, 3.0)
    [event] = trajectory.events
    assert (event.kind, event.who, event.whom) == ("collision", 0, 1)
    before, after = trajectory.velocities(np.array([0.0, 3.0]))
    np.testing.assert_allclose(masses @ before, masses @ after, atol=1e-9)
    np.testing.assert_allclose(masses @ (before**2).sum(-1), masses @ (after**2).sum(-1), rtol=1e-9)
    assert abs(after[1, 1]) > 0.1  # off centre: it leaves sideways


def test_balls_of_two_sizes_touch_where_spheres_do() -> None:
    small = Body(shape="sphere", dims=(0.3,) * 3, position=(0, 0, 0.3))
    distance, _ = gap(ball(0), small, (2.0, 0.0))
    assert distance == pytest.approx(2.0 - 2 * math.sqrt(0.5 * 0.3), abs=1e-4)


def test_boxes_and_round_bodies_touch_at_faces_and_corners() -> None:
    cube = Body(shape="cube", dims=BALL, position=(0, 0, 0.5), yaw=math.pi / 4)
    pillar = Body(shape="cylinder", dims=(0.2, 0.2, 0.5), position=(0, 0, 0.5))
    assert gap(cube, pillar, (1.0, 0.0))[0] == pytest.approx(1 - math.sqrt(0.5) - 0.2)  # corner first
    assert gap(cube, pillar, (1.0, 1.0))[0] == pytest.approx(math.sqrt(2) - 0.5 - 0.2)  # face first
    distance, (nx, ny) = gap(pillar, cube, (-1.0, 0.0))
    assert (distance, nx, ny) == pytest.approx((1 - math.sqrt(0.5) - 0.2, -1, 0))
    other = Body(shape="cube", dims=BALL, position=(0, 0, 0.5))
    assert gap(other, other, (1.5, 0.2))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_sampled_scenes_are_physical(seed: int) -> None:
    scene = sample_scene(seed)
    trajectory = scene.simulate(4.0)
    times = np.linspace(0, 4, 801)
    places, speeds = trajectory.positions(times), trajectory.velocities(times)
    movable = [i for i, body in enumerate(scene.bodies) if math.isfinite(body.mass)]
    mass = np.array([scene.bodies[i].mass for i in movable])
    energy = (mass * (0.5 * (speeds**2).sum(-1) + GRAVITY * places[..., 2])[:, movable]).sum(-1)
    assert (np.diff(energy) < 1e-9 * energy[0]).all()
    floor = np.array([body.dims[2] for body in scene.bodies])
    assert (places[..., 2] > floor - 1e-9).all()
    for i, j in combinations(range(len(scene.bodies)), 2):
        for offset, heights in zip(
            places[:, j, :2] - places[:, i, :2], places[:, [i, j], 2] - floor[[i, j]], strict=True
        ):
            if heights.max() < 1e-6:
                assert gap(scene.bodies[i], scene.bodies[j], tuple(offset))[0] > -0.004
    assert [e.time for e in trajectory.events] == sorted(e.time for e in trajectory.events)


def test_the_past_does_not_depend_on_how_far_one_looks() -> None:
    for seed in range(10):
        scene = sample_scene(seed)
        short, long = scene.simulate(1.0), scene.simulate(5.0)
        assert long.events[: len(short.events)] == short.events
        times = np.linspace(0, 1, 30)
        np.testing.assert_array_equal(short.positions(times), long.positions(times))


def test_a_ball_rolls_as_far_as_it_travels() -> None:
    trajectory = simulate([ball(0, velocity=(1.0, 0.0), friction=0.0)], 3.0)
    before, after = trajectory.rotations(np.array([0.0, 1.0]))[:, 0]
    turn = after @ before.T
    angle = 1.0 / 0.5
    np.testing.assert_allclose(turn @ [0, 0, 1], [math.sin(angle), 0, math.cos(angle)], atol=1e-9)
