"""Examples that are no clips: so many to a step, in an order that is a function of the seed alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Generic, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from typing_extensions import TypeVar

from genworld.ops.random import generator
from genworld.types import Example, ExampleT, Pack

logger = logging.getLogger(__name__)

SourceT_co = TypeVar("SourceT_co", bound=Example, covariant=True)
ReadT = TypeVar("ReadT")


class ExampleSource(Protocol[SourceT_co]):
    """A data set of examples."""

    def __len__(self) -> int:
        """How many there are to visit: scenes, pictures and the like."""
        ...

    def read(self, index: int, position: int) -> SourceT_co:
        """The example of one visit to number `index`; all chance in it is a function of (seed, `position`)."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExamplesSettings:
    """How examples come to a task.

    Attributes:
        batch: examples in an optimiser step, over all processes.
        pack: most examples in one forward pass; None puts all that a process has of a step into one.
        in_a_row: so many examples in a row, which are about the same scene or whatever the source holds: what they
            share is worked out once where they are in one pack.
        validation: held-out examples that are validated and previewed on; 0 for none.
        num_workers: processes that make examples; 0 makes them in the training process.
        prefetch: packs that every worker makes ahead.
    """

    batch: int = 32
    pack: int | None = None
    in_a_row: int = 1
    validation: int = 0
    num_workers: int = 0
    prefetch: int = 2

    def __post_init__(self) -> None:
        if self.batch < 1 or self.in_a_row < 1 or (self.pack is not None and self.pack < 1):
            raise ValueError(
                f"batch, pack and in_a_row must be at least 1, got {self.batch}, {self.pack} and {self.in_a_row}"
            )
        if self.validation < 0 or self.num_workers < 0 or self.prefetch < 1:
            raise ValueError("validation and num_workers must be at least 0 and prefetch at least 1")

    def packs_per_rank(self, world_size: int) -> int:
        """Packs of each process in a step: the gradient accumulation.

        Raises:
            ValueError: there are more processes than examples in a step.
        """
        if world_size > self.batch:
            raise ValueError(
                f"data.batch is {self.batch}, which {world_size} processes cannot share: make it {world_size} or more"
            )
        each = -(-self.batch // world_size)
        return 1 if self.pack is None else -(-each // self.pack)


@dataclass(frozen=True)
class ExampleOrder:
    """Which example stands at each position: every number once per epoch, each epoch in an order of its own.

    Attributes:
        num: how many examples there are to visit.
        seed: the order is a function of it.
        in_a_row: positions in a row with the same one.
    """

    num: int
    seed: int
    in_a_row: int = 1

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position // self.in_a_row, self.num)
        return int(_permutation(self.num, self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _permutation(num: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num, generator=generator(seed, "order", epoch))


@dataclass(frozen=True)
class ExampleLoader(Generic[ExampleT]):
    """The packs of one rank, step by step and without end.

    Which examples are in a step depends on the seed alone, not on the number of ranks or workers, nor on where the walk
    began. Ranks take neighbouring parts of a step, as equal as they can be.

    Attributes:
        source: where examples are made.
        settings: how many.
        seed: of the order.
        rank: of this process.
        world_size: number of processes.
    """

    source: ExampleSource[ExampleT]
    settings: ExamplesSettings
    seed: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if not len(self.source):
            raise ValueError("there is not one example to train on")
        self.settings.packs_per_rank(self.world_size)
        assert 0 <= self.rank < self.world_size

    @classmethod
    def for_rank(
        cls, source: ExampleSource[ExampleT], settings: ExamplesSettings, seed: int, rank: int, world_size: int
    ) -> ExampleLoader[ExampleT]:
        """The loader that a config asks for."""
        return cls(source, settings, seed, rank, world_size)

    @property
    def packs_per_rank(self) -> int:
        """Packs of this rank in a step."""
        return self.settings.packs_per_rank(self.world_size)

    @property
    def order(self) -> ExampleOrder:
        """Which example stands where."""
        return ExampleOrder(len(self.source), self.seed, self.settings.in_a_row)

    def steps(self, start: int = 0) -> Iterator[list[Pack[ExampleT]]]:
        """This rank's packs of each optimiser step from `start` on; a run is resumed at the number of steps it did."""
        each = self._read(start)
        if torch.get_num_threads() == 1:  # several would wait for the one whose core reading takes
            each = _ahead(each)
        pin = torch.cuda.is_available()
        for packs in each:
            yield [pack.map(Tensor.pin_memory) for pack in packs] if pin else packs

    def _read(self, start: int) -> Iterator[list[Pack[ExampleT]]]:
        workers = self.settings.num_workers
        loader = DataLoader(
            _Reader(self.source, self.order),
            sampler=_Walk(self, start),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=self.settings.prefetch if workers else None,
            worker_init_fn=_share_by_name if workers else None,
        )
        reads = iter(loader)
        try:
            while True:
                yield [next(reads) for _ in range(self.packs_per_rank)]
        finally:
            del reads  # ends the workers now, and not when a traceback is forgotten

    def positions(self, step: int) -> list[range]:
        """The positions of each of this rank's packs in a step."""
        batch, size = self.settings.batch, self.world_size
        first, last = (step * batch + batch * rank // size for rank in (self.rank, self.rank + 1))
        count = self.packs_per_rank
        cuts = [first + (last - first) * i // count for i in range(count + 1)]
        return [range(begin, end) for begin, end in pairwise(cuts)]


def _ahead(each: Iterator[ReadT]) -> Iterator[ReadT]:
    """The same, each made by a thread while the one before is used."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, each)
        while True:
            now, coming = coming.result(), thread.submit(next, each)
            yield now


def _share_by_name(_worker: int) -> None:
    """Every tensor that comes by a descriptor keeps a file open, and a pack of turns has thousands of small ones."""
    torch.multiprocessing.set_sharing_strategy("file_system")


@dataclass(frozen=True)
class _Walk(Generic[ExampleT]):
    """The positions of a rank's packs, in order, from a step on."""

    loader: ExampleLoader[ExampleT]
    start: int

    def __iter__(self) -> Iterator[range]:
        step = self.start
        while True:
            yield from self.loader.positions(step)
            step += 1


@dataclass(frozen=True)
class _Reader(Dataset, Generic[ExampleT]):
    """Makes packs of positions; lives in the loader's workers and keeps no state."""

    source: ExampleSource[ExampleT]
    order: ExampleOrder

    def __getitem__(self, positions: range) -> Pack[ExampleT]:
        return Pack(tuple(self.source.read(self.order[position], position) for position in positions))


def validation_packs(
    source: ExampleSource[ExampleT], settings: ExamplesSettings, seed: int = 0
) -> list[Pack[ExampleT]]:
    """Packs of `settings.validation` held-out examples, made once and the same every time."""
    order = ExampleOrder(len(source), seed, settings.in_a_row)
    examples = [source.read(order[position], position) for position in range(settings.validation)]
    size = min(settings.pack or settings.batch, settings.batch)
    return [Pack(tuple(examples[i : i + size])) for i in range(0, len(examples), size)]


def read_share(read: Callable[[int], object], count: int, rank: int, world_size: int, told: str) -> None:
    """Read this rank's share of `count` numbers once, so that training does not wait for what is kept of them."""
    mine = range(rank, count, world_size)
    for done, index in enumerate(mine, 1):
        read(index)
        if done % 100 == 0 or done == len(mine):
            logger.info("%s: %d of %d", told, done, len(mine))
