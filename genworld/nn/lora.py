"""Low-rank adapters (Hu et al. 2022), through peft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Adapters to linear layers; what they add starts at zero.

    Attributes:
        rank: of what is added.
        alpha: it is scaled by alpha / rank.
        targets: the last part of the names of the layers, such as `q_proj` and `v_proj`; none for all linear layers but
            the one that gives the logits.
    """

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ValueError(f"adapters need a rank of at least 1 and a positive alpha, got {self.rank}, {self.alpha}")


def add_lora(model: nn.Module, config: LoRAConfig, new_rows: Sequence[int] = ()) -> list[str]:
    """Freeze a language model of transformers and put adapters into it.

    Args:
        model: changed in place.
        config: of the adapters.
        new_rows: rows of the embeddings (of words, and of logits) that are trained too: tokens that were added.

    Returns:
        Names of the parameters that are trained now.

    Raises:
        ValueError: no layer has such a name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    network: Any = model
    model.requires_grad_(requires_grad=False)
    head = network.get_output_embeddings()
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head
    }
    targets = config.targets or tuple(sorted({name.rsplit(".", 1)[-1] for name in layers}))
    for target in targets:
        if not any(name.rsplit(".", 1)[-1] == target for name in layers):
            found = sorted({name.rsplit(".", 1)[-1] for name in layers})
            raise ValueError(f"lora.targets: no linear layer is called {target!r}; there are {', '.join(found)}")
    tables = {id(network.get_input_embeddings()), id(head)}
    names = [name for name, layer in model.named_modules() if id(layer) in tables]
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=list(targets),
        trainable_token_indices={name: list(new_rows) for name in names} if new_rows else None,
    )
    inject_adapter_in_model(settings, model)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
