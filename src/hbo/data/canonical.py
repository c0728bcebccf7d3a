"""The canonical row: a conversation cut into prompt and completion, how a table stores it, and how SFTTrainer takes it.

    prompt, completion    lists of {role, content}; a plain text is the completion [{role: text, content}]
    hbo_extra             JSON text, null in most rows: what the chat template gets beside the messages (`tools`,
                          `chat_template_kwargs`) and what turns have beyond role and content (`turns`: their number →
                          `reasoning_content`, `tool_calls`, `name`, `tool_call_id`, `weight`)
    hbo_dataset, hbo_row  where it comes from

So the schema is the same whatever the rows hold, and reading what most rows are, role and content alone, stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
from datasets import Dataset, Features, Value

from hbo.compat import has_json, list_of
from hbo.data.cache import stored_table
from hbo.data.json_text import json_text
from hbo.data.turns import Turn
from hbo.data.unusable import BadRowError
from hbo.errors import DataError

EXTRA = "hbo_extra"
"""The column of what is more than role and content; absent where no row has any."""

_BATCH = 1000
_TEXT = Value("string")
_MESSAGES = list_of({"role": _TEXT, "content": _TEXT})
_ORIGIN = {"hbo_dataset": _TEXT, "hbo_row": Value("int64")}

FEATURES = Features({"prompt": _MESSAGES, "completion": _MESSAGES, EXTRA: _TEXT, **_ORIGIN})
"""The columns of the canonical table."""


class Conversation(NamedTuple):
    """A row as it is trained on."""

    prompt: list[Turn]
    completion: list[Turn]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What the chat template gets beside the messages."""
        return {**(self.template_kwargs or {}), **({"tools": self.tools} if self.tools else {})}


def cells_of(row: Conversation) -> dict[str, Any]:
    """The cells of a conversation; `conversation_of` gives it back.

    Raises:
        BadRowError: Something in it can't be written as JSON.
    """
    turns = {
        str(i): {key: value for key, value in turn.items() if key not in ("role", "content")}
        for i, turn in enumerate([*row.prompt, *row.completion])
        if len(turn) > 2
    }
    extra = {"tools": row.tools, "chat_template_kwargs": row.template_kwargs, "turns": turns}
    kept = {key: value for key, value in extra.items() if value}
    try:
        text = json_text(kept) if kept else None
    except ValueError as error:
        raise BadRowError(f"{', '.join(kept)} can't be written as JSON ({error})") from None
    return {"prompt": row.prompt, "completion": row.completion, EXTRA: text}


def conversation_of(row: Mapping[str, Any]) -> Conversation:
    """The conversation of a canonical row, or of one that `for_trl` gives."""
    prompt, completion = ([dict(_value(turn)) for turn in row[side]] for side in ("prompt", "completion"))
    if not (text := row.get(EXTRA)):
        return Conversation(prompt, completion, _value(row.get("tools")), _value(row.get("chat_template_kwargs")))
    extra = json.loads(text)
    whole = [*prompt, *completion]
    for i, more in extra.get("turns", {}).items():
        whole[int(i)] |= more
    return Conversation(prompt, completion, extra.get("tools"), extra.get("chat_template_kwargs"))


def for_trl(data: Dataset, folder: Path) -> Dataset:
    """Canonical rows as SFTTrainer tokenizes them by itself.

    That is `data` itself; or, when all rows are plain text, with a column `text` in the place of `prompt` and
    `completion`; or, where rows have such, with all that their turns have, `tools` and `chat_template_kwargs`.

    Raises:
        DataError: SFTTrainer can't take the rows, or would train on what is context.
    """
    kinds: dict[bool, str] = {}  # is it text? → a dataset that is so
    for batch in data.with_format("arrow").iter(_BATCH):
        for row in batch.to_pylist():
            is_text = row["completion"][0]["role"] == "text"
            kinds.setdefault(is_text, row["hbo_dataset"])
            if not is_text:
                _check_for_trl(row)
    if len(kinds) == 2:
        raise DataError(
            f"'{kinds[True]}' is plain text and '{kinds[False]}' has prompts and responses, which SFTTrainer can't "
            "take in one dataset; give tokenizer= so that hbo tokenizes both"
        )
    if True in kinds:
        return _as_text(data, folder)
    return _as_json(data, folder) if EXTRA in data.column_names else data


def from_text(data: Dataset, folder: Path) -> Dataset:
    """Rows with a column `text`, as `for_trl` gives them, as canonical rows again."""

    def tables() -> Iterator[pa.Table]:
        for batch in data.select_columns(["text", *_ORIGIN]).with_format(None).iter(_BATCH):
            texts = batch.pop("text")
            batch["prompt"] = [[] for _ in texts]
            batch["completion"] = [[{"role": "text", "content": text}] for text in texts]
            yield pa.table(batch, schema=features.arrow_schema)

    features = Features({"prompt": _MESSAGES, "completion": _MESSAGES, **_ORIGIN})
    return stored_table(folder / f"canonical-{data._fingerprint}.arrow", features, tables())


def _check_for_trl(row: Mapping[str, Any]) -> None:
    where = f"dataset '{row['hbo_dataset']}', row {row['hbo_row']}"
    if not row["prompt"]:
        raise DataError(
            f"{where}: the row has no prompt, and SFTTrainer can't tokenize a response alone; give tokenizer= so that "
            "hbo does it"
        )
    if row.get(EXTRA) and any("weight" in turn for turn in conversation_of(row).completion):
        raise DataError(
            f"{where}: an answer between others is marked as context (weight: 0, train: false), but SFTTrainer would "
            "train on it; give tokenizer= so that hbo tokenizes the rows"
        )


def _as_text(data: Dataset, folder: Path) -> Dataset:
    def tables() -> Iterator[pa.Table]:
        for batch in data.with_format("arrow").iter(_BATCH):
            texts = [completion[0]["content"] for completion in batch["completion"].to_pylist()]
            yield batch.select(list(_ORIGIN)).add_column(0, "text", pa.array(texts, pa.string()))

    return stored_table(folder / f"text-{data._fingerprint}.arrow", Features({"text": _TEXT, **_ORIGIN}), tables())


def _as_json(data: Dataset, folder: Path) -> Dataset:
    """Turns as JSON objects: each has the keys that are its own, since templates ask whether a key is there."""
    if not has_json():
        raise DataError(
            f"rows have tools, or turns with more than role and content, which datasets {datasets.__version__} can't "
            "store for SFTTrainer; give tokenizer= so that hbo tokenizes them, or install datasets>=4.7"
        )
    kind = datasets.Json()
    sides, options = ("prompt", "completion"), ("tools", "chat_template_kwargs")
    types = {**{name: list_of(kind) for name in sides}, **dict.fromkeys(options, kind)}
    schema = pa.schema({**{name: pa.list_(pa.string()) for name in sides}, **dict.fromkeys(options, pa.string())})

    def tables() -> Iterator[pa.Table]:
        for batch in data.with_format("arrow").iter(_BATCH):
            table = pa.Table.from_pylist([_json_cells(row) for row in batch.to_pylist()], schema=schema)
            for name in _ORIGIN:
                table = table.append_column(name, batch[name])
            yield table

    features = Features({**types, **{name: data.features[name] for name in _ORIGIN}})
    return stored_table(folder / f"turns-{data._fingerprint}.arrow", features, tables())


def _json_cells(row: Mapping[str, Any]) -> dict[str, Any]:
    found = conversation_of(row)
    prompt, completion = (
        [json_text({key: value for key, value in turn.items() if key != "weight"}) for turn in side]
        for side in (found.prompt, found.completion)
    )
    return {
        "prompt": prompt,
        "completion": completion,
        "tools": json_text(found.tools) if found.tools else None,
        "chat_template_kwargs": json_text(found.template_kwargs or {}),
    }


def _value(value: Any) -> Any:
    # Tables for SFTTrainer hold turns and tools as JSON, which Arrow shows as text.
    return json.loads(value) if isinstance(value, str) else value
