"""Checkpoints of LAVIS's BLIP-2, 3D-LLM's among them, loaded onto transformers' parts; no key is lost unseen.

`load_scene_llm` fills a `SceneLLM`. Of its parts, whatever holds them, `load_qformer` fills a `Blip2QFormerModel`, its
query tokens [1 Q D] and the linear layer behind it, and `load_language_model` a T5, OPT or Llama of transformers. How
names line up is written down in `genworld.models.keymaps.lavis`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from genworld.models.connector_parts import EachToken, QFormer
from genworld.models.keymaps.lavis import IGNORED, LANGUAGE_MODELS, lavis_rules
from genworld.models.scene_llm import SceneLLM
from genworld.models.weights import State, read_safetensors, to_ours
from genworld.ops.tensor_files import load_tensors

_MOST_NAMED = 8


@dataclass(frozen=True)
class KeyReport:
    """What became of every key.

    Attributes:
        used: of theirs, loaded.
        ignored: of theirs, with no counterpart on purpose: the reason and the names.
        unused: of theirs, that nothing accounts for.
        missing: of ours, not in the checkpoint: they keep the values they had.
        misshapen: of ours, with both shapes; not loaded.
    """

    used: tuple[str, ...]
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything of ours was loaded, and everything of theirs accounted for."""
        return not (self.unused or self.missing or self.misshapen)

    def __str__(self) -> str:
        lines = [f"{len(self.used)} tensors loaded"]
        lines += [f"{len(names)} ignored, {reason}: {_some(names)}" for reason, names in self.ignored.items()]
        for what in ("unused", "missing", "misshapen"):
            if names := getattr(self, what):
                lines.append(f"{len(names)} {what}: {_some(names)}")
        return "\n".join(lines)


def read_checkpoint(path: str | Path) -> State:
    """The tensors of a checkpoint, by their names: LAVIS's .pth ({"model": ...}), or .safetensors of the same names.

    Raises:
        ValueError: it is something else, or needs code to be read.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    found = load_tensors(path)
    state = found.get("model", found) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(x, Tensor) for x in state.values()):
        raise ValueError(f'{path}: expected a checkpoint of LAVIS, {{"model": tensors by name, ...}}')
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_scene_llm(
    state: Mapping[str, Tensor], model: SceneLLM, *, strict: bool = True
) -> tuple[KeyReport, KeyReport | None]:
    """Load a checkpoint such as 3D-LLM's into the model that it is of.

    Args:
        state: of `read_checkpoint`.
        model: its connector ends with a Q-Former and a linear layer (that of `ConnectorConfig()` is 3D-LLM's), and its
            language model is the published one, with location tokens `flat32` where the checkpoint has them.
        strict: refuse a connector that does not fit; see `load_qformer`.

    Returns:
        The reports of the connector and of the language model; None for the latter if the checkpoint has nothing of it.

    Raises:
        ValueError: the connector or the number of words is another, or the weights do not fit.
    """
    kinds = [part.kind for part in model.config.connector.parts]
    if kinds[-2:] != ["qformer", "linear"]:
        raise ValueError(
            f"the checkpoint's connector ends with a Q-Former and a linear layer, this one is of {', '.join(kinds)}: "
            "end it with {kind: qformer} and {kind: linear}"
        )
    rows, known = _num_words(state), len(model.llm.table)
    if rows is not None and rows != known:
        raise ValueError(
            f"the checkpoint's language model has {rows} tokens, this one {known} with locations "
            f"{model.llm.locations!r}: take the language model it was trained with; 3D-LLM's has 32,768 location "
            "tokens behind those of the tokenizer, which is locations: flat32"
        )
    qformer, linear = list(model.connector.parts)[-2:]
    assert isinstance(qformer, QFormer), "its kind is qformer"
    assert isinstance(linear, EachToken), "its kind is linear"
    report = load_qformer(state, qformer.qformer, qformer.queries, linear.network, strict=strict)
    has_language = any(map(_language_prefix, state))
    return report, load_language_model(state, model.llm.network) if has_language else None


def load_qformer(
    state: Mapping[str, Tensor],
    qformer: nn.Module,
    query_tokens: Tensor,
    projection: nn.Module,
    *,
    strict: bool = True,
) -> KeyReport:
    """Load what stands between features and language model.

    Args:
        state: of `read_checkpoint`.
        qformer: a `transformers.Blip2QFormerModel`; of 3D-LLM 12 layers, 768 wide, features of 1408.
        query_tokens: [1 Q D]; 32 of 768.
        projection: a linear layer to the width of the language model; 768 to 2048.
        strict: refuse a checkpoint that does not fit; otherwise load what fits.

    Raises:
        ValueError: not all keys fit and `strict`; nothing is loaded then.
    """
    wanted: State = {"query_tokens": query_tokens.detach()}
    for prefix, module in (("qformer", qformer), ("language_projection", projection)):
        wanted |= {f"{prefix}.{name}": x for name, x in module.state_dict(keep_vars=False).items()}
    language = {name: "the language model: see load_language_model" for name in state if _language_prefix(name)}
    ignored = language | {name: reason for name in state if (reason := _why_ignored(name))}
    ours, _ = to_ours({name: x for name, x in state.items() if name not in ignored}, lavis_rules())
    return _load(state, _origins(state, ours), wanted, ignored, strict)


def load_language_model(state: Mapping[str, Tensor], model: nn.Module, *, strict: bool = False) -> KeyReport:
    """Load the language model's part, such as 3D-LLM's embeddings and head of 64,868 rows (32,100 and 32,768 places).

    LAVIS stores only what was trained, so that `missing` names the rest, which must come from the published model.

    Args:
        state: of `read_checkpoint`.
        model: of transformers; its embeddings are resized to the rows of the checkpoint.
        strict: refuse a checkpoint that does not hold the whole model.

    Raises:
        ValueError: nothing of a language model is there, or it does not fit; see `load_qformer`.
    """
    names = {name: name.removeprefix(prefix) for name in state if (prefix := _language_prefix(name))}
    if not names:
        raise ValueError(f"the checkpoint has nothing of a language model: no name begins with {LANGUAGE_MODELS}")
    rows = _num_words(state)
    if rows not in (None, model.get_input_embeddings().weight.shape[0]):  # type: ignore[operator]
        model.resize_token_embeddings(rows, mean_resizing=False)  # type: ignore[operator]
    _untie(model, {ours: state[theirs] for theirs, ours in names.items()})
    wanted = model.state_dict()
    ignored = {name: "not of the language model" for name in state if name not in names}
    return _load(state, {ours: theirs for theirs, ours in names.items()}, wanted, ignored, strict)


def _num_words(state: Mapping[str, Tensor]) -> int | None:
    """Rows of the language model's embeddings; None where it has none."""
    tables = ("shared.weight", "embed_tokens.weight")
    rows = {x.shape[0] for name, x in state.items() if _language_prefix(name) and name.endswith(tables)}
    if len(rows) > 1:
        raise ValueError(f"the checkpoint's tables of embeddings have different numbers of rows: {sorted(rows)}")
    return rows.pop() if rows else None


def _untie(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """A head of its own where the checkpoint has one: transformers' T5 shares its table, Flan-T5's is trained apart."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    own, shared = state.get("lm_head.weight"), state.get("shared.weight")
    if own is None or shared is None or head is None or torch.equal(own, shared):
        return
    if head.weight is table.weight:
        head.weight = nn.Parameter(head.weight.detach().clone())


def _load(
    state: Mapping[str, Tensor],
    origins: Mapping[str, str],
    wanted: Mapping[str, Tensor],
    ignored: Mapping[str, str],
    strict: bool,
) -> KeyReport:
    """Copy the tensors of `origins` (our names to theirs) onto those of `wanted`, and report."""
    fitting = {ours: theirs for ours, theirs in origins.items() if ours in wanted}
    misshapen = {
        ours: f"{ours}: expected {tuple(wanted[ours].shape)}, got {tuple(state[theirs].shape)}"
        for ours, theirs in fitting.items()
        if wanted[ours].shape != state[theirs].shape
    }
    loaded = {ours: theirs for ours, theirs in fitting.items() if ours not in misshapen}
    accounted = {*fitting.values(), *ignored}
    report = KeyReport(
        used=tuple(sorted(loaded.values())),
        ignored={why: tuple(n for n in ignored if ignored[n] == why) for why in dict.fromkeys(ignored.values())},
        unused=tuple(sorted(state.keys() - accounted)),
        missing=tuple(sorted(wanted.keys() - fitting.keys())),
        misshapen=tuple(misshapen[name] for name in sorted(misshapen)),
    )
    if (strict and not report.is_complete) or not loaded:
        raise ValueError(f"the checkpoint does not fit; nothing was loaded\n{report}")
    with torch.no_grad():
        for ours, theirs in loaded.items():
            wanted[ours].copy_(state[theirs])
    return report


def _origins(state: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> dict[str, str]:
    """Which of theirs each of ours is: the rules only rename, so the tensors are the same objects."""
    names = {id(tensor): name for name, tensor in state.items()}
    return {name: names[id(tensor)] for name, tensor in ours.items()}


def _language_prefix(name: str) -> str | None:
    return next((prefix for prefix in LANGUAGE_MODELS if name.startswith(prefix)), None)


def _why_ignored(name: str) -> str | None:
    return next((reason for pattern, reason in IGNORED.items() if re.fullmatch(pattern, name)), None)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
