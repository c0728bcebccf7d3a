"""A pydantic error → one sentence that names the key, the value and the remedy."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hbo.errors import nearest

Key = tuple[str | int, ...]
"""Where a value stands: the keys (and places in lists) on the way to it."""

_SHOWN = 80


def place(error: ValidationError, model: type[BaseModel]) -> Key:
    """The key that the sentence is about; of a missing one, the section that lacks it."""
    problem = _first(error)
    path = _without_types(tuple(problem["loc"]), model)
    return path[:-1] if problem["type"] == "missing" else path


def sentence(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with the first value that `model` refused; an unknown key comes first."""
    problem = _first(error)
    path = _without_types(tuple(problem["loc"]), model)
    key = ".".join(str(part) for part in path)
    match problem["type"]:
        case "extra_forbidden":
            known = _fields_at(path[:-1], model)
            return f"unknown key '{key}'{nearest(str(path[-1]), known)}; known keys here: {', '.join(known)}"
        case "missing":
            return f"the key '{key}' is missing; add it"
        case "value_error":
            reason = str(problem["ctx"]["error"])
            return f"{key}: {reason}" if key else reason
        case _:
            told = f"'{key}' is {shown(problem['input'])}, but {problem['msg'][0].lower()}{problem['msg'][1:]}"
            wants_text = problem["type"] == "string_type" and not isinstance(problem["input"], list | dict)
            return f"{told}; quote it if text is meant ('{written(problem['input'])}')" if wants_text else told


def shown(value: Any) -> str:
    """A value as far as a message has room for it, whatever its size or depth.

    Example:
        >>> shown("often"), shown(1 << 99999), shown([1, [2, 3]])
        ("'often'", 'a number of 100000 bits', 'a list of 2')
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, list | tuple | set | dict):
        # Never its repr: a few aliases of YAML can stand for gigabytes.
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, float):
        return str(value)
    return repr(value[:_SHOWN] if isinstance(value, str) else value)[:_SHOWN]


def written(value: Any) -> str:
    """A scalar as YAML has it.

    Example:
        >>> written(None), written(True), written(1.5)
        ('null', 'true', '1.5')
    """
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else shown(value)


def _first(error: ValidationError) -> Any:
    return min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")


def _without_types(path: Key, model: type[BaseModel]) -> Key:
    # Where a value may have one of several types, pydantic appends the type to the path of its key.
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


def _fields_at(path: Key, model: type[BaseModel]) -> list[str]:
    for part in path:
        if part in model.model_fields:  # else a dataset's own name: its entry is the model below
            model = _section(model, str(part)) or model
    return list(model.model_fields) + (["global", "local"] if model.__name__ == "HBOConfig" else [])
