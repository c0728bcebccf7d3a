"""A YAML file and `key=value` overrides → RunConfig, or one sentence that names file, line and key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from hbo.config import RunConfig, stem
from hbo.errors import ConfigError, nearest

_Key = tuple[str | int, ...]


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that `path` describes, with `overrides` such as `balance.probes=8` on top.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or holds a key or value that can't be used.
    """
    file = Path(path)
    text = read_text(file)
    try:
        data = yaml.safe_load(text)
        lines = _lines(text, str(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{at}: not valid YAML ({getattr(error, 'problem', None) or 'syntax error'})") from None
    except (ValueError, RecursionError) as error:  # 2024-13-45 looks like a date; an alias can hold itself
        raise ConfigError(f"{file}: not valid YAML ({error})") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: holds no keys; a configuration starts with `model:` and `mixture:`")
    for override in overrides:
        key = _apply(data, override)
        lines = {path: line for path, line in lines.items() if path[: len(key)] != key}
    return parse(data, source=str(file), lines=lines)


def parse(data: Mapping[str, Any], source: str = "configuration", lines: Mapping[_Key, int] | None = None) -> RunConfig:
    """A checked RunConfig from plain data.

    Raises:
        ConfigError: Some key or value can't be used; the first is named with its place.
    """
    try:
        return RunConfig.model_validate(data).resolved()
    except ValidationError as error:
        raise ConfigError(_sentence(error, source, lines or {})) from None


def read_text(file: Path) -> str:
    """The file's text.

    Raises:
        ConfigError: The file is missing, a folder, unreadable or not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; give the path of a YAML configuration") from None
    except IsADirectoryError:
        raise ConfigError(f"{file}: is a folder; give the path of a YAML configuration inside it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from None


def dump(config: RunConfig) -> str:
    """The configuration as YAML that `load` reads back to an equal one."""
    data = config.model_dump(mode="python", by_alias=True)
    for tier in ("global_reward", "local_reward"):
        if callable(reward := data["balance"][tier]):
            data["balance"][tier] = f"{reward.__module__}:{reward.__qualname__}"
    # The prior stands under `mixture:`; written twice, a later edit of one would be a contradiction.
    del data["balance"]["temperature"]
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _apply(data: dict[str, Any], override: str) -> _Key:
    key, sign, raw = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"'{override}' is no override; write key=value, such as balance.probes=8")
    try:
        value = yaml.safe_load(raw) if raw else None
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"'{override}': the value is not valid YAML; quote it") from None
    if isinstance(value, str):
        value = _number(value)
    node: Any = data
    *parents, last = key.split(".")
    for name in parents:
        if node.get(name) is None:
            node[name] = {}
        node = node[name]
        if not isinstance(node, dict):
            raise ConfigError(f"'{override}': '{name}' holds a value and no keys")
    node[last] = value
    return (*parents, last)


def _number(text: str) -> Any:
    # YAML 1.1 reads 1e-4 as a string; nobody who types it on a command line means one.
    try:
        return float(text)
    except ValueError:
        return text


def _lines(text: str, source: str) -> dict[_Key, int]:
    found: dict[_Key, int] = {}

    def walk(node: yaml.Node, path: _Key) -> None:
        found[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if first := seen.get(key.value):
                    raise ConfigError(f"{source}, line {line}: the key '{key.value}' stands in line {first} already")
                walk(value, (*path, key.value))
                found[(*path, key.value)] = seen[key.value] = line
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                named = path == ("mixture", "datasets")
                walk(value, (*path, stem(_plain(value)) if named else index))

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        walk(root, ())
        del found[()]  # the whole file has no line
    return found


def _plain(node: yaml.Node) -> Any:
    return {key.value: value.value for key, value in node.value} if isinstance(node, yaml.MappingNode) else node.value


def _sentence(error: ValidationError, source: str, lines: Mapping[_Key, int]) -> str:
    problem = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path = _without_types(tuple(problem["loc"]))
    shown = ".".join(str(part) for part in path)
    line = lines.get(path[:-1] if problem["type"] == "missing" else path)
    where = f"{source}, line {line}" if line else source
    if problem["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        what = f"unknown key '{shown}'{nearest(str(path[-1]), known)}; known keys here: {', '.join(known)}"
    elif problem["type"] == "missing":
        what = f"the key '{shown}' is missing; add it"
    elif problem["type"] == "value_error":
        reason = str(problem["ctx"]["error"])
        what = f"{shown}: {reason}" if shown else reason
    else:
        value = problem["input"]
        shown_value = repr(value) if not isinstance(value, float) or math.isfinite(value) else str(value)
        what = f"'{shown}' is {shown_value[:80]}, but {problem['msg'][0].lower()}{problem['msg'][1:]}"
    return f"{where}: {what}"


def _without_types(path: _Key) -> _Key:
    # Where a value may have one of several types, pydantic appends the type to the path of its key.
    model: type[BaseModel] = RunConfig
    for depth, part in enumerate(path):
        if part in model.model_fields:
            inner = _section(model, str(part))
            if inner is None:
                return path[: depth + 1]
            model = inner
    return path


def _section(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    annotation = model.model_fields[field].annotation
    inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
    return inner[0] if inner else None


def _fields_at(path: _Key) -> list[str]:
    model: type[BaseModel] = RunConfig
    for part in path:
        if part in model.model_fields:  # else a dataset's own name: its entry is the model below
            model = _section(model, str(part)) or model
    return list(model.model_fields) + (["global", "local"] if model.__name__ == "HBOConfig" else [])
