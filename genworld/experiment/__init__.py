"""An experiment: what a YAML file says, and how its parts are wired together."""

from genworld.experiment.build import (
    CONFIG_FILE,
    VAE_FOLDER,
    AnyTask,
    Experiment,
    TaskConfig,
    build_task,
    clip_data,
    cost_ratio,
    describe_vae,
    fingerprint,
    is_vae_folder,
    load_experiment,
    load_run,
    load_vae,
    open_vae,
    save_vae,
    token_grid,
)
from genworld.experiment.wiring import open_turns, train

__all__ = [
    "CONFIG_FILE",
    "VAE_FOLDER",
    "AnyTask",
    "Experiment",
    "TaskConfig",
    "build_task",
    "clip_data",
    "cost_ratio",
    "describe_vae",
    "fingerprint",
    "is_vae_folder",
    "load_experiment",
    "load_run",
    "load_vae",
    "open_turns",
    "open_vae",
    "save_vae",
    "token_grid",
    "train",
]
