"""The world as a data set: any shape, the same scene every time, cached or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from genworld.data import synthetic
from genworld.data.packing import PackingConfig as Packing
from genworld.data.packing import PackOrder, ShapeConfig
from genworld.data.synthetic import WorldSource, from_bytes, to_bytes
from genworld.types import ClipShape, Pick, Sample, TokenGrid
from genworld.world import WorldConfig, sample_clip

WORLD = WorldConfig(max_objects=2, occluders=0.0)
SHAPES = [
    ShapeConfig(pixels=32 * 32, frames=9, fps=7.0),
    ShapeConfig(pixels=32 * 32, frames=5, fps=12.0),
    ShapeConfig(pixels=48 * 48),
]
GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
PICK = Pick(3, 1, ClipShape(5, 16, 32, 8.0), 0.0)


def pixels_of(sample: Sample) -> Tensor:
    assert sample.pixels is not None
    return sample.pixels


def source(cache: Path | None = None) -> WorldSource:
    return WorldSource(range(10, 14), WORLD, SHAPES, cache=cache)


def test_every_shape_can_be_served_and_the_longest_starts_at_zero() -> None:
    infos = [source().info(i) for i in range(4)]
    order = PackOrder(infos, GRID, Packing(shapes=SHAPES, tokens_per_pack=64), 0)
    draws = [order.pick(position) for position in range(200)]
    assert {pick.shape.num_frames for pick in draws} == {1, 5, 9}
    assert {pick.start for pick in draws if pick.shape.num_frames == 9} == {0.0}
    assert len({pick.start for pick in draws if pick.shape.num_frames == 5}) > 10
    longest = 8 / 7
    assert all(pick.start + (pick.shape.num_frames - 1) / pick.shape.fps <= longest + 1e-6 for pick in draws)


def test_infos_have_the_caption_without_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    import genworld.world.clip

    monkeypatch.setattr(genworld.world.clip, "render", None)
    infos = [source().info(i) for i in range(4)]
    assert [info.name for info in infos] == ["world-10", "world-11", "world-12", "world-13"]
    monkeypatch.undo()
    assert [replace(info, text="") for info in infos] == [source().facts(i) for i in range(4)]
    for i, info in enumerate(infos):
        assert info.text == source().read(Pick(0, i, ClipShape(9, 16, 16, 7.0), 0.0)).text != ""


def test_reads_what_the_world_makes_from_the_start_asked_for() -> None:
    for start in (0.0, 0.4):
        sample = source().read(replace(PICK, start=start))
        clip = sample_clip(11, WORLD, PICK.shape, start=start).clip
        assert (pixels_of(sample) - clip.pixels).abs().max() <= 1 / 255 + 1e-6
        assert (sample.text, sample.position, sample.shape) == (clip.text, 3, PICK.shape)
    assert not torch.equal(pixels_of(sample), pixels_of(source().read(PICK)))


def test_a_cached_clip_is_the_same_and_not_rendered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = source().read(PICK)
    first = source(tmp_path).read(PICK)
    monkeypatch.setattr(synthetic, "sample_clip", None)
    second = source(tmp_path).read(replace(PICK, position=8))
    assert torch.equal(pixels_of(fresh), pixels_of(first))
    assert torch.equal(pixels_of(fresh), pixels_of(second))
    assert (second.text, second.position) == (fresh.text, 8)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("start", [0.0, 0.4])
def test_the_camera_is_that_of_the_clip(start: float) -> None:
    config = WorldConfig(max_objects=1, cameras=("orbit",))
    sample = WorldSource(range(10, 14), config, SHAPES).read(replace(PICK, start=start))
    clip = sample_clip(11, config, PICK.shape, start=start)
    assert sample.camera is not None
    assert len(sample.camera) == 5
    torch.testing.assert_close(sample.camera.world_from_camera, clip.world_from_camera)
    torch.testing.assert_close(sample.camera.intrinsics, clip.intrinsics)
    assert not torch.equal(sample.camera.world_from_camera[0], sample.camera.world_from_camera[-1])
    later = sample.camera.at(slice(1, 3))
    assert torch.equal(later.world_from_camera, sample.camera.world_from_camera[1:3])


def test_a_cached_camera_is_the_same_also_in_entries_that_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = source(tmp_path).read(PICK).camera
    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "sample_clip", None)
        patch.setattr(synthetic, "sample_scene", None)
        cached = source(tmp_path).read(PICK).camera
    (entry,) = tmp_path.rglob("*.safetensors")
    with safe_open(entry, framework="pt") as file:
        save_file({"pixels": file.get_tensor("pixels")}, entry, metadata=file.metadata())
    monkeypatch.setattr(synthetic, "sample_clip", None)
    old = source(tmp_path).read(PICK).camera
    assert fresh is not None
    for other in (cached, old):
        assert other is not None
        assert torch.equal(other.world_from_camera, fresh.world_from_camera)
        assert torch.equal(other.intrinsics, fresh.intrinsics)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"torch finds no GPU here: set data\.device=cpu"):
        WorldSource(range(2), WORLD, SHAPES, device="cuda")


@pytest.mark.gpu
def test_clips_rendered_on_a_gpu_come_back_and_look_the_same() -> None:
    one, two = (WorldSource(range(10, 14), WORLD, SHAPES, device=device).read(PICK) for device in ("cpu", "cuda"))
    assert pixels_of(two).device.type == "cpu"
    assert (pixels_of(one) - pixels_of(two)).abs().mean() < 1e-3
    assert one.text == two.text


def test_a_cached_caption_is_the_same_and_not_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = source().info(1).text
    source(tmp_path).read(Pick(0, 1, ClipShape(9, 16, 16, 7.0), 0.0))
    monkeypatch.setattr(synthetic, "sample_clip", None)
    assert source(tmp_path).info(1).text == told


def test_other_starts_shapes_and_worlds_are_not_mixed_up(tmp_path: Path) -> None:
    source(tmp_path).read(PICK)
    later = source(tmp_path).read(replace(PICK, start=0.4))
    assert torch.equal(pixels_of(later), pixels_of(source().read(replace(PICK, start=0.4))))
    wide = replace(PICK, shape=ClipShape(5, 16, 48, 8.0))
    assert pixels_of(source(tmp_path).read(wide)).shape == (3, 5, 16, 48)
    other = WorldSource(range(10, 14), WorldConfig(min_objects=3), SHAPES, cache=tmp_path).read(PICK)
    assert not torch.equal(pixels_of(other), pixels_of(source().read(PICK)))


def test_bytes_round_trip() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(3, 1, 16, 16)
    assert torch.equal(to_bytes(from_bytes(levels)), levels)
