"""Benchmarks: ours against a reference, measured in the same run.

    python tools/bench.py --list
    python tools/bench.py packing dit --json results.json

Each benchmark is a file in `tools/benchmarks/` with a docstring that says what it measures and `run()`, which returns
a list of `{name, ours, reference, ratio, unit, target, holds}`. Exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import pkgutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIELDS = {"name", "ours", "reference", "ratio", "unit", "target", "holds"}


def names() -> list[str]:
    """All benchmarks."""
    return sorted(module.name for module in pkgutil.iter_modules([str(ROOT / "tools" / "benchmarks")]))


def load(name: str):
    """The module of one benchmark."""
    sys.path.insert(0, str(ROOT))
    return importlib.import_module(f"tools.benchmarks.{name}")


def show(row: dict) -> None:
    """One line of the table."""
    assert row.keys() == FIELDS, f"a benchmark returns {sorted(FIELDS)}, got {sorted(row)}"
    verdict = "ok" if row["holds"] else "MISSED"

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.4g}"

    ours, reference, ratio = (number(row[key]) for key in ("ours", "reference", "ratio"))
    line = f"{row['name']:<44} {ours:>10} {reference:>10} {ratio:>8}  {row['unit']:<22} {row['target']:<16} {verdict}"
    print(line, flush=True)


def main() -> int:
    """Run the benchmarks that were named and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; see --list")
    parser.add_argument("--list", action="store_true", help="name them all and stop")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if args.list or not args.names:
        for name in names():
            print(f"{name:<12} {(load(name).__doc__ or '').strip().splitlines()[0]}")
        return 0
    if unknown := set(args.names) - set(names()):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
    import torch

    from genworld.pipelines.command import machine

    print(f"{machine()}, torch {torch.__version__}, {datetime.date.today()}")
    print(f"{'':<44} {'ours':>10} {'reference':>10} {'ratio':>8}  {'unit':<22} {'target':<16}")
    rows = []
    for name in args.names:
        for row in load(name).run():
            show(row)
            rows.append(row)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")
        print(f"wrote {args.json}")
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
