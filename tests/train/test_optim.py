import math

import pytest
import torch
from torch import nn

from genworld.train.ema import EMA, warmed_decay
from genworld.train.optim import (
    OptimConfig,
    ParameterRule,
    ScheduleConfig,
    build_optimizer,
    freeze,
    set_learning_rate,
)


def networks():
    return {"a": nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 3), nn.LayerNorm(3)), "b": nn.Conv2d(1, 3, 1)}


def test_schedules():
    cosine = ScheduleConfig(kind="cosine", warmup_steps=3, final=0.1)
    assert [cosine.factor(step, 0.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert cosine.factor(100, 0.5) == pytest.approx(0.55)
    assert cosine.factor(100, 1.0) == pytest.approx(0.1)
    assert ScheduleConfig().factor(0, 0.3) == 1.0


def test_vectors_and_tables_do_not_decay_and_the_first_rule_counts():
    nets = networks()
    rules = (
        ParameterRule(match="b.weight", learning_rate=0.5, weight_decay=2.0),
        ParameterRule(match="b.*", frozen=True),
    )
    config = OptimConfig(learning_rate=0.1, weight_decay=0.01, rules=rules)
    freeze(nets, config)
    assert not nets["b"].bias.requires_grad
    optimizer = build_optimizer(nets, config)
    by_group = {(g["scale"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    # b.weight is 3x1x1x1: a vector, whatever its rule says.
    assert by_group == {(1.0, 0.0): 12 + 3 + 3 + 3, (1.0, 0.01): 9, (0.5, 0.0): 3}
    set_learning_rate(optimizer, 1.0)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.5, 1.0, 1.0]
    with pytest.raises(ValueError, match="no parameter matches 'c"):
        freeze(nets, OptimConfig(rules=(ParameterRule(match="c.*"),)))


def test_the_average_warms_up_and_swaps():
    net = nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    ema = EMA({"net": net}, decay=0.99)
    assert warmed_decay(0.99, 0) == 0.1
    assert warmed_decay(0.99, 10**6) == 0.99
    expected, start = net.weight.detach().clone(), net.weight.detach().clone()
    for i in range(5):
        with torch.no_grad():
            net.weight += 1
        ema.update(i)
        decay = (1 + i) / (10 + i)
        expected = decay * expected + (1 - decay) * (start + i + 1)
    trained = net.weight.detach().clone()
    with ema.swapped():
        torch.testing.assert_close(net.weight.detach(), expected)
    assert torch.equal(net.weight, trained)
    assert torch.equal(ema.state("net")["bias"], net.bias)
    assert not math.isclose(ema.state("net")["weight"].sum().item(), trained.sum().item())
