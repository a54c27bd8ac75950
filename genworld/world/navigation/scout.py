"""An agent's own map put to use: where nobody has looked yet, the way to a place, and where to stand at a thing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from genworld.world.navigation.camera import NEAR, CameraConfig, sight_lines
from genworld.world.navigation.explore import DepthMapper
from genworld.world.navigation.follow import next_action
from genworld.world.navigation.geodesic import CellField, Place
from genworld.world.navigation.motion import Action, MotionConfig, Mover, Stance, wrap
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap

_SOLID = 0.1  # metres: edge of the voxels that say what is in the way of a look
_EVERY = 2  # pixels between those that become voxels
_RAYS = 72
_ROOM = 0.25  # metres
_SAME = 0.25  # metres
_STUCK = 0.5  # a step forward that brings less than this part of itself has met something


class Frontier(NamedTuple):
    """Where known ground ends.

    Attributes:
        place: a free cell of it, metres.
        gain: square metres of unknown ground around it.
    """

    place: Place
    gain: float


@dataclass
class Memory:
    """Where an agent has been.

    Attributes:
        stances: one for each observation.
        kept: those whose views were worth keeping.
    """

    stances: list[Stance] = field(default_factory=list)
    kept: list[Stance] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ViewChoice:
    """Which observations are worth keeping; the same for agents and for what they are taught with.

    Attributes:
        metres: that the camera must have moved since every view that was kept and looks the same way.
        degrees: within which views look the same way.
    """

    metres: float = 0.5
    degrees: float = 40.0

    def __post_init__(self) -> None:
        if self.metres < 0 or self.degrees <= 0:
            raise ValueError(f"expected metres of at least 0 and degrees above 0, got {self}")

    def wants(self, kept: Sequence[Stance], stance: Stance) -> bool:
        """Whether a view from a stance shows enough that is new beside those that were kept."""
        angle = math.radians(self.degrees)
        return not any(
            math.dist(one[:2], stance[:2]) < self.metres
            and abs(wrap(one.heading - stance.heading)) < angle
            and abs(one.pitch - stance.pitch) < angle
            for one in kept
        )


@dataclass(frozen=True, kw_only=True)
class ScoutConfig:
    """How an agent explores and where it stands.

    Attributes:
        choice: which views are kept.
        least: cells of a frontier worth going to; what is behind smaller ones was seen but for a corner.
        horizon: unknown ground so near to a frontier is what going there may show, metres.
        gain: metres that a frontier may be farther away for twice as much to be seen there.
        turn: metres that a turn by half a circle counts for when a frontier is chosen.
        near: metres from a frontier that are near enough.
        sight: metres that are looked ahead when it is asked what a turn may show.
        worth: square metres of unknown ground that make a turn worth it.
        reach: metres from a thing, seen from above, within which one is at it; the rule of the world's episodes is
            1 m.
        amid: part of the ground around where one stands, 0.25 m to each side, from which the thing must be seen too.
        clear: metres that the line to the middle of a thing is clear of what was seen, up to the thing.
    """

    choice: ViewChoice = field(default_factory=ViewChoice)
    least: int = 6
    horizon: float = 1.5
    gain: float = 2.0
    turn: float = 0.5
    near: float = 0.3
    sight: float = 4.0
    worth: float = 0.3
    reach: float = 0.85
    amid: float = 0.6
    clear: float = 0.1


class Scout:
    """A map from depth and pose alone, and the actions that lead over it.

    Args:
        agent: the body that has to fit.
        camera: that takes the depth.
        motion: what actions do.
        config: how it explores.
    """

    def __init__(
        self, agent: AgentConfig, camera: CameraConfig, motion: MotionConfig, config: ScoutConfig | None = None
    ) -> None:
        self.agent, self.camera, self.motion, self.config = agent, camera, motion, config or ScoutConfig()
        self.choice = self.config.choice
        self.mapper = DepthMapper(agent, camera)
        self.memory = Memory()
        self.slim = 0.0
        """Metres that it makes itself slimmer than it is, to get through."""
        self._solid: set[int] = set()
        self._map: OccupancyMap | None = None
        self._edge: Bool[np.ndarray, "X Y"] | None = None
        self._ways: tuple[Place, CellField] | None = None
        self._last = Action.STOP
        self._surveys = False

    # What is known

    @property
    def stance(self) -> Stance:
        """Where it is."""
        return self.memory.stances[-1]

    def look(self, depth: Float[np.ndarray, "H W"], stance: Stance) -> bool:
        """Take in one observation; says whether its view is worth keeping."""
        before = self.memory.stances[-1] if self.memory.stances else None
        self.mapper.add(depth, stance)
        moved = math.inf if before is None else math.dist(before[:2], stance[:2])
        if self._last == Action.FORWARD and moved < _STUCK * self.motion.forward:
            self.mapper.bump(stance)
        self.memory.stances.append(stance)
        self._solid.update(self._voxels(depth, stance))
        self._map = self._edge = self._ways = None
        if kept := self.choice.wants(self.memory.kept, stance):
            self.memory.kept.append(stance)
        return kept

    @property
    def ground(self) -> OccupancyMap:
        """What is known of the ground."""
        if self._map is None:
            self._map = self.mapper.map(self.stance, self.agent.radius - self.slim)
        return self._map

    def squeeze(self) -> bool:
        """Try gaps as narrow as a map of cells can be wrong about; False where it does so already."""
        if self.slim:
            return False
        self.slim, self._map, self._edge, self._ways = self.agent.cell, None, None, None
        return True

    def from_here(self) -> CellField:
        """Distances from where it is."""
        return self._toward(self.stance[:2])

    @property
    def edge(self) -> Bool[np.ndarray, "X Y"]:
        """Free ground, which a way leads to, beside unknown ground (Yamauchi 1997)."""
        if self._edge is None:
            ground = self.ground
            self._edge = ndimage.binary_dilation(~ground.known, np.ones((3, 3)))
            self._edge &= ground.areas == ground.area(*self.stance[:2])
        return self._edge

    def is_frontier(self, place: Place) -> bool:
        """Whether there is still unknown ground at a place that was a frontier."""
        i, j = self.ground.index(*place)
        reach = round(_SAME / self.ground.cell)
        return int(self.edge[max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1].sum()) >= 2

    def frontiers(self) -> list[Frontier]:
        """Where known ground that can be walked to ends."""
        ground, config = self.ground, self.config
        labels, _ = ndimage.label(self.edge, np.ones((3, 3)))
        reach = round(config.horizon / ground.cell)
        unknown = np.pad(~ground.known, reach, constant_values=True)
        found = []
        for number, where in enumerate(ndimage.find_objects(labels), 1):
            cells = np.argwhere(labels[where] == number) + np.array([where[0].start, where[1].start])
            if len(cells) < config.least:
                continue
            i, j = cells[np.argmin(((cells - cells.mean(0)) ** 2).sum(1))].tolist()
            x, y = ground.metres(np.array([i + 0.5, j + 0.5])).tolist()
            gain = unknown[i : i + 2 * reach + 1, j : j + 2 * reach + 1].sum() * ground.cell**2
            found.append(Frontier((x, y), float(gain)))
        return found

    def best_frontier(self, avoid: Sequence[Place] = (), draw: Place | None = None) -> Place | None:
        """The frontier to look at next, none of those to avoid; None where nothing is left to see.

        With a place that draws it, one on the way there.
        """
        ways, stance, config = self.from_here(), self.stance, self.config

        def cost(frontier: Frontier) -> float:
            x, y = frontier.place
            bearing = abs(wrap(math.atan2(y - stance.y, x - stance.x) - stance.heading)) / math.pi
            on = config.gain * math.log2(max(frontier.gain, 1e-3)) if draw is None else -math.dist(draw, (x, y))
            return ways.distance(x, y) + config.turn * bearing - on

        some = [
            frontier
            for frontier in self.frontiers()
            if math.isfinite(ways.distance(*frontier.place))
            and all(math.dist(frontier.place, place) > _SAME for place in avoid)
        ]
        best = min(some, key=cost, default=None)
        return None if best is None else best.place

    def unseen(self) -> Float[np.ndarray, " A"]:
        """Unknown ground that a look may show from here, by direction: square metres in each of `A` equal sectors.

        Sector k is around the bearing 2 pi k / A, scene axes. What was seen to be solid ends a look.
        """
        ground, (x, y) = self.ground, self.stance[:2]
        steps = np.arange(ground.cell, self.config.sight, ground.cell)
        angles = 2 * math.pi * np.arange(_RAYS) / _RAYS
        places = np.stack([x + np.outer(np.cos(angles), steps), y + np.outer(np.sin(angles), steps)], axis=-1)
        cells = np.floor(ground.grid(places)).astype(int)
        inside = ((cells >= 0) & (cells < ground.shape)).all(-1)
        i, j = np.where(inside[..., None], cells, 0).transpose(2, 0, 1)
        over = np.logical_or.accumulate(inside & ground.occupied[i, j], axis=1)
        hidden = ~(inside & ground.known[i, j]) & ~over
        return (hidden * steps).sum(1) * ground.cell * 2 * math.pi / _RAYS

    # What to do

    def toward(self, place: Place, near: float) -> Action:
        """The next action on the way to a known place; STOP within `near` metres of it or where no way leads on."""
        action = next_action(Mover(self.ground, self.motion), self.stance, self._toward(place), near)
        self._last = action
        return action

    def survey(self) -> Action:
        """The turn that goes on looking around from here; STOP where no turn shows enough that is new."""
        gains = self.unseen()
        bearings = 2 * math.pi * np.arange(_RAYS) / _RAYS
        away = wrap(bearings - self.stance.heading)
        beside = np.abs(away) > math.radians(self.camera.fov) / 2
        left, right = (float(gains[beside & side].sum()) for side in (away > 0, away <= 0))
        if left + right < self.config.worth:
            self._last = Action.STOP
        elif (self._last in (Action.LEFT, Action.RIGHT)) and self._surveys:
            pass  # it goes on as it began
        else:
            self._last = Action.LEFT if left >= right else Action.RIGHT
        self._surveys = self._last != Action.STOP
        return self._last

    def stand_at(
        self, lower: Float[np.ndarray, " 3"], upper: Float[np.ndarray, " 3"], strict: bool = True
    ) -> Place | None:
        """The nearest known place at a box from which its middle is seen; None where there is none yet.

        Args:
            lower: corner of the box, metres.
            upper: corner.
            strict: whether the middle must be seen; else the place nearest to the box will do where none sees it.
        """
        ground, ways = self.ground, self.from_here()
        cells = np.argwhere(ground.areas == ground.area(*self.stance[:2]))
        places = ground.metres(cells + 0.5)
        gaps = np.hypot(*np.maximum(lower[:2] - places, places - upper[:2]).clip(0).T)
        close = np.nonzero(gaps <= self.config.reach)[0]
        clear = close[self._clear(places[close], lower, upper)]
        if not len(clear):
            if strict or not len(close):
                return None
            best = close[np.argmin(gaps[close])]
        else:
            good = np.zeros(ground.shape)
            good[tuple(cells[clear].T)] = 1
            room = ndimage.uniform_filter(good, 2 * round(_ROOM / ground.cell) - 1, mode="constant")
            amid = clear[room[tuple(cells[clear].T)] >= self.config.amid]
            some = amid if len(amid) else clear
            best = some[np.argmin([ways.distance(*places[k]) for k in some.tolist()])]
        x, y = places[best].tolist()
        return (x, y) if math.isfinite(ways.distance(x, y)) else None

    def nearest(self, place: Place) -> Place:
        """The known free place, which a way leads to, that is nearest to a place."""
        return self.ground.snap(*place, self.ground.area(*self.stance[:2]))

    # Within

    def _toward(self, place: Place) -> CellField:
        if self._ways is None or self._ways[0] != place:
            self._ways = place, CellField(self.ground, [place])
        return self._ways[1]

    def _voxels(self, depth: Float[np.ndarray, "H W"], stance: Stance) -> list[int]:
        z = self.camera.readings(depth[::_EVERY, ::_EVERY])
        eye, direction = sight_lines(self.camera, stance, self.mapper.floor, _EVERY)
        points = (eye + direction * z[..., None])[(z > NEAR) & (z < self.mapper.config.reach)]
        return np.unique(voxel_keys(points)).tolist()

    def _clear(
        self, places: Float[np.ndarray, "P 2"], lower: Float[np.ndarray, " 3"], upper: Float[np.ndarray, " 3"]
    ) -> Bool[np.ndarray, " P"]:
        """Whether nothing that was seen is in the way from the eyes at places to the middle of a box."""
        eye = self.mapper.floor + self.camera.height
        eyes = np.concatenate([places, np.full((len(places), 1), eye)], axis=1)
        solid = np.fromiter(self._solid, np.int64, len(self._solid))
        return sees_middle(eyes, lower, upper, solid, self.config.clear)


def sees_middle(
    eyes: Float[np.ndarray, "P 3"],
    lower: Float[np.ndarray, " 3"],
    upper: Float[np.ndarray, " 3"],
    solid: Int[np.ndarray, " S"],
    margin: float = 0.1,
) -> Bool[np.ndarray, " P"]:
    """Whether nothing is in the way from eyes to the middle of a box, up to the box.

    Args:
        eyes: metres.
        lower: corner of the box, metres.
        upper: corner.
        solid: voxels in which there is something, see `voxel_keys`.
        margin: metres around the box that count as the box.
    """
    parts = np.linspace(0, 1, 1 + math.ceil(3.0 / (0.7 * _SOLID)))[:, None, None]
    points = eyes + parts * ((lower + upper) / 2 - eyes)
    within = ((points >= lower - margin) & (points <= upper + margin)).all(-1)
    taken = np.isin(voxel_keys(points), solid)
    return ~(taken & ~within).any(0)


def voxel_keys(points: Float[np.ndarray, "*P 3"]) -> Int[np.ndarray, "*P"]:
    """Numbers of the voxels of 0.1 m that points lie in."""
    return np.floor(points / _SOLID).astype(np.int64) @ np.array([1 << 40, 1 << 20, 1])
