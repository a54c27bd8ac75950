"""What a YAML file says, and the parts that are built from it: tasks, VAEs, trained runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from genworld.config import decode, encode, load_config
from genworld.data.loader import DataConfig
from genworld.data.room_views import RoomViewsData
from genworld.data.scene_turns import RoomsData
from genworld.data.scene_turns_annotated import AnnotatedData
from genworld.data.walk_turns import WalksData
from genworld.models.scene_llm import SceneLLM
from genworld.models.scene_points import ScenePoints
from genworld.models.vae import (
    CausalVAEConfig,
    DiffusersVAEConfig,
    RunVAEConfig,
    VAEConfig,
    VideoVAE,
    build_vae,
)
from genworld.tasks.align import Align, AlignConfig
from genworld.tasks.align_regions import AlignRegions, AlignRegionsConfig
from genworld.tasks.autoencode import Autoencode, AutoencodeConfig
from genworld.tasks.base import ClipTask
from genworld.tasks.converse import Converse, ConverseConfig
from genworld.tasks.text_to_video import TextToVideo
from genworld.tasks.text_to_video_config import TextToVideoConfig
from genworld.train.checkpoint import (
    latest_checkpoint,
    load_network,
    load_tensors,
    read_assets,
)
from genworld.train.trainer import TrainConfig
from genworld.types import TokenGrid

CONFIG_FILE = "experiment.yaml"
"""The resolved experiment, in a run's folder."""
VAE_FOLDER = "vae"
"""The frozen VAE of a text-to-video run, in the run's folder, so that sampling needs nothing else."""


TurnsData = RoomsData | AnnotatedData | WalksData
"""Exchanges about scenes."""
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
    data: DataConfig | RoomViewsData | TurnsData
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
    return TextToVideo(config, frozen_vae(config, experiment.folder if begun else None))


def frozen_vae(config: TextToVideoConfig, run: Path | None) -> VideoVAE:
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
    if isinstance(experiment.data, RoomViewsData | TurnsData):
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
