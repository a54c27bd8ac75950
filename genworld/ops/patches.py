"""Latent videos as sequences of square spatial patches, and back."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Shaped
from torch import Tensor


def patchify(latents: Shaped[Tensor, "C T H W"], patch: int) -> Shaped[Tensor, "L P"]:
    """One token per `patch` x `patch` square of each frame: frames, then rows, then columns.

    A token's features are ordered channel first, then row and column inside the patch; P = C * patch^2.

    Raises:
        ValueError: height or width is not divisible by `patch`.
    """
    height, width = latents.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(f"latents of {height}x{width} cannot be cut into patches of {patch}x{patch}")
    return rearrange(latents, "c t (h p) (w q) -> (t h w) (c p q)", p=patch, q=patch)


def unpatchify(tokens: Shaped[Tensor, "L P"], shape: tuple[int, int, int], patch: int) -> Shaped[Tensor, "C T H W"]:
    """The latents whose patches are `tokens`.

    Args:
        tokens: as `patchify` makes them.
        shape: latent frames, height and width (in latent pixels, not patches).
        patch: side of a patch.

    Raises:
        ValueError: the number of tokens is not that of `shape`.
    """
    time, height, width = shape
    if len(tokens) * patch**2 != time * height * width:
        raise ValueError(f"{len(tokens)} tokens of {patch}x{patch} do not make latents of {time}x{height}x{width}")
    rows, columns = height // patch, width // patch
    return rearrange(tokens, "(t h w) (c p q) -> c t (h p) (w q)", t=time, h=rows, w=columns, p=patch, q=patch)
