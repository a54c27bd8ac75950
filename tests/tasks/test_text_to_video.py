"""The text-to-video task: its loss is per sample, its input is built by one path, guidance 1 is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.models.condition import PackedVideo
from genworld.models.dit import DiTConfig
from genworld.models.text import WordsTextConfig
from genworld.models.vae import CausalVAE, CausalVAEConfig
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.tasks.text_to_video_config import SampleConfig, TextToVideoConfig
from genworld.types import ClipShape, Pack, Sample

VAE = CausalVAEConfig(
    latent_channels=4, patch=4, patch_frames=2, widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)
)
SHAPES = [ClipShape(5, 32, 32, 8.0), ClipShape(9, 32, 48, 16.0), ClipShape(1, 16, 32, 1.0)]


@pytest.fixture(scope="module")
def task() -> TextToVideo:
    torch.manual_seed(0)
    config = TextToVideoConfig(
        vae=VAE,
        dit=DiTConfig(width=64, depth=2, num_heads=2),
        text=WordsTextConfig(width=32, depth=1, num_heads=2, vocabulary=300),
        sample=SampleConfig(size=(32, 32), frames=5, sampler=SamplerConfig(num_steps=3)),
    )
    task = TextToVideo(config, CausalVAE(VAE))
    task.text.fit(["a red ball", "a blue cube"])
    for parameter in task.dit.parameters():  # an output of zero would hide every difference
        torch.nn.init.normal_(parameter, std=0.05)
    return task.eval()


def samples() -> list[Sample]:
    generator = torch.Generator().manual_seed(1)
    return [
        Sample(i, s, f"a red ball {i}", torch.rand(3, s.num_frames, s.height, s.width, generator=generator) * 2 - 1)
        for i, s in enumerate(SHAPES)
    ]


def test_a_pack_is_the_sum_of_its_samples(task: TextToVideo) -> None:
    together = task(Pack(tuple(samples())), seed=3, step=0).loss
    apart = sum(task(Pack((item,)), seed=3, step=0).loss for item in samples())
    torch.testing.assert_close(together, apart)


def test_loss_is_a_function_of_seed_and_position(task: TextToVideo) -> None:
    item = samples()[0]
    first = task(Pack((item,)), seed=3, step=0).loss
    assert torch.equal(first, task(Pack((item,)), seed=3, step=7).loss)
    assert not torch.equal(first, task(Pack((item,)), seed=4, step=0).loss)
    assert not torch.equal(first, task(Pack((replace(item, position=9),)), seed=3, step=0).loss)


def test_precomputed_latents_give_the_same_loss(task: TextToVideo) -> None:
    items = samples()
    latents = task.latents(items)
    encoded = [replace(item, pixels=None, latents=x) for item, x in zip(items, latents, strict=True)]
    torch.testing.assert_close(task(Pack(tuple(encoded)), 3, 0).loss, task(Pack(tuple(items)), 3, 0).loss)


def test_training_and_sampling_build_the_same_input(task: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the network is given differs only in tokens and levels, for a clip of the same shape and text."""
    seen: list[tuple[PackedVideo, torch.Tensor]] = []
    forward = type(task.dit).forward

    def spy(self, video, text):
        seen.append((video, text.features))
        return forward(self, video, text)

    monkeypatch.setattr(type(task.dit), "forward", spy)
    item = samples()[1]
    monkeypatch.setattr(task, "config", replace(task.config, drop_text=0.0))
    task(Pack((item,)), seed=0, step=0)
    trained, trained_text = seen[0]
    seen.clear()
    task.generate([Request(item.text, item.shape)], guidance=GuidanceConfig(scale=1.0))
    sampled, sampled_text = seen[0]
    assert torch.equal(trained.positions, sampled.positions)
    assert trained.segments == sampled.segments
    assert torch.equal(trained_text, sampled_text)
    assert trained.tokens.shape == sampled.tokens.shape
    assert sampled.levels.unique().tolist() == [1.0]


def test_guidance_follows_the_difference_between_prompts(task: TextToVideo) -> None:
    request = Request("a red ball", SHAPES[0], seed=2)
    none = task.generate([request], guidance=GuidanceConfig(scale=1.0))[0]
    same = task.generate([replace(request, negative=request.prompt)], guidance=GuidanceConfig(scale=6.0))[0]
    torch.testing.assert_close(none, same, atol=1e-4, rtol=0)  # away from the prompt itself: nowhere
    strong = task.generate([request], guidance=GuidanceConfig(scale=6.0))[0]
    assert not torch.allclose(none, strong, atol=1e-3)


def test_mixed_shapes_are_sampled_as_if_alone(task: TextToVideo) -> None:
    requests = [Request(f"a red ball {i}", shape, seed=i) for i, shape in enumerate(SHAPES)]
    together = task.generate(requests)
    for request, video in zip(requests, together, strict=True):
        torch.testing.assert_close(task.generate([request])[0], video, atol=1e-4, rtol=0)


def test_dropped_text_is_the_empty_prompt(task: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "config", replace(task.config, drop_text=0.999999))
    item = samples()[0]
    dropped = task(Pack((item,)), seed=3, step=0).loss
    monkeypatch.setattr(task, "config", replace(task.config, drop_text=0.0))
    assert torch.equal(dropped, task(Pack((replace(item, text=""),)), seed=3, step=0).loss)
