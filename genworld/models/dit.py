"""The video diffusion transformer: the block of Wan 2.1 (Wan Team 2025) over packed tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genworld.models.condition import RAY_WIDTH, PackedText, PackedVideo
from genworld.nn.attention import CrossAttention, SelfAttention
from genworld.nn.embed import LevelEmbedding, RayEmbedding
from genworld.nn.mlp import MLP, Activation
from genworld.nn.modulation import LevelRuns, add_gated, find_runs, modulate
from genworld.nn.norm import LayerNorm, layer_norm
from genworld.ops.attention import BackendChoice, CrossSegments, SelfSegments
from genworld.ops.precision import without_autocast
from genworld.ops.rope import rope_table

HEAD_WIDTHS = (16, 32, 64, 128)
"""Attention kernels pad other widths to the next of these; use 64 or 128, the smaller ones are for tiny models."""


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Size and options of the transformer.

    Attributes:
        width: features of a token.
        depth: number of blocks.
        num_heads: attention heads; width / num_heads must be 64 or 128 (16 or 32 for tiny models).
        mlp_width: hidden features of the MLPs; four times the width if not given.
        activation: of the MLPs; Wan's weights need "gelu_tanh".
        theta: base of the rotary frequencies.
        eps: of all normalisations.
        attention: attention kernel.
        checkpointing: recompute blocks in the backward pass instead of storing what they made.
        camera: whether tokens may come with their viewing rays, which show the path of the camera.
    """

    width: int = 384
    depth: int = 8
    num_heads: int = 6
    mlp_width: int | None = None
    activation: Activation = "gelu_tanh"
    theta: float = 10_000.0
    eps: float = 1e-6
    attention: BackendChoice = "auto"
    checkpointing: bool = False
    camera: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.num_heads) < 1:
            raise ValueError(f"width, depth and num_heads must be positive, got {self}")
        if self.width % self.num_heads or self.width // self.num_heads not in HEAD_WIDTHS:
            better = [self.width // w for w in HEAD_WIDTHS if self.width % w == 0]
            raise ValueError(
                f"width {self.width} over {self.num_heads} heads is a head width of {self.width / self.num_heads:g}; "
                f"kernels want one of {HEAD_WIDTHS}: "
                + (f"use {better} heads" if better else f"make the width a multiple of {HEAD_WIDTHS[0]}")
            )

    @property
    def head_width(self) -> int:
        """Features per head."""
        return self.width // self.num_heads

    @property
    def hidden_width(self) -> int:
        """Hidden features of the MLPs."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width


@dataclass(frozen=True)
class BlockContext:
    """What all blocks of a forward pass share.

    Attributes:
        text: projected text features.
        modulation: shift, scale, gate of attention, then of the MLP, per different noise level.
        runs: which tokens have which level.
        rope: cosines and sines of the tokens' positions.
        self_mask: videos.
        cross_mask: videos and their texts.
    """

    text: Float[Tensor, "S D"]
    modulation: Float[Tensor, "M 6 D"]
    runs: LevelRuns
    rope: tuple[Float[Tensor, "L half"], Float[Tensor, "L half"]]
    self_mask: SelfSegments
    cross_mask: CrossSegments


class Block(nn.Module):
    """Modulated self-attention, plain cross-attention to the text, modulated MLP."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width, eps = config.width, config.eps
        self.eps = eps
        self.modulation = nn.Parameter(torch.zeros(6, width))
        self.self_attention = SelfAttention(width, config.num_heads, config.attention, eps)
        self.cross_norm = LayerNorm(width, eps)
        self.cross_attention = CrossAttention(width, config.num_heads, config.attention, eps)
        self.mlp = MLP(width, config.hidden_width, width, config.activation)

    def forward(self, x: Float[Tensor, "L D"], context: BlockContext) -> Float[Tensor, "L D"]:
        """Update the tokens."""
        table = (self.modulation.float() + context.modulation).unbind(1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = table
        runs, dtype = context.runs, x.dtype
        y = modulate(layer_norm(x, self.eps), shift, scale, runs).to(dtype)
        x = add_gated(x, self.self_attention(y, context.rope, context.self_mask), gate, runs)
        y = self.cross_norm(x).to(dtype)
        x = x + self.cross_attention(y, context.text, context.cross_mask)
        y = modulate(layer_norm(x, self.eps), mlp_shift, mlp_scale, runs).to(dtype)
        return add_gated(x, self.mlp(y), mlp_gate, runs)


class Head(nn.Module):
    """Modulated norm and projection to patches."""

    def __init__(self, config: DiTConfig, patch_width: int) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = nn.Parameter(torch.zeros(2, config.width))
        self.out = nn.Linear(config.width, patch_width)

    def forward(self, x: Float[Tensor, "L D"], level: Float[Tensor, "M D"], runs: LevelRuns) -> Float[Tensor, "L P"]:
        """Patches from tokens; `level` embeds the different noise levels."""
        shift, scale = (self.modulation.float() + level[:, None]).unbind(1)
        return self.out(modulate(layer_norm(x, self.eps), shift, scale, runs).to(x.dtype))


class VideoDiT(nn.Module):
    """Predicts the velocity of every token of a pack of videos, given their texts.

    Args:
        config: size and options.
        latent_channels: channels of the VAE's latents.
        patch: side of a patch.
        text_width: features of the text encoder.
    """

    def __init__(self, config: DiTConfig, latent_channels: int, patch: int, text_width: int) -> None:
        super().__init__()
        self.config = config
        self.patch = patch
        self.patch_width = latent_channels * patch**2
        self.text_width = text_width
        self.patch_in = nn.Linear(self.patch_width, config.width)
        self.text_in = MLP(text_width, config.width, config.width)
        self.level_in = LevelEmbedding(config.width)
        self.modulation = nn.Linear(config.width, 6 * config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = Head(config, self.patch_width)
        self.camera_in = RayEmbedding(config.width) if config.camera else None
        self.camera_change_in = RayEmbedding(config.width) if config.camera else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise: every block starts as the identity and the output as zero (Peebles and Xie 2023, section 3.2)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        zero: list[nn.Linear] = [self.modulation, self.head.out]
        zero += [embedding.out for embedding in (self.camera_in, self.camera_change_in) if embedding is not None]
        for block in self.blocks:
            assert isinstance(block, Block)
            zero.append(block.cross_attention.out)  # has no gate that could start at zero
        for linear in zero:
            nn.init.zeros_(linear.weight)

    def forward(self, video: PackedVideo, text: PackedText) -> Float[Tensor, "L P"]:
        """Velocity (noise - data) of every token, as patches.

        Raises:
            ValueError: the numbers of videos and texts differ, features do not have the widths this was built for, or
                there are rays and this was built without a camera.
        """
        self._check(video, text)
        levels, runs = find_runs(video.levels)
        level = self.level_in(levels)
        dtype = self.patch_in.weight.dtype
        with without_autocast(level):
            modulation = self.modulation(F.silu(level)).float().unflatten(-1, (6, -1))
        context = BlockContext(
            text=self.text_in(text.features.to(dtype)),
            modulation=modulation,
            runs=runs,
            rope=rope_table(video.positions, self.config.head_width, self.config.theta),
            self_mask=SelfSegments(video.segments),
            cross_mask=CrossSegments(video.segments, text.segments),
        )
        # The residual stream has the type of the weights, also under autocast: adding many small updates needs it.
        x = self.patch_in(video.tokens.to(dtype)).to(dtype)
        if self.camera_in is not None and self.camera_change_in is not None:
            # Also where no ray is known, which adds nothing: the weights then belong to every step, as DDP wants it.
            rays = x.new_zeros(len(x), RAY_WIDTH) if video.rays is None else video.rays
            ray, change, known = rays.split((6, 6, 1), dim=-1)
            x = x + self.camera_in(torch.cat((ray, known), -1)).to(dtype)
            x = x + self.camera_change_in(torch.cat((change, known), -1)).to(dtype)
        for block in self.blocks:
            if self.config.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, context, use_reentrant=False)
            else:
                x = block(x, context)
        return self.head(x, level.float(), runs)

    def compile_blocks(self) -> None:
        """Compile every block in place; one compilation serves all, at any number of tokens."""
        for block in self.blocks:
            block.compile(dynamic=True)

    def flops(self, video_lengths: Sequence[int], text_lengths: Sequence[int]) -> int:
        """Floating-point operations of one forward pass, two per multiply-add; a training step costs three times that.

        Matrix products only, one noise level per video.

        Args:
            video_lengths: tokens per video.
            text_lengths: tokens per text.
        """
        width, hidden = self.config.width, self.config.hidden_width
        tokens, words, videos = sum(video_lengths), sum(text_lengths), len(video_lengths)
        scores = sum(n * (n + m) for n, m in zip(video_lengths, text_lengths, strict=True))
        block = tokens * width * (6 * width + 2 * hidden) + words * 2 * width**2 + 2 * scores * width
        ends = 2 * tokens * width * self.patch_width + words * width * (self.text_width + width)
        if self.camera_in is not None:
            ends += 2 * tokens * self.camera_in.out.in_features * width
        level = videos * width * (self.level_in.num_sinusoids + width + 6 * width)
        return 2 * (self.config.depth * block + ends + level)

    def _check(self, video: PackedVideo, text: PackedText) -> None:
        if len(video) != len(text):
            raise ValueError(f"{len(video)} videos need as many texts, got {len(text)}")
        if video.tokens.shape[-1] != self.patch_width or text.features.shape[-1] != self.text_width:
            raise ValueError(
                f"built for patches of {self.patch_width} and text of {self.text_width} features, "
                f"got {video.tokens.shape[-1]} and {text.features.shape[-1]}"
            )
        if video.rays is None:
            return
        if self.camera_in is None:
            raise ValueError("this model was trained without cameras: leave the camera out, or train with camera: true")
        if video.rays.shape != (video.segments.total, RAY_WIDTH):
            raise ValueError(
                f"{video.segments.total} tokens need rays of {RAY_WIDTH} features each, got {tuple(video.rays.shape)}"
            )
