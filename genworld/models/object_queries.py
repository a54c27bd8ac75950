"""Queries that begin at points of a scene and become its objects: the part of a connector that is taught with boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genworld.models.connector_parts import ObjectSteps, Part, SceneObjects, SceneTokens, waves
from genworld.models.object_places import corners_of, places_of
from genworld.models.object_rooms import rooms_of
from genworld.models.object_twins import without_twins
from genworld.models.point_batch import PointBatch
from genworld.nn.mlp import MLP
from genworld.ops.precision import without_autocast

_SPREAD = 4
"""A query looks at this many times as many points as it takes: half of those are the nearest, for things of few points,
and the others lie evenly among the rest, for large ones."""
_COLOUR = 2.0
"""Metres that a step from black to white is worth when seeds are spread."""


@dataclass(frozen=True, kw_only=True)
class ObjectQueriesConfig:
    """Queries that begin at points and become objects.

    Seeded at points (3DETR, Misra et al. 2021), they look at what is around their seeds, told relative to them
    (PointNet++, Qi et al. 2017), and at each other, so that no two become the same object (DETR, Carion et al. 2020).
    Each says where its object is; a part of kind `places` after this one lets its token carry that place.

    They are taught by `object_losses` where boxes are known, and by what is answered.

    Attributes:
        width: of the queries on their way; tokens come out in the width of what listens.
        depth: blocks.
        num_heads: must divide the width.
        num_queries: several times as many as a scene has objects: an object at which none begins is rarely found. They
            may be more than were taught, whose weights they share.
        doubt: taken from the logit of what they are sure of in the end. Queries that are more than were taught are too
            sure together.
        num_tokens: so many of the queries, the surest, come out as tokens, the surest first; None for all.
        neighbours: points that each query looks at.
        cells: of the codec along an axis.
    """

    kind: Literal["objects"] = "objects"
    width: int = 128
    depth: int = 3
    num_heads: int = 4
    num_queries: int = 40
    doubt: float = 0.0
    num_tokens: int | None = None
    neighbours: int = 48
    cells: int = 256

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        if min(self.num_queries, self.depth, self.neighbours) < 1:
            raise ValueError(
                f"num_queries, depth and neighbours must be at least 1, got {self.num_queries}, {self.depth} and "
                f"{self.neighbours}"
            )
        if self.num_tokens is not None and not 1 <= self.num_tokens <= self.num_queries:
            raise ValueError(f"num_tokens must be 1 to num_queries, {self.num_queries}, or null, got {self.num_tokens}")

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return ObjectQueries(self, in_width, consumer)


class ObjectQueries(Part):
    """See `ObjectQueriesConfig`."""

    per_point = True

    def __init__(self, config: ObjectQueriesConfig, in_width: int, consumer: int) -> None:
        super().__init__()
        self.config, self.out_width, width = config, consumer, config.width
        self.thing = nn.Linear(in_width, 1)
        self.enter, self.tint = nn.Linear(in_width, width), nn.Linear(3, width)
        self.around, self.mix = MLP(3 * 9, width, width, "gelu"), MLP(width, 2 * width, width, "gelu")
        self.begin, self.seat = nn.Linear(width, width), MLP(3 * 13, width, width, "gelu")
        self.norm_points, self.norm_mix, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.blocks = nn.ModuleList(QueryBlock(width, config.num_heads) for _ in range(config.depth))
        self.box, self.sure = MLP(width, width, 6, "gelu"), nn.Linear(width, 1)
        self.say = nn.Linear(width, consumer)

    def num_tokens(self, n: int) -> int:
        """See `Part`."""
        return min(n, self.config.num_tokens or self.config.num_queries)

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        things = self.thing(tokens.x)[..., 0].float()
        seeds, asked = choose_seeds(batch, things, self.config.num_queries)
        near = neighbours(batch, things, seeds, self.config.neighbours)
        points = self.enter(tokens.x) + self.tint(2 * batch.colours - 1)
        own, at = _take(points, seeds), _take(batch.points, seeds)
        with without_autocast(at):
            offsets = _take(batch.points, near) - at[:, :, None]
            middle = batch.middles() * at.new_tensor([1.0, 1.0, 0.0])  # height tells much, and begins at the floor
            offsets, seats = waves(offsets / 4, 4), waves((at - middle[:, None]) / 16, 6)
        seen = _take(points, near) + self.around(offsets)
        seen = self.norm_points(seen + self.mix(self.norm_mix(seen)))
        x = self.begin(own) + self.seat(seats) + seen.amax(dim=2)
        steps: list[SceneObjects] = []
        for block in self.blocks:
            x = block(x, seen, asked)
            steps.append(self._objects(self.norm(x), at))
        objects, keep = without_twins(steps[-1], asked), asked
        objects = objects._replace(sure=objects.sure - self.config.doubt)
        if self.config.num_tokens is not None:
            objects, keep = surest(objects, asked, self.config.num_tokens)
        places = places_of(objects, batch, self.config.cells)
        rooms = rooms_of(batch, things < 0, objects.lower, objects.upper, keep & (objects.sure > 0))
        words = torch.sigmoid(objects.sure)[..., None] * objects.words
        corners = corners_of(places, self.config.cells)
        told = ObjectSteps(things, tuple(steps), objects, keep, places, rooms, corners, asked=asked)
        return SceneTokens(words, keep, told)

    def _objects(self, x: Float[Tensor, "B Q D"], at: Float[Tensor, "B Q 3"]) -> SceneObjects:
        with without_autocast(x):
            shift, size = self.box(x.float()).split(3, dim=-1)
            centre, half = at + shift, size.clamp(-5, 3).exp() / 2
            sure = self.sure(x.float())[..., 0]
        return SceneObjects(centre - half, centre + half, sure, self.say(x))


class QueryBlock(nn.Module):
    """Attention of each query to its own points, of queries to each other, then an MLP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.heads = num_heads
        self.norm_near, self.norm_others, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.ask, self.answer, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = MLP(width, 4 * width, width, "gelu")

    def forward(
        self, x: Float[Tensor, "B Q D"], seen: Float[Tensor, "B Q K D"], keep: Tensor
    ) -> Float[Tensor, "B Q D"]:
        """One round."""
        q = rearrange(self.ask(self.norm_near(x)), "b q (h d) -> b q h d", h=self.heads)
        x = x + self.out(rearrange(attend_own(q, seen, self.answer), "b q h d -> b q (h d)"))
        q, k, v = rearrange(self.qkv(self.norm_others(x)), "b q (three h d) -> three b h q d", three=3, h=self.heads)
        others = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None])
        x = x + self.mix(rearrange(others, "b h q d -> b q (h d)"))
        return x + self.mlp(self.norm(x))


@torch.no_grad()
def choose_seeds(
    batch: PointBatch, things: Float[Tensor, "B P"], count: int
) -> tuple[Int[Tensor, "B Q"], Float[Tensor, "B Q"]]:
    """Points far from each other, in place and colour, among those that seem to belong to things; and which are real.

    The farthest from all taken is taken next (Gonzalez 1985), so that each object gets one before a large one gets its
    second. Where too few points seem to belong to things, the likeliest others are taken in. All scenes at once, and in
    the order taken, which no order of the points changes: what `ops.lifted.covering_points` does not give.
    """
    places = torch.cat([batch.points, _COLOUR * batch.colours], dim=-1).transpose(1, 2).contiguous()
    among = _likely(batch, things, count)
    away = torch.where(among, torch.inf, -1.0)
    seeds = [torch.where(among, things, -torch.inf).argmax(dim=1)]
    rows = torch.arange(len(places), device=places.device)
    for _ in range(min(count, places.shape[2]) - 1):
        last = places[rows, :, seeds[-1]]
        away = torch.minimum(away, (places - last[:, :, None]).square().sum(dim=1))
        seeds.append(away.argmax(dim=1))
        away[rows, seeds[-1]] = away[rows, seeds[-1]].clamp(max=0)
    keep = torch.arange(len(seeds), device=places.device) < among.sum(dim=1, keepdim=True)
    return torch.stack(seeds, dim=1), keep


@torch.no_grad()
def neighbours(
    batch: PointBatch, things: Float[Tensor, "B P"], seeds: Int[Tensor, "B Q"], count: int
) -> Int[Tensor, "B Q K"]:
    """Points around each seed, nearest first, that seem to belong to things; repeated where there are few.

    Half of them are the nearest; the others lie evenly among those that follow.
    """
    among = _likely(batch, things, 1)
    away = torch.cdist(_take(batch.points, seeds), batch.points)
    away = away.masked_fill(~among[:, None], torch.inf)
    reach = min(_SPREAD * count, away.shape[-1])
    order = away.topk(reach, largest=False)
    last = order.values.isfinite().sum(dim=-1, keepdim=True) - 1
    dense = torch.arange(count - count // 2, device=away.device)
    rest = dense[-1] + torch.linspace(0, 1, count // 2 + 1, device=away.device)[1:] * (last - dense[-1]).clamp(min=0)
    steps = torch.cat([dense.expand(*last.shape[:2], -1), rest.round().long()], dim=-1)
    return order.indices.gather(2, torch.minimum(steps, last))


def surest(objects: SceneObjects, keep: Bool[Tensor, "B Q"], count: int) -> tuple[SceneObjects, Bool[Tensor, "B N"]]:
    """Of each scene's queries, those that are the surest of their objects, the surest first; and which are real."""
    sure = objects.sure.masked_fill(~keep, -torch.inf)
    chosen = sure.argsort(dim=1, descending=True, stable=True)[:, :count]
    return SceneObjects(*(_take(x, chosen) for x in objects)), keep.gather(1, chosen)


def _likely(batch: PointBatch, things: Float[Tensor, "B P"], at_least: int) -> Tensor:
    """Real points that seem to belong to things; at least so many of each scene, if it has them."""
    real = things.masked_fill(~batch.keep, -torch.inf)
    least = real.topk(min(at_least, real.shape[1]), dim=1).values[:, -1:]
    return batch.keep & (real >= least.clamp(max=0.0))


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each scene by number."""
    rows = torch.arange(len(x), device=x.device).view(-1, *[1] * (index.ndim - 1))
    return x[rows, index]


def attend_own(
    q: Float[Tensor, "B Q H D"], seen: Float[Tensor, "B Q K C"], answer: nn.Linear
) -> Float[Tensor, "B Q H D"]:
    """Attention of each query to keys and values that `answer` makes of what it alone sees, without making them.

    Every query has its own points, so keys and values are used once. Instead of all of these, the query is brought to
    the points, and what it found is brought back: a Kth of the maps, for H times the products of queries with points
    (as in multi-head latent attention, DeepSeek-V2 2024, section 2.1.2). The bias of keys moves all logits of a query
    alike, so it has no part in this; weights sum to 1, so the bias of values stays as it is.

    Args:
        q: queries by heads.
        seen: points of each query.
        answer: the map from points to keys of all heads, then values.
    """
    assert answer.bias is not None
    seen = seen.to(q.dtype)
    keys, values = rearrange(answer.weight.to(q.dtype), "(two h d) c -> two h d c", two=2, h=q.shape[2])
    _, shift = rearrange(answer.bias.to(q.dtype), "(two h d) -> two h d", two=2, h=q.shape[2])
    asked = torch.einsum("bqhd,hdc->bqhc", q * q.shape[-1] ** -0.5, keys)
    weights = (asked @ seen.transpose(-1, -2)).softmax(dim=-1).to(q.dtype)
    return torch.einsum("bqhc,hdc->bqhd", weights @ seen, values) + shift
