"""Episodes on floors of the world: each clause of an instruction is read back from its text and checked on the plan.

The checker knows an episode, the floor's boxes and the words; it uses nothing of what made the instruction.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from room_floors import floor_of
from slow_facts import PHRASE, SIMPLE, SlowFacts

from genworld.data.episodes import new_set, read_episodes, write_episodes
from genworld.eval.navigation import Geodesic, Walk, measure
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.place import Place, place_of_floor
from genworld.world.navigation.route_facts import Surroundings
from genworld.world.navigation.routes import RouteConfig, draw_route, floor_episodes
from genworld.world.rooms import Floor, FloorConfig, sample_floor
from genworld.world.rooms.floor import own_pixels
from genworld.world.rooms.furnish import ROOM_NAMES
from genworld.world.rooms.walk import look

SEEDS = range(5)
ROOM = "|".join(ROOM_NAMES)
AHEAD = r"(?:ahead of|in front of) you"
CONFIG = RouteConfig(points=2, objects=4, instructions=6, wordings=3)


@cache
def place_of(seed: int) -> Place:
    return place_of_floor(floor_of(seed))


@cache
def made(seed: int) -> list[Episode]:
    return floor_episodes(floor_of(seed), CONFIG, seed=1, place=place_of(seed))


def sort(episode: Episode) -> str:
    return episode.id.split("/")[1]


def of_sort(name: str) -> list[tuple[int, Episode]]:
    return [(seed, episode) for seed in SEEDS for episode in made(seed) if sort(episode) == name]


@dataclass
class Said:
    """One clause as it is read."""

    verb: str
    side: str | None = None
    phrase: str = ""
    room: str | None = None
    only: str = ""


INTO = rf"(?: into the (?P<room>{ROOM}))?"
PATTERNS = (
    ("door", rf"(?:go through|take|leave by) the door (?:on|to) (?:your|the) (?P<side>left|right){INTO}"),
    ("door", rf"turn (?P<side>left|right) and go through the door{INTO}"),
    ("door", rf"(?:go through|take) the door (?P<front>{AHEAD}){INTO}"),
    ("door", rf"go straight on (?P<front>through the door){INTO}"),
    ("door", rf"go through the door (?P<behind>behind you){INTO}"),
    ("door", rf"(?P<behind>turn around) and go through the door{INTO}"),
    ("door", r"(?:go through|leave through|take) (?P<only>the (?:other )?door)"),
    ("door", rf"(?:go into|enter|go through the door into) the (?P<room>{ROOM})"),
    ("pass", rf"(?:walk past|pass|go past) (?P<phrase>{SIMPLE})(?: on your (?P<side>left|right))?"),
    ("cross", rf"(?:walk over|cross) (?P<phrase>{SIMPLE})"),
    ("stop", rf"(?:stop at|stop by|wait by) (?P<phrase>{PHRASE})"),
    ("stop", rf"(?:walk up|go) to (?P<phrase>{PHRASE}) and stop(?: there)?"),
    ("stop", rf"stop at (?P<phrase>{PHRASE}) on your (?P<side>left|right)"),
    ("stop", rf"stop at (?P<phrase>{PHRASE}) (?:(?P<front>{AHEAD})|(?P<behind>behind you))"),
    ("stop", rf"turn (?P<side>left|right) and stop at (?P<phrase>{PHRASE})"),
    ("stop", rf"(?:(?P<front>go straight on)|(?P<behind>turn around)) and stop at (?P<phrase>{PHRASE})"),
)


def read(text: str) -> list[Said]:
    assert text.endswith(".")
    assert text[0].isupper()
    parts = re.split(r"\. |, and finally |, then |, ", text[:-1])
    said = []
    for part in parts:
        words = re.sub(r"^(?:first|then) ", "", part[0].lower() + part[1:])
        found = [(verb, match) for verb, pattern in PATTERNS if (match := re.fullmatch(pattern, words))]
        assert len(found) == 1, f"{words!r} reads in {len(found)} ways"
        verb, match = found[0]
        groups = match.groupdict()
        side = next((each for each in ("front", "behind") if groups.get(each)), groups.get("side"))
        said.append(Said(verb, side, groups.get("phrase") or "", groups.get("room"), groups.get("only") or ""))
    return said


def way_to(position: Sequence[float], heading: float, target: Sequence[float]) -> str | None:
    """Left, right, front or behind; None where a reader may see it between two of them."""
    x, y = target[0] - position[0], target[1] - position[1]
    ahead = x * math.cos(heading) + y * math.sin(heading)
    left = -x * math.sin(heading) + y * math.cos(heading)
    steep = math.tan(math.radians(34))
    if abs(left) <= steep * abs(ahead):
        return "front" if ahead > 0 else "behind"
    if abs(ahead) <= steep * abs(left):
        return "left" if left > 0 else "right"
    return None


class Checker:
    """Walks an episode's reference path and checks what its instruction says at each moment."""

    def __init__(self, floor: Floor, episode: Episode) -> None:
        self.floor, self.slow, self.episode = floor, SlowFacts(floor), episode
        path = np.array(episode.reference_path)[:, :2]
        ends = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
        self.at = np.linspace(0, ends[-1], int(ends[-1] / 0.02) + 2)
        self.points = np.stack([np.interp(self.at, ends, path[:, axis]) for axis in (0, 1)], axis=1)
        self.rooms = [self.room(point) for point in self.points]
        self.legs = [0, *(i + 1 for i in range(len(self.rooms) - 1) if self.rooms[i] != self.rooms[i + 1])]

    def room(self, point: np.ndarray) -> int:
        inside = [
            i
            for i, (x0, y0, x1, y1) in enumerate(self.floor.plan.rooms)
            if x0 <= point[0] <= x1 and y0 <= point[1] <= y1
        ]
        return inside[0]

    def door_of(self, leg: int) -> int:
        """The door at the end of a leg: the one between its room and the next."""
        pair = {self.rooms[self.legs[leg + 1] - 1], self.rooms[self.legs[leg + 1]]}
        found = [i for i, door in enumerate(self.floor.plan.doors) if set(door.rooms) == pair]
        assert len(found) == 1
        x, y = self.floor.plan.doors[found[0]].position
        assert np.hypot(*(self.points[self.legs[leg + 1]] - (x, y))) < 0.6  # it is gone through
        return found[0]

    def heading(self, index: int) -> float:
        before, after = max(0, index - 7), min(len(self.points) - 1, index + 7)
        dx, dy = self.points[after] - self.points[before]
        return math.atan2(dy, dx)

    def start_of(self, leg: int) -> tuple[np.ndarray, float]:
        """Where one is, and looks which way, when a leg begins."""
        if leg == 0:
            return self.points[0], self.episode.start_heading
        door = self.floor.plan.doors[self.door_of(leg - 1)]
        index = min(int(np.searchsorted(self.at, self.at[self.legs[leg]] + 0.3)), len(self.points) - 1)
        away = self.points[index] - np.array(door.position)
        return self.points[index], (0.0 if away[0] > 0 else math.pi) if door.along == 1 else math.copysign(
            math.pi / 2, away[1]
        )

    def gaps(self, points: np.ndarray, thing: int) -> list[float]:
        box = self.floor.things[thing].box
        return np.hypot(*np.maximum(box.lower[:2] - points, points - box.upper[:2]).clip(0).T).tolist()

    def check(self) -> Counter[str]:
        said = read(self.episode.instruction)
        assert [clause.verb for clause in said].count("door") == len(self.legs) - 1, "every door is told"
        assert said[-1].verb == "stop"
        told: Counter[str] = Counter()
        leg, last, passed = 0, -1, []
        for clause in said:
            told[f"{clause.verb}, side" if clause.side else clause.verb] += 1
            stop = self.legs[leg + 1] if leg + 1 < len(self.legs) else len(self.points)
            if clause.verb == "door":
                self.check_door(clause, leg, passed)
                leg, last, passed = leg + 1, self.legs[leg + 1], []
            elif clause.verb == "stop":
                assert leg == len(self.legs) - 1
                self.check_stop(clause, leg, passed)
            else:
                last = self.check_pass(clause, self.legs[leg], stop, last)
                passed.append(last)
        return told

    def moments(self, leg: int, passed: list[int]) -> list[tuple[np.ndarray, float]]:
        return [self.start_of(leg), *((self.points[i], self.heading(i)) for i in passed)]

    def check_door(self, clause: Said, leg: int, passed: list[int]) -> None:
        doors, door, room = self.floor.plan.doors, self.door_of(leg), self.rooms[self.legs[leg]]
        beyond = self.rooms[self.legs[leg + 1]]
        here = [i for i, each in enumerate(doors) if room in each.rooms]
        if clause.room:
            assert self.floor.room_names[beyond] == clause.room
        if clause.only == "the door":
            assert leg == 0
            assert here == [door]
        if clause.only == "the other door":
            assert leg > 0
            assert set(here) == {door, self.door_of(leg - 1)}
        if clause.side:
            for position, heading in self.moments(leg, passed):
                assert way_to(position, heading, doors[door].position) == clause.side
                for other in here:
                    come_through = leg > 0 and other == self.door_of(leg - 1)
                    far = np.hypot(*(position - np.array(doors[other].position))) > 1.0
                    if other != door and (far or not come_through):
                        assert way_to(position, heading, doors[other].position) != clause.side, "another door is there"
        assert clause.side or clause.only or clause.room, "nothing says which door"

    def check_pass(self, clause: Said, start: int, stop: int, last: int) -> int:
        thing = self.slow.one(clause.phrase)
        gaps = self.gaps(self.points[start:stop], thing)
        assert self.slow.room(thing) == self.rooms[start]
        if clause.verb == "cross":
            on = [start + i for i, gap in enumerate(gaps) if gap == 0]
            assert len(on) * 0.02 >= 0.25
            nearest = on[len(on) // 2]
        else:
            close = [start + i for i, gap in enumerate(gaps) if gap <= min(gaps) + 1e-3]
            nearest = close[len(close) // 2]
            assert min(gaps) <= 0.85
            # One comes nearer and then goes away again, at some length: it is passed, not approached or left.
            assert min(gaps[0], gaps[-1]) >= min(gaps) + 0.1
            assert self.at[start] + 0.45 <= self.at[nearest] <= self.at[stop - 1] - 0.45
        assert nearest > last, "told in the order of the walk"
        if clause.side:
            centre = self.floor.things[thing].box.centre
            assert way_to(self.points[nearest], self.heading(nearest), centre) == clause.side
        return nearest

    def check_stop(self, clause: Said, leg: int, passed: list[int]) -> None:
        thing = self.slow.one(clause.phrase)
        assert self.gaps(self.points[-1:], thing)[0] <= 1.0 + 1e-9
        assert self.slow.room(thing) == self.rooms[-1]
        if clause.side:
            centre = self.floor.things[thing].box.centre
            for position, heading in self.moments(leg, passed):
                assert way_to(position, heading, centre) == clause.side


def check_all(floors: Sequence[tuple[Floor, Sequence[Episode]]]) -> Counter[str]:
    told: Counter[str] = Counter()
    for floor, episodes in floors:
        for episode in episodes:
            if sort(episode) == "instruction":
                told += Checker(floor, episode).check()
    return told


def test_every_clause_of_an_instruction_is_true() -> None:
    told = check_all([(floor_of(seed), made(seed)) for seed in SEEDS])
    assert told["stop"] + told["stop, side"] > 70
    assert min(told[name] for name in ("door", "door, side", "pass", "pass, side", "stop, side", "cross")) >= 3, told


def test_the_checker_can_fail() -> None:
    side = re.compile(r"(door (?:on|to) (?:your|the)) (left|right)")
    seed, episode = next((s, e) for s, e in of_sort("instruction") if side.search(e.instruction))
    other_side = {"left": "right", "right": "left"}
    wrong = replace(
        episode, instruction=side.sub(lambda found: f"{found[1]} {other_side[found[2]]}", episode.instruction)
    )
    with pytest.raises(AssertionError):
        Checker(floor_of(seed), wrong).check()
    seed, episode = next((s, e) for s, e in of_sort("instruction") if " past " in e.instruction)
    other = next(e for s, e in of_sort("instruction") if s == seed and e.goals != episode.goals)
    with pytest.raises(AssertionError):
        Checker(floor_of(seed), replace(other, instruction=episode.instruction)).check()
    with pytest.raises(AssertionError):
        Checker(floor_of(seed), replace(episode, start_heading=episode.start_heading + 1, instruction="Go on.")).check()


def test_words_of_an_instruction_differ_and_the_walk_does_not() -> None:
    groups: dict[tuple[int, str], list[Episode]] = {}
    for seed, episode in of_sort("instruction"):
        groups.setdefault((seed, episode.id.rpartition("_")[0]), []).append(episode)
    assert len(groups) == 6 * len(SEEDS)
    for some in groups.values():
        assert len({episode.instruction for episode in some}) == len(some)
        assert len({(episode.reference_path, episode.start_heading, episode.goals) for episode in some}) == 1
        assert [episode.id.rpartition("_")[2] for episode in some] == [str(i) for i in range(len(some))]
    assert sum(len(some) == 3 for some in groups.values()) > 0.9 * len(groups)


def test_reference_paths_are_shortest_ways_in_steps_of_an_agent() -> None:
    for seed in SEEDS:
        place = place_of(seed)
        for episode in made(seed):
            path = np.array(episode.reference_path)
            assert tuple(path[0]) == episode.start_position
            assert any(np.allclose(path[-1], goal.position) for goal in episode.goals)
            steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
            assert steps.max() <= 0.25 + 1e-9
            # A way runs along the edge of free ground, so that its points may lie a hair outside.
            assert all(math.dist(place.map.snap(x, y), (x, y)) <= place.map.cell for x, y, _ in path.tolist())
            assert episode.geodesic_distance is not None
            goals = [goal.position[:2] for goal in episode.goals]
            straight = min(math.dist(episode.start_position[:2], goal) for goal in goals)
            # Cutting corners between points makes the path a little shorter than the way itself.
            assert straight - 1e-9 <= steps.sum() <= episode.geodesic_distance + 1e-9
            assert episode.geodesic_distance <= steps.sum() + 0.03 * len(steps)
            assert episode.geodesic_distance >= 1.0


def test_who_walks_the_reference_path_succeeds_in_every_measure() -> None:
    for seed in SEEDS:
        distance = Geodesic(place_of(seed).geodesics)
        for episode in made(seed):
            found = measure(Walk(np.array(episode.reference_path), stopped=True), episode, distance)
            assert (found["success"], found["ndtw"], found["navigation_error"]) == (
                1.0,
                1.0,
                pytest.approx(0, abs=1e-6),
            )
            assert found["spl"] == pytest.approx(1.0, abs=1e-6)


def test_things_are_named_alone_and_seen_from_every_goal() -> None:
    some = {
        (seed, slow.one(f"the {episode.category}")): episode
        for seed, episode in of_sort("object")
        if (slow := SlowFacts(floor_of(seed)))
    }
    assert len(some) > 2 * len(SEEDS)
    seen = total = 0
    for (seed, thing), episode in some.items():
        floor = floor_of(seed)
        assert f"the {episode.category}" in episode.instruction
        box = floor.things[thing].box
        places = np.array([goal.position[:2] for goal in episode.goals])
        gaps = np.hypot(*np.maximum(box.lower[:2] - places, places - box.upper[:2]).clip(0).T)
        assert gaps.max() <= 1.0 + 1e-9
        poses = np.stack([look((x, y), box.centre, 1.25) for x, y in places.tolist()])
        pixels = own_pixels(floor.stage, poses)[:, thing]
        seen, total = seen + int((pixels >= 4).sum()), total + len(pixels)
    assert seen == total


def test_points_are_where_they_are_said_to_be() -> None:
    assert len(of_sort("point")) == 2 * len(SEEDS)
    for _, episode in of_sort("point"):
        found = re.search(
            r"([\d.]+) metres (ahead of|behind) you and ([\d.]+) metres to your (left|right)", episode.instruction
        )
        assert found
        ahead = float(found[1]) * (1 if found[2] == "ahead of" else -1)
        left = float(found[3]) * (1 if found[4] == "left" else -1)
        (x, y, _), heading = episode.start_position, episode.start_heading
        told = (
            x + ahead * math.cos(heading) - left * math.sin(heading),
            y + ahead * math.sin(heading) + left * math.cos(heading),
        )
        assert math.dist(told, episode.goals[0].position[:2]) < episode.goals[0].radius / 2


def test_nothing_that_is_drawn_gives_the_rest_away() -> None:
    sides: Counter[str] = Counter()
    doors: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    for seed in SEEDS:
        around = Surroundings(floor_of(seed), place_of(seed))
        for number in range(30):
            route = draw_route(around, RouteConfig(), Random(f"{seed}/{number}"))
            assert route is not None
            first = next(clause for clause in route.clauses if clause.verb in ("door", "stop"))
            sides[first.side or "none"] += 1
            doors[sum(clause.verb == "door" for clause in route.clauses)] += 1
            kinds[around.floor.things[route.target].kind] += 1
    named = sum(sides.values()) - sides["none"]
    assert named > 0.4 * sum(sides.values()), sides
    for side in ("left", "right", "front", "behind"):
        assert 0.12 < sides[side] / named < 0.4, sides
    assert abs(sides["left"] - sides["right"]) < 3 * math.sqrt(sides["left"] + sides["right"]), sides
    assert len(doors) >= 4, doors
    assert max(doors.values()) < 0.5 * sum(doors.values()), doors
    assert max(kinds.values()) < 0.25 * sum(kinds.values()), kinds
    assert len(kinds) >= 12, kinds


def test_episodes_are_a_function_of_floor_and_seed() -> None:
    again = floor_episodes(floor_of(1), CONFIG, seed=1)
    assert again == made(1)
    other = floor_episodes(floor_of(1), CONFIG, seed=2)
    assert {episode.id for episode in other}.isdisjoint(episode.id for episode in again)
    assert {episode.start_position for episode in other} != {episode.start_position for episode in again}
    assert len({episode.id for seed in SEEDS for episode in made(seed)}) == sum(len(made(seed)) for seed in SEEDS)


def test_numbers_are_as_configured() -> None:
    only = floor_episodes(floor_of(2), RouteConfig(points=0, objects=3, instructions=0), place=place_of(2))
    assert [sort(episode) for episode in only] == ["object"] * 3
    one = floor_episodes(
        floor_of(2), RouteConfig(points=0, objects=0, instructions=2, wordings=1, most_doors=0, most_passed=0)
    )
    assert [sort(episode) for episode in one] == ["instruction"] * 2
    assert all([clause.verb for clause in read(episode.instruction)] == ["stop"] for episode in one)
    assert not floor_episodes(
        floor_of(2), RouteConfig(points=0, objects=1, instructions=1, least=500.0), place=place_of(2)
    )
    with pytest.raises(ValueError, match="counts of at least 0"):
        RouteConfig(points=-1)
    with pytest.raises(ValueError, match="wordings >= 1"):
        RouteConfig(wordings=0)


def test_floors_of_one_room() -> None:
    floor = sample_floor(3, FloorConfig(max_rooms=1))
    episodes = floor_episodes(floor, RouteConfig(points=1, objects=1, instructions=3))
    assert {sort(episode) for episode in episodes} == {"point", "object", "instruction"}
    check_all([(floor, episodes)])


@pytest.mark.parametrize("format", ["r2r_ce", "objectnav", "pointnav"])
def test_episodes_of_floors_are_files_of_the_field(format: str, tmp_path: Path) -> None:
    wanted = {"r2r_ce": "instruction", "objectnav": "object", "pointnav": "point"}[format]
    episodes = [episode for _, episode in of_sort(wanted)]
    write_episodes(tmp_path / "own.json.gz", new_set(format, episodes))  # type: ignore[arg-type]
    again = read_episodes(tmp_path / "own.json.gz").episodes
    for one, other in zip(again, episodes, strict=True):
        assert math.cos(one.start_heading - other.start_heading) == pytest.approx(1.0)
        assert replace(one, start_heading=other.start_heading) == other


@pytest.mark.slow
def test_every_clause_is_true_on_many_floors() -> None:
    told = check_all([(floor, floor_episodes(floor, CONFIG)) for floor in map(sample_floor, range(100, 160))])
    assert told.total() > 2500, told
