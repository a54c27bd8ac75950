"""Scenes as tensors: what the renderer takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """Everything a picture depends on, per frame; frames of several scenes may be concatenated.

    Colours are linear (the square of display colours). An absent object has `kind` -1.
    """

    kind: Int[Tensor, "F N"]
    dims: Float[Tensor, "F N 3"]
    bound: Float[Tensor, "F N"]
    centre: Float[Tensor, "F N 3"]
    rotation: Float[Tensor, "F N 3 3"]
    albedo: Float[Tensor, "F N 3"]
    gloss: Float[Tensor, "F N"]
    world_from_camera: Float[Tensor, "F 4 4"]
    intrinsics: Float[Tensor, "F 3 3"]
    sun: Float[Tensor, "F 3"]
    floor: Float[Tensor, "F 3"]
    zenith: Float[Tensor, "F 3"]
    horizon: Float[Tensor, "F 3"]

    def __len__(self) -> int:
        return len(self.kind)

    def map(self, change: Callable[[Tensor], Tensor]) -> Stage:
        """A stage with `change` applied to every tensor."""
        return Stage(*(change(getattr(self, field.name)) for field in dataclasses.fields(self)))

    @staticmethod
    def join(stages: Sequence[Stage]) -> Stage:
        """Several scenes as one, to render them in one call; missing objects are padded with absent ones."""
        most = max(stage.kind.shape[1] for stage in stages)

        def pad(stage: Stage, name: str) -> Tensor:
            value = getattr(stage, name)
            if name not in ("kind", "dims", "bound", "centre", "rotation", "albedo", "gloss"):
                return value
            filler = value.new_full((len(value), most - value.shape[1], *value.shape[2:]), -1 if name == "kind" else 1)
            return torch.cat([value, filler], dim=1)

        names = [field.name for field in dataclasses.fields(Stage)]
        return Stage(*(torch.cat([pad(stage, name) for stage in stages]) for name in names))
