"""Encode a data set once: latents (and features of a frozen text encoder) as shards that training reads instead.

    accelerate launch tools/precompute.py --config configs/video/world.yaml --out runs/world/latents
    accelerate launch train.py --config configs/video/world.yaml "data={kind: shards, path: runs/world/latents, ...}"

Shared between processes, and restartable: what is done is skipped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line and encode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="YAML", help="a text-to-video experiment")
    parser.add_argument("--out", required=True, type=Path, help="folder for the shards")
    parser.add_argument("--epochs", type=int, default=1, help="draws of shape and start for each clip (1)")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of the YAML to change")
    args = parser.parse_intermixed_args()

    from genworld.experiment import load_experiment
    from genworld.pipelines.precompute import precompute

    count = precompute(load_experiment(args.config, args.overrides), args.out, args.epochs)
    print(f"encoded {count} clips into {args.out}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
