"""Conversation about scenes: a language model that sees points learns to answer, describe, plan and point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genworld.data.examples import ExampleSource
from genworld.data.scene_anew import seen_anew
from genworld.models.llm import GenerationConfig
from genworld.models.object_losses import ObjectLosses
from genworld.models.scene_llm import SceneLLM, SceneLLMConfig
from genworld.models.scene_points import ScenePointsConfig
from genworld.ops.boxes import nearest_box
from genworld.ops.lifted import LiftedScene, seen_from_above
from genworld.ops.pictures import write_sheet
from genworld.ops.random import generator
from genworld.tasks.base import ExampleTask, TaskOutput
from genworld.types import Pack, Turn

_SHOWN, _COLUMNS, _SIDE = 16, 4, 128
_SAME = 0.5
"""Metres, the mean over corners and axes, up to which a box that was told and one that was found are the same."""


@dataclass(frozen=True, kw_only=True)
class ConverseConfig:
    """What is trained, and on which view of scenes.

    Attributes:
        points: how scenes become points.
        model: connector and language model.
        stage: "align" trains the connector and leaves the language model as it is (the first stage of 3D-LLM and of
            BLIP-2); "speak" trains the language model, and of the connector what follows once its tokens are settled
            (see `Connector.settle`): a scene is seen once, which makes it many times as fast; "instruct" trains all
            that the model's config says.
        corpus: turns that the tokenizer is fitted to, where the language model has one of its own.
        max_tokens: longest answer, in tokens.
        answers: weight of the loss of answers; 0 leaves the language model out of training steps.
        objects: weight of the loss of objects (see `models.object_losses`), beside 1 of an answer; needs a connector
            with a part of kind `objects`, and data with boxes.
        evidence: weight of the loss of looking at what is asked about (see `SceneLLM.evidence_losses`), beside 1 of an
            answer; needs such a connector and data too, and that says what questions are about.
        anew: whether each visit shows a scene turned, mirrored and with fewer points (see `data.scene_anew`); only
            where answers weigh 0, as they may depend on how a scene lies.
    """

    kind: Literal["converse"] = "converse"
    points: ScenePointsConfig = field(default_factory=ScenePointsConfig)
    model: SceneLLMConfig = field(default_factory=SceneLLMConfig)
    stage: Literal["align", "speak", "instruct"] = "instruct"
    corpus: int = 4096
    max_tokens: int = 128
    answers: float = 1.0
    objects: float = 0.0
    evidence: float = 0.0
    anew: bool = False

    def __post_init__(self) -> None:
        if min(self.answers, self.objects) < 0 or not self.answers + self.objects > 0:
            raise ValueError(
                f"answers and objects must be at least 0, and one of them positive, got {self.answers} and "
                f"{self.objects}"
            )
        if self.evidence < 0 or (self.evidence and not self.answers):
            raise ValueError(
                f"evidence must be at least 0, and needs answers to be positive, got {self.evidence} and {self.answers}"
            )
        if self.stage == "speak" and (self.objects or not self.answers):
            raise ValueError(
                "stage speak leaves what finds objects as it is, so objects must be 0 and answers positive; got "
                f"{self.objects} and {self.answers}"
            )
        if self.anew and self.answers:
            raise ValueError(
                f"anew turns scenes, but not what is said about them: set answers to 0, not {self.answers}"
            )
        if self.model.llm.locations == "flat32":
            raise ValueError(
                "model.llm.locations is flat32, one token for a place, but the places of prompts and answers are "
                "written with a token per axis here: set it to axis. (flat32 is for 3D-LLM's released weights, in a "
                "SceneLLM of its own: see docs/scenes.md)"
            )
        if self.corpus < 1 or self.max_tokens < 1:
            raise ValueError(f"corpus and max_tokens must be at least 1, got {self.corpus} and {self.max_tokens}")


class TurnSource(ExampleSource[Turn], Protocol):
    """Turns, and what is said in some of them."""

    def texts(self, num: int) -> list[str]:
        """What is said in `num` turns."""
        ...


class Converse(ExampleTask[Turn]):
    """Trains a `SceneLLM` on turns. Every answer counts the same, long or short: a caption does not outweigh a word.

    Args:
        config: says what is trained.
        model: what is.
    """

    def __init__(self, config: ConverseConfig, model: SceneLLM) -> None:
        super().__init__()
        self.config, self.model = config, model
        self.leaves_out_parameters = not config.answers  # such as those that only a token for answers needs
        if config.stage == "align":
            model.llm.requires_grad_(requires_grad=False)
        if config.stage == "speak":
            model.keep_connector()

    def units(self, pack: Pack[Turn]) -> int:
        """Answers."""
        return len(pack)

    def networks(self) -> dict[str, nn.Module]:
        """Connector and language model."""
        return self.model.networks()

    def forward(self, pack: Pack[Turn], seed: int, step: int) -> TaskOutput:
        """The sum over answers of the mean loss of their tokens.

        By kind, `loss/KIND` is the mean over tokens, and `whole/KIND` the part of answers whose every token was the
        likeliest after the right ones before it. Of objects, `found` is the part of them that some query is sure of
        (IoU of boxes at least 0.25), `named` the part of those with the right words, and `meant` the part of what
        queries are sure of that is found.
        """
        config, logs, units = self.config, dict[str, Tensor](), dict[str, int]()
        if not config.answers:
            turns = pack.samples
            if config.anew and self.training:
                turns = tuple(seen_anew(turn, generator(seed, "anew", turn.position)) for turn in turns)
            seen = self.model.see(turns)
            objects = self._objects(self.model.object_losses(seen), logs, units)
            return TaskOutput(config.objects * objects[seen.rows].sum(), logs, units)
        inputs = self.model.inputs(pack.samples, with_answers=True)
        loss = inputs.prompt.new_zeros(())
        if config.objects:
            objects = self._objects(self.model.object_losses(inputs.scenes), logs, units)
            loss = loss + config.objects * objects[inputs.scenes.rows].sum()
        if config.evidence:
            found, evidence = self.model.evidence_losses(inputs, pack.samples)
            for name, lost in evidence._asdict().items():
                loss = loss + config.evidence * lost.sum()
                logs[f"loss/{name}"], units[f"loss/{name}"] = lost.detach().sum(), len(lost)
        else:
            found = self.model.answer_losses(inputs)
        for kind in sorted({turn.kind for turn in pack}):
            of_it = torch.tensor([turn.kind == kind for turn in pack], device=found.sums.device)
            logs[f"loss/{kind}"] = found.sums.detach()[of_it].sum()
            units[f"loss/{kind}"] = int(found.counts[of_it].sum())
            logs[f"whole/{kind}"] = (found.right == found.counts)[of_it].sum().float()
            units[f"whole/{kind}"] = int(of_it.sum())
        return TaskOutput(loss + config.answers * (found.sums / found.counts).sum(), logs, units)

    def _objects(self, found: ObjectLosses, logs: dict[str, Tensor], units: dict[str, int]) -> Float[Tensor, " S"]:
        """The losses of objects, which count for each answer about their scene."""
        for name, part, whole in (
            ("found", found.found, found.known),
            ("named", found.named, found.found),
            ("meant", found.found, found.said),
        ):
            logs[f"objects/{name}"], units[f"objects/{name}"] = part.sum().float(), int(whole.sum())
        logs["loss/objects"], units["loss/objects"] = found.sums.detach().sum(), len(found.sums)
        return found.sums

    def answer(self, turns: Sequence[Turn], batch: int = 16) -> list[str]:
        """Answers to turns, greedily; how many go through the model at once changes nothing."""
        how = GenerationConfig(max_tokens=self.config.max_tokens)
        parts = (turns[start : start + batch] for start in range(0, len(turns), batch))
        return [text for part in parts for text in self.model.generate(part, how)]

    def at_objects(self, scene: LiftedScene, boxes: Sequence[Float[Tensor, "2 3"]]) -> list[Float[Tensor, "2 3"]]:
        """Boxes that were told in location tokens, each as the object that the connector found there, if it did.

        A location token says no more than which cell (at 64 cells, 20 cm of a floor of 13 m); the connector has seen
        the object itself.
        """
        found = self.model.objects_in(scene.points.map(lambda x: x.to(next(self.parameters()).device))) if boxes else []
        corners = torch.stack(found) if found else torch.zeros(0, 2, 3)
        near = [nearest_box(*box, *corners.unbind(dim=1)) for box in boxes]
        return [
            box if best is None or best[1] > _SAME else found[best[0]] for box, best in zip(boxes, near, strict=True)
        ]

    def prepare(self, source: ExampleSource[Turn]) -> None:
        """Fit the tokenizer of a language model that has its own."""
        assert hasattr(source, "texts"), "turns come from a TurnSource"
        self.model.fit_tokenizer(source.texts(self.config.corpus))

    def assets(self) -> dict[str, str]:
        """The tokenizer."""
        return self.model.assets()

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take it back."""
        self.model.load_assets(assets)

    def preview(self, packs: Sequence[Pack[Turn]], folder: Path, seed: int) -> list[Path]:
        """Some held-out turns beside their scenes from above: what was asked, what was said, and what is true."""
        turns = [turn for pack in packs for turn in pack][:_SHOWN]
        answers = self.answer(turns)
        views = [seen_from_above(t.points.points.cpu(), t.points.colours.cpu(), _SIDE)[:, None] for t in turns]
        lines = [f"{t.prompt} | said: {said} | true: {t.answer}" for t, said in zip(turns, answers, strict=True)]
        page = folder / "answers.md"
        page.write_text("".join(f"- {turn.kind}: {line}\n" for turn, line in zip(turns, lines, strict=True)))
        return [write_sheet(folder / "answers.png", views, lines, columns=_COLUMNS), page]
