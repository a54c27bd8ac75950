"""What a task is: the one thing the trainer knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genworld.data.examples import ExampleSource
from genworld.data.reading import readable
from genworld.models.text_encoder import TextEncoder
from genworld.types import ClipInfo, ClipSource, ExampleT, Pack, Pick, Sample, TokenGrid


@dataclass(frozen=True)
class TaskOutput:
    """The result of one forward pass.

    `loss` and every entry of `logs` are *sums* over `Task.units(pack)`; the trainer divides by the number of units in
    the whole optimiser step over all ranks, so that a rank with few units does not weigh as much as one with many.
    A log that is a sum over some of them only has its own number of units in `units`, and is divided by that.
    """

    loss: Tensor
    logs: Mapping[str, Tensor] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)


class Task(nn.Module, Generic[ExampleT]):
    """Networks together with the loss that trains them, on packs of samples of video or of other examples.

    Attributes:
        leaves_out_parameters: whether the loss of some step may not depend on some parameter (a discriminator before
            its phase, an encoder that is frozen after it): several processes then have to look for them.
        whole_steps: whether the loss compares all samples of a step with one another, and so is no sum over packs:
            each process then takes one pack a step.
    """

    leaves_out_parameters: bool = False
    whole_steps: bool = False

    def units(self, pack: Pack[ExampleT]) -> int:
        """How many units (latent tokens, pixels, answers) `forward(pack)` sums its losses over."""
        raise NotImplementedError

    def forward(self, pack: Pack[ExampleT], seed: int, step: int) -> TaskOutput:
        """Losses of one pack. Randomness is a function of (`seed`, each sample's position) and nothing else.

        Args:
            pack: samples on the task's device.
            seed: the experiment's seed (validation passes another).
            step: optimiser steps done so far, for losses that change phase.
        """
        raise NotImplementedError

    def networks(self) -> dict[str, nn.Module]:
        """The networks a checkpoint holds, by name; frozen foreign ones are left out."""
        raise NotImplementedError

    def assets(self) -> dict[str, str]:
        """Text files saved with every checkpoint (a tokenizer, say), by file name."""
        return {}

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take back what `assets` gave. Called before weights are loaded."""

    def preview(self, packs: Sequence[Pack[ExampleT]], folder: Path, seed: int) -> list[Path]:
        """Write pictures a person can judge progress by; returns the files. Default: none."""
        return []


class ClipTask(Task[Sample]):
    """A task on clips, which are packed by their tokens.

    Attributes:
        grid: how clips become tokens; data is packed by it.
        prepare_clips: how many picks `prepare` wants to see.
    """

    grid: TokenGrid
    prepare_clips: int = 256

    def prepare(self, source: ClipSource, picks: Sequence[Pick]) -> None:
        """Whatever must be measured on data before the first step (statistics, a vocabulary). Default: nothing.

        Called once, before step 0, with the same arguments on every rank, and not when a run is resumed: what it
        measures must end up in parameters, buffers or `assets`.
        """


class ExampleTask(Task[ExampleT]):
    """A task on examples that are no clips: so many to a step (see `data.examples`)."""

    def prepare(self, source: ExampleSource[ExampleT]) -> None:
        """As `ClipTask.prepare`; reads from the source what it needs to see."""


@dataclass(frozen=True)
class PickedPixels:
    """The pixels of picked clips, read anew at every pass: together they may not fit the memory.

    Bad clips that the source has counted are left out; see `CountingSource`.
    """

    source: ClipSource
    picks: Sequence[Pick]

    def __len__(self) -> int:
        return len(self.picks)

    def __iter__(self) -> Iterator[Float[Tensor, "3 F H W"]]:
        return (sample.need_pixels() for sample in readable(self.source, self.picks))


def check_captions(text: TextEncoder, infos: Iterable[ClipInfo]) -> None:
    """See that a text encoder takes every caption.

    Raises:
        ValueError: one is too long; names the clip.
    """
    for info in infos:
        try:
            text.tokenize([info.text])
        except ValueError as error:
            raise ValueError(f"the caption of clip {info.name}: {error}") from None


def group_by_shape(samples: Iterable[Sample]) -> list[list[Sample]]:
    """Samples whose pixels have the same shape, together; groups and members in order of appearance."""
    groups: Mapping[torch.Size, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.need_pixels().shape].append(sample)
    return list(groups.values())
