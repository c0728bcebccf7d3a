"""A folder → the datasets that lie in it: what each would be called, how it is read, and how many rows it has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

from hbo.config.data import SourceConfig, stem
from hbo.data.chat import Renderer
from hbo.data.files import SUFFIXES, why_unknown
from hbo.data.folders import by_split, card_patterns, is_saved, saved_splits, split_named
from hbo.data.formats import renamed
from hbo.data.listing import holds_rows, looks_like_rows
from hbo.data.notes import of_account
from hbo.data.reader import Reader
from hbo.data.sources import open_source
from hbo.data.turns import is_filled
from hbo.errors import DataError
from hbo.progress import Track, silent

_LOOKED_AT = 1000  # rows by which columns are renamed: any of them may be empty in the first


@dataclass(frozen=True)
class FoundDataset:
    """One file, or one folder of files, that would be a dataset of the mixture."""

    name: str
    """Its name in the mixture."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`path`, and `data_files`, `columns` and `drop_unusable` where they are needed."""
    format: str | None = None
    """Row formats in which its rows were read."""
    rows: int = 0
    """Rows that can be used."""
    unusable: int = 0
    """Rows that can't be."""
    problem: str | None = None
    """Why it can't be used, or what is wrong with the first row that can't be."""
    notes: tuple[str, ...] = ()
    """What else is to be said of it, such as columns that are not read."""


def survey(folder: Path, *, renderer: Renderer | None = None, track: Track = silent) -> list[FoundDataset]:
    """What lies directly in `folder`: every file with rows and every folder of such files is a dataset.

    A folder that `save_to_disk` wrote, or a clone whose README says what its files are, is one dataset itself. A file
    or folder named after a split that isn't trained on (`test`, `validation`, …) can't be used if there is another. All
    rows are read once. Those that the chat template of the `renderer` refuses can't be used.

    Raises:
        DataError: There is no such folder, or nothing in it holds rows.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that your datasets lie in")
    inside = [folder] if _is_one(folder) else sorted(folder.iterdir())
    seen = [place for place in inside if not place.name.startswith(".")]
    places = [place for place in seen if holds_rows(place)]
    wanted = [place for place in places if split_named(place.name) in (None, "train")] or places
    left = {place: f"{place} belongs to a split that isn't trained on" for place in places if place not in wanted}
    left |= {place: f"{place}: {why_unknown(place)}" for place in seen if place.is_file() and looks_like_rows(place)}
    if not wanted:
        raise DataError(f"{folder}: neither it nor a folder in it holds a file ending in {', '.join(SUFFIXES)}")
    found, names = [], set[str]()
    with track("reading", len(wanted)) as advance:
        for place in wanted:
            base = stem(place.resolve().name)
            name = next(n for i in count(1) if (n := base if i == 1 else f"{base}-{i}") not in names)
            names.add(name)
            found.append(_look(name, place, renderer))
            advance(1)
    return found + [FoundDataset(place.name, problem=why) for place, why in left.items()]


def _is_one(folder: Path) -> bool:
    try:
        return is_saved(folder) or bool(saved_splits(folder) or card_patterns("", folder, None))
    except DataError:
        return True  # reading it says what is wrong


def _look(name: str, place: Path, renderer: Renderer | None) -> FoundDataset:
    settings: dict[str, Any] = {"path": str(place)}
    if place.is_dir() and not _is_one(place) and _names_say_train(place):
        settings["data_files"] = "**/*train*"
    rows, unusable, problem = 0, 0, None
    try:
        source = open_source(name, SourceConfig.model_validate(settings))
        placed = chain.from_iterable(part() for part in source.parts)
        first = list(islice(placed, _LOOKED_AT))
        if columns := renamed(_union(row for row, _ in first)):
            settings["columns"] = columns
        reader = Reader(name, str(place), columns=columns or None)
        for row, where in chain(first, placed):
            try:
                read = reader.read(row, where)
                if renderer is not None and read.completion[0]["role"] != "text":
                    renderer.answers(read.prompt, read.completion, where, read.given)
                rows += 1
            except DataError as error:
                unusable, problem = unusable + 1, problem or str(error)
    except DataError as error:
        return FoundDataset(name, settings, problem=str(error))
    format = " and ".join(reader.account.formats) or None
    if not rows:
        return FoundDataset(name, settings, format, problem=problem or f"{place} is empty")
    if unusable:
        settings["drop_unusable"] = True
    notes = tuple(note.text for note in of_account(reader.account))
    return FoundDataset(name, settings, format, rows, unusable, problem, notes)


def _union(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Column → what the first row has there in which it is filled; null where none is."""
    found: dict[str, Any] = {}
    for row in rows:
        for column, value in row.items():
            if not is_filled(found.get(column)):
                found[column] = value
    return found


def _names_say_train(folder: Path) -> bool:
    """Whether the files of several splits lie there, of which those to train on are the ones called so."""
    found = by_split(folder, [place for place in folder.rglob("*") if place.is_file() and holds_rows(place)])
    return len(found) > 1 and all("train" in file.name for file in found.get("train", ()))
