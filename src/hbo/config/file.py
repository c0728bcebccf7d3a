"""A YAML file and `key=value` overrides → RunConfig, or one sentence that names file, line and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hbo.config import RunConfig
from hbo.config.balance import written_out
from hbo.config.data import stem
from hbo.config.section import Key, complaint
from hbo.config.yaml_text import read_yaml, write_yaml
from hbo.errors import ConfigError

_RECIPES = Path(__file__).parents[1] / "recipe_files"  # the wheel's copy of recipes/


def load(path: str | Path, overrides: Sequence[str] = (), *, without: Sequence[str] = ()) -> RunConfig:
    """The run that `path` describes, with `overrides` such as `balance.probes=8` on top.

    Keys named in `without`, such as `balance.actor.kind`, are read as if the file did not have them. If there is no
    file `recipes/NAME`, the recipe of that name that is installed with hbo is read.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or holds a key or value that can't be used.
    """
    file = _found(Path(path))
    data, root = read_yaml(read_text(file), str(file))
    lines = {} if root is None else _lines(root, str(file))
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: holds no keys; a configuration starts with `model:` and `mixture:`")
    for name in without:
        _forget(data, name.split("."))
    for override in overrides:
        key = _apply(data, override)
        lines = {path: line for path, line in lines.items() if path[: len(key)] != key}
    return parse(data, source=str(file), lines=lines)


def parse(data: Mapping[str, Any], source: str = "configuration", lines: Mapping[Key, int] | None = None) -> RunConfig:
    """A checked RunConfig from plain data.

    Raises:
        ConfigError: A key or value can't be used; the message names the first one and its place.
    """
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        key, said = complaint(error, RunConfig)
        line = (lines or {}).get(key)
        raise ConfigError(f"{source}{f', line {line}' if line else ''}: {said}") from None


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
    """The configuration as YAML that `load` reads back to the same settings."""
    data = config.model_dump(mode="python", by_alias=True)
    data["balance"] = written_out(config.balance)
    # YAML has it here; written twice, a later edit of one would be a contradiction.
    data["mixture"]["temperature"] = data["balance"].pop("temperature")
    return write_yaml(data)


def _forget(data: Any, key: Sequence[str]) -> None:
    for part in key[:-1]:
        data = data.get(part) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data.pop(key[-1], None)


def _found(file: Path) -> Path:
    folder, *rest = file.parts or ("",)
    packaged = _RECIPES.joinpath(*rest)
    return packaged if folder == "recipes" and not file.exists() and packaged.is_file() else file


def _apply(data: dict[str, Any], override: str) -> Key:
    key, sign, raw = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"'{override}' isn't an override; write key=value, such as balance.probes=8")
    node: Any = data
    path: Key = ()
    parts = key.split(".")
    while True:
        name, parts = _next(node, parts)
        path = (*path, name)
        if not parts:
            break
        inner = _written_out(path, node.get(name) if isinstance(node, dict) else node[name])
        if not isinstance(inner, dict | list):
            raise ConfigError(f"'{override}': '{name}' is a single value, so it has no keys to set")
        node[name] = inner.copy()  # an alias may stand for it elsewhere
        node = node[name]
    node[name], _ = read_yaml(raw, f"'{override}'"[:200], path)
    return path


def _next(node: Any, parts: list[str]) -> tuple[str | int, list[str]]:
    """The key that `parts` begin with, and the rest; one that is there already may hold dots, a list has numbers."""
    if isinstance(node, list):
        if not parts[0].isdecimal() or int(parts[0]) >= len(node):
            raise ConfigError(
                f"'{parts[0]}' isn't a position in the list, which has {len(node)} entries, counted from 0"
            )
        return int(parts[0]), parts[1:]
    known = [length for length in range(len(parts), 1, -1) if ".".join(parts[:length]) in node]
    length = known[0] if known else 1
    return ".".join(parts[:length]), parts[length:]


def _written_out(path: Key, value: Any) -> Any:
    """What may be written for short, with the keys that it stands for."""
    match path, value:
        case _, None:
            return {}
        case ("mixture", "datasets"), list() if len(set(map(stem, value))) == len(value):
            return {stem(entry): entry for entry in value}
        case ("mixture", "datasets", _), str():
            return {"path": value}
        case ("balance", "update_every"), int():
            return {"global": value, "local": value}
    return value


def _lines(root: yaml.Node, source: str) -> dict[Key, int]:
    found: dict[Key, int] = {}

    def walk(node: yaml.Node, path: Key) -> None:
        found[path] = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if first := seen.get(key.value):
                    raise ConfigError(f"{source}, line {line}: the key '{key.value}' is already in line {first}")
                walk(value, (*path, key.value))
                found[(*path, key.value)] = seen[key.value] = line
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                named = path == ("mixture", "datasets")
                walk(value, (*path, stem(_plain(value)) if named else index))

    walk(root, ())
    del found[()]  # the whole file has no line
    return found


def _plain(node: yaml.Node) -> Any:
    return {key.value: value.value for key, value in node.value} if isinstance(node, yaml.MappingNode) else node.value
