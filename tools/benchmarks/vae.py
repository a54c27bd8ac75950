"""The causal autoencoder against Wan's: floating-point operations, seconds, and memory of long clips."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genworld.models.vae import CausalVAE, CausalVAEConfig, DiffusersVAE, VideoVAE, flops_per_pixel
from genworld.models.vae_diffusers import DiffusersWanVAE

SMALL = CausalVAEConfig(patch=4, patch_frames=2, widths=(64, 128), encoder_blocks=(1, 2), decoder_blocks=(2, 2))
"""A network for two CPU cores, by which memory is measured."""


def run() -> list[dict[str, Any]]:
    """Every measurement: ours, the reference's, and whether the target holds."""
    return [*_flops(), *_seconds(), *_memory()]


def _wan() -> DiffusersVAE:
    from diffusers import AutoencoderKLWan

    return DiffusersWanVAE(AutoencoderKLWan())


def _flops() -> Iterator[dict[str, Any]]:
    with torch.device("meta"):
        ours, reference = flops_per_pixel(CausalVAE(CausalVAEConfig())), flops_per_pixel(_wan())
    for name, mine, other in zip(("encode", "decode"), ours, reference, strict=True):
        yield _row(f"{name} FLOPs", mine / 1e6, other / 1e6, "MFLOP/pixel", "<= 0.5", mine <= 0.5 * other)


@torch.no_grad()
def _seconds(frames: int = 17, size: int = 128, repeats: int = 2) -> Iterator[dict[str, Any]]:
    """One clip at default widths in bfloat16; interleaved, so that both meet the same machine. No target was set."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pixels = torch.rand(1, 3, frames, size, size, device=device) * 2 - 1
    vaes: tuple[VideoVAE, ...] = (CausalVAE(CausalVAEConfig()).to(device), _wan().to(device))
    latents = [vae.encode(pixels).mean for vae in vaes]
    for name in ("encode", "decode"):
        inputs = [pixels, pixels] if name == "encode" else latents
        taken: tuple[list[float], list[float]] = ([], [])
        with torch.autocast(device.type, torch.bfloat16):
            for _ in range(repeats + 1):
                for vae, x, times in zip(vaes, inputs, taken, strict=True):
                    times.append(_time(getattr(vae, name), x))
        ours, reference = (statistics.median(times[1:]) for times in taken)  # the first one warms up
        unit = "s, default widths, bf16" if device.type == "cuda" else "cpu-s, default widths, bf16"
        yield _row(f"{name} {frames}x{size}x{size}", ours, reference, unit, "none set", True)


def _time(function: Callable[[Tensor], Any], x: Tensor) -> float:
    """Seconds of a call: of the processor where it does the work, for other processes may share it."""
    if x.is_cuda:
        torch.cuda.synchronize()
        start = time.perf_counter()
        function(x)
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    function(x)
    return time.process_time() - start


def _memory(lengths: tuple[int, ...] = (33, 129, 1025)) -> Iterator[dict[str, Any]]:
    """Peak memory of processes that decode clips of several lengths, four latent frames at a time."""
    context = multiprocessing.get_context("spawn")
    peaks = []
    for frames in lengths:
        with context.Pool(1) as pool:
            peaks.append(pool.apply(decode_long_clip, (frames,)))
    for frames, peak in zip(lengths[1:], peaks[1:], strict=True):
        name = f"peak memory, {frames} against {lengths[0]} frames"
        yield _row(name, peak, peaks[0], "MiB", "<= 1.05", peak <= 1.05 * peaks[0])


@torch.no_grad()
def decode_long_clip(num_frames: int, size: int = 128) -> float:
    """Decode a clip as a stream and return the peak memory of this process, in MiB."""
    vae = CausalVAE(SMALL).eval()
    cells = size // vae.space_stride
    count = 1 + (num_frames - 1) // vae.time_stride
    latents = (torch.randn(1, vae.latent_channels, min(4, count - i), cells, cells) for i in range(0, count, 4))
    decoded = sum(pixels.shape[2] for pixels in vae.decode_stream(latents))
    assert decoded == num_frames, f"decoded {decoded} of {num_frames} frames"
    # Linux only; getrusage would count the memory of the process that this one was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def _row(name: str, ours: float, reference: float, unit: str, target: str, holds: bool) -> dict[str, Any]:
    return {
        "name": f"vae: {name}",
        "ours": ours,
        "reference": reference,
        "ratio": ours / reference,
        "unit": unit,
        "target": target,
        "holds": holds,
    }
