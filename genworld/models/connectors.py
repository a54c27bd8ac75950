"""From the points of scenes to the tokens that a language model reads: a list of small parts, applied in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from genworld.models.connector_parts import (
    ColoursConfig,
    LinearConfig,
    MLPConfig,
    NormConfig,
    Part,
    Positions3DConfig,
    QFormerConfig,
    ResamplerConfig,
    SceneTokens,
)
from genworld.models.object_places import PlacesConfig
from genworld.models.object_queries import ObjectQueriesConfig
from genworld.models.object_relations import RelationsConfig
from genworld.models.point_batch import PointBatch, thin
from genworld.types import PointSet

__all__ = [
    "ColoursConfig",
    "Connector",
    "ConnectorConfig",
    "LinearConfig",
    "MLPConfig",
    "NormConfig",
    "ObjectQueriesConfig",
    "PartConfig",
    "PlacesConfig",
    "PointBatch",
    "Positions3DConfig",
    "QFormerConfig",
    "RelationsConfig",
    "ResamplerConfig",
    "SceneTokens",
]

PartConfig = (
    Positions3DConfig
    | ColoursConfig
    | NormConfig
    | ObjectQueriesConfig
    | PlacesConfig
    | RelationsConfig
    | QFormerConfig
    | ResamplerConfig
    | LinearConfig
    | MLPConfig
)


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig:
    """The parts of a connector and how many points it takes; by default 3D-LLM's.

    Attributes:
        parts: applied in order; the last one must end with the width of what listens.
        limit: points of a scene that are used at most.
        beyond: what to do with a scene of more: `thin` it (see `point_batch.thin`), or raise an `error`.
    """

    parts: tuple[PartConfig, ...] = (Positions3DConfig(), QFormerConfig(), LinearConfig())
    limit: int = 5000
    beyond: Literal["thin", "error"] = "thin"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1 point, got {self.limit}")
        if not self.parts:
            raise ValueError("a connector needs at least one part, such as {kind: linear}")


class Connector(nn.Module):
    """See `ConnectorConfig`.

    Padding is masked in every part, and the order of points makes no difference. Its first parts, those that need the
    points, settle which tokens there are; the others go on from these alone.

    Args:
        config: the parts.
        in_width: of the points' features.
        out_width: of the tokens that are to come out.

    Raises:
        ValueError: the parts do not fit one another.
    """

    def __init__(self, config: ConnectorConfig, in_width: int, out_width: int) -> None:
        super().__init__()
        self.config, self.in_width, self.out_width = config, in_width, out_width
        width, changed = in_width, ""
        parts: list[Part] = []
        settled = 0
        for number, part_config in enumerate(config.parts):
            part = part_config.build(width, out_width)
            if part.per_point and changed:
                raise ValueError(
                    f"parts[{number}] of the connector, {part_config.kind}, speaks of points, but after {changed} "
                    "tokens are no longer points: put it before"
                )
            if part.num_tokens(1) != 1 or part.num_tokens(2) != 2:
                changed = part_config.kind
            parts.append(part)
            if part.per_point or changed == part_config.kind:
                settled = len(parts)
            width = part.out_width
        if width != out_width:
            raise ValueError(
                f"the connector ends with {config.parts[-1].kind} of width {width}, but what listens has width "
                f"{out_width}: end it with {{kind: linear}}"
            )
        self.parts, self._settled = nn.ModuleList(parts), settled

    def num_tokens(self, n: int) -> int:
        """How many tokens a scene of `n` points becomes."""
        count = min(n, self.config.limit)
        for part in self.parts:
            count = part.num_tokens(count)  # type: ignore[operator]
        return count

    def stack(self, scenes: Sequence[PointSet]) -> PointBatch:
        """A batch of scenes as `forward` takes it, thinned to the limit.

        Raises:
            ValueError: a scene has no points, more than the limit where that is an error, or features of another width.
        """
        limit = self.config.limit
        for number, scene in enumerate(scenes):
            if len(scene) > limit and self.config.beyond == "error":
                raise ValueError(
                    f"scene {number} of {len(scenes)} has {len(scene)} points, more than the limit of {limit}: lift it "
                    "with larger voxels, raise `limit`, or set `beyond: thin`"
                )
            if scene.features.shape[-1] != self.in_width:
                raise ValueError(
                    f"scene {number} of {len(scenes)} has features of width {scene.features.shape[-1]}, but the "
                    f"connector takes {self.in_width}: lift it with the encoder that it was trained with"
                )
        return PointBatch.stack([thin(scene, limit) for scene in scenes])

    def forward(self, batch: PointBatch) -> SceneTokens:
        """Tokens of each scene; as many real ones as `num_tokens` says."""
        return self.finish(self.settle(batch))

    @property
    def settling(self) -> nn.ModuleList:
        """The parts of `settle`."""
        return self.parts[: self._settled]

    def settle(self, batch: PointBatch) -> SceneTokens:
        """Which tokens there are: what all parts make that need the points, and those before them."""
        tokens = SceneTokens(batch.features, batch.keep)
        for part in self.settling:
            tokens = part(tokens, batch)
        return tokens

    def finish(self, tokens: SceneTokens) -> SceneTokens:
        """What the other parts make of settled tokens, without the points."""
        for part in self.parts[self._settled :]:
            tokens = part(tokens, None)
        return tokens

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of another connector, such as that of the first stage, strictly.

        Raises:
            ValueError: they do not fit; says what widths were expected and what came. Nothing is loaded then.
        """
        wanted = self.state_dict()
        problems = [f"missing {key}" for key in wanted.keys() - state.keys()]
        problems += [f"unexpected {key}" for key in state.keys() - wanted.keys()]
        problems += [
            f"{key} has shape {tuple(state[key].shape)}, expected {tuple(wanted[key].shape)}"
            for key in wanted.keys() & state.keys()
            if wanted[key].shape != state[key].shape
        ]
        if problems:
            kinds = ", ".join(part.kind for part in self.config.parts)
            raise ValueError(
                f"the weights do not fit this connector ({kinds}), which takes features of width {self.in_width} and "
                f"gives tokens of width {self.out_width}; nothing was loaded: {'; '.join(sorted(problems))}"
            )
        self.load_state_dict(dict(state))

    def __call__(self, *args: Any, **kwargs: Any) -> SceneTokens:
        """See `forward`."""
        return super().__call__(*args, **kwargs)
