"""Occupancy maps of floors of the world, which are known exactly, and of scenes, from their points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from scipy import ndimage

from genworld.ops.geometry import unproject
from genworld.types import Scene, Skipped
from genworld.types.scenes import left_out
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap, inflate, make_map
from genworld.world.primitives import KINDS
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.plan import Rectangle
from genworld.world.rooms.stage import RoomStage

_MARGIN = 2  # cells around what is known
_FEWEST = 2  # points in a cell's band that make it an obstacle: a single one may be noise
_LOW = 0.05  # the share of a cell's points below its floor: outliers
_CLOSING = 3  # cells: gaps in the floor as wide as this are floor too
_PIXELS_PER_VIEW = 20_000


class Footprint(NamedTuple):
    """What something covers, seen from above: a rectangle, or all that is near one.

    Attributes:
        centre: x and y, metres.
        axis: unit direction of its first side.
        half: half of its sides, along `axis` and across; 0 for a disc.
        rounding: metres around the rectangle; the radius of a disc.
        low: height of its underside, metres.
        high: height of its top.
    """

    centre: Float[np.ndarray, " 2"]
    axis: Float[np.ndarray, " 2"]
    half: Float[np.ndarray, " 2"]
    rounding: float
    low: float
    high: float


def block(area: Rectangle, low: float = 0.0, high: float = 2.5) -> Footprint:
    """The footprint of a box along the axes."""
    return Footprint(np.array(area.centre), np.array([1.0, 0.0]), np.array(area.size) / 2, 0.0, low, high)


def map_of_floor(floor: Floor, agent: AgentConfig | None = None) -> OccupancyMap:
    """The exact map of a floor of the world."""
    return map_of_footprints(_footprints(floor.stage), floor.plan.outline, agent)


def map_of_footprints(
    footprints: Sequence[Footprint], outline: Rectangle, agent: AgentConfig | None = None
) -> OccupancyMap:
    """An exact map: a cell is free if its middle is in the outline and `clearance` away from all that is in the way.

    Raises:
        ValueError: there is nowhere to stand.
    """
    agent = agent or AgentConfig()
    cell = agent.cell
    shape = tuple(math.ceil(size / cell - 1e-9) + 2 * _MARGIN for size in outline.size)
    origin = (outline.x0 - _MARGIN * cell, outline.y0 - _MARGIN * cell)
    x, y = (start + (np.arange(count) + 0.5) * cell for start, count in zip(origin, shape, strict=True))
    distance = np.full(shape, np.inf)
    for footprint in footprints:
        if footprint.high <= agent.step or footprint.low >= agent.height:
            continue
        sides = np.abs(np.stack([footprint.axis, footprint.axis[::-1]], axis=1))
        extent = sides @ footprint.half + footprint.rounding + agent.radius + cell
        low, high = footprint.centre - extent, footprint.centre + extent
        columns, rows = slice(*np.searchsorted(x, [low[0], high[0]])), slice(*np.searchsorted(y, [low[1], high[1]]))
        away = _distance(footprint, x[columns, None], y[None, rows])
        distance[columns, rows] = np.minimum(distance[columns, rows], away)
    inside = ((x > outline.x0) & (x < outline.x1))[:, None] & ((y > outline.y0) & (y < outline.y1))[None]
    occupied = distance < cell / 2
    free = inside & (distance >= agent.clearance) & (distance > 0)
    return make_map(origin, cell, 0.0, occupied, inside | occupied, free)


def map_of_scene(scene: Scene, agent: AgentConfig | None = None) -> OccupancyMap:
    """A map in scene axes from the points of a scene, or of its views if it has none.

    Raises:
        ValueError: it has neither points nor depth, or nowhere to stand.
    """
    try:
        return map_of_points(scene_points(scene)[0], agent)
    except ValueError as error:
        raise ValueError(f"{scene.name}: {error}") from None


def map_of_points(points: Float[np.ndarray, "P 3"], agent: AgentConfig | None = None) -> OccupancyMap:
    """A map from points, z up, metres.

    The floor is the height at which most cells have their lowest points. A cell is an obstacle with two points or more
    between the agent's step and its height above the floor; it is known where floor or obstacle was seen; free where
    floor was seen (or gaps of up to three cells) and no obstacle is nearer than the agent's radius.

    Raises:
        ValueError: there are no points, or nowhere to stand.
    """
    agent = agent or AgentConfig()
    if not len(points):
        raise ValueError("expected points to make a map of, got none: the scene is empty")
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    shape = tuple(((high - low) / agent.cell).astype(int) + 1 + 2 * _MARGIN)
    origin = low - _MARGIN * agent.cell
    columns, rows = ((points[:, :2] - origin) / agent.cell).astype(int).T
    flat = columns * shape[1] + rows
    lows = _low_heights(flat, points[:, 2], shape[0] * shape[1])
    floor = _floor_height(lows[np.isfinite(lows)])
    height = points[:, 2] - floor
    band = (height > agent.step) & (height < agent.height)
    occupied = (np.bincount(flat[band], minlength=lows.size) >= _FEWEST).reshape(shape)
    seen = np.bincount(flat[np.abs(height) <= agent.step], minlength=lows.size).reshape(shape) > 0
    ground = ndimage.binary_closing(seen, np.ones((_CLOSING, _CLOSING)))
    free = ground & ~inflate(occupied, agent.cell, agent.clearance)
    return make_map((float(origin[0]), float(origin[1])), agent.cell, floor, occupied, ground | occupied, free)


def scene_points(scene: Scene) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P 3"]]:
    """Points of a scene in scene axes and their colours in [0, 1]: its cloud, or else what its readable views show.

    Raises:
        ValueError: it has neither points nor views with depth.
    """
    cloud = scene.aligned_points()
    if cloud is not None and len(cloud):
        colours = scene.colours if scene.colours is not None else torch.full_like(cloud, 0.5)
        return cloud.numpy().astype(np.float64), colours.numpy()
    points, colours_, lost = [], [], list[Skipped]()
    for _, view in scene.readable(lost):
        view = scene.align(view)
        if view.depth is None:
            continue
        stride = max(1, int((view.depth.numel() / _PIXELS_PER_VIEW) ** 0.5))
        depth = view.depth[::stride, ::stride]
        row, column = (depth > 0).nonzero(as_tuple=True)
        pixels = torch.stack([column, row], dim=-1) * stride + 0.5
        points.append(
            unproject(pixels[None], depth[row, column][None], view.world_from_camera[None], view.intrinsics)[0]
        )
        picture = rearrange(view.pixels[:, ::stride, ::stride], "c h w -> h w c")
        colours_.append((picture[row, column] + 1) / 2)
    if not points:
        reasons = f"; {left_out(lost)}" if lost else ""
        raise ValueError(f"expected points or views with depth, got neither: the scene is empty{reasons}")
    return torch.cat(points).numpy().astype(np.float64), torch.cat(colours_).numpy()


def _low_heights(cells: np.ndarray, heights: np.ndarray, count: int) -> np.ndarray:
    """The height that a twentieth of each cell's points lie below; NaN without points."""
    order = np.lexsort((heights, cells))
    counts = np.bincount(cells, minlength=count)
    first = np.cumsum(counts) - counts
    found = np.full(count, np.nan)
    some = counts > 0
    found[some] = heights[order[first[some] + (_LOW * counts[some]).astype(int)]]
    return found


def _floor_height(lows: np.ndarray) -> float:
    """Most cells end at the floor; where furniture hides much of it, the lowest level that many end at."""
    bins = np.arange(lows.min() - 0.05, lows.max() + 0.1, 0.05)
    counts = np.convolve(np.histogram(lows, bins)[0], np.ones(3), mode="same")
    level = bins[int(np.argmax(counts >= 0.4 * counts.max()))] + 0.025
    return float(np.median(lows[np.abs(lows - level) <= 0.1]))


def _footprints(stage: RoomStage) -> list[Footprint]:
    numbers = (value.double().numpy() for value in (stage.dims, stage.centre, stage.rotation))
    return [
        _footprint(KINDS[kind], dims, centre, turn)
        for kind, dims, centre, turn in zip(stage.kind.tolist(), *numbers, strict=True)
    ]


def _footprint(kind: str, dims: np.ndarray, centre: np.ndarray, turn: np.ndarray) -> Footprint:
    """What a primitive covers, seen from above, and between which heights; its axes are level or upright."""
    a, b, c = dims
    upright = abs(turn[2, 2]) > 0.5
    flat, disc = np.array([1.0, 0.0]), np.zeros(2)
    if kind == "cube":
        first, second = (k for k in range(3) if abs(turn[2, k]) < 0.5)
        rise, axis, half, round_ = float(np.abs(turn[2]) @ dims), turn[:2, first], dims[[first, second]], 0.0
    elif kind == "sphere":
        rise, axis, half, round_ = a, flat, disc, a
    elif kind == "torus":
        rise = b if upright else a + b
        axis, half, round_ = (flat, disc, a + b) if upright else (turn[:2, 2], np.array([b, a + b]), 0.0)
    else:
        rise = c if upright else a
        axis, half, round_ = (flat, disc, a) if upright else (turn[:2, 2], np.array([c, a]), 0.0)
    return Footprint(centre[:2], axis, half, float(round_), float(centre[2] - rise), float(centre[2] + rise))


def _distance(footprint: Footprint, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "X Y"]:
    """Metres from places to a footprint, 0 or less inside."""
    dx, dy = x - footprint.centre[0], y - footprint.centre[1]
    along = np.abs(dx * footprint.axis[0] + dy * footprint.axis[1]) - footprint.half[0]
    across = np.abs(dy * footprint.axis[0] - dx * footprint.axis[1]) - footprint.half[1]
    outside = np.hypot(along.clip(0), across.clip(0))
    return np.where(outside > 0, outside, np.maximum(along, across)) - footprint.rounding
