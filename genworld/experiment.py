"""An experiment: what a YAML file says, and how its parts are wired together."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from genworld.config import decode, encode, load_config, to_yaml
from genworld.data.examples import ExampleLoader
from genworld.data.examples import validation_packs as held_out_examples
from genworld.data.loader import DataConfig, Loader, ShardData, build_source, clip_infos, validation_packs
from genworld.data.packing import PackOrder
from genworld.data.room_views import RoomView, RoomViewsData
from genworld.data.scene_turns import RoomsData, RoomTurns, Split
from genworld.data.scene_turns_annotated import AnnotatedData, AnnotatedTurns
from genworld.data.shards import ShardSource
from genworld.models.scene_llm import SceneLLM
from genworld.models.scene_points import ScenePoints
from genworld.models.vae import (
    CausalVAEConfig,
    DiffusersVAE,
    DiffusersVAEConfig,
    RunVAEConfig,
    VAEConfig,
    VideoVAE,
    build_vae,
)
from genworld.tasks.align import Align, AlignConfig
from genworld.tasks.align_regions import AlignRegions, AlignRegionsConfig
from genworld.tasks.autoencode import Autoencode, AutoencodeConfig
from genworld.tasks.base import ClipTask, Task
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.tasks.text_to_video import TextToVideo, TextToVideoConfig
from genworld.train.checkpoint import (
    find_checkpoint,
    init_networks,
    latest_checkpoint,
    load_network,
    load_tensors,
    read_assets,
)
from genworld.train.runtime import World, find_world
from genworld.train.state import Loader as TrainLoader
from genworld.train.state import TrainResult, changed_keys, check_run
from genworld.train.trainer import TrainConfig, Trainer
from genworld.types import Pack, TokenGrid, Turn

logger = logging.getLogger(__name__)

CONFIG_FILE = "experiment.yaml"
"""The resolved experiment, in a run's folder."""
VAE_FOLDER = "vae"
"""The frozen VAE of a text-to-video run, in the run's folder, so that sampling needs nothing else."""


TaskConfig = AutoencodeConfig | TextToVideoConfig | AlignConfig | AlignRegionsConfig | ConverseConfig
AnyTask = ClipTask | AlignRegions | Converse


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything a run needs to know.

    Attributes:
        name: what it is called; names its folder unless `run` does.
        task: networks and the loss that trains them.
        data: where clips come from, and how they are ordered and packed.
        train: how long, how fast, how often to save.
        seed: of weights, order and noise.
        run: folder of checkpoints, logs and previews; `runs/<name>` by default.
        init: another run of the same kind (its folder, or one of its checkpoints) to start from: its averaged weights,
            its tokenizer and its VAE, so that nothing is fitted to the new data. A resumed run goes on from its own.
    """

    name: str
    task: TaskConfig
    data: DataConfig | RoomViewsData | RoomsData | AnnotatedData
    train: TrainConfig
    seed: int = 0
    run: Path | None = None
    init: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        return self.run or Path("runs") / self.name


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment from YAML and apply overrides such as `train.steps=100`."""
    return load_config(Experiment, path, overrides)


# ---- tasks ----


def build_task(experiment: Experiment, begun: bool = False) -> AnyTask:
    """The task with fresh weights, a function of the experiment's seed, and the weights of a frozen VAE.

    Args:
        experiment: says everything.
        begun: whether its run has begun: the VAE is then the one that the run keeps.

    Raises:
        ValueError: the VAE it names is not there.
    """
    config = experiment.task
    torch.manual_seed(experiment.seed)
    if isinstance(config, AutoencodeConfig):
        return Autoencode(config)
    if isinstance(config, AlignConfig):
        return Align(config)
    if isinstance(config, AlignRegionsConfig):
        return AlignRegions(config)
    if isinstance(config, ConverseConfig):
        return Converse(config, SceneLLM(config.model, ScenePoints(config.points).width))
    return TextToVideo(config, _frozen_vae(config, experiment.folder if begun else None))


def _frozen_vae(config: TextToVideoConfig, run: Path | None) -> VideoVAE:
    """The VAE that a run keeps, or the one that its config names."""
    kept = run / VAE_FOLDER if run else None
    return load_vae(kept) if kept and _find_vae_config(kept) else open_vae(config.vae)


def token_grid(experiment: Experiment) -> TokenGrid:
    """How the experiment's clips become tokens. Builds nothing and loads no weights."""
    config = experiment.task
    if isinstance(config, AlignRegionsConfig | ConverseConfig):
        raise ValueError(f"{experiment.name} has task {config.kind!r}, which is not trained on clips")
    if isinstance(config, AlignConfig):
        return TokenGrid(1, config.encoder.video.stride)
    vae = config.vae if isinstance(config, AutoencodeConfig) else describe_vae(config.vae)
    patch = config.patch if isinstance(config, TextToVideoConfig) else 1
    with torch.device("meta"):
        built = build_vae(vae)
    return TokenGrid(built.time_stride, built.space_stride, patch)


def clip_data(experiment: Experiment) -> DataConfig:
    """The data of an experiment on clips.

    Raises:
        ValueError: it is none.
    """
    if isinstance(experiment.data, RoomViewsData | RoomsData | AnnotatedData):
        raise ValueError(f"{experiment.name} has data of kind {experiment.data.kind!r}, where clips are needed")
    return experiment.data


# ---- VAEs as folders ----


def open_vae(config: VAEConfig) -> VideoVAE:
    """The VAE that a config names: new, foreign, or from a run or folder of genworld.

    Raises:
        ValueError: it is not there; the message says how to make it.
    """
    if not isinstance(config, RunVAEConfig):
        return build_vae(config)
    if _find_vae_config(config.path) is None:
        recipe = config.trained_by or "configs/vae/world.yaml"
        raise ValueError(
            f"{config.path} holds no VAE of genworld: train it with `accelerate launch train.py --config {recipe} "
            f"run={config.path}`, or set task.vae.path to the folder of one"
        )
    return load_vae(config.path)


def describe_vae(config: VAEConfig) -> CausalVAEConfig | DiffusersVAEConfig:
    """What the VAE that a config names looks like, also before it is trained; loads no weights."""
    if not isinstance(config, RunVAEConfig):
        return config
    if (found := _find_vae_config(config.path)) is not None:
        return found
    if config.trained_by is None:
        raise ValueError(f"{config.path} holds no VAE yet, and task.vae.trained_by does not say which config makes it")
    task = load_experiment(config.trained_by).task
    if not isinstance(task, AutoencodeConfig):
        raise ValueError(f"task.vae.trained_by: {config.trained_by} trains {task.kind!r}, not a VAE")
    return task.vae


def is_vae_folder(folder: Path) -> bool:
    """Whether `save_vae` wrote this folder."""
    return (folder / "config.json").is_file() and (folder / "vae.safetensors").is_file()


def save_vae(folder: Path, config: CausalVAEConfig, vae: VideoVAE) -> None:
    """Write a VAE as `config.json` and `vae.safetensors`, which is all that `load_vae` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in vae.state_dict().items()}
    save_file(tensors, folder / "vae.safetensors")
    (folder / "config.json").write_text(json.dumps(encode(config), indent=2) + "\n")


def load_vae(folder: Path) -> VideoVAE:
    """A VAE from a folder of `save_vae` or of diffusers, or with the averaged weights of an autoencoder's run."""
    config = _find_vae_config(folder)
    assert config is not None, folder
    vae = build_vae(config)
    if is_vae_folder(folder):
        load_tensors(folder / "vae.safetensors", vae.state_dict())
    elif (folder / CONFIG_FILE).is_file():
        load_network(latest_checkpoint(folder), "vae", vae, ema=True)
    return vae


def _find_vae_config(folder: Path) -> CausalVAEConfig | DiffusersVAEConfig | None:
    if is_vae_folder(folder):
        return decode(CausalVAEConfig, json.loads((folder / "config.json").read_text()), str(folder / "config.json"))
    if (folder / CONFIG_FILE).is_file():
        task = load_experiment(folder / CONFIG_FILE).task
        if isinstance(task, AutoencodeConfig):
            return task.vae
    elif (folder / "config.json").is_file():
        return DiffusersVAEConfig(path=folder)
    return None


# ---- runs ----


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
    source, data = open_turns(experiment), experiment.data
    assert isinstance(data, RoomsData | AnnotatedData)
    source.prepare(world.rank, world.size)
    loader = ExampleLoader.for_rank(source, data, experiment.seed, world.rank, world.size)
    held_out: list[Pack[Turn]] = []
    if data.validation and _looks_at_held_out(experiment):
        held_out = held_out_examples(open_turns(experiment, "validation"), data, experiment.seed)
    return _Feed(loader, held_out, lambda: task.prepare(source))


def open_turns(experiment: Experiment, split: Split = "train") -> RoomTurns | AnnotatedTurns:
    """The exchanges about scenes of one split.

    Raises:
        ValueError: the experiment is not about them, or nothing is held out and that is asked for.
    """
    task, data = experiment.task, experiment.data
    if not isinstance(task, ConverseConfig) or not isinstance(data, RoomsData | AnnotatedData):
        raise ValueError(
            f"task 'converse' is trained on data of kind 'rooms' or 'annotated', got task {task.kind!r} with data of "
            f"kind {data.kind!r}"
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
        if fingerprint(_frozen_vae(other, run)) != fingerprint(task.vae):
            raise ValueError(
                f"init: the networks of {init} know the latents of another VAE than task.vae: set "
                f"task.vae={{kind: run, path: {run / VAE_FOLDER}}}"
            )
    task.load_assets(read_assets(checkpoint))
    return init_networks(checkpoint, task.networks())


def cost_ratio(config: TaskConfig) -> float:
    """How much the cost of a clip grows faster than its tokens; see `PackOrder`."""
    return 1 / (6 * config.dit.width) if isinstance(config, TextToVideoConfig) else 0.0


def fingerprint(network: nn.Module) -> str:
    """A hash of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def load_run(run: Path, device: torch.device | str = "cpu") -> tuple[Experiment, AnyTask]:
    """The experiment of a run and its task with the averaged weights of the newest whole checkpoint.

    Raises:
        ValueError: the folder is not a run, or has no weights yet.
    """
    if not (run / CONFIG_FILE).is_file():
        raise ValueError(
            f"{run} is not a run: it has no {CONFIG_FILE}; give the folder that train.py wrote (runs/<name>)"
        )
    experiment = replace(load_experiment(run / CONFIG_FILE), run=run)
    checkpoint = latest_checkpoint(run)
    task = build_task(experiment, begun=True)
    task.load_assets(read_assets(checkpoint))
    for name, network in task.networks().items():
        load_network(checkpoint, name, network, ema=True)
    return experiment, task.to(device).eval()
