import pytest
import torch

from genworld.nn.modulation import add_gated, find_runs, modulate

PATTERNS = {
    "one per segment": ([0.3] * 4 + [0.7] * 4, 4, 2),
    "one for all": ([1.0] * 6, 6, 1),
    "ragged": ([0.3] * 4 + [0.7] * 6, 2, 2),
    "given frame": ([0.0] * 2 + [0.9] * 4 + [0.0] * 2 + [0.4] * 4, 2, 3),
    "per token": ([0.1, 0.0, 0.0, 0.1, 0.0], 1, 2),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_runs_reproduce_levels(name):
    levels, length, distinct = PATTERNS[name]
    values, runs = find_runs(torch.tensor(levels))
    assert len(values) == distinct
    assert runs.length == length
    spread = runs.spread(values[:, None]).expand(-1, runs.length, -1).flatten()
    assert torch.equal(spread, torch.tensor(levels))


@pytest.mark.parametrize("name", PATTERNS)
def test_modulation_by_runs_is_modulation_by_token(name):
    levels = torch.tensor(PATTERNS[name][0])
    values, runs = find_runs(levels)
    table = torch.randn(3, len(values), 8, requires_grad=True)
    x, update = (torch.randn(len(levels), 8, requires_grad=True) for _ in range(2))
    shift, scale, gate = table
    found = add_gated(x, modulate(update, shift, scale, runs), gate, runs)
    rows = (levels[:, None] == values[None]).int().argmax(1)
    expected = x + gate[rows] * (update * (1 + scale[rows]) + shift[rows])
    torch.testing.assert_close(found, expected)
    grads = [torch.autograd.grad(out.square().sum(), (x, update, table)) for out in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_gated_sum_keeps_the_stream_type():
    _, runs = find_runs(torch.zeros(4))
    x = torch.zeros(4, 2, dtype=torch.bfloat16)
    assert add_gated(x, x, torch.ones(1, 2), runs).dtype == torch.bfloat16
