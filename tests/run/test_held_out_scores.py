"""Loss and accuracy of each dataset on its held-out rows."""

import json
import math

import pytest
import torch
import yaml
from datasets import Dataset
from tiny_training import tiny_model, token_rows

from hbo.data.mixture import read_mixture
from hbo.data.tokens import tokenize
from hbo.run.held_out_scores import accuracy, averages, cached, held_out_losses


def test_nll_is_the_mean_over_rows_of_the_mean_over_targets():
    model, rows = tiny_model(), token_rows(sizes=(5, 3))
    found = held_out_losses(model, rows, ["a", "b"], pad_token_id=1, phase="held-out")
    losses = []
    for row in rows:
        if row["hbo_dataset"] == "b":
            with torch.no_grad():
                losses.append(model(torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss.item())
    assert found["b"]["n"] == 3
    assert found["b"]["nll"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert found["b"]["perplexity"] == pytest.approx(math.exp(sum(losses) / 3), rel=1e-5)


def test_averages_weigh_every_dataset_alike():
    after = {"a": {"nll": 1.0}, "b": {"nll": 3.0}}
    before = {"a": {"nll": 2.0}, "b": {"nll": 4.0}}
    assert averages(after, before) == {"macro_nll": 2.0, "relative_nll": pytest.approx((0.5 + 0.75) / 2)}
    assert averages({}, {}) == {"macro_nll": None, "relative_nll": None}


def test_a_loss_is_measured_once_per_key():
    calls = []

    def measure():
        calls.append(1)
        return {"a": {"nll": 0.1 + 0.2, "perplexity": 1.0, "n": 2}}

    assert cached("key", measure) == cached("key", measure) == measure()
    assert len(calls) == 2
    cached("other", measure)
    assert len(calls) == 3


@pytest.fixture
def mixture(tokenizer):
    def make(**datasets):
        rows = {
            name: Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in pairs])
            for name, pairs in datasets.items()
        }
        return tokenize(read_mixture(rows), tokenizer, max_length=None)

    return make


def measure(rows, tokenizer, names, max_length=None):
    return accuracy(tiny_model(), rows, names, tokenizer, max_length=max_length, phase="answers")


def test_only_rows_with_an_answer_count_and_each_dataset_says_its_kind(mixture, tokenizer):
    pick = "which?\nA. one\nB. two"
    rows = mixture(
        choice=[(pick, "A. one"), (pick, "B. two"), ("what is it?", "a river")],
        sums=[("one plus two?", "3 rivers")],
        both=[(pick, "B"), ("two?", "2")],
        chat=[("hello", "good day")],
    )
    found = measure(rows, tokenizer, ["choice", "sums", "both", "chat"])
    assert {name: (score["kind"], score["n"]) for name, score in found.items()} == {
        "choice": ("choice", 2),
        "sums": ("numeric", 1),
        "both": ("mixed", 2),
    }
    # The same question with either option as the right one: the model takes one of them.
    assert found["choice"]["accuracy"] == 0.5


def test_a_question_that_is_too_long_with_an_option_is_not_asked(mixture, tokenizer):
    rows = mixture(choice=[("which?\nA. one\nB. two", "A. one"), ("which?\nA. one\nB. two" + " plus" * 50, "A. one")])
    assert measure(rows, tokenizer, ["choice"], max_length=60)["choice"]["n"] == 1


def test_without_held_out_rows_there_is_nothing(mixture, tokenizer):
    rows = mixture(chat=[("hello", "good day")])
    assert measure(rows.select([]), tokenizer, ["chat"]) == {}


@pytest.mark.parametrize("lora", [None, {"r": 2, "target_modules": ["q_proj", "v_proj"]}])
def test_a_run_learns_to_answer_and_says_so(hbo, tmp_path, model_folder, lora):
    pick = "which {i}?\nA. alpha beta\nB. gamma delta"
    rows = {
        "choice": [{"prompt": pick.format(i=i), "completion": "B. gamma delta"} for i in range(40)],
        "sums": [{"prompt": f"{i} what is the sum", "completion": "7 rivers"} for i in range(40)],
        "chat": [{"prompt": f"{i} what is the name", "completion": "river city"} for i in range(20)],
    }
    for name, found in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    config = {
        "model": str(model_folder),
        "output": str(tmp_path / "run"),
        "mixture": {"eval_fraction": 0.1, "datasets": {name: str(tmp_path / f"{name}.jsonl") for name in rows}},
        "difficulty": {"groups": 1},
        "balance": {"method": "uniform"},
        "train": {"max_steps": 30, "learning_rate": 3e-2, "bf16": False, "save_strategy": "no", "report_to": "none"},
        "lora": lora,
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert set(metrics["accuracy"]) == set(metrics["accuracy_before"]) == {"choice", "sums"}
    assert metrics["accuracy_before"]["sums"] == {"accuracy": 0.0, "n": 4, "kind": "numeric"}
    assert metrics["accuracy"]["choice"] == {"accuracy": 1.0, "n": 4, "kind": "choice"}
    if lora is None:
        assert metrics["accuracy"]["sums"]["accuracy"] == 1.0
        assert "0 → 4 of 4" in done.stdout
        assert "Accuracy after" in (tmp_path / "run" / "report.html").read_text()
        again = hbo("train", file, "mixture.eval_accuracy=false", "train.max_steps=1", "--overwrite")
        assert again.returncode == 0, again.stderr
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["accuracy"] == {}
