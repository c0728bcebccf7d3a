"""Canonical rows → token ids and targets, by any chat template.

The targets of a conversation are the tokens of every assistant turn of its completion: what the template writes after
the generation prompt of that turn, its end-of-turn token included. A `text` row (BOS before it if the tokenizer adds
one by itself, EOS after it) is a target from its second token on. Everything else is -100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hbo.data.cache import cache_root, stored_table
from hbo.data.chat import Message, render_answers, render_opening
from hbo.errors import DataError, ModelError
from hbo.progress import Track, silent

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

IGNORED = -100
"""The label of a token that is no target."""

_BATCH = 1000
_VERSION = "1"  # part of every cache file's name: raise it when the same input gives other tokens


def tokenize(
    data: Dataset,
    tokenizer: Any,
    *,
    max_length: int | None = 1024,
    keep_end: bool = False,
    track: Track = silent,
    cache_dir: Path | None = None,
) -> Dataset:
    """`data` with the columns `input_ids` and `labels` added, memory-mapped, rows and their order unchanged.

    Rows longer than `max_length` tokens keep their start, or with `keep_end` their end. A tokenizer without a chat
    template gets the plain rendering of `hbo.data.chat.PLAIN`. The result is a file under `cache_dir` (absent: beside
    the file of `data`, or under `cache_root()`), found again when the same rows meet the same tokenizer.

    Raises:
        DataError: The chat template refuses a row.
        ModelError: The tokenizer can't say which characters a token stands for (it is no fast tokenizer).
    """
    from datasets import Features, List, Value

    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{type(tokenizer).__name__} can't map tokens to characters; use a fast tokenizer (one with tokenizer.json)"
        )
    features = Features({k: v for k, v in data.features.items() if k not in ("input_ids", "labels")})
    kept = data.select_columns(list(features))
    added = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32"))})
    folder = cache_dir or (Path(data.cache_files[0]["filename"]).parent if data.cache_files else cache_root())
    kept_part = slice(max_length)
    if keep_end and max_length is not None:
        kept_part = slice(-max_length, None)
    path = folder / f"tokens-{_fingerprint(data, tokenizer, kept_part)}.arrow"
    return stored_table(path, Features({**features, **added}), _tables(kept, tokenizer, kept_part, track))


def has_instruction(prompt: Sequence[Message]) -> bool:
    """Whether anything but a system message stands before the response.

    Example:
        >>> has_instruction([{"role": "system", "content": "Be brief."}])
        False
    """
    return any(message["role"] != "system" and message["content"].strip() for message in prompt)


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


def drop_without_target(data: Dataset) -> tuple[Dataset, dict[str, list[int]]]:
    """The rows that have a target left, and the `hbo_row` of the dropped ones per dataset.

    Raises:
        DataError: No row of a dataset has a target left.
    """
    keep: list[int] = []
    dropped: dict[str, list[int]] = {}
    longest: dict[str, int] = {}  # by dataset; of a truncated row this is max_length
    left: set[str] = set()
    at = 0
    columns = data.select_columns(["labels", "hbo_dataset", "hbo_row"])
    for batch in columns.with_format("arrow").iter(_BATCH):
        names = batch["hbo_dataset"].to_pylist()
        for i, (name, row, has) in enumerate(zip(names, batch["hbo_row"].to_pylist(), _any_target(batch), strict=True)):
            if has:
                keep.append(at + i)
                left.add(name)
            else:
                dropped.setdefault(name, []).append(row)
                longest[name] = max(longest.get(name, 0), len(batch["labels"][i]))
        at += len(names)
    for name, rows in dropped.items():
        if name not in left:
            raise DataError(
                f"dataset '{name}': every response is truncated away: none of its {len(rows)} rows has a response "
                f"token within max_length={longest[name]}; raise max_length, or leave the dataset out"
            )
    return (data.select(keep) if dropped else data), dropped


def _any_target(batch: pa.Table) -> list[bool]:
    return [bool((np.asarray(labels) != IGNORED).any()) for labels in batch["labels"].to_pylist()]


def _tables(data: Dataset, tokenizer: Any, kept: slice, track: Track) -> Iterator[pa.Table]:
    import pyarrow as pa

    starts_with_bos = adds_bos(tokenizer)
    wanted = pa.list_(pa.int32())
    with track("tokenizing", len(data)) as advance:
        for table in data.with_format("arrow").iter(_BATCH):
            ids, labels = _encode(table.to_pylist(), tokenizer, kept, starts_with_bos)
            yield table.append_column("input_ids", pa.array(ids, wanted)).append_column(
                "labels", pa.array(labels, wanted)
            )
            advance(len(table))


def _encode(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, kept: slice, starts_with_bos: bool
) -> tuple[list[Any], list[Any]]:
    texts, spans_of = [], []
    for row in rows:
        if row["completion"][0]["role"] == "text":
            text = row["completion"][0]["content"]
            texts.append(text)
            spans_of.append([(0, len(text))])
        else:
            where = f"dataset '{row['hbo_dataset']}', row {row['hbo_row']}"
            text, spans = render_answers(row["prompt"], row["completion"], tokenizer, where)
            texts.append(text)
            spans_of.append(spans)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, labels = [], []
    for i, row in enumerate(rows):
        is_text = row["completion"][0]["role"] == "text"
        token_ids, is_target = targets_of(encoded["input_ids"][i], encoded["offset_mapping"][i], spans_of[i])
        # A chat template writes its own BOS; text and the plain rendering have none.
        if starts_with_bos and (is_text or not tokenizer.chat_template):
            token_ids = np.concatenate([[tokenizer.bos_token_id], token_ids])
            is_target = np.concatenate([[False], is_target])
        if is_text and tokenizer.eos_token_id is not None:
            token_ids = np.concatenate([token_ids, [tokenizer.eos_token_id]])
            is_target = np.concatenate([is_target, [True]])
        token_ids, is_target = token_ids[kept], is_target[kept]
        is_target[:1] = False  # nothing stands before the first token to predict it from
        ids.append(token_ids.astype(np.int32))
        labels.append(np.where(is_target, token_ids, IGNORED).astype(np.int32))
    return ids, labels


def targets_of(
    token_ids: Sequence[int], offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (T,) and whether each shares a character with a span (T,).

    Raises:
        Nothing.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    begin, end = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    # Byte-level tokenizers trim a token of blanks to the empty range at its end.
    begin = np.where(begin == end, begin - 1, begin)
    is_target = np.zeros(len(ids), dtype=bool)
    for first, last in spans:
        is_target |= (begin < last) & (end > first)
    return ids, is_target


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts BOS before a text by itself.

    Raises:
        Nothing.
    """
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def _fingerprint(data: Dataset, tokenizer: Any, kept: slice) -> str:
    import xxhash

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
