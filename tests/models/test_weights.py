import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from genworld.models.weights import (
    Join,
    Permute,
    Rename,
    Split,
    load_foreign,
    read_safetensors,
    to_ours,
    to_theirs,
)

RULES = [
    Rename("stem.weight", "first.weight"),
    Join(("layers.*.q", "layers.*.k"), "blocks.*.qk"),
    Split("both", ("left", "right")),
    Permute("conv", "linear", "d c t p q -> d (c t p q)", {"t": 1, "p": 2, "q": 2}),
]


def foreign():
    return {
        "stem.weight": torch.randn(3),
        **{f"layers.{i}.{name}": torch.randn(2, 5) for i in (0, 11) for name in "qk"},
        "both": torch.randn(6, 2),
        "conv": torch.randn(3, 4, 1, 2, 2),
    }


def test_rules_work_both_ways():
    theirs = foreign()
    ours, unexpected = to_ours(theirs, RULES)
    assert unexpected == []
    assert {name: tuple(x.shape) for name, x in ours.items()} == {
        "first.weight": (3,),
        "blocks.0.qk": (4, 5),
        "blocks.11.qk": (4, 5),
        "left": (3, 2),
        "right": (3, 2),
        "linear": (3, 16),
    }
    assert torch.equal(ours["blocks.11.qk"], torch.cat([theirs["layers.11.q"], theirs["layers.11.k"]]))
    back, unexpected = to_theirs(ours, RULES)
    assert unexpected == []
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_star_is_one_part_of_a_name():
    theirs = {"layers.0.more.q": torch.zeros(1), "layers.0.more.k": torch.zeros(1)}
    assert to_ours(theirs, RULES) == ({}, sorted(theirs))


def test_all_problems_are_reported_together_and_nothing_is_loaded():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    rules = [Rename("w", "weight"), Rename("b", "bias"), Join(("half.a", "half.b"), "whole")]
    with pytest.raises(ValueError, match="nothing was loaded") as caught:
        load_foreign(module, {"w": torch.zeros(2, 3), "stray": torch.zeros(1), "half.a": torch.zeros(1)}, rules)
    message = str(caught.value)
    assert "1 missing:\n    bias" in message
    assert "2 unexpected:\n    half.a\n    stray" in message
    assert "weight: expected (3, 2), got (2, 3)" in message
    assert torch.equal(module.weight, before)


def test_meta_modules_take_the_tensors():
    with torch.device("meta"):
        module = nn.Linear(2, 3)
    rules = [Rename("w", "weight"), Rename("b", "bias")]
    load_foreign(module, {"w": torch.ones(3, 2), "b": torch.zeros(3)}, rules)
    assert module(torch.ones(2)).tolist() == [2, 2, 2]


def test_reading_folders(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "model-00002-of-00002.safetensors")
    assert read_safetensors(tmp_path).keys() == {"a", "b"}
    assert read_safetensors(tmp_path / "model-00002-of-00002.safetensors").keys() == {"b"}
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="a is also in another file"):
        read_safetensors(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "model.bin", "gone.safetensors"])
def test_pickles_and_nothing_are_refused(tmp_path, name):
    (tmp_path / "model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"expected a \.safetensors file"):
        read_safetensors(tmp_path / name)
