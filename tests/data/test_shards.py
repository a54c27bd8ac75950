"""Precomputed clips: what was written is read, in the same order, whoever wrote it and however often it was stopped."""

from __future__ import annotations

import json
import logging
import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from genworld.data.loader import clip_infos
from genworld.data.packing import PackingConfig, PackOrder, ShapeConfig
from genworld.data.reading import BadClips, PackReader
from genworld.data.shards import ShardSource, ShardWriter, precompute_picks, verify_shards
from genworld.ops.random import normal
from genworld.types import CameraPath, ClipInfo, ClipShape, Pick, Sample, TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
ONE_SHAPE = PackingConfig(
    shapes=[ShapeConfig(pixels=64 * 64, frames=5, fps=8.0)], tokens_per_pack=100, packs_per_step=2, random_start=False
)
SETTINGS = {"vae": {"kind": "causal"}, "seed": 0}


@dataclass
class Fake:
    number: int = 11

    def __len__(self) -> int:
        return self.number

    def info(self, index: int) -> ClipInfo:
        width = [100, 150, 200][index % 3]
        frames = 5 if index == 4 else 40
        return ClipInfo(f"text {index}", frames, 100, width, 16.0, f"{index}.mp4")

    def read(self, pick: Pick) -> Sample:
        raise NotImplementedError


class Broken(Fake):
    def read(self, pick: Pick) -> Sample:
        if pick.index == 5:
            raise ValueError("the file is cut short")
        return encode(pick)


def encode(pick: Pick, with_text: bool = True) -> Sample:
    latents = normal((4, *GRID.latent_shape(pick.shape)), "latents", pick.index, pick.position)
    text = normal((2 + pick.index, 6), "text", pick.index) if with_text else None
    return Sample(pick.position, pick.shape, f"text {pick.index}", latents=latents, text_features=text)


def write(folder: Path, picks: list[Pick], ranks: int = 1, **rest) -> None:
    for rank in range(ranks):
        writer = ShardWriter(folder, Fake(), picks, SETTINGS, items_per_shard=3, rank=rank, world_size=ranks)
        for shard, some in writer.pending():
            writer.write(shard, [encode(pick, **rest) for pick in some], some)


@pytest.fixture
def order() -> PackOrder:
    return PackOrder(clip_infos(Fake()), GRID, ONE_SHAPE, 5)


@pytest.mark.parametrize("ranks", [1, 3])
def test_what_is_written_is_read(tmp_path: Path, order: PackOrder, ranks: int) -> None:
    picks = precompute_picks(order)
    write(tmp_path, picks, ranks)
    source = pickle.loads(pickle.dumps(ShardSource(tmp_path)))
    assert len(source) == len(picks) == 10  # one clip is too short
    for item, pick in enumerate(picks):
        info = source.info(item)
        assert (info.name, info.text) == (f"{pick.index}.mp4", f"text {pick.index}")
        sample = source.read(Pick(99, item, pick.shape, 0.0))
        for name in ("latents", "text_features"):
            assert torch.equal(getattr(sample, name), getattr(encode(pick), name))
        assert (sample.position, sample.shape) == (99, pick.shape)
    assert verify_shards(tmp_path) == []


def test_the_order_is_that_of_the_pixels(tmp_path: Path, order: PackOrder) -> None:
    write(tmp_path, precompute_picks(order))
    source = ShardSource(tmp_path)
    own = PackingConfig(tokens_per_pack=100, packs_per_step=2)
    other = PackOrder(clip_infos(source), GRID, own, 5)
    for number in range(20):
        named = [
            [[(infos[p.index].name, p.position, p.shape, p.start) for p in pack] for pack in step]
            for infos, step in ((order.infos, order.step(number)), (other.infos, other.step(number)))
        ]
        assert named[0] == named[1]


def test_cameras_are_kept(tmp_path: Path, order: PackOrder) -> None:
    def camera(pick: Pick) -> CameraPath:
        return CameraPath(normal((5, 4, 4), "pose", pick.index), normal((3, 3), "intrinsics", pick.index))

    picks = precompute_picks(order)
    writer = ShardWriter(tmp_path, Fake(), picks, SETTINGS)
    for shard, some in writer.pending():
        samples = [replace(encode(pick), camera=camera(pick) if pick.index % 2 else None) for pick in some]
        writer.write(shard, samples, some)
    source = ShardSource(tmp_path)
    for item, pick in enumerate(picks):
        found = source.read(Pick(0, item, pick.shape, 0.0)).camera
        assert (found is not None) == bool(pick.index % 2)
        if found is not None:
            assert torch.equal(found.world_from_camera, camera(pick).world_from_camera)
            assert torch.equal(found.intrinsics, camera(pick).intrinsics)


def test_stand_ins_for_unreadable_clips_are_recorded_and_trained_on(
    tmp_path: Path, order: PackOrder, caplog: pytest.LogCaptureFixture
) -> None:
    """What is written is what training on the clips themselves would have seen."""
    source = Broken()
    reader, bad = PackReader(source, order, replace=True), BadClips(source, 0.2)
    picks = precompute_picks(order)
    writer = ShardWriter(tmp_path, source, picks, SETTINGS, items_per_shard=3)
    for shard, some in writer.pending():
        read = reader[some]
        writer.write(shard, list(bad.accept(read)), read.picks, bad.found)
    assert set(bad.found) == {5}
    with caplog.at_level(logging.WARNING):
        shards = ShardSource(tmp_path)
    assert "1 of 10 items stand in for clips that could not be read" in caplog.text
    assert "the first: 5.mp4, at 5x" in caplog.text
    assert "cut short" in caplog.text
    place = [pick.index for pick in picks].index(5)
    expected = order.replacement(picks[place], 1)
    assert expected is not None
    assert shards.info(place).name == f"{expected.index}.mp4"
    again = PackOrder(clip_infos(shards), GRID, PackingConfig(tokens_per_pack=100, packs_per_step=2), 5)
    for position in range(10):
        pack = reader[[order.pick(position)]].pack
        assert pack is not None
        (one,), other = pack, shards.read(again.pick(position))
        assert (one.position, one.text, one.shape) == (other.position, other.text, other.shape)
        assert one.latents is not None
        assert other.latents is not None
        assert torch.equal(one.latents, other.latents)


def test_odd_shapes_come_back_as_they_were(tmp_path: Path) -> None:
    shapes = [ShapeConfig(pixels=n * n, frames=f, fps=r) for n, f, r in ((40, 1, None), (64, 5, 7.5), (50, 9, 8.0))]
    order = PackOrder(clip_infos(Fake()), GRID, PackingConfig(shapes=shapes, tokens_per_pack=100), 1)
    picks = precompute_picks(order, epochs=3)
    write(tmp_path, picks, with_text=False)
    source = ShardSource(tmp_path)
    again = PackOrder(clip_infos(source), GRID, PackingConfig(tokens_per_pack=100), 0)
    assert again.num_clips == len(picks) == 33
    for position in range(33):
        pick = again.pick(position)
        sample = source.read(pick)
        assert pick.shape == picks[pick.index].shape
        assert sample.latents is not None
        assert tuple(sample.latents.shape[1:]) == GRID.latent_shape(pick.shape)
        assert sample.text_features is None


def test_a_stopped_writer_goes_on(tmp_path: Path, order: PackOrder) -> None:
    picks = precompute_picks(order)
    writer = ShardWriter(tmp_path, Fake(), picks, SETTINGS, items_per_shard=3)
    shard, some = next(iter(writer.pending()))
    writer.write(shard, [encode(pick) for pick in some], some)
    with pytest.raises(ValueError, match="unfinished: 3 of 4 shards are missing, first 00001"):
        ShardSource(tmp_path)
    before = (tmp_path / "00000.safetensors").stat().st_mtime_ns
    again = ShardWriter(tmp_path, Fake(), picks, SETTINGS, items_per_shard=3)
    assert [shard for shard, _ in again.pending()] == [1, 2, 3]
    write(tmp_path, picks)
    assert (tmp_path / "00000.safetensors").stat().st_mtime_ns == before
    assert len(ShardSource(tmp_path)) == 10
    assert not list(tmp_path.glob("*.tmp"))


def test_two_precomputations_are_not_mixed(tmp_path: Path, order: PackOrder) -> None:
    picks = precompute_picks(order)
    write(tmp_path, picks)
    with pytest.raises(ValueError, match="begun with other settings"):
        ShardWriter(tmp_path, Fake(), picks, {**SETTINGS, "seed": 1}, items_per_shard=3)
    with pytest.raises(ValueError, match="begun with other picks_sha256"):
        ShardWriter(tmp_path, Fake(), picks[::-1], SETTINGS, items_per_shard=3)


def test_damage_is_found(tmp_path: Path, order: PackOrder) -> None:
    write(tmp_path, precompute_picks(order))
    path = tmp_path / "00002.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert verify_shards(tmp_path) == [2]


def test_wrong_folders_and_shapes_are_refused(tmp_path: Path, order: PackOrder) -> None:
    with pytest.raises(ValueError, match="must be a folder written by"):
        ShardSource(tmp_path)
    write(tmp_path, precompute_picks(order))
    with pytest.raises(ValueError, match="was precomputed as"):
        ShardSource(tmp_path).read(Pick(0, 0, ClipShape(9, 64, 64, 8.0), 0.0))
    assert json.loads((tmp_path / "shards.json").read_text())["settings"] == SETTINGS
