"""The same packs for any number of ranks and workers, from any step on; bad clips stop training or are counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path

import pytest
import torch

from genworld.config import ConfigError, decode
from genworld.data.loader import (
    DataConfig,
    Loader,
    ManifestData,
    ShardData,
    Subset,
    WorldData,
    build_source,
    choose_validation,
    clip_infos,
    validation_packs,
)
from genworld.data.packing import PackingConfig, PackOrder, ShapeConfig
from genworld.data.reading import BadClips, CountingSource, UnreadableClipError, readable
from genworld.tasks.base import PickedPixels
from genworld.types import CameraPath, ClipInfo, ClipShape, Pack, Pick, Sample, TokenGrid
from genworld.world import WorldConfig

GRID = TokenGrid(time_stride=4, space_stride=8, patch=1)
PACKING = PackingConfig(
    shapes=[ShapeConfig(pixels=16 * 16, frames=5, fps=8.0), ShapeConfig(pixels=16 * 16), ShapeConfig(pixels=24 * 24)],
    tokens_per_pack=30,
    packs_per_step=4,
    window=40,
)


@dataclass
class Fake:
    """Clips whose pixels say which they are and where they start; some cannot be read."""

    number: int = 17
    broken: frozenset[int] = field(default_factory=frozenset)
    buggy: frozenset[int] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return self.number

    def info(self, index: int) -> ClipInfo:
        return ClipInfo(f"text {index}", 30 + index, 100, 100 + 20 * (index % 3), 16.0, f"clip{index}.mp4")

    def read(self, pick: Pick) -> Sample:
        if pick.index in self.broken:
            raise ValueError("the file is cut short")
        if pick.index in self.buggy:
            raise KeyError("a bug")
        frames, height, width, _ = pick.shape
        pixels = torch.full((3, frames, height, width), pick.index + pick.start / 100)
        return Sample(pick.position, pick.shape, f"text {pick.index}", pixels=pixels)


def loader(source: Fake | None = None, **rest) -> Loader:
    source = source or Fake()
    return Loader(source, PackOrder(clip_infos(source), GRID, PACKING, 3), **rest)


def content(packs: list[Pack]) -> list[list[tuple]]:
    """What a pack holds, comparable."""

    def key(sample: Sample) -> tuple:
        assert sample.pixels is not None
        return sample.position, sample.shape, sample.text, float(sample.pixels.mean()), tuple(sample.pixels.shape)

    return [list(map(key, pack)) for pack in packs]


def steps(number: int, start: int = 0, **rest) -> list[list[list[tuple]]]:
    return [content(packs) for packs in islice(loader(**rest).steps(start), number)]


@pytest.fixture(scope="module")
def expected() -> list[list[list[tuple]]]:
    return steps(24)


def test_packs_are_the_order_read(expected: list) -> None:
    order = loader().order
    for number, step in enumerate(expected):
        picks = order.step(number)
        assert [[entry[0] for entry in pack] for pack in step] == [[pick.position for pick in pack] for pack in picks]
        assert [[entry[1] for entry in pack] for pack in step] == [[pick.shape for pick in pack] for pack in picks]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(expected: list, workers: int) -> None:
    assert steps(12, num_workers=workers) == expected[:12]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_the_same_order(expected: list, ranks: int) -> None:
    parts = [steps(10, rank=rank, world_size=ranks) for rank in range(ranks)]
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == expected[:10]


@pytest.mark.parametrize(("start", "workers"), [(1, 0), (7, 2), (20, 0)])
def test_resuming_continues(expected: list, start: int, workers: int) -> None:
    assert steps(4, start=start, num_workers=workers) == expected[start : start + 4]


def test_iterating_again_starts_again(expected: list) -> None:
    again = loader()
    for _ in range(2):
        assert [content(packs) for packs in islice(again.steps(), 2)] == expected[:2]


def test_ranks_must_divide_a_step() -> None:
    with pytest.raises(ValueError, match="packs_per_step is 4, which 3 processes cannot share"):
        loader(world_size=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_clip_stops_training_by_name(workers: int) -> None:
    with pytest.raises(
        ValueError, match=r"^clip 5 \(clip5.mp4\) cannot be read at .* from .* s: the file is cut short"
    ):
        list(islice(loader(Fake(broken=frozenset({5})), num_workers=workers).steps(), 20))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_is_not_skipped_and_names_the_clip(workers: int) -> None:
    with pytest.raises(KeyError) as caught:
        list(islice(loader(Fake(buggy=frozenset({5})), num_workers=workers, max_bad_fraction=0.5).steps(), 20))
    assert "clip 5 (clip5.mp4)" in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    caught.value.with_traceback(None)  # it holds the workers


def test_broken_clips_are_replaced_counted_and_logged(expected: list, caplog: pytest.LogCaptureFixture) -> None:
    broken = frozenset({5, 6, 11})
    with caplog.at_level(logging.WARNING):
        one = loader(Fake(broken=broken), max_bad_fraction=0.2)
        found = [content(packs) for packs in islice(one.steps(), 24)]
    assert set(one.bad.found) == broken
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 3
    for got, wanted in zip(flat(found), flat(expected), strict=True):
        assert got[:2] == wanted[:2]  # position and shape stay
        assert got[2] == wanted[2] if int(wanted[3] + 1e-4) not in broken else got[2] != wanted[2]
        assert f"text {int(got[3] + 1e-4)}" == got[2]
    two = loader(Fake(broken=broken), max_bad_fraction=0.2, num_workers=2)
    assert [content(packs) for packs in islice(two.steps(6), 3)] == found[6:9]


def test_too_many_broken_clips_stop_training() -> None:
    with pytest.raises(ValueError, match=r"3 of 17 clips could not be read; the last: clip"):
        list(islice(loader(Fake(broken=frozenset({5, 6, 11})), max_bad_fraction=0.12).steps(), 40))
    with pytest.raises(ValueError, match="could not be read"):
        list(islice(loader(Fake(broken=frozenset(range(17))), max_bad_fraction=0.99).steps(), 40))


def test_one_bad_clip_of_few_is_allowed_for() -> None:
    one = loader(Fake(broken=frozenset({5})), max_bad_fraction=0.01)  # of 17 clips: less than one
    list(islice(one.steps(), 24))
    assert set(one.bad.found) == {5}


def test_reading_besides_the_loader_counts_with_it(caplog: pytest.LogCaptureFixture) -> None:
    one = loader(Fake(broken=frozenset({5, 6, 11})), max_bad_fraction=0.12)  # of 17 clips: two
    shape = ClipShape(5, 16, 16, 8.0)
    picks = [Pick(i, i, shape, 0.0) for i in (4, 5, 6, 7)]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [sample.text for sample in readable(one.counting_source, picks)] == ["text 4", "text 7"]
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 2
    with pytest.raises(UnreadableClipError, match=r"clip 5 \(clip5.mp4\) cannot be read"):
        one.counting_source.read(picks[1])
    with pytest.raises(ValueError, match="3 of 17 clips could not be read; the last: clip 11"):
        list(islice(one.steps(), 40))
    assert one.counting_source.info(3) == Fake().info(3)
    assert len(one.counting_source) == 17


def test_tasks_measure_on_the_clips_that_can_be_read() -> None:
    picks = [Pick(i, i, ClipShape(5, 16, 16, 8.0), 0.0) for i in (4, 5, 7)]
    source = Fake(broken=frozenset({5}))
    clips = PickedPixels(CountingSource(source, BadClips(source, 0.1)), picks)
    for _ in range(2):  # every pass
        assert [float(clip.mean()) for clip in clips] == [4.0, 7.0]
    with pytest.raises(ValueError, match=r"^clip 5 .* cannot be read .* data.max_bad_fraction, now 0, allows"):
        list(PickedPixels(CountingSource(source, BadClips(source)), picks))


def flat(found: list) -> Iterator[tuple]:
    return (entry for step in found for pack in step for entry in pack)


# ---- configs and splits ----


def test_held_out_clips_stay_when_clips_are_added() -> None:
    names = [f"{i}.mp4" for i in range(200)]
    few = {names[i] for i in choose_validation(names[:100], 0.1)}
    many = {names[i] for i in choose_validation(names, 0.1)}
    assert few <= many
    assert 8 < len(many) < 35
    assert len(choose_validation(names, 7)) == 7
    with pytest.raises(ValueError, match="both splits need"):
        choose_validation(names, 200)


@pytest.mark.parametrize("validation", [3, 0.25])
def test_world_splits_are_disjoint(validation: int | float) -> None:
    packing = PackingConfig(shapes=[ShapeConfig(size=(16, 16), frames=5, fps=8.0)], tokens_per_pack=64)
    data = WorldData(num_clips=12, offset=5, packing=packing, validation=validation, world=WorldConfig(max_objects=1))
    train, held_out = (clip_infos(build_source(data, split)) for split in ("train", "validation"))
    assert [info.name for info in train] == [f"world-{seed}" for seed in range(5, 17)]
    assert [info.name for info in held_out] == [f"world-{seed}" for seed in range(17, 20)]
    with pytest.raises(ValueError, match="no clips are held out"):
        build_source(replace(data, validation=0), "validation")


def test_a_subset_reads_the_right_clips() -> None:
    subset = Subset(Fake(), [4, 9])
    assert len(subset) == 2
    assert subset.info(1).name == "clip9.mp4"
    pick = PackOrder(clip_infos(subset), GRID, PACKING, 0).pick(0)
    assert subset.read(pick).text == f"text {[4, 9][pick.index]}"


def test_validation_packs_are_fixed() -> None:
    first, again = (validation_packs(Fake(), GRID, PACKING, 3) for _ in range(2))
    assert len(first) == 3
    assert content(first) == content(again)


def test_bad_held_out_clips_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    whole = content(validation_packs(Fake(), GRID, PACKING, 5))
    broken = Fake(broken=frozenset({2, 9}))
    with caplog.at_level(logging.WARNING):
        packs = content(validation_packs(broken, GRID, PACKING, 5, max_bad_fraction=0.2))
    assert list(chain(*packs)) == [entry for entry in chain(*whole) if entry[2] not in ("text 2", "text 9")]
    assert len([r for r in caplog.records if "cannot be read" in r.message]) == 2
    with pytest.raises(ValueError, match="cannot be read"):
        validation_packs(broken, GRID, PACKING, 5)
    with pytest.raises(ValueError, match="2 of 17 clips could not be read"):
        validation_packs(broken, GRID, PACKING, 5, max_bad_fraction=0.1)


def test_rendering_on_a_gpu_needs_this_process() -> None:
    packing = PackingConfig(shapes=[ShapeConfig(size=(16, 16), frames=5, fps=8.0)], tokens_per_pack=64)
    with pytest.raises(ValueError, match="set num_workers: 0, or device: cpu"):
        WorldData(num_clips=3, packing=packing, device="cuda", num_workers=2)
    assert WorldData(num_clips=3, packing=packing, device="cuda").num_workers == 0


def test_a_camera_travels_with_its_sample() -> None:
    camera = CameraPath(torch.eye(4).repeat(5, 1, 1), torch.eye(3))
    sample = replace(Fake().read(Pick(0, 3, ClipShape(5, 16, 16, 8.0), 0.0)), camera=camera)
    (moved,) = Pack((sample,)).to("meta")
    assert moved.camera is not None
    assert moved.camera.world_from_camera.device == moved.camera.intrinsics.device == torch.device("meta")


def test_configs_decode_by_kind() -> None:
    packing = {"tokens_per_pack": 100, "shapes": [{"pixels": 4096, "frames": 5, "fps": 8}]}
    tree = {"kind": "manifest", "manifest": "clips.csv", "packing": packing, "validation": 0.1, "num_workers": 2}
    data = decode(DataConfig, tree)
    assert isinstance(data, ManifestData)
    assert data.manifest == Path("clips.csv")
    assert isinstance(decode(DataConfig, {"kind": "world", "num_clips": 3, "packing": packing}), WorldData)
    assert isinstance(decode(DataConfig, {"kind": "shards", "path": "x", "packing": {"tokens_per_pack": 9}}), ShardData)
    for bad in (
        {"kind": "shards", "path": "x", "packing": packing},
        {**tree, "validation": 1.5},
        {**tree, "num_workers": -1},
    ):
        with pytest.raises(ConfigError):
            decode(DataConfig, bad)
    own = {"tokens_per_pack": 100, "shapes": [{"pixels": 4096, "frames": 5}]}
    with pytest.raises(ConfigError, match="give shapes, each with its fps"):
        decode(DataConfig, {"kind": "world", "num_clips": 3, "packing": own})
