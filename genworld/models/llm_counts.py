"""How many things a word means, told to the words after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genworld.ops.precision import without_autocast

NUMBERS = 7
"""0 to 5, and more than that."""
_SEEN, _BIAS, _LEAST = 2.0, 6.0, 1e-3
"""What the logarithm of how much a thing was looked at is worth at first, what is added to that, and what counts as
nothing: one of seven parts (the look at each of up to six things) is likely meant, a hundredth is not."""


class CountHead(nn.Module):
    """Judges of every thing, by itself, whether a word means it, and adds to the word how many that are.

    Attention shares one unit among all that it looks at: it averages, and numbers have to be read from what is left
    over. Here each thing is judged alone, and the distribution of their number (Poisson binomial) is exact. A thing is
    judged by how much the word looked at it, by its token, and by how it lies to what the word looked at, so that "in
    the room with the bed" counts too (counting by judged objects: Zhang et al. 2018, "Learning to count objects in
    natural images for visual question answering").

    Args:
        width: of states and of tokens.
        features: of how things lie.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.ask, self.relate = nn.Linear(width, width), nn.Linear(width, features + 1)
        self.tell = nn.Linear(NUMBERS, width, bias=False)
        self.bias = nn.Parameter(torch.tensor(_BIAS))
        nn.init.zeros_(self.relate.weight)
        nn.init.zeros_(self.relate.bias)
        nn.init.constant_(self.relate.bias[-1:], _SEEN)
        nn.init.zeros_(self.tell.weight)

    @torch.no_grad()
    def begin(self, numbers: Float[Tensor, "N D"]) -> None:
        """Tell numbers as these embeddings at first: those of the words for them, which answers are read from."""
        self.tell.weight.copy_(numbers.T)

    def forward(
        self,
        states: Float[Tensor, "B L D"],
        things: Float[Tensor, "B Q D"],
        seen: Float[Tensor, "B L Q"],
        moved: Float[Tensor, "B L Q F"],
        real: Bool[Tensor, "B Q"],
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B L Q"]]:
        """What is added to the words, and the logits that each thing is meant; float32.

        Args:
            states: of the words.
            things: tokens of the scene.
            seen: how much each word looked at each of them.
            moved: how these lie to what each word looked at.
            real: which of them there are.
        """
        states = F.rms_norm(states, states.shape[-1:])
        alike = torch.einsum("bld,bqd->blq", self.ask(states), things.to(states)) / states.shape[-1]
        known = torch.cat([moved.to(states), (seen + _LEAST).log().to(states)[..., None]], dim=-1)
        lying = torch.einsum("blf,blqf->blq", self.relate(states), known)
        with without_autocast(states):
            logits = (alike + lying).float() + self.bias
            logits = logits.masked_fill(~real[:, None], -torch.inf)
            numbers = number_of(logits.sigmoid())
        return self.tell(numbers.to(states)), logits


def number_of(chances: Float[Tensor, "... Q"], most: int = NUMBERS) -> Float[Tensor, "... N"]:
    """How likely 0, 1, ... of independent events are; the last is that number or more.

    Args:
        chances: of the events.
        most: numbers that are told apart.
    """
    counts = F.pad(torch.ones_like(chances[..., :1]), (0, most - 1))
    for chance in chances.unsqueeze(-1).unbind(dim=-2):
        up = counts * chance
        counts = counts - F.pad(up[..., :-1], (0, 1)) + F.pad(up[..., :-1], (1, 0))
    return counts
