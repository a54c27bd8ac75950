"""Scenes for people: ask about one, have it described, plan in it, and find things in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from genworld.data.scene_prompts import (
    CAPTION_PROMPTS,
    Standing,
    describe_prompt,
    ground_prompt,
    plan_prompt,
    seen_from,
    situated_prompt,
)
from genworld.data.scene_turns import RoomsData
from genworld.data.scene_turns_annotated import AnnotatedData
from genworld.models.scene_points import ScenePoints
from genworld.ops.lifted import LiftedScene
from genworld.pipelines.runs import open_run, otherwise
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.types import Scene, SceneBox, Turn
from genworld.world.rooms.language.mentions import mentions

SceneLike = Scene | LiftedScene
"""A scene, or what `SceneAssistant.lift` made of it, which spares lifting it again."""


class SceneAssistant:
    """Answers about scenes.

    Examples:
        >>> assistant = SceneAssistant.from_pretrained("runs/scene_world")  # doctest: +SKIP
        >>> room = assistant.lift(open_scenes("rooms").read("kitchen"))  # doctest: +SKIP
        >>> assistant.ask(room, "How many chairs are there?")  # doctest: +SKIP
        >>> assistant.ground(room, "the red chair")[0].centre  # doctest: +SKIP
    """

    def __init__(self, task: Converse, points: ScenePoints | None = None, can_ground: bool = True) -> None:
        """Take a model.

        Args:
            task: with its weights.
            points: makes points of scenes; by default as the task's config says, with its cache.
            can_ground: whether the model was trained to find things.
        """
        self.task = task.eval()
        self.points = points or ScenePoints(task.config.points)
        self.can_ground = can_ground

    @classmethod
    def from_pretrained(
        cls, run: str | Path, device: str | torch.device | None = None, overrides: Sequence[str] = ()
    ) -> SceneAssistant:
        """Load the newest checkpoint of a run, with averaged (EMA) weights.

        Args:
            run: the folder that `train.py` wrote.
            device: CUDA where there is one, by default.
            overrides: how scenes become points, where not as in training: `task.points.lifter={kind: fusion}`.

        Raises:
            ValueError: the folder holds no finished checkpoint, its task is another, or an override is of something
                that was learned or is not used here.
        """
        experiment, task = open_run(run, Converse, "answers need 'converse'", device)
        for override in overrides:
            key = override.partition("=")[0]
            if f"{key}.".startswith("task.points.cache.") or not f"{key}.".startswith("task.points."):
                raise ValueError(
                    f"override {override!r}: a run that is asked can be otherwise only in how scenes become points "
                    "(task.points), and none are kept (its cache): expected such as task.points.lifter={kind: fusion}"
                )
        config = otherwise(experiment, run, overrides).task
        assert isinstance(config, ConverseConfig)
        # Folders of the training's machine are nobody's business elsewhere: scenes are lifted, and not kept.
        points = ScenePoints(replace(config.points, cache=None))
        return cls(task, points, _teaches_to_ground(experiment.data))

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.task.parameters()).device

    def lift(self, scene: SceneLike) -> LiftedScene:
        """A scene as the model sees it; for many questions about one scene.

        Views that cannot be read, or show nothing, are left out with a warning.

        Raises:
            ValueError: the scene has no view that shows anything, or more voxels than the lifter's limit.
        """
        return scene if isinstance(scene, LiftedScene) else self.points(scene)

    def caption(self, scene: SceneLike, style: str = "overview") -> str:
        """What is there.

        Args:
            scene: to be described.
            style: "terse", "overview" or "detailed".

        Raises:
            ValueError: there is no such style.
        """
        if style not in CAPTION_PROMPTS:
            raise ValueError(f"there is no style {style!r} of captions: there are {', '.join(CAPTION_PROMPTS)}")
        return self._say(self.lift(scene), CAPTION_PROMPTS[style], "caption")

    def ask(self, scene: SceneLike, question: str, situation: str | Standing | None = None) -> str:
        """The answer to a question.

        Args:
            scene: what it is about.
            question: in words.
            situation: where the asker is: in words, or also as a place and heading in metres and radians.

        Raises:
            ValueError: the question has no text, or the place is none.
        """
        lifted = self.lift(scene)
        standing = Standing(situation) if isinstance(situation, str) else situation
        prompt = situated_prompt(lifted, question, standing)
        return self._say_all(lifted, [prompt], "question", standing=seen_from(standing))[0]

    def chat(self, scene: SceneLike, history: Sequence[str]) -> str:
        """The next thing the assistant says.

        Args:
            scene: what is talked about.
            history: what was said, the user first, in turn; the last is the user's.

        Raises:
            ValueError: the last turn is not the user's, or a turn has no text.
        """
        if len(history) % 2 == 0:
            raise ValueError(f"a dialogue begins and ends with the user, in turn; got {len(history)} turns")
        if not all(text.strip() for text in history):
            raise ValueError("a turn of the dialogue has no text")
        return self._say(self.lift(scene), history[-1].strip(), "dialogue", tuple(history[:-1]))

    def plan(self, scene: SceneLike, goal: str, situation: str = "") -> list[str]:
        """The steps to a goal, without their numbers.

        Raises:
            ValueError: the goal has no text.
        """
        if not goal.strip():
            raise ValueError("the goal has no text: say what is to be done")
        text = self._say(self.lift(scene), plan_prompt(goal, situation), "plan")
        return [line.partition(". ")[2] or line for line in text.splitlines() if line.strip()]

    def ground(self, scene: SceneLike, phrase: str) -> list[SceneBox]:
        """The boxes of what a phrase names, metres, scene axes; none where the model names none.

        Of a model that finds objects, they are those of the objects that it names (see `Converse.at_objects`).

        Raises:
            ValueError: the phrase has no text.
        """
        if not phrase.strip():
            raise ValueError("the phrase has no text: name what is to be found")
        lifted = self.lift(scene)
        return self.boxes(lifted, self._say(lifted, ground_prompt(phrase), "ground"), phrase)

    def ground_mentions(self, scene: SceneLike, answer: str) -> list[SceneBox]:
        """Boxes of the things that an answer names in words, as the model finds them; labelled by these words.

        Words are those of the world's language (`mentions`). Of several things ("two chairs") the model is asked for
        one. What it has no box for is left out, and of a model that never learned to find things nothing is asked.
        """
        named = mentions(answer) if self.can_ground else []
        lifted = self.lift(scene)
        said = self._say_all(lifted, [ground_prompt(mention.phrase) for mention in named], "ground")
        boxes: list[SceneBox] = []
        for mention, text in zip(named, said, strict=True):
            label = f"one of: {mention.text}" if mention.many else mention.text
            boxes += (replace(box, id=len(boxes)) for box in self.boxes(lifted, text, label)[:1])
        return boxes

    def describe(self, scene: SceneLike, box: SceneBox | Float[Tensor, "2 3"]) -> str:
        """What is in a box.

        Args:
            scene: where it is.
            box: or its lower and upper corner, metres, scene axes.

        Raises:
            ValueError: the box is not finite, inside out, or outside the scene.
        """
        lower, upper = (box.lower, box.upper) if isinstance(box, SceneBox) else box
        lifted = self.lift(scene)
        if not bool(torch.isfinite(torch.stack([lower, upper])).all()) or bool((upper < lower).any()):
            raise ValueError(f"a box is a lower and an upper corner in metres, got {lower.tolist()}, {upper.tolist()}")
        if not bool(lifted.codec.inside((lower + upper).double() / 2)):
            raise ValueError(
                f"the box around {((lower + upper) / 2).tolist()} lies outside the scene, which reaches from "
                f"{lifted.codec.lower} to {lifted.codec.upper} m: are these its axes and unit?"
            )
        return self._say(lifted, describe_prompt(lifted.box_text(lower, upper)), "describe")

    def boxes(self, scene: LiftedScene, answer: str, label: str = "") -> list[SceneBox]:
        """The boxes that an answer names by location tokens, metres; those of objects where it means these."""
        found = self.task.at_objects(scene, scene.boxes_in(answer))
        return [SceneBox(label, number, *box) for number, box in enumerate(found)]

    def _say(self, scene: LiftedScene, prompt: str, kind: str, history: tuple[str, ...] = ()) -> str:
        return self._say_all(scene, [prompt], kind, history)[0]

    def _say_all(
        self,
        scene: LiftedScene,
        prompts: Sequence[str],
        kind: str,
        history: tuple[str, ...] = (),
        standing: tuple[float, float, float] | None = None,
    ) -> list[str]:
        points = scene.points.map(lambda x: x.to(self.device))
        turns = (Turn(i, scene.name, points, history, prompt, "", kind, "asked") for i, prompt in enumerate(prompts))
        return self.task.answer([replace(turn, standing=standing) for turn in turns])


def _teaches_to_ground(data: object) -> bool:
    """Whether a model that was trained on this has seen things being found."""
    if isinstance(data, RoomsData):
        return data.weights.get("ground", 0.0) > 0
    return isinstance(data, AnnotatedData) and any(file.format == "scanrefer" for file in data.files)
