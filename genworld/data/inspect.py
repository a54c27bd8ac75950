"""What a data set will look like to a model, before any training: shapes, times, rejections, padding and balance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from genworld.data.loader import Subset
from genworld.data.packing import PackingConfig, PackOrder, cost
from genworld.data.shapes import ShapeTable, Verdict
from genworld.data.sources import ManifestSource
from genworld.types import ClipInfo, ClipShape, ClipSource, Pick, Sample, TokenGrid

RANKS = (1, 2, 8)


@dataclass(frozen=True)
class Use:
    """A shape that a clip is used at.

    Attributes:
        shape: frames, size, rate.
        tokens: transformer tokens.
        probability: how often, among the uses of the clip.
        slack: latest start, in seconds from the first frame.
        effective_fps: source frames shown per second; below the shape's rate, frames are repeated.
    """

    shape: ClipShape
    tokens: int
    probability: float
    slack: float
    effective_fps: float

    def __str__(self) -> str:
        chance = f"{self.probability:4.0%}  {self.shape.num_frames:>3} x {self.shape.height}x{self.shape.width}"
        tokens = f"{self.tokens:>6} tokens"
        start = f"starting in [0, {self.slack:.2f}] s" if self.slack else "starting at 0 s"
        if self.shape.num_frames == 1:
            return f"{chance}  {tokens}  image, {start}"
        step = 1 / self.shape.fps
        times = f"frames at 0, {step:.3f}, {2 * step:.3f} .. {(self.shape.num_frames - 1) * step:.3f} s"
        repeats = (
            "" if self.effective_fps >= self.shape.fps else f", effectively {self.effective_fps:g} (repeats frames)"
        )
        return f"{chance} @ {self.shape.fps:g} fps{repeats}  {tokens}  {times}, {start}"


@dataclass(frozen=True)
class ClipReport:
    """A clip, how it is used, and if it is not, why."""

    info: ClipInfo
    uses: tuple[Use, ...]
    reason: str

    def __str__(self) -> str:
        info = self.info
        source = f"{info.width}x{info.height}"
        source += f" {info.fps:g} fps {info.seconds:.2f} s" if info.num_frames > 1 else " image"
        if self.reason:
            return f"{info.name}  [{source}]\n    REJECTED: {self.reason}"
        return "\n    ".join([f"{info.name}  [{source}]", *map(str, self.uses)])


@dataclass(frozen=True)
class PackReport:
    """What the first steps of an order are like.

    Attributes:
        num_steps: how many were looked at.
        clips_per_pack: mean number of clips in a pack.
        tokens_per_pack: mean number of tokens in a pack.
        unfilled: part of the token budget that stays empty.
        imbalance: by number of ranks, the part of its time that the mean rank waits for the slowest:
            1 - mean / max cost.
    """

    num_steps: int
    clips_per_pack: float
    tokens_per_pack: float
    unfilled: float
    imbalance: dict[int, float]

    def __str__(self) -> str:
        ranks = ", ".join(f"{value:.1%} on {ranks}" for ranks, value in self.imbalance.items())
        return (
            f"a pack holds {self.clips_per_pack:.1f} clips and {self.tokens_per_pack:.0f} tokens on average, "
            f"{self.unfilled:.1%} of the budget stays unfilled\nranks wait for the slowest: {ranks} "
            f"(over {self.num_steps} steps)"
        )


def inspect_clips(infos: Sequence[ClipInfo], grid: TokenGrid, config: PackingConfig) -> Iterator[ClipReport]:
    """A report on every clip, in order.

    Raises:
        ValueError: a shape of the config does not fit the grid or the token budget.
    """
    table = ShapeTable(infos, grid, config)
    for index, info in enumerate(infos):
        choices = table.choices(np.array([index]))
        chances = table.probabilities(choices.verdict)[0]
        uses = []
        for option in np.flatnonzero(choices.verdict[0] == Verdict.FITS):
            frames, height, width, fps = (column[0, option].item() for column in choices[1:5])
            slack = choices.slack[0, option].item() * config.random_start
            tokens = choices.tokens[0, option].item()
            effective = min(fps, info.fps) if frames > 1 else fps
            uses.append(Use(ClipShape(frames, height, width, fps), tokens, float(chances[option]), slack, effective))
        yield ClipReport(info, tuple(uses), table.reason(index))


def inspect_packs(
    infos: Sequence[ClipInfo],
    grid: TokenGrid,
    config: PackingConfig,
    seed: int,
    num_steps: int = 100,
    cost_ratio: float = 1 / 6144,
) -> PackReport:
    """Statistics of the first steps, and what they would be on 1, 2 and 8 ranks.

    Where `packs_per_step` cannot be shared by so many ranks, the least multiple of it that can is looked at.

    Raises:
        ValueError: no clip fits any shape.
    """
    packs = _lengths(PackOrder(infos, grid, config, seed, cost_ratio), num_steps)
    flat = [pack for step in packs for pack in step]
    tokens = float(np.mean([sum(pack) for pack in flat]))
    imbalance = {}
    for ranks in RANKS:
        shared = math.lcm(config.packs_per_step, ranks)
        if shared != config.packs_per_step:
            order = PackOrder(infos, grid, replace(config, packs_per_step=shared), seed, cost_ratio)
            steps = _lengths(order, num_steps)
        else:
            steps = packs
        costs = np.array([[cost(pack, cost_ratio) for pack in step] for step in steps])
        by_rank = costs.reshape(num_steps, ranks, -1).sum(axis=-1)
        imbalance[ranks] = float(1 - (by_rank.mean(axis=1) / by_rank.max(axis=1)).mean())
    clips = float(np.mean([len(pack) for pack in flat]))
    return PackReport(num_steps, clips, tokens, 1 - tokens / config.tokens_per_pack, imbalance)


def _lengths(order: PackOrder, num_steps: int) -> list[list[list[int]]]:
    """Token counts of the clips of every pack of every step."""
    return [
        [[order.grid.num_tokens(pick.shape) for pick in pack] for pack in order.step(number)]
        for number in range(num_steps)
    ]


def unusable(source: ClipSource) -> list[str]:
    """Clips of a manifest that did not get as far as having a shape, such as broken files; each with its reason."""
    if isinstance(source, Subset):
        return unusable(source.source)
    return [rejected.reason for rejected in source.rejected] if isinstance(source, ManifestSource) else []


def totals(reports: Sequence[ClipReport], num_unusable: int = 0) -> str:
    """How many clips are used, and how often each shape is; `num_unusable` did not get as far as having a shape."""
    used = [report for report in reports if report.uses]
    counts: dict[ClipShape, float] = {}
    for report in used:
        for use in report.uses:
            counts[use.shape] = counts.get(use.shape, 0) + use.probability
    total = len(reports) + num_unusable
    lines = [f"{len(used)} of {total} clips are used, {total - len(used)} rejected"]
    shapes = sorted(counts.items(), key=lambda item: -item[1])
    lines += [f"    {count / len(used):6.1%}  {shape}" for shape, count in shapes]
    return "\n".join(lines)


def first_samples(source: ClipSource, order: PackOrder, num: int) -> list[tuple[Pick, Sample]]:
    """The first samples of the stream, as training will read them: for a contact sheet."""
    picks = [order.pick(position) for position in range(num)]
    return [(pick, source.read(pick)) for pick in picks]
