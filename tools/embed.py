"""Images, videos and sentences in one space: embed a folder, search it, name what clips show, judge an encoder.

    python tools/embed.py folder clips/ --out runs/clips_embedded
    python tools/embed.py search runs/clips_embedded "a red ball rolls to the left" --out found.png
    python tools/embed.py classify a.mp4 b.png --classes "red ball" "blue cube"
    python tools/embed.py evaluate --run runs/clip_world --out scores.json
    python tools/embed.py export --run runs/clip_world --out my_encoder      # or of regions: --run runs/rooms_encoder

The encoder is the one that comes with genworld and knows single objects of its world; `--run` takes one that train.py
aligned (configs/align/), `--pretrained` a CLIP of OpenAI or open_clip in a local folder of transformers, `--encoder` a
folder of `export`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genworld.pipelines.embed import Embedder


def main() -> int:
    """Parse the command line and do what the first word says."""
    args = _parser().parse_args()
    return args.act(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = argparse.ArgumentParser(add_help=False)
    one = which.add_mutually_exclusive_group()
    one.add_argument("--run", type=Path, help="a run of task kind 'align'")
    one.add_argument("--pretrained", type=Path, metavar="FOLDER", help="a CLIP as transformers saves it")
    one.add_argument("--encoder", type=Path, metavar="FOLDER", help="a folder that `export` wrote")
    acts = parser.add_subparsers(required=True, metavar="ACT")

    act = acts.add_parser("folder", parents=[which], help="embed all images and videos of a folder or list")
    act.add_argument("folder", type=Path, help="images and videos, or a CSV, Parquet or JSONL that lists them")
    act.add_argument("--out", type=Path, required=True, help="folder for features.safetensors and manifest.json")
    act.set_defaults(act=_folder)

    act = acts.add_parser("search", parents=[which], help="find a sentence in an embedded folder")
    act.add_argument("embedded", type=Path, help="what `folder` wrote")
    act.add_argument("sentence")
    act.add_argument("--top", type=int, default=8, help="how many files to show (8)")
    act.add_argument("--out", type=Path, metavar="PNG", help="contact sheet of what was found")
    act.set_defaults(act=_search)

    act = acts.add_parser("classify", parents=[which], help="name what images and videos show (zero-shot)")
    act.add_argument("media", type=Path, nargs="+")
    act.add_argument("--classes", nargs="+", required=True, metavar="NAME", help='such as "red ball" "blue cube"')
    act.add_argument("--templates", nargs="+", metavar="TEXT", help='sentences with {}, such as "a video of a {}"')
    act.set_defaults(act=_classify)

    act = acts.add_parser("evaluate", parents=[which], help="zero-shot and retrieval on held-out clips of the world")
    act.add_argument("--num", type=int, default=400, help="clips to classify (400)")
    act.add_argument("--among", type=int, default=100, help="clips with different captions to search among (100)")
    act.add_argument("--out", type=Path, metavar="JSON", help="where to write the scores")
    act.set_defaults(act=_evaluate)

    act = acts.add_parser("export", help="write the encoder of a run as a folder of its own, with its scores")
    act.add_argument("--run", type=Path, required=True, help="of task kind 'align' or 'align_regions'")
    act.add_argument("--out", type=Path, required=True)
    act.add_argument("--domain", help="what it was trained on, in words")
    act.set_defaults(act=_export)
    return parser


def _embedder(args: argparse.Namespace) -> Embedder:
    from genworld.pipelines.embed import Embedder

    if args.run:
        embedder = Embedder.from_run(args.run)
    elif args.pretrained:
        embedder = Embedder.from_pretrained(args.pretrained)
    elif args.encoder:
        embedder = Embedder.from_folder(args.encoder)
    else:
        embedder = Embedder.default()
    print(f"encoder {embedder.name}, trained on: {embedder.domain}; of anything else it says little")
    return embedder


def _folder(args: argparse.Namespace) -> int:
    from genworld.pipelines.command import provenance

    embedding = _embedder(args).folder(args.folder, progress=True)
    manifest = embedding.save(args.out, provenance())
    print(f"embedded {len(embedding.files)} files, left out {len(embedding.rejected)}; wrote {manifest}")
    return 0


def _search(args: argparse.Namespace) -> int:
    from genworld.ops.pictures import write_sheet
    from genworld.pipelines.embed import FolderEmbedding

    embedder, embedding = _embedder(args), FolderEmbedding.load(args.embedded)
    found = embedder.search(embedding, args.sentence, args.top)
    for path, cosine in found:
        print(f"{cosine:6.3f}  {path}")
    if args.out:
        clips = [embedder.read(embedding.root / path.partition("@")[0]) for path, _ in found]
        print(f"wrote {write_sheet(args.out, clips, [f'{cosine:.3f} {path}' for path, cosine in found], columns=2)}")
    return 0


def _classify(args: argparse.Namespace) -> int:
    from genworld.eval.retrieval import TEMPLATES

    found = _embedder(args).classify(args.media, args.classes, args.templates or TEMPLATES)
    for path, name, chances in zip(args.media, found.names, found.probabilities.tolist(), strict=True):
        print(f"{path}: {name} ({max(chances):.2f})")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from genworld.eval.retrieval_world import WorldProtocol
    from genworld.pipelines.command import provenance

    embedder = _embedder(args)
    scores = embedder.evaluate(WorldProtocol(num_classified=args.num, num_searched=args.among))
    for name, value in scores.items():
        print(f"{name:<28} {value:.3f}")
    if args.out:
        record: dict[str, Any] = {
            "encoder": embedder.name,
            "fingerprint": embedder.fingerprint(),
            "num_classified": args.num,
            "num_searched": args.among,
            "scores": scores,
            **provenance(),
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(record, indent=2) + "\n")
        print(f"wrote {args.out}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from genworld.pipelines.export import export_run

    folder = export_run(args.run, args.out, args.domain)
    print(f"wrote {folder}")
    return 0


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
