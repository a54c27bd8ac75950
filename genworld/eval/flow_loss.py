"""The loss of rectified flow on held-out clips, by shape and by time: the cheap first sign of how a training goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.eval.reconstruction import PerVideo
from genworld.flow.bins import bin_names, blind_loss
from genworld.types import ClipShape


class FlowLoss(PerVideo):
    """The loss of each held-out clip in each bin, and `NAME/blind`, see `blind_loss`; the mean over clips by name.

    Args:
        shapes: that clips may have.
        deviations: of the channels of the latents.
    """

    def __init__(self, shapes: Sequence[ClipShape], deviations: Float[Tensor, " C"] | float = 1.0) -> None:
        self.shapes = tuple(dict.fromkeys(shapes))
        names = [name for shape in self.shapes for name in bin_names(shape)]
        super().__init__((*names, *(f"{name}/blind" for name in names)))
        self.deviations = deviations

    def update(
        self,
        losses: Float[Tensor, "B bins"],
        times: Float[Tensor, "B bins"],
        shape: ClipShape,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Add clips of one shape.

        Raises:
            ValueError: a loss is not finite, or the shape is not one of `shapes`.
        """
        if shape not in self.shapes:
            raise ValueError(f"expected clips of {', '.join(map(str, self.shapes))}, got {shape}")
        values: dict[str, Tensor] = {}
        for i, name in enumerate(bin_names(shape)):
            values[name] = losses[:, i]
            values[f"{name}/blind"] = blind_loss(times[:, i], self.deviations)
        self.keep(values, positions)

    def means(self) -> Mapping[ClipShape, Float[Tensor, "two bins"]]:
        """For each shape that was seen, the mean loss and the mean of `blind_loss` in each bin."""
        found = self.compute()
        return {
            shape: torch.stack(
                [torch.stack([found[f"{name}{end}"] for name in bin_names(shape)]) for end in ("", "/blind")]
            )
            for shape in self.shapes
            if bin_names(shape)[0] in found
        }
