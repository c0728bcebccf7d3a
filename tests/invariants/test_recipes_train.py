"""The paper's recipes train: their own settings and accelerate file, on a tiny model and rows of the Hub's columns."""

import json
from pathlib import Path

import pytest
import yaml
from courses import launch, records
from tiny_runs import model_folder, tokenizer  # noqa: F401 - fixtures
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
RECIPES = HERE.parents[1] / "recipes"
LANGUAGES = {
    "English": "eng", "Chinese": "zho", "Russian": "rus", "Spanish": "spa", "Arabic": "arb", "German": "deu",
    "Hindi": "hin", "Swahili": "swa",
}  # fmt: skip


def talk(*texts):
    return [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(texts)]


def wild_chat():
    return [
        {"conversation": talk(f"{name} {i}?", "yes", "and?", f"{i % 7}"), "language": name, "toxic": False}
        for name in LANGUAGES
        for i in range(20)
    ]


def aya():
    return [
        {"inputs": f"{code} {i}", "targets": f"{i % 5} {code}", "language_code": code}
        for code in LANGUAGES.values()
        for i in range(20)
    ]


HUB = {
    "multilingual-qwen2.5-7b": {"allenai/WildChat-1M": wild_chat(), "CohereLabs/aya_dataset": aya()},
    "multitask-llama-3.1-8b": {
        "allenai/WildChat-1M": wild_chat(),
        "lmsys/lmsys-chat-1m": [{"conversation": talk(f"{i}", "ok"), "language": "English"} for i in range(120)],
        "meta-math/MetaMathQA": [{"type": "a", "query": f"{i} + 1?", "response": f"{i + 1}"} for i in range(80)],
        "DeividasM/financial-instruction-aq22": [
            {"instruction": f"Price {i}", "input": "", "output": f"{i} EUR"} for i in range(60)
        ],
        "TsinghuaC3I/UltraMedical": [
            {"conversations": [{"from": "human", "value": f"Ill {i}?"}, {"from": "gpt", "value": "No."}], "answer": "A"}
            for i in range(60)
        ],
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HUB)
def test_a_recipe_trains_sharded_over_processes(name, model_folder, tmp_path):  # noqa: F811
    text = (RECIPES / f"{name}.yaml").read_text()
    for dataset, rows in HUB[name].items():
        file = tmp_path / f"{dataset.replace('/', '-')}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert dataset in text
        text = text.replace(dataset, str(file))
    config, run = tmp_path / "recipe.yaml", tmp_path / "run"
    config.write_text(text)
    settings = RECIPES / "accelerate" / "8-gpus.yaml"
    command = ["-m", "accelerate.commands.launch", "--config_file", settings, "--num_processes", 2]
    small = [f"model={model_folder}", "train.max_steps=4", "train.save_steps=2", "balance.update_every=2"]
    share = ["mixture.train_fraction=1", "mixture.eval_fraction=0.05", "balance.probes=8"]
    words = ["train", config, *small, *share, "--output", run]
    launch(*command, HERE / "fsdp_on_cpu.py", *words, cache=tmp_path / "cache")
    ledger = records(run)
    assert [record["step"] for record in ledger] == [0, 2, 4]
    assert [sum(map(sum, record["drawn"].values())) for record in ledger] == [0, 128, 128]  # 64 rows a step
    assert list(ledger[0]["global"]) == list(yaml.safe_load(text)["mixture"]["datasets"])
    assert ledger[2]["global"] != ledger[0]["global"]
    assert (run / "checkpoint-4" / "pytorch_model_fsdp_0").is_dir()  # it was sharded indeed
    AutoModelForCausalLM.from_pretrained(run / "model")
