"""What an entry of the mixture names → its rows, lazily, and a fingerprint of their content.

A path that exists is a file or a folder; one that looks like a file is never sought elsewhere; any other is the name
of a Hub dataset. Rows count from 0, lines from 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.data.files import Placed, is_columnar, read_file
from hbo.data.filters import Wanted, is_wanted, wanted_rows
from hbo.data.listing import BUILDERS, ending_of, is_local, local_files
from hbo.data.partitions import Value, partition_columns
from hbo.errors import DataError
from hbo.mixture_config import SourceConfig

_BATCH = 1000


@dataclass(frozen=True)
class Source:
    """Where the rows of one entry come from."""

    fingerprint: str
    """The same for the same rows, before any are chosen."""
    parts: Sequence[Callable[[], Iterator[Placed]]]
    """Its files (or the one dataset), each a function that starts reading."""
    fills_nulls: bool = False
    """Whether each object in it has the keys of all others, null where it had none, as columnar files do."""


def open_source(dataset: str, config: SourceConfig) -> Source:
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
            return Source(_fingerprint(files, columns, ending), readers, columnar)
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:  # a name too long; a home of nobody
        raise DataError(f"dataset '{dataset}': '{config.path[:200]}' can't be looked up ({error})") from None
    return from_dataset(dataset, _from_hub(dataset, config), config.where)


def is_on_hub(config: SourceConfig) -> bool:
    """Whether the rows can only be had from the Hub: nothing here has that path, nor does it look like one.

    Raises:
        Nothing.
    """
    try:
        return not is_local(config)
    except (OSError, RuntimeError, ValueError):
        return False  # opening it says what is wrong


def from_dataset(dataset: str, data: Any, wanted: Wanted | None = None) -> Source:
    """The source of a `datasets.Dataset` object, without the rows that are not `wanted`.

    Raises:
        DataError: It is of another kind: streaming, or with several splits.
    """
    import datasets

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
            f"dataset '{dataset}': {type(data).__name__} is no kind of dataset; give a path, a Hub name, a mapping of "
            "DatasetConfig's keys, or a datasets.Dataset"
        )

    def rows() -> Iterator[Placed]:
        start = 0
        for table in data.with_format("arrow").iter(_BATCH):
            numbers, chosen = wanted_rows(table, wanted, f"dataset '{dataset}'")
            for i, row in zip(numbers, chosen.to_pylist(), strict=True):
                yield row, f"dataset '{dataset}', row {start + i}"
            start += len(table)

    return Source(data._fingerprint, [rows], fills_nulls=True)


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
    import datasets

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
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        said = f"({type(error).__name__}: {reason[:300]})"
        if config.path in BUILDERS:
            raise DataError(
                f"dataset '{dataset}': the builder '{config.path}' of datasets can't read its data_files {said}; check "
                "their names and what they hold"
            ) from None
        raise DataError(
            f"dataset '{dataset}': '{config.path}' is no local file or folder, and as a Hub dataset it can't be loaded "
            f"{said}; check path, name, split and the network"
        ) from None


def _fingerprint(files: Sequence[Path], columns: Sequence[Mapping[str, Value]], ending: str | None) -> str:
    import xxhash

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
