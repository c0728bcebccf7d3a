"""`balance.jsonl`: the balancer's ledger, a line for the start and one per update.

K datasets, L levels (groups of a dataset, easiest first).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictFloat,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass

from hbo.atomic import write_file
from hbo.errors import DataError
from hbo.folder.paths import LEDGER
from hbo.folder.records import Count, Gap, brief, parsed_object

# Written with a few decimals, a whole policy still sums to 1 within this.
_SUM_TOLERANCE = 1e-3
_REMEDY = "fix or remove the line"


def _in_order(value: Any, info: ValidationInfo) -> Any:
    """A mapping's values in the order of the run's datasets, which the reader hands on as context."""
    if info.context is None:
        return value
    if not isinstance(value, dict) or set(value) != set(info.context):
        raise ValueError(f"must name the same {len(info.context)} datasets as the first line")
    return [value[name] for name in info.context]


def _drawable(value: float) -> float:
    if abs(value) > 1e300:  # no axis of a figure reaches so far
        raise ValueError(f"holds {brief(value)} where a number is needed")
    return value


Values = tuple[Annotated[Gap, AfterValidator(_drawable)], ...]
Per_K = Annotated[Values, BeforeValidator(_in_order)]
Per_KL = Annotated[tuple[Annotated[Values, Field(min_length=1)], ...], BeforeValidator(_in_order)]
Counts_KL = Annotated[tuple[Annotated[tuple[Count, ...], Field(min_length=1)], ...], BeforeValidator(_in_order)]


@dataclass(frozen=True, config=ConfigDict(populate_by_name=True))
class Line:
    """One line of the ledger: the probabilities set at `step`, and what was measured to set them.

    Everything is ordered as the run's datasets are; a reward that wasn't measured is None as a
    whole, or NaN for one choice.
    """

    step: Count
    start: Count
    p_K: Annotated[Per_K, Field(alias="global")]
    q_KL: Annotated[Per_KL, Field(alias="local")]
    reward_K: Annotated[Per_K | None, Field(alias="global_reward")]
    reward_se_K: Annotated[Per_K | None, Field(alias="global_reward_se")]
    reward_KL: Annotated[Per_KL | None, Field(alias="local_reward")]
    reward_se_KL: Annotated[Per_KL | None, Field(alias="local_reward_se")]
    drawn_KL: Annotated[Counts_KL, Field(alias="drawn")]
    seconds: Annotated[StrictFloat, AfterValidator(_drawable)]
    probes: Annotated[Count, Field(alias="probe_examples")]
    per_row_KL: Annotated[Per_KL | None, Field(alias="examples_per_row")] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for key, policy in [("global", self.p_K), *(("local", q) for q in self.q_KL)]:
            # Written so that NaN is refused too: every comparison with it is false.
            if not (all(0 <= p <= 1 for p in policy) and abs(sum(policy) - 1) <= _SUM_TOLERANCE):
                raise ValueError(f"the probabilities under '{key}' must lie in 0..1 and sum to 1")
        per_group = {"local_reward": self.reward_KL, "local_reward_se": self.reward_se_KL, "drawn": self.drawn_KL}
        for key, rows in {**per_group, "examples_per_row": self.per_row_KL}.items():
            if rows is not None and [len(row) for row in rows] != [len(q) for q in self.q_KL]:
                raise ValueError(f"'{key}' must hold as many groups per dataset as 'local'")
        return self


_REWARDS = ("global_reward", "local_reward", "global_reward_se", "local_reward_se")
# What a line may lack; of the rest, null is refused.
_NULL = dict.fromkeys(("step", "start", "global", "local", *_REWARDS, "drawn"))
_ABSENT = {**_NULL, "seconds": 0.0, "probe_examples": 0}
_LINE = TypeAdapter(Line)


def rewrite_ledger(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Makes the file hold just `records`, in one move: what came after a checkpoint is gone at resume.

    Raises:
        DataError: It can't be written.
    """
    write_file(folder / LEDGER, "".join(map(_text, records)))


def append_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Adds a line and sees it onto the disk.

    Raises:
        DataError: It can't be written; a part of it may have been, which a resumed run removes.
    """
    try:
        with (folder / LEDGER).open("a", encoding="utf-8") as file:
            file.write(_text(record))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(
            f"{folder / LEDGER}: can't be written ({error.strerror or error}); free space, then go on from the last "
            "checkpoint (--resume)"
        ) from None


def read_lines(file: Path) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """The datasets' names and the ledger's lines; a last line torn by a kill is left out.

    Raises:
        DataError: The file is missing, empty or holds a line that isn't a ledger line.
    """
    found = read_records(file)
    number, first = found[0]
    named = first.get("global")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{file}, line {number}: 'global' must map each dataset to its probability")
    datasets = tuple(named)
    lines: list[Line] = []
    for number, record in found:
        where = f"{file}, line {number}"
        line = _checked(record, datasets, where)
        # A resumed run may open a new stage at the very step of its last update.
        if lines and line.step < lines[-1].step + ("changed" not in record):
            raise DataError(
                f"{where}: step {line.step} comes after step {lines[-1].step}; steps must increase, so remove the "
                "lines of the run that was abandoned"
            )
        if lines and [len(q) for q in line.q_KL] != [len(q) for q in lines[0].q_KL]:
            raise DataError(f"{where}: the number of groups differs from the first line's")
        lines.append(line)
    return datasets, tuple(lines)


def read_records(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Each line's number and JSON object, at least one; a last line torn by a kill is left out.

    Raises:
        DataError: The file is missing, empty or holds a line that isn't a JSON object.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
        raise DataError(f"{file}: {reason}; a report needs a run folder, with the ledger of its updates") from None
    *whole, last = raw.split(b"\n")
    found = [(n, parsed_object(text, file, _REMEDY, n)) for n, text in enumerate(whole, 1) if text.strip()]
    if last.strip():
        # A line cut short: the run was killed, or is writing right now.
        with contextlib.suppress(DataError):
            found.append((len(whole) + 1, parsed_object(last, file, _REMEDY)))
    if not found:
        raise DataError(f"{file}: holds no complete line; wait until the run has written its first one")
    return found


def _text(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _checked(record: Mapping[str, Any], datasets: tuple[str, ...], where: str) -> Line:
    try:
        return _LINE.validate_python({**_ABSENT, **record}, context=datasets)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        said = {"value_error": str(first.get("ctx", {}).get("error"))}
        said |= dict.fromkeys(("tuple_type", "too_short"), "must hold a list of numbers for each dataset")
        kind = "a number" if first["type"] == "float_type" else "a whole number"
        key = f"'{first['loc'][0]}' " if first["loc"] else ""
        needed = f"holds {brief(first['input'])} where {kind} is needed"
        raise DataError(f"{where}: {key}{said.get(first['type'], needed)}") from None
