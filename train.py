"""Train whatever an experiment's YAML describes.

    accelerate launch train.py --config configs/video/world.yaml [--resume] [a.b=c ...]
    python train.py --config configs/smoke/text_to_video.yaml --dry-run

Anything in the YAML can be overridden, such as `train.steps=1000`, `run=runs/mine` or `data.manifest=clips.csv`.
"""

from __future__ import annotations

import argparse
import sys


def main() -> int:
    """Parse the command line, then train or describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="YAML", help="an experiment; see configs/")
    parser.add_argument("--resume", action="store_true", help="continue from the run's newest checkpoint")
    parser.add_argument(
        "--dry-run", action="store_true", help="build everything without data or weights and describe it"
    )
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of the YAML to change")
    args = parser.parse_intermixed_args()

    from genworld.experiment import load_experiment, train
    from genworld.pipelines.describe import describe
    from genworld.train.runtime import leave_world

    experiment = load_experiment(args.config, args.overrides)
    if args.dry_run:
        print(describe(experiment))
        return 0
    result = train(experiment, resume=args.resume)
    leave_world()
    return result.exit_code


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
