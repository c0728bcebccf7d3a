"""YAML ↔ plain data, as people mean it: `no` is a language, `1e-3` a number, and a key is what is written.

Values are read by the core schema of YAML 1.2, in which true and false are the only words for a truth, and `no`, `on`,
`12:30` and `2024-01-01` are text. A whole number with leading zeros (`010`) is text too. Where a field takes true or
false, what YAML 1.1 called by these names (`yes`, `no`, `on`, `off`) still does: its type is what tells, and of the
mappings inside of `train:` and `lora:`, whose types nobody knows, it is taken for granted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from hbo.config.section import Key
from hbo.errors import ConfigError

_LONGEST = 2**20  # characters of a configuration
_MOST_NODES = 100_000  # keys and values, those that aliases stand for included
_TAG = "tag:yaml.org,2002:"
_CORE = {
    "bool": ("tTfF", r"true|True|TRUE|false|False|FALSE"),
    "null": ("~nN", r"~|null|Null|NULL|"),
    "int": ("-+0123456789", r"[-+]?(0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+"),
    "float": (
        "-+.0123456789",
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
    "merge": ("<", r"<<"),
}
"""Kind → the characters it may begin with, and what is read as it; the first that fits."""
_OLD_TRUTH = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_UNTYPED = ("train", "lora")
_DEEP = 3  # keys until an option inside of one of these sections: train.fsdp_config.cpu_offload


class _Reader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - none of YAML 1.1's


class _Writer(yaml.SafeDumper):
    """Quotes what YAML 1.1 or the core schema would take for something else than text."""


for _kind, (_first, _pattern) in _CORE.items():
    for _side in (_Reader, _Writer):
        _side.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


def read_yaml(text: str, source: str, at: Key = ()) -> tuple[Any, yaml.Node | None]:
    """The value of a YAML text, and its nodes, which know their lines.

    Args:
        text: What is written.
        source: Where, for errors.
        at: The keys under which the value stands in a configuration.

    Raises:
        ConfigError: It is no YAML, or too much of it.
    """
    if len(text) > _LONGEST:
        raise ConfigError(f"{source}: has {len(text)} characters, too many for a configuration; use at most {_LONGEST}")
    try:
        reader = _Reader(text)
        root = reader.get_single_node()
        if root is None:
            return None, None
        _check_size(root, source)
        _settle_kinds(root, at)
        return reader.construct_document(root), root
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "syntax error"
    except (ValueError, RecursionError) as error:  # brackets in brackets
        where, reason = "", str(error)
    except (AttributeError, LookupError, TypeError):  # PyYAML's own readers of !!bool, !!int and !!timestamp
        where, reason = "", "a value doesn't fit its tag"
    raise ConfigError(f"{source}{where}: not valid YAML ({reason}); fix it, or quote the value")


def write_yaml(value: Any, **options: Any) -> str:
    """Plain data as YAML that `read_yaml`, and a reader of YAML 1.1, read back to the same.

    `options` are PyYAML's, such as `default_flow_style`.

    Example:
        >>> print(write_yaml({"no": "1e-3", "sv": 0.001}), end="")
        'no': '1e-3'
        sv: 0.001
    """
    return str(yaml.dump(value, Dumper=_Writer, sort_keys=False, allow_unicode=True, **options))


def _check_size(root: yaml.Node, source: str) -> None:
    # Counted with its aliases written out: a few lines of them can stand for billions of values, or for themselves.
    count = 1
    for node, _, _ in _nodes(root, ()):
        count += len(node.value) * (1 + isinstance(node, yaml.MappingNode)) * isinstance(node, yaml.CollectionNode)
        if count > _MOST_NODES:
            raise ConfigError(
                f"{source}: holds more than {_MOST_NODES} keys and values once its aliases (*name) are expanded; "
                "use fewer, and no alias inside the value that it names"
            )


def _settle_kinds(root: yaml.Node, at: Key) -> None:
    """Makes text of every key, and truths of YAML 1.1's words where no type will ever say so."""
    for node, path, is_key in _nodes(root, at[:_DEEP]):
        if not isinstance(node, yaml.ScalarNode):
            continue
        section = path[0] if path else None
        if is_key:
            # Some keys of libraries are numbers, as in max_memory: {0: 20GiB}; a name never is.
            may_be_number = node.tag == f"{_TAG}int" and section != "mixture"
            if node.tag != f"{_TAG}merge" and not may_be_number:
                node.tag = f"{_TAG}str"
            continue
        is_untyped = section in _UNTYPED and len(path) == _DEEP and isinstance(path[-1], str)
        if is_untyped and node.style is None and _OLD_TRUTH.fullmatch(node.value):
            node.tag = f"{_TAG}bool"


def _nodes(root: yaml.Node, at: Key) -> Iterator[tuple[yaml.Node, Key, bool]]:
    """Every node, the first keys on the way to it, and whether it is a key itself."""
    waiting: list[tuple[yaml.Node, Key, bool]] = [(root, at, False)]
    while waiting:
        node, path, is_key = waiting.pop()
        yield node, path, is_key
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                waiting += [(key, path, True), (value, (*path, name)[:_DEEP], False)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(value, (*path, i)[:_DEEP], False) for i, value in enumerate(node.value)]
