"""What the models of a run folder's files have in common: types, reading, and one sentence for what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from hbo.errors import DataError

Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Whole = Annotated[Count, BeforeValidator(lambda value: int(value) if _is_whole(value) else value)]
"""A count, written 3 or, as other programs do, 3.0."""
Gap = Annotated[
    Number,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value),
]
"""A number that may not have been measured: null in the file (JSON has no NaN), NaN in Python."""

AGAIN = "remove the file, or run again"
_NEEDED = {"float_type": "a number", "string_type": "a text", "bool_type": "true or false"}
_WHOLE = ("int_type", "greater_than_equal", "less_than")


class Record(BaseModel):
    """A file, or a part of one; keys that another version of hbo has written are passed over."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict | cls):
            raise ValueError("must hold " + ", ".join(field.alias or key for key, field in cls.model_fields.items()))
        return value

    @classmethod
    def checked(cls, data: Any, source: str, remedy: str = AGAIN, item: str = "dataset") -> Self:
        """`data` as this model has it.

        Args:
            data: JSON values.
            source: The file, for the error.
            remedy: What the user can do about a wrong file.
            item: What the keys of its mappings name.

        Raises:
            DataError: A value is missing or has the wrong type.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DataError(f"{source}: {_problem(error, item)}; {remedy}") from None

    @classmethod
    def read(cls, file: Path, remedy: str = AGAIN, item: str = "dataset") -> Self | None:
        """What `file` holds, or None when there is no such file.

        Raises:
            DataError: It can't be read, or a value is missing or has the wrong type.
        """
        data = read_object(file)
        return None if data is None else cls.checked(data, str(file), remedy, item)

    def to_json(self, indent: int | None = None) -> str:
        """The file's text; a value that was never given is left out."""
        values = self.model_dump(by_alias=True, exclude_unset=True)
        return json.dumps(values, indent=indent, ensure_ascii=False) + "\n"


def read_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in `file`, or None when there is no such file.

    Raises:
        DataError: The file can't be read or holds something else.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: not JSON ({error.msg}); {AGAIN}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{file}: not JSON; {AGAIN}") from None
    if not isinstance(data, dict):
        raise DataError(f"{file}: must hold a JSON object")
    return data


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def brief(value: Any) -> str:
    """A value as far as an error has room for it."""
    return repr(str(value)[:40])


def _problem(error: ValidationError, item: str) -> str:
    first = error.errors(include_url=False)[0]
    keys = [str(key)[:40] for key in first["loc"] if isinstance(key, str)]
    where = f"'{keys[0]}'"
    if len(keys) > 1:
        where += f", {item} '{keys[1]}':" + (f" '{keys[-1]}'" if len(keys) > 2 else "")
    kind = first["type"]
    if kind == "value_error":
        return f"{where} {first['ctx']['error']}"
    if kind in _NEEDED or kind in _WHOLE:
        return f"{where} is {brief(first['input'])} where {_NEEDED.get(kind, 'a whole number')} is needed"
    return f"{where} is missing or of the wrong type"
