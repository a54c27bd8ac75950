"""Where the box is that a word looked at, told in location tokens to the words that write it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genworld.ops.precision import without_autocast

CORNERS = 6
"""Location tokens of a box: its least cells along three axes, then its greatest."""
_SHARP, _LEAST = 2.0, 1e-3
"""Power of the looks, which tells them apart, and what counts as no look."""
_NONE = 6.0
"""Logit of being told none: what a word has to learn to overcome."""
_QUICK = 8.0
"""What weights are multiplied by: what tells corners apart is a small part of states, and weights change little."""
_LOUD = 4.0
"""How loud a location token is told, in embeddings: states of words have grown by then."""


class CornerHead(nn.Module):
    """Adds to each word that one of the six location tokens of what it looked at which comes next, if it writes a box.

    The corners of an object's box stand in its token as waves, from which single cells have to be learned to be read;
    but which tokens stand for the box is known. Here they are at hand, and what is left to learn is which of the six
    comes next (copying from what is attended to: Gu et al. 2016, "Incorporating copying mechanism in
    sequence-to-sequence learning", with embeddings in place of probabilities). It begins with next to nothing, so that
    a trained model can be given one.

    Args:
        width: of states and of tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        # Not of `nn.Linear`, which would draw numbers: what is drawn after it is as without this head.
        self.ask = nn.Parameter(torch.zeros(CORNERS, width))
        self.bias = nn.Parameter(torch.zeros(CORNERS))

    def forward(
        self,
        states: Float[Tensor, "B L D"],
        corners: Float[Tensor, "B Q 6 D"],
        seen: Float[Tensor, "B L Q"],
        real: Bool[Tensor, "B Q"],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L 7"]]:
        """What is added to the words, and the logits of each corner's being next, and none; float32.

        Args:
            states: of the words.
            corners: embeddings of the location tokens of each thing's box.
            seen: how much each word looked at each thing.
            real: which of these there are.
        """
        with without_autocast(states):
            asked = F.linear(_QUICK * F.rms_norm(states.float(), states.shape[-1:]), self.ask, self.bias)
            logits = F.pad(asked, (0, 1), value=_NONE)
            shares = _LOUD * logits.softmax(dim=-1)[..., :-1]
            looks = _SHARP * (seen.float() + _LEAST).log()
            looked = looks.masked_fill(~real[:, None], -torch.inf).softmax(dim=-1)
        read = (looked.to(corners) @ corners.flatten(2)).unflatten(-1, corners.shape[2:])
        return torch.einsum("blc,blcd->bld", shares.to(read), read), logits
