"""How the parts of an experiment are wired together to train: what feeds the trainer, and from what it starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from genworld.config import encode, load_config, to_yaml
from genworld.data.examples import ExampleLoader
from genworld.data.examples import validation_packs as held_out_examples
from genworld.data.loader import DataConfig, Loader, ShardData, build_source, clip_infos, validation_packs
from genworld.data.packing import PackOrder
from genworld.data.room_views import RoomView, RoomViewsData
from genworld.data.scene_turns import RoomsData, RoomTurns, Split
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns
from genworld.data.shards import ShardSource
from genworld.data.walk_turns import WalksData, WalkTurns
from genworld.experiment.build import (
    CONFIG_FILE,
    VAE_FOLDER,
    AnyTask,
    Experiment,
    TaskConfig,
    TurnsData,
    build_task,
    clip_data,
    cost_ratio,
    describe_vae,
    fingerprint,
    frozen_vae,
    load_experiment,
    save_vae,
)
from genworld.models.scene_points import ScenePoints
from genworld.models.vae import (
    CausalVAEConfig,
    DiffusersVAE,
    VideoVAE,
)
from genworld.tasks.align_regions import AlignRegions
from genworld.tasks.base import ClipTask, Task
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.tasks.text_to_video import TextToVideo
from genworld.tasks.text_to_video_config import TextToVideoConfig
from genworld.train.checkpoint import (
    find_checkpoint,
    init_networks,
    read_assets,
)
from genworld.train.runtime import World, find_world
from genworld.train.state import Loader as TrainLoader
from genworld.train.state import TrainResult, changed_keys, check_run
from genworld.train.trainer import Trainer
from genworld.types import Pack, Turn

logger = logging.getLogger(__name__)


def train(experiment: Experiment, resume: bool = False) -> TrainResult:
    """Train an experiment to its end, or until a signal.

    Raises:
        ValueError: something in the experiment cannot be honoured; the message says what to change.
    """
    check_run(experiment.folder, resume)
    world = find_world(experiment.train.device)
    if resume and world.rank == 0:
        _log_changes(experiment)
    task = build_task(experiment, begun=resume)
    feed = _feed(experiment, task, world)
    text = to_yaml(experiment)
    trainer = Trainer(task, experiment.train, feed.loader, experiment.folder, experiment.seed, feed.held_out, text)
    if not resume:
        if experiment.init is not None:
            additions = _start_from(experiment.init, task, experiment.task)
            if world.rank == 0:
                logger.info("starting from %s; new: %s", experiment.init, ", ".join(additions) or "nothing")
        else:
            feed.prepare()
        if isinstance(task, TextToVideo) and world.rank == 0:
            _keep_vae(experiment, task)
    return trainer.fit(resume)


@dataclass(frozen=True)
class _Feed:
    """What a trainer is fed with.

    Attributes:
        loader: of packs.
        held_out: packs to validate on.
        prepare: lets the task measure what it must before the first step.
    """

    loader: TrainLoader
    held_out: Sequence[Pack[Any]]
    prepare: Callable[[], None]


def _feed(experiment: Experiment, task: AnyTask, world: World) -> _Feed:
    """Examples of the kind that the task takes."""
    data = experiment.data
    if isinstance(task, AlignRegions):
        if not isinstance(data, RoomViewsData):
            raise ValueError(
                f"task {experiment.task.kind!r} is trained on data of kind 'room_views', got {data.kind!r}"
            )
        return _feed_room_views(experiment, task, data, world)
    if isinstance(task, Converse):
        return _feed_turns(experiment, task, world)
    return _feed_clips(experiment, task, clip_data(experiment), world)


def _feed_turns(experiment: Experiment, task: Converse, world: World) -> _Feed:
    """Exchanges about scenes, which are lifted beforehand: each process its share."""
    source, data = _turns(experiment, "train"), experiment.data
    assert isinstance(data, TurnsData)
    source.prepare(world.rank, world.size)
    if task.config.points.cache is not None:
        task.model.remember_in(task.config.points.cache / "settled")
    loader = ExampleLoader.for_rank(source, data, experiment.seed, world.rank, world.size)
    held_out: list[Pack[Turn]] = []
    if data.validation and _looks_at_held_out(experiment):
        held_out = held_out_examples(_turns(experiment, "validation"), data, experiment.seed)
    return _Feed(loader, held_out, lambda: task.prepare(source))


def _turns(experiment: Experiment, split: Split) -> RoomTurns | AnnotatedTurns | WalkTurns:
    task, data = experiment.task, experiment.data
    if isinstance(task, ConverseConfig) and isinstance(data, WalksData):
        return WalkTurns(data, ScenePoints(task.points), split, experiment.seed)
    return open_turns(experiment, split)


def open_turns(experiment: Experiment, split: Split = "train") -> RoomTurns | AnnotatedTurns:
    """The exchanges about scenes of one split.

    Raises:
        ValueError: the experiment is not about them, or nothing is held out and that is asked for.
    """
    task, data = experiment.task, experiment.data
    if not isinstance(task, ConverseConfig) or not isinstance(data, RoomsData | AnnotatedData):
        raise ValueError(
            "exchanges about whole scenes are of task 'converse' and data of kind 'rooms' or 'annotated', got task "
            f"{task.kind!r} with data of kind {data.kind!r}"
        )
    points = ScenePoints(task.points)
    if isinstance(data, RoomsData):
        return RoomTurns(data, points, split, experiment.seed)
    return AnnotatedTurns(data, points, split, experiment.seed)


def _feed_room_views(experiment: Experiment, task: AlignRegions, data: RoomViewsData, world: World) -> _Feed:
    """Views, so many to a step."""
    if data.pack is not None:
        raise ValueError("data.pack: all views of a step are compared with one another: leave it out")
    seed, source = experiment.seed, data.source(seed=experiment.seed)
    loader = ExampleLoader.for_rank(source, data, seed, world.rank, world.size)
    held_out: list[Pack[RoomView]] = []
    if data.validation and _looks_at_held_out(experiment):
        held_out = held_out_examples(data.source(held_out=True, seed=seed), data, seed)
    return _Feed(loader, held_out, lambda: task.prepare(source))


def _feed_clips(experiment: Experiment, task: ClipTask, data: DataConfig, world: World) -> _Feed:
    """Clips, packed by their tokens."""
    source = build_source(data)
    if isinstance(task, TextToVideo) and isinstance(data, ShardData):
        _check_shards(data.path, task.vae)
    grid, packing = task.grid, data.packing
    if task.whole_steps and packing.packs_per_step != world.size:
        raise ValueError(
            f"data.packing.packs_per_step is {packing.packs_per_step}, but {experiment.task.kind!r} compares all clips "
            f"of a step with one another and cannot accumulate: with {world.size} process(es) it must be {world.size}; "
            "data.packing.tokens_per_pack says how many clips each takes"
        )
    order = PackOrder(clip_infos(source), grid, packing, experiment.seed, cost_ratio(experiment.task))
    for reason in order.rejections() if world.rank == 0 else []:
        logger.warning("rejected: %s", reason)
    loader = Loader.for_rank(source, order, data, world.rank, world.size)
    held_out: list[Pack] = []
    if data.validation and _looks_at_held_out(experiment):
        held_out = validation_packs(
            build_source(data, "validation"),
            grid,
            packing,
            data.validation_packs,
            experiment.seed,
            data.max_bad_fraction,
        )

    def prepare() -> None:
        picks = (pick for number in range(task.prepare_clips) for pack in order.step(number) for pick in pack)
        task.prepare(loader.counting_source, list(islice(picks, task.prepare_clips)))

    return _Feed(loader, held_out, prepare)


def _looks_at_held_out(experiment: Experiment) -> bool:
    return bool(experiment.train.validate_every or experiment.train.preview_every)


def _log_changes(experiment: Experiment) -> None:
    """Say what a resumed run does otherwise than it did."""
    file = experiment.folder / CONFIG_FILE
    if file.is_file():
        for change in changed_keys(load_config(dict[str, Any], file), encode(experiment)):
            logger.info("changed: %s", change)


def _start_from(init: Path, task: Task[Any], config: TaskConfig) -> list[str]:
    """Fill a new task with the averaged weights and the assets of another run; returns what it has in addition.

    Raises:
        ValueError: the other run is of another kind, has another VAE, or its weights do not fit.
    """
    checkpoint = find_checkpoint(init)
    other = load_experiment(checkpoint / CONFIG_FILE).task
    if other.kind != config.kind:
        raise ValueError(f"init: {init} is a run of {other.kind!r}, which cannot start one of {config.kind!r}")
    if isinstance(task, TextToVideo) and isinstance(other, TextToVideoConfig):
        run = checkpoint.absolute().parents[1]
        if fingerprint(frozen_vae(other, run)) != fingerprint(task.vae):
            raise ValueError(
                f"init: the networks of {init} know the latents of another VAE than task.vae: set "
                f"task.vae={{kind: run, path: {run / VAE_FOLDER}}}"
            )
    task.load_assets(read_assets(checkpoint))
    return init_networks(checkpoint, task.networks())


def _check_shards(folder: Path, vae: VideoVAE) -> None:
    """Refuse to train on latents of another VAE than the one that will decode the samples."""
    made_by = ShardSource(folder).summary["settings"].get("vae")
    if made_by != fingerprint(vae):
        raise ValueError(
            f"the latents in {folder} were made by another VAE than task.vae: set task.vae to the one that made them, "
            "or run tools/precompute.py with this one into another folder"
        )


def _keep_vae(experiment: Experiment, task: TextToVideo) -> None:
    assert isinstance(experiment.task, TextToVideoConfig)
    config = describe_vae(experiment.task.vae)
    if isinstance(config, CausalVAEConfig):
        save_vae(experiment.folder / VAE_FOLDER, config, task.vae)
    elif isinstance(task.vae, DiffusersVAE):
        task.vae.network.save_pretrained(experiment.folder / VAE_FOLDER)
