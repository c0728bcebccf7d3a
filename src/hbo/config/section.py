"""What the parts of a configuration have in common: frozen, no unknown keys, and one sentence for a wrong value."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from hbo.errors import ConfigError
from hbo.text import nearest

_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def truth(value: Any) -> Any:
    """True or False for a word that stands for it, anything else as it is; asked where a truth is meant.

    Example:
        >>> truth("No"), truth("Norwegian"), truth(1)
        (False, 'Norwegian', 1)
    """
    return _TRUTHS.get(value.lower(), value) if isinstance(value, str) else value


Switch = Annotated[StrictBool, BeforeValidator(truth)]
"""True or false, in any of their words."""


class Section(BaseModel):
    """A part of the configuration.

    Raises:
        ConfigError: A value is wrong; names its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    also_takes: ClassVar[tuple[str, ...]] = ()
    """Keys that are turned into others when the section is read."""

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {complaint(error, type(self))[1]}") from None

    # As pydantic marks its own: validation of a whole file goes past it, and so keeps the path to the key at fault.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        takes = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and takes is not bool:  # which would pass as 0 or 1
            told = written(value)
            raise ValueError(f"can't be true or false, but is {told}; quote it if you mean text ('{told}')")
        return value


Key = tuple[str | int, ...]
"""Where a value stands: the keys (and places in lists) on the way to it."""

_SHOWN = 80


def complaint(error: ValidationError, model: type[Section]) -> tuple[Key, str]:
    """What is wrong with the first value that `model` refused, unknown keys before others, and the key it is about.

    Of a missing key that is the section which lacks it.
    """
    problem = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    path, section = _walked(tuple(problem["loc"]), model)
    key = ".".join(str(part) for part in path)
    match problem["type"]:
        case "extra_forbidden":
            known = [*section.model_fields, *section.also_takes]
            said = f"unknown key '{key}'{nearest(str(path[-1]), known)}; known keys here: {', '.join(known)}"
        case "missing":
            return path[:-1], f"the key '{key}' is missing; add it"
        case "value_error":
            reason = str(problem["ctx"]["error"])
            said = f"{key}: {reason}" if key else reason
        case _:
            said = f"'{key}' is {shown(problem['input'])}, but {problem['msg'][0].lower()}{problem['msg'][1:]}"
            if problem["type"] == "string_type" and not isinstance(problem["input"], list | dict):
                said += f"; quote it if you mean text ('{written(problem['input'])}')"
    return path, said


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


def _walked(path: Key, model: type[Section]) -> tuple[Key, type[Section]]:
    """The path without the types that pydantic appends where a value may have several, and the section it ends in."""
    for depth, part in enumerate(path):
        if part in model.model_fields:  # else a dataset's own name: its entry is the model below
            inner = _section(model, str(part))
            if inner is None:
                return path[: depth + 1], model
            model = inner
    return path, model


def _section(model: type[Section], field: str) -> type[Section] | None:
    annotation = model.model_fields[field].annotation
    inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, Section)]
    return inner[0] if inner else None
