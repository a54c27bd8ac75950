"""Make a small copy of a run that can be used, evaluated and started from (init), but not resumed.

    python tools/release.py --run runs/video_tasks --out weights/video_tasks

Keeps the averaged weights of the newest checkpoint, large tensors in half precision, the tokenizer, the VAE and the
experiment; leaves out the optimiser and the weights as trained.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LARGE = 1000
"""Numbers from which on a tensor is halved: statistics and biases weigh nothing and stay exact."""

USES = {
    "text_to_video": "python sample.py --run {} --prompt ...",
    "converse": "python tools/ask.py --run {} --scene FOLDER ...",
    "converse walks": "python tools/navigate.py --run {} --scene SEED --goal ...",
}
"""What a run of a task, or of a task on some kind of data, is for."""


def release(run: Path, out: Path) -> Path:
    """Write the copy; returns its checkpoint.

    Raises:
        ValueError: there is no whole checkpoint, or something stands where the copy should be.
    """
    from safetensors.torch import save_file

    from genworld.train import checkpoint

    if out.exists():
        raise ValueError(f"{out} exists: choose another folder, or remove it")
    source = checkpoint.latest_checkpoint(run)
    state = {**checkpoint.read_state(source), "released": True}
    contents = checkpoint.Contents(
        state=state,
        assets=checkpoint.read_assets(source),
        experiment=(source / "experiment.yaml").read_text(),
        tensors={f"ema/{file.stem}": partial(_halved, file) for file in sorted((source / "ema").glob("*.safetensors"))},
    )
    made = checkpoint.save_checkpoint(out, int(state["step"]), contents, keep=2)
    shutil.copy(source / "experiment.yaml", out)
    if (run / "vae").is_dir():
        shutil.copytree(run / "vae", out / "vae")
        for file in (out / "vae").glob("*.safetensors"):
            save_file(_halved(file), file)
    return made


def use(run: Path) -> str:
    """The command to try a run with."""
    import yaml

    experiment = yaml.safe_load((run / "experiment.yaml").read_text())
    task, data = (experiment[part]["kind"] for part in ("task", "data"))
    text = USES.get(f"{task} {data}") or USES.get(task) or "python train.py --config ... init={}"
    return text.format(run)


def _halved(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: x.half() if x.numel() >= LARGE else x for name, x in load_file(file).items()}


def main() -> int:
    """Parse the command line and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="folder that train.py wrote")
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    args = parser.parse_args()
    made = release(args.run, args.out)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(f"{made} ({size / 1e6:.1f} MB): {use(args.out)}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
