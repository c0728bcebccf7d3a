"""The multilingual setup, on the real packages: what its rows say, that they repeat nothing, where they come from."""

import json
import os
import subprocess
import sys
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hbo import demo
from hbo.config.file import parse
from hbo.data import mixture
from hbo.data.cache import cache_root
from hbo.demo import multilingual, multilingual_facts, names, wheels
from hbo.demo.instructions import INSTRUCTIONS
from hbo.errors import ConfigError, DataError

PAPER = {
    "english": 273_000,
    "arabic": 12_000,
    "german": 6_000,
    "spanish": 15_000,
    "hindi": 1_000,
    "russian": 49_000,
    "swahili": 578,
    "chinese": 102_000,
}
SCRIPTS = {"arabic": "ARABIC", "hindi": "DEVANAGARI", "russian": "CYRILLIC", "chinese": "CJK"}
# Words of instructions that no other of these languages has.
WORDS = {
    "english": {"the", "this", "Translate"},
    "german": {"Deutsche", "Welche", "Welches", "diese", "dieses", "diesen"},
    "spanish": {"español", "Qué", "Escribe", "qué"},
    "swahili": {"Kiswahili", "gani", "Andika", "hii"},
}
WHEEL_FOLDERS = ("babel-2.18.0", "num2words-0.5.14", "django-5.2.19")


def fresh(folder):
    """An empty cache but for the wheels, which are fetched once."""
    (folder / "wheels").mkdir()
    for name in WHEEL_FOLDERS:
        wheels.fetch(*name.rsplit("-", 1))
        (folder / "wheels" / name).symlink_to(cache_root() / "wheels" / name)
    return folder


def read(folder):
    return {path.stem: [json.loads(line) for line in path.read_bytes().splitlines()] for path in folder.glob("*.jsonl")}


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return multilingual.write_languages(cache_dir=fresh(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def rows(folder):
    return read(folder)


def test_every_language_has_its_own_instruction_for_every_task():
    assert list(INSTRUCTIONS) == list(PAPER)
    for dataset, tasks in INSTRUCTIONS.items():
        assert all(text.count("{}") == 1 for text in tasks.values())
        for text in tasks.values():
            if dataset in SCRIPTS:
                letters = [c for c in text.replace("ISO", "") if c.isalpha()]
                assert all(unicodedata.name(c).startswith(SCRIPTS[dataset]) for c in letters), text
            else:
                spoken = {
                    other
                    for other, words in WORDS.items()
                    if words & set(text.translate(str.maketrans("¿:?", "   ")).split())
                }
                assert spoken == {dataset}, text


def test_an_unknown_setup_is_one_sentence_and_exit_code_2(tmp_path):
    environment = {**os.environ, "HBO_CACHE": str(tmp_path / "cache"), "COLUMNS": "200"}
    command = [sys.executable, "-m", "hbo", "demo", "--setup", "multilingal", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: --setup 'multilingal' is unknown (did you mean 'multilingual'?); choose one of multitask, multilingual"
    )
    assert list(tmp_path.iterdir()) == []


def test_unknown_languages_are_one_sentence_and_fetch_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path))
    settings = {"model": "somewhere/model", "mixture": {"datasets": {"xh": "demo:multilingual/xhosa"}}}
    with pytest.raises(ConfigError, match=r"'demo:multilingual/xhosa' is unknown; .*demo:multilingual/swahili"):
        names.fill_in(parse(settings, source="test"))
    assert list(tmp_path.iterdir()) == []


def test_packages_that_do_not_answer_are_one_sentence(tmp_path):
    for name in ("babel.whl", "num2words.whl"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("babel/__init__.py", "")
    with pytest.raises(DataError, match=r"babel.whl and num2words.whl can't be read: ImportError.* delete both"):
        multilingual_facts._asked(tmp_path / "babel.whl", tmp_path / "num2words.whl")


def test_a_question_or_an_answer_in_a_dataset_stands_for_one_fact_and_is_in_its_language():
    found = {
        "log out": {"german": ["Log out", "Abmelden"], "russian": ["Log out", "Выйти"]},
        "sign out": {"german": ["Sign out", "Abmelden"], "russian": ["Sign out", "Sign off"]},
        "url": {"german": ["URL", "URL"], "russian": ["URL", "Ссылка" * 100]},
    }
    usable = multilingual_facts._usable("translation", found)
    assert sorted(dataset for answers in usable.values() for dataset in answers) == ["german", "russian"]
    assert usable["log out"]["russian"] == ["Log out", "Выйти"]
    days = {day: {"german": [day, "Montag"]} for day in ("5. Mai 2003", "12. Mai 2003")}
    assert multilingual_facts._usable("weekday", days).keys() == days.keys()


@pytest.mark.real
def test_sizes_are_imbalanced_as_in_the_paper(rows):
    sizes = {name: len(found) for name, found in rows.items()}
    assert sizes == {
        "english": 1092, "arabic": 48, "german": 40, "spanish": 60, "hindi": 36, "russian": 196, "swahili": 32, "chinese": 408,
    }  # fmt: skip
    assert sorted(sizes, key=sizes.get) == sorted(PAPER, key=PAPER.get)
    for name, size in sizes.items():
        assert abs(size / sum(sizes.values()) - PAPER[name] / sum(PAPER.values())) < 0.025


@pytest.mark.real
def test_every_language_has_several_tasks_and_they_answer_in_it(rows):
    for name, found in rows.items():
        tasks = Counter(row["task"] for row in found)
        assert set(tasks) == set(INSTRUCTIONS[name])
        assert len(tasks) >= 8
        for row in found:
            before, after = INSTRUCTIONS[name][row["task"]].split("{}")
            assert row["prompt"].startswith(before)
            assert after in row["prompt"]
            if row["task"] not in ("number", "amount"):
                script = SCRIPTS.get(name, "LATIN")
                answer = row["completion"].removeprefix(row["completion"][:2] if row["task"] == "country" else "")
                assert any(unicodedata.name(c, "").startswith(script) for c in answer), row


@pytest.mark.real
def test_a_fact_makes_one_row_of_the_whole_mixture(rows):
    every = [row for found in rows.values() for row in found]
    assert len({(row["task"], row["fact"]) for row in every}) == len(every)
    assert len({row["prompt"] for row in every}) == len(every)
    for found in rows.values():
        translated = [row["completion"] for row in found if row["task"] == "translation"]
        assert len(set(translated)) == len(translated)


@pytest.mark.real
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_that_is_held_out_is_trained_on(folder, tmp_path, seed):
    sources = {name: str(folder / f"{name}.jsonl") for name in PAPER}
    split = mixture.build_mixture(sources, eval_fraction=0.15, seed=seed, cache_dir=tmp_path)
    known = {name: [(row["task"], row["fact"]) for row in found] for name, found in read(folder).items()}
    facts_of = {part: {known[row["hbo_dataset"]][row["hbo_row"]] for row in split[part]} for part in ("train", "eval")}
    prompts = {part: {row["prompt"][0]["content"] for row in split[part]} for part in ("train", "eval")}
    assert facts_of["train"].isdisjoint(facts_of["eval"])
    assert prompts["train"].isdisjoint(prompts["eval"])
    assert len(prompts["train"]) + len(prompts["eval"]) == sum(map(len, known.values()))
    held_out = Counter(split["eval"]["hbo_dataset"])
    assert min(held_out.values()) >= 5
    trained = Counter(split["train"]["hbo_dataset"])
    assert min(trained.values()) >= 4 * 5


@pytest.mark.real
def test_the_same_bytes_come_out_again_whatever_is_installed(folder, tmp_path, monkeypatch):
    # Packages of these names lie in the way (Babel takes pytz where it finds it), and sets have another order.
    for name in ("babel", "num2words", "pytz"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong package')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([*sys.path, str(tmp_path)]))
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    (tmp_path / "cache").mkdir()
    cache = fresh(tmp_path / "cache")
    code = (
        "import pathlib; from hbo.demo.multilingual import write_languages;"
        f"print(write_languages(cache_dir=pathlib.Path({str(cache)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    again = Path(done.stdout.strip())
    assert again.name == folder.name
    assert again != folder
    assert content(again) == content(folder)


@pytest.mark.real
def test_the_manifest_counts_the_rows_and_names_the_licences(folder, rows):
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert told["rows"] == sum(map(len, rows.values()))
    for name, found in rows.items():
        entry = told["datasets"][name]
        assert (entry["rows"], entry["paper_examples"]) == (len(found), PAPER[name])
        assert entry["tasks"] == Counter(row["task"] for row in found)
        assert (folder / entry["file"]).is_file()
    licences = {source["package"]: source["licences"] for source in told["sources"]}
    assert licences == {
        "babel==2.18.0": ["Unicode-3.0", "BSD-3-Clause"],
        "num2words==0.5.14": ["LGPL-2.1"],
        "django==5.2.19": ["BSD-3-Clause"],
    }
    assert sorted(task for source in told["sources"] for task in source["tasks"]) == sorted(INSTRUCTIONS["english"])
    titles = ("UNICODE LICENSE V3", "Babel Team", "GNU Lesser General Public License", "Django Software Foundation")
    texts = [
        (folder / text).read_text(encoding="utf-8") for source in told["sources"] for text in source["licence_texts"]
    ]
    for text, title in zip(texts, (titles[0], titles[1], titles[2], "Django"), strict=True):
        assert title in text


@pytest.mark.real
def test_rows_say_what_the_packages_say(rows):
    def row(dataset, task, fact):
        return next((r for r in rows[dataset] if (r["task"], r["fact"]) == (task, fact)), None)

    spelt = [r for name in rows for r in rows[name] if r["task"] == "number"]
    assert all(r["completion"] == r["fact"] and r["fact"] not in r["prompt"] for r in spelt)
    dated = [r for r in rows["english"] if r["task"] == "date"]
    assert all(r["completion"].endswith(f", {r['fact'][:4]}") for r in dated)
    for found in rows.values():
        for r in found:
            if r["task"] == "country":
                options = r["prompt"].splitlines()[1:]
                assert [line[:3] for line in options] == ["A. ", "B. ", "C. ", "D. "]
                assert len(set(options)) == 4
                assert r["completion"] in options
    places = Counter(r["completion"][0] for r in rows["english"] if r["task"] == "country")
    assert set(places) == set("ABCD")


@pytest.mark.real
def test_the_demo_of_the_setup_is_a_run_of_eight_languages(tmp_path):
    config = demo.demo_config(tmp_path, setup="multilingual", steps=12, seed=2)
    assert list(config.mixture.datasets) == list(PAPER)
    assert (config.seed, config.difficulty.groups, config.train["max_steps"]) == (2, 4, 12)
    assert list(demo.demo_config(tmp_path).mixture.datasets) == ["general", "math", "finance", "medical"]


@pytest.mark.real
def test_a_language_has_a_name_for_any_configuration():
    settings = {"model": "somewhere/model", "mixture": {"datasets": {"sw": "demo:multilingual/swahili"}}}
    config = parse(settings, source="test")
    found = names.fill_in(config)
    assert names.is_built(config)
    assert names.with_sizes(config).mixture.datasets["sw"].max_rows == 32
    assert len(Path(found.mixture.datasets["sw"].path).read_bytes().splitlines()) == 32
