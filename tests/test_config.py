"""The decoder: what it accepts, and that it says exactly what is wrong with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from genworld.config import ConfigError, decode, encode, load_config, to_yaml


@dataclass(frozen=True, kw_only=True)
class Circle:
    kind: Literal["circle"] = "circle"
    radius: float


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: Literal["square"] = "square"
    side: int = 2

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"side must be at least 1, got {self.side}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    name: str
    shape: Circle | Square
    extra: list[Circle | Square] = field(default_factory=list)
    size: tuple[int, int] = (1, 2)
    folder: Path | None = None
    mode: Literal["fast", "slow"] = "fast"
    PRESETS: ClassVar[dict] = {"big": {"size": [10, 20], "mode": "slow"}}
    weights: dict[str, float] = field(default_factory=dict)
    either: int | str = 0


FULL = {
    "name": "plan",
    "shape": {"kind": "circle", "radius": 1},
    "extra": [{"kind": "square", "side": 3}],
    "size": [3, 4],
    "folder": "a/b",
    "mode": "slow",
    "weights": {"x": 1},
    "either": "word",
}


def test_decode_builds_the_tagged_member_and_converts_types() -> None:
    plan = decode(Plan, FULL)
    assert plan.shape == Circle(radius=1.0)
    assert isinstance(plan.shape.radius, float)
    assert plan.extra == [Square(side=3)]
    assert plan.size == (3, 4)
    assert plan.folder == Path("a/b")
    assert plan.either == "word"


def test_round_trip(tmp_path: Path) -> None:
    plan = decode(Plan, FULL)
    assert decode(Plan, encode(plan)) == plan
    (tmp_path / "plan.yaml").write_text(to_yaml(plan))
    assert load_config(Plan, tmp_path / "plan.yaml") == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "nmae: Plan has no such field .* did you mean 'name'"),
        ({"shape": {"kind": "circle", "radus": 1}}, r"shape\.radus: .* did you mean 'radius'"),
        ({"shape": {"kind": "cirle"}}, r"shape\.kind: expected one of circle, square, got 'cirle'; did you mean"),
        ({"shape": {"kind": "circle"}}, "shape: Circle needs radius"),
        ({"shape": {"kind": "square", "side": 0}}, "shape: side must be at least 1, got 0"),
        ({"extra": [{"kind": "square", "side": 1.5}]}, r"extra\[0\]\.side: expected int, got 1.5"),
        ({"size": [1]}, "size: expected 2 items"),
        ({"mode": "fastt"}, "mode: expected one of .* did you mean 'fast'"),
        ({"name": 3}, "name: expected str, got 3"),
        ({"extra": "ab"}, "extra: expected a list"),
        ({"folder": 3}, "folder: expected a path, got 3"),
        ({"size": [True, 1]}, r"size\[0\]: expected int, got True"),
    ],
)
def test_errors_name_the_field(change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(Plan, {**FULL, **change})


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("name: a\nshape: {kind: circle, radius: 1}\nextra: [{kind: square, side: 1}]\n")
    plan = load_config(Plan, path, ["shape.radius=1e-3", "extra.0.side=7", "folder=x/y", "size=[5,6]"])
    assert plan == Plan(name="a", shape=Circle(radius=1e-3), extra=[Square(side=7)], folder=Path("x/y"), size=(5, 6))
    assert load_config(Plan, path, ["shape={kind: square, side: 4}"]).shape == Square(side=4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("radius", "expected key=value"),
        ("shape.radios=1", r"shape\.radios: .* did you mean 'radius'"),
        ("name={a", "plan.yaml: "),
    ],
)
def test_bad_overrides(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("name: a\nshape: {kind: circle, radius: 1}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(Plan, path, [override])


def test_missing_or_broken_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(Plan, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(Plan, tmp_path / "bad.yaml")


def test_preset_fills_in_what_is_not_said() -> None:
    plan = decode(Plan, {"name": "a", "shape": {"kind": "square"}, "preset": "big", "mode": "fast"})
    assert (plan.size, plan.mode) == ((10, 20), "fast")
    with pytest.raises(ConfigError, match="preset: Plan has presets big, got 'bigg'; did you mean 'big'"):
        decode(Plan, {"name": "a", "shape": {"kind": "square"}, "preset": "bigg"})
