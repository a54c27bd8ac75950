"""Views of the world's rooms in which every pixel knows what it shows: for encoders that learn by region."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import genworld.world
from genworld.data.examples import ExamplesSettings
from genworld.data.synthetic import from_bytes, to_bytes
from genworld.ops.random import uniform
from genworld.world.rooms import Floor, FloorConfig, sample_floor


class Look(NamedTuple):
    """What can be said of a thing by its look. Parts of the building have a kind only."""

    kind: str
    colour: str = ""
    size: str = ""
    material: str = ""

    def phrase(self, told: Sequence[str] = ("size", "material", "colour", "kind")) -> str:
        """In words, such as "large wooden red chair"; without its kind it is a "thing"."""
        words = [getattr(self, part) for part in ("size", "material", "colour") if part in told]
        return " ".join([word for word in words if word] + [self.kind if "kind" in told else "thing"])


BUILDING = (Look("wall"), Look("door"), Look("floor"), Look("ceiling"))
"""What comes before the things of a floor. A door is its frame."""


@dataclass(frozen=True)
class RoomView:
    """A picture and what is where in it.

    Attributes:
        position: place in the global order.
        pixels: colour in [-1, 1].
        labels: index in `looks` of what each pixel's centre shows.
        looks: the building's, then those of the floor's things.
        name: which view it is.
    """

    position: int
    pixels: Float[Tensor, "3 H W"]
    labels: Int[Tensor, "H W"]
    looks: tuple[Look, ...]
    name: str

    def map(self, change: Callable[[Tensor], Tensor]) -> RoomView:
        """A copy with `change` applied to both tensors."""
        return replace(self, pixels=change(self.pixels), labels=change(self.labels))


@dataclass(frozen=True, kw_only=True)
class RoomViewsData(ExamplesSettings):
    """Views of the world's rooms.

    Attributes:
        num_floors: how many floors to train on; as many as `validation` come on top.
        offset: seed of the first floor. Far from the floors that others are trained on, so that to the encoder too
            these are new.
        size: height and width of the views, pixels.
        cache: folder to keep rendered views in. None renders every time, and a floor takes half a second and more.
        floor: what floors are like.
    """

    kind: Literal["room_views"] = "room_views"
    num_floors: int
    offset: int = 500_000
    size: tuple[int, int] = (128, 128)
    cache: Path | None = None
    floor: FloorConfig = field(default_factory=FloorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_floors < 1 or self.offset < 0 or min(self.size) < 1:
            raise ValueError(
                f"num_floors and size must be positive, offset at least 0, got {self.num_floors}, {self.size} and "
                f"{self.offset}"
            )

    def source(self, held_out: bool = False, seed: int = 0) -> RoomViewSource:
        """Floors to train on, or those that are held out."""
        first, count = (self.num_floors, max(self.validation, 1)) if held_out else (0, self.num_floors)
        seeds = range(self.offset + first, self.offset + first + count)
        return RoomViewSource(seeds, self.size, self.floor, self.cache, seed)


class RoomViewSource:
    """Floors by number. Each time one is read it shows another of its views, drawn by the seed and the position.

    Pixels are rounded to 8 bits, so that a cached view equals one rendered anew.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        size: tuple[int, int] = (128, 128),
        config: FloorConfig | None = None,
        cache: Path | None = None,
        seed: int = 0,
    ) -> None:
        """Describe the data set; nothing is rendered yet.

        Args:
            seeds: of the floors.
            size: height and width of the views.
            config: what floors are like.
            cache: folder to keep the views in, a file per floor. Any number of processes may share it.
            seed: of the choice of views.
        """
        self.seeds, self.size, self.config, self.seed = seeds, size, config or FloorConfig(), seed
        self.cache = cache / _digest(self.config, size) if cache else None

    def __len__(self) -> int:
        return len(self.seeds)

    def read(self, index: int, position: int) -> RoomView:
        """One view of a floor, from the cache where it is there."""
        draw = float(uniform((1,), self.seed, "room view", position))
        return self._read(self.seeds[index], lambda count: [int(draw * count)], position)[0]

    def all_views(self, index: int) -> list[RoomView]:
        """Every view of a floor; their positions say which view of it each is."""
        return self._read(self.seeds[index], range, 0)

    def _read(self, floor: int, choose: Callable[[int], Sequence[int]], position: int) -> list[RoomView]:
        path = self.cache / f"{floor}.safetensors" if self.cache else None
        if path is None or not path.exists():
            pixels, labels, looks = draw_views(sample_floor(floor, self.config), self.size)
            if path is not None:
                _write(path, pixels, labels, looks)
            views = choose(len(pixels))
            pixels, labels = pixels[list(views)], labels[list(views)]
        else:
            with safe_open(path, framework="pt") as file:
                views = choose(file.get_slice("labels").get_shape()[0])
                pixels, labels = (
                    torch.stack([file.get_slice(name)[view] for view in views]) for name in ("pixels", "labels")
                )
                looks = tuple(Look(*look) for look in json.loads(file.metadata()["looks"]))
        first = position if len(views) == 1 else 0
        return [
            RoomView(first + i, from_bytes(pixels[i]), labels[i].long(), looks, f"rooms-{floor}/{view}")
            for i, view in enumerate(views)
        ]


def draw_views(
    floor: Floor, size: tuple[int, int]
) -> tuple[UInt8[Tensor, "V 3 H W"], UInt8[Tensor, "V H W"], tuple[Look, ...]]:
    """All views of a floor as bytes, what each pixel shows, and the looks that these labels are indices of."""
    stage = floor.stage
    pixels, _ = floor.render(size=size)
    geometry = floor.trace(size=size)
    labels = geometry.ids + len(BUILDING) - 1
    labels[geometry.parts < stage.num_building] = 1
    labels[geometry.parts < stage.num_walls] = 0
    labels[geometry.parts == len(stage)] = 2
    labels[geometry.parts == len(stage) + 1] = 3
    looks = [Look(thing.kind, thing.colour, thing.size, thing.material) for thing in floor.things]
    return to_bytes(pixels), labels.to(torch.uint8), (*BUILDING, *looks)


def cell_labels(
    labels: Int[Tensor, "H W"], rows: int, columns: int
) -> tuple[Int[Tensor, "rows columns"], Float[Tensor, "rows columns"]]:
    """What most of each cell of an even grid shows, and how much of the cell that is, 0 to 1."""
    height, width = labels.shape
    row = torch.arange(height, device=labels.device) * rows // height
    column = torch.arange(width, device=labels.device) * columns // width
    cell = row[:, None] * columns + column
    kinds = int(labels.max()) + 1
    counts = torch.bincount((cell * kinds + labels).flatten(), minlength=rows * columns * kinds).view(-1, kinds)
    most, label = counts.max(dim=1)
    share = most / counts.sum(dim=1).clamp(min=1)
    return label.view(rows, columns), share.view(rows, columns)


def _digest(config: FloorConfig, size: tuple[int, int]) -> str:
    """Names what views look like: their size, and the code that draws them."""
    digest = hashlib.sha256(repr((config, size)).encode())
    root = Path(genworld.world.__file__).parent
    for path in sorted([*root.glob("*.py"), *(root / "rooms").glob("*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _write(path: Path, pixels: Tensor, labels: Tensor, looks: Sequence[Look]) -> None:
    """Write a cache entry in one rename, so that none is ever seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    tensors = {"pixels": pixels.contiguous(), "labels": labels.contiguous()}
    save_file(tensors, temporary, metadata={"looks": json.dumps(looks)})
    temporary.replace(path)
