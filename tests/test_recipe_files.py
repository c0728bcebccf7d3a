"""Every file in recipes/ is ready: it plans without a network, says what the paper says, and reads the Hub's columns."""

import re
import shlex
import socket
from pathlib import Path

import pytest
import yaml
from commands import hbo, refused  # noqa: F401
from datasets import Dataset

from hbo.config.file import load
from hbo.data.mixture import dataset_sizes, read_mixture

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
KNOWN = sorted((Path(__file__).parents[1] / "recipes" / "known").glob("*.yaml"))
PAPER = [path for path in RECIPES if path.stem not in ("smollm2", "tiny", "tiny-multilingual")]
MODELS = {
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B",
    "eurollm-9b": "utter-project/EuroLLM-9B",
}
SIZES = {
    "multilingual": {
        "en": 273_000, "zh": 102_000, "ru": 49_000, "es": 15_000, "ar": 12_000, "de": 6_000, "hi": 1_000, "sw": 578,
    },
    "multitask": {"general": 1_196_000, "math": 393_000, "finance": 256_000, "medical": 409_000},
}  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """An empty cache, an empty current folder, and no network."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("recipe", [*RECIPES, *KNOWN], ids=lambda path: path.stem)
def test_a_dry_run_of_every_recipe_plans_and_leaves_no_trace(hbo, recipe, tmp_path):  # noqa: F811
    done = hbo("train", recipe, "--dry-run")
    assert done.returncode == 0, done.stderr
    config = load(recipe)
    assert [words[0] for words in planned(done.stdout)] == list(config.mixture.datasets)
    assert not any("unknown" in line for line in done.stdout.splitlines())
    assert re.search(r"updates at most \d+\.\d%; scoring the rows once: at most \d+\.\d%", done.stdout)
    assert list(tmp_path.iterdir()) == []


def planned(plan):
    """The words of each line of the table of datasets."""
    _, _, table = plan.partition("──\n")
    return [line.split() for line in table.partition("share at start:")[0].splitlines()]


@pytest.mark.parametrize("recipe", PAPER, ids=lambda path: path.stem)
def test_the_plan_is_the_papers(hbo, recipe):  # noqa: F811
    setup = recipe.stem.partition("-")[0]
    plan = hbo("train", recipe, "--dry-run").stdout
    # 91.7K and 225K rows, three times, 64 at a time, are 4,299 and 10,566 steps; 1% and 0.1% are held out.
    steps, groups, updates, probes = (4257, 32, 21, 512) if setup == "multilingual" else (10557, 16, 52, 256)
    title = (
        f"hbo: {steps} steps of 64 rows, {groups} groups ({groups // 4} datasets × 4), {updates} updates of {probes}"
    )
    assert plan.startswith(f"{title} probes\n")
    total = sum(SIZES[setup].values())
    for name, size in SIZES[setup].items():
        (words,) = [words for words in planned(plan) if words[0] == name]
        _, train, held_out, prior, *_, passes = words
        share, held = (0.2, 0.01) if setup == "multilingual" else (0.1, 0.001)
        assert int(held_out) == round(held * size)
        assert int(train) == round(share * (size - int(held_out)))
        assert float(prior.removesuffix("%")) == pytest.approx(100 * size / total, abs=0.06)
        assert float(passes) == pytest.approx(3, abs=0.02)


def test_there_is_a_recipe_for_every_setup_and_model():
    assert {path.stem for path in PAPER} == {f"{setup}-{model}" for setup in SIZES for model in MODELS}


@pytest.mark.parametrize("recipe", PAPER, ids=lambda path: path.stem)
def test_the_settings_are_the_papers(recipe):
    setup, _, model = recipe.stem.partition("-")
    config = load(recipe)
    assert (config.model, config.output) == (MODELS[model], f"runs/{recipe.stem}")
    assert (config.global_batch_size, config.lora) == (64, None)
    expected = {
        "num_train_epochs": 3, "learning_rate": 1e-5, "lr_scheduler_type": "linear", "warmup_steps": 0.1,
        "weight_decay": 0.1, "bf16": True, "activation_checkpointing": True, "max_length": 4096,
    }  # fmt: skip
    assert expected.items() <= config.train.items()
    assert (config.balance.method, config.balance.update_every, config.balance.temperature) == ("hbo", 200, 1)
    assert (config.balance.global_reward, config.balance.local_reward) == ("gradient_norm", "perplexity_ratio")
    assert (config.difficulty.metric, config.difficulty.groups) == ("ifd", 4)
    assert config.mixture.train_fraction == (0.2 if setup == "multilingual" else 0.1)
    assert {name: entry.max_rows for name, entry in config.mixture.datasets.items()} == SIZES[setup]


@pytest.mark.parametrize("setup", SIZES)
def test_the_recipes_of_a_setup_differ_in_their_model_only(setup):
    contents = [yaml.safe_load(path.read_text()) for path in PAPER if path.stem.startswith(setup)]
    for content in contents:
        del content["model"], content["output"]
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.parametrize("recipe", PAPER, ids=lambda path: path.stem)
def test_the_commands_at_the_top_are_of_this_file_and_exist(recipe):
    lines = [line[1:].partition("  # ")[0] for line in recipe.read_text().splitlines() if line.startswith("#   ")]
    commands = [shlex.split(line) for line in lines]
    assert [words[0] for words in commands] == ["hbo", "hbo", "accelerate"]
    root = recipe.parents[1]
    for words in commands:
        files = [word for word in words if word.startswith("recipes/")]
        assert f"recipes/{recipe.name}" in files
        assert all((root / file).is_file() for file in files)
    launch = commands[2]
    settings = yaml.safe_load((root / launch[launch.index("--config_file") + 1]).read_text())
    assert (settings["num_processes"], settings["distributed_type"]) == (8, "FSDP")


def wild_chat(language, *turns):
    def turn(i, text):
        return {
            "content": text, "country": "France", "hashed_ip": "0f", "header": {"accept-language": "fr"},
            "language": language, "redacted": False, "role": ["user", "assistant"][i % 2], "state": None,
            "timestamp": None, "toxic": False, "turn_identifier": i,
        }  # fmt: skip

    return {
        "conversation_hash": "c0", "model": "gpt-4", "timestamp": "2023", "turn": len(turns) // 2,
        "conversation": [turn(i, text) for i, text in enumerate(turns)], "language": language,
        "openai_moderation": [{"flagged": False}], "detoxify_moderation": [{"toxicity": 0.1}],
        "toxic": False, "redacted": False, "state": "Paris", "country": "France", "hashed_ip": "0f",
        "header": {"accept-language": "fr"},
    }  # fmt: skip


def aya(code, prompt, answer):
    names = {"language": code, "language_code": code, "annotation_type": "original-annotations", "user_id": "u"}
    return {"inputs": prompt, "targets": answer, **names}


LANGUAGES = {
    "en": ("English", "eng"), "zh": ("Chinese", "zho"), "ru": ("Russian", "rus"), "es": ("Spanish", "spa"),
    "ar": ("Arabic", "arb"), "de": ("German", "deu"), "hi": ("Hindi", "hin"), "sw": ("Swahili", "swa"),
}  # fmt: skip
# A few rows of every dataset, with the columns that it has on the Hub.
HUB = {
    "allenai/WildChat-1M": [
        *(wild_chat(name, f"{key} asks", f"{key} answers", "more?", "no") for key, (name, _) in LANGUAGES.items()),
        wild_chat("Korean", "k", "k"),
    ],
    "CohereLabs/aya_dataset": [
        *(aya(code, f"{key} inputs", f"{key} targets") for key, (_, code) in LANGUAGES.items()),
        aya("swh", "sw inputs", "sw targets"),
        aya("kor", "k", "k"),
    ],
    "lmsys/lmsys-chat-1m": [
        {
            "conversation_id": "1", "model": "vicuna-13b", "turn": 1, "language": language, "redacted": False,
            "conversation": [{"content": "hi", "role": "user"}, {"content": "hello", "role": "assistant"}],
            "openai_moderation": [{"flagged": False}],
        }
        for language in ("English", "Portuguese")
    ],
    "meta-math/MetaMathQA": [
        {"type": "GSM_Rephrased", "query": "1 + 1?", "original_question": "Sum?", "response": "The answer is: 2"}
    ],
    "DeividasM/financial-instruction-aq22": [
        {"instruction": "Explain.", "input": "A bond.", "output": "A loan."},
        {"instruction": "Define a share.", "input": "", "output": "A part."},
    ],
    "TsinghuaC3I/UltraMedical": [
        {
            "id": "MedQA,1", "type": "Exam", "answer": "B", "score": 8,
            "conversations": [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "So the answer is B."}],
        }
    ],
}  # fmt: skip


@pytest.fixture
def local(tmp_path):
    """A configuration with a Parquet file in the place of every Hub dataset."""
    files = {}
    for name, rows in HUB.items():
        files[name] = str(tmp_path / f"{name.replace('/', '-')}.parquet")
        Dataset.from_list(rows).to_parquet(files[name])

    def make(recipe):
        datasets = {}
        for name, entry in load(recipe).mixture.datasets.items():
            also = [source.model_copy(update={"path": files[source.path]}) for source in entry.also]
            datasets[name] = entry.model_copy(update={"path": files[entry.path], "also": also})
        return datasets

    return make


@pytest.mark.parametrize("recipe", PAPER, ids=lambda path: path.stem)
def test_the_columns_of_the_hub_are_read_as_prompts_and_answers(recipe, local):
    data = read_mixture(local(recipe))

    def texts(name):
        rows = [row for row in data if row["hbo_dataset"] == name]
        return [[turn["content"] for turn in row["prompt"] + row["completion"]] for row in rows]

    if recipe.stem.startswith("multilingual"):
        assert dataset_sizes(data) == {**dict.fromkeys(LANGUAGES, 2), "sw": 3}
        for key in LANGUAGES:
            wild, other = [f"{key} asks", f"{key} answers", "more?", "no"], [f"{key} inputs", f"{key} targets"]
            assert texts(key) == [wild, other, other][: 3 if key == "sw" else 2]
        first = next(row for row in data if row["hbo_dataset"] == "en")
        assert [turn["role"] for turn in first["prompt"]] == ["user"]
        assert [turn["role"] for turn in first["completion"]] == ["assistant", "user", "assistant"]
        return
    assert texts("general") == [["en asks", "en answers", "more?", "no"], ["hi", "hello"]]
    assert texts("math") == [["1 + 1?", "The answer is: 2"]]
    assert texts("finance") == [["Explain.\n\nA bond.", "A loan."], ["Define a share.", "A part."]]
    assert texts("medical") == [["Which?", "So the answer is B."]]


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("train.learning_rat=1", ["train.learning_rat", "'learning_rate'"]),
        ("lora.rank=4", ["lora.rank"]),
        ("train.gradient_accumulation_steps=4", ["global_batch_size", "leave one of them out"]),
        ("train.per_device_train_batch_size=5", ["global_batch_size is 64", "= 5"]),
        ("global_batch_size=0", ["global_batch_size"]),
        ("balance.probe=3", ["balance.probe"]),
        ("balance.global_reward=nothing", ["balance.global_reward", "gradient_norm"]),
        ("balance.min_probability=0.5", ["min_probability is 0.5"]),
        ("model=/no/such/folder", ["/no/such/folder"]),
        ("model='not a name'", ["not a name"]),
        ("mixture.datasets.en.path=/no/such.jsonl", ["/no/such.jsonl"]),
        ("mixture.datasets.en.where=English", ["mixture.datasets.en.where"]),
        ("mixture.datasets.en.also=[{pth: x}]", ["also", "pth", "'path'"]),
        ("mixture.max_passes=2", ["max_passes is 2"]),
    ],
)
def test_a_dry_run_refuses_what_training_would(hbo, override, fragments):  # noqa: F811
    refused(hbo("train", PAPER[0], "--dry-run", override), *fragments)
