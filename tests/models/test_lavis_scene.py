"""What 3D-LLM released, from its files to an answer: points, checkpoint, Q-Former, language model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_lavis import POINTS, QUERIES, WIDTH, beside, published, reference

from genworld.data.release_3dllm import Release3DLLM
from genworld.models.connectors import ConnectorConfig, LinearConfig, MLPConfig, Positions3DConfig, QFormerConfig
from genworld.models.lavis import load_scene_llm, read_checkpoint
from genworld.models.llm import GenerationConfig, PretrainedLLMConfig
from genworld.models.scene_llm import SceneLLM, SceneLLMConfig
from genworld.ops.positions import with_positions
from genworld.types import Turn
from tests.models.scene_llm_cases import save_llm

WORDS, PLACES, WIDE = 259, 32**3, 16
"""Of the tiny tokenizer, of the location tokens behind them, and the width of the tiny T5."""
TABLES = ("shared", "encoder.embed_tokens", "decoder.embed_tokens", "lm_head")


def checkpoint() -> dict[str, torch.Tensor]:
    """As LAVIS saves what 3D-LLM trains: Q-Former, projection, embeddings with all their names, and the head."""
    chance = torch.Generator().manual_seed(1)
    shared, head = (torch.randn(WORDS + PLACES, WIDE, generator=chance) for _ in range(2))
    state = published()
    for name, tensor in state.items():  # Q-Formers of ours are four times as wide within, as BERT is
        if "intermediate_query" in name or name.endswith("output_query.dense.weight"):
            shape = [4 * WIDTH if side == 2 * WIDTH else side for side in tensor.shape]
            state[name] = torch.randn(shape, generator=chance) / 4
    state |= {
        "t5_proj.weight": torch.randn(WIDE, WIDTH, generator=chance) / 4,
        "t5_proj.bias": torch.randn(WIDE, generator=chance) / 10,
    }
    return state | {f"t5_model.{name}.weight": head if name == "lm_head" else shared for name in TABLES}


def release(folder: Path) -> Release3DLLM:
    chance = np.random.default_rng(0)
    for name in ("features", "points"):
        (folder / name).mkdir(parents=True)
    torch.save(chance.normal(size=(40, POINTS)).astype(np.float32), folder / "features" / "7.pt")
    np.save(folder / "points" / "7.npy", chance.integers(0, 256, (40, 3)))
    return Release3DLLM.open(folder)


def config(llm: Path) -> SceneLLMConfig:
    parts = (
        Positions3DConfig(style="add"),
        QFormerConfig(width=WIDTH, depth=4, num_heads=2, num_queries=QUERIES),
        LinearConfig(),
    )
    flan = PretrainedLLMConfig(path=llm, train="embeddings", locations="flat32", dtype="float32")
    return SceneLLMConfig(connector=ConnectorConfig(parts=parts), llm=flan)


def make(settings: SceneLLMConfig) -> SceneLLM:
    torch.manual_seed(0)
    return SceneLLM(settings, POINTS).eval()


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llm(tmp_path_factory.mktemp("t5"), "t5")


def test_released_weights_answer_about_released_points(llm: Path, tmp_path: Path) -> None:
    state = checkpoint()
    torch.save({"model": state | beside()}, tmp_path / "a.pth")
    model = make(config(llm))
    connector, language = load_scene_llm(read_checkpoint(tmp_path / "a.pth"), model)
    assert language is not None
    assert {*connector.used, *language.used} == set(state)
    assert connector.is_complete
    assert not language.unused
    assert "encoder.block.0.layer.0.SelfAttention.q.weight" in language.missing  # that of the published Flan-T5
    former, linear = list(model.connector.parts)[1:]
    assert torch.equal(former.queries, state["query_tokens"])
    key = "encoder.layer.0.crossattention.attention.key.weight"
    theirs = "Qformer.bert.encoder.layer.0.crossattention.self.key.weight"
    assert torch.equal(former.qformer.state_dict()[key], state[theirs])
    assert torch.equal(linear.network.weight, state["t5_proj.weight"])
    assert torch.equal(model.llm.table, state["t5_model.shared.weight"])
    assert torch.equal(model.llm.network.get_output_embeddings().weight, state["t5_model.lm_head.weight"])
    assert model.llm.encode("<loc5>") == [WORDS + 5]  # behind the tokenizer's words, as LAVIS adds them

    scene = release(tmp_path / "released").read("7")
    points = scene.point_set()
    with torch.no_grad():
        tokens = model.connector(model.connector.stack([points])).x
        placed = with_positions(scene.features, scene.voxels, "add")
    torch.testing.assert_close(tokens, reference(state, placed[None]), atol=2e-5, rtol=1e-4)
    turn = Turn(0, scene.name, points, (), "Where is the sofa?", "", "qa", "0")
    (answer,) = model.generate([turn], GenerationConfig(max_tokens=8))
    assert answer
    untold = make(config(llm)).generate([turn], GenerationConfig(max_tokens=8))
    assert [answer] != untold  # it is the checkpoint that speaks


def test_models_that_the_checkpoint_is_not_of(llm: Path) -> None:
    state, wanted = checkpoint(), config(llm)
    assert isinstance(wanted.llm, PretrainedLLMConfig)
    per_axis = make(replace(wanted, llm=replace(wanted.llm, locations="axis")))
    before = per_axis.connector.state_dict()["parts.1.queries"].clone()
    with pytest.raises(ValueError, match=r"has 33027 tokens, this one 515 with locations 'axis': .* locations: flat32"):
        load_scene_llm(state, per_axis)
    assert torch.equal(per_axis.connector.state_dict()["parts.1.queries"], before)
    parts = (*wanted.connector.parts[:2], MLPConfig())
    with pytest.raises(ValueError, match=r"this one is of positions3d, qformer, mlp: end it with \{kind: qformer\}"):
        load_scene_llm(state, make(replace(wanted, connector=ConnectorConfig(parts=parts))))


def test_a_checkpoint_without_a_language_model(llm: Path) -> None:
    state = {name: x for name, x in checkpoint().items() if not name.startswith("t5_model.")}
    model = make(config(llm))
    before = model.llm.table.clone()
    report, language = load_scene_llm(state, model)
    assert report.is_complete
    assert language is None
    assert torch.equal(model.llm.table, before)
