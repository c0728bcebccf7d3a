"""What an entry of the mixture names → its rows, lazily, and a fingerprint of their content.

A path that exists is a file or a folder; one that looks like a file is never sought elsewhere; any other is the name
of a Hub dataset. Rows count from 0, lines from 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.data.files import SUFFIXES, Placed, is_readable, read_file
from hbo.data.filters import Wanted, is_wanted, wanted_rows
from hbo.errors import DataError
from hbo.mixture_config import SourceConfig

_BATCH = 1000
_SPLITS = {"train", "test", "validation", "valid", "val", "dev", "eval"}


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
        path = Path(config.path).expanduser()
        if path.exists():
            files = _files(dataset, path, config)
            columnar = any(file.suffix.lower() == ".parquet" for file in files)
            return Source(_fingerprint(files), [_reader(file, config.where) for file in files], columnar)
        if _looks_local(config.path):
            raise DataError(f"dataset '{dataset}': {_missing(path)}")
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:  # a name too long; a home of nobody
        raise DataError(f"dataset '{dataset}': '{config.path[:200]}' can't be looked up ({error})") from None
    return from_dataset(dataset, _from_hub(dataset, config), config.where)


def is_on_hub(config: SourceConfig) -> bool:
    """Whether the rows can only be had from the Hub: nothing here has that path, nor does it look like one.

    Raises:
        Nothing.
    """
    try:
        return not Path(config.path).expanduser().exists() and not _looks_local(config.path)
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


def _reader(file: Path, wanted: Wanted | None) -> Callable[[], Iterator[Placed]]:
    if not wanted:
        return lambda: read_file(file)
    return lambda: ((row, place) for row, place in read_file(file) if is_wanted(row, wanted))


def _files(dataset: str, path: Path, config: SourceConfig) -> list[Path]:
    only_hub = {"name": config.name, "split": config.split if config.split != "train" else None}
    only_folder = {"data_dir": config.data_dir, "data_files": config.data_files} if path.is_file() else {}
    for key, value in (only_hub | only_folder).items():
        if value is not None:
            raise DataError(
                f"dataset '{dataset}': `{key}: {value}` can't be used with the local path {path}; leave it out"
                + (", and give the file of that split as path" if key == "split" else "")
            )
    if path.is_file():
        return [path]
    folder = path / (config.data_dir or "")
    if not folder.is_dir():
        raise DataError(f"dataset '{dataset}': {_missing(folder)}")
    return _chosen(dataset, folder, config.data_files)


def _chosen(dataset: str, folder: Path, patterns: str | list[str] | None) -> list[Path]:
    wanted = [patterns] if isinstance(patterns, str) else patterns or ["**/*"]
    found: set[Path] = set()
    for pattern in wanted:
        matches = {file for file in folder.glob(pattern.lstrip("/")) if file.is_file() and is_readable(file)}
        if not matches and patterns:
            raise DataError(f"dataset '{dataset}': no file in {folder} that holds rows matches '{pattern}'")
        found |= matches
    files = sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))
    if (folder / "state.json").exists() and any(folder.glob("*.arrow")):
        raise DataError(
            f"dataset '{dataset}': {folder} was written by save_to_disk; in Python give "
            f"datasets.load_from_disk('{folder}'), or write it with to_parquet and give that file"
        )
    if not files:
        raise DataError(f"dataset '{dataset}': the folder {folder} holds no file ending in {', '.join(SUFFIXES)}")
    splits = {word for file in files for word in re.split(r"[-_.]", file.name.lower()) if word in _SPLITS}
    if len(splits) > 1 and not patterns:
        raise DataError(
            f"dataset '{dataset}': the folder {folder} holds files of several splits ({', '.join(sorted(splits))}); "
            "choose with data_files, such as data_files: '*train*'"
        )
    return files


def _looks_local(path: str) -> bool:
    local_start = path.startswith((".", "/", "~"))
    return local_start or path.count("/") > 1 or is_readable(Path(path)) or Path(path).suffix in (".gz", ".zst", ".txt")


def _missing(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"{path}: no such file or folder, nor the folder {parent}; paths start at the current folder"
    near = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else "; paths start at the current folder"
    return f"{path}: no such file or folder{hint}"


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
        raise DataError(
            f"dataset '{dataset}': '{config.path}' is no local file or folder, and as a Hub dataset it can't be loaded "
            f"({type(error).__name__}: {reason[:300]}); check path, name, split and the network"
        ) from None


def _fingerprint(files: Sequence[Path]) -> str:
    import xxhash

    whole = xxhash.xxh3_128()
    for path in files:
        digest = xxhash.xxh3_128()
        try:
            with path.open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
        except OSError as error:
            raise DataError(f"{path}: can't be read ({error.strerror})") from None
        # The ending says how the bytes are read.
        whole.update(f"{digest.hexdigest()} {''.join(path.suffixes[-2:])}\n".encode())
    return whole.hexdigest()
