"""What an agent sees on a floor of the world: one view at a time, fast.

A level camera sees upright things in columns: where a ray meets the sides of a box depends on its column only, where it
meets top and bottom on its row only. So all of a floor is met in tables of columns and rows, and a pixel costs one
`max`, one `min` and two comparisons for each thing before it. Views that look up or down come from
`genworld.world.rooms.render`, which is also the slow twin. Pictures are not antialiased, which would double the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from genworld.world.navigation.camera import NEAR, CameraConfig, world_from_camera
from genworld.world.navigation.motion import Stance
from genworld.world.navigation.round import Piece, Rays, RoundThings, Window
from genworld.world.primitives import KINDS, Vec
from genworld.world.rooms.light import shade
from genworld.world.rooms.plan import CEILING
from genworld.world.rooms.render import render, trace
from genworld.world.rooms.stage import RoomStage

_TINY = 1e-9
_BOX, _DISC = 0, 1  # how a primitive bounds its columns


@dataclass(frozen=True, eq=False)
class _Solids:
    """Primitives as a level camera needs them; of those that are neither, the upright cylinder or box around them.

    Attributes:
        outline: `_BOX` or `_DISC`.
        plain: whether the outline is the primitive itself.
        centre: metres.
        axes: two level directions.
        half: extent along them; of a disc its radius, twice.
        rise: half the height.
        full: from floor to ceiling.
    """

    outline: Int[np.ndarray, " N"]
    plain: Bool[np.ndarray, " N"]
    centre: Float[np.ndarray, "N 3"]
    axes: Float[np.ndarray, "N 2 2"]
    half: Float[np.ndarray, "N 2"]
    rise: Float[np.ndarray, " N"]
    full: Bool[np.ndarray, " N"]

    def pick(self, rows: np.ndarray) -> _Solids:
        return _Solids(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


class _Table(NamedTuple):
    """Where rays enter and leave solids: depths by column and by row, and which way the side faces that they meet."""

    near: Float[np.ndarray, "N W"]
    far: Float[np.ndarray, "N W"]
    normal: Float[np.ndarray, "2 N W"]
    top: Float[np.ndarray, "N H"]
    bottom: Float[np.ndarray, "N H"]


class _Surfaces(NamedTuple):
    """What each pixel shows: depth, row of `RoomStage.albedo`, and normals in world axes."""

    depth: Float[np.ndarray, "H W"]
    part: Int[np.ndarray, "H W"]
    normal: Float[np.ndarray, "3 H W"]


class FloorViews:
    """Implements `Viewer` for floors of the world.

    Attributes:
        stage: the floor.
        camera: what it is seen with.
        smooth: antialiased pictures, from the renderer of rooms: half as fast.
    """

    def __init__(self, stage: RoomStage, camera: CameraConfig | None = None, smooth: bool = False) -> None:
        self.stage, self.camera, self.smooth = stage, camera or CameraConfig(), smooth
        self._solids = _solids(stage)
        self._round = RoundThings(stage)
        self._u, self._v = self.camera.rays()
        self._pinhole = torch.from_numpy(self.camera.intrinsics).float()

    def __call__(self, stance: Stance) -> tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
        """See `Viewer`."""
        pose = world_from_camera(stance, self.camera.height)
        if self.smooth:
            pixels, depth = render(self.stage, torch.from_numpy(pose).float()[None], self._pinhole, self.camera.size)
            return _to_bytes((pixels[0].numpy() + 1) / 2), self.camera.clamped(depth[0].numpy())
        surfaces = self._level(stance) if stance.pitch == 0 else self._tilted(pose)
        return self._shaded(pose, surfaces), self.camera.clamped(surfaces.depth)

    def _tilted(self, pose: np.ndarray) -> _Surfaces:
        seen = trace(self.stage, torch.from_numpy(pose).float()[None], self._pinhole, self.camera.size)
        return _Surfaces(seen.depth[0].numpy(), seen.parts[0].numpy(), np.moveaxis(seen.normals[0].numpy(), -1, 0))

    def _level(self, stance: Stance) -> _Surfaces:
        eye = np.array([stance.x, stance.y, self.camera.height])
        ahead = np.array([np.cos(stance.heading), np.sin(stance.heading)])
        direction = ahead[:, None] + np.stack([ahead[1], -ahead[0]])[:, None] * self._u  # level part, [2 W]
        rays = Rays(eye, direction, -self._v)
        rows = np.nonzero(_before(self._solids, eye[:2], ahead, self._u[-1]))[0]
        solids = self._solids.pick(rows)
        table = _table(solids, rays)
        depth, part = self._building(solids, table, eye[2])
        pieces = self._things(solids, rows, table, rays, depth, part)
        normal = self._normals(table, part)
        self._round.turn(normal, pieces, rays, depth)
        return _Surfaces(depth, np.append(rows, [len(self.stage), len(self.stage) + 1]).take(part), normal)

    def _building(self, solids: _Solids, table: _Table, height: float) -> tuple[np.ndarray, np.ndarray]:
        """Floor, ceiling and walls; `part` counts the rows of the table, then floor and ceiling."""
        count = len(solids.rise)
        plane = np.where(self._v > 0, height, height - CEILING) / np.where(np.abs(self._v) < _TINY, _TINY, self._v)
        under = np.where(self._v > 0, count, count + 1)
        walls = np.nonzero(solids.full)[0]
        wall = np.full(len(self._u), np.inf)
        which = np.zeros(len(self._u), dtype=np.int64)
        if len(walls):
            near, far = table.near[walls], table.far[walls]
            entry = np.where((near <= far) & (near > 0), near, np.inf)
            which = walls[entry.argmin(0)]
            wall = entry.min(0)
        depth = np.minimum(wall, plane[:, None]).astype(np.float32)
        return depth, np.where(wall < plane[:, None], which, under[:, None])

    def _things(
        self,
        solids: _Solids,
        rows: np.ndarray,
        table: _Table,
        rays: Rays,
        depth: np.ndarray,
        part: np.ndarray,
    ) -> list[Piece]:
        """Everything that does not reach from floor to ceiling, into `depth` and `part`; returns the round ones."""
        windows, row = self._windows(solids, table, rays.eye[2], depth), rows.tolist()
        round_ = [number for number in windows if not solids.plain[number]]
        found = self._round.depths([_piece(table, n, row[n], windows[n], depth) for n in round_], rays)
        for number, window in windows.items():
            there, near = depth[window], found.get(row[number])
            if near is None:
                near, far = _inside(table, number, window)
                hit = near <= far
                hit &= near < there
                hit &= near > 0
            else:
                hit = near < there
            np.copyto(there, near, where=hit)
            np.copyto(part[window], number, where=hit)
        return [Piece(row[n], windows[n], part[windows[n]] == n) for n in round_]

    def _windows(self, solids: _Solids, table: _Table, height: float, depth: np.ndarray) -> dict[int, Window]:
        """What may show each thing that no wall hides, by row of the table."""
        met = (table.near <= table.far) & (table.far > NEAR)
        shown = met & (table.near < depth.max(0))
        kept = np.nonzero(shown.any(1) & ~solids.full)[0]
        shown, near, far = shown[kept], table.near[kept], table.far[kept]
        x0 = shown.argmax(1)
        x1 = shown.shape[1] - shown[:, ::-1].argmax(1)
        first = np.where(shown, near, np.inf).min(1).clip(NEAR)
        last = np.where(shown, far, 0).max(1)
        above, below = solids.centre[kept, 2] + solids.rise[kept], solids.centre[kept, 2] - solids.rise[kept]
        low = (height - above) / np.where(above > height, first, last)
        high = (height - below) / np.where(below < height, first, last)
        size = len(self._v)
        y0 = np.ceil(low * self.camera.focal + size / 2 - 0.5).clip(0, size).astype(int)
        y1 = np.floor(high * self.camera.focal + size / 2 - 0.5).clip(-1, size - 1).astype(int) + 1
        bounds = np.stack([kept, y0, y1, x0, x1], axis=1).tolist()
        return {k: (slice(*b[:2]), slice(*b[2:])) for k, *b in bounds if b[0] < b[1]}

    def _normals(self, table: _Table, part: np.ndarray) -> np.ndarray:
        """Normals of all pixels, as if all things were boxes and upright cylinders."""
        count, (height, width) = len(table.near), part.shape
        first = np.minimum(part, count - 1)
        column, across = first * width, first * height
        column += np.arange(width)
        across += np.arange(height)[:, None]
        flat = part >= count
        flat |= table.top.take(across) > table.near.take(column)
        out = np.empty((3, height, width), dtype=np.float32)
        side = ~flat
        for axis in (0, 1):
            np.multiply(table.normal[axis].take(column), side, out=out[axis])
        np.multiply(flat, np.sign(self._v).astype(np.float32)[:, None], out=out[2])
        return out

    def _shaded(self, pose: np.ndarray, surfaces: _Surfaces) -> UInt8[np.ndarray, "H W 3"]:
        direction = self._directions(pose[:3, :3])
        point = pose[:3, 3, None, None].astype(np.float32) + direction * surfaces.depth
        colour = shade(
            self.stage,
            _flat(point),
            _flat(direction),
            torch.from_numpy(surfaces.depth).reshape(-1),
            torch.from_numpy(surfaces.part).reshape(-1),
            _flat(surfaces.normal),
        )
        return _to_bytes(colour.clamp_(0, 1).sqrt_().view(3, *self.camera.size).numpy())

    def _directions(self, turn: np.ndarray) -> Float[np.ndarray, "3 H W"]:
        """Of all rays in world axes, with depth 1."""
        across, down = turn[:, 0, None, None] * self._u, turn[:, 1, None, None] * self._v[:, None]
        direction = np.empty((3, *self.camera.size), dtype=np.float32)
        if turn[2, 2] == 0:  # level: the same in each column, rising in each row
            direction[:2], direction[2] = across[:2] + turn[:2, 2, None, None], down[2]
        else:
            direction[:] = across + down + turn[:, 2, None, None]
        return direction


def _inside(table: _Table, number: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Depths at which the rays of a window enter and leave a solid's bounds; it is missed if reversed."""
    y, x = window
    near = np.maximum(table.near[number, x], table.top[number, y, None])
    return near, np.minimum(table.far[number, x], table.bottom[number, y, None])


def _piece(table: _Table, number: int, row: int, window: Window, depth: np.ndarray) -> Piece:
    """Where a thing may be met, nearer than `depth`."""
    near, far = _inside(table, number, window)
    return Piece(row, window, (near <= far) & (near < depth[window]) & (far > 0))


def _flat(x: Float[np.ndarray, "3 H W"]) -> Vec:
    return Vec(*torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).flatten(1))


def _to_bytes(x: Float[np.ndarray, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.stack(list((x * 255 + 0.5).astype(np.uint8)), axis=-1)


def _solids(stage: RoomStage) -> _Solids:
    rows = [
        _solid(KINDS[kind], *numbers)
        for kind, *numbers in zip(
            stage.kind.tolist(),
            *(value.double().numpy() for value in (stage.dims, stage.centre, stage.rotation)),
            strict=True,
        )
    ]
    outline, plain, centre, axes, half, rise = (np.array(column) for column in zip(*rows, strict=True))
    full = (centre[:, 2] - rise < 1e-6) & (centre[:, 2] + rise > CEILING - 1e-6) & plain
    full[stage.num_walls :] = False
    return _Solids(outline, plain, centre, axes, half, rise, full)


def _solid(kind: str, dims: np.ndarray, centre: np.ndarray, turn: np.ndarray) -> tuple:
    a, b, c = dims
    level = np.eye(2)
    upright = abs(turn[2, 2]) > 1 - 1e-6
    if kind == "cube":
        first, second, up = np.argsort(np.abs(turn[2]), kind="stable")
        assert abs(turn[2, up]) > 1 - 1e-6, "boxes stand upright"
        return _BOX, True, centre, turn[:2, [first, second]].T, dims[[first, second]], dims[up]
    if kind == "sphere":
        return _DISC, False, centre, level, (a, a), a
    if upright:
        radius, rise = (a + b, b) if kind == "torus" else (a, c)
        return _DISC, kind == "cylinder", centre, level, (radius, radius), rise
    # Lying: the box around it, along its axis and across.
    along, across = (b, a + b) if kind == "torus" else (c, a)
    axis = turn[:2, 2] / np.linalg.norm(turn[:2, 2])
    return _BOX, False, centre, np.array([axis, (-axis[1], axis[0])]), (along, across), across


def _before(solids: _Solids, eye: np.ndarray, ahead: np.ndarray, edge: float) -> np.ndarray:
    """Whether solids may lie in the camera's field of view, by the circles around them."""
    offset = solids.centre[:, :2] - eye
    radius = np.hypot(solids.half[:, 0], solids.half[:, 1])
    depth = offset @ ahead
    aside = np.abs(offset @ np.array([ahead[1], -ahead[0]]))
    return (depth > -radius) & (aside - edge * depth < radius * np.hypot(1, edge))


def _table(solids: _Solids, rays: Rays) -> _Table:
    """Depths at which rays enter and leave solids."""
    offset, direction = rays.eye - solids.centre, rays.level
    near, far = (np.empty((len(offset), direction.shape[1])) for _ in range(2))
    normal = np.empty((2, len(offset), direction.shape[1]), dtype=np.float32)
    for outline, meet in ((_BOX, _meet_boxes), (_DISC, _meet_discs)):
        rows = np.nonzero(solids.outline == outline)[0]
        if len(rows):
            near[rows], far[rows], normal[:, rows] = meet(solids.pick(rows), offset[rows, :2], direction)
    top, bottom = _slab(offset[:, 2, None], rays.rise, solids.rise[:, None])
    return _Table(*(each.astype(np.float32) for each in (near, far, normal, top, bottom)))


def _slab(origin: np.ndarray, direction: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inverse = 1 / np.where(np.abs(direction) < _TINY, _TINY, direction)
    middle, width = -origin * inverse, half * np.abs(inverse)
    return middle - width, middle + width


def _meet_boxes(solids: _Solids, offset: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, ...]:
    own = np.einsum("nij,nj->ni", solids.axes, offset)
    along = np.einsum("nij,jw->inw", solids.axes, direction)
    (near, far), (near2, far2) = (_slab(own[:, i, None], along[i], solids.half[:, i, None]) for i in (0, 1))
    first = near > near2
    axis = np.where(first, *(-solids.axes[:, i].T[:, :, None].astype(np.float32) for i in (0, 1)))
    axis *= np.sign(np.where(first, *along))
    return np.maximum(near, near2), np.minimum(far, far2), axis


def _meet_discs(solids: _Solids, offset: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, ...]:
    radius = solids.half[:, :1]
    a = (direction**2).sum(0)
    b = offset @ direction
    square = b * b - a * ((offset**2).sum(1)[:, None] - radius**2)
    root = np.sqrt(square.clip(0))
    near, far = np.where(square >= 0, -b - root, np.inf) / a, np.where(square >= 0, -b + root, -np.inf) / a
    at = offset.T[:, :, None] + np.where(square >= 0, near, 0) * direction[:, None]
    return near, far, at / radius
