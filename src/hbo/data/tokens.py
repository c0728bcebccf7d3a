"""Canonical rows → token ids and targets, by any chat template.

The targets of a conversation are the tokens of every assistant turn of its completion that isn't marked as context:
what the template writes after the generation prompt of that turn, its end-of-turn token included. A `text` row (BOS
before it if the tokenizer adds one by itself, EOS after it) is a target from its second token on. All else is -100.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from datasets import Dataset, Features, Value

from hbo.compat import list_of
from hbo.data.cache import folder_beside, notes_of, stored_table
from hbo.data.canonical import conversation_of
from hbo.data.chat import Message, Renderer, adds_bos, render_opening
from hbo.data.notes import LeftOut
from hbo.data.unusable import Counted, UnusableRowError, count_rows
from hbo.errors import ModelError
from hbo.progress import Track, silent

IGNORED = -100
"""The label of a token that is no target."""

_BATCH = 1000
_VERSION = "3"  # part of every cache file's name: raise it when the same input gives other tokens
_ROW = "row "
_REMEDY = "or leave all such rows out with `drop_unusable: true`"

Place = Callable[[str, int], str]
"""Says where a row of a dataset stands."""


def _place(dataset: str, row: int) -> str:
    return f"dataset '{dataset}', row {row}"


def tokenize(
    data: Dataset,
    tokenizer: Any,
    *,
    max_length: int | None = 1024,
    keep_end: bool = False,
    track: Track = silent,
    cache_dir: Path | None = None,
    lenient: Collection[str] = (),
    place: Place = _place,
) -> Dataset:
    """`data` with the columns `input_ids` and `labels` added, memory-mapped, rows and their order unchanged.

    A tokenizer without a chat template gets the plain rendering of `hbo.data.chat.PLAIN`. The result is a file, found
    again when the same rows meet the same tokenizer. Its notes say what the template left out: dataset → `LeftOut`.

    Args:
        data: Canonical rows.
        tokenizer: A fast one.
        max_length: Tokens that a row may have; a longer one keeps its start.
        keep_end: Whether a longer one keeps its end instead.
        track: Hears of each row.
        cache_dir: Where the file is kept; absent: beside that of `data`, or under `cache_root()`.
        lenient: Datasets of which a row that the chat template refuses has no tokens, rather than being an error.
        place: Says where a dataset's row stands, for errors.

    Raises:
        UnusableRowError: The chat template refuses a row.
        ModelError: The tokenizer can't say which characters a token stands for (it is no fast tokenizer).
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} can't map tokens to characters; use a fast tokenizer (one with tokenizer.json)"
        )
    features = Features({k: v for k, v in data.features.items() if k not in ("input_ids", "labels")})
    kept = data.select_columns(list(features))
    added = Features({"input_ids": list_of(Value("int32")), "labels": list_of(Value("int32"))})
    part = slice(-max_length, None) if keep_end and max_length is not None else slice(max_length)
    path = folder_beside(data, cache_dir) / f"tokens-{_fingerprint(data, tokenizer, part)}.arrow"
    encoder = _Encoder(tokenizer, part, lenient, place)
    found = stored_table(
        path,
        Features({**features, **added}),
        _tables(kept, encoder, track),
        lambda: {name: asdict(left) for name, left in encoder.left_out.items()},
    )
    for name, counted in refused(found).items():
        if name not in lenient:  # they were, when the rows were stored
            row, reason = min((int(first.removeprefix(_ROW)), reason) for reason, (_, first) in counted.items())
            raise UnusableRowError(f"{place(name, row)}: {reason}; change the row, {_REMEDY}", reason)
    return found


def refused(data: Dataset) -> dict[str, Counted]:
    """Dataset → why the chat template refused rows of it, as `tokenize` noted it → how many, and the first."""
    return {name: left["refused"] for name, left in (notes_of(data) or {}).items() if left["refused"]}


def has_instruction(prompt: Sequence[Message]) -> bool:
    """Whether anything but a system message stands before the response.

    Example:
        >>> has_instruction([{"role": "system", "content": "Be brief."}])
        False
    """
    return any(message["role"] != "system" and (message["content"] or "").strip() for message in prompt)


def opening(tokenizer: Any) -> list[int]:
    """The token ids that stand before a response scored without its instruction; never empty.

    They are the chat template's opening for an empty user message; without a template, BOS; else EOS.

    Raises:
        ModelError: The tokenizer has none of the three.
    """
    text = render_opening(tokenizer)
    if text:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return [token]
    raise ModelError(
        "the tokenizer has no chat template, no BOS and no EOS, so a response can't be scored without its "
        "instruction; give it an eos_token"
    )


def predicts_target(labels: Any) -> Any:
    """Whether each token but the last predicts a target: labels (…, T) → (…, T − 1), of arrays and tensors alike.

    The one place that says what a target is. A label on the first token is none, as nothing predicts it.

    Example:
        >>> predicts_target(np.array([5, -100, -100, 7, 8])).tolist()
        [False, False, True, True]
    """
    return labels[..., 1:] != IGNORED


def count_targets(labels: pa.ListArray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (N,) and targets (N,) of each row.

    Example:
        >>> count_targets(pa.array([[-100, 7, 8], [], [5]]))
        (array([3, 0, 1]), array([2, 0, 0]))
    """
    length = labels.value_lengths().to_numpy().astype(np.int64)
    end = length.cumsum()
    flat = labels.flatten().to_numpy()
    is_target = np.zeros(len(flat), dtype=bool)
    is_target[1:] = predicts_target(flat)
    is_target[(end - length)[length > 0]] = False  # the last token of one row doesn't predict the first of the next
    before = np.append(0, is_target.cumsum())
    return length, before[end] - before[end - length]


def drop_without_target(data: Dataset) -> tuple[Dataset, dict[str, list[int]]]:
    """The rows that have a target left, and the `hbo_row` of the dropped ones per dataset."""
    keep: list[int] = []
    dropped: dict[str, list[int]] = {}
    at = 0
    columns = data.select_columns(["labels", "hbo_dataset", "hbo_row"])
    for batch in columns.with_format("arrow").iter(_BATCH):
        _, target_N = count_targets(batch["labels"].combine_chunks())
        keep += (at + np.flatnonzero(target_N)).tolist()
        for row in batch.select(["hbo_dataset", "hbo_row"]).filter(pa.array(target_N == 0)).to_pylist():
            dropped.setdefault(row["hbo_dataset"], []).append(row["hbo_row"])
        at += len(batch)
    return (data.select(keep) if dropped else data), dropped


def _tables(data: Dataset, encoder: _Encoder, track: Track) -> Iterator[pa.Table]:
    wanted = pa.list_(pa.int32())
    with track("tokenizing", len(data)) as advance:
        for table in data.with_format("arrow").iter(_BATCH):
            ids, labels = encoder.encode(table.to_pylist())
            yield table.append_column("input_ids", pa.array(ids, wanted)).append_column(
                "labels", pa.array(labels, wanted)
            )
            advance(len(table))


class _Encoder:
    """Rows → token ids and labels; counts what the chat template leaves out of them."""

    def __init__(self, tokenizer: Any, kept: slice, lenient: Collection[str], place: Place) -> None:
        self.tokenizer, self.kept = tokenizer, kept
        self._lenient, self._place = lenient, place
        self.left_out: dict[str, LeftOut] = {}
        self._renderer = Renderer(tokenizer)
        self._starts_with_bos = adds_bos(tokenizer)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
        found = [self._rendered(row) for row in rows]
        texts = ["" if each is None else each[0] for each in found]
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[Any] = []
        labels: list[Any] = []
        for i, (row, rendered) in enumerate(zip(rows, found, strict=True)):
            if rendered is None:
                ids.append([])
                labels.append([])
                continue
            is_text = row["completion"][0]["role"] == "text"
            token_ids, is_target = targets_of(encoded["input_ids"][i], encoded["offset_mapping"][i], rendered[1])
            if self._starts_with_bos and is_text:  # chat templates write their own
                token_ids = np.concatenate([[self.tokenizer.bos_token_id], token_ids])
                is_target = np.concatenate([[False], is_target])
            if is_text and self.tokenizer.eos_token_id is not None:
                token_ids = np.concatenate([token_ids, [self.tokenizer.eos_token_id]])
                is_target = np.concatenate([is_target, [True]])
            token_ids, is_target = token_ids[self.kept], is_target[self.kept]
            is_target[:1] = False  # nothing stands before the first token to predict it from
            ids.append(token_ids.astype(np.int32))
            labels.append(np.where(is_target, token_ids, IGNORED).astype(np.int32))
        return ids, labels

    def _rendered(self, row: Mapping[str, Any]) -> tuple[str, list[tuple[int, int]]] | None:
        """The text of a row, and which of its characters are targets; None if the template refuses it."""
        conversation = conversation_of(row)
        if conversation.completion[0]["role"] == "text":
            text = conversation.completion[0]["content"]
            return text, [(0, len(text))]
        name, number = row["hbo_dataset"], row["hbo_row"]
        left = self.left_out.setdefault(name, LeftOut())
        try:
            text, spans = self._renderer.answers(conversation.prompt, conversation.completion, "", conversation.given)
        except UnusableRowError as error:
            if name not in self._lenient:
                raise UnusableRowError(f"{self._place(name, number)}{error}, {_REMEDY}", error.reason) from None
            count_rows(left.refused, error.reason, f"{_ROW}{number}")
            return None
        left.folded += self._renderer.folds(conversation.prompt)
        left.add(conversation, text, spans, number)
        return text, spans


def targets_of(
    token_ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (T,) and whether each shares a character with a span (T,)."""
    ids = np.asarray(token_ids, dtype=np.int64)
    begin, end = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    # Byte-level tokenizers trim a token of blanks to the empty range at its end.
    begin = np.where(begin == end, begin - 1, begin)
    is_target = np.zeros(len(ids), dtype=bool)
    for first, last in spans:
        is_target |= (begin < last) & (end > first)
    return ids, is_target


def _fingerprint(data: Dataset, tokenizer: Any, kept: slice) -> str:
    digest = xxhash.xxh3_128()
    parts = (
        _VERSION,
        data._fingerprint,
        tokenizer.backend_tokenizer.to_str(),
        str(tokenizer.chat_template),
        str(sorted((key, str(value)) for key, value in tokenizer.special_tokens_map.items())),
        str(kept.stop if kept.start is None else kept),
    )
    for part in parts:
        digest.update(part.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()
