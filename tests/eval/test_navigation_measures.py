"""Measures of navigation on rooms whose distances are known in closed form, and against paths worked out by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from genworld.eval.navigation import (
    Euclidean,
    Geodesic,
    MeasureConfig,
    Walk,
    measure,
    ndtw,
    score,
)
from genworld.eval.navigation_dtw import dtw, fast_dtw, steps_of
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.geodesic import Geodesics
from genworld.world.navigation.occupancy import OccupancyMap, make_map

CELL = 0.05


def grid(width: float, depth: float, wall: tuple[float, float, float, float] | None = None) -> OccupancyMap:
    """A box of free ground, in which (x0, y0, x1, y1) is blocked."""
    free = np.ones((round(width / CELL) + 2, round(depth / CELL) + 2), dtype=bool)
    if wall is not None:
        i0, j0, i1, j1 = (1 + round(value / CELL) for value in wall)
        free[i0:i1, j0:j1] = False
    return make_map((-CELL, -CELL), CELL, 0.0, ~free, np.ones_like(free), free)


def empty_box() -> Geodesic:
    return Geodesic(Geodesics(grid(10.0, 6.0)))


def l_shape() -> Geodesic:
    """6 x 6 m without the upper right quarter: ways between the arms turn at (3, 3)."""
    return Geodesic(Geodesics(grid(6.0, 6.0, (3.0, 3.0, 6.0, 6.0))))


def task(
    goal: tuple[float, float], radius: float = 3.0, start: tuple[float, float] = (0.0, 0.0), **kwargs: object
) -> Episode:
    return Episode("a", "room", (*start, 0.0), 0.0, (Goal((*goal, 0.0), radius),), **kwargs)  # type: ignore[arg-type]


def walk(*places: tuple[float, float], stopped: bool = True, collisions: int = 0) -> Walk:
    """STOP leaves the agent where it is."""
    ends = [places[-1]] if stopped else []
    return Walk(np.array([(*place, 0.0) for place in (*places, *ends)]), stopped, collisions)


def test_in_an_empty_box_geodesics_are_straight() -> None:
    positions = np.array([[x, y, 0.0] for x in (0.5, 2.0, 9.5) for y in (0.5, 3.0, 5.5)])
    goals = np.array([[5.0, 2.0, 0.0], [1.0, 5.0, 0.0]])
    assert np.allclose(empty_box()(positions, goals), Euclidean()(positions, goals), atol=1e-6)


def test_in_an_l_shape_they_turn_at_the_corner() -> None:
    goal, start = (1.0, 5.0), (5.0, 1.0)
    closed = math.dist(start, (3.0, 3.0)) + math.dist((3.0, 3.0), goal)
    found = l_shape()(np.array([[*start, 0.0]]), np.array([[*goal, 0.0]]))
    assert found == pytest.approx([closed], abs=CELL / 2)
    assert closed > math.dist(start, goal) - 1e-9
    # Off the diagonal the way is truly longer than the straight line.
    start = (5.5, 2.5)
    closed = math.dist(start, (3.0, 3.0)) + math.dist((3.0, 3.0), goal)
    found = l_shape()(np.array([[*start, 0.0]]), np.array([[*goal, 0.0]]))
    assert found == pytest.approx([closed], abs=CELL / 2)
    assert float(found[0]) > math.dist(start, goal) + 0.1


def test_all_measures_of_a_detour_by_hand() -> None:
    # Straight: 4 m. Walked: 3 m up, 4 m across, 1 m down: 8 m, and 2 m are left.
    found = measure(walk((1, 1), (1, 4), (5, 4), (5, 3)), task((5, 1)), empty_box())
    assert found == pytest.approx(
        {
            "navigation_error": 2.0,
            "oracle_navigation_error": 2.0,
            "path_length": 8.0,
            "steps": 4.0,
            "collisions": 0.0,
            "success": 1.0,
            "oracle_success": 1.0,
            "spl": 4 / 8,
            "soft_spl": (1 - 2 / 4) * 4 / 8,
        },
        abs=1e-6,
    )


def test_success_is_strict_and_needs_stop() -> None:
    there = ((1.0, 1.0), (4.0, 1.0))
    at_radius = measure(walk(*there), task((7, 1)), Euclidean())
    assert (at_radius["navigation_error"], at_radius["success"], at_radius["oracle_success"]) == (3.0, 0.0, 0.0)
    within = measure(walk(*there), task((6.9, 1)), Euclidean())
    assert (within["success"], within["spl"]) == (1.0, 1.0)
    no_stop = measure(walk(*there, stopped=False), task((6.9, 1)), Euclidean())
    assert (no_stop["success"], no_stop["spl"], no_stop["oracle_success"], no_stop["steps"]) == (0.0, 0.0, 1.0, 1.0)
    assert no_stop["soft_spl"] == pytest.approx((1 - 2.9 / 5.9) * 1.0)
    wide = measure(walk(*there), task((7, 1)), Euclidean(), MeasureConfig(success_distance=3.5))
    assert wide["success"] == 1.0


def test_passing_the_goal_is_an_oracle_success() -> None:
    found = measure(walk((1, 1), (5, 1), (9, 1), collisions=3), task((5, 1), radius=1.0), Euclidean())
    assert (found["success"], found["oracle_success"], found["oracle_navigation_error"]) == (0.0, 1.0, 0.0)
    assert (found["soft_spl"], found["collisions"]) == (0.0, 3.0)


def test_the_start_counts_for_oracle_success() -> None:
    found = measure(walk((1, 1), (9, 1)), task((1.5, 1), radius=1.0), Euclidean())
    assert (found["oracle_success"], found["success"]) == (1.0, 0.0)


def test_a_wall_makes_success_fail_by_geodesic_but_not_by_straight_lines() -> None:
    distance = Geodesic(Geodesics(grid(6.0, 6.0, (2.9, 0.0, 3.1, 5.5))))
    goal = task((4.0, 1.0), radius=3.0)
    stay = walk((2.0, 1.0), (2.0, 1.25))
    assert measure(stay, goal, Euclidean())["success"] == 1.0
    assert measure(stay, goal, distance)["success"] == 0.0


def test_the_nearest_of_several_goals_counts() -> None:
    episode = Episode("a", "room", (1, 1, 0), 0.0, tuple(Goal((x, 1.0, 0.0), 0.5) for x in (3.0, 9.0)))
    found = measure(walk((1, 1), (8.75, 1)), episode, empty_box())
    assert found["navigation_error"] == pytest.approx(0.25, abs=1e-6)
    assert found["spl"] == pytest.approx(2 / 7.75, abs=1e-6)  # the shortest way is to the nearer goal
    mixed = Episode("b", "room", (1, 1, 0), 0.0, (Goal((3.0, 1.0, 0.0), 0.5), Goal((9.0, 1.0, 0.0), 1.0)))
    with pytest.raises(ValueError, match="expected one radius"):
        measure(walk((1, 1)), mixed, Euclidean())


def test_an_episode_that_starts_at_its_goal() -> None:
    stay = measure(walk((1, 1)), task((1, 1)), Euclidean())
    assert (stay["spl"], stay["soft_spl"], stay["path_length"], stay["steps"]) == (1.0, 1.0, 0.0, 1.0)
    assert measure(walk((1, 1), (2, 1)), task((1, 1)), Euclidean())["spl"] == 0.0


def test_length_is_straight_in_three_dimensions() -> None:
    stairs = Walk(np.array([[0.0, 0, 0], [3, 0, 4], [3, 0, 4]]), True)
    found = measure(stairs, Episode("a", "s", (0, 0, 0), 0.0, (Goal((3, 0, 4)),)), Euclidean())
    assert (found["path_length"], found["navigation_error"], found["spl"]) == (5.0, 0.0, 1.0)


def test_unreachable_and_misplaced_goals_are_errors() -> None:
    split = Geodesic(Geodesics(grid(6.0, 4.0, (2.9, 0.0, 3.1, 4.0))))
    with pytest.raises(ValueError, match="'a': no way leads"):
        measure(walk((1, 1)), task((5, 1)), split)
    with pytest.raises(ValueError, match="from the nearest free ground"):
        measure(walk((1, 1)), task((50, 1)), split)
    with pytest.raises(ValueError, match=r"position \(1.00, 1.00, 3.00\) is 3.00 m above the floor of the map"):
        measure(Walk(np.array([[1.0, 1.0, 3.0]]), True), task((2, 1)), split)
    with pytest.raises(ValueError, match=r"\[T, 3\] finite"):
        Walk(np.array([[0.0, math.nan, 0.0]]), True)


def slow_dtw(one: np.ndarray, other: np.ndarray) -> float:
    table = np.full((len(one) + 1, len(other) + 1), np.inf)
    table[0, 0] = 0
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1, j + 1] = math.dist(a, b) + min(table[i, j + 1], table[i + 1, j], table[i, j])
    return float(table[-1, -1])


def random_path(chance: random.Random, length: int) -> np.ndarray:
    steps = np.array([[chance.gauss(0, 0.25) for _ in range(3)] for _ in range(length)])
    return np.cumsum(steps, axis=0)


def test_dtw_equals_its_slow_twin_and_fastdtw_is_never_below() -> None:
    chance = random.Random(0)
    apart = 0
    for _ in range(40):
        one, other = (random_path(chance, chance.randint(1, 45)) for _ in range(2))
        exact, fast = dtw(one, other), fast_dtw(one, other)
        assert exact == pytest.approx(slow_dtw(one, other), abs=1e-9)
        assert exact == pytest.approx(dtw(other, one), abs=1e-9)
        assert fast >= exact - 1e-9
        apart += fast > exact + 1e-9
        assert fast_dtw(one, other, radius=50) == pytest.approx(exact, abs=1e-9)
    assert apart > 0  # so it does approximate


def zigzag(count: int, width: float) -> np.ndarray:
    t = np.arange(count)
    return np.stack([0.25 * t, width * np.sin(0.7 * t), 0.1 * np.cos(1.3 * t)], axis=1)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [(31, 24, 101.555222008), (50, 50, 314.292772351), (7, 40, 159.153369469)],
)
def test_fastdtw_has_the_values_of_the_package(one: int, other: int, value: float) -> None:
    assert fast_dtw(zigzag(one, 1.0), zigzag(other, 0.4)[::-1].copy()) == pytest.approx(value, abs=1e-9)


def test_fastdtw_is_the_package_where_that_is_installed() -> None:
    package = pytest.importorskip("fastdtw")
    chance = random.Random(1)
    for _ in range(50):
        one, other = (random_path(chance, chance.randint(1, 90)) for _ in range(2))
        assert fast_dtw(one, other) == pytest.approx(package.fastdtw(one, other, dist=math.dist)[0], abs=1e-9)


def test_ndtw_by_hand() -> None:
    reference = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    beside = reference + np.array([0.0, 1.5, 0.0])
    # Every point has its partner 1.5 m away: exp(-4 * 1.5 / (4 * 3)).
    assert ndtw(beside, reference) == pytest.approx(math.exp(-0.5))
    assert ndtw(reference, reference) == 1.0
    turning = np.repeat(beside, [1, 3, 1, 5], axis=0)  # turns on the spot count once
    assert ndtw(turning, reference) == pytest.approx(math.exp(-0.5))
    assert len(steps_of(turning)) == 4
    back = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 0]])  # but coming back counts
    assert len(steps_of(back)) == 3
    assert ndtw(beside, reference, distance=1.5) == pytest.approx(math.exp(-1.0))


def test_a_report_takes_the_dtw_that_is_asked_for() -> None:
    chance = random.Random(1)
    path, way = random_path(chance, 60), random_path(chance, 50)
    reference = tuple((x, y, z) for x, y, z in way.tolist())
    episode = Episode("a", "s", reference[-1], 0.0, (Goal(reference[0], 1.0),), reference_path=reference)
    found = {}
    for name, warp in (("exact", dtw), ("fastdtw", fast_dtw)):
        report = score([("a", Walk(path, True))], [episode], Euclidean(), MeasureConfig(dtw=name))  # type: ignore[arg-type]
        found[name] = report.figures["ndtw"].value
        assert found[name] == pytest.approx(math.exp(-warp(path, way) / (len(way) * 3.0)))
        assert report.dtw == name
        assert f"{name} DTW" in str(report)
    assert found["fastdtw"] < found["exact"] - 1e-9  # or this would not tell them apart


def test_sdtw_is_ndtw_of_successes() -> None:
    episode = task((3, 0), radius=1.0, reference_path=tuple((float(x), 0.0, 0.0) for x in range(4)))
    found = measure(walk((0, 0), (1, 0), (2, 0), (3, 0)), episode, Euclidean())
    assert (found["ndtw"], found["sdtw"]) == (1.0, 1.0)
    found = measure(walk((0, 0), (1, 0), (2, 0)), episode, Euclidean())
    assert found["ndtw"] == pytest.approx(math.exp(-1 / 12))
    assert found["sdtw"] == 0.0
    other = np.array([[0.0, 0, 0], [2, 0, 0]])
    found = measure(walk((0, 0), (2, 0)), episode, Euclidean(), reference=other)
    assert found["ndtw"] == 1.0


def test_dtw_refuses_what_is_no_path() -> None:
    with pytest.raises(ValueError, match="two paths"):
        dtw(np.zeros((0, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two paths"):
        fast_dtw(np.zeros((2, 2)), np.zeros((2, 3)))


def many(count: int) -> tuple[list[Episode], list[tuple[str, Walk]]]:
    episodes = [Episode(str(i), f"s{i % 4}", (1, 1, 0), 0.0, (Goal((5, 1, 0), 1.0),)) for i in range(count)]
    ends = [5.0 if i % 3 else 2.0 for i in range(count)]
    return episodes, [(str(i), walk((1.0, 1.0), (end, 1.0))) for i, end in enumerate(ends)]


def test_a_report_averages_over_episodes_with_intervals_over_scenes() -> None:
    episodes, walks = many(12)
    report = score(reversed(walks), episodes, {f"s{i}": Euclidean() for i in range(4)})
    assert (report.num, report.num_scenes, report.distance, report.dtw) == (12, 4, "euclidean", "exact")
    assert report.figures["success"].value == pytest.approx(8 / 12)
    assert report.figures["navigation_error"].value == pytest.approx(4 * 3.0 / 12)
    interval = report.figures["navigation_error"].interval
    assert interval is not None
    assert 1.0 in interval
    assert interval.method == "bootstrap over 4 scenes"
    assert [row["episode_id"] for row in report.rows] == [str(i) for i in range(12)]
    assert "SR" in str(report)
    assert "ndtw" not in report.figures
    assert report.to_dict()["num"] == 12
    assert "rows" not in {key for key, value in report.to_dict().items() if value}


def test_every_episode_is_scored_exactly_once() -> None:
    episodes, walks = many(6)
    with pytest.raises(ValueError, match="1 ids have no walk, such as '5'"):
        score(walks[:5], episodes, Euclidean())
    with pytest.raises(ValueError, match="1 ids have more than one walk, such as '2'"):
        score([*walks, walks[2]], episodes, Euclidean())
    with pytest.raises(ValueError, match="1 ids of walks are of no episode, such as '5'"):
        score(walks, episodes[:5], Euclidean())
    with pytest.raises(ValueError, match="more than one episode"):
        score(walks, [*episodes, episodes[0]], Euclidean())
    with pytest.raises(ValueError, match="nothing to score"):
        score([], [], Euclidean())
    with pytest.raises(ValueError, match="no distance is given for scene 's1'"):
        score(walks, episodes, {"s0": Euclidean()})
    with pytest.raises(ValueError, match="'0' has no reference"):
        score(walks, episodes, Euclidean(), references={})


def test_episodes_with_and_without_a_reference_are_not_averaged_together() -> None:
    episodes, walks = many(2)
    some = Episode("1", "s1", (1, 1, 0), 0.0, (Goal((5, 1, 0), 1.0),), reference_path=((1, 1, 0), (5, 1, 0)))
    with pytest.raises(ValueError, match="1 of 2 episodes have no reference path: '0'"):
        score(walks, [episodes[0], some], Euclidean())
