"""FVD by protocol, the formula of JEDi, and what the encoders of JEDi and cd-FVD want to see.

Only the published I3D network gives a number called FVD. With another encoder it is `fd[NAME]` (or `jedi[NAME]`), NAME
being the encoder's.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genworld.eval.frechet import Covariance, Encoder, FeatureDistance, FrechetDistance, second_moment_of

I3D_SHA256 = "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2"
"""Of `i3d_torchscript.pt` (51,235,320 bytes), the port of tf.hub's I3D that StyleGAN-V and most since use for FVD."""
_SIZE = 224  # pixels that the encoders of cd-FVD and JEDi want
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class FVDProtocol:
    """How StyleGAN-V takes clips: `num_videos` of each kind at most, of `num_frames` frames `stride` frames apart."""

    num_videos: int
    num_frames: int
    stride: int = 1

    @classmethod
    def named(cls, name: str) -> Self:
        """From `fvd2048_16f`, `fvd2048_128f`, `fvd2048_128f_subsample8f` and other numbers in their place.

        The frames in a name are those that a clip spans: `128f_subsample8f` is 16 frames.

        Raises:
            ValueError: the name is of another form.
        """
        found = re.fullmatch(r"fvd(\d+)_(\d+)f(?:_subsample(\d+)f)?", name)
        if found is None:
            raise ValueError(
                f"no FVD protocol is called {name!r}: use names like fvd2048_16f, fvd2048_128f_subsample8f"
            )
        videos, span, stride = (int(number) if number else 1 for number in found.groups())
        if min(videos, span, stride) < 1 or span % stride:
            raise ValueError(f"{name}: {span} frames cannot be taken {stride} apart")
        return cls(videos, span // stride, stride)

    @property
    def name(self) -> str:
        """The name it is known by."""
        suffix = f"_subsample{self.stride}f" if self.stride > 1 else ""
        return f"fvd{self.num_videos}_{self.num_frames * self.stride}f{suffix}"

    def pick(self, available: int, chance: torch.Generator | None) -> list[int] | None:
        """Numbers of the frames to use.

        Args:
            available: frames of the video.
            chance: draws where a clip begins; None, as for generated videos: at the first frame.

        Returns:
            None for a video that is too short: the protocol leaves it out.
        """
        if available < self.num_frames * self.stride:
            return None
        last = available - (self.num_frames - 1) * self.stride
        start = int(torch.randint(last, (), generator=chance)) if chance is not None else 0
        return list(range(start, start + self.num_frames * self.stride, self.stride))


class I3D(nn.Module):
    """The 400 logits of I3D, from its TorchScript file; always in evaluation mode.

    TorchScript is a program: nothing of the file is run unless it has the expected sha256. Pixels are rounded to 8 bits
    as those of a stored video are; scaling to 224 x 224 happens inside, as StyleGAN-V has it.

    Raises:
        ValueError: the file does not exist or is another.
    """

    num_features = 400

    def __init__(self, path: Path, sha256: str = I3D_SHA256) -> None:
        super().__init__()
        if not path.is_file():
            raise ValueError(
                f"{path} does not exist: it should be i3d_torchscript.pt of StyleGAN-V; nothing is downloaded"
            )
        program = path.read_bytes()
        self.sha256 = hashlib.sha256(program).hexdigest()
        if self.sha256 != sha256:
            raise ValueError(
                f"{path} ({len(program):,} bytes) has the sha256 {self.sha256}, expected was {sha256}: it is another "
                "file or a damaged one, and was not run"
            )
        self.network = torch.jit.load(io.BytesIO(program), map_location="cpu")
        for parameter in self.network.parameters():
            parameter.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: a frozen network has no other."""
        return super().train(mode=False)

    def forward(self, pixels: Float[Tensor, "B 3 F H W"]) -> Float[Tensor, "B 400"]:
        """Logits of clips in [-1, 1].

        Raises:
            ValueError: the clips have fewer than 10 frames: the strides of the network leave nothing of them.
        """
        if pixels.shape[2] < 10:
            raise ValueError(f"I3D needs clips of at least 10 frames, got {pixels.shape[2]}")
        # TF32 is on for convolutions by default; its 10 bits would be another protocol.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            logits = self.network(_levels(pixels), rescale=True, resize=True, return_features=True)
        assert logits.shape == (len(pixels), self.num_features), logits.shape
        return logits


class FVD(FrechetDistance):
    """Fréchet video distance (Unterthiner et al. 2018) by a protocol of StyleGAN-V, named after it.

    With an I3D of another sha256 than `I3D_SHA256` the result is named after that instead.

    Args:
        protocol: see `FVDProtocol.named`.
        detector: the network.
        covariance: StyleGAN-V's is the biased one.
    """

    def __init__(self, protocol: str, detector: I3D, covariance: Covariance = "biased") -> None:
        if not isinstance(detector, I3D):
            raise ValueError(
                f"only the features of I3D make an FVD, got {type(detector).__name__}: use FrechetDistance"
            )
        super().__init__(detector, detector.num_features, f"i3d_{detector.sha256[:8]}", covariance)
        self.protocol = FVDProtocol.named(protocol)

    @property
    def title(self) -> str:
        """The name of the protocol."""
        assert isinstance(self.encoder, I3D)
        return self.protocol.name if self.encoder.sha256 == I3D_SHA256 else f"fd[{self.name}]"

    def update(
        self,
        pixels: Float[Tensor, "B 3 F H W"],
        *,
        real: bool,
        fps: float,
        positions: Sequence[int] | None = None,
    ) -> None:
        """Add clips of exactly the protocol's frames, see `FVDProtocol.pick`; `fps` is the rate of those frames."""
        if pixels.ndim == 5 and pixels.shape[2] != self.protocol.num_frames:
            raise ValueError(
                f"{self.protocol.name} is of clips of {self.protocol.num_frames} frames, got {pixels.shape[2]}"
            )
        super().update(pixels, real=real, fps=fps, positions=positions)

    def compute(self) -> dict[str, Any]:
        """See `FeatureDistance`; the numbers of videos must be the protocol's.

        Raises:
            ValueError: there are more or fewer generated videos, or more real ones, than the protocol says.
        """
        most = self.protocol.num_videos
        if self.num_generated != most or self.num_real > most:
            raise ValueError(
                f"{self.protocol.name} is of {most} generated videos and at most as many real ones, got "
                f"{self.num_generated} and {self.num_real}: the distance depends on the number, so name a protocol "
                "with yours"
            )
        return super().compute()


class CDFVD(FrechetDistance):
    """The distance of cd-FVD (Ge et al. 2024) with an encoder of one's own, named `cd_fvd[NAME]`.

    Clips of 16 frames, see `cd_fvd_input`, and the biased covariance E[x x^T] - mean mean^T. The published one has an
    encoder of 1,408 features, VideoMAE-v2 ViT-g/14 fine-tuned on Something-Something v2: with white features of that
    width a perfect generator would still score 484 at 2,048 videos, see `finite_sample_bias`.

    Args:
        encoder: of what `cd_fvd_input` gives.
        num_features: its width.
        name: of the encoder.
    """

    def __init__(self, encoder: Encoder, num_features: int, name: str) -> None:
        super().__init__(lambda pixels: encoder(cd_fvd_input(pixels)), num_features, name, "biased")
        if isinstance(encoder, nn.Module) and encoder.training:
            raise ValueError(f"the encoder {name} is in training mode, where it may be random: call its eval()")

    @property
    def title(self) -> str:
        """`cd_fvd[NAME]`."""
        return f"cd_fvd[{self.name}]"


class JEDi(FeatureDistance):
    """100 times the squared maximum mean discrepancy of a quadratic kernel (Luo et al. 2024), named `jedi[NAME]`.

    The mean of (x . y)^2 over all pairs is the inner product of the second moments E[x x^T] and E[y y^T], so that
    running moments are enough; `polynomial_mmd` is the same from all features at once.
    """

    @property
    def title(self) -> str:
        """`jedi[NAME]`."""
        return f"jedi[{self.name}]"

    def distance(self, real: Float[Tensor, "1+D 1+D"], other: Float[Tensor, "1+D 1+D"]) -> Float[Tensor, ""]:
        """With gamma = 1 / D, as scikit-learn's kernel has it by default."""
        difference = second_moment_of(real) - second_moment_of(other)
        return 100 * (difference / self.num_features).square().sum()


def polynomial_mmd(
    features_a: Float[Tensor, "N D"],
    features_b: Float[Tensor, "M D"],
    degree: int = 2,
    coef0: float = 0.0,
    gamma: float | None = None,
) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy of the kernel (gamma x . y + coef0)^degree, pairs of equals included.

    Args:
        features_a: of one set.
        features_b: of the other.
        degree: of the polynomial.
        coef0: its constant.
        gamma: 1 / D by default.
    """
    one, two = features_a.double(), features_b.double()
    scale = 1 / one.shape[1] if gamma is None else gamma

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return ((scale * x @ y.T + coef0) ** degree).mean()

    return kernel(one, one) + kernel(two, two) - 2 * kernel(one, two)


def cd_fvd_input(pixels: Float[Tensor, "B 3 16 H W"]) -> Float[Tensor, "B 3 16 224 224"]:
    """What cd-FVD feeds to VideoMAE-v2: values in [0, 1], squashed to 224 x 224, not normalised further.

    Raises:
        ValueError: the clips do not have 16 frames.
    """
    if pixels.shape[2] != 16:
        raise ValueError(f"cd-FVD is of clips of 16 frames, got {pixels.shape[2]}")
    frames = rearrange(_levels(pixels) / 255, "b c f h w -> (b f) c h w")
    frames = F.interpolate(frames, (_SIZE, _SIZE), mode="bilinear", align_corners=False)
    return rearrange(frames, "(b f) c h w -> b c f h w", b=len(pixels))


def jedi_input(pixels: Float[Tensor, "B 3 F 224 224"]) -> Float[Tensor, "B 3 F 224 224"]:
    """What JEDi feeds to V-JEPA: ImageNet's normalisation of clips that are brought to 224 x 224 beforehand.

    Raises:
        ValueError: the clips are of another size.
    """
    if pixels.shape[3:] != (_SIZE, _SIZE):
        raise ValueError(f"JEDi is of clips of {_SIZE} x {_SIZE} pixels, got {list(pixels.shape[3:])}")
    mean, deviation = (pixels.new_tensor(values)[:, None, None, None] for values in _IMAGENET)
    return (_levels(pixels) / 255 - mean) / deviation


def _levels(pixels: Tensor) -> Tensor:
    """The levels 0 … 255 that pixels are stored as, in floating point."""
    return (pixels.float() * 127.5 + 128).clamp(0, 255).floor()
