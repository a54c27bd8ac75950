"""How well an agent found its way: the measures of VLN-CE and Habitat, per episode and over many.

Definitions are those of the code behind published numbers, not of its comments: success is strict (`d < radius`) and
needs STOP; the length of a path is a sum of straight steps in three dimensions, also where distances to the goal are
geodesic. What a number depends on besides (which distance, which DTW) is said by the report.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from genworld.eval.by_scene import PERCENT, Figure, number_scenes, percent
from genworld.eval.navigation_dtw import DTWMethod, dtw, fast_dtw, steps_of
from genworld.world.navigation.episode import Episode
from genworld.world.navigation.geodesic import Field, Geodesics
from genworld.world.navigation.start import SNAP, standing, standing_goals

METRES = ("navigation_error", "oracle_navigation_error", "path_length")
COUNTS = ("steps", "collisions")
RATES = ("success", "oracle_success", "spl", "soft_spl", "ndtw", "sdtw")
SHORT = {
    "navigation_error": "NE",
    "oracle_navigation_error": "ONE",
    "path_length": "PL",
    "success": "SR",
    "oracle_success": "OSR",
    "spl": "SPL",
    "soft_spl": "SoftSPL",
    "ndtw": "nDTW",
    "sdtw": "SDTW",
}
"""The names that papers print."""
_SEVERAL = 5  # ids shown in an error


class Distance(Protocol):
    """Distances to the nearest goal of an episode."""

    @property
    def name(self) -> Literal["geodesic", "euclidean"]:
        """What kind of distance it is."""
        ...

    def __call__(self, positions: Float[np.ndarray, "T 3"], goals: Float[np.ndarray, "G 3"]) -> Float[np.ndarray, " T"]:
        """Metres from each position to the nearest goal."""
        ...


@dataclass(frozen=True)
class Euclidean:
    """Straight through walls: for where no map is known. Success by it is easier than what papers report."""

    name: Literal["geodesic", "euclidean"] = "euclidean"

    def __call__(self, positions: Float[np.ndarray, "T 3"], goals: Float[np.ndarray, "G 3"]) -> Float[np.ndarray, " T"]:
        """Metres from each position to the nearest goal."""
        return np.linalg.norm(positions[:, None] - goals[None], axis=-1).min(axis=1)


@dataclass(frozen=True, eq=False)
class Geodesic:
    """Over the free ground of one map; goals and positions that are not free are moved to the nearest place that is.

    Goals that are not on the map, such as objects on another storey, do not count as long as one is.

    Attributes:
        ways: shortest ways on the map.
        snap: metres that a goal or a position may be moved.
    """

    ways: Geodesics
    snap: float = SNAP
    name: Literal["geodesic", "euclidean"] = "geodesic"
    _fields: dict[bytes, Field] = field(default_factory=dict, repr=False)

    def __call__(self, positions: Float[np.ndarray, "T 3"], goals: Float[np.ndarray, "G 3"]) -> Float[np.ndarray, " T"]:
        """Metres from each position to the nearest goal; infinite where no way leads.

        Raises:
            ValueError: a position, or every goal, is further than `snap` from free ground or on another storey.
        """
        key = goals.tobytes()
        if key not in self._fields:
            places = standing_goals(self.ways.map, goals.tolist(), self.snap)
            self._fields[key] = self.ways.toward(list(places.values()))
        return np.array([self._fields[key].distance(*self._standing(place)) for place in positions])

    def _standing(self, place: Float[np.ndarray, " 3"]) -> tuple[float, float]:
        try:
            return standing(self.ways.map, place.tolist(), self.snap)
        except ValueError as error:
            raise ValueError(f"position {error}") from None


@dataclass(frozen=True)
class Walk:
    """What an agent did in an episode.

    Attributes:
        positions: at the start and after each action, scene axes, metres.
        stopped: whether it ended the episode itself, by STOP.
        collisions: steps in which something was in its way.
    """

    positions: Float[np.ndarray, "T 3"]
    stopped: bool
    collisions: int = 0

    def __post_init__(self) -> None:
        shape = np.shape(self.positions)
        if len(shape) != 2 or shape[0] < 1 or shape[1] != 3 or not np.isfinite(self.positions).all():
            raise ValueError(f"expected the positions of a walk as [T, 3] finite metres, got an array {shape}")

    @property
    def steps(self) -> int:
        """Actions, STOP among them."""
        return len(self.positions) - 1


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What the definitions leave open.

    Attributes:
        success_distance: metres; None: the radius of the episode's goals (VLN 3.0; ObjectNav 0.1 from a view point).
        dtw: "exact", or "fastdtw", which VLN-CE uses by default: an approximation that can only be worse.
        dtw_distance: metres by which DTW is divided, per point of the reference.
    """

    success_distance: float | None = None
    dtw: DTWMethod = "exact"
    dtw_distance: float = 3.0


def measure(
    walk: Walk,
    episode: Episode,
    distance: Distance,
    config: MeasureConfig | None = None,
    reference: Float[np.ndarray, "M 3"] | None = None,
) -> dict[str, float]:
    """All measures of one walk, by name.

    nDTW and SDTW (Ilharco et al. 2019) are there when there is a reference. SPL is Anderson et al.'s (2018), SoftSPL
    Habitat's. Where an episode starts at its goal, staying there is perfect and any step is not.

    Args:
        walk: its first position is the start.
        episode: goals in scene axes.
        distance: to the goal.
        config: what the definitions leave open.
        reference: where the expert was, step by step (`locations` of a ground truth file); the episode's reference path
            when None.

    Raises:
        ValueError: no way leads from the start to a goal, or the goals have different radii.
    """
    config = config or MeasureConfig()
    positions = np.asarray(walk.positions, dtype=np.float64)
    left = np.asarray(distance(positions, np.array([goal.position for goal in episode.goals], dtype=np.float64)))
    shortest, end = float(left[0]), float(left[-1])
    if not math.isfinite(shortest):
        raise ValueError(f"episode {episode.id!r}: no way leads from {positions[0].tolist()} to a goal: leave it out")
    radius = _radius(episode, config)
    length = float(np.linalg.norm(np.diff(positions, axis=0), axis=-1).sum())
    success = float(walk.stopped and end < radius)
    spared = shortest / max(shortest, length) if max(shortest, length) > 0 else 1.0
    closer = max(0.0, 1 - end / shortest) if shortest > 0 else float(end == 0)
    found = {
        "navigation_error": end,
        "oracle_navigation_error": float(left.min()),
        "path_length": length,
        "steps": float(walk.steps),
        "collisions": float(walk.collisions),
        "success": success,
        "oracle_success": float(bool((left < radius).any())),
        "spl": success * spared,
        "soft_spl": closer * spared,
    }
    path = np.array(episode.reference_path, dtype=np.float64) if reference is None else np.asarray(reference)
    if len(path):
        found["ndtw"] = ndtw(positions, path, config.dtw, config.dtw_distance)
        found["sdtw"] = success * found["ndtw"]
    return found


def ndtw(
    positions: Float[np.ndarray, "T 3"],
    reference: Float[np.ndarray, "M 3"],
    method: DTWMethod = "exact",
    distance: float = 3.0,
) -> float:
    """Normalised DTW, 0 to 1: exp(-DTW / (M distance)); turns on the spot and STOP count once (Ilharco et al. 2019)."""
    warp = {"exact": dtw, "fastdtw": fast_dtw}[method]
    return math.exp(-warp(steps_of(positions), reference) / (len(reference) * distance))


def _radius(episode: Episode, config: MeasureConfig) -> float:
    if config.success_distance is not None:
        return config.success_distance
    radii = {goal.radius for goal in episode.goals}
    if len(radii) > 1:
        raise ValueError(f"episode {episode.id!r}: expected one radius for all goals, got {sorted(radii)}")
    return radii.pop()


@dataclass(frozen=True)
class NavigationReport:
    """Measures over episodes: means with intervals over scenes.

    Attributes:
        distance: which distance to the goal: "geodesic" or "euclidean".
        dtw: which DTW.
        num: episodes.
        num_scenes: that they are in.
        figures: by name; metres, counts, or parts of 1.
        rows: each episode with its measures.
    """

    distance: str
    dtw: str
    num: int
    num_scenes: int
    figures: Mapping[str, Figure]
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the rows, for JSON."""
        return asdict(replace(self, rows=()))

    def __str__(self) -> str:
        head = f"{self.num} episodes in {self.num_scenes} scenes ({self.distance} distance, {self.dtw} DTW)"
        lines = [f"  {SHORT.get(name, name):10s} {_printed(figure)}" for name, figure in self.figures.items()]
        return "\n".join([head, *lines])


def score(
    walks: Iterable[tuple[str, Walk]],
    episodes: Sequence[Episode],
    distances: Mapping[str, Distance] | Distance,
    config: MeasureConfig | None = None,
    references: Mapping[str, Float[np.ndarray, "M 3"]] | None = None,
) -> NavigationReport:
    """Measure all walks; each episode must have exactly one.

    Args:
        walks: ids of episodes, and what was done there.
        episodes: all that were to be walked.
        distances: one for all scenes, or by name of scene.
        config: what the definitions leave open.
        references: the expert's positions by id of episode; the episodes' own reference paths when None.

    Raises:
        ValueError: an id is missing, unknown or comes twice, a scene has no distance, some episodes have a reference
            and some have none, or an episode cannot be measured.
    """
    config = config or MeasureConfig()
    found = by_episode(walks, episodes)
    rows: list[dict[str, Any]] = []
    names = set()
    for episode in episodes:
        distance = _distance_of(episode, distances)
        names.add(distance.name)
        reference = None if references is None else references.get(episode.id)
        if references is not None and reference is None:
            raise ValueError(f"episode {episode.id!r} has no reference among the {len(references)} that were given")
        values = measure(found[episode.id], episode, distance, config, reference)
        rows.append({"episode_id": episode.id, "scene_id": episode.scene, **values})
    measured = list(dict.fromkeys(name for row in rows for name in row if name in METRES + COUNTS + RATES))
    without = [row["episode_id"] for row in rows if not all(name in row for name in measured)]
    if without:
        raise ValueError(
            f"{len(without)} of {len(rows)} episodes have no reference path: {_some(without)}: score apart"
        )
    if len(names) > 1:
        raise ValueError(f"expected one kind of distance for all scenes, got {sorted(names)}: score them apart")
    scenes = number_scenes([row["scene_id"] for row in rows])
    return NavigationReport(
        distance=names.pop(),
        dtw=config.dtw,
        num=len(rows),
        num_scenes=len(set(scenes.tolist())),
        figures={name: _mean(np.array([row[name] for row in rows]), scenes) for name in measured},
        rows=tuple(rows),
    )


def by_episode(walks: Iterable[tuple[str, Walk]], episodes: Sequence[Episode]) -> dict[str, Walk]:
    """The walk of each episode.

    Raises:
        ValueError: there are no episodes, or an id is missing, unknown, comes twice, or is that of two episodes.
    """
    pairs = list(walks)
    asked, came = Counter(episode.id for episode in episodes), Counter(name for name, _ in pairs)
    lists = {
        "have no walk": [name for name in asked if name not in came],
        "have more than one walk": [name for name in asked if came[name] > 1],
        "of walks are of no episode": [name for name in came if name not in asked],
        "belong to more than one episode": [name for name, count in asked.items() if count > 1],
    }
    wrong = [f"{len(names)} ids {what}, such as {_some(names)}" for what, names in lists.items() if names]
    if wrong or not asked:
        raise ValueError(f"of {len(episodes)} episodes: {'; '.join(wrong) or 'there is nothing to score'}")
    return dict(pairs)


def _distance_of(episode: Episode, distances: Mapping[str, Distance] | Distance) -> Distance:
    if not isinstance(distances, Mapping):
        return distances
    if episode.scene not in distances:
        raise ValueError(f"episode {episode.id!r}: no distance is given for scene {episode.scene!r}")
    return distances[episode.scene]


def _mean(values: Float[np.ndarray, " n"], scenes: np.ndarray) -> Figure:
    """`percent` in the values' own unit."""
    if not np.isfinite(values).all():
        return Figure(float(values.mean()), len(values))  # an agent that was lost: an infinite error has no interval
    figure = percent(values, scenes)
    interval = None if figure.interval is None else figure.interval.scaled(1 / PERCENT)
    return Figure(figure.value / PERCENT, figure.num, interval)


def _printed(figure: Figure) -> str:
    interval = figure.interval
    return f"{figure.value:.3f}" + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval is not None else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SEVERAL]))
