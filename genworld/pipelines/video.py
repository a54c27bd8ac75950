"""Text to video for people: a trained run in, videos out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from genworld.experiment import Experiment, load_run
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.train.runtime import resolve_precision
from genworld.types import Clip, ClipShape


class VideoGenerator:
    """A text-to-video model that was trained by `train.py`.

    Example:
        >>> generator = VideoGenerator.from_run("runs/demo/video")  # doctest: +SKIP
        >>> clip = generator("a red ball rolls to the left", frames=17, size=(64, 64), seed=1)[0]  # doctest: +SKIP
    """

    def __init__(self, experiment: Experiment, task: TextToVideo) -> None:
        self.experiment = experiment
        self.task = task

    @classmethod
    def from_run(cls, run: str | Path, device: str | torch.device | None = None) -> VideoGenerator:
        """Load the newest checkpoint of a run, with averaged (EMA) weights.

        Args:
            run: the folder that `train.py` wrote.
            device: CUDA where there is one, by default.

        Raises:
            ValueError: the folder holds no finished checkpoint, or its task is not text to video.
        """
        experiment, task = load_run(Path(run), device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if not isinstance(task, TextToVideo):
            raise ValueError(f"{run} holds a run of task {experiment.task.kind!r}; sampling needs 'text_to_video'")
        return cls(experiment, task)

    def __call__(  # noqa: PLR0913 - the front door: every argument but the prompt has a default
        self,
        prompt: str | Sequence[str],
        *,
        frames: int | None = None,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        negative: str = "",
        num: int = 1,
        progress: bool = False,
    ) -> list[Clip]:
        """Sample videos.

        Args:
            prompt: one or several.
            frames: pixel frames, 1 + a multiple of the VAE's temporal stride; 1 makes an image.
            size: height and width in pixels, divisible by the VAE's stride times the patch.
            fps: frames per second.
            steps: sampling steps.
            guidance: how strongly to follow the prompt; 1 is not at all.
            seed: of the first video of each prompt; the next ones have the next seeds.
            negative: what to guide away from.
            num: videos for each prompt.
            progress: show a bar.

        Returns:
            `num` clips for the first prompt, then for the second, and so on. A clip depends on its prompt, seed and
            shape, not on what else was asked for.

        Raises:
            ValueError: a size or length does not fit the VAE (the message names the nearest ones that do), or a
                prompt is too long.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if num < 1 or not prompts:
            raise ValueError(f"nothing to sample: got {len(prompts)} prompts, {num} videos for each")
        shape = self.shape(frames, size, fps)
        requests = [Request(text, shape, seed + i, negative) for text in prompts for i in range(num)]
        return self.sample(requests, self.settings(steps, guidance), progress=progress)

    def sample(
        self,
        requests: Sequence[Request],
        settings: tuple[SamplerConfig, GuidanceConfig],
        *,
        progress: bool = False,
    ) -> list[Clip]:
        """Sample requests of any shapes together, in the precision of training.

        Raises:
            ValueError: something is to be avoided, but guidance is off.
        """
        sampler, guidance = settings
        if guidance.scale == 1 and any(request.negative for request in requests):
            raise ValueError("a negative prompt needs guidance: use a guidance other than 1, or leave it out")
        device = next(self.task.parameters()).device
        precision = resolve_precision(self.experiment.train.precision, device)  # as in training
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
            tqdm(total=sampler.num_steps, disable=not progress, desc="sampling", unit="step") as bar,
        ):
            pixels = self.task.generate(requests, sampler, guidance, lambda step: bar.update(step - bar.n))
        return [Clip(x.cpu(), r.shape.fps, r.prompt) for x, r in zip(pixels, requests, strict=True)]

    def shape(self, frames: int | None, size: tuple[int, int] | None, fps: float | None) -> ClipShape:
        """The shape asked for; what is not said is as the run's config has it.

        Raises:
            ValueError: the shape does not fit the VAE.
        """
        trained = self.task.config.sample.shape
        height, width = (trained.height, trained.width) if size is None else size
        num_frames = trained.num_frames if frames is None else frames
        shape = ClipShape(num_frames, height, width, trained.fps if fps is None else fps)
        self.task.grid.latent_shape(shape)
        return shape

    def settings(self, steps: int | None, guidance: float | None) -> tuple[SamplerConfig, GuidanceConfig]:
        """Sampler and guidance; what is not said is the run's own."""
        config = self.task.config.sample
        sampler = config.sampler if steps is None else replace(config.sampler, num_steps=steps)
        strength = config.guidance if guidance is None else replace(config.guidance, scale=guidance)
        return sampler, strength
