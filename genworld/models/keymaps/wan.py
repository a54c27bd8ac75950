"""Wan 2.1 and 2.2 text-to-video transformers: diffusers' names and the original ones.

Wan attends to its text padded with zero vectors to 512 tokens; pass such features to sample exactly as it does.
"""

from __future__ import annotations

from collections.abc import Iterable

from genworld.models.dit import DiTConfig
from genworld.models.weights import Join, Permute, Rename, Rule

WAN_1_3B = DiTConfig(width=1536, depth=30, num_heads=12, mlp_width=8960)
WAN_5B = DiTConfig(width=3072, depth=30, num_heads=24, mlp_width=14336)
WAN_14B = DiTConfig(width=5120, depth=40, num_heads=40, mlp_width=13824)


def diffusers_rules(patch: int) -> list[Rule]:
    """Names of `diffusers.WanTransformer3DModel`."""
    return [
        *_patches("patch_embedding", "proj_out", patch),
        Permute("scale_shift_table", "head.modulation", "1 two d -> two d"),
        *_linear("condition_embedder.time_embedder.linear_1", "level_in.up"),
        *_linear("condition_embedder.time_embedder.linear_2", "level_in.down"),
        *_linear("condition_embedder.time_proj", "modulation"),
        *_linear("condition_embedder.text_embedder.linear_1", "text_in.up"),
        *_linear("condition_embedder.text_embedder.linear_2", "text_in.down"),
        Permute("blocks.*.scale_shift_table", "blocks.*.modulation", "1 six d -> six d"),
        *_linear("blocks.*.norm2", "blocks.*.cross_norm"),
        *_linear("blocks.*.ffn.net.0.proj", "blocks.*.mlp.up"),
        *_linear("blocks.*.ffn.net.2", "blocks.*.mlp.down"),
        *_attention("blocks.*.attn1", "blocks.*.attn2", ("to_q", "to_k", "to_v", "to_out.0")),
    ]


def original_rules(patch: int) -> list[Rule]:
    """Names of the original releases."""
    return [
        *_patches("patch_embedding", "head.head", patch),
        Permute("head.modulation", "head.modulation", "1 two d -> two d"),
        *_linear("time_embedding.0", "level_in.up"),
        *_linear("time_embedding.2", "level_in.down"),
        *_linear("time_projection.1", "modulation"),
        *_linear("text_embedding.0", "text_in.up"),
        *_linear("text_embedding.2", "text_in.down"),
        Permute("blocks.*.modulation", "blocks.*.modulation", "1 six d -> six d"),
        *_linear("blocks.*.norm3", "blocks.*.cross_norm"),
        *_linear("blocks.*.ffn.0", "blocks.*.mlp.up"),
        *_linear("blocks.*.ffn.2", "blocks.*.mlp.down"),
        *_attention("blocks.*.self_attn", "blocks.*.cross_attn", ("q", "k", "v", "o")),
    ]


def wan_rules(names: Iterable[str], patch: int) -> list[Rule]:
    """The rules for weights with these names."""
    is_diffusers = any(name.startswith("condition_embedder.") for name in names)
    return diffusers_rules(patch) if is_diffusers else original_rules(patch)


def _linear(theirs: str, ours: str) -> list[Rule]:
    return [Rename(f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias")]


def _patches(embedding: str, out: str, patch: int) -> list[Rule]:
    sizes = {"t": 1, "p": patch, "q": patch}
    return [
        Permute(f"{embedding}.weight", "patch_in.weight", "d c t p q -> d (c t p q)", sizes),
        Rename(f"{embedding}.bias", "patch_in.bias"),
        # Wan's output lists the channels of a patch last, its input first; ours are first in both.
        Permute(f"{out}.weight", "head.out.weight", "(t p q c) d -> (c t p q) d", sizes),
        Permute(f"{out}.bias", "head.out.bias", "(t p q c) -> (c t p q)", sizes),
    ]


def _attention(self_name: str, cross_name: str, names: tuple[str, str, str, str]) -> list[Rule]:
    q, k, v, out = names
    rules: list[Rule] = []
    for kind in ("weight", "bias"):
        parts = tuple(f"{self_name}.{part}.{kind}" for part in (q, k, v))
        rules.append(Join(parts, f"blocks.*.self_attention.qkv.{kind}"))
        parts = tuple(f"{cross_name}.{part}.{kind}" for part in (k, v))
        rules.append(Join(parts, f"blocks.*.cross_attention.kv.{kind}"))
    rules += _linear(f"{cross_name}.{q}", "blocks.*.cross_attention.q")
    for theirs, ours in ((self_name, "blocks.*.self_attention"), (cross_name, "blocks.*.cross_attention")):
        rules += _linear(f"{theirs}.{out}", f"{ours}.out")
        rules += [Rename(f"{theirs}.{norm}.weight", f"{ours}.{norm}.weight") for norm in ("norm_q", "norm_k")]
    return rules
