"""Training steps of our video transformer against diffusers' Wan of the same size, on the same clips.

Forward and backward pass, bfloat16 autocast, the same numbers of weights. On equal shapes both see the same tokens; of
eight different shapes the reference must pad time, height, width and text to the largest and mask its loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genworld.models.condition import PackedText, Piece, pack_video
from genworld.models.dit import DiTConfig, VideoDiT
from genworld.ops.ragged import pack
from genworld.types import TokenGrid

CHANNELS, TEXT_WIDTH = 16, 256
GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
EQUAL = [(5, 16, 16)] * 8
MIX = [(1, 16, 16), (1, 12, 16), (2, 16, 16), (3, 16, 12), (3, 8, 16), (5, 8, 8), (5, 12, 16), (5, 16, 16)]
ROUNDS = 5


@dataclass(frozen=True)
class Batch:
    """Clips of given latent shapes with captions and noise levels."""

    latents: list[Tensor]
    levels: list[Tensor]
    texts: list[Tensor]


def run() -> list[dict]:
    """Measure both cases."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = (
        DiTConfig(width=1024, depth=12, num_heads=8) if device == "cuda" else DiTConfig(width=256, depth=4, num_heads=4)
    )
    ours, theirs = build_ours(config).to(device), build_theirs(config).to(device)
    assert count_weights(ours) == count_weights(theirs), "speeds compare only between networks of one size"
    # On a GPU small grids would measure the launching of kernels: four times the height and width.
    scale = 4 if device == "cuda" else 1
    return [
        measure(name, ours, theirs, make_batch(shapes, words, scale, device), target)
        for name, shapes, words, target in (
            ("dit: equal shapes", EQUAL, [16] * 8, 1.0),
            ("dit: mix of eight shapes", MIX, [4, 6, 8, 10, 12, 16, 20, 24], 2.0),
        )
    ]


def build_ours(config: DiTConfig) -> VideoDiT:
    """Our transformer."""
    return VideoDiT(config, CHANNELS, GRID.patch, TEXT_WIDTH)


def build_theirs(config: DiTConfig) -> Any:
    """The reference at the same size."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, GRID.patch, GRID.patch),
        num_attention_heads=config.num_heads,
        attention_head_dim=config.head_width,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT_WIDTH,
        ffn_dim=config.hidden_width,
        num_layers=config.depth,
    )


def count_weights(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


def make_batch(shapes: Sequence[tuple[int, int, int]], words: Sequence[int], scale: int, device: str) -> Batch:
    """Random clips."""
    latents = [torch.randn(CHANNELS, t, h * scale, w * scale, device=device) for t, h, w in shapes]
    texts = [torch.randn(n, TEXT_WIDTH, device=device) for n in words]
    return Batch(latents, list(torch.rand(len(shapes), device=device)), texts)


def our_step(model: nn.Module, batch: Batch) -> None:
    """Pack, run, differentiate."""
    video = pack_video([[Piece(x, level, 16.0)] for x, level in zip(batch.latents, batch.levels, strict=True)], GRID)
    text = PackedText(*pack(batch.texts))
    with torch.autocast(video.tokens.device.type, torch.bfloat16):
        out = model(video, text)
    F.mse_loss(out.float(), torch.zeros_like(video.tokens)).backward()
    model.zero_grad()


def their_step(model: nn.Module, batch: Batch) -> None:
    """Pad, run, differentiate what is not padding."""
    size = [max(x.shape[axis] for x in batch.latents) for axis in (1, 2, 3)]
    video = torch.stack([_pad(x, [x.shape[0], *size]) for x in batch.latents])
    keep = torch.stack([_pad(torch.ones_like(x), [x.shape[0], *size]) for x in batch.latents])
    words = max(len(x) for x in batch.texts)
    text = torch.stack([_pad(x, [words, x.shape[1]]) for x in batch.texts])
    with torch.autocast(video.device.type, torch.bfloat16):
        out = model(video, 1000 * torch.stack(batch.levels), text, return_dict=False)[0]
    ((out.float() * keep).square().sum() / keep.sum()).backward()
    model.zero_grad()


def measure(name: str, ours: nn.Module, theirs: nn.Module, batch: Batch, target: float) -> dict:
    """Steps per second of both, taking turns; medians after one step of warm-up each."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS + 1):
        seconds["ours"].append(_clock(lambda: our_step(ours, batch), batch))
        seconds["theirs"].append(_clock(lambda: their_step(theirs, batch), batch))
    mine, reference = (1 / median(seconds[key][1:]) for key in ("ours", "theirs"))
    second = "s" if batch.latents[0].is_cuda else "cpu-s"
    return {
        "name": name,
        "ours": mine,
        "reference": reference,
        "ratio": mine / reference,
        "unit": f"train steps/{second}, {count_weights(ours) / 1e6:.2f} M weights each",
        "target": f">= {target}",
        "holds": mine / reference >= target,
    }


def _clock(step: Callable[[], None], batch: Batch) -> float:
    if not batch.latents[0].is_cuda:  # cpu seconds do not count what else runs on the machine
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def _pad(x: Tensor, shape: Sequence[int]) -> Tensor:
    missing = [n - m for n, m in zip(shape, x.shape, strict=True)]
    return F.pad(x, [size for n in reversed(missing) for size in (0, n)])
