"""Scene and words to words: one path, and batches that change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from genworld.config import decode
from genworld.models.connectors import SceneTokens
from genworld.models.llm import GenerationConfig, OwnLLMConfig, PretrainedLLMConfig
from genworld.models.scene_llm import PLACEHOLDER, SceneLLM, SceneLLMConfig, splice
from genworld.train.checkpoint import Contents, load_network, read_assets, save_checkpoint
from tests.models.scene_llm_cases import CONNECTOR, FEATURES, OWN, make_model, make_points, make_turns, save_llm

KINDS = ("own", "llama", "opt", "t5")
SHORT = GenerationConfig(max_tokens=12)


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory) -> SceneLLM:
    if request.param == "own":
        return make_model()
    folder = save_llm(tmp_path_factory.mktemp(request.param), request.param)
    return make_model(PretrainedLLMConfig(path=folder, train="all", locations="axis", dtype="float32"))


@torch.no_grad()
def test_the_prompt_is_the_same_tensor_with_and_without_answers(model) -> None:
    turns = make_turns()
    with_answers, without = model.inputs(turns, with_answers=True), model.inputs(turns, with_answers=False)
    assert torch.equal(with_answers.prompt, without.prompt)
    assert torch.equal(with_answers.keep, without.keep)
    assert with_answers.answers.shape[1] > without.answers.shape[1] == 0
    seen = []
    generate, logits = model.llm.generate, model.llm.answer_logits
    model.llm.generate = lambda inputs, config: seen.append(inputs.prompt) or generate(inputs, config)
    model.llm.answer_logits = lambda inputs: seen.append(inputs.prompt) or logits(inputs)
    try:
        model.generate(turns, GenerationConfig(max_tokens=2))
        model.loss(turns)
    finally:
        del model.llm.generate, model.llm.answer_logits
    assert torch.equal(seen[0], seen[1])


def assert_same_logits(one: torch.Tensor, other: torch.Tensor) -> None:
    """Up to rounding in sums of numbers as large as the largest: those of T5 are as large as 16."""
    torch.testing.assert_close(one, other, atol=max(1e-5, 2e-6 * float(one.abs().max())), rtol=1e-5)


@torch.no_grad()
def test_company_changes_no_logits_and_no_loss(model) -> None:
    turns = make_turns()
    together = model.inputs(turns, with_answers=True)
    logits, losses = model.logits(together), model.loss(turns)
    for row, turn in enumerate(turns):
        alone = model.inputs([turn], with_answers=True)
        count = alone.answers.shape[1]
        assert_same_logits(logits[row, :count], model.logits(alone)[0])
        one = model.loss([turn])
        torch.testing.assert_close(losses.sums[row], one.sums[0], atol=1e-4, rtol=1e-5)
        assert losses.counts[row] == one.counts[0] == count
        assert losses.right[row] == one.right[0]


@torch.no_grad()
def test_order_of_points_changes_no_logits(model) -> None:
    turns = make_turns()
    turned = [turn.map(lambda x: x.flip(0)) for turn in turns]
    before, after = (model.logits(model.inputs(some, with_answers=True)) for some in (turns, turned))
    keep = model.inputs(turns, with_answers=True).answers_keep
    assert_same_logits(before[keep], after[keep])


def test_batches_of_one_and_sixteen_say_the_same(model) -> None:
    turns = make_turns(16)
    together = model.generate(turns, SHORT)
    assert together == [model.generate([turn], SHORT)[0] for turn in turns]
    firsts = model.logits(model.inputs(turns, with_answers=True))[:, 0]
    assert firsts.std(dim=0).max() > 1e-3  # it sees what differs, whatever it says of it


@torch.no_grad()
def test_generation_follows_the_logits_of_the_loss(model) -> None:
    """With the cache, token by token, or all at once: the same."""
    turn = make_turns()[1]
    inputs = model.inputs([turn], with_answers=False)
    (ids,) = model.llm.generate(inputs, SHORT)
    assert ids
    answers = torch.tensor([[*ids, model.llm.end]])
    whole = torch.ones_like(answers, dtype=torch.bool)
    logits = model.logits(replace(inputs, answers=answers, answers_keep=whole))
    assert logits[0, : len(ids)].argmax(dim=-1).tolist() == ids


def test_the_scene_matters(model) -> None:
    turn = make_turns()[1]
    other = replace(turn, points=make_points(30, 99))
    assert not torch.allclose(model.loss([turn]).sums, model.loss([other]).sums, atol=1e-5)


def test_the_loss_is_of_answers_only(model) -> None:
    turns = make_turns()
    losses = model.loss(turns)
    assert losses.sums.dtype == torch.float32
    assert losses.counts.tolist() == [len(model.llm.encode(turn.answer)) + 1 for turn in turns]
    losses.sums.sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None and not name.endswith("bias")]
    model.zero_grad()
    assert not missing


def test_in_bfloat16_the_loss_is_float32() -> None:
    model = make_model()
    exact = model.loss(make_turns()).sums
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(make_turns()).sums
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.5)


def test_marks_in_a_users_text_are_only_text(model) -> None:
    turn = make_turns()[0]
    for mark in ("<scene>", "<user>", "<assistant>", "<end>", "</s>", "<s>", "<pad>", str(PLACEHOLDER)):
        ids = model._prompt_ids(replace(turn, prompt=f"is {mark} there"))
        assert ids.count(PLACEHOLDER) == model.connector.num_tokens(len(turn.points))
        asked = model.llm.encode(f"is {mark} there")
        assert PLACEHOLDER not in asked
        assert not {0, 1, 2} & set(asked)
        assert model.llm.decode(asked) == f"is {mark} there"


def test_splice_counts() -> None:
    words, scene = torch.zeros(2, 4, 3), SceneTokens(torch.ones(2, 2, 3), torch.ones(2, 2, dtype=torch.bool))
    ids = torch.tensor([[PLACEHOLDER, PLACEHOLDER, 5, 6], [7, PLACEHOLDER, PLACEHOLDER, 5]])
    assert splice(words, ids, scene).sum(dim=-1).tolist() == [[3, 3, 0, 0], [0, 3, 3, 0]]
    ids[1, 3] = PLACEHOLDER
    with pytest.raises(ValueError, match=r"prompt 1 of 2 has 3 placeholders, but its scene has 2 tokens"):
        splice(words, ids, scene)


def test_turns_that_cannot_be_used() -> None:
    model = make_model()
    turn = make_turns()[0]
    with pytest.raises(ValueError, match="turn q0 about scene room0 has no text"):
        model.generate([replace(turn, prompt=" ")])
    with pytest.raises(ValueError, match="turn q0 about scene room0 has no answer to learn from"):
        model.loss([replace(turn, answer="")])
    with pytest.raises(ValueError, match=r"turn q0 .* has \d+ tokens, more than the 512 .*`max_tokens`"):
        model.generate([replace(turn, prompt="chair " * 600)])
    with pytest.raises(ValueError, match=r"<loc256> stands in a text, .* has <loc0> to <loc255> \(locations: axis\)"):
        model.generate([replace(turn, prompt="what is at <loc256>?")])
    with pytest.raises(ValueError, match="holds no points"):
        model.generate([replace(turn, points=make_points(0, 0))])
    assert model.generate([]) == []


def test_a_checkpoint_holds_all_of_it(tmp_path) -> None:
    model = make_model()
    contents = Contents(
        state={},
        assets=model.assets(),
        experiment="",
        tensors={
            f"{kind}/{name}": lambda network=network: {key: x.clone() for key, x in network.state_dict().items()}
            for kind in ("weights", "ema")
            for name, network in model.networks().items()
        },
    )
    saved = save_checkpoint(tmp_path, 1, contents, keep=2)
    torch.manual_seed(7)
    other = SceneLLM(SceneLLMConfig(connector=CONNECTOR, llm=OWN), FEATURES).eval()
    other.load_assets(read_assets(saved))
    for name, network in other.networks().items():
        load_network(saved, name, network)
    turns = make_turns()
    assert torch.equal(other.loss(turns).sums, model.loss(turns).sums)


def test_it_learns_to_answer() -> None:
    torch.manual_seed(0)
    model = make_model().train()
    turns = make_turns(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        losses = model.loss(turns)
        (losses.sums.sum() / losses.counts.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    wanted = [turn.answer.lower() for turn in turns]
    assert model.eval().generate(turns, GenerationConfig(max_tokens=30)) == wanted


def test_from_a_config() -> None:
    text = {
        "connector": {"parts": [{"kind": "linear"}]},
        "llm": {"kind": "own", "width": 32, "depth": 1, "num_heads": 2},
    }
    config = decode(SceneLLMConfig, text)
    assert isinstance(config.llm, OwnLLMConfig)
    assert SceneLLM(config, FEATURES).llm.width == 32


def test_what_prompts_share_is_read_once_and_changes_nothing() -> None:
    model = make_model()
    scenes = [make_points(9, 0), make_points(30, 1)]
    turns = [replace(turn, points=scenes[number % 2]) for number, turn in enumerate(make_turns(8))]
    inputs = model.inputs(turns, with_answers=True)
    assert inputs.start is not None
    assert inputs.start.first.tolist() == [0, 1]
    shared, apart = model.logits(inputs), model.logits(replace(inputs, start=None))
    keep = inputs.answers_keep
    torch.testing.assert_close(shared[keep], apart[keep], rtol=1e-4, atol=1e-4)
    gradients = [
        torch.autograd.grad(logits[keep].square().sum(), model.connector.parts[1].queries, retain_graph=True)[0]
        for logits in (shared, apart)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
