"""Foreign weights, by tables of rules that work both ways, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rename:
    """One of theirs is one of ours. A `*` in a name stands for one part between dots, the same on both sides."""

    theirs: str
    ours: str


@dataclass(frozen=True)
class Join:
    """Several of theirs, concatenated along their first dimension in equal parts, are one of ours."""

    theirs: tuple[str, ...]
    ours: str


@dataclass(frozen=True)
class Split:
    """One of theirs, cut along its first dimension in equal parts, is several of ours."""

    theirs: str
    ours: tuple[str, ...]


@dataclass(frozen=True)
class Permute:
    """One of theirs with its axes in another order or grouping is one of ours.

    Attributes:
        theirs: their name.
        ours: our name.
        pattern: einops pattern from theirs to ours.
        sizes: of the axes that the grouping leaves open, in either direction.
    """

    theirs: str
    ours: str
    pattern: str
    sizes: Mapping[str, int] = field(default_factory=dict)


Rule = Rename | Join | Split | Permute


def to_ours(theirs: Mapping[str, Tensor], rules: Sequence[Rule]) -> tuple[State, list[str]]:
    """Our tensors by name, and the names of theirs that no rule accounts for."""
    return _apply(theirs, rules, forward=True)


def to_theirs(ours: Mapping[str, Tensor], rules: Sequence[Rule]) -> tuple[State, list[str]]:
    """The inverse of `to_ours`."""
    return _apply(ours, rules, forward=False)


def load_foreign(module: nn.Module, theirs: Mapping[str, Tensor], rules: Sequence[Rule]) -> None:
    """Load foreign weights into `module`; a module on the meta device takes the tensors as they are.

    Raises:
        ValueError: names every tensor that is missing, unexpected or of the wrong shape; nothing is loaded then.
    """
    state, unexpected = to_ours(theirs, rules)
    wanted = module.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    unexpected += sorted(state.keys() - wanted.keys())
    shapes = [
        f"{name}: expected {tuple(wanted[name].shape)}, got {tuple(state[name].shape)}"
        for name in sorted(state.keys() & wanted.keys())
        if state[name].shape != wanted[name].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of the wrong shape": shapes}
    if any(problems.values()):
        lines = [f"{len(names)} {kind}:\n    " + "\n    ".join(names) for kind, names in problems.items() if names]
        raise ValueError(f"the weights do not fit {type(module).__name__}; nothing was loaded\n  " + "\n  ".join(lines))
    module.load_state_dict(state, assign=any(x.is_meta for x in wanted.values()))


def read_safetensors(path: str | Path) -> State:
    """All tensors of a .safetensors file, or of all such files of a folder.

    Raises:
        ValueError: there is none, or two files hold a tensor of the same name.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.suffix == ".safetensors" else []
    if not files or not path.exists():
        raise ValueError(
            f"{path}: expected a .safetensors file or a folder with some; pickles (.pt, .bin) are not read"
        )
    state: State = {}
    for file in files:
        part = load_file(file)
        if twice := state.keys() & part.keys():
            raise ValueError(
                f"{file}: {sorted(twice)[0]} is also in another file of the folder; keep one set of weights"
            )
        state.update(part)
    return state


def _apply(source: Mapping[str, Tensor], rules: Sequence[Rule], *, forward: bool) -> tuple[State, list[str]]:
    result: State = {}
    used: set[str] = set()
    for rule in rules:
        inputs, outputs = (rule.theirs, rule.ours) if forward else (rule.ours, rule.theirs)
        inputs, outputs = (names if isinstance(names, tuple) else (names,) for names in (inputs, outputs))
        for part in _matches(inputs[0], source):
            names = [name.replace("*", part) for name in inputs]
            if all(name in source for name in names):
                used.update(names)
                tensors = _convert(rule, [source[name] for name in names], len(outputs), forward=forward)
                result.update(zip((name.replace("*", part) for name in outputs), tensors, strict=True))
    return result, sorted(source.keys() - used)


def _matches(pattern: str, names: Mapping[str, Tensor]) -> list[str]:
    regex = re.compile(re.escape(pattern).replace(r"\*", r"([^.]+)"))
    found = (regex.fullmatch(name) for name in names)
    return [match.group(1) if match.groups() else "" for match in found if match]


def _convert(rule: Rule, tensors: list[Tensor], num_outputs: int, *, forward: bool) -> list[Tensor]:
    if isinstance(rule, Permute):
        pattern = rule.pattern if forward else " -> ".join(reversed(rule.pattern.split(" -> ")))
        names = set(re.findall(r"\w+", pattern))
        return [rearrange(tensors[0], pattern, **{k: v for k, v in rule.sizes.items() if k in names}).contiguous()]
    if num_outputs > 1:
        return [x.contiguous() for x in tensors[0].chunk(num_outputs)]
    return tensors if len(tensors) == 1 else [torch.cat(tensors)]
