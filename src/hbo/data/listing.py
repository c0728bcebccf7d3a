"""What lies on this machine under a source's `path` → the files that hold its rows, in the order of their names.

data/chat.jsonl              the file
data/chat/                   every file with rows in the folder and below it
data/part-*.parquet          every file that the pattern matches
parquet, with data_files     the same, as `datasets.load_dataset("parquet", data_files=…)` has it
a clone of a Hub dataset     the files that its README gives to a configuration and a split
a folder of save_to_disk     the Arrow files that its state.json names
"""

from __future__ import annotations

import difflib
import glob
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hbo.config.data import SourceConfig
from hbo.data.files import COMPRESSED, SUFFIXES, is_readable
from hbo.data.folders import METADATA, by_split, card_patterns, is_stale, one_split, saved_splits
from hbo.errors import DataError

BUILDERS = {"json": ".json", "parquet": ".parquet", "arrow": ".arrow", "csv": None, "text": None, "pandas": None}
"""Builders of `datasets` → the ending that says how hbo reads their files; None where `datasets` does."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.I)
_NAME = re.compile(r"[\w.-]+")
_WILD = re.compile(r"[*?[]")
_NO_ROWS = {".md", ".rst", ".py", ".ipynb", ".sh", ".yaml", ".yml", ".toml", ".html", ".bib", ".cff", ".crc", ".lock"}
_NAMED = 3  # files that a warning names


def local_files(dataset: str, config: SourceConfig) -> list[Path] | None:
    """The files of one source; None where `path` is something else, such as the name of a Hub dataset.

    Raises:
        DataError: `path` looks like a file or folder and isn't there, or nothing in it holds rows.
    """
    path = Path(config.path).expanduser()
    if path.is_dir():
        return _in_folder(dataset, path, config)
    if path.exists():
        _refuse(dataset, path, config, "name", "split", "data_dir", "data_files")
        return [path]
    if ending_of(config):
        base = Path(config.data_dir or "").expanduser()
        return _matching(dataset, base, _wanted(dataset, base, config), of_builder=True)
    if _URL.match(config.path):
        raise DataError(
            f"dataset '{dataset}': {config.path} is a URL; give its format as path and the URL as data_files, such as "
            f"{{path: parquet, data_files: {config.path}}}"
        )
    if _WILD.search(config.path):
        _refuse(dataset, path, config, "name", "split", "data_dir", "data_files")
        return _matching(dataset, Path(), [str(path)])
    if _looks_local(config.path):
        raise DataError(f"dataset '{dataset}': {_missing(path)}")
    return None


def is_local(config: SourceConfig) -> bool:
    """Whether `path` names something on this machine, be it there or not; OSError if it can't be looked up."""
    if Path(config.path).expanduser().exists() or _is_built_here(config):
        return True
    return bool(_URL.match(config.path) or _WILD.search(config.path)) or _looks_local(config.path)


def holds_rows(place: Path) -> bool:
    """Whether it is a file with rows, or a folder in which there is one."""
    if place.is_dir():
        return any(file.is_file() and holds_rows(file) for file in place.rglob("*"))
    return is_readable(place) and not _describes(place)


def looks_like_rows(file: Path) -> bool:
    """Whether a file that hbo can't read may well hold rows."""
    return not is_readable(file) and file.suffix.lower() not in ("", *_NO_ROWS)


def ending_of(config: SourceConfig) -> str | None:
    """How files are read whose `path` is the name of a builder; None for any other source."""
    is_part = not _NAME.fullmatch(config.split)  # such as train[:100], of which `datasets` knows
    return None if is_part or not _is_built_here(config) else BUILDERS[config.path]


def _is_built_here(config: SourceConfig) -> bool:
    given = config.data_files or config.data_dir
    if config.path not in BUILDERS or not given or Path(config.path).exists():
        return False
    return not any(map(_URL.match, _all_patterns(given)))


def _in_folder(dataset: str, path: Path, config: SourceConfig) -> list[Path]:
    folder = path / (config.data_dir or "")
    if not folder.is_dir():
        raise DataError(f"dataset '{dataset}': {_missing(folder)}")
    if config.data_files:
        _refuse(dataset, path, config, "name")
        return _matching(dataset, folder, _wanted(dataset, folder, config))
    if declared := card_patterns(dataset, folder, config.name):
        return _matching(dataset, folder, one_split(dataset, folder, declared, config.split))
    _refuse(dataset, path, config, "name")
    if splits := saved_splits(folder):
        return _files(dataset, folder / one_split(dataset, folder, {name: name for name in splits}, config.split))
    files = _files(dataset, folder)
    found = by_split(folder, files)
    if len(found) == 1:
        if config.split not in found:
            _refuse(dataset, path, config, "split")
        return files
    chosen = one_split(dataset, folder, found, config.split)
    left = [file for file in files if file not in chosen]
    _warn_left_out(dataset, folder, left, f"not of the split '{config.split}'")
    return chosen


def _files(dataset: str, folder: Path) -> list[Path]:
    """Every file with rows in a folder and below it; a file that looks like data and can't be read is named."""
    files, others = [], []
    for place in sorted(folder.rglob("*")):
        if place.is_file() and not any(part.startswith(".") for part in place.relative_to(folder).parts):
            if holds_rows(place):
                files.append(place)
            elif looks_like_rows(place):
                others.append(place)
    if not files:
        raise DataError(f"dataset '{dataset}': the folder {folder} holds no file ending in {', '.join(SUFFIXES)}")
    _warn_left_out(dataset, folder, others, "not a kind of file that hbo reads")
    return files


def _wanted(dataset: str, folder: Path, config: SourceConfig) -> list[str]:
    """The patterns of `data_files`, of the split that is asked for if they are given by split."""
    given = config.data_files
    if isinstance(given, Mapping):
        given = one_split(dataset, folder, given, config.split)
    elif config.split != "train":
        _refuse(dataset, folder, config, "split")
    return _all_patterns(given or "**/*")


def _matching(dataset: str, base: Path, patterns: Sequence[str], *, of_builder: bool = False) -> list[Path]:
    found: set[Path] = set()
    for pattern in patterns:
        is_wild = bool(_WILD.search(pattern))
        matches: set[Path] = set()
        relative = pattern.lstrip("/") if base.name else pattern
        for name in glob.glob(relative, root_dir=base, recursive=True):  # noqa: PTH207 - pathlib's takes no absolute one
            place = base / name
            if place.is_dir() and not pattern.endswith("**/*"):
                matches |= set(_files(dataset, place))
            elif place.is_file() and (of_builder or is_readable(place)) and not (is_wild and _describes(place)):
                matches.add(place)
        if not matches:
            where = f" in {base}" if base.name else ""
            raise DataError(f"dataset '{dataset}': no file{where} that holds rows matches '{pattern}'")
        found |= matches
    return sorted(found)


def _describes(file: Path) -> bool:
    """Whether the file says something about data, or is left over from work with it."""
    return file.name in METADATA or is_stale(file)


def _all_patterns(given: Any) -> list[str]:
    if isinstance(given, Mapping):
        return [pattern for some in given.values() for pattern in _all_patterns(some)]
    return [given] if isinstance(given, str) else list(given)


def _warn_left_out(dataset: str, folder: Path, files: Sequence[Path], why: str) -> None:
    if files:
        names = ", ".join(str(file.relative_to(folder)) for file in files[:_NAMED])
        count = f"{len(files)} files are" if len(files) > 1 else "a file is"
        told = f"in {folder} {count} left out, {why}: {names}{', …' if len(files) > _NAMED else ''}"
        warnings.warn(f"dataset '{dataset}': {told}", UserWarning, stacklevel=2)


def _refuse(dataset: str, path: Path, config: SourceConfig, *keys: str) -> None:
    for key in keys:
        value = getattr(config, key)
        if value is not None and not (key == "split" and value == "train"):
            raise DataError(
                f"dataset '{dataset}': `{key}: {value}` can't be used with the local path {path}; leave it out"
                + (", and give the file of that split as path" if key == "split" else "")
            )


def _looks_local(path: str) -> bool:
    local_start = path.startswith((".", "/", "~"))
    ending = Path(path).suffix in (*COMPRESSED, ".txt")
    return local_start or path.count("/") > 1 or is_readable(Path(path)) or ending


def _missing(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f"{path}: no such file or folder, nor the folder {parent}; paths start at the current folder"
    near = difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=3, cutoff=0.5)
    hint = f"; near it: {', '.join(near)}" if near else "; paths start at the current folder"
    return f"{path}: no such file or folder{hint}"
