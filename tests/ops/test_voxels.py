import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genworld.ops.voxels import (
    VoxelSums,
    cell_centres,
    cell_keys,
    first_in_cell,
    group,
    key_cells,
    most_covering,
    voxel_cells,
    voxel_mean,
)


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_slowly(points: torch.Tensor, values: torch.Tensor, size: float) -> dict[tuple[int, ...], torch.Tensor]:
    """The twin: a dictionary of lists."""
    lists: dict[tuple[int, ...], list[torch.Tensor]] = {}
    for point, value in zip(points, values, strict=True):
        lists.setdefault(tuple((point / size).floor().long().tolist()), []).append(value)
    return {cell: torch.stack(lists[cell]).mean(dim=0) for cell in sorted(lists)}


def test_voxel_means_are_those_of_a_dictionary():
    points, values = numbers(400, 3), numbers(400, 5, seed=1)
    cells, means, counts = voxel_mean(points, values, 0.7)
    expected = mean_slowly(points, values, 0.7)
    assert [tuple(cell) for cell in cells.tolist()] == list(expected)
    torch.testing.assert_close(means, torch.stack(list(expected.values())))
    assert counts.sum() == 400


def test_voxel_means_have_the_gradient_of_means():
    points, values = numbers(40, 3), numbers(40, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: voxel_mean(points, x, 0.9)[1], values)


def test_cells_are_numbered_from_the_origin():
    points = torch.tensor([[0.0, 0.049, 0.05], [-0.001, -0.05, 10.0]])
    cells = voxel_cells(points, 0.05)
    assert cells.tolist() == [[0, 0, 1], [-1, -1, 200]]
    assert cell_centres(cells, 0.05)[0].tolist() == pytest.approx([0.025, 0.025, 0.075])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(-(2**20), 2**20 - 1)] * 3), min_size=1, max_size=20))
def test_keys_keep_cells_and_their_order(rows):
    cells = torch.tensor(rows)
    keys = cell_keys(cells)
    assert torch.equal(key_cells(keys), cells)
    assert key_cells(keys.sort().values).tolist() == sorted(map(list, rows))


def test_points_too_far_out_are_refused():
    with pytest.raises(ValueError, match="check the unit"):
        cell_keys(voxel_cells(torch.tensor([[6e4, 0.0, 0.0]]), 0.05))


def test_groups_keep_the_order_of_equal_rows():
    groups = group(torch.tensor([5, 2, 5, 9, 2]))
    assert groups.keys.tolist() == [2, 5, 9]
    assert groups.order.tolist() == [1, 4, 0, 2, 3]
    assert groups.lengths.tolist() == [2, 2, 1]


def fill(parts: list[tuple[torch.Tensor, torch.Tensor]], max_voxels: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    sums = VoxelSums((3,), max_voxels)
    for keys, values in parts:
        sums.add(keys, values.clone())
    return sums.ordered(), sums.totals(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_do_not_depend_on_order_or_grouping(dtype):
    parts = []
    for i in range(30):
        keys = torch.randperm(50, generator=torch.Generator().manual_seed(i))[: 10 + i % 7].sort().values
        parts.append((keys, (numbers(len(keys), 3, seed=i) * 10.0 ** (i % 6 - 3)).to(dtype)))
    keys, totals = fill(parts)
    expected = torch.zeros(50, 3, dtype=torch.float64)
    for rows, values in parts:
        expected.index_add_(0, rows, values.double())
    assert torch.equal(keys, expected.abs().sum(dim=1).nonzero()[:, 0])
    torch.testing.assert_close(totals, expected[keys], atol=30 * 2.0**-27, rtol=0)
    for seed in range(3):
        order = torch.randperm(30, generator=torch.Generator().manual_seed(seed)).tolist()
        again = fill([parts[i] for i in order])
        assert torch.equal(again[0], keys)
        assert torch.equal(again[1], totals)  # to the last bit


def test_means_are_sums_over_weights():
    sums = VoxelSums((2,), 8)
    sums.add(torch.tensor([4, 7]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    sums.add(torch.tensor([1, 7]), torch.tensor([[8.0, 8.0], [1.0, 1.0]]))
    assert sums.ordered().tolist() == [1, 4, 7]
    assert sums.means(0, torch.tensor([4.0, 1.0, 2.0])).tolist() == [[2.0, 2.0], [1.0, 2.0], [2.0, 2.5]]


def test_many_voxels_at_once_are_added_part_by_part():
    values, sums = numbers(300, 2, seed=1).double(), VoxelSums((2,), 300)
    for _ in range(2):
        sums.add(torch.arange(300), values.clone())
    rounded = (values * 2.0**26).round() / 2.0**26
    assert torch.equal(sums.totals(0), 2 * rounded)
    values[290, 1] = torch.inf
    with pytest.raises(ValueError, match="finite and add up to less"):
        sums.add(torch.arange(300), values)


def test_what_cannot_be_summed_exactly_is_refused():
    keys = torch.arange(2)
    for bad in (torch.nan, torch.inf, 1e9):
        with pytest.raises(ValueError, match="finite and add up to less"):
            VoxelSums((1,), 8).add(keys, torch.tensor([[1.0], [bad]]))
    sums = VoxelSums((1,), 8)
    for _ in range(300):  # together more than the limit, but the sums themselves are small
        sums.add(keys, torch.full((2, 1), 1e6))
        sums.add(keys, torch.full((2, 1), -1e6))
    assert sums.totals(0).tolist() == [[0.0], [0.0]]
    with pytest.raises(ValueError, match="more than max_voxels = 8"):
        sums.add(torch.arange(20), torch.ones(20, 1))


def greedy_slowly(covers: list[set[int]], number: int) -> list[int]:
    chosen, covered = [], set()
    for _ in range(number):
        gains = [len(cover - covered) for cover in covers]
        best = max(range(len(covers)), key=lambda i: (gains[i], -i))
        if not gains[best]:
            break
        chosen.append(best)
        covered |= covers[best]
    return chosen


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sets(st.integers(-5, 25), max_size=12), min_size=1, max_size=12), st.integers(0, 8))
def test_lazy_greedy_choice_is_the_plain_one(covers, number):
    given_as = [torch.tensor(sorted(cover) * 2, dtype=torch.int64) for cover in covers]
    assert most_covering(given_as, number) == greedy_slowly(covers, number)


def test_nothing_to_choose_from():
    assert most_covering([], 3) == []
    assert most_covering([torch.empty(0, dtype=torch.int64)], 3) == []


def test_the_nearest_of_each_cell():
    depth = torch.tensor([3.0, 1.0, 2.0, 5.0])
    assert first_in_cell(depth, torch.tensor([0, 2, 0, 1]), 4).tolist() == [2.0, 1.0, 2.0, 5.0]


@pytest.mark.parametrize("largest", [5, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("least", [0, -3])
def test_group_keeps_the_order_of_equal_keys(largest, least):
    few = torch.tensor([largest, least, 2, largest, 2, 0, least, 2])
    keys = few.repeat(50)
    groups = group(keys)
    ordered, order = keys.sort(stable=True)
    assert torch.equal(groups.order, order)
    assert torch.equal(groups.keys.repeat_interleave(groups.lengths), ordered)
    assert len(group(keys[:0]).keys) == 0
