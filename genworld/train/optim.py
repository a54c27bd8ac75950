"""AdamW over named parameters, and learning-rate schedules without state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from genworld.train.dtensor import assign, full


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over a run, as a factor of its peak.

    `warmup_steps` rise linearly from 0; then `constant` stays at 1, and `cosine` falls to `final` at the end of the
    run, whether that is its last step or the end of its time.
    """

    kind: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    final: float = 0.0

    def factor(self, step: int, progress: float) -> float:
        """The factor for the step that follows `step` finished ones, when `progress` (0 to 1) of the run is done."""
        warmup = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.kind == "constant":
            return warmup
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(max(progress, 0.0), 1.0))
        return warmup * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True, kw_only=True)
class ParameterRule:
    """Exceptions for the parameters whose name (`network.module.parameter`) matches the shell pattern `match`.

    `learning_rate` and `weight_decay` are factors of the common values; `frozen` parameters are not trained.
    """

    match: str
    learning_rate: float = 1.0
    weight_decay: float = 1.0
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW (Loshchilov and Hutter 2019). Of `rules`, the first that matches a parameter counts."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.01
    rules: tuple[ParameterRule, ...] = ()


def named_parameters(networks: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Parameters by `network.name`. One that several networks or modules share is listed once."""
    named = {}
    seen = set()
    for network, module in networks.items():
        for name, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                named[f"{network}.{name}"] = parameter
    return named


def freeze(networks: Mapping[str, nn.Module], config: OptimConfig) -> None:
    """Switch off the gradients of the parameters that a rule freezes.

    Raises:
        ValueError: a rule matches no parameter at all.
    """
    names = named_parameters(networks)
    for rule in config.rules:
        if not any(fnmatchcase(name, rule.match) for name in names):
            some = ", ".join(list(names)[:5])
            raise ValueError(f"optim.rules: no parameter matches {rule.match!r}; names look like {some}, ...")
    for name, parameter in names.items():
        if _rule(name, config).frozen:
            parameter.requires_grad_(False)


def build_optimizer(networks: Mapping[str, nn.Module], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `networks`, in groups of equal learning rate and weight decay.

    Vectors (biases, gains of norms) and embedding tables do not decay: pulling them to zero regularises nothing.
    Each group has a `scale`, its factor on the learning rate; see `set_learning_rate`.

    Raises:
        ValueError: nothing is trainable.
    """
    tables = {
        id(module.weight)
        for network in networks.values()
        for module in network.modules()
        if isinstance(module, nn.Embedding)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named_parameters(networks).items():
        if not parameter.requires_grad:
            continue
        rule = _rule(name, config)
        is_vector = parameter.numel() == max(parameter.shape, default=1)
        decay = 0.0 if is_vector or id(parameter) in tables else config.weight_decay * rule.weight_decay
        groups.setdefault((rule.learning_rate, decay), []).append(parameter)
    if not groups:
        raise ValueError("there is nothing to train: every parameter is frozen")
    devices = {parameter.device.type for parameters in groups.values() for parameter in parameters}
    optimizer = torch.optim.AdamW(
        [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()],
        betas=config.betas,
        eps=config.eps,
        fused=devices <= {"cuda", "cpu"},
    )
    set_learning_rate(optimizer, config.learning_rate)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group to `rate` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """The whole state on the CPU by `network.parameter/entry`. Collective when sharded.

    Named by parameter and not by index, so that it fits any grouping and any number of ranks.
    """
    state = optimizer.state
    return {
        f"{name}/{entry}": full(value)
        for name, parameter in named_parameters(networks).items()
        if parameter in state
        for entry, value in state[parameter].items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, networks: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]
) -> None:
    """Take back what `optimizer_tensors` gave. A parameter without state has not had a gradient yet.

    Raises:
        ValueError: there is state for a parameter that this optimiser does not train.
    """
    names = {id(parameter): name for name, parameter in named_parameters(networks).items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    saved: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, entry = key.rsplit("/", 1)
        saved.setdefault(name, {})[entry] = tensor
    if foreign := sorted(saved.keys() - {names[id(parameter)] for parameter in parameters}):
        raise ValueError(
            f"the checkpoint has optimiser state for parameters that are not trained here: {', '.join(foreign[:5])}"
            f"{', ...' if len(foreign) > 5 else ''}; a change of what is trained needs a new run (run=...)"
        )
    state: dict[int, dict[str, Any]] = {}
    for index, parameter in enumerate(parameters):
        entries = saved.get(names[id(parameter)])
        if entries is not None:
            state[index] = {entry: _like(parameter, tensor) for entry, tensor in entries.items()}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _like(parameter: Tensor, whole: Tensor) -> Tensor:
    """`whole` laid out as `parameter` is: fused kernels walk both in memory order."""
    if whole.shape != parameter.shape:
        return whole
    value = torch.zeros_like(parameter.detach(), dtype=whole.dtype)
    assign(value, whole)
    return value


def _rule(name: str, config: OptimConfig) -> ParameterRule:
    matching = (rule for rule in config.rules if fnmatchcase(name, rule.match))
    return next(matching, ParameterRule(match="*"))
