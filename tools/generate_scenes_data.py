"""Have language about scenes written: questions, captions, dialogues and plans, in 3D-LLM's three ways.

    python tools/generate_scenes_data.py --floors 100 --way boxes --backend template --out runs/said
    python tools/generate_scenes_data.py --scenes scans/ --way boxes --out runs/said
        --backend openai --url http://localhost:8000/v1 --model qwen
    python tools/generate_scenes_data.py --scenes scans/ --way chat --backend server.yaml --out runs/seen
    python tools/generate_scenes_data.py --way revise --source runs/seen --kinds qa --out runs/revised

boxes: objects with boxes and a demonstration. chat: a questioner and a viewer of pictures in rounds, then a summary.
revise: records of one kind into others. Started again with the same --out, it asks only for what is missing. Records
are checked, and split 8:1:1 by scene into train.json, val.json and test.json; report.json counts what was refused and
why. A YAML for --backend has the fields url, model, api_key (such as ${oc.env:OPENAI_API_KEY}) or api_key_file,
max_tokens, timeout, retries, concurrency, proxy.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genworld.pipelines.chat import ChatBackend
    from genworld.pipelines.scene_data import Floors, Scenes, Written


def main() -> int:
    """Parse the command line and ask."""
    args = _parser().parse_args()

    from genworld.pipelines.scene_data import GenerateSettings, generate

    names = ("way", "samples", "count", "rounds", "views", "temperature")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.kinds:
        given["kinds"] = tuple(args.kinds)
    if args.prompts:
        given["prompts"] = args.prompts
    writer = _backend(args.backend, args)
    viewer = _backend(args.viewer, args) if args.viewer else None
    report = generate(GenerateSettings(**given), _places(args), writer, args.out, viewer)
    print(json.dumps({name: report[name] for name in ("scenes", "records", "entries", "rejected")}, indent=2))
    print(f"wrote {args.out}")
    return 1 if report["jobs_failed_in_this_run"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--scenes", type=Path, help="scenes of any kind that genworld reads")
    where.add_argument("--floors", type=int, metavar="N", help="so many floors of the world")
    where.add_argument("--source", type=Path, metavar="FOLDER", help="for revise: what this tool wrote before")
    parser.add_argument("--first", type=int, default=0, help="seed of the first floor (0)")
    parser.add_argument("--way", required=True, choices=["boxes", "chat", "revise"])
    parser.add_argument("--backend", default="template", metavar="NAME", help="template, openai, or a YAML (template)")
    parser.add_argument("--viewer", metavar="NAME", help="for chat: another backend that sees the pictures")
    parser.add_argument("--url", help="for openai: address of the server, up to /v1")
    parser.add_argument("--model", help="for openai: what the server calls the model")
    parser.add_argument("--api-key-file", type=Path, help="for openai: a file with the key")
    parser.add_argument("--out", type=Path, required=True, help="folder to write, or to go on with")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="some of qa, caption, dialogue, plan (all)")
    parser.add_argument("--samples", type=int, help="requests of each kind about each scene (1)")
    parser.add_argument("--count", type=int, help="records a request (4)")
    parser.add_argument("--rounds", type=int, help="for chat: questions (3)")
    parser.add_argument("--views", type=int, help="for chat: pictures (4)")
    parser.add_argument("--temperature", type=float, help="of the first sample; 0.1 more for each next (0.7)")
    parser.add_argument("--prompts", type=Path, help="folder of prompts, a changed copy of genworld/assets/prompts")
    return parser


def _backend(name: str, args: argparse.Namespace) -> ChatBackend:
    from genworld.config import load_config
    from genworld.pipelines.chat import OpenAIChat, OpenAIConfig
    from genworld.pipelines.chat_template import TemplateChat

    if name == "template":
        return TemplateChat()
    if name == "openai":
        if not args.url or not args.model:
            raise ValueError("--backend openai needs --url and --model")
        return OpenAIChat(OpenAIConfig(url=args.url, model=args.model, api_key_file=args.api_key_file))
    if not name.endswith((".yaml", ".yml")):
        raise ValueError(f"--backend: expected template, openai or a YAML, got {name!r}")
    return OpenAIChat(load_config(OpenAIConfig, name))


def _places(args: argparse.Namespace) -> Floors | Scenes | Written:
    from genworld.data.scenes import open_scenes
    from genworld.pipelines.scene_data import Floors, Scenes, Written

    if args.source is not None:
        return Written(args.source)
    if args.scenes is not None:
        return Scenes(open_scenes(args.scenes))
    if args.floors < 1:
        raise ValueError(f"--floors: expected at least 1, got {args.floors}")
    return Floors(range(args.first, args.first + args.floors))


if __name__ == "__main__":
    from genworld.pipelines.command import run_command

    sys.exit(run_command(main))
