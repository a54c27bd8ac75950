"""What a text-to-video experiment says of its networks, its flow and its sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from genworld.flow.guidance import GuidanceConfig
from genworld.flow.rectified import FlowConfig
from genworld.flow.samplers import SamplerConfig
from genworld.models.dit import DiTConfig
from genworld.models.text import TextConfig
from genworld.models.vae import VAEConfig
from genworld.tasks.given import GivenConfig
from genworld.types import ClipShape


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """What sampling does when it is not told otherwise: shape, sampler and guidance."""

    size: tuple[int, int] = (64, 64)
    frames: int = 17
    fps: float = 8.0
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)

    @property
    def shape(self) -> ClipShape:
        """The shape as a record."""
        return ClipShape(self.frames, *self.size, self.fps)


@dataclass(frozen=True, kw_only=True)
class TextToVideoConfig:
    """A frozen VAE, a text encoder, a transformer, the flow it learns and how it is sampled.

    Attributes:
        patch: side of the square of latent pixels that makes one token.
        drop_text: how often training sees the empty prompt, which classifier-free guidance needs.
        given: which parts of clips training shows as given, so that sampling can be given some.
        drop_camera: how often training hides a camera's path that is known; of use with `dit.camera` only.
        sample: how the trained model is sampled by default.
    """

    kind: Literal["text_to_video"] = "text_to_video"
    vae: VAEConfig
    dit: DiTConfig
    text: TextConfig
    patch: int = 2
    flow: FlowConfig = field(default_factory=FlowConfig)
    drop_text: float = 0.1
    given: GivenConfig = field(default_factory=GivenConfig)
    drop_camera: float = 0.2
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        for name in ("drop_text", "drop_camera"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is a probability below 1, got {getattr(self, name)}")
