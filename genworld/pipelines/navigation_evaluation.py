"""How well agents find their way on held-out floors of the world."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from genworld.eval.by_scene import Figure
from genworld.eval.navigation import RATES, SHORT, Geodesic, MeasureConfig, NavigationReport, Walk, score
from genworld.ops.random import seed_of
from genworld.pipelines.navigation_agents import Agent
from genworld.pipelines.navigation_log import WalkLog
from genworld.pipelines.tally import gather
from genworld.train.runtime import find_world
from genworld.world.navigation.baselines import run
from genworld.world.navigation.environment import NavigationConfig, NavigationEnv
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.geodesic import Geodesics
from genworld.world.navigation.occupancy import OccupancyMap
from genworld.world.navigation.place import Place, place_of_floor
from genworld.world.navigation.routes import RouteConfig, floor_episodes
from genworld.world.rooms import Floor, sample_floor

Sort = Literal["object", "instruction", "point"]

HELD_OUT = 1_000_000
"""Seed of the first floor: far from those that anything is trained on."""

_COLUMNS = (
    "success",
    "spl",
    "soft_spl",
    "oracle_success",
    "ndtw",
    "sdtw",
    "navigation_error",
    "path_length",
    "steps",
    "collisions",
)


@dataclass(frozen=True, kw_only=True)
class NavigationExam:
    """What agents are asked to do.

    Attributes:
        floors: how many of the held-out floors.
        sort: of the episodes.
        each: episodes on each floor, at most.
        seed: of the choice of episodes, and of what is random in agents.
        first: seed of the first floor.
        max_steps: a walk is cut after so many actions.
    """

    floors: int = 200
    sort: Sort = "object"
    each: int = 1
    seed: int = 0
    first: int = HELD_OUT
    max_steps: int = 500

    def __post_init__(self) -> None:
        if min(self.floors, self.each, self.max_steps) < 1 or self.first < 0:
            raise ValueError(f"expected floors, each and max_steps of at least 1 and first of at least 0, got {self}")

    @property
    def routes(self) -> RouteConfig:
        """Episodes of one floor, each with one wording."""
        counts = {f"{sort}s": self.each if sort == self.sort else 0 for sort in ("object", "instruction", "point")}
        return RouteConfig(wordings=1, **counts)

    @property
    def told(self) -> dict[str, Any]:
        """What decides a walk on a floor: all but how many floors there are."""
        return {"sort": self.sort, "each": self.each, "seed": self.seed, "max_steps": self.max_steps}

    def episodes(self, floor: Floor, place: Place) -> list[Episode]:
        """The episodes of a floor; none where it has none of the sort."""
        return floor_episodes(floor, self.routes, self.seed, place)


@dataclass(frozen=True)
class NavigationScores:
    """How all agents did.

    Attributes:
        exam: what was asked.
        reports: by agent.
        notes: what each agent knows and does.
        episodes: all that were walked.
        without: floors that have no such episode.
        is_main: whether this process is the one that writes; the others have no reports.
    """

    exam: NavigationExam
    reports: Mapping[str, NavigationReport]
    notes: Mapping[str, str]
    episodes: tuple[Episode, ...] = field(repr=False)
    without: tuple[str, ...] = ()
    is_main: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with the measures of every walk."""
        agents = {
            name: {"note": self.notes[name], **report.to_dict(), "rows": list(report.rows)}
            for name, report in self.reports.items()
        }
        kept = ("id", "scene", "instruction", "category", "geodesic_distance")
        return {
            "exam": asdict(self.exam),
            "floors_without_episodes": list(self.without),
            "episodes": [{name: getattr(episode, name) for name in kept} for episode in self.episodes],
            "agents": agents,
        }

    def __str__(self) -> str:
        return "\n".join(f"{name}: {report}" for name, report in self.reports.items())

    def markdown(self, provenance: Mapping[str, str]) -> str:
        """A card: a table of all agents with intervals, what they know, and where the numbers come from."""
        first = next(iter(self.reports.values()))
        heads = ["agent", *(SHORT.get(name, name) for name in _COLUMNS)]
        rows = [
            [name, *(_cell(column, report.figures[column]) for column in _COLUMNS)]
            for name, report in self.reports.items()
        ]
        table = [heads, ["---"] * len(heads), *rows]
        exam = self.exam
        return "\n".join(
            [
                f"# Navigation: {exam.sort} goals" if exam.sort != "instruction" else "# Navigation: instructions",
                "",
                f"{first.num} episodes on {first.num_scenes} held-out floors (seeds from {exam.first}; "
                f"{len(self.without)} of {exam.floors} floors have none), at most {exam.max_steps} steps, "
                f"{first.distance} distance, {first.dtw} DTW. Brackets: 95 % intervals over floors.",
                "",
                *(f"| {' | '.join(row)} |" for row in table),
                "",
                *(f"- {name}: {note}" for name, note in self.notes.items()),
                "",
                *(f"- {key}: {value}" for key, value in provenance.items()),
                "",
            ]
        )


@dataclass(frozen=True)
class _Floor:
    """What came of one floor."""

    name: str
    map: OccupancyMap
    episodes: tuple[Episode, ...]
    walks: Mapping[str, tuple[tuple[str, Walk], ...]]


def evaluate_navigation(
    exam: NavigationExam,
    agents: Sequence[Agent],
    kept: Path | None = None,
    measures: MeasureConfig | None = None,
    at_once: int = 8,
) -> NavigationScores:
    """Send all agents on the same walks, shared out over all processes.

    What an agent does depends on the exam and the episode alone, so that any number of processes gives the same scores.
    So does any number of walks at once, but for rounding in a model that answers them together.

    Args:
        exam: what is asked.
        agents: of whom.
        kept: folder in which walks are kept, so that what was cut goes on, and more floors or agents cost only what is
            new; see `WalkLog`.
        measures: what the definitions of the measures leave open; no walk depends on it.
        at_once: floors of a process that are walked at the same time: a model answers all of them together (see
            `Crowd`), which takes a quarter less time than one after the other.

    Raises:
        ValueError: two agents have one name, at_once is below 1, none of the floors has an episode of the sort, or an
            episode was not walked exactly once.
    """
    names = [agent.name for agent in agents]
    if not agents or len(set(names)) < len(names):
        raise ValueError(f"expected agents of different names, got {', '.join(names) or 'none'}")
    if at_once < 1:
        raise ValueError(f"expected at_once of at least 1, got {at_once}")
    world = find_world()
    seeds = range(exam.first, exam.first + exam.floors)[world.rank :: world.size]
    log = WalkLog(kept, exam.told)
    with ThreadPoolExecutor(at_once) as pool:
        walked = pool.map(lambda seed: _walk_floor(exam, agents, seed, log), seeds)
        mine = list(tqdm(walked, "floors", len(seeds), disable=world.rank > 0))
    notes = {agent.name: agent.note for agent in agents}
    gathered = [found for part in gather(mine) for found in part]
    if world.rank > 0:
        return NavigationScores(exam, {}, notes, (), is_main=False)
    found = sorted(gathered, key=lambda each: int(each.name.rpartition("-")[2]))
    episodes = tuple(episode for each in found for episode in each.episodes)
    if not episodes:
        raise ValueError(f"none of {exam.floors} floors from seed {exam.first} on has an episode of sort {exam.sort!r}")
    distances = {each.name: Geodesic(Geodesics(each.map)) for each in found if each.episodes}
    reports = {
        name: score([walk for each in found for walk in each.walks[name]], episodes, distances, measures)
        for name in names
    }
    return NavigationScores(exam, reports, notes, episodes, tuple(each.name for each in found if not each.episodes))


def write_scores(scores: NavigationScores, results: Path, provenance: Mapping[str, str]) -> list[Path]:
    """Write results.json and, beside it, a card; returns both."""
    results.parent.mkdir(parents=True, exist_ok=True)
    record = {**scores.to_dict(), "provenance": dict(provenance)}
    results.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    card = results.with_name("card.md" if results.name == "results.json" else f"{results.stem}-card.md")
    card.write_text(scores.markdown(provenance), "utf-8")
    return [results, card]


def _walk_floor(exam: NavigationExam, agents: Sequence[Agent], seed: int, log: WalkLog) -> _Floor:
    floor = sample_floor(seed)
    config = NavigationConfig(task=exam.sort, pose=True, distances=False, max_steps=exam.max_steps)
    place = place_of_floor(floor, config.agent, config.camera)
    episodes = exam.episodes(floor, place)
    walks = {
        agent.name: log.walks(
            agent.name,
            agent.version,
            floor.name,
            lambda agent=agent: tuple(_walks(exam, agent, episodes, place, config)),  # type: ignore[misc]
        )
        for agent in agents
    }
    return _Floor(floor.name, replace(place.map), tuple(episodes), walks)  # a copy of the map without what it cached


def _walks(
    exam: NavigationExam, agent: Agent, episodes: Sequence[Episode], place: Place, config: NavigationConfig
) -> Iterator[tuple[str, Walk]]:
    if not episodes:
        return
    env = NavigationEnv(episodes, lambda _: place, replace(config, images=agent.images))
    for episode in episodes:
        policy = agent.make(env, seed_of(exam.seed, agent.name, episode.id))
        with agent.walking():
            done = run(env, policy, episode.id)
        yield done.episode, Walk(done.positions, done.stopped, done.collisions)


def _cell(name: str, figure: Figure) -> str:
    digits = 3 if name in RATES else 2 if SHORT.get(name) else 1
    if figure.interval is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} [{figure.interval.low:.{digits}f}, {figure.interval.high:.{digits}f}]"
