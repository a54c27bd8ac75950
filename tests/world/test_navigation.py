"""Maps, distances and motion against closed forms and slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from genworld.types import Scene
from genworld.world.navigation.follow import next_action
from genworld.world.navigation.geodesic import CellField, Geodesics, cell_distances, sees
from genworld.world.navigation.mapping import block, map_of_floor, map_of_footprints, map_of_points, map_of_scene
from genworld.world.navigation.motion import Action, MotionConfig, Mover, Stance, turned, wrap
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap, make_map
from genworld.world.rooms.plan import Rectangle
from tests.world.room_floors import SEEDS, floor_of

OUTLINE = Rectangle(0.0, 0.0, 6.0, 4.0)
WALLS = [
    Rectangle(-0.1, -0.1, 0.0, 4.1),
    Rectangle(6.0, -0.1, 6.1, 4.1),
    Rectangle(-0.1, -0.1, 6.1, 0.0),
    Rectangle(-0.1, 4.0, 6.1, 4.1),
]


def room(radius: float, *blocks: Rectangle) -> OccupancyMap:
    return map_of_footprints([block(area) for area in [*WALLS, *blocks]], OUTLINE, AgentConfig(radius=radius))


def pairs(ground: OccupancyMap, count: int, seed: int = 0) -> np.ndarray:
    places = ground.places()
    return places[np.random.default_rng(seed).integers(len(places), size=(count, 2))]


def around_corner(one: np.ndarray, other: np.ndarray, corner: tuple[float, float], radius: float) -> float:
    """Length of the way round a disc about the corner of a block that fills all beyond it: two tangents and an arc."""
    u, v = one - corner, other - corner
    turn = abs(*np.diff([(math.atan2(y, x) - math.pi / 2) % (2 * math.pi) for x, y in (u, v)]))
    lengths = [float(np.hypot(*w)) for w in (u, v)]
    arc = turn - sum(math.acos(min(1.0, radius / length)) for length in lengths)
    if arc <= 0:
        return math.dist(one, other)
    return sum(math.sqrt(max(0.0, length**2 - radius**2)) for length in lengths) + radius * arc


@pytest.mark.parametrize("radius", [0.0, 0.18])
def test_in_an_empty_box_ways_are_straight(radius: float) -> None:
    ground = room(radius)
    for one, other in pairs(ground, 50):
        assert Geodesics(ground).distance(tuple(one), tuple(other)) == pytest.approx(math.dist(one, other), abs=1e-9)


@pytest.mark.parametrize(
    ("radius", "corner"), [(0.0, (2.5, 1.7)), (0.1, (2.5, 1.7)), (0.18, (2.5, 1.7)), (0.18, (2.53, 1.71))]
)
def test_in_an_l_shape_ways_bend_round_the_corner(radius: float, corner: tuple[float, float]) -> None:
    ground = room(radius, Rectangle(*corner, 6.0, 4.0))
    ways, bent = Geodesics(ground), 0
    for one, other in pairs(ground, 100):
        exact = around_corner(one, other, corner, radius)
        bent += exact > math.dist(one, other) + 1e-9
        assert abs(ways.distance(tuple(one), tuple(other)) - exact) < ground.cell / 2
    assert bent > 10


def test_ways_are_as_long_as_their_paths_and_shorter_than_over_cells() -> None:
    ground = map_of_floor(floor_of(1))
    ways = Geodesics(ground)
    for one, other in pairs(ground, 8):
        length = ways.distance(tuple(one), tuple(other))
        path = ways.path(tuple(one), tuple(other))
        cells = ground.grid(path)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(length)
        assert sees(ground, cells[:-1], cells[1:]).all()
        over_cells = cell_distances(ground, [tuple(one)])[ground.index(*other)]
        assert length - 1e-9 <= over_cells <= 1.0824 * length + 2 * ground.cell


def test_of_several_goals_the_nearest_counts() -> None:
    ground = map_of_floor(floor_of(2))
    ways = Geodesics(ground)
    start, *goals = (tuple(place) for place in pairs(ground, 2).reshape(-1, 2))
    least = min(ways.distance(start, goal) for goal in goals)
    assert ways.toward(goals).distance(*start) == pytest.approx(least)


def test_no_corner_is_cut() -> None:
    free = np.ones((8, 8), dtype=bool)
    free[3, 4] = free[4, 3] = False  # the free cells (3, 3) and (4, 4) meet in a corner only
    none = np.zeros_like(free)
    ground = make_map((0.0, 0.0), 1.0, 0.0, none, ~none, free)
    assert not ground.free[3, 3]
    assert not ground.free[4, 4]
    assert Geodesics(ground).distance((2.5, 2.5), (5.5, 5.5)) > math.dist((2.5, 2.5), (5.5, 5.5)) + 0.5


@pytest.mark.parametrize("agent", [AgentConfig(), AgentConfig(height=0.88)])
def test_every_room_of_the_world_can_be_reached(agent: AgentConfig) -> None:
    for seed in SEEDS:
        floor = floor_of(seed)
        ground = map_of_floor(floor, agent)
        main = ground.area(*ground.places()[0])
        for number in range(len(floor.plan.rooms)):
            x0, y0, x1, y1 = floor.plan.interior(number)
            x, y = ground.places().T
            inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
            assert inside.sum() * agent.cell**2 > 1.0, (seed, number)
        for door in floor.plan.doors:
            across = np.array([0.0, 0.25]) if door.along == 0 else np.array([0.25, 0.0])
            assert [ground.area(*(door.position + way * across)) for way in (-1, 0, 1)] == [main] * 3, (seed, door)


def test_the_map_of_a_cloud_is_that_of_the_floor() -> None:
    floor = floor_of(3)
    exact, scanned = map_of_floor(floor), map_of_scene(floor.scene(num_points=100_000))
    assert scanned.floor == pytest.approx(0.0, abs=0.01)
    free = np.array([scanned.is_free(*place) for place in exact.metres(np.argwhere(exact.free) + 0.5)])
    assert free.mean() > 0.9
    there = np.array([exact.is_free(*place) for place in scanned.metres(np.argwhere(scanned.free) + 0.5)])
    assert there.mean() > 0.9


def test_without_points_the_views_are_taken() -> None:
    floor = floor_of(3)
    seen = map_of_scene(Scene("views only", floor.scene(size=(96, 96)).views))
    exact = map_of_floor(floor)
    there = np.array([exact.is_free(*place) for place in seen.metres(np.argwhere(seen.free) + 0.5)])
    assert there.mean() > 0.9
    assert seen.free.sum() > 0.5 * exact.free.sum()


def test_places_are_snapped_to_free_ground() -> None:
    ground = room(0.18, Rectangle(2.0, 1.0, 3.0, 2.0))
    assert ground.snap(1.0, 1.0) == (1.0, 1.0)
    x, y = ground.snap(2.1, 1.5)
    assert ground.is_free(x, y)
    assert math.dist((x, y), (2.1, 1.5)) < 0.1 + 0.18 + ground.cell


def test_empty_scenes_and_full_rooms_are_named() -> None:
    with pytest.raises(ValueError, match="nothing: expected points or views with depth"):
        map_of_scene(Scene("nothing"))
    with pytest.raises(ValueError, match="the scene is empty"):
        map_of_points(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="obstacles leave no room"):
        room(0.18, OUTLINE)
    with pytest.raises(ValueError, match="not on free ground"):
        Geodesics(room(0.18)).toward([(-1.0, 0.0)])


def test_where_no_way_leads_the_distance_is_infinite() -> None:
    ground = room(0.1, Rectangle(2.9, 0.0, 3.1, 4.0))
    ways = Geodesics(ground)
    assert ways.distance((1.0, 1.0), (5.0, 1.0)) == math.inf
    with pytest.raises(ValueError, match="no way leads"):
        ways.path((1.0, 1.0), (5.0, 1.0))


def test_actions_are_those_of_vln_ce() -> None:
    mover = Mover(room(0.18))
    stance = Stance(2.0, 2.0, 0.0)
    ahead, bumped = mover.act(stance, Action.FORWARD)
    assert (ahead.x, ahead.y) == pytest.approx((2.25, 2.0))
    assert not bumped
    assert mover.act(stance, Action.LEFT)[0].heading == pytest.approx(math.radians(15))
    assert mover.act(stance, Action.RIGHT)[0].heading == pytest.approx(-math.radians(15))
    up = stance
    for _ in range(3):
        up, _ = mover.act(up, Action.LOOK_UP)
    assert up.pitch == pytest.approx(math.radians(60))
    assert mover.act(stance, Action.LOOK_DOWN)[0].pitch == pytest.approx(-math.radians(30))


@pytest.mark.parametrize("sliding", [True, False])
def test_walls_stop_an_agent_or_let_it_slide(sliding: bool) -> None:
    mover = Mover(room(0.18), MotionConfig(sliding=sliding))
    stance, bumped = mover.act(Stance(5.75, 2.0, math.radians(45)), Action.FORWARD)
    edge = 6.0 - 0.18
    assert bumped
    assert stance.x == pytest.approx(edge, abs=0.05)
    part = (stance.x - 5.75) / math.cos(math.radians(45)) if not sliding else 0.25
    assert stance.y - 2.0 == pytest.approx(part * math.sin(math.radians(45)), abs=0.03)


@pytest.mark.parametrize("sliding", [True, False])
def test_nobody_walks_into_things(sliding: bool) -> None:
    ground = map_of_floor(floor_of(0))
    mover, chance = Mover(ground, MotionConfig(sliding=sliding)), np.random.default_rng(0)
    stance, bumps = Stance(*ground.places()[0], 0.0), 0
    for _ in range(600):
        stance = turned(stance, chance.uniform(-0.8, 0.8))
        before = stance
        stance, bumped = mover.act(stance, Action.FORWARD)
        bumps += bumped
        assert ground.is_free(stance.x, stance.y)
        assert math.dist(before[:2], stance[:2]) <= 0.25 + (ground.cell if bumped else 1e-9)
    assert bumps > 50


@pytest.mark.parametrize("config", [MotionConfig(), MotionConfig(turn=30.0, sliding=False)])
@pytest.mark.parametrize(
    "make", [lambda ways, goal: ways.toward([goal]), lambda ways, goal: CellField(ways.map, [goal])]
)
def test_the_oracle_arrives_by_almost_the_shortest_way(config: MotionConfig, make) -> None:
    ground = map_of_floor(floor_of(4))
    ways, mover = Geodesics(ground), Mover(ground, config)
    for one, other in pairs(ground, 3):
        field, shortest = make(ways, tuple(other)), ways.distance(tuple(one), tuple(other))
        stance, walked = Stance(*one, 1.0), 0.0
        while (action := next_action(mover, stance, field)) != Action.STOP:
            before = stance
            stance, _ = mover.act(stance, action)
            walked += math.dist(before[:2], stance[:2])
        assert math.dist(stance[:2], other) < 0.3
        assert walked < 1.15 * shortest + 0.25


def test_angles_wrap() -> None:
    assert wrap(3 * math.pi / 2) == pytest.approx(-math.pi / 2)
    assert torch.isfinite(torch.tensor(wrap(-1e3)))
