"""Floors that the tests of rooms share: drawing one takes a tenth of a second."""

from functools import cache

from genworld.world.rooms import Floor, sample_floor

SEEDS = range(20)


@cache
def floor_of(seed: int) -> Floor:
    return sample_floor(seed)


def floors() -> list[Floor]:
    return [floor_of(seed) for seed in SEEDS]
