"""Every task, by an untrained model: what is certain whatever the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from jaxtyping import Bool, Float
from tiny_generator import random_clip, tiny_generator
from torch import Tensor

from genworld.pipelines.keep import Keep
from genworld.pipelines.verbs import connect, edit, extend, inpaint, loop, outpaint
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.given import Given
from genworld.tasks.text_to_video import Request
from genworld.types import Clip, ClipShape

FPS = 8.0
A, B = Clip(random_clip(9), FPS), Clip(random_clip(6, seed=1), FPS)
LONG = Clip(random_clip(40, seed=2), FPS)
FIRST, LAST = A.pixels[:, 0], B.pixels[:, -1]
BOX = (5, 8, 20, 11)
DISC = (torch.stack(torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")) - 15).square().sum(0) < 100


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    return tiny_generator()


@dataclass(frozen=True)
class Task:
    """A task, the video it should nearly be, and where it should be that exactly.

    Attributes:
        run: the task.
        copy: the given pixels, and what a copy of them would be elsewhere.
        known: where the given pixels must be.
    """

    run: Callable[[VideoGenerator], Clip]
    copy: Float[Tensor, "3 F H W"]
    known: Bool[Tensor, "F H W"]


def frames_known(num: int, *spans: slice) -> Bool[Tensor, "F H W"]:
    known = torch.zeros(num, 32, 32, dtype=torch.bool)
    for span in spans:
        known[span] = True
    return known


def hold(clip: Tensor, before: int = 0, after: int = 0) -> Tensor:
    """A clip whose first and last frame are repeated."""
    return torch.cat([clip[:, :1].expand(-1, before, -1, -1), clip, clip[:, -1:].expand(-1, after, -1, -1)], 1)


def boxed(frames: int, size: tuple[int, int], x: int, y: int, width: int, height: int) -> Bool[Tensor, "F H W"]:
    known = torch.zeros(frames, *size, dtype=torch.bool)
    known[:, y : y + height, x : x + width] = True
    return known


def connected(num: int) -> Tensor:
    return torch.cat([hold(A.pixels, after=num // 2), hold(B.pixels, before=num - num // 2)], dim=1)


def canvas(clip: Clip, top: int, left: int, size: tuple[int, int]) -> Tensor:
    pixels = torch.zeros(3, clip.shape.num_frames, *size)
    pixels[:, :, top : top + 32, left : left + 32] = clip.pixels
    return pixels


def image(pixels: Tensor) -> Clip:
    return Clip(pixels[:, None], FPS)


TEXT = "a red ball"
NOTHING = slice(0, 0)
TASKS = {
    "text to image": Task(lambda g: g(TEXT, frames=1)[0], hold(FIRST[:, None]), frames_known(1)),
    "text to video": Task(lambda g: g(TEXT)[0], hold(FIRST[:, None], after=16), frames_known(17)),
    "image to video": Task(
        lambda g: g(TEXT, keep=[Keep(FIRST)])[0], hold(FIRST[:, None], after=16), frames_known(17, slice(1))
    ),
    "to a last frame": Task(
        lambda g: g(TEXT, keep=[Keep(LAST, at="end")])[0],
        hold(LAST[:, None], before=16),
        frames_known(17, slice(16, 17)),
    ),
    "first and last frame": Task(
        lambda g: g(TEXT, keep=[Keep(FIRST), Keep(LAST, at="end")])[0],
        torch.cat([hold(FIRST[:, None], after=8), hold(LAST[:, None], before=7)], 1),
        frames_known(17, slice(1), slice(16, 17)),
    ),
    "first and last frame of a long one": Task(
        lambda g: connect(g, TEXT, image(FIRST), image(LAST), 38),
        torch.cat([hold(FIRST[:, None], after=19), hold(LAST[:, None], before=19)], 1),
        frames_known(40, slice(1), slice(39, 40)),
    ),
    "a middle frame": Task(
        lambda g: g(TEXT, keep=[Keep(FIRST, at=0.75)])[0],
        hold(FIRST[:, None], before=6, after=10),
        frames_known(17, slice(6, 7)),
    ),
    "extend": Task(lambda g: extend(g, TEXT, A, 8), hold(A.pixels, after=8), frames_known(17, slice(9))),
    "extend by one": Task(lambda g: extend(g, TEXT, A, 1), hold(A.pixels, after=1), frames_known(10, slice(9))),
    "extend far": Task(lambda g: extend(g, TEXT, A, 31), hold(A.pixels, after=31), frames_known(40, slice(9))),
    "extend an image": Task(
        lambda g: extend(g, TEXT, image(FIRST), 9), hold(FIRST[:, None], after=9), frames_known(10, slice(1))
    ),
    "extend backward": Task(
        lambda g: extend(g, TEXT, A, 8, backward=True), hold(A.pixels, before=8), frames_known(17, slice(8, 17))
    ),
    "extend far backward": Task(
        lambda g: extend(g, TEXT, B, 31, backward=True), hold(B.pixels, before=31), frames_known(37, slice(31, 37))
    ),
    "connect": Task(lambda g: connect(g, TEXT, A, B, 7), connected(7), frames_known(22, slice(0, 9), slice(16, 22))),
    "connect by a few": Task(
        lambda g: connect(g, TEXT, A, B, 2), connected(2), frames_known(17, slice(0, 9), slice(11, 17))
    ),
    "connect over a long gap": Task(
        lambda g: connect(g, TEXT, A, B, 30), connected(30), frames_known(45, slice(0, 9), slice(39, 45))
    ),
    "loop": Task(lambda g: loop(g, TEXT, 17), hold(FIRST[:, None], after=16), frames_known(17)),
    "long loop": Task(lambda g: loop(g, TEXT, 40), hold(FIRST[:, None], after=39), frames_known(40)),
    "shortest loop": Task(lambda g: loop(g, TEXT, 3), hold(FIRST[:, None], after=2), frames_known(3)),
    "edit": Task(lambda g: edit(g, TEXT, A), A.pixels, frames_known(9)),
    "edit a long one": Task(lambda g: edit(g, TEXT, LONG, 0.3), LONG.pixels, frames_known(40)),
    "inpaint a box": Task(lambda g: inpaint(g, TEXT, A, BOX), A.pixels, ~boxed(9, (32, 32), *BOX)),
    "inpaint a mask": Task(lambda g: inpaint(g, TEXT, B, DISC), B.pixels, ~DISC.expand(6, 32, 32)),
    "inpaint a long one": Task(lambda g: inpaint(g, TEXT, LONG, BOX), LONG.pixels, ~boxed(40, (32, 32), *BOX)),
    "inpaint an image": Task(lambda g: inpaint(g, TEXT, image(FIRST), BOX), FIRST[:, None], ~boxed(1, (32, 32), *BOX)),
    "outpaint": Task(
        lambda g: outpaint(g, TEXT, A, (48, 64)), canvas(A, 8, 16, (48, 64)), boxed(9, (48, 64), 16, 8, 32, 32)
    ),
    "outpaint to any size": Task(
        lambda g: outpaint(g, TEXT, A, (37, 50)), canvas(A, 2, 9, (37, 50)), boxed(9, (37, 50), 9, 2, 32, 32)
    ),
    "outpaint a long one": Task(
        lambda g: outpaint(g, TEXT, LONG, (32, 48)), canvas(LONG, 0, 8, (32, 48)), boxed(40, (32, 48), 8, 0, 32, 32)
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_what_is_given_is_kept_and_the_rest_is_made(generator: VideoGenerator, name: str) -> None:
    task = TASKS[name]
    clip = task.run(generator)
    assert clip.fps == FPS
    assert clip.text == TEXT
    assert clip.pixels.shape == task.copy.shape
    assert clip.pixels.isfinite().all()
    assert clip.pixels.abs().max() <= 1
    difference = (clip.pixels - task.copy).abs().amax(0)
    assert difference[task.known].max() <= 1e-3 if task.known.any() else True
    made = difference * ~task.known
    assert made.sum() / (~task.known).sum() > 0.1
    for frame, known in zip(made, task.known, strict=True):
        assert bool(known.all()) or frame.max() > 0.1, "a frame is a copy"


@pytest.mark.parametrize("frames", [3, 4, 17, 40])
def test_a_loop_ends_where_it_begins(generator: VideoGenerator, frames: int) -> None:
    pixels = loop(generator, TEXT, frames, size=(32, 48), fps=4.0, seed=1).pixels
    assert pixels.shape == (3, frames, 32, 48)
    torch.testing.assert_close(pixels[:, -1], pixels[:, 0], atol=1e-3, rtol=0)
    assert (pixels[:, 1] - pixels[:, 0]).abs().max() > 0.1


def test_a_loop_is_closed_by_its_end_and_its_beginning(
    generator: VideoGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Request] = []
    sample = generator.sample

    def spy(requests: list[Request], settings: Any, **options: Any) -> list[Clip]:
        seen.extend(requests)
        return sample(requests, settings, **options)

    monkeypatch.setattr(generator, "sample", spy)
    pixels = loop(generator, TEXT, 17).pixels
    head, tail = seen[-1].given
    assert torch.equal(head.pixels, pixels[:, 4:9])  # 9 frames, 7 to lead back, and the closing one
    assert torch.equal(tail.pixels, pixels[:, :5])
    assert tail.first == 5 + 7


@pytest.mark.parametrize("backward", [False, True])
def test_an_extension_looks_at_its_clip(generator: VideoGenerator, backward: bool) -> None:
    one, two = (extend(generator, TEXT, clip, 4, backward=backward).pixels for clip in (A, B))
    new = slice(0, 4) if backward else slice(-4, None)
    assert (one[:, new] - two[:, new]).abs().mean() > 0.01


def test_connection_looks_at_both_clips(generator: VideoGenerator) -> None:
    between = connect(generator, TEXT, A, B, 7).pixels[:, 9:16]
    for a, b in ((B, B), (A, A)):
        other = connect(generator, TEXT, a, b, 7).pixels[:, a.shape.num_frames :][:, :7]
        assert (between - other).abs().mean() > 0.01


def test_the_weaker_a_clip_the_more_it_is_changed(generator: VideoGenerator) -> None:
    distance = [(edit(generator, TEXT, A, s).pixels - A.pixels).abs().mean().item() for s in (1.0, 0.9, 0.5, 0.0)]
    assert distance[0] == 0
    assert distance == sorted(distance)
    assert len({*distance}) == 4


def test_a_long_edit_hands_its_windows_on(generator: VideoGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Request] = []
    sample = generator.sample

    def spy(requests: list[Request], settings: Any, **options: Any) -> list[Clip]:
        seen.extend(requests)
        return sample(requests, settings, **options)

    monkeypatch.setattr(generator, "sample", spy)
    pixels = edit(generator, TEXT, LONG, 0.5).pixels
    assert [request.shape.num_frames for request in seen] == [17, 17, 16]
    spans = [(0, 17), (12, 29), (24, 40)]
    for (start, end), request in zip(spans, seen, strict=True):
        asked, *past = request.given
        assert asked.strength == 0.5
        assert torch.equal(asked.pixels, LONG.pixels[:, start:end])
        assert all(torch.equal(each.pixels, pixels[:, start : start + 5]) for each in past)
        assert len(past) == (start > 0)


@pytest.mark.parametrize("verb", ["extend", "connect", "loop", "edit", "inpaint", "outpaint"])
def test_seeds_and_prompts_matter(generator: VideoGenerator, verb: str) -> None:
    runs: dict[str, Callable[..., Clip]] = {
        "extend": lambda text, seed: extend(generator, text, A, 8, seed=seed),
        "connect": lambda text, seed: connect(generator, text, A, B, 7, seed=seed),
        "loop": lambda text, seed: loop(generator, text, 9, seed=seed),
        "edit": lambda text, seed: edit(generator, text, A, seed=seed),
        "inpaint": lambda text, seed: inpaint(generator, text, A, BOX, seed=seed),
        "outpaint": lambda text, seed: outpaint(generator, text, A, (48, 32), seed=seed),
    }
    first = runs[verb](TEXT, 0).pixels
    assert torch.equal(runs[verb](TEXT, 0).pixels, first)
    assert (runs[verb](TEXT, 1).pixels - first).abs().max() > 1e-2
    assert (runs[verb]("a blue cube", 0).pixels - first).abs().max() > 1e-3


def test_given_parts_do_not_leak_into_another_video(generator: VideoGenerator) -> None:
    """Of two videos of a batch, one does not change with what the other is given."""
    shape = ClipShape(17, 32, 32, FPS)
    settings = generator.settings(2, 3.0)
    mine = Request(TEXT, shape, seed=1, given=(Given(A.pixels[:, :5]), Given(A.pixels[:, 5:6], 16)))
    theirs = [
        Request(TEXT, shape, seed=2),
        Request(TEXT, shape, seed=2, given=(Given(B.pixels[:, :5]), Given(B.pixels[:, 5:6], 9))),
        Request(TEXT, shape, seed=2, given=(Given(LONG.pixels[:, :17], known=DISC.expand(17, 32, 32)),)),
    ]
    alone = generator.sample([mine], settings)[0].pixels
    for other in theirs:
        one, two = generator.sample([mine, other], settings)
        torch.testing.assert_close(one.pixels, alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(two.pixels, generator.sample([other], settings)[0].pixels, atol=1e-4, rtol=0)


# ---- mistakes ----

SLOW, WIDE = Clip(B.pixels, 4.0), Clip(random_clip(5, size=(32, 48)), FPS)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda g: extend(g, TEXT, A, 0), "frames must be at least 1, got 0"),
        (lambda g: extend(g, TEXT, A, -3, backward=True), "frames must be at least 1, got -3"),
        (lambda g: connect(g, TEXT, A, B, 0), "frames_between must be at least 1"),
        (lambda g: connect(g, TEXT, A, SLOW, 3), "a clip of 4 frames per second .* at 8"),
        (lambda g: connect(g, TEXT, A, WIDE, 3), "a clip of 32x48 .* at 32x32"),
        (lambda g: connect(g, TEXT, A, B, 8, history=13), "no room between two histories of 13"),
        (lambda g: loop(g, TEXT, 2), "at least 3 frames, got 2"),
        (lambda g: edit(g, TEXT, A, 1.2), "strength must be in \\[0, 1\\]"),
        (lambda g: inpaint(g, TEXT, A, DISC[:16]), "a mask of shape \\[16, 32\\] does not fit"),
        (lambda g: inpaint(g, TEXT, A, DISC.expand(4, 32, 32)), "a mask of shape \\[4, 32, 32\\] does not fit"),
        (lambda g: inpaint(g, TEXT, A, (20, 0, 20, 4)), "the box x=20, y=0, width=20, height=4 does not lie"),
        (lambda g: inpaint(g, TEXT, A, torch.zeros(32, 32)), "leaves nothing to be made"),
        (lambda g: outpaint(g, TEXT, A, (16, 64)), "a clip of 32x32 cannot become 16x64"),
        (lambda g: outpaint(g, TEXT, A, (32, 32)), "outpainting enlarges"),
        (lambda g: extend(g, TEXT, A, 4, negative="blur", guidance=1.0), "needs guidance"),
        (lambda g: extend(g, TEXT, A, 4, steps=0), "num_steps must be at least 1"),
    ],
)
def test_mistakes_are_clear(generator: VideoGenerator, run: Callable[[VideoGenerator], Clip], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(generator)
