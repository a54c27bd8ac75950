"""Scenes and words in, words out: a connector and a language model, joined where the prompt has its scene."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from genworld.models.connector_parts import ObjectSteps
from genworld.models.connectors import Connector, ConnectorConfig, SceneTokens
from genworld.models.llm import GenerationConfig, LLMConfig, OwnLLMConfig, build_llm
from genworld.models.llm_anchors import Lying
from genworld.models.llm_base import SCENE_MARK, LanguageInputs, SharedStart
from genworld.models.llm_corners import CORNERS
from genworld.models.object_losses import KnownObjects, ObjectLosses, match_objects, object_losses
from genworld.models.object_places import view_from
from genworld.models.object_relations import relations_of
from genworld.models.point_batch import PointBatch
from genworld.models.scene_evidence import Evidence, EvidenceLosses, Spoken
from genworld.models.scene_memory import SceneMemory
from genworld.models.scene_pointing import boxes_told, pointed_at, with_objects
from genworld.ops.precision import without_autocast
from genworld.ops.ragged import padded
from genworld.types import PointSet, Turn

PLACEHOLDER = -1
"""Stands in a prompt for a token of the scene. No tokenizer gives this number, so no text can be mistaken for one."""

TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class SceneLLMConfig:
    """A connector and the language model that listens to it."""

    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    llm: LLMConfig = field(default_factory=OwnLLMConfig)


@dataclass(frozen=True)
class SeenScenes:
    """The scenes that turns are about, each once.

    Attributes:
        turns: for each scene, one that is about it.
        batch: their points; None where they were remembered.
        settled: their tokens as they are wherever one stands (see `Connector.settle`).
        rows: the scene of each turn.
        tokens: what the connector made of each scene for each place from which it is asked about.
        views: which of these is that of each turn.
    """

    turns: tuple[Turn, ...]
    batch: PointBatch | None
    settled: SceneTokens
    rows: Int[Tensor, " B"]
    tokens: SceneTokens
    views: Int[Tensor, " B"]


@dataclass(frozen=True, kw_only=True)
class SceneInputs(LanguageInputs):
    """What the language model is given: for losses, for generation and for evaluation alike.

    Attributes:
        scenes: those that are in their places in the prompts.
    """

    scenes: SeenScenes


@dataclass(frozen=True)
class TurnLosses:
    """Of every turn, over the tokens of its answer, the end included.

    Attributes:
        sums: of cross-entropies, float32.
        counts: of tokens.
        right: of tokens that were the likeliest.
    """

    sums: Float[Tensor, " B"]
    counts: Int[Tensor, " B"]
    right: Int[Tensor, " B"]


class SceneLLM(nn.Module):
    """See `SceneLLMConfig`.

    Args:
        config: of both.
        features: width of the points' features.
    """

    def __init__(self, config: SceneLLMConfig, features: int) -> None:
        super().__init__()
        self.config = config
        self.llm = build_llm(config.llm)
        self.connector = Connector(config.connector, features, self.llm.width)
        self._memory: SceneMemory | None = None

    # From turns to numbers

    def inputs(self, turns: Sequence[Turn], with_answers: bool) -> SceneInputs:
        """The one way from turns to what the language model is given.

        Raises:
            ValueError: a turn has no prompt, no answer where one is wanted, more tokens than the model takes, or its
                scene cannot be used.
        """
        prompts = [self._prompt_ids(turn) for turn in turns]
        answers = [self._answer_ids(turn) if with_answers else [] for turn in turns]
        for turn, prompt, answer in zip(turns, prompts, answers, strict=True):
            if len(prompt) + len(answer) > self.llm.max_tokens:
                raise ValueError(
                    f"turn {turn.id} about scene {turn.scene} has {len(prompt) + len(answer)} tokens, more than the "
                    f"{self.llm.max_tokens} that the language model takes: shorten it, or raise `max_tokens`"
                )
        ids, keep = padded(prompts, self._device, left=not self.llm.has_encoder)
        answer_ids, answers_keep = padded(answers, self._device, left=False, filling=self.llm.end)
        scenes = self.see(turns)
        own = SceneTokens(scenes.tokens.x[scenes.views], scenes.tokens.keep[scenes.views])
        words = with_objects(self.llm.embed(ids.clamp(min=0)), own.x, self._pointed(turns, ids, scenes))
        return SceneInputs(
            prompt=splice(words, ids, own),
            keep=keep,
            answers=answer_ids,
            answers_keep=answers_keep,
            start=self._start(ids, scenes),
            lying=self._lying(ids, scenes),
            scenes=scenes,
        )

    def _start(self, ids: Int[Tensor, "B L"], scenes: SeenScenes) -> SharedStart | None:
        """Up to the end of their scene, prompts about the same scene are alike; None where scenes differ in length."""
        tokens = scenes.tokens.keep.sum(dim=1)
        if self.llm.has_encoder or tokens.min() != tokens.max():
            return None
        before = len(self.llm.encode(self.llm.layout.opening.split(SCENE_MARK)[0], marks=True)) + len(self.llm.start)
        numbers = scenes.views.tolist()
        first = torch.tensor([numbers.index(scene) for scene in range(len(tokens))], device=ids.device)
        return SharedStart(before + int(tokens[0]), first, scenes.views)

    def _pointed(
        self, turns: Sequence[Turn], ids: Int[Tensor, "B L"], scenes: SeenScenes
    ) -> list[tuple[int, int, int]]:
        """The objects that prompts tell boxes of, where the connector finds objects (see `pointed_at`)."""
        objects = scenes.settled.objects
        if objects is None or self.llm.locations not in ("axis", "corner"):
            return []
        # Six tokens are a box, or where somebody stands and one metre ahead of them.
        rows = (row for row, turn in enumerate(turns) if turn.standing is None)
        boxes = [(row, *box) for row in rows for box in boxes_told(self.llm, ids[row].tolist())]
        return pointed_at(boxes, objects, scenes.rows.tolist())

    def _lying(self, ids: Int[Tensor, "B L"], scenes: SeenScenes) -> Lying | None:
        """How objects lie, where the connector finds them."""
        objects = scenes.settled.objects  # how they lie does not depend on who asks
        if objects is None:
            return None
        real = objects.keep
        pairs = relations_of(objects) * (real[:, :, None] & real[:, None])[..., None]
        first, corners = (ids == PLACEHOLDER).int().argmax(dim=1), None
        if self.llm.copies:
            each = self.llm.cells * torch.arange(CORNERS, device=ids.device)  # tokens that stand first, second, ...
            tokens = self.llm.first_location + each + objects.corners.clamp(max=self.llm.cells - 1)
            corners = self.llm.embed(tokens)
        return Lying(pairs, scenes.rows, first, real.sum(dim=1), scenes.settled.x, corners)

    def see(self, turns: Sequence[Turn]) -> SeenScenes:
        """The scenes of turns; those that share the tensors of a scene, and the place they ask from, share the work."""
        distinct = {id(turn.points.points): turn for turn in turns}
        scenes, batch = [turn.points for turn in distinct.values()], None
        if self._memory is None:
            batch = self.connector.stack(scenes)
            settled = self.connector.settle(batch)
        else:
            settled = self._memory.tokens(scenes)
        numbers = {key: number for number, key in enumerate(distinct)}
        rows = [numbers[id(turn.points.points)] for turn in turns]
        tells = settled.objects is not None  # only tokens of objects say where they are
        asked = [(row, turn.standing if tells else None) for row, turn in zip(rows, turns, strict=True)]
        views = {view: number for number, view in enumerate(dict.fromkeys(asked))}
        tokens = self.connector.finish(view_from(settled, list(views)))
        device = tokens.x.device
        return SeenScenes(
            tuple(distinct.values()),
            batch,
            settled,
            torch.tensor(rows, device=device),
            tokens,
            torch.tensor([views[view] for view in asked], device=device),
        )

    def keep_connector(self) -> None:
        """Leave what settles the connector's tokens as it is: each scene goes through it once and is remembered.

        The language model's embeddings stay too: tokens of objects are sums of them, and would no longer be.
        """
        self.connector.settling.requires_grad_(requires_grad=False)
        self.llm.table.requires_grad_(False)
        self._memory = SceneMemory(self.connector)

    def remember_in(self, folder: Path) -> None:
        """Keep in this folder what scenes become, for other processes and later runs, if the connector is kept."""
        if self._memory is not None:
            self._memory.folder = folder

    def _prompt_ids(self, turn: Turn) -> list[int]:
        if not turn.prompt.strip():
            raise ValueError(f"turn {turn.id} about scene {turn.scene} has no text: ask something")
        llm, layout = self.llm, self.llm.layout
        before, after = (llm.encode(text, marks=True) for text in layout.opening.split(SCENE_MARK))
        user, assistant = (llm.encode(text, marks=True) for text in (layout.user, layout.assistant))
        ids = [*llm.start, *before, *[PLACEHOLDER] * self.connector.num_tokens(len(turn.points)), *after]
        closing = [] if llm.has_encoder else [llm.end]
        for number, text in enumerate(turn.history):
            ids += [*assistant, *llm.encode(text), *closing] if number % 2 else [*user, *llm.encode(text)]
        ids += [*user, *llm.encode(turn.prompt), *assistant]
        return [*ids, llm.end] if llm.has_encoder else ids

    def _answer_ids(self, turn: Turn) -> list[int]:
        if not turn.answer.strip():
            raise ValueError(f"turn {turn.id} about scene {turn.scene} has no answer to learn from: leave it out")
        return [*self.llm.encode(turn.answer), self.llm.end]

    @property
    def _device(self) -> torch.device:
        return next(self.connector.parameters()).device

    # What is asked of it

    def logits(self, inputs: SceneInputs) -> Float[Tensor, "B A V"]:
        """Logits of every token of the answers."""
        return self.llm.answer_logits(inputs)

    def loss(self, turns: Sequence[Turn]) -> TurnLosses:
        """Losses of the answers alone, in float32 under autocast too."""
        return self.answer_losses(self.inputs(turns, with_answers=True))

    def answer_losses(self, inputs: SceneInputs) -> TurnLosses:
        """The same of inputs with answers."""
        return self._losses(self.logits(inputs), inputs)

    def evidence_losses(self, inputs: SceneInputs, turns: Sequence[Turn]) -> tuple[TurnLosses, EvidenceLosses]:
        """Losses of answers, and how little words found, counted and copied of what turns are about.

        `looks` is, for every thing that a turn is about, minus the logarithm of the attention that the word of the
        prompt by which it is known ("chair" of "what colour is the small chair?") pays to its token; and where the
        answer is a box, also each word from which one of its tokens follows. Things that are known together should
        each get their share (`About.share`), which the cross-entropy with these shares tells. It is that of the block
        in which it is least. Supervised attention (Liu et al. 2016, "Neural machine translation with supervised
        attention") for questions with known evidence; without it, a small language model takes many times as long until
        it looks anything up. (It has to be told which word looks: asked that any look, words and heads share the things
        out among them, without reading the question.)

        `counts` is, for every word whose things are counted, how unlikely its `CountHead` holds it that it means
        just these; `corners`, for every word from which a token of an answer follows, how unlikely its `CornerHead`
        holds it that this is that corner of a box, or none. They are empty where the language model has none.

        Args:
            inputs: of the turns.
            turns: with what they are about; those of which it is not known, or that are about more than six things,
                have no part in `looks`.

        Raises:
            ValueError: the scenes have different numbers of tokens, the language model does not tell, or see
                `object_losses`.
        """
        start = inputs.start
        if start is None:
            raise ValueError(
                "the loss of evidence needs scenes of the same number of tokens and a decoder: give the connector more "
                "points than it has queries, or set the weight of evidence to 0"
            )
        known, objects = self._objects(inputs.scenes)
        queries = match_objects(objects, known, self.llm.table)
        lengths, scenes = (inputs.keep.sum(dim=1) - start.length).tolist(), inputs.scenes.rows.tolist()
        answers = [ids[keep].tolist() for ids, keep in zip(inputs.answers, inputs.answers_keep, strict=True)]
        spoken = [Spoken(*each) for each in zip(turns, scenes, lengths, answers, strict=True)]
        num = inputs.scenes.tokens.x.shape[1]
        evidence = Evidence.of(self.llm, spoken, queries, start.length - num, num)
        answered = self.llm.answer_looking(inputs, evidence.asked(inputs.prompt.device))
        return self._losses(answered.logits, inputs), evidence.lost(answered)

    def _losses(self, logits: Float[Tensor, "B A V"], inputs: SceneInputs) -> TurnLosses:
        keep = inputs.answers_keep
        with without_autocast(logits):
            each = F.cross_entropy(logits[keep].float(), inputs.answers[keep], reduction="none")
        rows = keep.nonzero()[:, 0]
        right = (logits.detach().argmax(dim=-1) == inputs.answers) & keep
        sums = each.new_zeros(len(keep)).index_add(0, rows, each)
        return TurnLosses(sums, keep.sum(dim=1), right.sum(dim=1))

    def object_losses(self, scenes: SeenScenes) -> ObjectLosses:
        """What the connector's queries lack of the objects of scenes (see `models.object_losses`).

        Raises:
            ValueError: the connector has no queries that become objects, or the objects of a scene are not known.
        """
        known, objects = self._objects(scenes)
        if scenes.batch is None:
            raise ValueError("the connector stays as it is, so there is nothing that the loss of objects could teach")
        return object_losses(objects, scenes.batch, known, self.llm.table)

    def _objects(self, scenes: SeenScenes) -> tuple[list[KnownObjects], ObjectSteps]:
        """The objects of scenes, and what the connector says of them."""
        objects = scenes.settled.objects
        if objects is None:
            raise ValueError(
                "losses of objects and of evidence need a connector with a part of kind objects: give it one, or set "
                "the weights of both to 0"
            )
        return [self._known(turn) for turn in scenes.turns], objects

    def _known(self, turn: Turn) -> KnownObjects:
        if not turn.things:
            raise ValueError(
                f"scene {turn.scene} has no known objects, which the losses of objects and of evidence need: take data "
                "with boxes and labels, or set the weights of both to 0"
            )
        lower, upper = (
            torch.stack([getattr(thing, name) for thing in turn.things]).float().to(self._device)
            for name in ("lower", "upper")
        )
        return KnownObjects(lower, upper, tuple(tuple(self.llm.encode(thing.label)) for thing in turn.things))

    @torch.no_grad()
    def generate(self, turns: Sequence[Turn], config: GenerationConfig | None = None) -> list[str]:
        """Answers to turns; their own answers are not looked at. Who shares a batch makes no difference.

        Raises:
            ValueError: see `inputs`.
        """
        if not turns:
            return []
        inputs = self.inputs(turns, with_answers=False)
        ids = self.llm.generate(inputs, config or GenerationConfig())
        return [self.llm.decode(row) for row in ids]

    @torch.no_grad()
    def objects_in(self, points: PointSet) -> list[Float[Tensor, "2 3"]]:
        """Corners of the boxes that the connector is sure of, metres; none where it does not look for objects."""
        settled = self.connector.settle(self.connector.stack([points]))
        if settled.objects is None:
            return []
        last = settled.objects.last
        sure = settled.objects.keep[0] & (last.sure[0] > 0)
        return list(torch.stack([last.lower[0, sure], last.upper[0, sure]], dim=1).cpu())

    # What is kept of it

    def networks(self) -> dict[str, nn.Module]:
        """What a checkpoint holds: the connector, and of the language model what is trained."""
        trained = self.llm.trained()
        return {"connector": self.connector} | ({} if trained is None else {"llm": trained})

    def fit_tokenizer(self, corpus: Iterable[str]) -> None:
        """Learn the words from prompts and answers, where the language model has words to learn."""
        self.llm.fit(corpus)

    def assets(self) -> dict[str, str]:
        """What was learned of words, as text files by name."""
        asset = self.llm.asset()
        return {} if asset is None else {TOKENIZER_FILE: asset}

    def load_assets(self, assets: Mapping[str, str]) -> None:
        """Take back what `assets` gave."""
        if TOKENIZER_FILE in assets:
            self.llm.load_asset(assets[TOKENIZER_FILE])


def splice(words: Float[Tensor, "B L D"], ids: Int[Tensor, "B L"], scenes: SceneTokens) -> Float[Tensor, "B L D"]:
    """Put the tokens of each scene where its row has placeholders.

    Raises:
        ValueError: a row has more or fewer placeholders than its scene has tokens.
    """
    places = ids == PLACEHOLDER
    wanted, found = places.sum(dim=1).tolist(), scenes.keep.sum(dim=1).tolist()
    for row, (places_count, count) in enumerate(zip(wanted, found, strict=True)):
        if places_count != count:
            raise ValueError(
                f"prompt {row} of {len(ids)} has {places_count} placeholders, but its scene has {count} tokens: put in "
                "exactly as many as the connector's num_tokens says"
            )
    return words.masked_scatter(places[..., None], scenes.x[scenes.keep].to(words))
