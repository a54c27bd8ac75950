"""Small floors, lifted to few points, that the tests of scenes share."""

from __future__ import annotations

from pathlib import Path

from genworld.data.scene_turns import RoomsData, RoomTurns
from genworld.models.images import RandomEncoderConfig
from genworld.models.points import DirectLifterConfig
from genworld.models.scene_points import ScenePoints, ScenePointsConfig
from genworld.world.rooms.floor import FloorConfig

SIZE = (32, 32)


def points_config(cache: Path | None = None) -> ScenePointsConfig:
    return ScenePointsConfig(
        encoder=RandomEncoderConfig(patch=8, width=8),
        lifter=DirectLifterConfig(voxel=0.2, stride=2),
        max_points=64,
        cache=cache,
    )


def rooms_data(folder: Path, **settings) -> RoomsData:
    given = {"floors": 2, "held_out": 2, "size": SIZE, "floor": FloorConfig(max_rooms=2), "batch": 4} | settings
    return RoomsData(cache=folder / "floors", **given)


def room_turns(folder: Path, split: str = "train", seed: int = 0, **settings) -> RoomTurns:
    points = ScenePoints(points_config(folder / "points"))
    return RoomTurns(rooms_data(folder, **settings), points, split, seed)  # type: ignore[arg-type]
