"""Named datasets → one memory-mapped table of prompts and completions, each row with its dataset and number."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from datasets import Dataset, DatasetDict

from hbo.config.data import SourceConfig
from hbo.data.cache import cache_root, stored_table
from hbo.data.canonical import EXTRA, FEATURES, cells_of, for_trl
from hbo.data.files import Placed
from hbo.data.held_out import at_most, dataset_names, dataset_sizes, fraction_of, hold_out
from hbo.data.notes import of_lost, of_reading, of_tokens
from hbo.data.reader import Account, Reader
from hbo.data.sources import (
    MixtureEntry,
    RowSource,
    check_wanted,
    drops_unusable,
    open_entry,
    open_source,
    shown_wanted,
)
from hbo.data.tokens import tokenize
from hbo.data.trainable import refuse_empty, without_unusable
from hbo.data.turns import kind, text_of
from hbo.data.unusable import BadRowError, UnusableRowError, count_rows, counted_rows, reason_of
from hbo.errors import ConfigError, DataError
from hbo.progress import Track, silent
from hbo.text import nearest

__all__ = ["build_mixture", "dataset_names", "dataset_sizes", "fraction_of", "hold_out", "read_mixture"]

_BATCH = 1000
_VERSION = "3"  # part of every cache file's name: raise it when the same files give other rows


def build_mixture(
    sources: Mapping[str, Any],
    *,
    tokenizer: Any = None,
    max_length: int | None = 1024,
    eval_fraction: float = 0.0,
    seed: int = 0,
    cache_dir: str | Path | None = None,
) -> Dataset | DatasetDict:
    """Reads all datasets into one, for `stratify` and SFTTrainer; `hbo_dataset` and `hbo_row` say where a row is from.

    Without a tokenizer, rows have a conversational `prompt` and `completion` (or `text`, if all are plain text), and
    SFTTrainer tokenizes them. It then trains on everything from the first answer on, later user turns included. With
    the model's tokenizer, rows also have `input_ids` and `labels`, and exactly the answers of a conversation are
    targets. Rows whose response is cut off by `max_length` are left out, with a warning.

    Args:
        sources: Name → path, Hub name, mapping of DatasetConfig's keys, DatasetConfig, or datasets.Dataset.
        tokenizer: A fast tokenizer of the model.
        max_length: Tokens a row may have; the end of a longer one is cut off.
        eval_fraction: Share of each dataset that is held out; at least one row unless 0.
        seed: Chooses the held-out rows, and the rows to use where a dataset has more than its `max_rows`.
        cache_dir: Folder of the Arrow files; absent: `$HBO_CACHE` or `~/.cache/hbo`.

    Returns:
        A Dataset; with `eval_fraction` above 0 a DatasetDict of `train` and `eval`.

    Raises:
        ConfigError: A name, a key or `eval_fraction` can't be used.
        DataError: A dataset, a file or a row can't be used.

    Example:
        >>> from datasets import Dataset
        >>> import tempfile
        >>> chat = Dataset.from_list([{"prompt": "2+2?", "completion": "4"}])
        >>> build_mixture({"math": chat}, cache_dir=tempfile.mkdtemp())[0]["completion"]
        [{'role': 'assistant', 'content': '4'}]
    """
    folder = Path(cache_dir) if cache_dir is not None else None
    data = read_mixture(sources, seed=seed, cache_dir=folder)
    notes = [*of_reading(data)]
    if tokenizer is None:
        data = for_trl(data, folder or cache_root())
    else:
        names = dataset_names(data)
        lenient, place = lenient_datasets(sources, names), partial(place_of, sources)
        data = tokenize(data, tokenizer, max_length=max_length, cache_dir=folder, lenient=lenient, place=place)
        notes += of_tokens([data])
        data, lost = without_unusable(data, max_length)
        refuse_empty(names, dataset_sizes(data), lost)
        notes += of_lost(lost, "row")
    for note in notes:
        if note.is_warning:
            warnings.warn(note.text, stacklevel=2)
    if not eval_fraction:
        return data
    train, held_out = hold_out(data, eval_fraction, seed)
    return DatasetDict(train=train, eval=held_out)


def read_mixture(
    datasets: Mapping[str, Any], *, seed: int = 0, cache_dir: Path | None = None, track: Track = silent
) -> Dataset:
    """All rows in canonical form, memory-mapped from one Arrow file that is written once per content.

    The columns are `prompt` and `completion` (lists of `{role, content}`; a plain text is the completion
    `[{"role": "text", …}]`), `hbo_dataset` and `hbo_row`, the row's number among those that its entry wants. Of a
    dataset with more than its `max_rows`, `seed` chooses as many.

    Raises:
        ConfigError: A name or key can't be used.
        DataError: A dataset, a file or a row can't be used, or a dataset is empty.
    """
    if not datasets:
        raise ConfigError("the mixture names no dataset; add at least one")
    entries = [open_entry(name, value) for name, value in datasets.items()]
    path = (cache_dir or cache_root()) / f"mixture-{_fingerprint(entries)}.arrow"
    accounts: list[Account] = []
    data = stored_table(
        path, FEATURES, _tables(entries, accounts, track), lambda: [asdict(account) for account in accounts]
    )
    if data.data.column(EXTRA).null_count == len(data):
        data = data.remove_columns(EXTRA)
    limits = {entry.name: entry.config.max_rows for entry in entries if entry.config.max_rows is not None}
    return at_most(data, limits, seed) if limits else data


def _tables(entries: list[MixtureEntry], accounts: list[Account], track: Track) -> Iterator[pa.Table]:
    origin: dict[str, str] = {}
    with track("reading", sum(len(source.parts) for entry in entries for _, source in entry.sources)) as advance:
        for entry in entries:
            rows = _rows(entry, origin, accounts, advance)
            while batch := list(islice(rows, _BATCH)):
                yield pa.Table.from_pylist(batch, schema=FEATURES.arrow_schema)


def _rows(
    entry: MixtureEntry, origin: dict[str, str], accounts: list[Account], advance: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    for number, (dataset, cells, _) in enumerate(_usable(entry, accounts, advance)):
        if origin.setdefault(dataset, entry.name) != entry.name:
            raise ConfigError(f"two entries of the mixture make a dataset '{dataset}'; rename '{entry.name}'")
        yield {**cells, "hbo_dataset": dataset, "hbo_row": number}


def _usable(
    entry: MixtureEntry, accounts: list[Account], advance: Callable[[int], None]
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """The dataset, the cells and the place of every row that can be used."""
    for config, source in entry.sources:
        reader, found, first = _reader(entry, config, source), False, ""
        accounts.append(reader.account)
        for row, place in _read(source, advance):
            try:
                cells, dataset = _cells(reader, row, place), _dataset_of(row, entry, place)
            except DataError as error:
                if not entry.config.drop_unusable:
                    raise
                first = first or str(error)
                count_rows(reader.account.unusable, reason_of(error), place)
                continue
            found = True
            yield dataset, cells, place
        if not found:
            unusable = counted_rows(reader.account.unusable)
            raise DataError(f"dataset '{entry.name}': {_nothing_in(entry.name, config, unusable, first)}")
        reader.check_columns()


def place_of(datasets: Mapping[str, Any], dataset: str, row: int) -> str:
    """Where row `row` of a dataset stands: its number, and the file and line that it comes from.

    Raises:
        HBOError: As `read_mixture`.
    """
    named = f"dataset '{dataset}', row {row}"
    for name, value in datasets.items():
        if dataset == name or dataset.startswith(f"{name}/"):
            rows = _usable(open_entry(name, value), [], lambda _: None)
            found = next((place for of, _, place in islice(rows, row, row + 1) if of == dataset), None)
            if found is not None:
                return named if found.startswith("dataset ") else f"{named} ({found})"
    return named


def lenient_datasets(datasets: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Those of the datasets `names` whose entry says that rows which can't be used are left out."""
    entries = [name for name, value in datasets.items() if drops_unusable(value)]
    return {name for name in names if any(name == entry or name.startswith(f"{entry}/") for entry in entries)}


def _reader(entry: MixtureEntry, config: SourceConfig, source: RowSource) -> Reader:
    used = {*(config.where or ()), *([entry.config.group_by] if entry.config.group_by else ())}
    return Reader(
        entry.name,
        config.path,
        format=config.format,
        columns=config.columns,
        roles=config.roles,
        used=used,
        fills_nulls=source.fills_nulls,
    )


def _cells(reader: Reader, row: Mapping[str, Any], place: str) -> dict[str, Any]:
    try:
        return cells_of(reader.read(row, place))
    except BadRowError as error:
        raise UnusableRowError(f"{place}: {error}", str(error)) from None


def _read(source: RowSource, advance: Callable[[int], None]) -> Iterator[Placed]:
    for part in source.parts:
        yield from part()
        advance(1)


def _nothing_in(dataset: str, config: SourceConfig, unusable: int, reason: str) -> str:
    if unusable:
        return f"none of {unusable} rows of {config.path} can be used; the first: {reason}"
    if config.where:
        source = open_source(dataset, config.model_copy(update={"where": None}))
        placed = islice(_read(source, lambda _: None), _BATCH)
        if seen := {column: None for row, _ in placed for column in row}:
            check_wanted(seen, config.where, config.path)
        return f"no row of {config.path} has what `where` asks for ({shown_wanted(config.where)}); check the values"
    return f"{config.path} is empty; add rows, or leave it out"


def _dataset_of(row: Mapping[str, Any], entry: MixtureEntry, where: str) -> str:
    column = entry.config.group_by
    if column is None:
        return entry.name
    if column not in row:
        told = f"no column '{column}', which group_by of dataset '{entry.name}' names"
        seen = f"{nearest(column, row)}; columns seen: {', '.join(map(str, row)) or 'none'}"
        raise UnusableRowError(f"{where}: {told}{seen}", told)
    value = row[column]
    if not isinstance(value, str | int | float) or not str(value).strip():
        shown = "an empty string" if isinstance(value, str) else kind(value)
        told = f"'{column}' is {shown}, so the row belongs to no group of dataset '{entry.name}'"
        raise UnusableRowError(f"{where}: {told}", told)
    try:
        return f"{entry.name}/{text_of(str(value), column)}"
    except BadRowError as error:
        raise UnusableRowError(f"{where}: {error}", str(error)) from None


def _fingerprint(entries: list[MixtureEntry]) -> str:
    parts: list[list[Any]] = []
    for entry in entries:
        for config, source in entry.sources:
            part = [entry.name, source.fingerprint, config.format, config.columns, entry.config.group_by]
            parts.append([*part, config.where, config.roles] if config.where or config.roles else part)
        parts += [[entry.name, "drop_unusable"]] if entry.config.drop_unusable else []
    return xxhash.xxh3_128_hexdigest(json.dumps([_VERSION, parts]).encode())
