"""What the multilingual setup knows: facts out of three pinned wheels, each with a question and answer per dataset.

Babel carries CLDR (names, dates, units, money), num2words spells numbers, Django's catalogs are parallel sentences. The
first two answer in a process of their own, where nothing else can be imported; of Django only the catalogs are read.
"""

from __future__ import annotations

import gettext
import io
import json
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hbo.demo import cldr_program
from hbo.demo.cldr_program import LOCALES
from hbo.demo.wheels import fetch
from hbo.errors import DataError
from hbo.progress import Track, silent

KnownFacts = dict[str, dict[str, dict[str, list[str]]]]
"""Task → fact → dataset → [question, answer]."""


@dataclass(frozen=True)
class Package:
    """A wheel, what it gives and under which licences, whose texts are `texts` inside it."""

    name: str
    version: str
    gives: str
    licences: tuple[str, ...]
    texts: tuple[str, ...]


BABEL = Package(
    "babel",
    "2.18.0",
    "CLDR: names of countries, languages and currencies; dates, units, money",
    ("Unicode-3.0", "BSD-3-Clause"),
    ("babel/locale-data/LICENSE.unicode", "babel-2.18.0.dist-info/licenses/LICENSE"),
)
NUM2WORDS = Package("num2words", "0.5.14", "spelt-out numbers", ("LGPL-2.1",), ("num2words-0.5.14.dist-info/COPYING",))
DJANGO = Package(
    "django",
    "5.2.19",
    "translation catalogs: parallel sentences",
    ("BSD-3-Clause",),
    ("django-5.2.19.dist-info/licenses/LICENSE",),
)
PACKAGES = {
    **dict.fromkeys(("country", "language", "currency", "unit", "date", "weekday", "amount"), BABEL),
    "number": NUM2WORDS,
    "translation": DJANGO,
}
"""Task → the package that answers."""

_SCRIPTS = {"arabic": "ARABIC", "hindi": "DEVANAGARI", "russian": "CYRILLIC", "chinese": "CJK"}
_SHORTEST, _LONGEST = 8, 120  # characters
_MARKUP = set("%{}<>&|\n\x04")  # places to fill in, tags, access keys, contexts
_WORDLESS = ("number", "amount")  # tasks whose answers need no word


def read_facts(cache_dir: Path, track: Track = silent) -> tuple[KnownFacts, dict[str, Path]]:
    """All facts, those of a task in an order that only their names decide, and the wheels by package.

    Raises:
        DataError: A wheel can't be fetched, or what it holds can't be read.
    """
    packages = (BABEL, NUM2WORDS, DJANGO)
    wheels = {
        package.name: fetch(package.name, package.version, cache_dir=cache_dir, track=track) for package in packages
    }
    facts: KnownFacts = {
        "translation": _sentences(wheels["django"]),
        **_asked(wheels["babel"], wheels["num2words"]),
    }
    _drop_names(facts)
    return {task: _usable(task, found) for task, found in facts.items()}, wheels


def order(name: str) -> str:
    """What to sort by for an order that looks random and is the same everywhere."""
    return sha256(name.encode()).hexdigest()


def _asked(babel: Path, num2words: Path) -> KnownFacts:
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(babel) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if _needed(name)])
        # -I and -S: no environment, no site-packages, no current folder.
        command = [sys.executable, "-I", "-S", "-B", cldr_program.__file__, folder, str(num2words)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DataError(f"{babel} and {num2words.name} can't be read: {said[-1][:300]}; delete both and try again")
    found: KnownFacts = json.loads(done.stdout)
    return found


def _needed(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    if folder == "babel/locale-data":
        return file.removesuffix(".dat") in {"root", "zh", *LOCALES.values()}
    return folder in ("babel", "babel/localtime")


def _sentences(wheel: Path) -> dict[str, dict[str, list[str]]]:
    """Fact → dataset → sentence and translation; the fact is the English sentence without case and punctuation."""
    found: dict[str, dict[str, list[str]]] = {}
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".mo"))
        for dataset, locale in LOCALES.items():
            for name in names:
                if f"/locale/{locale}/" in name:
                    for english, translated in _pairs(archive.read(name)):
                        if _speaks(translated, dataset) and translated != english:
                            found.setdefault(_key(english), {}).setdefault(dataset, [english, translated])
    for fact, answers in found.items():
        # English is translated from another language, each sentence from one.
        source = min(answers, key=lambda dataset: order(f"{fact} {dataset}"))
        answers["english"] = answers[source][::-1]
    return found


def _pairs(catalog: bytes) -> Iterator[tuple[str, str]]:
    # GNUTranslations keeps its table to itself, and gives all sentences in no other way.
    table = gettext.GNUTranslations(io.BytesIO(catalog))._catalog  # type: ignore[attr-defined]
    for english, translated in table.items():
        if isinstance(english, str) and not _MARKUP & {*english, *translated}:
            sentence = " ".join(english.split())
            if " " in sentence and len(sentence) >= _SHORTEST:
                yield sentence, " ".join(translated.split())


def _key(sentence: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in sentence.casefold()).split())


def _drop_names(facts: KnownFacts) -> None:
    """Take away sentences that are only a name which is a fact elsewhere, such as `Lower Sorbian`."""
    names = {
        _key(text)
        for task in ("country", "language", "currency")
        for answers in facts[task].values()
        for text in answers.get("english", ())
    }
    for name in names & set(facts["translation"]):
        del facts["translation"][name]


def _usable(task: str, found: dict[str, dict[str, list[str]]]) -> dict[str, dict[str, list[str]]]:
    """Facts in order, without answers in another language; in a dataset a question or an answer stands for one fact."""
    seen: set[tuple[str, str]] = set()
    usable: dict[str, dict[str, list[str]]] = {}
    for fact in sorted(found, key=lambda fact: order(f"{task} {fact}")):
        for dataset, (question, answer) in found[fact].items():
            marks = {(dataset, question), (dataset, answer)} - ({(dataset, answer)} if task == "weekday" else set())
            fits = task in _WORDLESS or _speaks(answer, dataset)
            if fits and question != answer and len(question) <= _LONGEST >= len(answer) and not marks & seen:
                seen |= marks
                usable.setdefault(fact, {})[dataset] = [question, answer]
    return usable


def _speaks(text: str, dataset: str) -> bool:
    script = _SCRIPTS.get(dataset, "LATIN")
    return any(unicodedata.name(character, "").startswith(script) for character in text)
