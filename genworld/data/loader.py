"""From a data config to packs on their way to the device: sources, splits, workers, and clips that cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import DataLoader

from genworld.data.media import MediaLimits
from genworld.data.packing import PackingConfig, PackOrder, validation_picks
from genworld.data.readers import ReaderKind
from genworld.data.reading import BadClips, CountingSource, PackReader, readable
from genworld.data.shards import ShardSource
from genworld.data.sources import ManifestSource
from genworld.data.synthetic import WorldSource
from genworld.ops.random import seed_of
from genworld.types import ClipInfo, ClipSource, Pack, Pick, Sample, TokenGrid
from genworld.world import WorldConfig

logger = logging.getLogger(__name__)

Split = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What every kind of data has in common.

    Attributes:
        packing: shapes and budgets.
        validation: held-out clips: a number of them, or a fraction below 1. Which files is a hash of their names, so it
            stays the same when clips are added; of the world, the scenes after `num_clips`. 0 holds out none.
        validation_packs: how many packs of held-out clips are kept in memory to validate on.
        num_workers: processes that read clips; 0 reads in the training process.
        prefetch: packs that every worker reads ahead.
        max_bad_fraction: the part of the clips that may turn out to be unreadable before training stops. Up to then,
            each is replaced, where it comes up, by a clip of the same shape, and reported once; among the held-out
            clips and those that are only measured, it is left out. 0 stops at the first.
    """

    packing: PackingConfig
    validation: int | float = 0
    validation_packs: int = 8
    num_workers: int = 0
    prefetch: int = 2
    max_bad_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.validation < 0 or (isinstance(self.validation, float) and self.validation >= 1):
            raise ValueError(f"validation is a number of clips or a fraction below 1, got {self.validation}")
        if self.num_workers < 0 or self.prefetch < 1:
            raise ValueError("num_workers must be at least 0 and prefetch at least 1")
        if not 0 <= self.max_bad_fraction < 1:
            raise ValueError(f"max_bad_fraction must be in [0, 1), got {self.max_bad_fraction}")


@dataclass(frozen=True, kw_only=True)
class WorldData(DataSettings):
    """Clips of the procedural world, made when asked for.

    Attributes:
        num_clips: how many scenes to train on; `validation` scenes come on top.
        offset: seed of the first scene.
        aspect_ratio: width / height at which pixel budgets are spent.
        cache: folder to keep rendered clips in, so that only the first epoch renders. None renders every time.
        device: where clips are rendered; on the training's own GPU ("cuda") that is fast enough while training.
        world: what scenes contain.
    """

    kind: Literal["world"] = "world"
    num_clips: int
    offset: int = 0
    aspect_ratio: float = 1.0
    cache: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    world: WorldConfig = field(default_factory=WorldConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_clips < 1 or self.offset < 0 or self.aspect_ratio <= 0:
            raise ValueError("num_clips and aspect_ratio must be positive, offset at least 0")
        if not self.packing.shapes or any(shape.frames > 1 and shape.fps is None for shape in self.packing.shapes):
            raise ValueError("packing.shapes: the world has no shape of its own: give shapes, each with its fps")
        if self.device == "cuda" and self.num_workers:
            raise ValueError(
                f"the world cannot be rendered on a GPU by {self.num_workers} worker processes, which are forked and "
                "must not touch it: set num_workers: 0, or device: cpu"
            )


@dataclass(frozen=True, kw_only=True)
class ManifestData(DataSettings):
    """Video files with captions.

    Attributes:
        manifest: a CSV, Parquet or JSONL file, or a folder of clips.
        root: folder that the paths in the manifest start from; by default the manifest's own.
        reader: library that decodes.
        limits: on each file and each read.
        verify: check the files against the manifest's sha256 column.
    """

    kind: Literal["manifest"] = "manifest"
    manifest: Path
    root: Path | None = None
    reader: ReaderKind = "pyav"
    limits: MediaLimits = field(default_factory=MediaLimits)
    verify: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardData(DataSettings):
    """Precomputed latents, and text features if they were precomputed too.

    Attributes:
        path: the folder that `tools/precompute.py` wrote. Leave `packing.shapes` empty: shapes are in the shards.
    """

    kind: Literal["shards"] = "shards"
    path: Path

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing.shapes:
            raise ValueError("packing.shapes: precomputed clips have their shapes already: leave it out")


DataConfig = WorldData | ManifestData | ShardData


def build_source(config: DataConfig, split: Split = "train") -> ClipSource:
    """Open the clips of one split.

    Raises:
        ValueError: there is nothing to read, or nothing is held out and the validation split is asked for.
    """
    if split == "validation" and not config.validation:
        raise ValueError("data.validation is 0, so no clips are held out: set it to a number of clips or a fraction")
    if isinstance(config, WorldData):
        return _build_world(config, split)
    source: ClipSource
    if isinstance(config, ManifestData):
        source = ManifestSource(config.manifest, config.root, config.reader, config.limits, config.verify)
    else:
        source = ShardSource(config.path)
    if not config.validation:
        return source
    names = [source.info(i).name for i in range(len(source))]
    held_out = set(choose_validation(names, config.validation))
    return Subset(source, [i for i in range(len(names)) if (i in held_out) == (split == "validation")])


def _build_world(config: WorldData, split: Split) -> ClipSource:
    number = config.validation
    held_out = max(round(number * config.num_clips), 1) if isinstance(number, float) else number
    first, count = (0, config.num_clips) if split == "train" else (config.num_clips, held_out)
    seeds = range(config.offset + first, config.offset + first + count)
    return WorldSource(seeds, config.world, config.packing.shapes, config.aspect_ratio, config.cache, config.device)


def choose_validation(names: Sequence[str], validation: int | float) -> list[int]:
    """Indices of the held-out clips: those whose names have the smallest hashes, all clips of a name together.

    Raises:
        ValueError: nothing would be left on one of the two sides.
    """
    keys = {name: seed_of("validation", name) for name in names}
    if isinstance(validation, float):
        held_out = {name for name, key in keys.items() if key < validation * 2**63}
    else:
        held_out = set(sorted(keys, key=keys.__getitem__)[:validation])
    chosen = [i for i, name in enumerate(names) if name in held_out]
    if not 0 < len(chosen) < len(names):
        raise ValueError(
            f"data.validation {validation} holds out {len(chosen)} of {len(names)} clips: "
            "both splits need at least one; change data.validation"
        )
    return chosen


@dataclass(frozen=True)
class Subset:
    """Some clips of a source, numbered anew."""

    source: ClipSource
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def info(self, index: int) -> ClipInfo:
        """What is known of clip `index`."""
        return self.source.info(self.indices[index])

    def read(self, pick: Pick) -> Sample:
        """Read the picked clip."""
        return self.source.read(replace(pick, index=self.indices[pick.index]))


def clip_infos(source: ClipSource) -> list[ClipInfo]:
    """The infos of all clips, for `PackOrder`. Those of the world have no captions, which it takes long to tell."""
    info = source.facts if isinstance(source, WorldSource) else source.info
    return [info(index) for index in range(len(source))]


@dataclass
class Loader:
    """The packs of one rank, step by step and without end.

    What is in a pack depends on the order alone: not on the number of ranks or workers, nor on where the walk began.

    Attributes:
        source: where clips are read.
        order: which clips, and in which packs.
        rank: of this process.
        world_size: number of processes; divides the order's `packs_per_step`.
        num_workers: reading processes of this rank.
        prefetch: packs that each reads ahead.
        max_bad_fraction: see `DataSettings`. Counted on every rank by itself.
        pin_memory: give tensors in page-locked memory, for copies to a GPU that do not wait.
        bad: clips that could not be read so far.
    """

    source: ClipSource
    order: PackOrder
    rank: int = 0
    world_size: int = 1
    num_workers: int = 0
    prefetch: int = 2
    max_bad_fraction: float = 0.0
    pin_memory: bool = False
    bad: BadClips = field(init=False)

    def __post_init__(self) -> None:
        self.bad = BadClips(self.source, self.max_bad_fraction)
        packs = self.order.config.packs_per_step
        if packs % self.world_size:
            raise ValueError(
                f"data.packing.packs_per_step is {packs}, which {self.world_size} processes cannot share: "
                f"make it a multiple of {self.world_size}"
            )
        assert 0 <= self.rank < self.world_size

    @property
    def packs_per_rank(self) -> int:
        """Packs of this rank in a step: the gradient accumulation."""
        return self.order.config.packs_per_step // self.world_size

    @property
    def counting_source(self) -> CountingSource:
        """The source for whoever reads clips besides the loader: the bad ones are counted together."""
        return CountingSource(self.source, self.bad)

    @classmethod
    def for_rank(
        cls, source: ClipSource, order: PackOrder, settings: DataSettings, rank: int, world_size: int
    ) -> Loader:
        """The loader that a config asks for."""
        return cls(
            source,
            order,
            rank,
            world_size,
            num_workers=settings.num_workers,
            prefetch=settings.prefetch,
            max_bad_fraction=settings.max_bad_fraction,
            pin_memory=torch.cuda.is_available(),
        )

    def steps(self, start: int = 0) -> Iterator[list[Pack]]:
        """This rank's packs of each optimiser step from `start` on; a run is resumed at the number of steps it did.

        Raises:
            ValueError: more clips than allowed cannot be read; names the last one.
        """
        loader = DataLoader(
            PackReader(self.source, self.order, replace=self.max_bad_fraction > 0),
            sampler=_Walk(self, start),
            batch_size=None,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch if self.num_workers else None,
            pin_memory=self.pin_memory,
        )
        reads = iter(loader)
        try:
            while True:
                packs: list[Pack] = []
                while len(packs) < self.packs_per_rank:
                    packs.append(self.bad.accept(next(reads)))
                yield packs
        finally:
            del reads  # ends the workers now, and not when a traceback is forgotten


@dataclass(frozen=True)
class _Walk:
    """The picks of a rank's packs, in order, from a step on."""

    loader: Loader
    start: int

    def __iter__(self) -> Iterator[list[Pick]]:
        loader, number = self.loader, self.start
        while True:
            first = loader.rank * loader.packs_per_rank
            yield from loader.order.step(number)[first : first + loader.packs_per_rank]
            number += 1


def validation_packs(
    source: ClipSource,
    grid: TokenGrid,
    config: PackingConfig,
    num: int,
    seed: int = 0,
    max_bad_fraction: float = 0.0,
) -> list[Pack]:
    """`num` packs of held-out clips, read once and the same every time; see `validation_picks`.

    Up to `max_bad_fraction` of the clips may be unreadable; they are left out, and packs without a clip too.

    Raises:
        ValueError: more are.
    """
    picks = validation_picks(clip_infos(source), grid, config, num, seed)
    counting = CountingSource(source, BadClips(source, max_bad_fraction))
    packs = [Pack(tuple(readable(counting, pack))) for pack in picks]
    return [pack for pack in packs if len(pack)]
