"""Places to find one's way in: a map, what can be seen there, and how far everything is."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from random import Random

from genworld.types import Scene
from genworld.world.navigation.camera import CameraConfig, Viewer
from genworld.world.navigation.episode import Episode, Goal
from genworld.world.navigation.geodesic import Geodesics
from genworld.world.navigation.mapping import map_of_floor, map_of_scene, scene_points
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap
from genworld.world.navigation.splat import PointViews
from genworld.world.navigation.views import FloorViews
from genworld.world.rooms.floor import Floor

_TRIES = 1000


@dataclass(frozen=True, eq=False)
class Place:
    """Somewhere to find one's way.

    Attributes:
        name: the `scene` of its episodes.
        map: its free ground.
        viewer: what is seen there; None where nothing needs to be.
        agent: whom the map was made for; None where that is not known.
    """

    name: str
    map: OccupancyMap
    viewer: Viewer | None = None
    agent: AgentConfig | None = None

    @cached_property
    def geodesics(self) -> Geodesics:
        """Shortest ways."""
        return Geodesics(self.map)


class Places:
    """Places by name, the last few of which are kept.

    Attributes:
        make: makes the place of a name.
        most: how many are kept.
    """

    def __init__(self, make: Callable[[str], Place], most: int = 16) -> None:
        self.make, self.most = make, most
        self._kept: OrderedDict[str, Place] = OrderedDict()

    def __call__(self, name: str) -> Place:
        """The place of a name."""
        if name not in self._kept:
            self._kept[name] = self.make(name)
            if len(self._kept) > self.most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]


def place_of_floor(
    floor: Floor, agent: AgentConfig | None = None, camera: CameraConfig | None = None, smooth: bool = False
) -> Place:
    """A floor of the world; `smooth`: see `FloorViews`."""
    agent = agent or AgentConfig()
    return Place(floor.name, map_of_floor(floor, agent), FloorViews(floor.stage, camera, smooth), agent)


def place_of_scene(scene: Scene, agent: AgentConfig | None = None, camera: CameraConfig | None = None) -> Place:
    """A scan: map and views are made of its points, or those that its views show.

    Raises:
        ValueError: it has neither, or nowhere to stand.
    """
    agent = agent or AgentConfig()
    ground = map_of_scene(scene, agent)
    return Place(scene.name, ground, PointViews(*scene_points(scene), ground.floor, camera), agent)


def point_goal(
    place: Place, seed: int, least: float = 1.0, radius: float = 0.2, goal: tuple[float, float] | None = None
) -> Episode:
    """A random start and a random goal that can be reached from it: a function of its arguments.

    Args:
        place: where.
        seed: of the random numbers.
        least: metres that start and goal are apart on foot.
        radius: of the goal, metres; 0.2 is Habitat's PointNav.
        goal: x and y in metres, where it is not to be drawn.

    Raises:
        ValueError: the free ground is too small, or `goal` is not on it.
    """
    chance = Random(f"point goal/{place.name}/{seed}")
    places = place.map.places().tolist()
    given = None if goal is None else _on_ground(place, goal, places[0])
    for _ in range(_TRIES):
        start, drawn = ((float(x), float(y)) for x, y in (chance.choice(places), chance.choice(places)))
        goal = given or drawn
        length = place.geodesics.distance(start, goal)
        if length >= least:
            floor = place.map.floor
            goals = (Goal((*goal, floor), radius),)
            heading = chance.uniform(-3.14159, 3.14159)
            return Episode(
                f"{place.name}/{seed}", place.name, (*start, floor), heading, goals, geodesic_distance=length
            )
    raise ValueError(f"{place.name}: no two free places are {least} m apart on foot: ask for less")


def _on_ground(place: Place, goal: tuple[float, float], reached: tuple[float, float]) -> tuple[float, float]:
    """A goal that was asked for, if there is a way to it from a place that can be reached."""
    ground = place.map
    if ground.area(*goal) != ground.area(*reached):
        x, y = ground.snap(*goal, ground.area(*reached))
        raise ValueError(
            f"{place.name}: nobody can walk to ({goal[0]:.2f}, {goal[1]:.2f}) m; the nearest place to which one can is "
            f"({x:.2f}, {y:.2f})"
        )
    return goal
