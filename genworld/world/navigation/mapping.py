"""Occupancy maps of floors of the world, which are known exactly, and of scenes, from their points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from scipy import ndimage

from genworld.ops.geometry import unproject
from genworld.types import Scene
from genworld.world.navigation.occupancy import AgentConfig, OccupancyMap, inflate, make_map
from genworld.world.primitives import KINDS
from genworld.world.rooms.floor import Floor
from genworld.world.rooms.stage import RoomStage

_MARGIN = 2  # cells around what is known
_FEWEST = 2  # points in a cell's band that make it an obstacle: a single one may be noise
_LOW = 0.05  # the share of a cell's points below its floor: outliers
_CLOSING = 3  # cells: gaps in the floor as wide as this are floor too
_PIXELS_PER_VIEW = 20_000


class _Footprint(NamedTuple):
    """Seen from above: a rectangle about `centre` with its long side along `axis`, rounded by `round_`."""

    centre: np.ndarray
    axis: np.ndarray
    half: np.ndarray
    round_: float
    low: float
    high: float


def map_of_floor(floor: Floor, agent: AgentConfig | None = None) -> OccupancyMap:
    """The exact map of a floor of the world: a cell is free if its middle is `radius` away from all that stands."""
    agent = agent or AgentConfig()
    width, depth = floor.plan.outline.size
    shape = tuple(int(np.ceil(size / agent.cell)) + 2 * _MARGIN for size in (width, depth))
    origin = (-_MARGIN * agent.cell, -_MARGIN * agent.cell)
    x, y = (start + (np.arange(count) + 0.5) * agent.cell for start, count in zip(origin, shape, strict=True))
    distance = np.full(shape, np.inf)
    reach = agent.radius + agent.cell
    for print_ in _footprints(floor.stage):
        if print_.high <= agent.step or print_.low >= agent.height:
            continue
        extent = np.abs(np.stack([print_.axis, print_.axis[::-1] * (-1, 1)])).T @ print_.half + print_.round_ + reach
        columns = slice(*np.searchsorted(x, [print_.centre[0] - extent[0], print_.centre[0] + extent[0]]))
        rows = slice(*np.searchsorted(y, [print_.centre[1] - extent[1], print_.centre[1] + extent[1]]))
        away = _distance(print_, x[columns, None], y[None, rows])
        distance[columns, rows] = np.minimum(distance[columns, rows], away)
    inside = ((x > 0) & (x < width))[:, None] & ((y > 0) & (y < depth))[None]
    occupied = distance < agent.cell / 2
    return make_map(origin, agent.cell, 0.0, occupied, inside | occupied, inside & (distance >= agent.radius))


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
    free = ground & ~inflate(occupied, agent.cell, agent.radius)
    return make_map((float(origin[0]), float(origin[1])), agent.cell, floor, occupied, ground | occupied, free)


def scene_points(scene: Scene) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, "P 3"]]:
    """Points of a scene in scene axes and their colours in [0, 1]: its cloud, or else what its views show.

    Raises:
        ValueError: it has neither points nor views with depth.
    """
    cloud = scene.aligned_points()
    if cloud is not None and len(cloud):
        colours = scene.colours if scene.colours is not None else torch.full_like(cloud, 0.5)
        return cloud.numpy().astype(np.float64), colours.numpy()
    points, colours_ = [], []
    for index in range(scene.num_views):
        view = scene.aligned_view(index)
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
        raise ValueError("expected points or views with depth, got neither: the scene is empty")
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


def _footprints(stage: RoomStage) -> list[_Footprint]:
    numbers = (value.double().numpy() for value in (stage.dims, stage.centre, stage.rotation))
    return [
        _footprint(KINDS[kind], dims, centre, turn)
        for kind, dims, centre, turn in zip(stage.kind.tolist(), *numbers, strict=True)
    ]


def _footprint(kind: str, dims: np.ndarray, centre: np.ndarray, turn: np.ndarray) -> _Footprint:
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
    return _Footprint(centre[:2], axis, half, float(round_), float(centre[2] - rise), float(centre[2] + rise))


def _distance(print_: _Footprint, x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, "X Y"]:
    """Metres from places to a footprint, 0 or less inside."""
    dx, dy = x - print_.centre[0], y - print_.centre[1]
    along = np.abs(dx * print_.axis[0] + dy * print_.axis[1]) - print_.half[0]
    across = np.abs(dy * print_.axis[0] - dx * print_.axis[1]) - print_.half[1]
    outside = np.hypot(along.clip(0), across.clip(0))
    return np.where(outside > 0, outside, np.maximum(along, across)) - print_.round_
