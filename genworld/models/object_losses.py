"""What teaches queries to become objects: boxes and the words that name them, matched one to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from genworld.models.connector_parts import ObjectSteps, SceneObjects
from genworld.models.point_batch import PointBatch
from genworld.ops.boxes import intersection_over_union
from genworld.ops.precision import without_autocast

_MARGIN = 0.03
"""Metres by which a box is widened when points are counted as its own: voxels lie on surfaces."""
_SHARPNESS = 14.0
"""Scale of the logits of words: a token that is the embedding of a word itself has this much for it."""
_EARLIER = 0.5
"""Weight of what is said after earlier blocks, beside 1 of the last."""


@dataclass(frozen=True)
class KnownObjects:
    """The objects of one scene.

    Attributes:
        lower: corners of their boxes, metres, scene axes.
        upper: greatest corners.
        words: ids of the words that name each.
    """

    lower: Float[Tensor, "N 3"]
    upper: Float[Tensor, "N 3"]
    words: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ObjectLosses:
    """Of every scene of a batch.

    Attributes:
        sums: the loss, float32.
        found: objects whose box is matched with an IoU of at least 0.25 by a query that is sure of it.
        named: those of them whose words are likelier than all others.
        said: queries that are sure.
        known: objects.
    """

    sums: Float[Tensor, " B"]
    found: Int[Tensor, " B"]
    named: Int[Tensor, " B"]
    said: Int[Tensor, " B"]
    known: Int[Tensor, " B"]


def object_losses(
    objects: ObjectSteps, batch: PointBatch, known: Sequence[KnownObjects], table: Float[Tensor, "V D"]
) -> ObjectLosses:
    """The set loss of DETR (Carion et al. 2020, section 3.1), with words of a language model for classes.

    Queries and objects are matched by words, boxes and certainty after every block; a matched query learns the box (L1
    and IoU) and the words of its object, and all learn whether they are matched. Points learn whether they belong to an
    object.

    Words are learned twice: to be likelier than the other words that name objects of the batch, each word alike, and to
    be the sum of their embeddings. The first alone lets tokens grow away from all other words, in one direction that
    they then share, and in which what tells them apart drowns.

    Args:
        objects: what the connector said.
        batch: the points that it saw.
        known: objects of each scene, one at least.
        table: embeddings of the language model's tokens; it is not taught.
    """
    known, table = _spoken(known, table)
    rows = [_scene_losses(objects, batch, number, scene, table) for number, scene in enumerate(known)]
    sums = torch.stack([row[0] for row in rows])
    counts = torch.tensor([row[1] for row in rows], device=sums.device)
    found, named, said, objects_known = counts.unbind(dim=1)
    return ObjectLosses(sums, found, named, said, objects_known)


def _spoken(known: Sequence[KnownObjects], table: Tensor) -> tuple[list[KnownObjects], Float[Tensor, "W D"]]:
    """Objects with words by their place among those that name any of them, and the embeddings of these words."""
    spoken = sorted({word for scene in known for words in scene.words for word in words})
    places = {word: place for place, word in enumerate(spoken)}
    known = [replace(x, words=tuple(tuple(places[word] for word in words) for words in x.words)) for x in known]
    return known, table.detach().float()[spoken]


def _scene_losses(
    objects: ObjectSteps, batch: PointBatch, number: int, known: KnownObjects, table: Tensor
) -> tuple[Tensor, tuple[int, int, int, int]]:
    points = batch.points[number][batch.keep[number]]
    asked = (objects.keep if objects.asked is None else objects.asked)[number]
    naming = _naming(known, table)
    with without_autocast(points):
        loss = F.binary_cross_entropy_with_logits(
            objects.things[number][batch.keep[number]].float(), belong(points, known).float()
        )
        for step in objects.steps:
            said = SceneObjects(*(x[number][asked].float() for x in step))
            more, counts = _step_losses(said, known, naming, table)
            loss = loss + (1.0 if step is objects.steps[-1] else _EARLIER) * more
    return loss, (*counts, len(known.words))


@torch.no_grad()
def match_objects(
    objects: ObjectSteps, known: Sequence[KnownObjects], table: Float[Tensor, "V D"]
) -> tuple[Int[Tensor, " N"], ...]:
    """For each scene, the query that is matched with each of its objects in the end; -1 for none."""
    known, table = _spoken(known, table)
    last, found = objects.last, []
    for number, scene in enumerate(known):
        with without_autocast(last.lower):
            said = SceneObjects(*(x[number][objects.keep[number]].float() for x in last))
            rows, columns = _compare(said, scene, _naming(scene, table), table).pairs
        none = torch.full((len(scene.words),), -1, device=rows.device)
        found.append(none.index_put((columns,), rows))
    return tuple(found)


def belong(points: Float[Tensor, "P 3"], known: KnownObjects) -> Tensor:
    """Which points lie in the box of an object."""
    inside = (points[:, None] >= known.lower - _MARGIN) & (points[:, None] <= known.upper + _MARGIN)
    return inside.all(dim=-1).any(dim=-1)


class _Compared(NamedTuple):
    """Queries (rows) beside the objects of a scene (columns)."""

    names: Float[Tensor, "Q N"]
    corners: Float[Tensor, "Q N"]
    overlap: Float[Tensor, "Q N"]
    pairs: tuple[Int[Tensor, " n"], Int[Tensor, " n"]]


def _compare(said: SceneObjects, known: KnownObjects, naming: Tensor, table: Tensor) -> _Compared:
    from scipy.optimize import linear_sum_assignment

    names = _word_costs(said.words, naming, table)
    corners = ((said.lower[:, None] - known.lower).abs() + (said.upper[:, None] - known.upper).abs()).sum(dim=-1)
    overlap = intersection_over_union(said.lower[:, None], said.upper[:, None], known.lower, known.upper)
    costs = names + corners + 2 * (1 - overlap) + F.softplus(-said.sure)[:, None]
    rows, columns = (torch.from_numpy(x).to(costs.device) for x in linear_sum_assignment(costs.detach().cpu().numpy()))
    return _Compared(names, corners, overlap, (rows, columns))


def _step_losses(
    said: SceneObjects, known: KnownObjects, naming: Tensor, table: Tensor
) -> tuple[Tensor, tuple[int, int, int]]:
    names, corners, overlap, (rows, columns) = _compare(said, known, naming, table)
    wanted = torch.zeros_like(said.sure).index_fill(0, rows, 1.0)
    sums = (naming @ table)[columns]
    apart = (said.words[rows] - sums).square().sum(dim=-1) / sums.square().sum(dim=-1)
    matched = names[rows, columns] + apart + corners[rows, columns] + (1 - overlap[rows, columns])
    loss = 2 * F.binary_cross_entropy_with_logits(said.sure, wanted) + matched.mean()
    found = (overlap[rows, columns] >= 0.25) & (said.sure[rows] > 0)
    right = _likeliest(said.words[rows].detach() @ table.T, naming[columns] > 0)
    return loss, (int(found.sum()), int((found & right).sum()), int((said.sure > 0).sum()))


def _likeliest(logits: Float[Tensor, "n V"], wanted: Bool[Tensor, "n V"]) -> Bool[Tensor, " n"]:
    """Whether all words that are wanted are likelier than all others."""
    others = logits.masked_fill(wanted, -torch.inf).amax(dim=1)
    return logits.masked_fill(~wanted, torch.inf).amin(dim=1) > others


def _word_costs(words: Float[Tensor, "Q D"], naming: Float[Tensor, "N V"], table: Tensor) -> Float[Tensor, "Q N"]:
    """Of each query and object, the mean over the object's words of how unlikely they are; 0 at best."""
    logs = (words @ table.T * (_SHARPNESS / table.square().sum(dim=-1).mean())).log_softmax(dim=-1)
    count = naming.sum(dim=1)
    return -(logs @ (naming / count[:, None]).T + count.log())


def _naming(known: KnownObjects, table: Tensor) -> Float[Tensor, "N V"]:
    """How often each word stands in what names an object: products with it do at once what words would one by one."""
    rows = [row for row, ids in enumerate(known.words) for _ in ids]
    columns = [word for ids in known.words for word in ids]
    numbers = torch.tensor([rows, columns], device=table.device)
    naming = table.new_zeros(len(known.words), len(table))
    return naming.index_put_(tuple(numbers), naming.new_ones(()), accumulate=True)
