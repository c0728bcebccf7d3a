"""A YAML file and `key=value` overrides → RunConfig, or one sentence that names file, line and key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hbo.config import RunConfig
from hbo.errors import ConfigError
from hbo.mixture_config import stem
from hbo.validation import Key, place, sentence

_RECIPES = Path(__file__).parent / "recipe_files"  # the wheel's copy of recipes/
_LONGEST = 2**20  # characters of a configuration
_MOST_NODES = 100_000  # keys and values, those that aliases stand for included


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The run that `path` describes, with `overrides` such as `balance.probes=8` on top.

    Where there is no such file, `recipes/NAME` is the recipe of that name that came with an installed hbo.

    Raises:
        ConfigError: The file is missing, not UTF-8, not YAML, or holds a key or value that can't be used.
    """
    file = _found(Path(path))
    data, root = _read_yaml(read_text(file), str(file))
    lines = {} if root is None else _lines(root, str(file))
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: holds no keys; a configuration starts with `model:` and `mixture:`")
    for override in overrides:
        key = _apply(data, override)
        lines = {path: line for path, line in lines.items() if path[: len(key)] != key}
    return parse(data, source=str(file), lines=lines)


def parse(data: Mapping[str, Any], source: str = "configuration", lines: Mapping[Key, int] | None = None) -> RunConfig:
    """A checked RunConfig from plain data.

    Raises:
        ConfigError: Some key or value can't be used; the first is named with its place.
    """
    try:
        return RunConfig.model_validate(data).resolved()
    except ValidationError as error:
        line = (lines or {}).get(place(error, RunConfig))
        raise ConfigError(f"{source}{f', line {line}' if line else ''}: {sentence(error, RunConfig)}") from None


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


def _found(file: Path) -> Path:
    folder, *rest = file.parts or ("",)
    packaged = _RECIPES.joinpath(*rest)
    return packaged if folder == "recipes" and not file.exists() and packaged.is_file() else file


def _apply(data: dict[str, Any], override: str) -> Key:
    key, sign, raw = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"'{override}' is no override; write key=value, such as balance.probes=8")
    value, _ = _read_yaml(raw, f"'{override}'"[:200])
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


def _read_yaml(text: str, source: str) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and its nodes, which know their lines."""
    if len(text) > _LONGEST:
        raise ConfigError(f"{source}: has {len(text)} characters, which is no configuration; give at most {_LONGEST}")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _check_size(root, source)
        return yaml.safe_load(text), root
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "syntax error"
    except (ValueError, RecursionError) as error:  # 2024-13-45 looks like a date; brackets in brackets
        at, reason = "", str(error)
    except (AttributeError, LookupError, TypeError):  # PyYAML's own readers of !!bool, !!int and !!timestamp
        at, reason = "", "a value doesn't fit its tag"
    raise ConfigError(f"{source}{at}: not valid YAML ({reason}); mend it, or quote the value")


def _check_size(root: yaml.Node, source: str) -> None:
    # Counted with its aliases written out: a few lines of them can stand for billions of values, or for themselves.
    waiting, count = [root], 0
    while waiting:
        node = waiting.pop()
        count += 1
        if count > _MOST_NODES:
            raise ConfigError(
                f"{source}: holds more than {_MOST_NODES} keys and values, its aliases (*name) written out; write "
                "fewer, and no alias inside of what it stands for"
            )
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _lines(root: yaml.Node, source: str) -> dict[Key, int]:
    found: dict[Key, int] = {}

    def walk(node: yaml.Node, path: Key) -> None:
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

    walk(root, ())
    del found[()]  # the whole file has no line
    return found


def _plain(node: yaml.Node) -> Any:
    return {key.value: value.value for key, value in node.value} if isinstance(node, yaml.MappingNode) else node.value
