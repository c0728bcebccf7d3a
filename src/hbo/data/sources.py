"""What a user may write for one dataset of the mixture → its sources: rows, lazily, and a fingerprint of their content.

A path that exists is a file or a folder; one that looks like a file is never sought elsewhere; any other is the name
of a Hub dataset. Of a source only those rows are wanted whose columns have the values that `where` asks for. Rows count
from 0, lines from 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import xxhash
from pydantic import ValidationError

from hbo.config.data import DatasetConfig, SourceConfig, YamlScalar
from hbo.config.section import truth
from hbo.data.files import Placed, is_columnar, read_file
from hbo.data.folders import Value, partition_columns
from hbo.data.listing import BUILDERS, ending_of, is_local, local_files
from hbo.errors import ConfigError, DataError
from hbo.text import first_line, nearest

_BATCH = 1000

Wanted = Mapping[str, YamlScalar | Sequence[YamlScalar]]
"""Column → the value, or one of the values, that a row must have there."""


@dataclass(frozen=True)
class RowSource:
    """Where the rows of one entry come from."""

    fingerprint: str
    """The same for the same rows, before any are chosen."""
    parts: Sequence[Callable[[], Iterator[Placed]]]
    """Its files (or the one dataset), each a function that starts reading."""
    fills_nulls: bool = False
    """Whether each object in it has the keys of all others, null where it had none, as columnar files do."""


def open_source(dataset: str, config: SourceConfig) -> RowSource:
    """The source that `config` describes; `dataset` is its name in the mixture.

    Raises:
        DataError: The file, folder or Hub dataset isn't there, or nothing in it holds rows.
    """
    try:
        files = local_files(dataset, config)
        if files is not None:
            columns, ending = partition_columns(files), ending_of(config)
            readers = [_reader(file, more, ending, config.where) for file, more in zip(files, columns, strict=True)]
            columnar = any(is_columnar(file, ending) for file in files)
            return RowSource(_fingerprint(files, columns, ending), readers, columnar)
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:  # a name too long; a home of nobody
        raise DataError(f"dataset '{dataset}': '{config.path[:200]}' can't be looked up ({error})") from None
    return from_dataset(dataset, _from_hub(dataset, config), config.where)


def is_on_hub(config: SourceConfig) -> bool:
    """Whether the rows can only be had from the Hub: nothing here has that path, nor does it look like one."""
    try:
        return not is_local(config)
    except (OSError, RuntimeError, ValueError):
        return False  # opening it says what is wrong


def from_dataset(dataset: str, data: Any, wanted: Wanted | None = None) -> RowSource:
    """The source of a `datasets.Dataset` object, without the rows that are not `wanted`.

    Raises:
        DataError: It is of another kind: streaming, or with several splits.
    """
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise DataError(
            f"dataset '{dataset}': a streaming dataset has no fixed rows to score and draw; load it with "
            "streaming=False, or materialise the part you want: "
            "Dataset.from_generator(lambda: iter(stream.take(100000)), features=stream.features)"
        )
    if isinstance(data, datasets.DatasetDict):
        splits = ", ".join(map(str, data))
        raise DataError(
            f"dataset '{dataset}': it has the splits {splits}; choose one, such as data['{next(iter(data), 'train')}']"
        )
    if not isinstance(data, datasets.Dataset):
        raise DataError(
            f"dataset '{dataset}': {type(data).__name__} isn't a dataset; give a path, a Hub name, a mapping of "
            "DatasetConfig's keys, or a datasets.Dataset"
        )

    def rows() -> Iterator[Placed]:
        start = 0
        for table in data.with_format("arrow").iter(_BATCH):
            numbers, chosen = wanted_rows(table, wanted, f"dataset '{dataset}'")
            for i, row in zip(numbers, chosen.to_pylist(), strict=True):
                yield row, f"dataset '{dataset}', row {start + i}"
            start += len(table)

    return RowSource(data._fingerprint, [rows], fills_nulls=True)


def _reader(
    file: Path, columns: Mapping[str, Value], ending: str | None, wanted: Wanted | None
) -> Callable[[], Iterator[Placed]]:
    def rows() -> Iterator[Placed]:
        for row, place in read_file(file, ending):
            whole = {**columns, **row} if columns else row
            if not wanted or is_wanted(whole, wanted):
                yield whole, place

    return rows


def _from_hub(dataset: str, config: SourceConfig) -> Any:
    try:
        return datasets.load_dataset(
            config.path,
            config.name,
            data_dir=config.data_dir,
            data_files=config.data_files,
            split=config.split,
            streaming=False,
        )
    except Exception as error:  # builders, network and parsers of a Hub dataset raise anything
        said = f"({type(error).__name__}: {first_line(error)[:300]})"
        if config.path in BUILDERS:
            raise DataError(
                f"dataset '{dataset}': the builder '{config.path}' of datasets can't read its data_files {said}; check "
                "their names and what they hold"
            ) from None
        raise DataError(
            f"dataset '{dataset}': '{config.path}' isn't a local file or folder, and can't be loaded as a Hub dataset "
            f"{said}; check path, name, split and the network"
        ) from None


def _fingerprint(files: Sequence[Path], columns: Sequence[Mapping[str, Value]], ending: str | None) -> str:
    whole = xxhash.xxh3_128()
    for path, more in zip(files, columns, strict=True):
        digest = xxhash.xxh3_128()
        try:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from None
        # The ending says how the bytes are read; the folders' names add columns.
        told = f" {json.dumps(more)}" if more else ""
        whole.update(f"{digest.hexdigest()} {ending or ''.join(path.suffixes[-2:])}{told}\n".encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class MixtureEntry:
    """One dataset of the mixture, not yet read."""

    name: str
    config: DatasetConfig
    sources: list[tuple[SourceConfig, RowSource]]


def open_entry(name: Any, value: Any) -> MixtureEntry:
    """The entry that `value` stands for: a path, a Hub name, a mapping, a DatasetConfig or a datasets.Dataset.

    Raises:
        ConfigError: The name is no text, or the mapping has a key or value that can't be used.
        DataError: The source isn't there or is of a kind that can't be used.
    """
    name = _checked(name)
    if isinstance(value, str | Path):
        value = {"path": str(value)}
    if isinstance(value, Mapping) and not isinstance(value, dict):
        value = dict(value)
    # A DatasetDict is a dict too; it has splits for keys and must not be read as settings.
    if type(value) is dict:
        value = _config(name, value)
    if isinstance(value, DatasetConfig):
        return MixtureEntry(name, value, [(config, open_source(name, config)) for config in value.sources])
    config = DatasetConfig(path="a datasets.Dataset")
    return MixtureEntry(name, config, [(config, from_dataset(name, value))])


def drops_unusable(value: Any) -> bool:
    """Whether an entry says that rows which can't be used are left out."""
    if isinstance(value, DatasetConfig):
        return value.drop_unusable
    return type(value) is dict and value.get("drop_unusable") is True


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"a dataset is named {name!r}; give each dataset of the mixture a name that is text")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"the dataset name {name!r} holds an unpaired surrogate; give it a name that is text"
        ) from None
    return name


def _config(name: str, given: dict[Any, Any]) -> DatasetConfig:
    known = list(DatasetConfig.model_fields)
    for key in given:
        if key not in known:
            raise ConfigError(
                f"dataset '{name}': unknown key '{key}'{nearest(str(key), known)}; known keys: {', '.join(known)}"
            )
    try:
        return DatasetConfig.model_validate(_with_text(given))
    except ValidationError as error:
        problem = error.errors()[0]
        shown = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"dataset '{name}': `{shown}`: {problem['msg']}") from None


def _with_text(given: Any) -> Any:
    """Paths as text, those of further sources too."""
    if isinstance(given, Path):
        return str(given)
    if isinstance(given, list):
        return [_with_text(value) for value in given]
    if isinstance(given, dict):
        return {key: _with_text(value) if key in ("path", "also") else value for key, value in given.items()}
    return given


def is_wanted(row: Mapping[str, Any], wanted: Wanted) -> bool:
    """Whether each column of `wanted` holds the value, or one of the values, asked for; one that is missing is null.

    Example:
        >>> is_wanted({"language": "Hindi"}, {"language": ["English", "Hindi"]})
        True
    """
    return all(any(_same(row.get(column), value) for value in _several(values)) for column, values in wanted.items())


def check_wanted(seen: Collection[str], wanted: Wanted, place: str) -> None:
    """Refuses to choose by a column that isn't among those `seen`, with a DataError that names the `place`."""
    for column in wanted:
        if column not in seen:
            raise DataError(
                f"{place}: no column '{column}', which `where` names{nearest(column, seen)}; columns seen: "
                f"{', '.join(map(str, seen)) or 'none'}"
            )


def wanted_rows(table: pa.Table, wanted: Wanted | None, place: str) -> tuple[list[int], pa.Table]:
    """The numbers of the wanted rows of `table`, and these rows.

    Raises:
        DataError: The table has no such column.
    """
    if not wanted:
        return list(range(len(table))), table
    check_wanted(table.column_names, wanted, place)
    # Only these columns become Python values for every row: the others may hold long conversations.
    numbers = [i for i, row in enumerate(table.select(list(wanted)).to_pylist()) if is_wanted(row, wanted)]
    return numbers, table.take(pa.array(numbers, pa.int64()))


def shown_wanted(wanted: Wanted) -> str:
    """What is asked for, in words.

    Example:
        >>> shown_wanted({"language": ["English", "Hindi"], "toxic": False})
        "language is 'English' or 'Hindi', toxic is False"
    """
    return ", ".join(f"{column} is {' or '.join(map(repr, _several(values)))}" for column, values in wanted.items())


def _several(values: YamlScalar | Sequence[YamlScalar]) -> Sequence[YamlScalar]:
    return [values] if isinstance(values, str | bool | int | float) else values


def _same(found: Any, value: YamlScalar) -> bool:
    # 1 and true are equal to Python, but not to whoever wrote them. Where a column holds truths, `no` is one of them.
    if isinstance(found, bool):
        return found is truth(value)
    return bool(found == value) and not isinstance(value, bool)
