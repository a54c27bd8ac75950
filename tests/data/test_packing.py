"""The order of samples is pure, complete, within its budgets, and says what it leaves out."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genworld.config import ConfigError, decode
from genworld.data.packing import PackingConfig, PackOrder, ShapeConfig, assign, best_fit, cost, plan_steps
from genworld.data.packing import validation_picks as picks_of
from genworld.data.shapes import fit_size, uniforms
from genworld.types import ClipInfo, ClipShape, Pick, TokenGrid

GRID = TokenGrid(time_stride=4, space_stride=8, patch=2)


def clip(frames: int = 100, height: int = 180, width: int = 320, fps: float = 25.0, name: str = "clip") -> ClipInfo:
    return ClipInfo(f"text of {name}", frames, height, width, fps, name)


def config(*shapes: ShapeConfig, tokens: int = 1000, packs: int = 1, **rest) -> PackingConfig:
    chosen = list(shapes) or [ShapeConfig(pixels=64 * 64, frames=17, fps=8.0), ShapeConfig(pixels=64 * 64)]
    return PackingConfig(shapes=chosen, tokens_per_pack=tokens, packs_per_step=packs, **rest)


def varied(number: int) -> list[ClipInfo]:
    sizes = [(180, 320), (320, 180), (256, 256), (480, 832), (1024, 576), (200, 480)]
    return [
        clip(1 if i % 4 == 3 else 60 + 7 * i % 90, *sizes[i % 6], [8.0, 16.0, 25.0][i % 3], f"c{i}")
        for i in range(number)
    ]


MIX = config(
    ShapeConfig(pixels=64 * 64, frames=17, fps=8.0),
    ShapeConfig(pixels=96 * 96, frames=9, fps=8.0, weight=0.5),
    ShapeConfig(pixels=96 * 96, weight=0.5),
    ShapeConfig(pixels=64 * 64),
    tokens=700,
    packs=4,
)


def flat(steps: list[list[list[Pick]]]) -> list[Pick]:
    return [pick for step in steps for pack in step for pick in pack]


# ---- shapes ----


@given(st.integers(20, 4000), st.integers(20, 4000), st.integers(16, 1200))
def test_size_stays_in_the_budget_and_near_the_ratio(height: int, width: int, side: int) -> None:
    pixels = side * side
    ideal = np.array([[float(height)]]), np.array([[float(width)]])
    rows, columns = (int(x[0, 0]) for x in fit_size(*ideal, np.array([pixels]), 16))
    assert rows % 16 == columns % 16 == 0
    assert rows * columns <= pixels
    if side >= 256 and 1 / 3 < height / width < 3:
        assert abs(np.log(rows * width / (columns * height))) < 0.12
        assert rows * columns > 0.8 * pixels


def test_a_wide_and_a_tall_clip_share_a_budget() -> None:
    shape = ShapeConfig(pixels=256 * 256, frames=17, fps=8.0)
    wide, _ = assign(clip(height=720, width=1280), GRID, config(shape, tokens=10_000), 0, 0)
    tall, _ = assign(clip(height=1280, width=720), GRID, config(shape, tokens=10_000), 0, 0)
    assert (wide.height, wide.width) == (192, 336)
    assert (tall.height, tall.width) == (336, 192)


def test_exact_sizes_are_taken_as_they_are() -> None:
    shape, _ = assign(clip(), GRID, config(ShapeConfig(size=(32, 96), frames=5, fps=10.0)), 0, 0)
    assert shape == ClipShape(5, 32, 96, 10.0)


def test_own_frame_rate_and_own_shape() -> None:
    shape, _ = assign(clip(fps=12.5), GRID, config(ShapeConfig(size=(32, 32), frames=5)), 0, 0)
    assert shape.fps == 12.5
    own, start = assign(clip(23, 180, 320, 12.5), GRID, PackingConfig(tokens_per_pack=2000), 0, 0)
    assert own == ClipShape(21, 176, 320, 12.5)
    assert 0 <= start <= 2 / 12.5


def test_weights_are_frequencies_and_images_serve_images_only() -> None:
    shapes = config(ShapeConfig(pixels=4096, frames=17, fps=8.0, weight=3.0), ShapeConfig(pixels=4096, weight=1.0))
    order = PackOrder([clip(), clip(1, fps=0.0, name="image")], GRID, shapes, 0)
    draw = order.draw(np.arange(8000))
    of_video = draw.frames[draw.indices == 0]
    assert (of_video == 17).mean() == pytest.approx(0.75, abs=0.03)
    assert set(draw.frames[draw.indices == 1]) == {1}


@given(st.integers(2, 200), st.floats(7, 60), st.integers(0, 5), st.integers(0, 1000))
def test_the_last_frame_is_within_the_clip(frames: int, fps: float, lengths: int, position: int) -> None:
    shapes = [ShapeConfig(pixels=4096, frames=1 + 4 * n, fps=8.0) for n in range(lengths + 1)]
    shape, start = assign(clip(frames, fps=fps), GRID, config(*shapes), 3, position)
    assert start >= 0
    assert start + (shape.num_frames - 1) / shape.fps <= (frames - 1) / fps + 1e-5


def test_starts_cover_what_is_left() -> None:
    order = PackOrder([clip(100, fps=25.0)], GRID, config(ShapeConfig(pixels=4096, frames=17, fps=8.0)), 0)
    starts = order.draw(np.arange(2000)).start
    assert starts.min() < 0.05
    assert starts.max() > 99 / 25 - 2 - 0.05
    assert starts.mean() == pytest.approx((99 / 25 - 2) / 2, abs=0.05)
    fixed = PackOrder([clip()], GRID, config(random_start=False), 0)
    assert not fixed.draw(np.arange(50)).start.any()


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (clip(1), "an image cannot serve 17 frames"),
        (clip(height=40, width=60), "40x60 is too small for 17 frames of 4096 pixels at 8 fps"),
        (clip(40), "its 1.60 s are too short for 17 frames at 8 fps (2.00 s)"),
        (clip(fps=6.0), "its 6 fps are too few for 8 fps"),
    ],
)
def test_rejections_say_why(info: ClipInfo, reason: str) -> None:
    shapes = config(ShapeConfig(pixels=64 * 64, frames=17, fps=8.0))
    order = PackOrder([info, clip()], GRID, shapes, 0)
    assert order.rejections() == [f"clip: {reason}"]
    assert {pick.index for pick in flat([order.step(i) for i in range(20)])} == {1}
    with pytest.raises(ValueError, match="none of the 1 clips fits"):
        PackOrder([info], GRID, shapes, 0)
    with pytest.raises(ValueError, match="clip: "):
        assign(info, GRID, shapes, 0, 0)


def test_own_shapes_over_the_budget_are_rejected() -> None:
    order = PackOrder([clip(), clip(5)], GRID, PackingConfig(tokens_per_pack=600), 0)
    assert "5500 tokens exceed tokens_per_pack 600" in order.rejections()[0]


def test_no_clips_at_all() -> None:
    with pytest.raises(ValueError, match="no clips"):
        PackOrder([], GRID, config(), 0)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (ShapeConfig(pixels=64 * 64, frames=16, fps=8.0), "use 1 \\+ 4 n, such as 13 or 17"),
        (ShapeConfig(size=(40, 64), frames=17, fps=8.0), "height 40 is not divisible by 16"),
        (ShapeConfig(pixels=640 * 640, frames=17, fps=8.0), "raise tokens_per_pack to 8000"),
        (ShapeConfig(pixels=100), "fewer pixels than one token"),
    ],
)
def test_impossible_shapes_are_config_errors(shape: ShapeConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PackOrder([clip()], GRID, config(shape), 0)


def test_configs_decode_from_yaml_data() -> None:
    tree = {"shapes": [{"size": [64, 64], "frames": 17, "fps": 8}, {"pixels": 4096}], "tokens_per_pack": 100}
    packing = decode(PackingConfig, tree)
    assert packing.shapes[0].size == (64, 64)
    assert packing.shapes[1].frames == 1
    with pytest.raises(ConfigError, match="either pixels"):
        decode(ShapeConfig, {"frames": 3})


# ---- the stream ----


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**40))
def test_every_epoch_has_every_clip_once(number: int, epoch: int, seed: int) -> None:
    order = PackOrder([clip(name=str(i)) for i in range(number)], GRID, config(window=16), seed)
    indices = order.draw(np.arange(epoch * number, (epoch + 1) * number)).indices
    assert sorted(indices) == list(range(number))


def test_epochs_and_seeds_differ() -> None:
    infos = [clip(name=str(i)) for i in range(50)]
    first, other = (PackOrder(infos, GRID, config(), seed).draw(np.arange(100)).indices for seed in (0, 1))
    assert list(first[:50]) != list(first[50:])
    assert list(first) != list(other)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
@settings(deadline=None, max_examples=30)
def test_a_draw_does_not_depend_on_what_is_drawn_with_it(positions: list[int]) -> None:
    order = PackOrder(varied(13), GRID, MIX, 7)
    together = order.draw(np.array(positions))
    for i, position in enumerate(positions):
        alone = order.pick(position)
        assert alone.index == together.indices[i]
        assert alone.start == together.start[i]
        assert alone.shape.num_frames == together.frames[i]


def test_hash_is_uniform_and_known() -> None:
    numbers = uniforms(np.arange(100_000), 5)
    assert np.histogram(numbers, 10, (0, 1))[0].std() < 200
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(numbers, uniforms(np.arange(100_000), 6))[0, 1]) < 0.01
    # A change of these changes every order there ever was.
    assert uniforms(np.array([0, 1, 2**40]), 1234).tolist() == [
        0.506595479743418,
        0.40019278751686016,
        0.8788207856811165,
    ]


# ---- packs and steps ----


@given(
    number=st.integers(1, 40),
    packs=st.integers(1, 8),
    window=st.sampled_from([None, 1, 7, 64, 300]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=30)
def test_windows_lose_and_repeat_nothing(number: int, packs: int, window: int | None, seed: int) -> None:
    order = PackOrder(varied(number), GRID, replace(MIX, packs_per_step=packs, window=window), seed)
    steps, done = [], 0
    while order.position(done) < 3 * order.window:
        steps.append(order.step(done))
        done += 1
    assert sorted(pick.position for pick in flat(steps)) == list(range(3 * order.window))
    for step in steps:
        assert len(step) == packs
        for pack in step:
            assert 0 < sum(GRID.num_tokens(pick.shape) for pick in pack) <= order.config.tokens_per_pack
    assert all(pick == order.pick(pick.position) for pick in flat(steps)[::37])


@given(st.lists(st.integers(0, 60), min_size=1, max_size=4), st.integers(0, 50))
@settings(deadline=None, max_examples=20)
def test_steps_are_pure(numbers: list[int], seed: int) -> None:
    small = replace(MIX, window=60)
    shared = PackOrder(varied(11), GRID, small, seed)
    for number in numbers:  # any order of asking
        assert shared.step(number) == PackOrder(varied(11), GRID, small, seed).step(number)


def test_an_order_survives_pickling() -> None:
    order = PackOrder(varied(11), GRID, MIX, 4)
    assert pickle.loads(pickle.dumps(order)).step(9) == order.step(9)


@given(st.lists(st.integers(1, 100), min_size=8, max_size=300), st.integers(1, 8), st.sampled_from([0.0, 0.01, 1.0]))
@settings(deadline=None)
def test_plans_are_partitions(tokens: list[int], packs: int, ratio: float) -> None:
    tokens = tokens[: len(tokens) // packs * packs]
    steps = plan_steps(tokens, 100, packs, ratio)
    assert Counter(i for step in steps for pack in step for i in pack) == Counter(range(len(tokens)))
    assert all(len(step) == packs and all(step) for step in steps)
    assert all(sum(tokens[i] for i in pack) <= 100 for step in steps for pack in step)
    assert len(steps) == -(-len(best_fit(tokens, 100)) // packs)


@pytest.mark.parametrize("packs", [1, 2, 3, 8])
@pytest.mark.parametrize("number", [1, 3, 10])
def test_alike_clips_are_visited_evenly_without_waste(number: int, packs: int) -> None:
    shapes = config(ShapeConfig(pixels=64 * 64, frames=17, fps=8.0), tokens=330, packs=packs)  # 80 tokens each
    order = PackOrder([clip(height=256, width=256, name=str(i)) for i in range(number)], GRID, shapes, 0)
    seen: Counter[int] = Counter()
    for i in range(3 * order.window // (4 * packs)):
        step = order.step(i)
        assert {len(pack) for pack in step} == {4}
        seen.update(pick.index for pick in flat([step]))
        counts = [seen[index] for index in range(number)]
        assert max(counts) - min(counts) <= 1 + -(-4 * packs // number)


def test_long_and_short_clips_are_spread_over_the_window() -> None:
    """Sorting packs by cost must not leave the costly ones at one end."""
    order = PackOrder(varied(200), GRID, MIX, 0)
    number = next(i for i in range(1000) if order.position(i + 1))
    costs = [sum(cost((GRID.num_tokens(p.shape) for p in pack), 1e-2) for pack in order.step(i)) for i in range(number)]
    assert number > 50
    assert abs(np.corrcoef(np.arange(number), costs)[0, 1]) < 0.3
    middle = np.mean(costs[number // 4 : 3 * number // 4])
    assert middle == pytest.approx(np.mean(costs), rel=0.05)


def test_ranks_finish_together_and_packs_are_full() -> None:
    shapes = [ShapeConfig(pixels=256 * 256, frames=f, fps=8.0) for f in range(1, 42, 4)]
    order = PackOrder(
        varied(400), GRID, config(*shapes, tokens=16_000, packs=8, min_detail=0.1), 0, cost_ratio=1 / 2000
    )
    steps = [[[GRID.num_tokens(p.shape) for p in pack] for pack in order.step(i)] for i in range(200)]
    costs = np.array([[cost(pack, 1 / 2000) for pack in step] for step in steps])
    assert (costs.mean(axis=1) / costs.max(axis=1)).mean() > 0.99
    assert 1 - np.mean([sum(pack) for step in steps for pack in step]) / 16_000 < 0.015


def test_a_window_of_ten_thousand_clips_is_quick() -> None:
    order = PackOrder(varied(3000), GRID, replace(MIX, window=10_000), 0)
    began = time.process_time()
    order.step(0)
    assert time.process_time() - began < 1.0


def test_replacements_serve_the_same_shape_and_are_distinct() -> None:
    order = PackOrder(varied(40), GRID, MIX, 0)
    pick = next(p for p in flat([order.step(0)]) if p.shape.num_frames == 17)
    found, attempt = [], 1
    while (other := order.replacement(pick, attempt)) is not None:
        found.append(other)
        attempt += 1
    assert len({p.index for p in found} | {pick.index}) == len(found) + 1 > 2
    for other in found:
        info = order.infos[other.index]
        assert (other.position, other.shape) == (pick.position, pick.shape)
        assert other.start + 16 / 8 <= (info.num_frames - 1) / info.fps + 1e-6
    assert order.replacement(pick, 1) == found[0]


def test_validation_takes_each_clip_once_first() -> None:
    infos = [clip(name=str(i)) for i in range(6)]
    shapes = config(ShapeConfig(pixels=64 * 64, frames=17, fps=8.0), tokens=200, packs=8)
    packs = picks_of(infos, GRID, shapes, 3)
    assert sorted(pick.index for pack in packs for pick in pack) == list(range(6))
    assert packs == picks_of(infos, GRID, replace(shapes, packs_per_step=1), 3)
