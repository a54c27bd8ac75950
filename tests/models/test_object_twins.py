"""Queries that became the same object."""

from __future__ import annotations

import torch
from torch import Tensor

from genworld.models.connector_parts import SceneObjects
from genworld.models.object_twins import without_twins


def boxes(*x: float, sure: list[float]) -> SceneObjects:
    """Cubes of 1 m at these places along x, and how likely each is one."""
    lower = torch.tensor([[place, 0.0, 0.0] for place in x])[None]
    words = torch.arange(float(len(x)))[None, :, None]
    return SceneObjects(lower, lower + 1, torch.tensor([sure]).logit(), words)


def chances(objects: SceneObjects, keep: Tensor | None = None) -> Tensor:
    real = torch.ones(objects.sure.shape, dtype=torch.bool) if keep is None else keep
    return without_twins(objects, real).sure.sigmoid()[0]


def test_the_surest_is_as_sure_as_all_together() -> None:
    told = boxes(0.0, 5.0, 0.1, 9.0, 0.2, sure=[0.3, 0.9, 0.35, 0.2, 0.15])
    torch.testing.assert_close(chances(told), torch.tensor([0.001, 0.9, 0.8, 0.2, 0.001]))
    changed = without_twins(told, torch.ones(1, 5, dtype=torch.bool))
    assert torch.equal(changed.lower, told.lower)
    assert torch.equal(changed.words, told.words)


def test_no_more_than_certain_and_padding_has_no_part_in_it() -> None:
    told = boxes(0.0, 0.1, 0.2, sure=[0.9, 0.8, 0.95])
    torch.testing.assert_close(chances(told), torch.tensor([0.001, 0.001, 0.999]))
    kept = chances(told, torch.tensor([[True, True, False]]))
    torch.testing.assert_close(kept, torch.tensor([0.999, 0.001, 0.001]))


def test_who_is_spoken_for_speaks_for_nobody() -> None:
    """The third lies on the second alone, which the first has taken."""
    told = boxes(0.0, 0.5, 1.0, sure=[0.6, 0.3, 0.2])
    torch.testing.assert_close(chances(told), torch.tensor([0.9, 0.001, 0.2]))


def test_order_and_company_change_nothing_and_gradients_pass() -> None:
    told = boxes(0.0, 5.0, 0.1, 9.0, 0.2, sure=[0.3, 0.9, 0.35, 0.2, 0.15])
    order = torch.tensor([3, 1, 4, 0, 2])
    turned = SceneObjects(*(x[:, order] for x in told))
    torch.testing.assert_close(chances(turned), chances(told)[order])
    both = SceneObjects(*(torch.cat([x, x.flip(1)]) for x in told))
    two = without_twins(both, torch.ones(2, 5, dtype=torch.bool)).sure.sigmoid()
    torch.testing.assert_close(two[0], chances(told))
    sure = told.sure.clone().requires_grad_()
    without_twins(told._replace(sure=sure), torch.ones(1, 5, dtype=torch.bool)).sure.sum().backward()
    assert (sure.grad != 0).tolist() == [[True] * 5]
