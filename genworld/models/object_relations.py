"""How objects lie to one another, as their tokens tell it: what is near, what bears what, who shares a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from genworld.models.connector_parts import ObjectSteps, Part, SceneTokens
from genworld.models.point_batch import PointBatch
from genworld.ops.precision import without_autocast

_NEAR, _TOUCH, _FAR, _LEAST = 0.25, 0.08, 2.0, -8.0
"""Metres at which nearness, contact and distance have fallen by 1, and the least that any of them becomes."""

RELATIONS = ("near", "on", "under", "far", "room", "self", "one")
_HEADS: tuple[dict[str, float], ...] = (
    {"near": 1, "self": -8, "one": 1},
    {"near": 2, "self": -8, "one": 2},
    {"on": 2, "self": -8, "one": 2},
    {"under": 2, "self": -8, "one": 2},
    {"room": 1, "one": 4},
    {"room": 1, "self": -8, "one": -2},
    {"far": 1, "self": -8, "one": 1},
    {"far": 1, "room": 1, "self": -8, "one": 1},
)
"""What the logits of each head begin as: of what is beside a thing, on what it is, what it bears, the things of its
room (all alike; and so that many weigh more than few), and what is around."""

_LOUD = 0.25
"""Of what heads tell at first, beside what a token is itself."""


@dataclass(frozen=True, kw_only=True)
class RelationsConfig:
    """Adds to the tokens of objects what stands in a relation to them; comes after a part of kind `places`.

    Attention among objects whose logits are linear in how their boxes lie to one another and in the room they share
    (spatial attention, Chen et al. 2022, "Language conditioned spatial relation reasoning for 3D object grounding"),
    with heads that begin as relations. Each head may look at nothing, so that it also tells how many there are.
    """

    kind: Literal["relations"] = "relations"

    def build(self, in_width: int, consumer: int) -> Part:
        """See `PartConfig`."""
        return Relations(in_width)


class Relations(Part):
    """See `RelationsConfig`."""

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.out_width = in_width
        logits = torch.tensor([[head.get(name, 0.0) for name in RELATIONS] for head in _HEADS])
        self.logits = nn.Parameter(logits)
        self.tell = nn.Parameter(
            torch.stack([_LOUD * torch.linalg.qr(torch.randn(in_width, in_width)).Q for _ in _HEADS])
        )

    def forward(self, tokens: SceneTokens, batch: PointBatch | None) -> SceneTokens:
        """See `Part`.

        Raises:
            ValueError: tokens are no objects.
        """
        if tokens.objects is None:
            raise ValueError("a part of kind relations tells how objects lie: put it after one of kind objects")
        with without_autocast(tokens.x):
            share = self.shares(tokens.objects).to(tokens.x.dtype)
        heard = torch.einsum("bhqk,bkd,hde->bqe", share, tokens.x, self.tell)
        return tokens._replace(x=tokens.x + heard)

    def shares(self, objects: ObjectSteps) -> Float[Tensor, "B H Q Q"]:
        """How much of each object each head takes for each; with what it leaves, they are 1."""
        last = objects.last
        logits = relations_of(objects) @ self.logits.T + F.logsigmoid(last.sure)[:, None, :, None]
        logits = logits.masked_fill(~objects.keep[:, None, :, None], -torch.inf)
        nothing = torch.zeros_like(logits[:, :, :1])
        return torch.cat([logits, nothing], dim=2).softmax(dim=2)[:, :, :-1].permute(0, 3, 1, 2)


@torch.no_grad()
def relations_of(objects: ObjectSteps) -> Float[Tensor, "B Q Q F"]:
    """How the box of each object (second axis) lies to that of each (third axis); 0 where a relation holds fully."""
    lower, upper = objects.last.lower.float(), objects.last.upper.float()
    gaps = torch.maximum(lower[:, :, None] - upper[:, None], lower[:, None] - upper[:, :, None]).clamp(min=0)
    beside = gaps[..., :2].norm(dim=-1)
    rise = (lower[:, :, None, 2] - upper[:, None, :, 2]).abs()  # from the top of the other to the bottom of the one
    middles = (lower + upper)[..., :2] / 2
    away = torch.cdist(middles, middles)
    eye = torch.eye(lower.shape[1], device=lower.device).expand_as(away)
    told = {
        "near": -gaps.norm(dim=-1) / _NEAR,
        "on": -(rise + beside) / _TOUCH,
        "under": -(rise.transpose(1, 2) + beside) / _TOUCH,
        "far": -away / _FAR,
        "room": objects.rooms.clamp(min=1e-6).log(),
        "self": eye,
        "one": torch.ones_like(away),
    }
    return torch.stack([told[name].clamp(min=_LEAST) for name in RELATIONS], dim=-1)
