"""Media from people: images, clips and files, where and when they are kept, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genworld.data.writer import write_video
from genworld.experiment import load_experiment, train
from genworld.ops.random import generator
from genworld.pipelines.keep import Keep, load_media, resolve
from genworld.pipelines.video import VideoGenerator
from genworld.types import Clip, ClipShape

ROOT = Path(__file__).resolve().parents[1]
SHAPE = ClipShape(17, 32, 48, 8.0)


def clip(frames: int = 17, fps: float = 8.0, seed: int = 0, size: tuple[int, int] = (32, 48)) -> Clip:
    return Clip(torch.rand(3, frames, *size, generator=generator(seed)) * 2 - 1, fps)


# ---- media ----


def test_an_image_is_a_clip_of_one_frame_from_wherever_it_comes(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3))
    picture.save(tmp_path / "first.png")
    from_memory, from_file = load_media(picture, 8.0), load_media(tmp_path / "first.png", 8.0)
    assert torch.equal(from_memory.pixels, from_file.pixels)
    assert from_memory.shape == ClipShape(1, 32, 48, 8.0)
    assert torch.equal(load_media(from_memory.pixels[:, 0], 8.0).pixels, from_memory.pixels)


def test_a_file_comes_with_all_its_frames(tmp_path: Path) -> None:
    smooth = torch.linspace(-1, 1, 11)[None, :, None, None].expand(3, 11, 32, 48)
    path = write_video(tmp_path / "clip.mp4", smooth, 8.0)
    loaded = load_media(path, 8.0)
    assert loaded.shape == ClipShape(11, 32, 48, 8.0)
    torch.testing.assert_close(loaded.pixels, smooth, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("media", "message"),
    [
        ("missing.mp4", "missing.mp4: there is no such file"),
        (clip(fps=24.0), "a given clip has 24 frames per second and the video 8: ask for 24"),
        (torch.zeros(17, 3, 32, 48), r"given pixels must be floating point, \[3 F H W\]"),
        (torch.zeros(3, 32, 48, dtype=torch.uint8), "given pixels must be floating point"),
    ],
)
def test_media_that_cannot_be_used(media: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_media(media, 8.0)  # type: ignore[arg-type]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"broken\.mp4"):
        load_media(path, 8.0)


# ---- places ----


@pytest.mark.parametrize(("at", "first"), [("start", 0), ("end", 12), (0.0, 0), (0.5, 4), (1.49, 12)])
def test_media_begin_where_they_are_asked_to(at: float, first: int) -> None:
    (given,) = resolve([Keep(clip(5), at=at)], SHAPE)
    assert (given.first, given.num_frames) == (first, 5)


def test_a_box_is_columns_then_rows() -> None:
    (given,) = resolve([Keep(clip(1), region=(40, 2, 8, 4))], SHAPE)
    assert given.known is not None
    assert given.known.nonzero().amin(0).tolist() == [0, 2, 40]
    assert given.known.nonzero().amax(0).tolist() == [0, 5, 47]


def test_a_standing_mask_holds_for_every_frame() -> None:
    mask = torch.zeros(32, 48)
    mask[3, 4] = 1
    (given,) = resolve([Keep(clip(5), region=mask)], SHAPE)
    assert given.known is not None
    assert given.known.nonzero().tolist() == [[i, 3, 4] for i in range(5)]


def test_what_is_kept_lies_over_what_may_change() -> None:
    given = resolve([Keep(clip(1)), Keep(clip(17, seed=1), strength=0.4)], SHAPE)
    assert [each.strength for each in given] == [0.4, 1.0]


@pytest.mark.parametrize(
    ("keeps", "message"),
    [
        ([Keep(clip(size=(32, 32)))], "given frames of 32x32 .* do not fit a video of 32x48"),
        ([Keep(clip(5), at=2.0)], "given frames 16 to 20 lie outside a video of 17 frames"),
        ([Keep(clip(5), at=-1.0)], "seconds from 0 on, got -1.0"),
        ([Keep(clip(5), at="middle")], "got 'middle'"),
        ([Keep(clip(33), at="end")], "lie outside"),
        ([Keep(clip(5), region=torch.ones(32, 32))], r"a mask of shape \[32, 32\] does not fit media of 5 frames"),
        ([Keep(clip(5), region=(40, 0, 16, 4))], "the box x=40, y=0, width=16, height=4 does not lie in a picture"),
        ([Keep(clip(5), region=(0, 0, 0, 4))], "does not lie"),
        ([Keep(clip(5), at=1.0, strength=0.5)], "only for media that begin with the video"),
        ([Keep(clip(9)), Keep(clip(9, seed=1), at="end")], "contradict each other at frame 8"),
    ],
)
def test_what_cannot_be_honoured_is_refused(keeps: list[Keep], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(keeps, SHAPE)


def test_the_same_pixels_twice_are_no_contradiction_nor_are_other_regions() -> None:
    whole = clip()
    head, tail = whole.pixels[:, :9], whole.pixels[:, 8:]
    assert len(resolve([Keep(head), Keep(tail, at="end")], SHAPE)) == 2
    left, right = Keep(clip(), region=(0, 0, 24, 32)), Keep(clip(seed=1), region=(24, 0, 24, 32))
    assert len(resolve([left, right], SHAPE)) == 2


# ---- the front door ----


@pytest.fixture(scope="module")
def generator_(tmp_path_factory: pytest.TempPathFactory) -> VideoGenerator:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    settings = ["train.threads=1", "train.steps=1", "train.validate_every=0", "data.validation=0", f"run={run}"]
    train(load_experiment(ROOT / "configs" / "smoke" / "text_to_video.yaml", settings))
    return VideoGenerator.from_run(run)


def test_kept_pixels_are_in_the_result(generator_: VideoGenerator) -> None:
    first, last = clip(1, size=(32, 32)), clip(5, seed=1, size=(32, 32))
    keep = [Keep(first), Keep(last, at="end")]
    (video,) = generator_("a red ball", keep=keep, frames=17, size=(32, 32), fps=8, steps=2)
    assert torch.equal(video.pixels[:, :1], first.pixels)
    assert torch.equal(video.pixels[:, 12:], last.pixels)
    assert video.shape == ClipShape(17, 32, 32, 8.0)


def test_any_shape_is_made_and_the_person_is_told(generator_: VideoGenerator, caplog: pytest.LogCaptureFixture) -> None:
    media = clip(7, size=(30, 45))
    with caplog.at_level(logging.WARNING):
        (video,) = generator_("a red ball", keep=[Keep(media)], frames=10, size=(30, 45), fps=8, steps=1)
    assert video.shape == ClipShape(10, 30, 45, 8.0)
    assert torch.equal(video.pixels[:, :7], media.pixels)
    assert "10x30x45@8 is not a shape that the VAE takes: made as 13x32x48@8 and cut" in caplog.text


def test_positions_of_larger_pictures_are_pressed_into_what_was_trained(generator_: VideoGenerator) -> None:
    from genworld.tasks.text_to_video import Request

    side = int(generator_._longest_side())
    small, large = (generator_._fit(Request("", ClipShape(1, n, n, 8.0))) for n in (side, 2 * side))
    assert (small.space_scale, large.space_scale) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"frames": 0}, "at least 1 frame"), ({"fps": 0}, "positive frame rate"), ({"num": 0}, "nothing to sample"),
     ({"camera": "orbit:+30deg"}, "knows no cameras")],
)  # fmt: skip
def test_what_cannot_be_sampled_is_refused(generator_: VideoGenerator, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generator_("a red ball", **settings)
