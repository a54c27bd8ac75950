"""Text to video for people: a trained run in, videos out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from genworld.experiment import Experiment, clip_data
from genworld.flow.guidance import GuidanceConfig
from genworld.flow.samplers import SamplerConfig
from genworld.pipelines.camera import parse_camera
from genworld.pipelines.keep import Keep, pad_given, pad_shape, resolve
from genworld.pipelines.runs import open_run
from genworld.pipelines.stream import Shot, WindowOptions, stream
from genworld.tasks.text_to_video import Request, TextToVideo
from genworld.train.runtime import resolve_precision
from genworld.types import CameraPath, Clip, ClipShape

logger = logging.getLogger(__name__)


class VideoGenerator:
    """A video model that was trained by `train.py`: text, images, clips and camera paths in, videos out.

    Example:
        >>> generator = VideoGenerator.from_run("runs/demo/video")  # doctest: +SKIP
        >>> clip = generator("a red ball rolls to the left", frames=17, size=(64, 64), seed=1)[0]  # doctest: +SKIP
        >>> later = generator("a red ball", keep=[Keep("first.png"), Keep("last.png", at="end")])  # doctest: +SKIP
    """

    def __init__(self, experiment: Experiment, task: TextToVideo) -> None:
        self.experiment = experiment
        self.task = task
        self._told: set[ClipShape] = set()  # shapes of which was said that they are made larger

    @classmethod
    def from_run(cls, run: str | Path, device: str | torch.device | None = None) -> VideoGenerator:
        """Load the newest checkpoint of a run, with averaged (EMA) weights.

        Args:
            run: the folder that `train.py` wrote.
            device: CUDA where there is one, by default.

        Raises:
            ValueError: the folder holds no finished checkpoint, or its task is not text to video.
        """
        return cls(*open_run(run, TextToVideo, "sampling needs 'text_to_video'", device))

    @property
    def trained(self) -> ClipShape:
        """The shape that the run samples by default."""
        return self.task.config.sample.shape

    def __call__(  # noqa: PLR0913 - the front door: every argument but the prompt has a default
        self,
        prompt: str | Sequence[str],
        *,
        keep: Sequence[Keep] = (),
        camera: CameraPath | str | None = None,
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
            keep: media that every video is given; what is kept at strength 1 is in the result pixel for pixel.
            camera: its path, or words for it such as "orbit:+30deg" (see `parse_camera`).
            frames: pixel frames; 1 makes an image. Lengths and sizes that the VAE does not take are made larger and
                cut, which is logged.
            size: height and width in pixels.
            fps: frames per second.
            steps: sampling steps.
            guidance: how strongly to follow the prompt; 1 is not at all.
            seed: of the first video of each prompt; the next ones have the next seeds.
            negative: what to guide away from.
            num: videos for each prompt.
            progress: show a bar.

        Returns:
            `num` clips for the first prompt, then for the second, and so on. A clip depends on its prompt, seed, shape
            and what it is given, not on what else was asked for.

        Raises:
            ValueError: given media do not fit the video or each other, the run was not trained with cameras, or a
                prompt is too long.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if num < 1 or not prompts:
            raise ValueError(f"nothing to sample: got {len(prompts)} prompts, {num} videos for each")
        shape = self.shape(frames, size, fps)
        path = parse_camera(camera, shape) if isinstance(camera, str) else camera
        given = resolve(keep, shape)
        requests = [
            Request(text, shape, seed + i, negative, given=given, camera=path) for text in prompts for i in range(num)
        ]
        return self.sample(requests, self.settings(steps, guidance), progress=progress)

    def stream(
        self,
        shots: Sequence[Shot],
        *,
        before: Clip | None = None,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        **options: Unpack[WindowOptions],
    ) -> Iterator[Float[Tensor, "3 n H W"]]:
        """New frames of a video of any length, at constant memory: see `genworld.pipelines.stream.stream`.

        Example:
            >>> shots = [Shot("a red ball rolls", 3600), Shot("a blue cube", 240, cut=True)]  # doctest: +SKIP
            >>> for frames in generator.stream(shots, fps=30): ...  # doctest: +SKIP
        """
        return stream(self, shots, before=before, size=size, fps=fps, **options)

    def sample(
        self,
        requests: Sequence[Request],
        settings: tuple[SamplerConfig, GuidanceConfig],
        *,
        progress: bool = False,
    ) -> list[Clip]:
        """Sample requests of any shapes together, in the precision of training.

        Raises:
            ValueError: something is to be avoided, but guidance is off; or a request cannot be honoured.
        """
        sampler, guidance = settings
        if guidance.scale == 1 and any(request.negative for request in requests):
            raise ValueError("a negative prompt needs guidance: use a guidance other than 1, or leave it out")
        device = next(self.task.parameters()).device
        precision = resolve_precision(self.experiment.train.precision, device)  # as in training
        fitting = [self._fit(request) for request in requests]
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
            tqdm(disable=not progress, desc="sampling", unit="step", total=_num_steps(sampler, fitting)) as bar,
        ):
            pixels = self.task.generate(fitting, sampler, guidance, lambda step: bar.update(step - bar.n))
        return [_crop(x.cpu(), request) for x, request in zip(pixels, requests, strict=True)]

    def shape(self, frames: int | None, size: tuple[int, int] | None, fps: float | None) -> ClipShape:
        """The shape asked for; what is not said is as the run's config has it.

        Raises:
            ValueError: there is nothing to be made of this shape.
        """
        trained = self.trained
        height, width = (trained.height, trained.width) if size is None else size
        num_frames = trained.num_frames if frames is None else frames
        shape = ClipShape(num_frames, height, width, trained.fps if fps is None else fps)
        if min(shape.num_frames, shape.height, shape.width) < 1 or not (shape.fps > 0 and math.isfinite(shape.fps)):
            raise ValueError(f"a video needs at least 1 frame, 1x1 pixels and a positive frame rate, got {shape}")
        return shape

    def settings(self, steps: int | None, guidance: float | None) -> tuple[SamplerConfig, GuidanceConfig]:
        """Sampler and guidance; what is not said is the run's own."""
        config = self.task.config.sample
        sampler = config.sampler if steps is None else replace(config.sampler, num_steps=steps)
        strength = config.guidance if guidance is None else replace(config.guidance, scale=guidance)
        return sampler, strength

    def _fit(self, request: Request) -> Request:
        """The request in a shape that the VAE takes, its positions within what was trained."""
        shape, camera = request.shape, request.camera
        for each in request.given:
            each.check(shape)
        padded = pad_shape(shape, self.task.grid.time_stride, self.task.grid.size_multiple)
        if padded != shape and shape not in self._told:
            self._told.add(shape)
            logger.warning("%s is not a shape that the VAE takes: made as %s and cut", shape, padded)
        if camera is not None:
            if not self.task.config.dit.camera:
                raise ValueError("this run knows no cameras: train one with task.dit.camera=true, or leave camera out")
            camera = _fit_camera(camera, shape, padded)
        return replace(
            request,
            shape=padded,
            given=tuple(pad_given(each, shape, padded) for each in request.given),
            camera=camera,
            space_scale=min(1.0, self._longest_side() / max(padded.height, padded.width)),
        )

    def _longest_side(self) -> float:
        """The longest side, in pixels, that training saw; positions of larger pictures are pressed into it.

        So do linear position interpolation (Chen et al. 2023) and, for pictures, most users of rotary positions. Times
        are not: they are seconds, and pressed together they would be another speed.
        """
        shapes = clip_data(self.experiment).packing.shapes
        # Of a budget of pixels, clips of any aspect ratio are made: 16:9 is what most have.
        sides = [max(shape.size) if shape.size else math.sqrt((shape.pixels or 0) * 16 / 9) for shape in shapes]
        return max([*sides, self.trained.height, self.trained.width])


def _num_steps(sampler: SamplerConfig, requests: Sequence[Request]) -> int | None:
    """How many steps it will take; unknown where frames lag behind one another."""
    return None if any(request.stagger for request in requests) else sampler.num_steps


def _fit_camera(camera: CameraPath, shape: ClipShape, padded: ClipShape) -> CameraPath:
    """A path for a video that was made longer: the camera comes to rest."""
    poses = camera.world_from_camera
    if len(poses) != shape.num_frames:
        raise ValueError(f"a camera path of {len(poses)} poses does not fit a video of {shape.num_frames} frames")
    rest = poses[-1:].expand(padded.num_frames - shape.num_frames, -1, -1)
    return replace(camera, world_from_camera=torch.cat([poses, rest]))


def _crop(pixels: Tensor, request: Request) -> Clip:
    frames, height, width, fps = request.shape
    return Clip(pixels[:, :frames, :height, :width], fps, request.prompt)
