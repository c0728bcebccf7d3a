"""What the models of a run folder's files share: types, reading and writing, one sentence for what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictFloat,
    ValidationError,
    model_validator,
)

from hbo.atomic import write_file
from hbo.errors import DataError

Count = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Gap = Annotated[
    StrictFloat,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(lambda value: None if math.isnan(value) else value),
]
"""A number that may not have been measured: null in the file (JSON has no NaN), NaN in Python."""

AGAIN = "remove the file, or run again"
_NEEDED = {"float_type": "a number", "string_type": "a text"}
_NEEDED |= dict.fromkeys(("int_type", "greater_than_equal", "less_than"), "a whole number")


class Record(BaseModel):
    """A file, or a part of one; keys that another version of hbo has written are passed over."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)
    remedy: ClassVar[str] = AGAIN
    """What the user can do about a wrong file."""
    item: ClassVar[str] = "dataset"
    """What the keys of the file's mappings name."""
    indent: ClassVar[int | None] = None

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, value: Any) -> Any:
        if not isinstance(value, dict | cls):
            raise ValueError("must hold " + ", ".join(field.alias or key for key, field in cls.model_fields.items()))
        return value

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """What `file` holds, or None when there is no such file.

        Raises:
            DataError: It can't be read, or a value is missing or has the wrong type.
        """
        data = read_object(file)
        return None if data is None else cls.checked(data, str(file))

    @classmethod
    def checked(cls, data: Any, source: str) -> Self:
        """JSON values as this model has them; `source` is the file, for the error.

        Raises:
            DataError: A value is missing or has the wrong type.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DataError(f"{source}: {_problem(error, cls.item)}; {cls.remedy}") from None

    def write(self, file: Path) -> None:
        """Makes `file` hold this.

        Raises:
            DataError: It can't be written.
        """
        write_file(file, self.to_json())

    def to_json(self) -> str:
        """The file's text; a value that was never given is left out."""
        values = self.model_dump(by_alias=True, exclude_unset=True)
        return json.dumps(values, indent=self.indent, ensure_ascii=False) + "\n"


def read_object(file: Path) -> dict[str, Any] | None:
    """The JSON object in `file`, or None when there is no such file.

    Raises:
        DataError: The file can't be read or holds something else.
    """
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a ValueError for a name that no file system takes
        raise DataError(f"{file}: can't be read ({getattr(error, 'strerror', error)})") from None
    return parsed_object(text, file, AGAIN)


def parsed_object(text: bytes, file: Path, remedy: str, line: int | None = None) -> dict[str, Any]:
    """The JSON object in `text`, which is all of `file`, or one `line` of it.

    Raises:
        DataError: It is something else.
    """
    where = f"{file}, line {line}" if line else str(file)
    try:
        data = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8; {remedy}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {line or error.lineno}: not JSON ({error.msg}); {remedy}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not JSON; {remedy}") from None
    if not isinstance(data, dict):
        raise DataError(f"{where}: not a JSON object; {remedy}")
    return data


def brief(value: Any) -> str:
    """A value as far as an error has room for it."""
    return repr(str(value)[:40])


def _problem(error: ValidationError, item: str) -> str:
    first = error.errors(include_url=False)[0]
    keys = [str(key)[:40] for key in first["loc"] if isinstance(key, str)]
    where = f"'{keys[0]}'"
    if len(keys) > 1:
        where += f", {item} '{keys[1]}':" + (f" '{keys[-1]}'" if len(keys) > 2 else "")
    if first["type"] == "value_error":
        return f"{where} {first['ctx']['error']}"
    needed = _NEEDED.get(first["type"])
    said = f"is {brief(first['input'])} where {needed} is needed" if needed else "is missing or of the wrong type"
    return f"{where} {said}"
