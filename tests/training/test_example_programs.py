"""The programs in examples/ run, move the probabilities, and resume to the bit."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file
from tiny_training import ledger

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set:UserWarning")


@pytest.fixture
def example(monkeypatch, model_folder):
    def run(name, output, *words):
        # As in a process of its own: other tests leave their trainers' precision behind.
        for variable in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU"):
            monkeypatch.delenv(variable, raising=False)
        for state in (AcceleratorState, PartialState, GradientState):
            state._shared_state.clear()
        words = [str(word) for word in ("--model", model_folder, "--output", output, *words)]
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def same_weights(left, right):
    left, right = load_file(left), load_file(right)
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


@pytest.mark.trl
def test_dpo(example, tmp_path, capsys):
    run = tmp_path / "run"
    example("dpo.py", run, "--steps", 4, "--update-every", 2)
    assert "of the time went into measuring rewards" in capsys.readouterr().out
    whole = ledger(run)
    assert [record["step"] for record in whole] == [0, 2, 4]
    assert whole[-1]["global"] != whole[0]["global"]
    assert list(whole[0]["global"]) == ["capitals", "manners", "sums"]
    assert whole[-1]["local"]["sums"] != whole[0]["local"]["sums"]
    weights = tmp_path / "whole.safetensors"
    shutil.move(run / "checkpoint-4" / "model.safetensors", weights)
    shutil.rmtree(run / "checkpoint-4")
    example("dpo.py", run, "--steps", 4, "--update-every", 2, "--resume")
    assert ledger(run) == whole
    assert same_weights(run / "checkpoint-4" / "model.safetensors", weights)


def test_accelerate_loop(example, tmp_path):
    example("accelerate_loop.py", tmp_path / "whole", "--steps", 12, "--update-every", 3)
    example("accelerate_loop.py", tmp_path / "halves", "--steps", 6, "--update-every", 3)
    example("accelerate_loop.py", tmp_path / "halves", "--steps", 12, "--update-every", 3, "--resume")
    whole = ledger(tmp_path / "whole")
    assert [record["step"] for record in whole] == [0, 3, 6, 9, 12]
    assert [record["start"] for record in whole] == [0, 32, 56, 80, 104]
    assert whole[-1]["global"] != whole[0]["global"]
    assert whole[-1]["local"] != whole[0]["local"]
    assert [sum(map(sum, record["drawn"].values())) for record in whole[1:]] == [24] * 4
    assert ledger(tmp_path / "halves") == whole
    names = [tmp_path / folder / "checkpoint" / "model.safetensors" for folder in ("whole", "halves")]
    assert same_weights(*names)
    assert json.loads((tmp_path / "whole" / "balance.jsonl").read_text().splitlines()[-1])["probe_examples"] == 14
