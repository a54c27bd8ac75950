"""Boxes that are copied from what was looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from genworld.models.llm_corners import CORNERS, CornerHead
from genworld.models.llm_own import OwnLLM
from tests.models.scene_llm_cases import OWN

WIDTH = 32


@torch.no_grad()
def test_it_begins_with_next_to_nothing_and_then_tells_the_corner_that_is_asked_for() -> None:
    torch.manual_seed(0)
    head = CornerHead(WIDTH)
    states, corners = torch.randn(2, 4, WIDTH), torch.randn(2, 5, CORNERS, WIDTH)
    seen = 0.1 + 0.8 * nn.functional.one_hot(torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1]]), 5).float()
    real = torch.tensor([[True] * 5, [True] * 5])
    told, logits = head(states, corners, seen, real)
    assert told.norm(dim=-1).max() < 0.1 * states.norm(dim=-1).min()
    assert (logits.argmax(dim=-1) == CORNERS).all()
    head.bias[2] = 40.0
    told, logits = head(states, corners, seen, real)
    assert (logits.argmax(dim=-1) == 2).all()
    nearest = torch.einsum("bld,bqcd->blqc", told, corners).flatten(2).argmax(dim=-1)
    assert torch.equal(nearest, seen.argmax(dim=-1) * CORNERS + 2)
    real[:, 4] = False
    told, _ = head(states, corners, seen, real)
    torch.testing.assert_close(told, head(states, corners[:, :4], seen[..., :4], real[:, :4])[0])


def test_it_learns_which_corner_comes_next() -> None:
    torch.manual_seed(0)
    head, parts = CornerHead(WIDTH), torch.randn(CORNERS, WIDTH)
    adam = torch.optim.Adam(head.parameters(), lr=0.01)
    corners, seen = torch.randn(8, 5, CORNERS, WIDTH), nn.functional.one_hot(torch.arange(5), 5).float().expand(8, 5, 5)
    for _ in range(150):
        asked = torch.randint(CORNERS, (8, 5))
        told, _ = head(parts[asked] + 0.3 * torch.randn(8, 5, WIDTH), corners, seen, seen[:, 0] >= 0)
        wanted = corners.gather(2, asked[..., None, None].expand(-1, -1, -1, WIDTH))[:, :, 0]
        adam.zero_grad()
        (told - wanted).square().mean().backward()
        adam.step()
    assert (told - wanted).square().mean() < 0.05 * wanted.square().mean()


def test_tokens_of_style_corner_know_where_they_stand() -> None:
    llm = OwnLLM(replace(OWN, locations="corner"))
    llm.fit(["at by the lamp sofa"])
    first = llm.first_location
    text = "at <loc3><loc4><loc255><loc0><loc0><loc9><loc7> by <loc3>"
    ids = [token - first for token in llm.encode(text) if llm.is_location(token)]
    assert ids == [3, 256 + 4, 512 + 255, 768, 1024, 1280 + 9, 7, 3]  # a seventh is the first of another box
    assert llm.decode(llm.encode(text)) == text
    assert llm.num_locations == 6 * llm.cells == 1536
    rows = llm.table[first:].detach().view(CORNERS, 256, -1)
    shared = rows - rows[:1]
    torch.testing.assert_close(shared, shared[:, :1].expand_as(shared))
    assert rows.std() == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match=r"<loc256> stands in a text, .* has <loc0> to <loc255> \(locations: corner\)"):
        llm.encode("<loc3><loc256>")


def test_copying_needs_anchors_and_tokens_for_corners() -> None:
    with pytest.raises(ValueError, match="needs anchored: true and locations: corner"):
        replace(OWN, anchored=True, copying=True)
