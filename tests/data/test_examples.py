"""The order of examples: every one once per epoch, the same for any ranks and workers, entered anywhere."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import pytest
import torch

from genworld.data.examples import ExampleLoader, ExamplesSettings, validation_packs
from genworld.types import Pack

NUM = 10


@dataclass(frozen=True)
class Numbered:
    position: int
    index: int
    shared: torch.Tensor

    def map(self, change):
        return replace(self, shared=change(self.shared))


@dataclass(frozen=True)
class Numbers:
    tensors = torch.arange(NUM).split(1)

    def __len__(self) -> int:
        return NUM

    def read(self, index: int, position: int) -> Numbered:
        return Numbered(position, index, self.tensors[index])


def walk(settings: ExamplesSettings, steps: int, world: int = 1, start: int = 0) -> list[list[tuple[int, int]]]:
    """Positions and indices of each step, over all ranks in turn."""
    loaders = [ExampleLoader.for_rank(Numbers(), settings, 3, rank, world) for rank in range(world)]
    walks = [list(islice(loader.steps(start), steps)) for loader in loaders]
    return [
        [(e.position, e.index) for packs in step for pack in packs for e in pack] for step in zip(*walks, strict=True)
    ]


@dataclass(frozen=True)
class Furnished(Numbered):
    things: tuple[torch.Tensor, ...] = ()


class Rooms(Numbers):
    """Examples with more small tensors than a process may have files open."""

    def read(self, index: int, position: int) -> Numbered:
        return Furnished(position, index, self.tensors[index], tuple(torch.tensor([i]) for i in range(4 * MOST_FILES)))


MOST_FILES = 160


def test_workers_send_more_tensors_than_files_may_be_open() -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, hard))
    try:
        loader = ExampleLoader(Rooms(), ExamplesSettings(batch=2, num_workers=1), 0)
        kept = [pack for packs in islice(loader.steps(), 3) for pack in packs]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(torch.equal(torch.cat(x.things), torch.arange(4 * MOST_FILES)) for pack in kept for x in pack)


def test_every_example_once_per_epoch_and_each_epoch_otherwise() -> None:
    seen = [index for step in walk(ExamplesSettings(batch=4), 5) for _, index in step]
    assert Counter(seen) == dict.fromkeys(range(NUM), 2)
    assert seen[:NUM] != seen[NUM:] != list(range(NUM))


@pytest.mark.parametrize(("world", "pack", "workers"), [(2, None, 0), (3, 2, 0), (1, 3, 2), (7, None, 0)])
def test_ranks_packs_and_workers_change_nothing(world: int, pack: int | None, workers: int) -> None:
    settings = ExamplesSettings(batch=7, in_a_row=3)
    other = replace(settings, pack=pack, num_workers=workers)
    assert walk(settings, 4) == walk(other, 4, world)


def test_a_walk_is_entered_anywhere() -> None:
    settings = ExamplesSettings(batch=4, in_a_row=2)
    assert walk(settings, 6)[3:] == walk(settings, 3, start=3)


def test_each_rank_takes_as_many_packs() -> None:
    settings = ExamplesSettings(batch=7, pack=2)
    for rank in range(3):
        loader = ExampleLoader.for_rank(Numbers(), settings, 0, rank, 3)
        sizes = [len(pack) for pack in next(loader.steps())]
        assert len(sizes) == loader.packs_per_rank == 2
        assert max(sizes) <= 2
        assert sum(sizes) in (2, 3)


def test_examples_in_a_row_share_their_tensors_and_keep_sharing_them() -> None:
    for workers in (0, 1):
        (pack,) = next(ExampleLoader(Numbers(), ExamplesSettings(batch=4, in_a_row=4, num_workers=workers), 0).steps())
        first, *others = pack.map(lambda x: x + 1)
        assert all(other.shared is first.shared for other in others)
        assert len({id(other.shared) for other in pack}) == 1


def test_validation_is_the_same_every_time() -> None:
    settings = ExamplesSettings(batch=4, validation=6)
    packs = validation_packs(Numbers(), settings)
    assert [len(pack) for pack in packs] == [4, 2]
    again: list[Pack[Numbered]] = validation_packs(Numbers(), settings)
    assert [e.index for pack in packs for e in pack] == [e.index for pack in again for e in pack]


def test_settings_that_cannot_be_honoured() -> None:
    with pytest.raises(ValueError, match="4 processes cannot share"):
        ExampleLoader(Numbers(), ExamplesSettings(batch=3), 0, 0, 4)
    with pytest.raises(ValueError, match="must be at least 1"):
        ExamplesSettings(batch=0)
    with pytest.raises(ValueError, match="num_workers"):
        ExamplesSettings(num_workers=-1)


class Noted(Numbers):
    """Remembers where it was read, and cannot read position 8."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def read(self, index: int, position: int) -> Numbered:
        self.threads.append(threading.current_thread())
        if position == 8:
            raise ValueError("number 8 is damaged")
        return super().read(index, position)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_read_ahead_by_one_thread_it_is_the_same_walk_and_fails_where_it_would(threads: int) -> None:
    source, settings = Noted(), ExamplesSettings(batch=4)
    steps = ExampleLoader(source, settings, 3).steps()
    read = [[(x.position, x.index) for pack in next(steps) for x in pack] for _ in range(2)]
    order = ExampleLoader(Numbers(), settings, 3).order
    assert read == [[(position, order[position]) for position in some] for some in (range(4), range(4, 8))]
    with pytest.raises(ValueError, match="8 is damaged"):
        next(steps)
    assert (threading.main_thread() in source.threads) == (threads > 1)
    assert source.threads[0].is_alive() == (threads > 1)
