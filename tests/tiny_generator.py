"""A video generator too small to be any good, whose weights are noise: for what must hold whatever they are."""

from __future__ import annotations

from pathlib import Path

import torch

from genworld.experiment import build_task, load_experiment
from genworld.models.vae import CausalVAE
from genworld.pipelines.video import VideoGenerator
from genworld.tasks.text_to_video import TextToVideo

SMOKE = Path(__file__).resolve().parents[1] / "configs" / "smoke" / "text_to_video.yaml"
SETTINGS = [
    "task.sample={size: [32, 32], frames: 17, sampler: {num_steps: 2}}",
    "task.dit={width: 32, depth: 1, num_heads: 1, camera: true}",
    "train.threads=1",
]


def tiny_generator(*overrides: str) -> VideoGenerator:
    """The smoke config's model, smaller still, with windows of 17 frames."""
    experiment = load_experiment(SMOKE, [*SETTINGS, *overrides])
    torch.manual_seed(0)
    task = build_task(experiment)
    assert isinstance(task, TextToVideo)
    assert isinstance(task.vae, CausalVAE)
    chance = torch.Generator().manual_seed(0)
    clips = [torch.rand(3, 9, 32, 32, generator=chance) * 2 - 1 for _ in range(2)]
    task.vae.fit(clips, 16, chance)
    task.text.fit(["a red ball rolls to the left", "a blue cube"])
    for parameter in task.dit.parameters():  # an output of zero would hide what it is given
        torch.nn.init.normal_(parameter, std=0.2, generator=chance)
    return VideoGenerator(experiment, task.eval())


def random_clip(frames: int, seed: int = 0, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    """Pixels in [-0.9, 0.9] that no model would make."""
    chance = torch.Generator().manual_seed(seed)
    return (torch.rand(3, frames, *size, generator=chance) * 2 - 1) * 0.9
