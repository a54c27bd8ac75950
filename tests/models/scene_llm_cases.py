"""Tiny scenes, turns and language models for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from genworld.models.connectors import (
    ConnectorConfig,
    LinearConfig,
    NormConfig,
    ObjectQueriesConfig,
    PlacesConfig,
    Positions3DConfig,
    QFormerConfig,
)
from genworld.models.llm import LLMConfig, OwnLLMConfig
from genworld.models.scene_llm import SceneLLM, SceneLLMConfig
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.types import PointSet, SceneBox, Turn

FEATURES = 12
CONNECTOR = ConnectorConfig(
    parts=(
        Positions3DConfig(style="fourier"),
        QFormerConfig(width=16, depth=2, num_heads=2, num_queries=4),
        LinearConfig(),
    ),
    limit=50,
)
OWN = OwnLLMConfig(width=32, depth=2, num_heads=2, vocabulary=400)
PART = ObjectQueriesConfig(width=16, depth=2, num_heads=2, num_queries=6, neighbours=8)
TEXTS = (
    ("How many chairs are there?", "3"),
    ("I stand at <loc3><loc200><loc17>, facing the bed. What is behind me, and what colour has it?", "a red sofa"),
    ("Where is the lamp?", "<loc1><loc2><loc3><loc40><loc50><loc60>"),
    ("Describe the room.", "There is a red chair, a lamp and 3 beds by <loc9><loc9><loc0>."),
)


def make_points(count: int, seed: int) -> PointSet:
    chance = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=chance) * 6
    return PointSet(
        torch.randn(count, FEATURES, generator=chance),
        points,
        torch.rand(count, 3, generator=chance),
        (points / 6 * 256).long(),
    )


def make_turns(count: int = 8) -> list[Turn]:
    turns = []
    for i in range(count):
        prompt, answer = TEXTS[i % len(TEXTS)]
        history = ("Is there a sofa?", "yes", "And a lamp?", "no") if i % 3 == 0 else ()
        turns.append(Turn(i, f"room{i}", make_points(3 + 7 * i, i), history, prompt, answer, "qa", f"q{i}"))
    return turns


def make_model(llm: LLMConfig = OWN, fit: bool = True) -> SceneLLM:
    torch.manual_seed(0)
    model = SceneLLM(SceneLLMConfig(connector=CONNECTOR, llm=llm), FEATURES).eval()
    if fit and isinstance(llm, OwnLLMConfig):
        model.fit_tokenizer([text for pair in TEXTS for text in pair] + ["yes", "no"])
    return model


def furnished(seed: int = 0) -> tuple[PointSet, tuple[SceneBox, ...]]:
    """Three cubes of points whose features say what they are, over a floor of points."""
    chance = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[0.5, 0.5, 0.0], [3.0, 1.0, 0.0], [1.5, 3.5, 0.5]])
    looks = torch.eye(FEATURES)[torch.tensor([1, 2, 3])]
    things = [corner + torch.rand(20, 3, generator=chance) for corner in corners]
    floor = torch.rand(20, 3, generator=chance) * torch.tensor([5.0, 5.0, 0.01]) - torch.tensor([0.0, 0.0, 0.3])
    points = torch.cat([*things, floor])
    features = torch.cat([looks.repeat_interleave(20, 0), torch.eye(FEATURES)[[0]].expand(20, -1)])
    voxels = ((points + 1) / 8 * 256).long()
    labels = ("red chair", "lamp", "sofa")
    known = tuple(SceneBox(name, i, corners[i], corners[i] + 1) for i, name in enumerate(labels))
    return PointSet(features, points, torch.full((80, 3), 0.5), voxels), known


def make_task(llm: LLMConfig = OWN, **settings: Any) -> Converse:
    torch.manual_seed(0)
    config = SceneLLMConfig(connector=ConnectorConfig(parts=(NormConfig(), PART, PlacesConfig())), llm=llm)
    task = Converse(ConverseConfig(model=config, **settings), SceneLLM(config, FEATURES))
    task.model.fit_tokenizer(["red chair", "lamp", "sofa", "how many chairs are there?", "1", "2"])
    return task


def furnished_turns(count: int) -> list[Turn]:
    scenes = [furnished(seed) for seed in range(count)]
    return [
        Turn(i, f"room{i}", points, (), "How many chairs are there?", "1", "count", f"q{i}", known)
        for i, (points, known) in enumerate(scenes)
    ]


def save_llm(folder: Path, kind: str) -> Path:
    """A tiny random language model with a byte-level tokenizer, as transformers saves them."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {"<pad>": 0, "</s>": 1, "<s>": 2}
    vocabulary |= {byte: 3 + i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if kind != "t5":
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", bos_token="<s>"
    ).save_pretrained(folder)
    torch.manual_seed(1)
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    small = {"vocab_size": 264, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, **ids}
    network: transformers.PreTrainedModel
    if kind in ("llama", "tied"):
        config = transformers.LlamaConfig(
            **small, intermediate_size=32, tie_word_embeddings=kind == "tied", initializer_range=0.3
        )
        network = transformers.LlamaForCausalLM(config)
    elif kind == "opt":
        config = transformers.OPTConfig(
            **small, ffn_dim=32, max_position_embeddings=512, word_embed_proj_dim=16, init_std=0.3
        )
        network = transformers.OPTForCausalLM(config)
    else:
        config = transformers.T5Config(
            vocab_size=264,
            d_model=16,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            pad_token_id=0,
            eos_token_id=1,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            initializer_factor=1.0,
        )
        network = transformers.T5ForConditionalGeneration(config)
        network.lm_head.weight.data[1] = 0.0  # else it ends at once
    network.save_pretrained(folder)
    return folder
