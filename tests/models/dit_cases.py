"""A tiny transformer and inputs for it, shared by the tests of this folder."""

import torch

from genworld.models.condition import PackedText, Piece, pack_video
from genworld.models.dit import DiTConfig, VideoDiT
from genworld.ops.ragged import pack
from genworld.types import TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)
CHANNELS, TEXT_WIDTH = 4, 24
SHAPES = [(3, 4, 6), (1, 8, 4), (3, 4, 6), (2, 2, 2)]
FPS = [16.0, 24.0, 8.0, 16.0]


def tiny_dit(seed=0, **options):
    """Random weights everywhere: a fresh model's zeros would hide most mistakes."""
    torch.manual_seed(seed)
    config = {"width": 64, "depth": 2, "num_heads": 2, "mlp_width": 96, **options}
    model = VideoDiT(DiTConfig(**config), CHANNELS, GRID.patch, TEXT_WIDTH)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15 if parameter.ndim > 1 else 0.3)
    return model


def inputs(seed=0, shapes=SHAPES, words=(5, 3, 1, 7)):
    generator = torch.Generator().manual_seed(seed)
    latents = [torch.randn(CHANNELS, *shape, generator=generator) for shape in shapes]
    levels = list(torch.rand(len(shapes), generator=generator))
    texts = [torch.randn(n, TEXT_WIDTH, generator=generator) for n in words[: len(shapes)]]
    return latents, levels, texts


def condition(latents, levels, texts, fps=FPS):
    pieces = [[Piece(*each)] for each in zip(latents, levels, fps, strict=False)]
    return pack_video(pieces, GRID), PackedText(*pack(texts))
