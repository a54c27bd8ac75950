"""The world benchmark: do generated videos obey their prompts and physics? In a world of known truth it computes.

Six abilities, each in [0, 1]. An ability has a few readable criteria, and a video's score on it is that of the weakest
one: a ball that keeps its colour, size and way and turns into a cube is not three quarters consistent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.eval.reconstruction import PerVideo
from genworld.eval.shape_recogniser import ShapeRecogniser
from genworld.eval.worldbench_cases import ABILITIES, ASKS, SHAPE, Ability, Case, Suite, cases, fingerprint
from genworld.eval.worldbench_physics import coherence_criteria, interaction_criteria, permanence_criteria
from genworld.eval.worldbench_reading import Reading, read_video, weakest
from genworld.eval.worldbench_reasoning import reasoning_criteria
from genworld.eval.worldbench_scores import Criteria, consistency_criteria, text_criteria
from genworld.ops.random import seed_of
from genworld.types import ClipShape

__all__ = ["ABILITIES", "Case", "Score", "WorldBench", "calibrate", "cases", "fingerprint", "score_video", "shuffled"]

CRITERIA: dict[Ability, tuple[str, ...]] = {
    "text": ("colours", "shapes", "count", "motions", "relations"),
    "coherence": ("rigid", "follows"),
    "consistency": ("stays", "one", "colour", "shape", "size", "path"),
    "permanence": ("returns", "shape", "place"),
    "interaction": ("gravity", "rebounds", "contact", "cause", "solid", "momentum"),
    "reasoning": ("still", "way", "end", "lands", "rebounds", "first", "comes_out"),
}
_MEASURES: dict[Ability, Callable[[Reading], Criteria]] = {
    "text": text_criteria,
    "coherence": coherence_criteria,
    "consistency": consistency_criteria,
    "permanence": permanence_criteria,
    "interaction": interaction_criteria,
    "reasoning": reasoning_criteria,
}


@dataclass(frozen=True)
class Score:
    """What one video reaches.

    Attributes:
        abilities: its score on each; None where it does not apply.
        criteria: what the scores come from; None where one does not apply.
    """

    abilities: Mapping[Ability, float | None]
    criteria: Mapping[Ability, Criteria]

    @property
    def named(self) -> dict[str, float]:
        """All there is, by the names of `WorldBench`."""
        values = {f"world/{name}": value for name, value in self.abilities.items()}
        for name, parts in self.criteria.items():
            values |= {f"world/{name}/{part}": value for part, value in parts.items()}
        return {name: value for name, value in values.items() if value is not None}


def score_video(pixels: Float[Tensor, "3 F H W"], case: Case, recogniser: ShapeRecogniser | None = None) -> Score:
    """Score one video on all abilities that its case is about.

    Args:
        pixels: in [-1, 1], of the case's shape; what is not finite is taken for grey.
        case: the question that it answers.
        recogniser: of shapes; the packaged one by default.

    Raises:
        ValueError: another shape than the case asks for.
    """
    reading = read_video(pixels, case, recogniser)
    criteria = {name: _MEASURES[name](reading) for name in case.abilities}
    abilities = {name: weakest(list(criteria[name].values())) if name in criteria else None for name in ABILITIES}
    return Score(abilities, criteria)


class WorldBench(PerVideo):
    """Scores of videos on the world benchmark: means over the videos that each ability applies to.

    - `world/ABILITY` for each of `ABILITIES`, and `world/mean` over those;
    - `world/ABILITY/CRITERION` for what they come from.

    Args:
        recogniser: of shapes; the packaged one by default.
    """

    def __init__(self, recogniser: ShapeRecogniser | None = None) -> None:
        super().__init__(
            [f"world/{name}" for name in ABILITIES]
            + [f"world/{name}/{part}" for name, parts in CRITERIA.items() for part in parts]
        )
        self.recogniser = recogniser

    def update(
        self,
        videos: Sequence[Float[Tensor, "3 F H W"]] | Float[Tensor, "B 3 F H W"],
        cases: Sequence[Case],
        positions: Sequence[int] | None = None,
    ) -> None:
        """Add videos and the questions that they answer.

        Args:
            videos: in [-1, 1].
            cases: one for each.
            positions: of the videos in the whole set, whatever process sees them.

        Raises:
            ValueError: another number of cases than videos, or a video of another shape than its case.
        """
        if len(videos) != len(cases) or (positions is not None and len(positions) != len(videos)):
            raise ValueError(
                f"expected a case and a position for each video, got {len(videos)} videos, {len(cases)} cases"
            )
        for index, (video, case) in enumerate(zip(videos, cases, strict=True)):
            score = score_video(video, case, self.recogniser)
            values = {name: torch.tensor([value]) for name, value in score.named.items()}
            self.keep(values, None if positions is None else [positions[index]])

    def compute(self) -> dict[str, Tensor]:
        """The mean of every score and criterion over the videos that have it, and `world/mean` over the abilities.

        Raises:
            ValueError: there are no videos, or two have the same position.
        """
        means = super().compute()
        reached = [means[f"world/{name}"] for name in ABILITIES if f"world/{name}" in means]
        return means | {"world/mean": torch.stack(reached).mean()}


def calibrate(suite: Suite, num: int, shape: ClipShape = SHAPE) -> dict[str, float]:
    """The ceiling: what the detectors and measures make of real renders of the first `num` cases."""
    return measure([(case.pixels, case) for case in cases(suite, num, shape)])


def measure(pairs: Sequence[tuple[Float[Tensor, "3 F H W"], Case]]) -> dict[str, float]:
    """`WorldBench` of videos and their cases, as numbers."""
    bench = WorldBench()
    for position, (video, case) in enumerate(pairs):
        bench.update([video], [case], [position])
    return {name: value.item() for name, value in bench.compute().items()}


def shuffled(cases: Sequence[Case]) -> list[int]:
    """For the floor: for each video, the case of another one, which it is to be scored by.

    Among the cases that give a model as much (a prompt, first frames, a camera path), everybody gets that of the next
    one in a random circle; only one that is alone keeps its own. Always the same.
    """
    order = list(range(len(cases)))
    for ask in ASKS:
        members = [i for i, case in enumerate(cases) if case.ask == ask]
        members.sort(key=lambda i: seed_of("shuffled prompts", cases[i].index))
        for place, member in enumerate(members):
            order[member] = members[(place + 1) % len(members)]
    return order
