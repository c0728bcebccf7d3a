"""Promises about the check that every trainer's run goes through: it passes what is right, and finds what isn't."""

import json

import check
import pytest
import torch
from safetensors.torch import save_file

ROWS, EVERY, STEPS = 10, 5, 20  # rows of a step, steps between two updates, steps in all
EASY = [0.6, 0.5, 0.4, 0.3, 0.2]  # the probability after each update


@pytest.fixture
def runs(tmp_path):
    """A whole run's folder and a resumed run's, as a trainer balanced by HBO would leave them."""
    for name in ("whole", "resumed"):
        folder = tmp_path / name
        folder.mkdir()
        held = [EASY[(step - 1) // EVERY] for step in range(1, STEPS + 1)]
        batches = [{"easy": round(ROWS * p), "hard": ROWS - round(ROWS * p)} for p in held]
        lines = [{"process": 1, "step": i + 1, "rows": rows} for i, rows in enumerate(batches)]
        records = []
        for number, p in enumerate(EASY):
            step = number * EVERY
            mine = batches[max(0, step - EVERY) : step]
            drawn = {dataset: [sum(rows[dataset] for rows in mine)] for dataset in ("easy", "hard")}
            policy = {"global": {"easy": p, "hard": 1 - p}, "local": {"easy": [1.0], "hard": [1.0]}}
            records.append({"step": step, "start": step * ROWS, **policy, "drawn": drawn, "seconds": float(len(name))})
        write(folder / "seen.jsonl", lines)
        write(folder / "balance.jsonl", records)
        for step in (10, 20):
            (folder / f"checkpoint-{step}").mkdir()
            save_file({"w": torch.full((3,), float(step))}, folder / f"checkpoint-{step}" / "model.safetensors")
            (folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}\n", encoding="utf-8")
    return tmp_path / "whole", tmp_path / "resumed"


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_runs_that_are_right_pass(runs, capsys):
    check.main(*runs)
    assert "bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize("killed", [11, 12])  # in the first step after the checkpoint of step 10, and in the second
def test_steps_taken_again_after_a_kill_count_once(runs, killed):
    lines = read(runs[1] / "seen.jsonl")
    write(runs[1] / "seen.jsonl", [*lines[:killed], *({**line, "process": 2} for line in lines[10:])])
    check.main(*runs)


def too_few(whole, resumed):
    write(whole / "balance.jsonl", read(whole / "balance.jsonl")[:3])


def unmoved(whole, resumed):
    write(
        whole / "balance.jsonl",
        [{**each, "global": {"easy": 0.6, "hard": 0.4}} for each in read(whole / "balance.jsonl")],
    )


def other_names(whole, resumed):
    text = (whole / "balance.jsonl").read_text(encoding="utf-8")
    (whole / "balance.jsonl").write_text(text.replace('"easy"', '"0"'), encoding="utf-8")


def drawn_otherwise(whole, resumed):
    records = read(whole / "balance.jsonl")
    records[-1]["drawn"] = {"easy": [45], "hard": [5]}
    write(whole / "balance.jsonl", records)


def trained_on_others(whole, resumed):
    lines = read(whole / "seen.jsonl")
    lines[3]["rows"] = {"easy": 1, "hard": 9}
    write(whole / "seen.jsonl", lines)


def resumed_on_others(whole, resumed):
    lines = read(resumed / "seen.jsonl")
    lines[3]["rows"], lines[12]["rows"] = lines[12]["rows"], lines[3]["rows"]
    write(resumed / "seen.jsonl", lines)


def resumed_otherwise(whole, resumed):
    records = read(resumed / "balance.jsonl")
    records[-1]["global"]["easy"] += 1e-12
    write(resumed / "balance.jsonl", records)


def resumed_to_other_weights(whole, resumed):
    save_file({"w": torch.full((3,), 20.000002)}, resumed / "checkpoint-20" / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (too_few, "2 updates"),
        (unmoved, "moved by"),
        (other_names, "datasets are called"),
        (drawn_otherwise, "expected"),
        (trained_on_others, "in the batches"),
        (resumed_on_others, "other rows"),
        (resumed_otherwise, "ledger differs"),
        (resumed_to_other_weights, "1 of 1 weights differ"),
    ],
)
def test_what_is_wrong_is_found(damage, said, runs):
    damage(*runs)
    with pytest.raises(AssertionError, match=said):
        check.main(*runs)
