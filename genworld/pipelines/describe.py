"""`train.py --dry-run`: what an experiment will cost, before it costs anything."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from genworld.data.room_views import RoomViewsData
from genworld.data.shapes import IMAGE_FPS, ShapeConfig
from genworld.experiment import Experiment, TurnsData, describe_vae, token_grid
from genworld.models.scene_llm import SceneLLM
from genworld.models.scene_points import ScenePoints
from genworld.models.vae import VideoVAE, build_vae, flops_per_pixel
from genworld.tasks.align import Align, AlignConfig
from genworld.tasks.align_regions import AlignRegions, AlignRegionsConfig
from genworld.tasks.autoencode import Autoencode, AutoencodeConfig
from genworld.tasks.base import Task
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.tasks.text_to_video import TextToVideo
from genworld.tasks.text_to_video_config import TextToVideoConfig
from genworld.types import ClipShape, TokenGrid

TEXT_TOKENS = 32
"""A caption of middling length, for counting."""
BYTES_PER_WEIGHT = 4 + 4 + 8 + 4
"""Weight, gradient, two moments of Adam and the average, all in float32."""
BYTES_PER_ACTIVATION = 34
"""That the backward pass keeps per token, feature and block (Korthikanti et al. 2022, eq. 2, no attention maps)."""


@dataclass(frozen=True)
class Cost:
    """Operations of one training step and bytes kept for it."""

    flops: float
    activation_bytes: float


def describe(experiment: Experiment) -> str:
    """Parameters, operations, tokens and memory of an experiment; builds everything on the meta device.

    Raises:
        ValueError: the experiment does not fit together.
    """
    if isinstance(experiment.task, AlignRegionsConfig) or isinstance(experiment.data, RoomViewsData):
        return _describe_regions(experiment)
    if isinstance(experiment.task, ConverseConfig) or isinstance(experiment.data, TurnsData):
        return _describe_turns(experiment)
    grid = token_grid(experiment)
    experiment.data.packing.check(grid)
    with torch.device("meta"):
        task = _build(experiment)
    packing = experiment.data.packing
    shapes: list[ClipShape | None] = [_square(shape, grid) for shape in packing.shapes]
    shapes = shapes or [None]
    lines = [f"{experiment.name}: task {experiment.task.kind}, run folder {experiment.folder}"]
    trained = 0
    for name, network in task.networks().items():
        count = sum(parameter.numel() for parameter in network.parameters())
        trained += count
        lines.append(f"  {name:<14} {count:>14,} parameters")
    if isinstance(task, TextToVideo):
        count = sum(parameter.numel() for parameter in task.vae.parameters())
        lines.append(f"  {'vae (frozen)':<14} {count:>14,} parameters")
    lines.append(f"  {packing.packs_per_step} pack(s) per step of up to {packing.tokens_per_pack:,} tokens")
    budget = packing.tokens_per_pack, packing.packs_per_step
    lines += [_line(task, grid, shape, budget, trained) for shape in shapes]
    return "\n".join(lines)


def _describe_turns(experiment: Experiment) -> str:
    config = experiment.task
    if not isinstance(config, ConverseConfig) or not isinstance(experiment.data, TurnsData):
        raise ValueError(f"task {config.kind!r} is not trained on data of kind {experiment.data.kind!r}")
    with torch.device("meta"):
        task = Converse(config, SceneLLM(config.model, ScenePoints(config.points).width))
    lines = [f"{experiment.name}: task {config.kind}, run folder {experiment.folder}"]
    for name, network in task.networks().items():
        lines.append(f"  {name:<14} {sum(parameter.numel() for parameter in network.parameters()):>14,} parameters")
    batch, scene = experiment.data.batch, task.model.connector.num_tokens(config.points.max_points)
    # Forward and backward take six operations per weight and token (Kaplan et al. 2020, table 1).
    flops = 6.0 * batch * (scene + TEXT_TOKENS) * sum(parameter.numel() for parameter in task.model.llm.parameters())
    lines.append(
        f"  {batch} turns per step, each with {scene} tokens of its scene: {flops / 1e12:.3g} TFLOP a step in the "
        "language model"
    )
    return "\n".join(lines)


def _describe_regions(experiment: Experiment) -> str:
    if not isinstance(experiment.task, AlignRegionsConfig) or not isinstance(experiment.data, RoomViewsData):
        raise ValueError(f"task {experiment.task.kind!r} is not trained on data of kind {experiment.data.kind!r}")
    with torch.device("meta"):
        task = AlignRegions(experiment.task)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            task.encoder.embed_cells(torch.empty(experiment.data.batch, 3, *experiment.data.size))
    networks = task.networks()
    lines = [f"{experiment.name}: task {experiment.task.kind}, run folder {experiment.folder}"]
    for name, network in networks.items():
        lines.append(f"  {name:<14} {sum(parameter.numel() for parameter in network.parameters()):>14,} parameters")
    # The backward pass takes twice as many operations as the forward pass; phrases are few and short.
    flops = 3.0 * counter.get_total_flops()
    return "\n".join([*lines, f"  {experiment.data.batch} views per step, {flops / 1e12:.3g} TFLOP"])


def _line(task: Task, grid: TokenGrid, shape: ClipShape | None, budget: tuple[int, int], trained: int) -> str:
    pack_tokens, packs = budget
    tokens = grid.num_tokens(shape) if shape else pack_tokens
    clips = pack_tokens // tokens
    cost = _cost(task, shape, tokens, clips)
    memory = (trained * BYTES_PER_WEIGHT + cost.activation_bytes) / 2**30
    name = str(shape) if shape else "as precomputed"
    return (
        f"  {name:<18} {tokens:>7,} tokens a clip, {clips} clip(s) a pack, "
        f"{cost.flops * packs / 1e12:.3g} TFLOP a step, about {memory:.2g} GiB"
    )


def _square(shape: ShapeConfig, grid: TokenGrid) -> ClipShape:
    """The shape of a square clip."""
    side = max(math.isqrt(shape.area) // grid.size_multiple, 1) * grid.size_multiple
    height, width = shape.size or (side, side)
    return ClipShape(shape.frames, height, width, shape.fps or IMAGE_FPS)


def _cost(task: Task, shape: ClipShape | None, tokens: int, clips: int) -> Cost:
    if isinstance(task, TextToVideo):
        flops = 3.0 * task.dit.flops([tokens] * clips, [TEXT_TOKENS] * clips)
        if shape:
            flops += clips * _pixels(shape) * _encode_flops(task.vae)
        config = task.dit.config
        kept = 1 if config.checkpointing else BYTES_PER_ACTIVATION
        return Cost(flops, kept * tokens * clips * config.width * config.depth)
    if shape is None:
        raise ValueError("this task is trained on clips, not on precomputed latents: change data.kind")
    if isinstance(task, Align):
        flops = clips * task.encoder.flops(shape, TEXT_TOKENS)
        return Cost(3.0 * flops, BYTES_PER_ACTIVATION * flops / 200)  # two operations a value, a width of about 100
    assert isinstance(task, Autoencode)
    encode, decode = flops_per_pixel(task.vae)
    # Convolutions keep about as many values as a tenth of the multiply-adds of a 3x3 convolution at their width.
    return Cost(3 * clips * _pixels(shape) * (encode + decode), clips * _pixels(shape) * (encode + decode) / 100)


def _encode_flops(vae: VideoVAE) -> float:
    return flops_per_pixel(vae)[0]


def _pixels(shape: ClipShape) -> int:
    return shape.num_frames * shape.height * shape.width


def _build(experiment: Experiment) -> Task:
    config = experiment.task
    if isinstance(config, AutoencodeConfig):
        return Autoencode(config)
    if isinstance(config, AlignConfig):
        return Align(config)
    assert isinstance(config, TextToVideoConfig), "the others are described by themselves"
    return TextToVideo(config, build_vae(describe_vae(config.vae)))
