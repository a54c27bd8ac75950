"""Which shapes a clip may be used at, and the draw among them.

A shape is a pixel budget (or an exact size), a length and a frame rate. A clip keeps its own aspect ratio: a budget of
65,536 pixels is 256x256 for a square clip and 336x192 for a wide one, so one entry of a config covers every ratio.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from genworld.ops.random import seed_of
from genworld.types import ClipInfo, ClipShape, TokenGrid

IMAGE_FPS = 1.0  # one frame has no rate, but a shape must name one
SLACK_TOLERANCE = 1e-6  # seconds lost to rounding in a duration that is exactly long enough


@dataclass(frozen=True, kw_only=True)
class ShapeConfig:
    """One shape that clips may be used at.

    Attributes:
        pixels: budget for height x width; each clip keeps its aspect ratio and stays at or below it.
        size: an exact (height, width) instead of a budget; clips are cropped to its ratio.
        frames: number of frames; 1 is an image, which a video can serve too.
        fps: frames per second; None takes each clip's own rate.
        weight: how often it is drawn, relative to the other shapes that the clip can serve.
    """

    pixels: int | None = None
    size: tuple[int, int] | None = None
    frames: int = 1
    fps: float | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.pixels is None) == (self.size is None):
            raise ValueError("a shape needs either pixels (a budget) or size (an exact [height, width]), not both")
        if self.frames < 1 or self.weight <= 0 or (self.fps is not None and self.fps <= 0) or self.area < 1:
            raise ValueError(f"frames, fps, weight and pixels or size must be positive, got {self}")

    @property
    def area(self) -> int:
        """The most pixels a frame can have."""
        if self.size is not None:
            return self.size[0] * self.size[1]
        assert self.pixels is not None
        return self.pixels

    def __str__(self) -> str:
        size = f"{self.size[0]}x{self.size[1]}" if self.size else f"{self.pixels} pixels"
        rate = "" if self.frames == 1 else " at their own rate" if self.fps is None else f" at {self.fps:g} fps"
        return f"{self.frames} frame{'s' * (self.frames > 1)} of {size}{rate}"


@dataclass(frozen=True, kw_only=True)
class PackingConfig:
    """The allowed shapes and the token budget. There is no batch size: packs are as full as the budget lets them be.

    Attributes:
        shapes: what clips may be used at. Empty: each clip as it is, cut down to what the token grid divides.
        tokens_per_pack: the most tokens in a pack (a micro-batch); sets the peak memory.
        packs_per_step: packs in one optimiser step over all ranks; ranks x accumulation must divide it.
        window: how many clips are packed together; None chooses about 128 steps' worth (see `PackOrder`).
        min_detail: a clip serves a shape if it has at least this part of its pixels and of its frame rate; 1 forbids
            all enlarging and all repeating of frames.
        random_start: start anywhere in the clip; otherwise always at its first frame.
    """

    shapes: list[ShapeConfig] = field(default_factory=list)
    tokens_per_pack: int
    packs_per_step: int = 1
    window: int | None = None
    min_detail: float = 0.8
    random_start: bool = True

    def __post_init__(self) -> None:
        if self.tokens_per_pack < 1 or self.packs_per_step < 1 or (self.window is not None and self.window < 1):
            raise ValueError("tokens_per_pack, packs_per_step and window must be at least 1")
        if not 0 < self.min_detail <= 1:
            raise ValueError(f"min_detail must be in (0, 1], got {self.min_detail}")

    def check(self, grid: TokenGrid) -> None:
        """Refuse shapes that `grid` cannot divide or that no pack can hold.

        Raises:
            ValueError: names the shape and what to change.
        """
        for shape in self.shapes:
            multiple = grid.size_multiple
            height, width = shape.size or (multiple, max(shape.area // multiple**2, 1) * multiple)
            if height * width > shape.area:
                raise ValueError(f"packing.shapes: {shape}: fewer pixels than one token of {multiple}x{multiple}")
            try:
                tokens = grid.num_tokens(ClipShape(shape.frames, height, width, shape.fps or IMAGE_FPS))
            except ValueError as error:
                raise ValueError(f"packing.shapes: {shape}: {error}") from None
            if tokens > self.tokens_per_pack:
                raise ValueError(
                    f"packing.shapes: {shape}: up to {tokens} tokens, but tokens_per_pack is {self.tokens_per_pack}: "
                    f"raise tokens_per_pack to {tokens} or use fewer frames or pixels"
                )


class Verdict(IntEnum):
    """Whether a clip can serve a shape, or the first thing that is missing."""

    FITS = 0
    IS_IMAGE = 1
    TOO_SMALL = 2
    TOO_SLOW = 3
    TOO_SHORT = 4
    TOO_MANY_TOKENS = 5


class Choices(NamedTuple):
    """For n clips and S shapes, what each would be used at. `slack` is how late it may start, in seconds."""

    verdict: Int[np.ndarray, "n S"]
    frames: Int[np.ndarray, "n S"]
    height: Int[np.ndarray, "n S"]
    width: Int[np.ndarray, "n S"]
    fps: Float[np.ndarray, "n S"]
    tokens: Int[np.ndarray, "n S"]
    slack: Float[np.ndarray, "n S"]


class Draw(NamedTuple):
    """What n stream positions are used at."""

    positions: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]
    frames: Int[np.ndarray, " n"]
    height: Int[np.ndarray, " n"]
    width: Int[np.ndarray, " n"]
    fps: Float[np.ndarray, " n"]
    tokens: Int[np.ndarray, " n"]
    start: Float[np.ndarray, " n"]


class ShapeTable:
    """The shapes that every clip of a data set can serve. Works on columns, so millions of clips are fine."""

    def __init__(self, infos: Sequence[ClipInfo], grid: TokenGrid, config: PackingConfig) -> None:
        """Check the config and judge every clip; see `eligible` and `reason`.

        Raises:
            ValueError: a shape does not fit the grid or the token budget.
        """
        config.check(grid)
        self.infos, self.grid, self.config = infos, grid, config
        columns = np.array([(i.num_frames, i.height, i.width, i.fps) for i in infos], np.float64).reshape(-1, 4)
        self._frames, self._height, self._width, self._fps = columns.T
        self._fps = np.where(self._fps > 0, self._fps, IMAGE_FPS)  # an image may come without a rate
        chunks = np.array_split(np.arange(len(infos)), len(infos) // 65536 + 1)
        fits = [(self.choices(chunk).verdict == Verdict.FITS).any(axis=1) for chunk in chunks]
        self.eligible: Int[np.ndarray, " N"] = np.flatnonzero(np.concatenate(fits))

    def choices(self, indices: Int[np.ndarray, " n"]) -> Choices:
        """Judge the clips `indices` against every shape."""
        shape = (len(indices), max(len(self.config.shapes), 1))
        frames, height, width, fps = (
            np.broadcast_to(column[indices, None], shape)
            for column in (self._frames, self._height, self._width, self._fps)
        )
        length, rows, columns, rate = self._wanted(frames, height, width, fps)
        time = 1 + (length - 1) // self.grid.time_stride
        tokens = time * (rows // self.grid.size_multiple) * (columns // self.grid.size_multiple)
        slack = (frames - 1) / fps - (length - 1) / rate
        verdict = np.zeros(shape, np.int64)
        shapes, detail = self.config.shapes, self.config.min_detail
        area = np.array([s.area for s in shapes] or [self.grid.size_multiple**2])
        for problem, holds in (  # the last one that holds is the one reported
            (Verdict.TOO_MANY_TOKENS, tokens > self.config.tokens_per_pack),
            (Verdict.TOO_SHORT, slack < -SLACK_TOLERANCE),
            (Verdict.TOO_SLOW, (length > 1) & (fps < detail * rate)),
            (Verdict.TOO_SMALL, height * width < area * (detail if shapes else 1)),
            (Verdict.TOO_SMALL, (rows < 1) | (columns < 1)),
            (Verdict.IS_IMAGE, (length > 1) & (frames <= 1)),
        ):
            verdict[holds] = problem
        return Choices(verdict, length, rows, columns, rate, tokens, np.where(slack > SLACK_TOLERANCE, slack, 0))

    def _wanted(self, frames: np.ndarray, height: np.ndarray, width: np.ndarray, fps: np.ndarray) -> tuple:
        """Frames, height, width and rate of every shape, for clips of these; all [n S]."""
        stride, multiple, shapes = self.grid.time_stride, self.grid.size_multiple, self.config.shapes
        if not shapes:
            cut = [(x // multiple * multiple).astype(np.int64) for x in (height, width)]
            return ((frames - 1) // stride * stride + 1).astype(np.int64), *cut, np.where(frames > 1, fps, IMAGE_FPS)
        areas, which = np.unique([s.area for s in shapes], return_inverse=True)  # many shapes, few budgets
        rows, columns = (size[:, which] for size in fit_size(height[:, :1], width[:, :1], areas, multiple))
        exact = np.array([s.size or (0, 0) for s in shapes])
        return (
            np.broadcast_to(np.array([s.frames for s in shapes]), height.shape),
            np.where(exact[:, 0] > 0, exact[:, 0], rows),
            np.where(exact[:, 1] > 0, exact[:, 1], columns),
            np.stack([self._rate(s, fps[:, i]) for i, s in enumerate(shapes)], axis=1),
        )

    @staticmethod
    def _rate(shape: ShapeConfig, fps: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        if shape.frames == 1:
            return np.full(len(fps), IMAGE_FPS)
        return fps if shape.fps is None else np.full(len(fps), shape.fps)

    def probabilities(self, verdict: Int[np.ndarray, "n S"]) -> Float[np.ndarray, "n S"]:
        """How often each clip is used at each shape; rows without any shape are zero."""
        weights = np.array([s.weight for s in self.config.shapes] or [1.0]) * (verdict == Verdict.FITS)
        return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)

    def draw(self, indices: Int[np.ndarray, " n"], positions: Int[np.ndarray, " n"], seed: int) -> Draw:
        """Shape and start of eligible clips at stream positions; a function of (seed, position) and the clip only."""
        choices = self.choices(indices)
        ceilings = np.cumsum(self.probabilities(choices.verdict), axis=1)
        points = uniforms(positions, seed_of(seed, "shape")) * ceilings[:, -1]
        option = (points[:, None] >= ceilings).sum(axis=1)
        _, frames, height, width, fps, tokens, slack = (column[np.arange(len(indices)), option] for column in choices)
        start = uniforms(positions, seed_of(seed, "start")) * slack * self.config.random_start
        return Draw(positions, indices, frames, height, width, fps, tokens, start)

    def rejections(self) -> Iterator[str]:
        """Name and reason of every clip that fits no shape."""
        for index in np.setdiff1d(np.arange(len(self.infos)), self.eligible):
            yield f"{self.infos[index].name or f'clip {index}'}: {self.reason(int(index))}"

    def reason(self, index: int) -> str:
        """Why clip `index` fits no shape; empty if it fits one."""
        choices = self.choices(np.array([index]))
        if (choices.verdict == Verdict.FITS).any():
            return ""
        return "; ".join(dict.fromkeys(self._explain(index, choices, option) for option in range(choices.fps.shape[1])))

    def _explain(self, index: int, choices: Choices, option: int) -> str:
        info = self.infos[index]
        shape = self.config.shapes[option] if self.config.shapes else None
        frames, rate = choices.frames[0, option], choices.fps[0, option]
        area = shape.area if shape else self.grid.size_multiple**2
        match choices.verdict[0, option]:
            case Verdict.IS_IMAGE:
                return f"an image cannot serve {frames} frames"
            case Verdict.TOO_SMALL:
                return f"{info.height}x{info.width} is too small for {shape or f'one token of {area} pixels'}"
            case Verdict.TOO_SLOW:
                return f"its {info.fps:g} fps are too few for {rate:g} fps"
            case Verdict.TOO_SHORT:
                need = (frames - 1) / rate
                return f"its {info.seconds:.2f} s are too short for {frames} frames at {rate:g} fps ({need:.2f} s)"
        tokens = choices.tokens[0, option]
        return f"its {tokens} tokens exceed tokens_per_pack {self.config.tokens_per_pack}"


def assign(info: ClipInfo, grid: TokenGrid, config: PackingConfig, seed: int, position: int) -> tuple[ClipShape, float]:
    """The shape a clip is used at, and its start in seconds, at one position of the stream.

    Raises:
        ValueError: the clip fits none of the shapes; says why.
    """
    table = ShapeTable([info], grid, config)
    if not len(table.eligible):
        raise ValueError(f"{info.name or 'clip'}: {table.reason(0)}")
    draw = table.draw(np.array([0]), np.array([position]), seed)
    shape = ClipShape(int(draw.frames[0]), int(draw.height[0]), int(draw.width[0]), float(draw.fps[0]))
    return shape, float(draw.start[0])


def fit_size(
    height: Float[np.ndarray, "n 1"], width: Float[np.ndarray, "n 1"], pixels: Int[np.ndarray, " A"], multiple: int
) -> tuple[Int[np.ndarray, "n A"], Int[np.ndarray, "n A"]]:
    """The size of at most `pixels`, in multiples of `multiple`, nearest to the ratio height / width and to the budget.

    Of the sizes around the ideal one, takes that with the least |log ratio error| + |log area error|.
    """
    cells = pixels // multiple**2
    ideal_rows = np.sqrt(pixels * height / width) / multiple
    ideal_columns = np.sqrt(pixels * width / height) / multiple
    best = np.full(ideal_rows.shape, np.inf)
    rows, columns = np.ones(best.shape, np.int64), np.ones(best.shape, np.int64)
    for extra_row in (0, 1):
        for extra_column in (0, 1):
            r = np.clip(np.floor(ideal_rows + 1e-9) + extra_row, 1, cells)
            c = np.clip(np.floor(ideal_columns + 1e-9) + extra_column, 1, np.floor(cells / r))
            score = np.abs(np.log(r * width / (c * height))) + np.abs(np.log(r * c / cells))
            better = score < best
            best = np.where(better, score, best)
            rows, columns = np.where(better, r, rows).astype(np.int64), np.where(better, c, columns).astype(np.int64)
    return rows * multiple, columns * multiple


def uniforms(values: Int[np.ndarray, " n"], key: int) -> Float[np.ndarray, " n"]:
    """Numbers in [0, 1), one per integer: a function of it and of `key`. See `scramble`."""
    return (scramble(values, key) >> np.uint64(11)) * 2.0**-53


def scramble(values: Int[np.ndarray, " n"], key: int) -> UInt64[np.ndarray, " n"]:
    """A 64-bit hash of each integer under a key: SplitMix64 (Steele, Lea, Flood 2014), twice.

    Unlike a library's generator it draws any position without those before it, and will be the same in every version.
    """
    mixed = _mix(values.astype(np.uint64) + np.uint64(key))
    return _mix(mixed ^ np.uint64(key >> 1))


def _mix(x: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
