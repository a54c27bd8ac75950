"""Boxes that prompts tell: the last location token of each becomes the token of the object that was found there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.models.connector_parts import ObjectSteps
from genworld.models.llm_base import LanguageModel
from genworld.models.llm_corners import CORNERS
from genworld.ops.boxes import nearest_box

_NEAR = 3.0
"""Cells by which the corners of what was found may be away, the mean along an axis."""


def boxes_told(llm: LanguageModel, ids: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The boxes among tokens: place of the last location token of each, and its cells.

    Where location tokens stand together that are no whole boxes, such as those of one place, there is none.
    """
    found, at = list[tuple[int, list[int]]](), 0
    for located, some in groupby(ids, llm.is_location):
        run = list(some)
        if located and len(run) % CORNERS == 0:
            cells, ends = list(map(llm.location, run)), range(CORNERS, len(run) + 1, CORNERS)
            found += [(at + end - 1, cells[end - CORNERS : end]) for end in ends]
        at += len(run)
    return found


def pointed_at(
    boxes: Sequence[tuple[int, int, Sequence[int]]], objects: ObjectSteps, scenes: Sequence[int]
) -> list[tuple[int, int, int]]:
    """The objects that boxes are around.

    Which of six tokens a box begins with, and which object has such a corner, would have to be learned from what few
    prompts tell boxes; but what was found lies there or does not (visual prompts, Chen et al. 2024, "LL3DA", with
    geometry in place of an encoder).

    Args:
        boxes: row of its prompt, place there, and cells, its least along three axes and then its greatest.
        objects: what the connector says of the scenes.
        scenes: the scene of each row.

    Returns:
        Row, place, and the scene's token, of the boxes where an object was found.
    """
    sure, found = objects.keep & (objects.last.sure > 0), list[tuple[int, int, int]]()
    for row, place, cells in boxes:
        which = sure[scenes[row]].nonzero()[:, 0]
        corners = objects.corners[scenes[row], which].float()
        best = nearest_box(*corners.new_tensor(cells).view(2, 3), *corners.view(-1, 2, 3).unbind(dim=1))
        if best is not None and best[1] <= _NEAR:
            found.append((row, place, int(which[best[0]])))
    return found


def with_objects(
    words: Float[Tensor, "B L D"], tokens: Float[Tensor, "B Q D"], pointed: Sequence[tuple[int, int, int]]
) -> Float[Tensor, "B L D"]:
    """Embeddings of prompts with tokens of their scenes in the places that `pointed_at` told."""
    if not pointed:
        return words
    rows, places, which = torch.tensor(pointed, device=words.device).unbind(dim=1)
    return words.index_put((rows, places), tokens[rows, which].to(words))
