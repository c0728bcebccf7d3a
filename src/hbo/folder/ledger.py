"""`balance.jsonl` → one checked Line per update: what the report knows of the balancer.

K datasets, L levels (groups of a dataset, easiest first).
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.errors import DataError

Floats = tuple[float, ...]
# Written with a few decimals, a whole policy still sums to 1 within this.
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Line:
    """One line of the ledger: the probabilities set at `step`, and what was measured to set them.

    Everything is ordered as the run's datasets are; a reward that wasn't measured is None as a
    whole, or NaN for one choice.
    """

    step: int
    start: int
    p_K: Floats
    q_KL: tuple[Floats, ...]
    reward_K: Floats | None
    reward_se_K: Floats | None
    reward_KL: tuple[Floats, ...] | None
    reward_se_KL: tuple[Floats, ...] | None
    drawn_KL: tuple[tuple[int, ...], ...]
    seconds: float
    probes: int
    per_row_KL: tuple[Floats, ...] | None = None


def read_lines(file: Path) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """The datasets' names and the ledger's lines; a last line torn by a kill is left out.

    Raises:
        DataError: The file is missing, empty or holds a line that isn't a ledger line.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"can't be read ({error.strerror})"
        raise DataError(f"{file}: {reason}; a report needs a run folder, with the ledger of its updates") from None
    *whole, last = raw.split(b"\n")
    found = [(n, _object(text, f"{file}, line {n}")) for n, text in enumerate(whole, 1) if text.strip()]
    if last.strip():
        # A line cut short: the run was killed, or is writing right now.
        with contextlib.suppress(DataError):
            found.append((len(whole) + 1, _object(last, "")))
    if not found:
        raise DataError(f"{file}: holds no complete line; wait until the run has written its first one")
    datasets = _names(found[0][1], f"{file}, line {found[0][0]}")
    return datasets, _in_order(file, datasets, found)


def _in_order(file: Path, datasets: tuple[str, ...], found: list[tuple[int, dict[str, Any]]]) -> tuple[Line, ...]:
    lines: list[Line] = []
    for number, data in found:
        line = _Fields(data, f"{file}, line {number}").line(datasets)
        # A resumed run may open a new stage at the very step of its last update.
        if lines and line.step < lines[-1].step + ("changed" not in data):
            raise DataError(
                f"{file}, line {number}: step {line.step} comes after step {lines[-1].step}; steps must rise, "
                "so remove the lines of the run that was given up"
            )
        if lines and [len(q) for q in line.q_KL] != [len(q) for q in lines[0].q_KL]:
            raise DataError(f"{file}, line {number}: the number of groups differs from the first line's")
        lines.append(line)
    return tuple(lines)


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        raise DataError(f"{where}: not UTF-8") from None
    except (ValueError, RecursionError):
        raise DataError(f"{where}: not JSON; mend or remove the line") from None
    if not isinstance(data, dict):
        raise DataError(f"{where}: not a JSON object; mend or remove the line")
    return data


def _names(data: dict[str, Any], where: str) -> tuple[str, ...]:
    named = data.get("global")
    if not isinstance(named, dict) or not named:
        raise DataError(f"{where}: 'global' must map each dataset to its probability")
    return tuple(named)


@dataclass(frozen=True)
class _Fields:
    """One line's JSON, read field by field; every refusal names the place."""

    data: Mapping[str, Any]
    where: str

    def line(self, datasets: tuple[str, ...]) -> Line:
        p_K = self.floats(self.mapped("global", datasets), "global")
        q_KL = tuple(self.floats(q, "local") for q in self.mapped("local", datasets))
        for name, policy in [("global", p_K), *(("local", q) for q in q_KL)]:
            self.check_policy(policy, name)
        shape = [len(q) for q in q_KL]
        return Line(
            step=self.count(self.data.get("step"), "step"),
            start=self.count(self.data.get("start"), "start"),
            p_K=p_K,
            q_KL=q_KL,
            reward_K=self.per_dataset("global_reward", datasets),
            reward_se_K=self.per_dataset("global_reward_se", datasets),
            reward_KL=self.per_group("local_reward", datasets, shape),
            reward_se_KL=self.per_group("local_reward_se", datasets, shape),
            drawn_KL=self.drawn(datasets, shape),
            seconds=self.number(self.data.get("seconds", 0.0), "seconds"),
            probes=self.count(self.data.get("probe_examples", 0), "probe_examples"),
            per_row_KL=self.per_group("examples_per_row", datasets, shape),
        )

    def mapped(self, key: str, datasets: tuple[str, ...]) -> list[Any]:
        value = self.data.get(key)
        if not isinstance(value, dict) or set(value) != set(datasets):
            raise DataError(f"{self.where}: '{key}' must name the same {len(datasets)} datasets as the first line")
        return [value[name] for name in datasets]

    def per_dataset(self, key: str, datasets: tuple[str, ...]) -> Floats | None:
        if self.data.get(key) is None:
            return None
        return self.floats(self.mapped(key, datasets), key, gaps=True)

    def per_group(self, key: str, datasets: tuple[str, ...], shape: list[int]) -> tuple[Floats, ...] | None:
        if self.data.get(key) is None:
            return None
        rows = tuple(self.floats(row, key, gaps=True) for row in self.mapped(key, datasets))
        self.check_shape([len(row) for row in rows], shape, key)
        return rows

    def drawn(self, datasets: tuple[str, ...], shape: list[int]) -> tuple[tuple[int, ...], ...]:
        rows = [self.sequence(row, "drawn") for row in self.mapped("drawn", datasets)]
        self.check_shape([len(row) for row in rows], shape, "drawn")
        return tuple(tuple(self.count(n, "drawn") for n in row) for row in rows)

    def sequence(self, value: Any, key: str) -> Sequence[Any]:
        if not isinstance(value, list) or not value:
            raise DataError(f"{self.where}: '{key}' must hold a list of numbers for each dataset")
        return value

    def floats(self, values: Any, key: str, gaps: bool = False) -> Floats:
        return tuple(
            math.nan if value is None and gaps else self.number(value, key) for value in self.sequence(values, key)
        )

    def number(self, value: Any, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
            raise DataError(f"{self.where}: '{key}' holds {str(value)[:40]!r} where a number is needed")
        return float(value)

    def count(self, value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
            raise DataError(f"{self.where}: '{key}' holds {str(value)[:40]!r} where a whole number is needed")
        return value

    def check_policy(self, policy: Floats, key: str) -> None:
        # Written so that NaN is refused too: every comparison with it is false.
        if not (all(0 <= p <= 1 for p in policy) and abs(sum(policy) - 1) <= _SUM_TOLERANCE):
            raise DataError(f"{self.where}: the probabilities under '{key}' must lie in 0..1 and sum to 1")

    def check_shape(self, found: list[int], shape: list[int], key: str) -> None:
        if found != shape:
            raise DataError(f"{self.where}: '{key}' must hold as many groups per dataset as 'local'")
