"""Judge a text-to-video run of the world by held-out clips: what its videos show against what their prompts ask.

    python tools/evaluate.py --run runs/video_world --num 100 --out runs/video_world/evaluation

Writes results.json and a contact sheet. Colour is read by palette, motion from the object's track, shape by a small
recogniser that is trained on real renders first (half a minute; its accuracy is part of the ceiling that is printed).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Parse the command line, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="a text-to-video run")
    parser.add_argument("--config", type=Path, metavar="YAML", help="whose held-out clips to use; the run's own")
    parser.add_argument("--num", type=int, default=100, help="held-out clips (100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the results; RUN/evaluation by default")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="fields of --config to change")
    args = parser.parse_intermixed_args()

    from genworld.data.loader import build_source
    from genworld.eval.shape_recogniser import train_shape_recogniser
    from genworld.experiment import CONFIG_FILE, load_experiment
    from genworld.ops.pictures import write_sheet
    from genworld.pipelines.command import provenance
    from genworld.pipelines.judge import evaluate
    from genworld.pipelines.video import VideoGenerator

    generator = VideoGenerator.from_run(args.run)
    experiment = load_experiment(args.config or args.run / CONFIG_FILE, args.overrides)
    if experiment.data.kind == "shards":
        raise ValueError(
            f"{args.run} was trained on precomputed latents: name the experiment with the clips by --config"
        )
    held_out = build_source(experiment.data, "validation")
    result = evaluate(generator, held_out, args.num, train_shape_recogniser(), args.seed)
    out = args.out or args.run / "evaluation"
    rows, labels = [], []
    for item, pixels in list(zip(result.real, result.generated, strict=True))[:16]:
        rows += [item.need_pixels(), pixels]
        labels += [f"real, held out: {item.text}", "generated from its caption"]
    sheet = write_sheet(out / "samples.png", rows, labels, columns=2)
    record = {"num": len(result.real), "vae_psnr": result.vae_psnr, "scores": result.scores, "ceiling": result.ceiling}
    (out / "results.json").write_text(json.dumps({**record, **provenance()}, indent=2) + "\n")
    print(f"VAE {result.vae_psnr:.2f} dB on {len(result.real)} held-out clips")
    for name, score in result.scores.items():
        print(f"{name:<8} {score:.2f} as asked  (reconstructions: {result.ceiling[name]:.2f})")
    print(f"wrote {sheet} and {out / 'results.json'}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
