"""The house: a file imports from its own folder and from floors below, and importing genworld is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "genworld"
FLOORS = [
    {"types", "config"},
    {"ops"},
    {"nn", "world"},
    {"models", "flow", "data"},
    {"eval"},
    {"tasks", "train"},
    {"experiment"},
    {"pipelines"},
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
# The modules of a neighbour on the same floor that a folder may use: the trainer knows what a task is, and no task.
NEIGHBOURS = {"train": {"genworld.tasks.base"}}
HEAVY = ["open3d", "decord", "torchcodec", "xformers", "diffusers", "transformers", "gradio", "timm"]


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules of genworld that a file imports, anywhere in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "genworld":
                names += [f"genworld.{alias.name}" for alias in node.names]
            else:
                names.append(node.module or "")
    return {name for name in names if name.startswith("genworld.")}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    folder = folder_of(path)
    assert folder in LEVEL, f"{folder} stands on no floor: add it to the plan in design and to FLOORS"
    for module in imports_of(path):
        other = module.split(".")[1]
        allowed = other == folder or LEVEL[other] < LEVEL[folder] or module in NEIGHBOURS.get(folder, set())
        assert allowed, f"{path.relative_to(ROOT)} imports {module}, which is not below it"


def test_the_rule_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("from genworld.models import dit\nimport genworld.train.trainer\n")
    assert imports_of(bad) == {"genworld.models", "genworld.train.trainer"}


@pytest.mark.parametrize("module", ["genworld", "genworld.experiment"])
def test_import_is_light(module: str) -> None:
    code = f"import sys, {module}; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
