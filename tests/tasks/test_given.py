"""What is given: the patterns of training, their latents, and what sampling makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genworld.experiment import build_task, load_experiment
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.rectified import FlowConfig, token_times
from genworld.flow.samplers import SamplerConfig
from genworld.models.condition import PackedVideo
from genworld.ops.random import generator
from genworld.tasks.given import Given, GivenConfig, draw_given, encode_known, lay_given
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.types import ClipShape, Pack, Sample

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ClipShape(17, 32, 32, 8.0)
ALL = {
    "first_frame": 1.0, "last_frame": 1.0, "both_ends": 1.0, "head": 1.0, "tail": 1.0, "frames": 1.0, "box": 1.0,
    "mask": 1.0, "forcing": 1.0,
}  # fmt: skip
EULER = SamplerConfig(num_steps=2)
PLAIN = GuidanceConfig(scale=1.0)


@pytest.fixture(scope="module")
def task() -> TextToVideo:
    """Random weights everywhere, so that nothing is hidden by zeros."""
    task = build_task(load_experiment(ROOT / "configs" / "smoke" / "text_to_video.yaml"))
    assert isinstance(task, TextToVideo)
    task.text.fit(["a red ball", "a blue cube"])
    torch.manual_seed(5)
    for network, std in ((task.vae, 0.1), (task.dit, 0.2)):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=std)
    return task.eval()


def clip(seed: int, frames: int = 17, side: int = 32) -> torch.Tensor:
    return torch.rand(3, frames, side, side, generator=generator(seed)) * 2 - 1


def only(name: str, **options: float) -> GivenConfig:
    return GivenConfig(**{"nothing": 0.0, name: 1.0, **options})


def draw(config: GivenConfig, seed: int, shape: ClipShape = SHAPE):
    return draw_given(config, shape, 4, generator(seed), lambda: clip(seed, shape.num_frames))


# ---- patterns ----


@pytest.mark.parametrize("seed", range(20))
def test_patterns_are_what_they_are_called(seed: int) -> None:
    assert [(g.first, g.num_frames) for g in draw(only("first_frame"), seed).given] == [(0, 1)]
    assert [(g.first, g.num_frames) for g in draw(only("last_frame"), seed).given] == [(16, 1)]
    (head,) = draw(only("head"), seed).given
    assert head.first == 0
    assert head.num_frames in (1, 5, 9, 13)
    (tail,) = draw(only("tail"), seed).given
    assert tail.first + tail.num_frames == 17
    assert tail.num_frames in (1, 5, 9, 13)
    first, last = draw(only("both_ends"), seed).given
    assert first.first == 0
    assert last.first + last.num_frames == 17
    assert first.num_frames < last.first
    assert 1 <= len(draw(only("frames"), seed).given) <= 3
    for name in ("box", "mask"):
        (region,) = draw(only(name), seed).given
        assert region.known is not None
        assert 0 < region.known.float().mean() < 1
    assert draw(only("forcing"), seed).forcing


def test_all_patterns_are_drawn_and_the_same_every_time() -> None:
    config = GivenConfig(**ALL)
    kinds = [(d.forcing, tuple((g.first, g.num_frames) for g in d.given)) for d in (draw(config, s) for s in range(99))]
    assert kinds == [
        (d.forcing, tuple((g.first, g.num_frames) for g in d.given)) for d in (draw(config, s) for s in range(99))
    ]
    assert (False, ()) in kinds
    assert (True, ()) in kinds
    assert len(set(kinds)) > 15


@pytest.mark.parametrize("name", ["first_frame", "last_frame", "both_ends", "head", "tail", "frames", "forcing"])
def test_of_an_image_nothing_but_a_region_is_given(name: str) -> None:
    image = ClipShape(1, 32, 32, 8.0)
    assert draw(only(name), 0, image) == ((), False)
    assert len(draw(only("box"), 0, image).given) == 1


@pytest.mark.parametrize("settings", [{"nothing": 0.0}, {"box": -1.0}, {"jitter": 1.0}])
def test_weights_are_checked(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"task\.given"):
        GivenConfig(**settings)


# ---- latents ----


def test_the_latents_of_a_head_do_not_depend_on_what_follows(task: TextToVideo) -> None:
    pixels, other = clip(1), clip(1)
    other[:, 9:] = clip(2)[:, 9:]
    whole, changed = (task.vae.to_latents(x[None])[0] for x in (pixels, other))
    head = lay_given(task.vae, task.grid, SHAPE, [Given(pixels[:, :9])])
    torch.testing.assert_close(head.latents[:, :3], whole[:, :3], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(whole[:, :3], changed[:, :3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole[:, 3:], changed[:, 3:], atol=1e-3)
    assert head.start[:3].max() == 0
    assert head.start[3:].min() == 1
    assert not head.extras


def test_a_tail_is_encoded_as_a_clip_of_its_own(task: TextToVideo) -> None:
    pixels = clip(1)
    layout = lay_given(task.vae, task.grid, SHAPE, [Given(pixels[:, 8:], first=8)])
    assert layout.start.min() == 1
    ((latents, first, use),) = layout.extras
    assert (first, use) == (8, None)
    torch.testing.assert_close(latents, task.vae.to_latents(pixels[None, :, 8:])[0])


@pytest.mark.parametrize(
    ("first", "frames", "expected"),
    [(16, 1, [(16, 1)]), (3, 5, [(3, 5)]), (3, 7, [(3, 5), (5, 5)]), (3, 3, [(3, 1), (4, 1), (5, 1)]),
     (0, 5, []), (0, 7, [(2, 5)]), (0, 3, [(1, 1), (2, 1)])],
)  # fmt: skip
def test_every_given_frame_is_seen(task: TextToVideo, first: int, frames: int, expected: list) -> None:
    layout = lay_given(task.vae, task.grid, SHAPE, [Given(clip(1, frames), first)])
    assert [(begin, 1 + 4 * (x.shape[1] - 1)) for x, begin, _ in layout.extras] == expected
    assert int((layout.start[:, 0, 0] == 0).sum()) == (1 + (frames - 1) // 4 if first == 0 else 0)


def test_tokens_with_an_unknown_pixel_are_made_and_do_not_leak(task: TextToVideo) -> None:
    side = task.grid.size_multiple
    known = torch.ones(17, 32, 32, dtype=torch.bool)
    known[6, side, side] = False  # one pixel of one frame of the third latent frame
    pixels, other = clip(1), clip(1)
    other[:, 6, side, side] = 1.0
    layouts = [lay_given(task.vae, task.grid, SHAPE, [Given(x, known=known)]) for x in (pixels, other)]
    assert torch.equal(layouts[0].latents, layouts[1].latents)
    made = layouts[0].start.nonzero().tolist()
    assert made == [[2, 1, 1]]


def test_unknown_pixels_are_filled_with_the_mean_of_the_known(task: TextToVideo) -> None:
    pixels = torch.full((3, 5, 32, 32), 0.25)
    hidden = pixels.clone()
    hidden[:, :, 8:16, 8:16] = -1
    known = torch.ones(5, 32, 32, dtype=torch.bool)
    known[:, 8:16, 8:16] = False
    expected = task.vae.to_latents(pixels[None])[0]
    torch.testing.assert_close(encode_known(task.vae, hidden, known), expected, atol=1e-5, rtol=1e-5)


def test_weaker_media_start_half_way_and_kept_ones_lie_over_them(task: TextToVideo) -> None:
    given = [Given(clip(1), strength=0.6), Given(clip(2, 1))]
    layout = lay_given(task.vae, task.grid, SHAPE, given)
    assert layout.start[0].max() == 0
    assert layout.start[1:].min() == pytest.approx(0.4)
    assert layout.start[1:].max() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given(torch.zeros(3, 1, 16, 32)), r"given frames of 16x32 \(height x width\) do not fit a video of 32x32"),
        (Given(torch.zeros(3, 4, 32, 32), first=14), "given frames 14 to 17 lie outside a video of 17 frames"),
        (Given(torch.zeros(3, 1, 32, 32), first=-1), "lie outside"),
        (Given(torch.zeros(3, 1, 32, 32), known=torch.ones(2, 32, 32) > 0), r"a mask of shape \[2, 32, 32\]"),
        (Given(torch.zeros(3, 1, 32, 32), strength=1.5), "strength must be in"),
        (Given(torch.zeros(3, 1, 32, 32), first=4, strength=0.5), "only for media that begin with the video"),
    ],
)
def test_what_does_not_fit_is_refused(task: TextToVideo, given: Given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task.generate([Request("a red ball", SHAPE, given=(given,))], EULER, PLAIN)


# ---- times ----


def test_times_of_tokens_begin_where_they_should_and_end_at_zero() -> None:
    start = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 2, 2)
    times = token_times(FlowConfig(), 4, start)
    assert times[:, 0].abs().max() == 0
    assert times[:, 1, 0, 0].tolist() == [0.5, 0.5, 0.5, 0.25, 0.0]
    assert times[:, 2, 0, 0].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    edit = token_times(FlowConfig(), 4, torch.full((3, 2, 2), 0.4))
    assert edit[:, 0, 0, 0].tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.0])  # no step is wasted


def test_staggered_frames_lag_behind_one_another() -> None:
    start = torch.tensor([0.0, 1.0, 1.0])[:, None, None]
    times = token_times(FlowConfig(), 4, start, stagger=2)[:, :, 0, 0]
    assert times.shape == (7, 3)
    assert times[:, 1].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    assert times[:, 2].tolist() == [1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


# ---- one path ----


def spy(monkeypatch: pytest.MonkeyPatch, task: TextToVideo) -> list[PackedVideo]:
    seen: list[PackedVideo] = []
    forward = type(task.dit).forward

    def recording(self, video, text):
        seen.append(video)
        return forward(self, video, text)

    monkeypatch.setattr(type(task.dit), "forward", recording)
    return seen


@pytest.mark.parametrize("name", ["first_frame", "last_frame", "both_ends", "head", "tail", "frames", "box", "mask"])
def test_training_and_sampling_build_the_same_input(
    task: TextToVideo, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is given has the same tokens, positions and levels in both."""
    seen = spy(monkeypatch, task)
    monkeypatch.setattr(task, "config", replace(task.config, drop_text=0.0, given=only(name)))
    shape = ClipShape(17, 96, 96, 8.0)
    item = Sample(3, shape, "a red ball", pixels=clip(3, side=96))
    task(Pack((item,)), seed=0, step=0)
    given = draw_given(only(name), shape, 4, generator(0, "given", 3), item.need_pixels).given
    trained = seen[0]  # what follows is the loss by bins of time, of which nothing is given
    seen.clear()
    task.generate([Request(item.text, shape, given=given)], EULER, PLAIN)
    sampled = seen[0]
    assert trained.segments == sampled.segments
    assert torch.equal(trained.positions, sampled.positions)
    assert torch.equal(trained.levels == 0, sampled.levels == 0)
    known = trained.levels == 0
    assert bool(known.any())
    torch.testing.assert_close(trained.tokens[known], sampled.tokens[known])


@pytest.mark.parametrize("name", list(ALL))
def test_training_differentiates_every_pattern(task: TextToVideo, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(task, "config", replace(task.config, given=only(name, jitter=0.1)))
    items = tuple(Sample(i, SHAPE, "a red ball", pixels=clip(i)) for i in range(2))
    output = task(Pack(items), seed=0, step=0)
    output.loss.backward()
    assert torch.isfinite(output.loss)
    assert output.loss > 0
    assert task.dit.patch_in.weight.grad.abs().sum() > 0
    alone = sum(task(Pack((item,)), seed=0, step=0).loss for item in items)
    torch.testing.assert_close(output.loss, alone, rtol=1e-4, atol=1e-3)  # nothing leaks from one to the other


def test_given_tokens_have_no_loss(task: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all but one latent frame given, the loss is that of one frame's tokens."""
    item = Sample(0, SHAPE, "a red ball", pixels=clip(0))
    x = task.latents([item])[0]
    monkeypatch.setattr(task, "config", replace(task.config, given=only("head")))
    made = [int(task._training_input(x, torch.randn_like(x), replace(item, position=p), 0)[1].sum()) for p in range(20)]
    tokens = task.grid.num_tokens(SHAPE) // 5
    assert set(made) == {tokens * n for n in (1, 2, 3, 4)}


def test_latents_cannot_tell_pixels(task: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "config", replace(task.config, given=only("tail")))
    item = Sample(0, SHAPE, "a red ball", latents=torch.zeros(task.vae.latent_channels, 5, 4, 4))
    with pytest.raises(ValueError, match="precomputed latents"):
        task(Pack((item,)), seed=0, step=0)


# ---- sampling ----


def test_kept_pixels_are_exact_and_others_differ(task: TextToVideo) -> None:
    known = torch.zeros(17, 32, 32, dtype=torch.bool)
    known[:, :16] = True
    given = (Given(clip(1), known=known), Given(clip(2, 1), first=16))
    request = Request("a red ball", SHAPE, given=(given[0], replace(given[1], known=~known[:1])))
    video = task.generate([request], EULER, PLAIN)[0]
    assert torch.equal(video[:, :, :16], clip(1)[:, :, :16])
    assert torch.equal(video[:, 16, 16:], clip(2, 1)[:, 0, 16:])
    assert (video[:, :16, 16:] - clip(1)[:, :16, 16:]).abs().mean() > 0.05


def test_what_is_given_changes_what_is_made_and_nothing_else_of_the_batch(task: TextToVideo) -> None:
    plain = Request("a red ball", SHAPE, seed=1)
    given = replace(plain, given=(Given(clip(1, 5), first=12), Given(clip(2, 1))))
    other = replace(plain, given=(Given(clip(3, 5), first=12), Given(clip(2, 1))))
    alone, with_given, with_other = (task.generate([r], EULER)[0] for r in (plain, given, other))
    assert (with_given[:, 1:12] - with_other[:, 1:12]).abs().max() > 1e-2
    together = task.generate([given, plain, other], EULER)
    for one, expected in zip(together, (with_given, alone, with_other), strict=True):
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)


def test_everything_given_is_everything_kept(task: TextToVideo) -> None:
    video = task.generate([Request("a red ball", SHAPE, given=(Given(clip(1)),))], EULER, PLAIN)[0]
    assert torch.equal(video, clip(1))


def test_the_weaker_the_strength_the_less_remains(task: TextToVideo) -> None:
    again = task.decode([lay_given(task.vae, task.grid, SHAPE, [Given(clip(1))]).latents])[0]
    distances = []
    for strength in (0.99, 0.7, 0.3):
        request = Request("a red ball", SHAPE, given=(Given(clip(1), strength=strength),))
        distances.append(float((task.generate([request], EULER, PLAIN)[0] - again).abs().mean()))
    assert distances == sorted(distances)
    assert distances[0] < 0.1 * distances[2]


def test_given_tokens_may_be_shown_slightly_noised(task: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spy(monkeypatch, task)
    given = (Given(clip(1, 5)), Given(clip(2, 1), first=16))
    video = task.generate([Request("a red ball", SHAPE, given=given, given_level=0.125)], EULER, PLAIN)[0]
    assert sorted({round(x, 3) for x in seen[-1].levels.tolist()}) == [0.125, 0.5]
    assert torch.equal(video[:, :5], clip(1, 5))


def test_staggered_sampling_takes_more_steps_and_ends_clean(task: TextToVideo) -> None:
    steps: list[int] = []
    request = Request("a red ball", SHAPE, stagger=1)
    video = task.generate([request], EULER, PLAIN, steps.append)[0]
    assert steps[-1] == 2 + 4
    assert torch.isfinite(video).all()
