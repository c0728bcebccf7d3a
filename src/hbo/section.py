"""What the parts of a configuration have in common: frozen, no unknown keys, and one sentence for a wrong value."""

from __future__ import annotations

from typing import Annotated, Any

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
from hbo.validation import sentence, written

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

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise ConfigError(f"{type(self).__name__}: {sentence(error, type(self))}") from None

    # As pydantic marks its own: validation of a whole file goes past it, and so keeps the path to the key at fault.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        takes = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and takes is not bool:  # which would pass as 0 or 1
            told = written(value)
            raise ValueError(f"takes no true or false, but is {told}; quote it if text is meant ('{told}')")
        return value
