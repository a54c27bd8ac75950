"""Rays against what is neither a box nor an upright cylinder: lying, tapered and curved things, pixel by pixel.

The pixels of all things of a kind are met in one call: a view shows few, and small ones, and calls are what costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from genworld.world.primitives import Vec, intersect, normals
from genworld.world.rooms.stage import RoomStage

Window = tuple[slice, slice]
"""Rows and columns of a picture."""


class Rays(NamedTuple):
    """Those of a level camera, with depth 1: the eye, their level part by column and their upright part by row."""

    eye: Float[np.ndarray, " 3"]
    level: Float[np.ndarray, "2 W"]
    rise: Float[np.ndarray, " H"]


class Piece(NamedTuple):
    """Pixels of one thing.

    Attributes:
        row: of the stage.
        window: in which they are.
        there: which of the window's pixels.
    """

    row: int
    window: Window
    there: Bool[np.ndarray, "h w"]


class RoundThings:
    """The primitives of a floor in their own axes."""

    def __init__(self, stage: RoomStage) -> None:
        self._kinds, self._dims, self._centres = (each.numpy() for each in (stage.kind, stage.dims, stage.centre))
        self._turns = np.ascontiguousarray(stage.rotation.double().mT.numpy())  # from world axes to own

    def depths(self, pieces: list[Piece], rays: Rays) -> dict[int, Float[np.ndarray, "h w"]]:
        """Where rays enter things: by row of the stage, in the thing's window, infinite where it is missed."""
        out = {piece.row: np.full(piece.there.shape, np.inf, dtype=np.float32) for piece in pieces}
        for kind, some, numbers in self._by_kind(pieces, rays):
            met = intersect(kind, *numbers).numpy()
            for piece, mine in _shares(some):
                out[piece.row][piece.there] = met[mine]
        return out

    def turn(
        self,
        normal: Float[np.ndarray, "3 H W"],
        pieces: list[Piece],
        rays: Rays,
        depth: Float[np.ndarray, "H W"],
    ) -> None:
        """Set `normal`, in world axes, where rays meet pieces at `depth`."""
        for kind, some, (origin, direction, dims) in self._by_kind(pieces, rays):
            far = np.concatenate([depth[piece.window][piece.there] for piece in some])
            own = torch.stack(normals(kind, origin.along(direction, torch.from_numpy(far)), dims)).numpy()
            for piece, mine in _shares(some):
                to_world = self._turns[piece.row].T.astype(np.float32)
                normal[:, *piece.window][:, piece.there] = np.einsum("ij,jp->ip", to_world, own[:, mine])

    def _by_kind(self, pieces: list[Piece], rays: Rays) -> Iterator[tuple[int, list[Piece], tuple[Vec, Vec, Vec]]]:
        """Each kind among pieces that show at all; which they are; and, pixel by pixel, eye, direction and sizes."""
        shown = [piece for piece in pieces if piece.there.any()]
        for kind in sorted({int(self._kinds[piece.row]) for piece in shown}):
            some = [piece for piece in shown if self._kinds[piece.row] == kind]
            numbers = torch.from_numpy(np.concatenate([self._local(piece, rays) for piece in some], axis=1)).unbind()
            yield kind, some, (Vec(*numbers[:3]), Vec(*numbers[3:6]), Vec(*numbers[6:]))

    def _local(self, piece: Piece, rays: Rays) -> Float[np.ndarray, "9 P"]:
        """Of a piece's pixels, in its thing's own axes: eye, direction and the thing's sizes."""
        turn, (rows, columns) = self._turns[piece.row], piece.window
        by_column, by_row = turn[:, :2] @ rays.level[:, columns], turn[:, 2:] * rays.rise[rows]
        y, x = piece.there.nonzero()
        out = np.empty((9, len(y)), dtype=np.float32)
        out[:3] = (turn @ (rays.eye - self._centres[piece.row]))[:, None]
        np.add(by_column.take(x, axis=1), by_row.take(y, axis=1), out=out[3:6], casting="same_kind")
        out[6:] = self._dims[piece.row][:, None]
        return out


def _shares(pieces: list[Piece]) -> Iterator[tuple[Piece, slice]]:
    """Each piece, and where its pixels are among those of all."""
    begin = 0
    for piece in pieces:
        end = begin + int(np.count_nonzero(piece.there))
        yield piece, slice(begin, end)
        begin = end
