"""Checkpoints of LAVIS against a Q-Former written out from its published names, and against one renamed by hand."""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from genworld.models.lavis import load_language_model, load_qformer, read_checkpoint

LAYERS, WIDTH, HEADS, POINTS, OUT, QUERIES = 4, 16, 2, 12, 10, 5


def make_qformer(layers: int = LAYERS) -> nn.Module:
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    return Blip2QFormerModel(
        Blip2QFormerConfig(
            hidden_size=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            intermediate_size=32,
            encoder_hidden_size=POINTS,
            cross_attention_frequency=2,
        )
    ).eval()


def published(projection: str = "t5_proj") -> dict[str, Tensor]:
    """Random tensors under the names of LAVIS, with what its checkpoints hold beside."""
    random = torch.Generator().manual_seed(0)

    def linear(name: str, rows: int, columns: int) -> dict[str, Tensor]:
        weight = torch.randn(rows, columns, generator=random) / math.sqrt(columns)
        return {f"{name}.weight": weight, f"{name}.bias": torch.randn(rows, generator=random) / 10}

    def norm(name: str) -> dict[str, Tensor]:
        return {
            f"{name}.weight": 1 + torch.randn(WIDTH, generator=random) / 10,
            f"{name}.bias": torch.randn(WIDTH, generator=random) / 10,
        }

    state = {"query_tokens": torch.randn(1, QUERIES, WIDTH, generator=random)}
    state |= norm("Qformer.bert.embeddings.LayerNorm")
    for i in range(LAYERS):
        layer = f"Qformer.bert.encoder.layer.{i}"
        for block in ("attention", "crossattention") if i % 2 == 0 else ("attention",):
            inner = POINTS if block == "crossattention" else WIDTH
            state |= linear(f"{layer}.{block}.self.query", WIDTH, WIDTH)
            state |= linear(f"{layer}.{block}.self.key", WIDTH, inner)
            state |= linear(f"{layer}.{block}.self.value", WIDTH, inner)
            state |= linear(f"{layer}.{block}.output.dense", WIDTH, WIDTH)
            state |= norm(f"{layer}.{block}.output.LayerNorm")
        state |= linear(f"{layer}.intermediate_query.dense", 32, WIDTH)
        state |= linear(f"{layer}.output_query.dense", WIDTH, 32)
        state |= norm(f"{layer}.output_query.LayerNorm")
    return state | linear(projection, OUT, WIDTH)


def beside() -> dict[str, Tensor]:
    """What a checkpoint holds that points do not use."""
    return {
        "visual_encoder.blocks.0.attn.qkv.weight": torch.zeros(2),
        "ln_vision.weight": torch.zeros(2),
        "Qformer.cls.predictions.bias": torch.zeros(2),
        "Qformer.bert.embeddings.position_ids": torch.zeros(1, 2),
        "Qformer.bert.encoder.layer.0.output.dense.weight": torch.zeros(2),
        "pos_embedding": torch.zeros(2),
    }


def reference(state: dict[str, Tensor], points: Tensor) -> Tensor:
    """BLIP-2's Q-Former, written out: BERT with its norms behind, and points attended to in every second layer."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-12)

    def attend(name: str, x: Tensor, memory: Tensor) -> Tensor:
        q, k, v = (
            linear(f"{name}.self.{which}", source).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for which, source in (("query", x), ("key", memory), ("value", memory))
        )
        weights = (q @ k.mT / math.sqrt(WIDTH // HEADS)).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        return norm(f"{name}.output.LayerNorm", linear(f"{name}.output.dense", mixed) + x)

    x = norm("Qformer.bert.embeddings.LayerNorm", state["query_tokens"].expand(len(points), -1, -1))
    for i in range(LAYERS):
        layer = f"Qformer.bert.encoder.layer.{i}"
        x = attend(f"{layer}.attention", x, x)
        if i % 2 == 0:
            x = attend(f"{layer}.crossattention", x, points)
        up = F.gelu(linear(f"{layer}.intermediate_query.dense", x))
        x = norm(f"{layer}.output_query.LayerNorm", linear(f"{layer}.output_query.dense", up) + x)
    return linear("t5_proj", x)


def renamed_by_hand(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in state.items():
        if name.startswith("Qformer."):
            name = name.replace("Qformer.bert.embeddings.LayerNorm", "layernorm").replace("Qformer.bert.", "")
            found[re.sub(r"attention\.self\.", "attention.attention.", name)] = tensor
    return found


def test_arithmetic_is_that_of_the_published_names(tmp_path: Path) -> None:
    state = published()
    torch.save({"model": state | beside(), "epoch": 3, "config": {"run": {"lr": 1e-4}}}, tmp_path / "a.pth")
    qformer, queries, projection = make_qformer(), nn.Parameter(torch.zeros(1, QUERIES, WIDTH)), nn.Linear(WIDTH, OUT)
    report = load_qformer(read_checkpoint(tmp_path / "a.pth"), qformer, queries, projection)
    assert report.is_complete
    assert set(report.used) == set(state)
    assert {name for names in report.ignored.values() for name in names} == set(beside())
    points = torch.randn(3, 7, POINTS)
    with torch.no_grad():
        hidden = qformer(queries.expand(3, -1, -1), encoder_hidden_states=points).last_hidden_state
        torch.testing.assert_close(projection(hidden), reference(state, points), atol=2e-5, rtol=1e-4)
        twin = make_qformer()
        twin.load_state_dict(renamed_by_hand(state))
        assert torch.equal(twin(queries.expand(3, -1, -1), encoder_hidden_states=points).last_hidden_state, hidden)


def test_report_names_every_key() -> None:
    state = published("opt_proj")
    state["Qformer.bert.encoder.layer.9.attention.self.query.weight"] = torch.zeros(WIDTH, WIDTH)
    state["surprise"] = torch.zeros(2)
    del state["Qformer.bert.embeddings.LayerNorm.bias"]
    state["query_tokens"] = torch.zeros(1, QUERIES + 1, WIDTH)
    qformer, queries, projection = make_qformer(), nn.Parameter(torch.zeros(1, QUERIES, WIDTH)), nn.Linear(WIDTH, OUT)
    before = qformer.layernorm.bias.clone()
    with pytest.raises(ValueError, match="nothing was loaded") as failure:
        load_qformer(state, qformer, queries, projection)
    for words in ("2 unused: ", "surprise", "1 missing: qformer.layernorm.bias", "query_tokens: expected (1, 5, 16)"):
        assert words in str(failure.value)
    assert not torch.equal(projection.weight, state["opt_proj.weight"])
    report = load_qformer(state, qformer, queries, projection, strict=False)
    assert (len(report.unused), len(report.missing), len(report.misshapen)) == (2, 1, 1)
    assert torch.equal(qformer.layernorm.bias, before)
    assert torch.equal(projection.weight, state["opt_proj.weight"])
    with pytest.raises(ValueError, match="nothing was loaded"):
        load_qformer({"other": torch.zeros(1)}, qformer, queries, projection, strict=False)


def test_a_shallower_model_is_refused() -> None:
    with pytest.raises(ValueError, match="unused"):
        load_qformer(published(), make_qformer(2), torch.zeros(1, QUERIES, WIDTH), nn.Linear(WIDTH, OUT))


def test_embeddings_of_the_language_model() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=20, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, tie_word_embeddings=False)
    model = T5ForConditionalGeneration(config)
    state = published() | {
        "t5_model.shared.weight": torch.randn(33, 8),
        "t5_model.lm_head.weight": torch.randn(33, 8),
    }
    kept = model.encoder.block[0].layer[0].SelfAttention.q.weight.clone()
    report = load_language_model(state, model)
    assert set(report.used) == {"t5_model.shared.weight", "t5_model.lm_head.weight"}
    assert "encoder.block.0.layer.0.SelfAttention.q.weight" in report.missing
    assert torch.equal(model.get_input_embeddings().weight, state["t5_model.shared.weight"])
    assert torch.equal(model.lm_head.weight, state["t5_model.lm_head.weight"])
    assert torch.equal(model.encoder.block[0].layer[0].SelfAttention.q.weight, kept)
    with pytest.raises(ValueError, match="nothing of a language model"):
        load_language_model(published(), model)
    with pytest.raises(ValueError, match="missing"):
        load_language_model(state, model, strict=True)


def test_checkpoints_as_files(tmp_path: Path) -> None:
    save_file(published(), tmp_path / "a.safetensors")
    assert read_checkpoint(tmp_path / "a.safetensors").keys() == published().keys()
    torch.save({f"module.{name}": x for name, x in published().items()}, tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth").keys() == published().keys()
    torch.save({"model": {"a": 1}}, tmp_path / "c.pth")
    with pytest.raises(ValueError, match="expected a checkpoint of LAVIS"):
        read_checkpoint(tmp_path / "c.pth")
