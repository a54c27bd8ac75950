"""Train a small VAE and a small text-to-video transformer on the procedural world, then sample: ten minutes, two cores.

    make demo          (or: python tools/demo.py [--minutes 10] [--folder runs/demo])

Every step is one of the project's own commands, printed before it runs. Ends by naming what it wrote and by checking
the videos against their prompts. `--minutes` shrinks or stretches both trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = [
    "A red ball rolls to the left.",
    "A blue cube drops and bounces.",
    "A green cone slides to the right.",
    "A yellow cylinder slides towards the camera.",
]
NUM_JUDGED = 20
NUM_BENCHMARK = 24
RESERVE = 90.0
"""Seconds kept for sampling, judging and drawing."""
VAE_SHARE = 0.25


def run(words: list[str], processes: int) -> None:
    """Run one of the project's scripts, on several processes where the machine has cores for them."""
    command = [sys.executable, *words]
    if processes > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={processes}",
            *words,
        ]
    print(f"\n$ {' '.join(['python', *command[1:]])}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // processes, 1))}
    result = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if result.returncode:
        raise SystemExit(f"the step above failed with exit code {result.returncode}")


def train_all(folder: Path, end: float) -> None:
    """VAE, latents, transformer; `end` is the time by which everything has to be done."""
    import torch

    processes = 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, 2)
    clips = f"data.cache={folder}/clips"
    vae, latents = folder / "vae", folder / "latents"
    seconds = (end - time.monotonic()) * VAE_SHARE
    run(
        ["train.py", "--config", "configs/vae/demo.yaml", f"run={vae}", clips, f"train.max_seconds={seconds:.0f}"],
        processes,
    )
    config = ["--config", "configs/video/demo.yaml", f"task.vae.path={vae}"]
    run(["tools/precompute.py", *config, "--out", str(latents), clips], processes)
    shards = f"data={{kind: shards, path: {latents}, packing: {{tokens_per_pack: 1920, packs_per_step: 2}}}}"
    seconds = end - time.monotonic() - RESERVE
    if seconds < 5:
        raise SystemExit("no time is left to train the transformer: give the demo more --minutes")
    run(["train.py", *config, f"run={folder}/video", shards, f"train.max_seconds={seconds:.0f}"], processes)


def finish(folder: Path) -> None:
    """Sample, judge, draw, and say what was written."""
    import torch

    from genworld.data.loader import build_source
    from genworld.data.writer import write_video
    from genworld.experiment import load_experiment
    from genworld.ops.pictures import write_sheet
    from genworld.pipelines.benchmark import line, record, run_benchmark
    from genworld.pipelines.command import provenance
    from genworld.pipelines.judge import evaluate, judge, summarise
    from genworld.pipelines.video import VideoGenerator
    from genworld.tasks.text_to_video import Request

    torch.set_num_threads(os.cpu_count() or 1)
    generator = VideoGenerator.from_run(folder / "video")
    data = load_experiment(ROOT / "configs/video/demo.yaml", [f"data.cache={folder}/clips"]).data
    shape = generator.shape(None, None, None)
    requests = [Request(prompt, shape, seed) for seed, prompt in enumerate(PROMPTS)]
    clips = generator.sample(requests, generator.settings(None, None), progress=True)
    result = evaluate(generator, build_source(data, "validation"), NUM_JUDGED, seed=len(PROMPTS))
    verdicts = judge([*PROMPTS, *(item.text for item in result.real)], [c.pixels for c in clips] + result.generated)
    scores = summarise(verdicts)
    benchmark = run_benchmark(generator, "single", NUM_BENCHMARK, seed=len(PROMPTS) + NUM_JUDGED)
    rows, labels = [clip.pixels for clip in clips], [f"generated: {prompt}" for prompt in PROMPTS]
    for item, pixels in list(zip(result.real, result.generated, strict=True))[:6]:
        rows += [item.need_pixels(), pixels]
        labels += [f"real, held out: {item.text}", "generated from its caption"]
    print("\nWrote")
    for i, clip in enumerate(clips):
        name = "-".join(clip.text.lower().rstrip(".").split())
        print(f"  {write_video(folder / f'{i}-{name}.mp4', clip.pixels, clip.fps)}")
    print(f"  {write_sheet(folder / 'demo.png', rows, labels, columns=2)}  (real against generated)")
    for part in ("vae", "video"):
        print(f"  {folder / part / 'log' / 'losses.png'}  (losses of the {part} training)")
    results = {"vae_psnr": result.vae_psnr, "judged": len(verdicts), **scores, "world": record(benchmark)}
    (folder / "results.json").write_text(json.dumps({**results, **provenance()}, indent=2) + "\n")
    print(f"  {folder / 'results.json'}")
    print(f"VAE: {result.vae_psnr:.2f} dB on {len(result.real)} held-out clips (target 31)")
    print(f"colour as asked: {round(scores['colour'] * len(verdicts))} of {len(verdicts)} objects (target 9 in 10)")
    print(f"motion as asked: {scores['motion']:.0%} (ten minutes do not promise this)")
    print(line(benchmark))
    print(f'now try: python sample.py --run {folder / "video"} --prompt "A purple cube slides to the left."')


def main() -> int:
    """Parse the command line and run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the whole demo may take (10)")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/demo"), help="where it writes; an old one is replaced"
    )
    args = parser.parse_args()
    start = time.monotonic()
    args.folder = args.folder.resolve()  # the steps run in the project's folder
    for part in ("vae", "latents", "video"):
        shutil.rmtree(args.folder / part, ignore_errors=True)
    train_all(args.folder, start + 60 * args.minutes)
    finish(args.folder)
    print(f"done in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
