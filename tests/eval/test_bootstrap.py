"""Intervals: what they should say of numbers whose distribution is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from genworld.eval.bootstrap import (
    interval_of_mean,
    jackknife,
    jackknife_of_difference,
    paired_interval,
    unpaired_interval,
    wilson,
)


def test_the_mean_of_many_has_the_interval_of_a_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = interval_of_mean(values)
    assert found is not None
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)
    assert interval_of_mean(values) == found, "the same numbers have the same interval"


def test_weights_count() -> None:
    found = interval_of_mean([1.0, 1.0, 5.0], weights=[1.0, 1.0, 1e-9])
    assert found is not None
    assert found.high < 5.1
    assert found.low == pytest.approx(1.0)


def test_all_right_is_not_certain() -> None:
    found = interval_of_mean([1.0] * 20)
    assert found is not None
    assert found.low == pytest.approx(20 / (20 + 1.96**2), abs=1e-3)
    assert found.high == 1.0
    assert "Wilson" in found.method
    assert wilson(0, 20).high == pytest.approx(1 - found.low)
    assert wilson(10, 20).low + wilson(10, 20).high == pytest.approx(1.0)


def test_one_video_has_no_interval_and_bad_values_none_at_all() -> None:
    assert interval_of_mean([2.0]) is None
    with pytest.raises(ValueError, match="no finite value"):
        interval_of_mean([2.0, np.nan])


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """Of a mean over equal groups, exactly s / sqrt(G) times Student's quantile."""
    groups = np.random.default_rng(1).normal(0, 1, 8)
    left_out = [np.delete(groups, i).mean() for i in range(8)]
    found = jackknife(groups.mean(), left_out)
    half = scipy.stats.t.ppf(0.975, 7) * groups.std(ddof=1) / np.sqrt(8)
    assert found.high - groups.mean() == pytest.approx(half)
    assert groups.mean() - found.low == pytest.approx(half)


def test_pairs_see_what_is_lost_between_videos() -> None:
    """Videos that differ much, and a second run that is a little better on each."""
    chance = np.random.default_rng(2)
    first = chance.normal(0, 10, 50)
    second = first + chance.normal(0.5, 0.2, 50)
    assert 0.0 not in paired_interval(second, first)
    assert 0.0 in unpaired_interval(second, first)
    assert 0.0 in paired_interval(first, first + chance.normal(0.0, 0.2, 50))


@pytest.mark.parametrize("paired", [True, False])
def test_differences_of_groups(paired: bool) -> None:
    common, own = np.random.default_rng(3).normal(0, 1, (2, 8))
    found = jackknife_of_difference(2.0, 1.0, common, common + 0.1 * own, paired)
    assert (found.low + found.high) / 2 == pytest.approx(1.0)
    assert (0.0 in found) != paired


def test_resampling_covers_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(4)
    found = [interval_of_mean(chance.exponential(1.0, 60)) for _ in range(100)]
    assert 87 <= sum(each is not None and 1.0 in each for each in found) <= 99
