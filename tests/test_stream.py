"""Streams: windows hand their ends on, nothing else is kept, and chunks are what `extend` makes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from tiny_generator import random_clip, tiny_generator
from torch.multiprocessing.reductions import StorageWeakRef

from genworld.ops.geometry import relative_to_first
from genworld.pipelines.camera import parse_camera
from genworld.pipelines.stream import Shot, Windows, stream
from genworld.pipelines.verbs import extend
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.paste import paste
from genworld.tasks.text_to_video import Request
from genworld.types import CameraPath, Clip, ClipShape

FPS = 8.0


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    return tiny_generator()


@pytest.fixture
def requests(generator: VideoGenerator, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the generator is asked for, without the work: frame i of window w is (w + i / 100) / 10."""
    seen: list[Request] = []

    def fake(asked: list[Request], settings: Any, *, progress: bool = False) -> list[Clip]:
        (request,) = asked
        frames, height, width, fps = request.shape
        values = (len(seen) + torch.arange(frames) / 100) / 10
        seen.append(request)
        return [Clip(paste(values[None, :, None, None].expand(3, frames, height, width), request.given), fps)]

    monkeypatch.setattr(generator, "sample", fake)
    return seen


def join(chunks: Iterator[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(chunks), dim=1)


def path(frames: int, words: str = "orbit:+30deg") -> CameraPath:
    return parse_camera(words, ClipShape(frames, 32, 32, FPS))


# ---- windows ----


def test_windows_slide_over_the_end_of_the_one_before(generator: VideoGenerator, requests: list[Request]) -> None:
    chunks = list(stream(generator, [Shot("a red ball", 40)]))
    assert [chunk.shape for chunk in chunks] == [(3, 17, 32, 32), (3, 12, 32, 32), (3, 11, 32, 32)]
    assert [request.shape for request in requests] == [ClipShape(17, 32, 32, FPS)] * 3
    assert requests[0].given == ()
    for before, request in zip([chunks[0], torch.cat(chunks[:2], 1)], requests[1:], strict=True):
        (given,) = request.given
        assert given.first == 0
        assert given.strength == 1
        assert torch.equal(given.pixels, before[:, -5:])


def test_a_clip_is_continued_from_its_end(generator: VideoGenerator, requests: list[Request]) -> None:
    clip = Clip(random_clip(7, size=(48, 32)), 4.0)
    assert join(stream(generator, [Shot("a red ball", 3)], before=clip)).shape == (3, 3, 48, 32)
    assert requests[0].shape == ClipShape(17, 48, 32, 4.0)
    assert torch.equal(requests[0].given[0].pixels, clip.pixels[:, -5:])
    next(stream(generator, [Shot("a red ball", 3)], before=Clip(clip.pixels[:, :4], 4.0)))
    assert torch.equal(requests[1].given[0].pixels, clip.pixels[:, 3:4])  # four frames are not 1 + 4 n


def test_options_reach_every_window(generator: VideoGenerator, requests: list[Request]) -> None:
    options = {"window": 9, "history": 1, "given_level": 0.1, "stagger": 2, "negative": "blur", "seed": 4}
    join(stream(generator, [Shot("a red ball", 20)], size=(16, 48), fps=30.0, **options))  # type: ignore[arg-type]
    assert {request.shape for request in requests} == {ClipShape(9, 16, 48, 30.0)}
    assert {(r.given_level, r.stagger, r.negative) for r in requests} == {(0.1, 2, "blur")}
    assert [request.given[0].num_frames for request in requests[1:]] == [1, 1]
    assert len({request.seed for request in requests}) == 3


@pytest.mark.parametrize(("window", "history"), [(5, 1), (9, 1), (17, 5), (33, 9), (49, 13)])
def test_history_is_about_a_quarter(generator: VideoGenerator, window: int, history: int) -> None:
    assert Windows.of(generator, None, None, window=window).history == history


# ---- shots ----


def test_prompts_change_with_shots_and_cuts_start_afresh(generator: VideoGenerator, requests: list[Request]) -> None:
    shots = [Shot("a red ball", 20), Shot("it stops", 3), Shot("a blue cube", 18, cut=True), Shot("it falls", 1)]
    chunks = list(stream(generator, shots))
    assert [chunk.shape[1] for chunk in chunks] == [17, 3, 3, 17, 1, 1]
    assert [request.prompt for request in requests] == [shots[i].prompt for i in (0, 0, 1, 2, 2, 3)]
    assert [bool(request.given) for request in requests] == [False, True, True, False, True, True]
    assert torch.equal(requests[2].given[0].pixels, torch.cat(chunks[:2], 1)[:, -5:])
    assert torch.equal(requests[5].given[0].pixels, torch.cat(chunks[:5], 1)[:, -5:])


def test_a_short_shot_hands_on_what_it_has(generator: VideoGenerator, requests: list[Request]) -> None:
    chunks = list(stream(generator, [Shot("a red ball", 3), Shot("a blue cube", 2)]))
    assert [chunk.shape[1] for chunk in chunks] == [3, 2]
    assert torch.equal(requests[1].given[0].pixels, chunks[0][:, 2:])


def test_a_camera_goes_on_from_window_to_window(generator: VideoGenerator, requests: list[Request]) -> None:
    camera = path(24)
    join(stream(generator, [Shot("a red ball", 24, camera=camera)]))
    paths = [request.camera for request in requests]
    assert paths[0] is not None
    assert torch.equal(paths[0].world_from_camera, camera.world_from_camera[:17])
    assert paths[1] is not None
    assert len(paths[1]) == 17
    assert torch.equal(paths[1].world_from_camera[:12], camera.world_from_camera[12:24])
    assert torch.equal(paths[1].world_from_camera[12:], camera.world_from_camera[23:].expand(5, 4, 4))  # at rest


def test_the_next_shot_sets_out_where_the_camera_came_to_rest(
    generator: VideoGenerator, requests: list[Request]
) -> None:
    one, two = path(17), path(12, "dolly:0.5m")
    join(
        stream(
            generator, [Shot("a", 17, camera=one), Shot("b", 12, camera=two), Shot("c", 1), Shot("d", 12, camera=two)]
        )
    )
    second, third, fourth = (request.camera for request in requests[1:])
    assert second is not None
    assert torch.equal(second.world_from_camera[:5], one.world_from_camera[-5:])
    moved = relative_to_first(second.world_from_camera[4:])  # from the last frame of the shot before
    torch.testing.assert_close(moved[1:], relative_to_first(two.world_from_camera))
    assert third is None
    assert fourth is not None  # nothing is known of the shot before: its camera stood
    assert torch.equal(fourth.world_from_camera[:6], two.world_from_camera[:1].expand(6, 4, 4))


def test_a_cut_has_a_camera_of_its_own(generator: VideoGenerator, requests: list[Request]) -> None:
    join(stream(generator, [Shot("a", 17, camera=path(17)), Shot("b", 17, cut=True, camera=path(17, "pan:9deg"))]))
    assert requests[1].camera is not None
    assert torch.equal(requests[1].camera.world_from_camera, path(17, "pan:9deg").world_from_camera)


# ---- what comes out ----


def test_chunks_are_what_extend_makes(generator: VideoGenerator) -> None:
    clip = Clip(random_clip(9), FPS)
    chunks = join(stream(generator, [Shot("a red ball", 20)], before=clip, seed=3))
    extended = extend(generator, "a red ball", clip, 20, seed=3).pixels
    assert torch.equal(torch.cat([clip.pixels, chunks], 1), extended)


def test_a_longer_stream_begins_with_the_shorter_one(generator: VideoGenerator) -> None:
    short = join(stream(generator, [Shot("a red ball", 19)], seed=1))
    long = join(stream(generator, [Shot("a red ball", 30)], seed=1))
    other = join(stream(generator, [Shot("a red ball", 19)], seed=2))
    assert torch.equal(long[:, :19], short)
    assert (other - short).abs().mean() > 0.05


def test_what_is_given_steers_what_comes(generator: VideoGenerator) -> None:
    one, two = (next(stream(generator, [Shot("x", 4)], before=Clip(random_clip(5, seed), FPS))) for seed in (0, 1))
    assert (one - two).abs().mean() > 0.01


def test_any_size_is_made_larger_and_cut(generator: VideoGenerator) -> None:
    assert join(stream(generator, [Shot("a red ball", 20)], size=(20, 37))).shape == (3, 20, 20, 37)


def test_nothing_but_the_history_is_kept(
    generator: VideoGenerator, requests: list[Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a window is about to be made, no frame of the earlier ones is alive, nor of their histories."""
    fake = generator.sample
    made: list[StorageWeakRef] = []
    alive, given = [], []

    def spy(asked: list[Request], settings: Any, **options: Any) -> list[Clip]:
        alive.append(sum(not each.expired() for each in made))
        given.append(sum(each.num_frames for each in asked[0].given))
        clips = fake(asked, settings, **options)
        requests.clear()  # the spy's own memory
        made.extend(StorageWeakRef(x.untyped_storage()) for x in (clips[0].pixels, *(g.pixels for g in asked[0].given)))
        return clips

    monkeypatch.setattr(generator, "sample", spy)
    for chunk in stream(generator, [Shot("a red ball", 17 + 12 * 40)]):
        del chunk
    assert given == [0] + [5] * 40
    assert alive == [0] * 41


def test_frames_come_before_all_are_made(generator: VideoGenerator, requests: list[Request]) -> None:
    endless = stream(generator, [Shot("a red ball", 1_000_000_000)])
    assert sum(chunk.shape[1] for chunk in islice(endless, 3)) == 41
    assert len(requests) == 3


# ---- mistakes ----


@pytest.mark.parametrize(
    ("shots", "options", "message"),
    [
        ([], {}, "at least one shot"),
        ([Shot("a", 3), Shot("b", 0)], {}, "shot 2 \\('b'\\) has 0 frames"),
        ([Shot("a", 3, camera=path(4))], {}, "3 frames and a camera path of 4 poses"),
        ([Shot("a", 3)], {"window": 16}, "window must be 1 \\+ 4 n frames, got 16: use 13 or 17"),
        ([Shot("a", 3)], {"history": 4}, "history must be 1 \\+ 4 n frames, got 4: use 1 or 5"),
        ([Shot("a", 3)], {"window": 0}, "window must be 1 \\+ 4 n frames, got 0: use 1 or 5"),
        ([Shot("a", 3)], {"window": 5, "history": 5}, "no room behind a history of 5"),
        ([Shot("a", 3)], {"window": 1}, "use a longer window, such as 5"),
        ([Shot("a", 3)], {"given_level": 1.0}, "given_level must be in \\[0, 1\\)"),
        ([Shot("a", 3)], {"stagger": -1}, "stagger at least 0"),
        ([Shot("a", 3)], {"fps": -8.0}, "positive frame rate"),
        ([Shot("a", 3)], {"size": (0, 8)}, "at least 1 frame, 1x1 pixels"),
        ([Shot("a", 3)], {"before": Clip(random_clip(5), FPS), "fps": 30.0}, "8 frames per second .* at 30"),
        ([Shot("a", 3)], {"before": Clip(random_clip(5), FPS), "size": (64, 64)}, "a clip of 32x32 .* at 64x64"),
    ],
)
def test_mistakes_are_told_at_the_call(generator: VideoGenerator, shots: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(generator, shots, **options)
