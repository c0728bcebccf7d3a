"""What a user wrote → what a field of another library's dataclass takes, or one sentence that says why it can't be.

A value is converted where its meaning is beyond doubt: `'4'` and `4.0` are a whole number, `'1e-3'` is a number, `yes`
is a truth where one is meant, `'{"a": 1}'` is a mapping. Everything else is refused, with its key. What comes back is
plain data, as YAML holds it; `built` makes objects of the mappings that stand for some.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from hbo.config.section import truth, written
from hbo.errors import ConfigError
from hbo.text import nearest

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
_BOUNDS = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
_UNFIT = object()  # no value of a user's


def kinds_of(owner: Any) -> dict[str, Any]:
    """Field → what it takes, of a dataclass that may come from anywhere; Any where its own library can't tell.

    Example:
        >>> kinds_of(dataclasses.make_dataclass("Pair", [("left", int), ("right", "Nowhere")]))["right"]
        typing.Any
    """
    try:
        hints = get_type_hints(owner)
    except Exception:  # a name that is imported for type checkers only
        hints = {}
    return {field.name: hints.get(field.name, Any) for field in dataclasses.fields(owner) if field.init}


def fit_all(
    given: Mapping[str, Any], owner: Any, section: str, name: str, kinds: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of a section, each as its field takes it.

    Args:
        given: Key → value.
        owner: The dataclass whose fields the keys are.
        section: Where the keys stand, for messages.
        name: What users call the dataclass.
        kinds: What fields take that take something else than their own library says.

    Raises:
        ConfigError: A key is no field, or a value is none that it takes.
    """
    known = kinds_of(owner) | dict(kinds or {})
    choices = {field.name: field.metadata.get("choices", ()) for field in dataclasses.fields(owner)}
    found = {}
    for key, value in given.items():
        if key not in known:
            hint = nearest(key, known)
            raise ConfigError(f"unknown key '{section}.{key}'{hint}; {section}: takes the fields of {name}")
        found[key] = fit(value, known[key], f"{section}.{key}", () if key in (kinds or {}) else choices[key])
    return found


def fit(value: Any, kind: Any, key: str, choices: Sequence[str] = ()) -> Any:
    """`value` as `kind`, a type or a union of some, takes it; if there are `choices`, no other text will do.

    Raises:
        ConfigError: It can't be taken.

    Example:
        >>> fit("4", int, "train.max_steps"), fit("no", bool | None, "train.bf16"), fit(1, float, "train.weight_decay")
        (4, False, 1)
    """
    options: list[Any] = [Literal[tuple(choices)] if choices and each is str else each for each in _options(kind)]
    for option in sorted(options, key=lambda option: _rank(value, option)):
        found = _fitted(value, option, options, key)
        if found is not _UNFIT:
            return found
    told = f"{key} is {written(value)}, but takes {' or '.join(dict.fromkeys(map(_told, options)))}"
    kinds = [_base(option) for option in options]
    if str in kinds and not isinstance(value, str | list | dict):
        told += f"; quote it if you mean text ('{written(value)}')"
    elif value is None:
        told += "; leave it out for its default"
    known = [str(each) for option in options for each in _members(option)]
    raise ConfigError(told + (nearest(value, known) if isinstance(value, str) else ""))


def built(value: Any, kind: Any) -> Any:
    """`value`, which fits, as an object where its kind is a dataclass and a mapping wouldn't do."""
    options = list(_options(kind))
    owner: Any = next((option for option in options if dataclasses.is_dataclass(option)), None)
    if owner is None or not isinstance(value, Mapping) or any(_origin(option) is dict for option in options):
        return value
    kinds = kinds_of(owner)
    return owner(**{name: built(inner, kinds[name]) for name, inner in value.items()})


def _rank(value: Any, option: Any) -> int:
    """Which of several kinds is tried first: the one that says most about the value, then the one that it has."""
    if isinstance(value, Mapping):
        return 0 if dataclasses.is_dataclass(option) else 1
    if isinstance(value, str):
        is_truth = isinstance(truth(value), bool) and (option is bool or truth(value) in _members(option))
        is_mapping = _origin(option) is dict and value.lstrip().startswith("{")
        return 0 if is_truth or is_mapping else 1 if option is str else 2
    return 0 if option is type(value) else 1


def _fitted(value: Any, option: Any, options: Sequence[Any], key: str) -> Any:
    """`value` as this one of the `options` takes it, or `_UNFIT`."""
    base, kinds = _base(option), [_base(each) for each in options]
    if base is Any:
        return value
    if base is NoneType:
        return None if value is None or (value in ("None", "none") and str not in kinds) else _UNFIT
    if members := _members(option):
        return _member(value, members)
    if base is bool:
        is_digit = isinstance(value, int) and value in (0, 1)
        return bool(value) if is_digit else found if isinstance(found := truth(value), bool) else _UNFIT
    if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
        return fit_all(value, option, key, getattr(option, "__name__", key))
    if _origin(option) is dict:
        return _mapping(value, option, key)
    if _origin(option) is list:
        inner = (*get_args(option), Any)[0]
        several = [value] if isinstance(value, str) and str not in kinds else value
        if not isinstance(several, list):
            return _UNFIT
        return [fit(each, inner, f"{key}[{i}]") for i, each in enumerate(several)]
    if isinstance(base, type) and base not in _WORDS:
        return value if isinstance(value, base) else _UNFIT
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if base is str and is_number and not {int, float} & set(kinds):
        value = str(value)
    return _scalar(value, option)


def _scalar(value: Any, option: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return _UNFIT  # which would pass as a number
    try:
        found = TypeAdapter(option).validate_python(value)
    except ValidationError:
        return _UNFIT
    return value if isinstance(value, int) and isinstance(found, float) else found


def _mapping(value: Any, option: Any, key: str) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return _UNFIT
    if not isinstance(value, Mapping):
        return _UNFIT
    inner = (*get_args(option), Any, Any)[1]
    return {name: fit(each, inner, f"{key}.{name}") for name, each in value.items()}


def _member(value: Any, members: Sequence[Any]) -> Any:
    given = value.value if isinstance(value, Enum) else value
    if given is False and "no" in members:
        return "no"  # as a bare `no` has been read for years, and as some write it
    for each in members:
        if (truth(given) is each) if isinstance(each, bool) else (given == each and not isinstance(given, bool)):
            return each
    return _UNFIT


def _options(kind: Any) -> Iterator[Any]:
    """What a value may be, one after the other."""
    if get_origin(kind) in (Union, UnionType):
        inner = [option for each in get_args(kind) for option in _options(each)]
        # Beside the names that there are, any other text would do nothing but hide a slip.
        has_names = any(isinstance(option, type) and issubclass(option, Enum) for option in inner)
        yield from (option for option in inner if not (has_names and option is str))
    else:
        yield NoneType if kind is None else kind


def _members(option: Any) -> list[Any]:
    """The values that there are, of a Literal or an Enum."""
    if get_origin(option) is Literal:
        return list(get_args(option))
    return [each.value for each in option] if isinstance(option, type) and issubclass(option, Enum) else []


def _base(option: Any) -> Any:
    """The kind without its bounds."""
    return get_args(option)[0] if get_origin(option) is Annotated else option


def _origin(option: Any) -> Any:
    return get_origin(option) or option


def _told(option: Any) -> str:
    if members := _members(option):
        return ("one of " if len(members) > 1 else "") + ", ".join(map(written, members))
    if _origin(option) is dict or dataclasses.is_dataclass(option):
        return "a mapping of keys to values"
    if _origin(option) in (list, tuple):
        inner = dict.fromkeys(_told(each) for each in get_args(option))
        return f"a list ({', '.join(inner)})" if inner else "a list"
    base = _base(option)
    told = _WORDS.get(base) or str(getattr(base, "__name__", base))
    if option is base:
        return told
    info = get_args(option)[1]
    if info.description:
        return str(info.description)
    bounds = [
        (name, bound) for each in info.metadata for name in _BOUNDS if (bound := getattr(each, name, None)) is not None
    ]
    return told + " and".join(f" {_BOUNDS[name]} {bound}" for name, bound in bounds)
