"""Any row of a chat, instruction or text dataset → its prompt and its completion, as lists of messages.

    messages        {messages: [{role, content}, …]}
    conversations   {conversations: [{from, value}, …]}                    ShareGPT
    prompt          {prompt, completion}: strings, or lists of messages
    instruction     {instruction, input?, output | response}               Alpaca
    text            {text}

The prompt is every message before the first assistant turn, the completion the rest up to the last one; only a row
that has `prompt` and `completion` itself may hold earlier answers in its prompt, which then are no targets. Both
spellings of a turn are read in every format that has turns. A string in a column `system` becomes the first message.

An empty string is text like any other: an empty prompt is no instruction, an empty response leaves the end-of-turn
token as its target. Null, or anything that isn't text, is an error that names the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from hbo.data.turns import BadRowError, Turn, split_turns, text_of, turns_of
from hbo.errors import DataError, nearest

Row = Mapping[str, Any]
Pair = tuple[list[Turn], list[Turn]]
Convert = Callable[[Row, str], Pair]
"""A row and where it stands → its prompt and its completion."""


def converter(
    first: Row, dataset: str, format: str | None = None, columns: Mapping[str, str] | Collection[str] | None = None
) -> Convert:
    """The function that turns the rows of `dataset` into prompt and completion.

    Args:
        first: The dataset's first row, from which the format is detected.
        dataset: Its name, for errors.
        format: A key of `FORMATS`, or one of `ALIASES`; detected from the columns when absent.
        columns: Canonical name → column of the source; or the columns to keep.

    Raises:
        DataError: `columns` names a column that isn't there, or the format is unknown or can't be told.
    """
    select = _selector(first, dataset, columns)
    seen = list(select(first))
    name = detect(seen) if format is None else ALIASES.get(format, format.split("/")[0])
    if name is None or name not in FORMATS:
        what = (
            "no known row format"
            if name is None
            else f"format '{format}' is unknown{nearest(name, [*FORMATS, *ALIASES])}"
        )
        raise DataError(
            f"dataset '{dataset}': {what}; columns seen: {', '.join(map(str, seen)) or 'none'}; formats known: "
            f"{_KNOWN}; set `format:`, or rename with `columns: {{prompt: <column>, completion: <column>}}`"
        )
    read = FORMATS[name]

    def convert(row: Row, where: str) -> Pair:
        try:
            return read(select(row))
        except BadRowError as error:
            raise DataError(f"{where}: {error} (dataset '{dataset}', format '{name}')") from None

    return convert


def detect(columns: Collection[str]) -> str | None:
    """The format that rows with these columns have, or None.

    Example:
        >>> detect(["instruction", "input", "output", "text"])
        'instruction'
    """
    names = set(columns)
    rules = {
        "messages": "messages" in names,
        "conversations": "conversations" in names,
        "prompt": {"prompt", "completion"} <= names,
        "instruction": "instruction" in names and bool(names & {"output", "response"}),
        "text": "text" in names,
    }
    return next((name for name, fits in rules.items() if fits), None)


def _chat(field: str) -> Callable[[Row], Pair]:
    def read(row: Row) -> Pair:
        return split_turns([*_system(row), *turns_of(_get(row, field), field)])

    return read


def _prompt(row: Row) -> Pair:
    prompt, completion = _get(row, "prompt"), _get(row, "completion")
    if isinstance(prompt, list):
        before = turns_of(prompt, "prompt") if prompt else []
    else:
        before = _user(text_of(prompt, "prompt"))
    if isinstance(completion, list):
        lead, answers = split_turns(turns_of(completion, "completion"))
        return [*_system(row), *before, *lead], answers
    return [*_system(row), *before], [_answer(text_of(completion, "completion"))]


def _instruction(row: Row) -> Pair:
    instruction = text_of(_get(row, "instruction"), "instruction")
    given = row.get("input")
    context = "" if given is None else text_of(given, "input")
    answer = "output" if row.get("output") is not None or "response" not in row else "response"
    asked = "\n\n".join(part for part in (instruction, context) if part.strip())
    return [*_system(row), *_user(asked)], [_answer(text_of(_get(row, answer), answer))]


def _text(row: Row) -> Pair:
    return [], [{"role": "text", "content": text_of(_get(row, "text"), "text")}]


FORMATS: dict[str, Callable[[Row], Pair]] = {
    "messages": _chat("messages"),
    "conversations": _chat("conversations"),
    "prompt": _prompt,
    "instruction": _instruction,
    "text": _text,
}
"""Row format → the function that reads it, in the order in which they are detected."""

ALIASES = {"openai": "messages", "sharegpt": "conversations", "alpaca": "instruction", "prompt_completion": "prompt"}
"""Other names that `format:` takes; of `prompt/completion` and the like the first word counts."""

_KNOWN = "messages; conversations; prompt (prompt, completion); instruction (instruction, input, output); text"
_CANONICAL = (
    "messages", "conversations", "prompt", "completion", "instruction", "input", "output", "response", "text", "system",
)  # fmt: skip


def _get(row: Row, column: str) -> Any:
    if column not in row:
        raise BadRowError(f"the column '{column}' is missing (columns: {', '.join(map(str, row)) or 'none'})")
    return row[column]


def _user(text: str) -> list[Turn]:
    return [{"role": "user", "content": text}] if text.strip() else []


def _answer(text: str) -> Turn:
    return {"role": "assistant", "content": text}


def _system(row: Row) -> list[Turn]:
    system = row.get("system")
    text = "" if system is None else text_of(system, "system")
    return [{"role": "system", "content": text}] if text.strip() else []


def _selector(
    first: Row, dataset: str, columns: Mapping[str, str] | Collection[str] | None
) -> Callable[[Row], dict[str, Any]]:
    if columns is None:
        return dict
    for column in columns.values() if isinstance(columns, Mapping) else columns:
        if column not in first:
            raise DataError(
                f"dataset '{dataset}': `columns` names '{column}', which its first row doesn't have"
                f"{nearest(column, first)}; columns seen: {', '.join(map(str, first)) or 'none'}"
            )
    if not isinstance(columns, Mapping):
        kept = set(columns)
        return lambda row: {key: value for key, value in row.items() if key in kept}
    renamed = dict(columns)
    for name in renamed:
        if name not in _CANONICAL:
            raise DataError(
                f"dataset '{dataset}': `columns` renames to '{name}', which no format reads"
                f"{nearest(name, _CANONICAL)}; write {{name that hbo reads: name in the file}}, "
                f"with one of {', '.join(_CANONICAL)}"
            )
    sources = set(renamed.values())

    def select(row: Row) -> dict[str, Any]:
        rest = {key: value for key, value in row.items() if key not in sources and key not in renamed}
        return rest | {name: row[source] for name, source in renamed.items() if source in row}

    return select
