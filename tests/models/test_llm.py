"""Language models alone: words, location tokens, parity with transformers, what is trained and kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.config import decode
from genworld.models.llm import (
    GenerationConfig,
    Layout,
    LLMConfig,
    OwnLLM,
    OwnLLMConfig,
    PretrainedLLMConfig,
    build_llm,
)
from genworld.models.llm_base import LanguageInputs
from genworld.nn.lora import LoRAConfig
from genworld.train.ema import EMA
from genworld.train.optim import OptimConfig, build_optimizer
from tests.models.scene_llm_cases import OWN, TEXTS, make_model, make_turns, save_llm

CORPUS = [text for pair in TEXTS for text in pair]


def own(**changes) -> OwnLLM:
    llm = OwnLLM(replace(OWN, **changes))
    llm.fit(CORPUS)
    return llm


def asked(prompt: torch.Tensor, keep: torch.Tensor) -> LanguageInputs:
    """A prompt alone."""
    nothing = torch.zeros(len(prompt), 0)
    return LanguageInputs(prompt=prompt, keep=keep, answers=nothing.long(), answers_keep=nothing.bool())


def test_whole_words_first() -> None:
    llm = own()
    for word in ("sofa", "red", "3", "chair"):
        assert len(llm.encode(word)) == 1, word
    assert len(llm.encode("unheardof")) > 1
    assert llm.decode(llm.encode("unheardof Möbel")) == "unheardof möbel"
    few = own(vocabulary=261)  # room for two words only: the most frequent ones
    assert sorted(len(few.encode(word)) for word in ("the", "is", "describe")) != [1, 1, 1]
    assert few.decode(few.encode("Describe the room.")) == "describe the room."


def test_texts_with_places_come_back() -> None:
    for style, last in (("axis", 255), ("flat32", 32767)):
        llm = own(locations=style)
        for text in ("at <loc3><loc4> and <loc0>, by the lamp.", f"<loc{last}>", "red sofa", "<loc1> a lamp <loc2>"):
            assert llm.decode([*llm.encode(text), llm.end, 5]) == text
        assert max(llm.encode(f"<loc{last}>")) == llm.network.get_input_embeddings().weight.shape[0] - 1
    with pytest.raises(ValueError, match=r"<loc3> stands in a text, but the language model has no location tokens"):
        own(locations="none").encode("at <loc3>")


def test_words_depend_on_the_texts_only() -> None:
    one, other = own(), OwnLLM(OWN)
    other.fit(reversed(CORPUS))
    assert one.asset() == other.asset()
    third = OwnLLM(OWN)
    with pytest.raises(ValueError, match="no vocabulary yet"):
        third.encode("red")
    third.load_asset(one.asset() or "")
    assert third.encode("a red sofa") == one.encode("a red sofa")
    with pytest.raises(ValueError, match=r"has \d+ pieces, but .* a vocabulary of 260"):
        OwnLLM(replace(OWN, vocabulary=260)).load_asset(one.asset() or "")
    with pytest.raises(ValueError, match="all texts are empty"):
        third.fit([" "])


def test_places_nearby_begin_alike() -> None:
    table = own().network.get_input_embeddings().weight[OWN.vocabulary :]
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(table[100], table[101], dim=0) > cosine(table[100], table[110], dim=0) > -1


@pytest.mark.parametrize("kind", ["llama", "opt", "t5"])
@torch.no_grad()
def test_generation_is_that_of_transformers(tmp_path, kind) -> None:
    import transformers

    save_llm(tmp_path, kind)
    llm = build_llm(PretrainedLLMConfig(path=tmp_path))
    family = transformers.AutoModelForSeq2SeqLM if kind == "t5" else transformers.AutoModelForCausalLM
    reference = family.from_pretrained(tmp_path).eval()
    ids = torch.tensor([llm.encode("a red sofa")])
    prompt = llm.embed(ids)
    torch.testing.assert_close(prompt, reference.get_input_embeddings()(ids))
    expected = reference.generate(
        inputs_embeds=prompt, attention_mask=torch.ones_like(ids), max_new_tokens=9, do_sample=False
    )[0].tolist()[kind == "t5" :]
    padded = torch.nn.functional.pad(prompt, (0, 0, 0, 5) if kind == "t5" else (0, 0, 5, 0), value=9.0)
    keep = torch.nn.functional.pad(torch.ones_like(ids), (0, 5) if kind == "t5" else (5, 0)).bool()
    found = llm.generate(asked(padded, keep), GenerationConfig(max_tokens=9))[0]
    assert found == (expected[: expected.index(llm.end)] if llm.end in expected else expected)
    answers = torch.tensor([[*llm.encode("sofa"), llm.end]])
    whole = torch.ones_like(answers, dtype=torch.bool)
    logits = llm.answer_logits(LanguageInputs(prompt=padded, keep=keep, answers=answers, answers_keep=whole))
    if kind == "t5":
        theirs = reference(inputs_embeds=prompt, labels=answers)
        ours = torch.nn.functional.cross_entropy(logits[0], answers[0])
        torch.testing.assert_close(ours, theirs.loss, atol=1e-5, rtol=1e-5)
    else:
        theirs = reference(input_ids=torch.cat([ids, answers], dim=1)).logits[:, ids.shape[1] - 1 : -1]
        torch.testing.assert_close(logits, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "tied", "t5"])
@pytest.mark.parametrize("train", ["lora", "embeddings", "all"])
def test_what_is_trained_is_what_is_kept(tmp_path, kind, train) -> None:
    save_llm(tmp_path, kind)
    config = PretrainedLLMConfig(
        path=tmp_path, train=train, locations="axis", dtype="float32", lora=LoRAConfig(rank=2, alpha=4)
    )
    model, turns = make_model(config), make_turns(4)
    networks = model.networks()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    start = model.loss(turns).sums.detach()
    optimizer = build_optimizer(networks, OptimConfig(learning_rate=1e-2))
    ema = EMA(networks, 0.9)
    for _ in range(2):
        model.loss(turns).sums.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    ema.update(0)
    saved = {name: {key: x.clone() for key, x in n.state_dict().items()} for name, n in networks.items()}
    assert ema.state("llm").keys() == saved["llm"].keys()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not torch.equal(parameter, before[name])) or "bias" in name, name
        if name.startswith("llm.network."):
            assert parameter.requires_grad == (name.removeprefix("llm.network.") in saved["llm"]), name
    if train == "lora":
        assert all("lora_" in key or "trainable_tokens" in key for key in saved["llm"])
        assert any(key.endswith("trainable_tokens_delta.default") for key in saved["llm"])
    after = model.loss(turns).sums.detach()
    assert not torch.allclose(after, start, atol=1e-3)
    fresh = make_model(config)
    for name, network in fresh.networks().items():
        network.load_state_dict(saved[name])
    torch.testing.assert_close(fresh.loss(turns).sums, after, atol=1e-5, rtol=1e-5)


def test_frozen_ones_are_not_kept_but_pass_gradients_on(tmp_path) -> None:
    model = make_model(PretrainedLLMConfig(path=save_llm(tmp_path, "llama")))
    assert list(model.networks()) == ["connector"]
    turns = [turn for turn in make_turns() if "<loc" not in turn.prompt + turn.answer]
    model.train().loss(turns).sums.sum().backward()
    assert model.connector.parts[1].queries.grad.abs().sum() > 0
    assert not model.llm.network.training
    assert all(p.grad is None for p in model.llm.parameters())


def test_adapters_begin_as_nothing(tmp_path) -> None:
    save_llm(tmp_path, "llama")
    turns = [turn for turn in make_turns() if "<loc" not in turn.prompt + turn.answer]
    frozen, adapted = (make_model(PretrainedLLMConfig(path=tmp_path, train=train)) for train in ("frozen", "lora"))
    adapted.connector.take(frozen.connector.state_dict())  # making adapters draws numbers
    assert torch.equal(frozen.loss(turns).sums, adapted.loss(turns).sums)
    with pytest.raises(ValueError, match=r"no linear layer is called 'query'; there are down_proj, .*q_proj"):
        make_model(PretrainedLLMConfig(path=tmp_path, train="lora", lora=LoRAConfig(targets=("query",))))


def test_a_layout_with_the_models_own_marks(tmp_path) -> None:
    layout = Layout(opening="<s>See <scene>.</s>", user="Q: ", assistant=" A:")
    model = make_model(PretrainedLLMConfig(path=save_llm(tmp_path, "llama"), layout=layout))
    ids = model._prompt_ids(make_turns()[0])
    assert ids[:2] == [2, 2]  # the one that the tokenizer adds, and that of the layout
    assert ids.count(1) == 1 + 2  # that of the layout, and the ends of two earlier answers
    for wrong in ("no scene", "<scene> and <scene>"):
        with pytest.raises(ValueError, match="needs <scene> exactly once"):
            Layout(opening=wrong)


def test_folders_that_hold_no_model(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"no language model in .*nowhere: .* there is no such folder"):
        build_llm(PretrainedLLMConfig(path=tmp_path / "nowhere"))
    save_llm(tmp_path, "llama")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no \.safetensors weights"):
        build_llm(PretrainedLLMConfig(path=tmp_path))


def test_settings_that_cannot_be_honoured(tmp_path) -> None:
    with pytest.raises(ValueError, match="must be learned: set train to lora, embeddings or all"):
        PretrainedLLMConfig(path=tmp_path, locations="axis")
    save_llm(tmp_path, "llama")
    with pytest.raises(ValueError, match=r"what is trained must be float32, but .* set dtype: float32"):
        build_llm(PretrainedLLMConfig(path=tmp_path, train="all", dtype="bfloat16"))
    with pytest.raises(ValueError, match="width 30 is not divisible by twice num_heads 4"):
        OwnLLMConfig(width=30)
    with pytest.raises(ValueError, match="vocabulary must be at least 259"):
        OwnLLMConfig(vocabulary=258)


def test_from_a_config(tmp_path) -> None:
    config = decode(LLMConfig, {"kind": "pretrained", "path": str(tmp_path), "train": "lora", "lora": {"rank": 4}})
    assert config == PretrainedLLMConfig(path=tmp_path, train="lora", lora=LoRAConfig(rank=4))
