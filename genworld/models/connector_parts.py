"""The parts a connector is made of: positions, colours, norms, maps, and what turns many points into few tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genworld.models.point_batch import PointBatch, check_cells
from genworld.nn.attention import CrossAttention
from genworld.nn.mlp import MLP
from genworld.ops.attention import CrossSegments
from genworld.ops.positions import TABLE_ROWS, PositionStyle, with_positions
from genworld.ops.precision import without_autocast
from genworld.ops.ragged import Segments


class SceneObjects(NamedTuple):
    """What queries say of objects, one each.

    Attributes:
        lower: least corner of its box, metres, scene axes.
        upper: greatest corner.
        sure: logit of there being one.
        words: what it is, in the space of what listens: near the embeddings of the words that name it.
    """

    lower: Float[Tensor, "B Q 3"]
    upper: Float[Tensor, "B Q 3"]
    sure: Float[Tensor, "B Q"]
    words: Float[Tensor, "B Q D"]


class ObjectSteps(NamedTuple):
    """What a connector says of objects on its way; see `object_queries`, `object_places` and `object_losses`.

    Attributes:
        things: logits of each point of the batch: does it belong to an object?
        steps: what the queries say after each block, for losses; () where these are not asked for.
        last: what they say in the end (see `object_twins`), or the surest of them.
        keep: which of those are real.
        places: where the boxes are in the end: centre in metres from the scene's middle, centre in parts of the codec's
            box from its middle, size in metres, and both corners in such parts. Nothing that is learned from them moves
            the boxes.
        bearings: where the middles of boxes are for who stands and looks somewhere, once that is told: metres ahead
            and to the left, both as parts of the distance, the distance, and 1; zeros where it is not told.
        rooms: how surely two objects are in one room, 0 to 1; see `object_rooms`.
        corners: of the boxes, the least cells of the codec along its axes, then the greatest.
        asked: which queries of `steps` are real; None where that is `keep`.
    """

    things: Float[Tensor, "B P"]
    steps: tuple[SceneObjects, ...]
    last: SceneObjects
    keep: Bool[Tensor, "B Q"]
    places: Float[Tensor, "B Q 15"]
    rooms: Float[Tensor, "B Q Q"]
    corners: Int[Tensor, "B Q 6"]
    bearings: Float[Tensor, "B Q 6"] | None = None
    asked: Bool[Tensor, "B A"] | None = None


class SceneTokens(NamedTuple):
    """Tokens of scenes on their way: padded, and which are real. The real ones of a scene are in their order.

    Where queries became objects, what they said is in `objects`.
    """

    x: Float[Tensor, "B N D"]
    keep: Bool[Tensor, "B N"]
    objects: ObjectSteps | None = None


class Part(nn.Module):
    """One step of a connector.

    Attributes:
        out_width: of the tokens it gives.
        per_point: whether it needs its tokens to be the points of the batch, one each.
    """

    out_width: int
    per_point: bool = False

    def num_tokens(self, n: int) -> int:
        """How many tokens it makes of `n`."""
        return n

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """Take one step. Once tokens are settled (see `Connector`), there is no batch."""
        raise NotImplementedError


class PartConfig(Protocol):
    """What builds a part."""

    def build(self, in_width: int, consumer: int) -> Part:
        """The part for tokens of `in_width`; `consumer` is the width that the whole connector must end with."""
        ...


@dataclass(frozen=True, kw_only=True)
class Positions3DConfig:
    """Where points are.

    Attributes:
        style: `add`, `tokens` and `channels` are 3D-LLM's three ways (see `genworld.ops.positions`), of the codec's
            cells. `fourier` adds what an MLP makes of waves of the position.
        of: what `fourier` tells: `metres` from the scene's middle, `cells` of the codec (location tokens speak of
            those), or both.
        cells: of the codec along an axis.
        octaves: waves of `fourier` per axis; the longest is 16 metres, or the codec's box, and each next one half.
    """

    kind: Literal["positions3d"] = "positions3d"
    style: PositionStyle | Literal["fourier"] = "add"
    of: Literal["metres", "cells", "both"] = "both"
    cells: int = TABLE_ROWS
    octaves: int = 7

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return FourierPositions(self, in_width) if self.style == "fourier" else TablePositions(self, in_width)


@dataclass(frozen=True, kw_only=True)
class ColoursConfig:
    """Adds what a linear layer makes of the points' colours."""

    kind: Literal["colours"] = "colours"

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return Colours(in_width)


@dataclass(frozen=True, kw_only=True)
class NormConfig:
    """A layer norm: features of some encoders are large, and positions are added to them."""

    kind: Literal["norm"] = "norm"

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return EachToken(nn.LayerNorm(in_width), in_width)


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """A linear map; to the width of what listens where `width` is none."""

    kind: Literal["linear"] = "linear"
    width: int | None = None

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return EachToken(nn.Linear(in_width, self.width or consumer), self.width or consumer)


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """Two linear maps with a GELU between them (LLaVA 1.5); to the width of what listens where `width` is none."""

    kind: Literal["mlp"] = "mlp"
    width: int | None = None
    hidden: int | None = None

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        width = self.width or consumer
        return EachToken(MLP(in_width, self.hidden or width, width, "gelu"), width)


@dataclass(frozen=True, kw_only=True)
class _Queries:
    """What the parts with learned queries have in common.

    Attributes:
        width: of the queries.
        depth: blocks.
        num_heads: must divide the width.
        num_queries: tokens that come out, however many go in.
    """

    width: int = 768
    depth: int = 12
    num_heads: int = 12
    num_queries: int = 32

    def __post_init__(self) -> None:
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not divisible by num_heads {self.num_heads}")
        if min(self.num_queries, self.depth) < 1:
            raise ValueError(f"num_queries and depth must be at least 1, got {self.num_queries} and {self.depth}")


@dataclass(frozen=True, kw_only=True)
class QFormerConfig(_Queries):
    """The querying transformer of BLIP-2 (Li et al. 2023), of transformers; as 3D-LLM has it by default.

    Attributes:
        cross_every: every so many blocks, the first included, the queries look at the points.
    """

    kind: Literal["qformer"] = "qformer"
    cross_every: int = 2

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return QFormer(self, in_width)


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig(_Queries):
    """The resampler of Flamingo (Alayrac et al. 2022, section 3.1): queries look at points and queries at once."""

    kind: Literal["resampler"] = "resampler"

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return Resampler(self, in_width)


class EachToken(Part):
    """The same small network for every token."""

    def __init__(self, network: nn.Module, out_width: int) -> None:
        super().__init__()
        self.network, self.out_width = network, out_width

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        return tokens._replace(x=self.network(tokens.x))


class Colours(Part):
    """See `ColoursConfig`."""

    per_point = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network, self.out_width = nn.Linear(3, width), width

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        return tokens._replace(x=tokens.x + self.network(2 * batch.colours - 1))


class TablePositions(Part):
    """3D-LLM's encodings of voxels; nothing is learned."""

    per_point = True

    def __init__(self, config: Positions3DConfig, in_width: int) -> None:
        super().__init__()
        assert config.style != "fourier"
        self.style: PositionStyle = config.style
        self.cells = config.cells
        self.out_width = 2 * in_width if self.style == "channels" else in_width

    def num_tokens(self, n: int) -> int:
        """See `Part`."""
        return 2 * n if self.style == "tokens" else n

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        check_cells(batch, self.cells)
        keep = torch.cat([tokens.keep, tokens.keep], dim=1) if self.style == "tokens" else tokens.keep
        return SceneTokens(with_positions(tokens.x, batch.voxels, self.style, self.cells), keep)


class FourierPositions(Part):
    """Waves of positions through an MLP (Tancik et al. 2020), added; in float32 until the MLP."""

    per_point = True
    LONGEST = 16.0

    def __init__(self, config: Positions3DConfig, in_width: int) -> None:
        super().__init__()
        self.of, self.cells, self.octaves = config.of, config.cells, config.octaves
        axes = 6 if config.of == "both" else 3
        self.network = MLP(axes * (1 + 2 * config.octaves), in_width, in_width, "gelu")
        self.out_width = in_width

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        check_cells(batch, self.cells)
        with without_autocast(batch.points):
            places = []
            if self.of != "cells":
                places.append((batch.points - batch.middles()[:, None]) / self.LONGEST)
            if self.of != "metres":
                places.append((batch.voxels + 0.5) / self.cells - 0.5)
            values = torch.cat(places, dim=-1)
            told = waves(values, self.octaves)
        return tokens._replace(x=tokens.x + self.network(told))


class QFormer(Part):
    """See `QFormerConfig`. Text never enters it, and padding is masked in every cross-attention.

    Names of its weights are those of transformers, `qformer.*`, beside `queries`.
    """

    def __init__(self, config: QFormerConfig, in_width: int) -> None:
        super().__init__()
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        settings: Any = Blip2QFormerConfig(
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=4 * config.width,
            hidden_dropout_prob=0.0,  # all that is drawn here is a function of (seed, position)
            attention_probs_dropout_prob=0.0,
            cross_attention_frequency=config.cross_every,
            encoder_hidden_size=in_width,
            use_qformer_text_input=False,
            # BERT's 0.02 at its width of 768; a narrow one would at first look everywhere alike.
            initializer_range=0.02 * (768 / config.width) ** 0.5,
        )
        self.queries = nn.Parameter(torch.randn(1, config.num_queries, config.width) * settings.initializer_range)
        self.qformer = Blip2QFormerModel(settings)
        self.out_width = config.width

    def num_tokens(self, n: int) -> int:
        """See `Part`."""
        return self.queries.shape[1]

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        queries = self.queries.expand(len(tokens.x), -1, -1)
        result = self.qformer(
            query_embeds=queries, encoder_hidden_states=tokens.x, encoder_attention_mask=tokens.keep.long()
        ).last_hidden_state
        return SceneTokens(result, torch.ones(result.shape[:2], dtype=torch.bool, device=result.device))


class Resampler(Part):
    """See `ResamplerConfig`."""

    def __init__(self, config: ResamplerConfig, in_width: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.width) * 0.02)
        self.enter = nn.Linear(in_width, config.width)
        self.blocks = nn.ModuleList(ResamplerBlock(config.width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.out_width = config.width

    def num_tokens(self, n: int) -> int:
        """See `Part`."""
        return len(self.queries)

    def forward(self, tokens: SceneTokens, batch: PointBatch) -> SceneTokens:
        """See `Part`."""
        size, count = len(tokens.x), len(self.queries)
        points = self.enter(tokens.x)
        keep = F.pad(tokens.keep, (0, count), value=True)
        queries = repeat(self.queries, "q d -> b q d", b=size).to(points)
        mask = CrossSegments(Segments((count,) * size), Segments(tuple(keep.sum(dim=1).tolist())))
        for block in self.blocks:
            queries = block(queries, points, keep, mask)
        return SceneTokens(self.norm(queries), keep[:, -count:].new_ones(size, count))


class ResamplerBlock(nn.Module):
    """Attention of queries to points and queries, then an MLP, each after a norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norm_points, self.norm_queries, self.norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = CrossAttention(width, num_heads)
        self.mlp = MLP(width, 4 * width, width, "gelu")

    def forward(
        self, queries: Float[Tensor, "B Q D"], points: Float[Tensor, "B P D"], keep: Tensor, mask: CrossSegments
    ) -> Float[Tensor, "B Q D"]:
        """One round; `keep` is over points and queries together."""
        asking = self.norm_queries(queries)
        seen = torch.cat([self.norm_points(points), asking], dim=1)[keep]
        queries = queries + self.attention(asking.flatten(0, 1), seen, mask).view_as(queries)
        return queries + self.mlp(self.norm(queries))


def waves(x: Float[Tensor, "*B n"], octaves: int) -> Float[Tensor, "*B m"]:
    """Numbers, and sines and cosines of them, each octave twice as fast as the one before (Tancik et al. 2020)."""
    angles = (x[..., None] * (2 * math.pi * 2.0 ** torch.arange(octaves, device=x.device))).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)
