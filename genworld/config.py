"""Typed experiments: YAML and `a.b=c` overrides in, frozen dataclasses out. The only file that knows omegaconf.

Variants are unions of dataclasses with a tag, `kind: Literal["..."]`; the decoder picks the member by its tag. Every
error begins with the full path of the field it is about.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

T = TypeVar("T")


class ConfigError(ValueError):
    """A config does not fit its schema."""


def load_config(schema: type[T], path: str | Path, overrides: Sequence[str] = ()) -> T:
    """Read a YAML file, apply overrides such as `train.steps=100`, and decode it into `schema`.

    Raises:
        ConfigError: the file is missing or not YAML, an override is malformed, or a field does not fit.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config file; the ones that ship with genworld are in configs/")
    try:
        tree = OmegaConf.load(path)
        for override in overrides:
            key, equals, text = override.partition("=")
            if not equals or not key:
                raise ConfigError(f"override {override!r}: expected key=value, such as train.steps=100")
            value = OmegaConf.select(OmegaConf.from_dotlist([f"value={text}"]), "value")
            OmegaConf.update(tree, key, value, merge=False)
        data = OmegaConf.to_container(tree, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        return decode(schema, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def decode(schema: Any, value: Any, path: str = "") -> Any:
    """Turn plain data into `schema`: a dataclass, union, literal, list, tuple, dict, path or plain type.

    Raises:
        ConfigError: an unknown or missing key, a wrong type, or a tag that names no member.
    """
    origin, args = get_origin(schema), get_args(schema)
    if schema is Any:
        return value
    if dataclasses.is_dataclass(schema):
        return _decode_dataclass(typing.cast(type, schema), value, path)
    if origin in (Union, types.UnionType):
        return _decode_union(args, value, path)
    if origin is Literal:
        return value if value in args else _fail(path, f"expected one of {list(args)}, got {value!r}", value, args)
    if origin is dict:
        _expect(isinstance(value, Mapping), path, "a mapping", value)
        return {key: decode(args[1], item, _join(path, key)) for key, item in value.items()}
    if origin in (tuple, list):
        return _decode_sequence(origin, args, value, path)
    return _decode_plain(schema, value, path)


def encode(value: Any) -> Any:
    """The plain data that `decode` turns back into an equal value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def to_yaml(config: Any) -> str:
    """A config as YAML text, complete and resolved; `load_config` reads it back."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(encode(config)))


def _decode_dataclass(schema: type, value: Any, path: str) -> Any:
    _expect(isinstance(value, Mapping), path, f"a mapping for {schema.__name__}", value)
    fields = {field.name: field for field in dataclasses.fields(schema) if field.init}
    value = _fill_preset(schema, value, path)
    for key in value:
        if key not in fields:
            _fail(_join(path, key), f"{schema.__name__} has no such field (it has {', '.join(fields)})", key, fields)
    hints = _hints(schema)
    decoded = {key: decode(hints[key], item, _join(path, key)) for key, item in value.items()}
    missing = [name for name, field in fields.items() if name not in decoded and _required(field)]
    if missing:
        _fail(path, f"{schema.__name__} needs {', '.join(missing)}")
    try:
        return schema(**decoded)
    except ConfigError:
        raise
    except ValueError as error:  # what __post_init__ found wrong
        _fail(path, str(error))


def _fill_preset(schema: type, value: Mapping, path: str) -> Mapping:
    """`preset: name` stands for the fields of `schema.PRESETS[name]`; fields beside it win."""
    presets = getattr(schema, "PRESETS", {})
    if not presets or "preset" not in value:
        return value
    rest = dict(value)
    name = rest.pop("preset")
    if name not in presets:
        _fail(_join(path, "preset"), f"{schema.__name__} has presets {', '.join(presets)}, got {name!r}", name, presets)
    return {**presets[name], **rest}


def _decode_union(members: tuple, value: Any, path: str) -> Any:
    if value is None and types.NoneType in members:
        return None
    members = tuple(member for member in members if member is not types.NoneType)
    if len(members) == 1:
        return decode(members[0], value, path)
    tagged = {tag: member for member in members if dataclasses.is_dataclass(member) for tag in _tags(member)}
    if tagged and isinstance(value, Mapping):
        kind = value.get("kind")
        if kind not in tagged:
            _fail(_join(path, "kind"), f"expected one of {', '.join(tagged)}, got {kind!r}", kind, tagged)
        return decode(tagged[kind], value, path)
    for member in members:
        if dataclasses.is_dataclass(member):
            continue
        try:
            return decode(member, value, path)
        except ConfigError:
            continue
    names = [getattr(member, "__name__", str(member)) for member in members]
    return _fail(path, f"expected {' or '.join(names)}, got {value!r}")


def _decode_sequence(origin: type, args: tuple, value: Any, path: str) -> Any:
    _expect(isinstance(value, Sequence) and not isinstance(value, str), path, "a list", value)
    if origin is list or Ellipsis in args:
        each: Iterable = args[:1] * len(value)
    else:
        _expect(len(args) == len(value), path, f"{len(args)} items", value)
        each = args
    return origin(decode(item, entry, f"{path}[{i}]") for i, (item, entry) in enumerate(zip(each, value, strict=True)))


def _decode_plain(schema: type, value: Any, path: str) -> Any:
    if schema is Path:
        _expect(isinstance(value, (str, Path)), path, "a path", value)
        return Path(value)
    if schema is float and type(value) is int:
        return float(value)
    _expect(type(value) is schema, path, getattr(schema, "__name__", str(schema)), value)
    return value


@cache
def _hints(schema: type) -> dict[str, Any]:
    """The types of its fields: resolving them takes longer than decoding."""
    return typing.get_type_hints(schema)


def _tags(member: Any) -> tuple[str, ...]:
    """The values of `kind` that name this member of a union."""
    return get_args(_hints(member)["kind"])


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _expect(ok: bool, path: str, wanted: str, got: Any) -> None:
    if not ok:
        _fail(path, f"expected {wanted}, got {got!r}")


def _fail(path: str, message: str, word: Any = None, choices: Iterable = ()) -> NoReturn:
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{path or 'config'}: {message}{hint}")


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
