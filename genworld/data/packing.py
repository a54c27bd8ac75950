"""The order of samples, and how they are packed: a pure function of the data set, the config and the seed.

Three layers, each a pure function of the one above:

1. The *stream*: position p is clip perm(seed, epoch = p // N)[p % N] at a shape and start drawn from (seed, p).
2. *Windows* of the stream are packed into packs of at most `tokens_per_pack` tokens by best-fit decreasing
   (Krell et al. 2021, "Efficient sequence packing without cross-contamination").
3. The packs of a window are sorted by cost and cut into *steps* of `packs_per_step`, so that ranks finish together.

Nothing is dropped or carried from a window to the next, and the number of ranks appears nowhere: rank r of R takes
packs r A .. (r + 1) A of every step, A = packs_per_step / R. The state of an order is the number of the next step.

What grouping by cost does to randomness: which clips meet in a step is random only among clips that make packs of
similar cost; a step may hold long videos only, and another only images. Over a window every clip still counts as
often as the stream says, and the steps of a window come in random order, so the bias of a single step's gradient is a
slow one only if the window is short. With one pack per step, or one shape, there is nothing to group.
"""

from __future__ import annotations

import functools
import heapq
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from jaxtyping import Int

from genworld.data.shapes import Draw, PackingConfig, ShapeConfig, ShapeTable, Verdict, assign, scramble
from genworld.ops.random import seed_of
from genworld.types import ClipInfo, ClipShape, Pick, TokenGrid

__all__ = ["PackOrder", "PackingConfig", "ShapeConfig", "assign", "best_fit", "cost", "plan_steps", "validation_picks"]

STEPS_PER_WINDOW = 128  # rounding packs up to whole steps then wastes 0.4 % of the tokens on average
MAX_WINDOW = 65536  # clips; bounds the time and memory that one window takes
BALANCED = 0.997  # a step whose mean cost is this part of its maximum is left alone


class PackOrder:
    """The global order of packs, without end. `step(i)` is pure; a window's plan is kept, so walking on is cheap.

    Where the config gives no window, it holds the clips of about 128 steps: that fills packs to 99 % or more, and
    balances steps, for wide mixes of lengths. If all clips have the same number of tokens, packs are runs of the stream
    itself: every clip is then seen once before any is seen twice, however small the data set.
    """

    def __init__(
        self, infos: Sequence[ClipInfo], grid: TokenGrid, config: PackingConfig, seed: int, cost_ratio: float = 1 / 6144
    ) -> None:
        """Judge the clips and choose the window.

        Args:
            infos: what is known of every clip, by index.
            grid: how pixels become tokens.
            config: shapes and budgets.
            seed: of the order; nothing else is random.
            cost_ratio: b / a of a segment's cost a L + b L^2: 1 / (6 d) for a transformer of width d; 0 for networks
                that are linear in the number of tokens.

        Raises:
            ValueError: there is no clip, or none fits any shape.
        """
        self.infos, self.grid, self.config, self.seed, self.cost_ratio = infos, grid, config, seed, cost_ratio
        self.table = ShapeTable(infos, grid, config)
        self.num_clips = len(self.table.eligible)
        if not self.num_clips:
            raise ValueError(_nothing_fits(self.table))
        self._epoch = functools.lru_cache(maxsize=2)(self._permute)
        self._plan = functools.lru_cache(maxsize=2)(self._plan_window)
        self.window = self._choose_window()
        self._first_steps = [0]  # of every window counted so far, and of the one after

    def __reduce__(self) -> tuple:
        return PackOrder, (self.infos, self.grid, self.config, self.seed, self.cost_ratio)

    def rejections(self) -> list[str]:
        """Name and reason of every clip that fits no shape; to be shown, so that nothing is left out silently."""
        return list(self.table.rejections())

    def step(self, number: int) -> list[list[Pick]]:
        """The `packs_per_step` packs of optimiser step `number`, of nearly equal cost.

        A step far from the last one asked for needs the packs of all windows before it counted, about 2 microseconds
        a clip.
        """
        window = self._find(number)
        draw, steps = self._plan(window)
        return [_picks(draw, pack) for pack in steps[number - self._first_steps[window]]]

    def position(self, number: int) -> int:
        """How far the stream is used up before the window of step `number`: position // num_clips is the epoch."""
        return self._find(number) * self.window

    def draw(self, positions: Int[np.ndarray, " n"]) -> Draw:
        """Clip, shape and start at positions of the stream."""
        epochs, places = np.divmod(positions, self.num_clips)
        distinct, rows = np.unique(epochs, return_inverse=True)
        indices = np.stack([self._epoch(int(epoch)) for epoch in distinct])[rows, places]
        return self.table.draw(indices, positions, self.seed)

    def pick(self, position: int) -> Pick:
        """The sample at one position of the stream."""
        return _picks(self.draw(np.array([position])), [0])[0]

    def replacement(self, pick: Pick, attempt: int) -> Pick | None:
        """The clip that takes the place of an unreadable one, at the same shape; None when there is no other.

        It is the `attempt`-th (from 1) of those that follow in the epoch and can serve the shape: a function of the
        pick alone. One that is unreadable itself is for the caller to find out.
        """
        order = np.roll(self._epoch(pick.position // self.num_clips), -(pick.position % self.num_clips))[1:]
        for some in np.array_split(order, len(order) // 1024 + 1):
            choices = self.table.choices(some)
            same = choices.verdict == Verdict.FITS
            for column, wanted in zip(choices[1:5], pick.shape, strict=True):
                same &= column == wanted
            found = np.flatnonzero(same.any(axis=1))
            if attempt <= len(found):
                row = found[attempt - 1]
                latest = float(choices.slack[row, same[row].argmax()])
                return replace(pick, index=int(some[row]), start=min(pick.start, latest))
            attempt -= len(found)
        return None

    def _permute(self, epoch: int) -> Int[np.ndarray, " N"]:
        keys = scramble(np.arange(self.num_clips), seed_of(self.seed, "epoch", epoch))
        return self.table.eligible[np.argsort(keys, kind="stable")]

    def _choose_window(self) -> int:
        packs = self.config.packs_per_step
        clips = self.config.window
        if clips is None:
            tokens = self.draw(np.arange(4096)).tokens
            low, high = int(tokens.min()), int(tokens.max())
            budget = self.config.tokens_per_pack
            per_pack = budget // low if low == high else len(tokens) / len(best_fit(tokens.tolist(), budget))
            unit = packs * max(round(per_pack), 1)  # whole steps where all clips are alike
            steps = max(min(STEPS_PER_WINDOW, MAX_WINDOW // unit), 8)
            return unit * steps
        return math.ceil(clips / packs) * packs  # so that a window never has fewer clips than packs

    def _find(self, number: int) -> int:
        """The window that step `number` is in; counts the steps of windows as far as needed."""
        while self._first_steps[-1] <= number:
            window = len(self._first_steps) - 1
            packs = len(best_fit(self._draw_window(window).tokens.tolist(), self.config.tokens_per_pack))
            self._first_steps.append(self._first_steps[-1] + math.ceil(packs / self.config.packs_per_step))
        return bisect_right(self._first_steps, number) - 1

    def _draw_window(self, window: int) -> Draw:
        return self.draw(np.arange(window * self.window, (window + 1) * self.window))

    def _plan_window(self, window: int) -> tuple[Draw, list[list[list[int]]]]:
        draw = self._draw_window(window)
        config = self.config
        steps = plan_steps(draw.tokens.tolist(), config.tokens_per_pack, config.packs_per_step, self.cost_ratio)
        # Each step takes the place of one of its samples drawn at random: a shuffle, whatever the costs, but one that
        # keeps runs of the stream in their order.
        items = [[item for pack in step for item in pack] for step in steps]
        keys = [item[seed_of(self.seed, "step", window, i) % len(item)] for i, item in enumerate(items)]
        return draw, [steps[i] for i in np.argsort(keys, kind="stable")]


def cost(tokens: Iterable[int], ratio: float) -> float:
    """What a pack costs, in units of the linear cost of one token: the sum of L + ratio L^2 over its segments."""
    return sum(length + ratio * length * length for length in tokens)


def plan_steps(tokens: Sequence[int], budget: int, packs_per_step: int, ratio: float) -> list[list[list[int]]]:
    """Pack clips of the given lengths and group the packs into steps of equal cost.

    Args:
        tokens: length of every clip; none exceeds `budget`, and there are at least `packs_per_step`.
        budget: the most tokens in a pack.
        packs_per_step: packs in a step; packs are split until the last step is whole, too.
        ratio: quadratic over linear cost.

    Returns:
        Steps of packs of indices into `tokens`; every index once, no pack empty.
    """
    packs = _split(best_fit(tokens, budget), packs_per_step)
    costs = [cost((tokens[i] for i in pack), ratio) for pack in packs]
    ranked = sorted(range(len(packs)), key=lambda i: -costs[i])
    steps = []
    for first in range(0, len(ranked), packs_per_step):
        group = ranked[first : first + packs_per_step]
        step = [packs[i] for i in group]
        if sum(costs[i] for i in group) < BALANCED * packs_per_step * costs[group[0]]:
            step = _deal(step, tokens, budget, ratio)
        steps.append([sorted(pack) for pack in step])
    return steps


def best_fit(tokens: Sequence[int], budget: int) -> list[list[int]]:
    """Best-fit-decreasing bin packing: the longest clip first, each into the fullest pack that still has room.

    Clips of equal length keep their order, so that clips that are all alike are packed in runs.
    """
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    smallest = min(tokens)
    for i in sorted(range(len(tokens)), key=lambda i: -tokens[i]):
        length = tokens[i]
        place = bisect_left(room, (length, -1))
        if place == len(room):
            free, pack = budget, len(packs)
            packs.append([i])
        else:
            free, pack = room.pop(place)
            packs[pack].append(i)
        assert length <= free
        if free - length >= smallest:
            insort(room, (free - length, pack))
    return packs


def _split(packs: list[list[int]], multiple: int) -> list[list[int]]:
    """Halve the packs of most clips until their number is a multiple of `multiple`."""
    largest = [(-len(pack), i) for i, pack in enumerate(packs)]
    heapq.heapify(largest)
    while len(packs) % multiple:
        pack = packs[largest[0][1]]
        assert len(pack) > 1, "fewer clips than packs"
        packs.append(pack[1::2])
        pack[:] = pack[::2]
        heapq.heapreplace(largest, (-len(pack), largest[0][1]))
        heapq.heappush(largest, (-len(packs[-1]), len(packs) - 1))
    return packs


def _deal(step: list[list[int]], tokens: Sequence[int], budget: int, ratio: float) -> list[list[int]]:
    """Deal the clips of a step anew, the costliest first, each to the cheapest pack with room; the better of the two.

    (Longest processing time first: Graham 1969.)
    """
    heap = [(0.0, i) for i in range(len(step))]
    dealt: list[list[int]] = [[] for _ in step]
    room = [budget] * len(step)
    for item in sorted((i for pack in step for i in pack), key=lambda i: -tokens[i]):
        full = []
        while heap and room[heap[0][1]] < tokens[item]:
            full.append(heapq.heappop(heap))
        if not heap:
            return step
        paid, pack = heap[0]
        heapq.heapreplace(heap, (paid + cost([tokens[item]], ratio), pack))
        dealt[pack].append(item)
        room[pack] -= tokens[item]
        for entry in full:
            heapq.heappush(heap, entry)
    before = max(cost((tokens[i] for i in pack), ratio) for pack in step)
    return dealt if all(dealt) and max(heap)[0] < before else step


def validation_picks(
    infos: Sequence[ClipInfo], grid: TokenGrid, config: PackingConfig, num: int, seed: int = 0
) -> list[list[Pick]]:
    """`num` fixed packs to validate on; every clip comes once before any comes twice.

    Args:
        infos: the held-out clips.
        grid: how pixels become tokens.
        config: the training's; its `packs_per_step` and `window` play no part.
        num: how many packs.
        seed: of the choice.

    Raises:
        ValueError: there is no clip, or none fits any shape.
    """
    window = max(len(ShapeTable(infos, grid, config).eligible), 1)
    order = PackOrder(infos, grid, replace(config, packs_per_step=1, window=window), seed)
    return [order.step(i)[0] for i in range(num)]


def _picks(draw: Draw, items: Sequence[int]) -> list[Pick]:
    picks = []
    for i in items:
        position, index, frames, height, width, fps, _, start = (column[i].item() for column in draw)
        picks.append(Pick(position, index, ClipShape(frames, height, width, fps), start))
    return picks


def _nothing_fits(table: ShapeTable) -> str:
    if not table.infos:
        return "the data set has no clips: check data.manifest (or data.path, data.num_clips)"
    reasons = list(islice(table.rejections(), 3))
    return (
        f"none of the {len(table.infos)} clips fits any of data.packing.shapes: {'; '.join(reasons)}. "
        "Allow fewer frames or pixels, another fps, or a smaller min_detail"
    )
