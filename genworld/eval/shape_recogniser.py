"""Which shape an object has: a small network that learns it from the world itself in under a minute.

One that was trained for longer, on scenes of several objects, comes with the package: `packaged_recogniser`. It sees
square cuttings around the object in brightness and colourfulness, no hue and no place, and its answers are averaged
over the frames. Its limits are those of the track it cuts along (see `palette` and `tracking`), and it always names the
likeliest shape: a blob gets a name too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

from genworld.eval.palette import track_object
from genworld.eval.tracking import Thing, find_things, grown
from genworld.ops.random import generator
from genworld.types import ClipShape
from genworld.world.clip import sample_clip
from genworld.world.layout import WorldConfig
from genworld.world.objects import SHAPES

_SIDE = 32  # pixels of a cutting
_MARGIN = 1.5  # side of a cutting against the longer side of the object
_FRINGE = 0.016  # shorter sides around other objects that still have something of their colour
PACKAGED = Path(__file__).with_name("shapes.safetensors")


class Seen(Protocol):
    """An object that was followed through a clip: a `Track` or a `Thing`."""

    @property
    def present(self) -> Bool[np.ndarray, " F"]:
        """Whether a frame shows it."""
        ...

    @property
    def masks(self) -> Bool[np.ndarray, "F H W"]:
        """Its pixels."""
        ...


class ShapeRecogniser(nn.Module):
    """Logits over `SHAPES` for cuttings of single frames."""

    def __init__(self, width: int = 32):
        super().__init__()
        widths = [2, width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(narrow, wide, 3, stride=2, padding=1) for narrow, wide in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, wide) for wide in widths[1:])
        self.mix = nn.Linear(16 * widths[-1], 128)
        self.out = nn.Linear(128, len(SHAPES))

    def forward(self, cuttings: Float[Tensor, "n 2 side side"]) -> Float[Tensor, "n shapes"]:
        """Logits; cuttings as from `cut_out`."""
        x = cuttings
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        return self.out(F.silu(self.mix(rearrange(x, "n c h w -> n (c h w)"))))


def cut_out(pixels: Float[Tensor, "3 F H W"], track: Seen) -> Float[Tensor, "n 2 side side"]:
    """Square cuttings around the object, one for each frame where it is present: brightness and colourfulness.

    Args:
        pixels: the clip of the track, in [-1, 1].
        track: from `track_object` or `find_things`.
    """
    frames = np.flatnonzero(track.present)
    if len(frames) == 0:
        return torch.zeros(0, 2, _SIDE, _SIDE)
    boxes = torch.tensor(np.array([_box(track.masks[frame]) for frame in frames]), dtype=torch.float32)
    grid = torch.linspace(-1, 1, _SIDE)
    x = boxes[:, 0, None, None] + boxes[:, 2, None, None] * grid
    y = boxes[:, 1, None, None] + boxes[:, 2, None, None] * grid[:, None]
    height, width = pixels.shape[2:]
    where = torch.stack(torch.broadcast_tensors(2 * x / width - 1, 2 * y / height - 1), dim=-1)
    images = rearrange(pixels.detach().float().cpu()[:, frames], "c f h w -> f c h w")
    colours = F.grid_sample(images, where, align_corners=False, padding_mode="border")
    return torch.stack([colours.mean(1), colours.amax(1) - colours.amin(1) - 1], dim=1)


def shape_evidence(
    model: ShapeRecogniser, pixels: Float[Tensor, "3 F H W"], things: Sequence[Thing]
) -> list[Float[np.ndarray, "F shapes"]]:
    """Log probabilities of `SHAPES` for each thing of a clip in each frame; NaN where it is absent."""
    evidence = [np.full((len(thing.present), len(SHAPES)), np.nan) for thing in things]
    cuttings = [cut_out(_alone(pixels, thing, things), thing) for thing in things]
    if things:
        with torch.no_grad():
            answers = model(torch.cat(cuttings)).log_softmax(-1).double().numpy()
        for table, thing, part in zip(
            evidence, things, np.split(answers, np.cumsum([len(c) for c in cuttings])[:-1]), strict=True
        ):
            table[thing.present] = part
    return evidence


@cache
def packaged_recogniser() -> ShapeRecogniser:
    """The network that comes with the package; `tools/train_shapes.py` makes it anew."""
    model = ShapeRecogniser()
    model.load_state_dict({name: value.float() for name, value in load_file(PACKAGED).items()})
    return model.eval().requires_grad_(False)


def recognise_shapes(model: ShapeRecogniser, clips: Sequence[Float[Tensor, "3 F H W"]]) -> list[str | None]:
    """The likeliest shape of each clip's object; None for clips without one."""
    return [_recognise(model, clip) for clip in clips]


def train_shape_recogniser(
    config: WorldConfig | None = None,
    seed: int = 0,
    num_clips: int = 800,
    num_steps: int = 300,
    several: bool = False,
) -> ShapeRecogniser:
    """Learn shapes from renders of single objects under a still camera, or of all that the world shows.

    Args:
        config: what the world looks like; without `several`, its numbers of objects, cameras and walls are not used.
        seed: decides the clips and everything else; the same seed gives the same network on the same machine.
        num_clips: clips to render, of two frames each.
        num_steps: optimiser steps on 64 cuttings.
        several: several objects in a scene, each cut out with the others painted over, as `shape_evidence` does.
    """
    cuttings, labels = (_crowd if several else _examples)(config or WorldConfig(), seed, num_clips)
    chance = generator(seed, "shape recogniser")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chance.initial_seed())
        model = ShapeRecogniser()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=num_steps)
    for _ in range(num_steps):
        batch = torch.randint(len(cuttings), (64,), generator=chance)
        loss = F.cross_entropy(model(_vary(cuttings[batch], chance)), labels[batch], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: ShapeRecogniser, config: WorldConfig, seed: int, num_clips: int = 300) -> float:
    """Part of the single frames of scenes of several objects in which the likeliest shape is right."""
    cuttings, labels = _crowd(config, seed, num_clips)
    return float((model(cuttings).argmax(-1) == labels).float().mean())


@torch.no_grad()
def _recognise(model: ShapeRecogniser, clip: Tensor) -> str | None:
    track = track_object(clip)
    if track.colour is None:
        return None
    return SHAPES[int(model(cut_out(clip, track)).log_softmax(-1).mean(0).argmax())]


def _examples(config: WorldConfig, seed: int, num_clips: int) -> tuple[Float[Tensor, "n 2 s s"], Int[Tensor, " n"]]:
    single = replace(config, min_objects=1, max_objects=1, cameras=("stand",), occluders=0.0)
    cuttings, labels = [], []
    for index in range(num_clips):
        made = sample_clip(generator(seed, "shape example", index).initial_seed(), single, ClipShape(2, 64, 64, 1.0))
        cut = cut_out(made.clip.pixels, track_object(made.clip.pixels))
        cuttings.append(cut)
        labels += [SHAPES.index(made.scene.objects[0].shape)] * len(cut)
    return torch.cat(cuttings), torch.tensor(labels)


def _crowd(config: WorldConfig, seed: int, num_clips: int) -> tuple[Float[Tensor, "n 2 s s"], Int[Tensor, " n"]]:
    """As `_examples`, from scenes of several objects, which their colours tell apart."""
    cuttings, labels = [], []
    for index in range(num_clips):
        made = sample_clip(generator(seed, "shape example", index).initial_seed(), config, ClipShape(3, 64, 64, 1.0))
        shapes = {thing.colour: thing.shape for thing in made.scene.objects if thing.shape != "wall"}
        things = find_things(made.clip.pixels)
        for thing in things:
            if thing.colour in shapes:
                cut = cut_out(_alone(made.clip.pixels, thing, things), thing)[~thing.cut[thing.present]]
                cuttings.append(cut)
                labels += [SHAPES.index(shapes[thing.colour])] * len(cut)
    return torch.cat(cuttings), torch.tensor(labels)


def _alone(pixels: Float[Tensor, "3 F H W"], thing: Thing, things: Sequence[Thing]) -> Float[Tensor, "3 F H W"]:
    """The clip with all other things painted over in the grey of the floor."""
    others = [other.masks for other in things if other is not thing]
    if not others:
        return pixels
    paint = torch.from_numpy(grown(np.logical_or.reduce(others), _FRINGE) & ~thing.masks)
    return torch.where(paint, pixels.median(), pixels)


def _vary(cuttings: Tensor, chance: torch.Generator) -> Tensor:
    """Change what says nothing about shape (mirror, size, place, light) and what generated ones lack (sharpness)."""
    count = len(cuttings)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=chance)

    mirror = torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    zoom, nothing = draw(0.85, 1.15), torch.zeros(count)
    moves = torch.stack([zoom * mirror, nothing, draw(-0.12, 0.12), nothing, zoom, draw(-0.12, 0.12)], dim=-1)
    grid = F.affine_grid(moves.view(-1, 2, 3), list(cuttings.shape), align_corners=False)
    moved = F.grid_sample(cuttings, grid, align_corners=False, padding_mode="border")
    blurred = F.avg_pool2d(moved, 3, stride=1, padding=1, count_include_pad=False)
    soft = torch.lerp(moved, blurred, draw(0, 1)[:, None, None, None])
    light = draw(0.8, 1.2)[:, None, None, None]
    return soft * light + 0.05 * torch.randn(soft.shape, generator=chance)


def _box(mask: np.ndarray) -> tuple[float, float, float]:
    """Centre (x, y) and half side in pixels of the square around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    half = _MARGIN * max(bottom - top, right - left) / 2
    return (left + right) / 2, (top + bottom) / 2, half
