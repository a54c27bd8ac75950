"""Floors as files: drawing one means looking at it from many places, reading one does not."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from genworld.config import decode, encode
from genworld.world.rooms.boxes import Box
from genworld.world.rooms.floor import Floor, FloorConfig, sample_floor
from genworld.world.rooms.furniture import Thing
from genworld.world.rooms.plan import Door, FloorPlan, Rectangle, Slab
from genworld.world.rooms.walk import Ground

_FORMAT = "genworld floor 1"


@dataclass(frozen=True)
class FloorStore:
    """A folder of floors, each drawn when it is first asked for.

    Attributes:
        folder: where they are kept.
        config: what they are like; part of the names of the files.
    """

    folder: Path
    config: FloorConfig = field(default_factory=FloorConfig)

    def __call__(self, seed: int) -> Floor:
        """The floor of a seed: `sample_floor(seed, config)`."""
        path = self.folder / f"floor-{self.config.min_rooms}-{self.config.max_rooms}-{seed}.safetensors"
        if path.is_file():
            return load_floor(path)
        floor = sample_floor(seed, self.config)
        save_floor(path, floor)
        return floor


def save_floor(path: Path, floor: Floor) -> None:
    """Write a floor, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "seed": floor.seed,
        "outline": floor.plan.outline,
        "rooms": floor.plan.rooms,
        "doors": encode(floor.plan.doors),
        "room_names": floor.room_names,
        "things": encode(floor.things),
    }
    arrays = {
        "walls": np.array([[slab.box.lower, slab.box.upper] for slab in floor.plan.walls]),
        "frames": np.array([slab.frame for slab in floor.plan.walls]),
        "free": floor.ground.free,
        "poses": floor.poses,
        "view_rooms": np.array(floor.view_rooms),
        "pixels": floor.pixels,
    }
    draft = path.with_suffix(f".{os.getpid()}.part")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, draft, {"format": _FORMAT, "facts": json.dumps(facts)})
    draft.replace(path)


def load_floor(path: Path) -> Floor:
    """Read what `save_floor` wrote.

    Raises:
        ValueError: it is no such file.
    """
    with safe_open(path, "np") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path}: expected {_FORMAT!r}, got {metadata.get('format')!r}: delete it")
        arrays: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    facts = json.loads(metadata["facts"])
    walls = zip(arrays["walls"], arrays["frames"].tolist(), strict=True)
    plan = FloorPlan(
        outline=Rectangle(*facts["outline"]),
        rooms=tuple(Rectangle(*room) for room in facts["rooms"]),
        doors=decode(tuple[Door, ...], facts["doors"]),
        walls=tuple(Slab(Box(low, high), frame) for (low, high), frame in walls),
    )
    return Floor(
        seed=facts["seed"],
        plan=plan,
        room_names=tuple(facts["room_names"]),
        things=decode(tuple[Thing, ...], facts["things"]),
        ground=Ground(arrays["free"]),
        poses=arrays["poses"],
        view_rooms=tuple(arrays["view_rooms"].tolist()),
        pixels=arrays["pixels"],
    )
