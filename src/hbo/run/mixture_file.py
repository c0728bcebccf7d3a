"""Rows with their groups → what `mixture.json` tells of them. Letters: N rows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from hbo.config import RunConfig
from hbo.core.groups import Groups
from hbo.data.canonical import conversation_of
from hbo.data.tokens import IGNORED
from hbo.folder.mixture import DatasetGroups, Example, Group, Mixture
from hbo.scoring.scores import Scores
from hbo.training.groups import groups_of

_CHARACTERS = 500  # of a prompt and of a response: enough to see what a row is like
_MEASURED = 1000  # rows of a dataset whose answers' lengths are looked at
_IN_ALL = 400  # examples per run, so that a report of many datasets stays light


def mixture_of(
    config: RunConfig,
    rows: Dataset,
    held_out: Dataset,
    scores: Scores | None,
    left_out: Mapping[str, Mapping[str, int]],
) -> Mixture:
    """The groups of each dataset, with `difficulty.examples` rows of each from the middle of its scores.

    Args:
        config: Run.
        rows: Training rows with their groups, before any packing.
        held_out: Rows that are never trained on.
        scores: Of `rows`; None where nothing was scored.
        left_out: Dataset → why rows of it could not be used → how many.

    Raises:
        DataError: The rows don't say which dataset they belong to.
    """
    metric = config.difficulty.metric
    value_N = None if scores is None else getattr(scores, f"{metric}_N")
    datasets = described(rows, held_out, value_N, config.difficulty.examples)
    return Mixture(metric=metric, datasets=datasets, left_out={name: dict(why) for name, why in left_out.items()})


def described(rows: Dataset, held_out: Dataset, value_N: np.ndarray | None, examples: int) -> dict[str, DatasetGroups]:
    """Dataset → its held-out rows and its groups, with up to `examples` rows of each; `value_N` is their difficulty."""
    groups = groups_of(rows)
    held = dict(zip(*_counted(held_out), strict=True)) if len(held_out) else {}
    left, found = _IN_ALL, {}
    for k, name in enumerate(groups.datasets):
        shown: list[Group] = []
        first, last = groups.offsets[k * groups.levels], groups.offsets[(k + 1) * groups.levels]
        tokens = _answer_tokens(rows, np.asarray(groups.order_N[first:last]))
        for level in range(groups.levels):
            cell = k * groups.levels + level
            mine = np.asarray(groups.order_N[groups.offsets[cell] : groups.offsets[cell + 1]])
            value = np.full(len(mine), np.nan) if value_N is None else value_N[mine]
            chosen = _middle(value, min(examples, left))
            left -= len(chosen)
            shown.append(_group(rows, mine, value, chosen))
        found[name] = DatasetGroups(held_out=int(held.get(name, 0)), groups=tuple(shown), answer_tokens=tokens)
    return found


def _answer_tokens(rows: Dataset, mine: np.ndarray) -> float:
    """How many tokens of a row are targets, on average over evenly spread rows; NaN without labels."""
    if "labels" not in rows.column_names or not len(mine):
        return math.nan
    some = mine[np.linspace(0, len(mine) - 1, min(len(mine), _MEASURED)).round().astype(int)]
    labels = rows.select_columns(["labels"]).select(some.tolist())["labels"]
    return float(np.mean([sum(label != IGNORED for label in row) for row in labels]))


def _counted(rows: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    names = rows["hbo_dataset"][:]
    groups = Groups.from_columns(names, np.zeros(len(names), dtype=np.int64))
    return groups.datasets, groups.sizes_KL[:, 0]


def _group(rows: Dataset, mine: np.ndarray, value: np.ndarray, chosen: np.ndarray) -> Group:
    known = value[np.isfinite(value)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
    shown = []
    for place in chosen.tolist():
        row, score = rows[int(mine[place])], float(value[place])
        turns = conversation_of(row)
        texts = {"prompt": _text(turns.prompt), "response": _text(turns.completion)}
        shown.append(Example(row=int(row["hbo_row"]), score=score if math.isfinite(score) else math.nan, **texts))
    return Group(rows=len(mine), low=low, high=high, examples=tuple(shown))


def _middle(value: np.ndarray, count: int) -> np.ndarray:
    """The places of `count` rows about the median: what the group is like, not what its ends are."""
    ordered = np.argsort(value, kind="stable")
    first = max(0, (len(ordered) - count) // 2)
    return ordered[first : first + count]


def _text(turns: Sequence[Mapping[str, Any]]) -> str:
    alone = len(turns) == 1  # who speaks needs no word then
    joined = "\n".join(_said(turn) if alone else f"{turn['role']}: {_said(turn)}" for turn in turns)
    return joined if len(joined) <= _CHARACTERS else joined[: _CHARACTERS - 1] + "…"


def _said(turn: Mapping[str, Any]) -> str:
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", ())]
    return "\n".join(part for part in (turn.get("reasoning_content"), turn["content"], *calls) if part)
