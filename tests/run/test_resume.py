"""What may not change between a run and its resumption is refused by name."""

import json

import pytest
import yaml

from hbo.config.file import parse
from hbo.errors import ResumeError
from hbo.run.resume import check_config

MINIMAL = {"model": "m", "mixture": {"datasets": {"a": "a.jsonl", "b": {"path": "b.jsonl", "weight": 2}}}}


def run_config(**sections):
    return parse({**MINIMAL, **sections})


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"seed": 1}, "seed (was 0, is 1)"),
        ({"model": "other"}, "model"),
        ({"balance": {"method": "uniform"}}, "balance.method"),
        ({"balance": {"actor": {"kind": "mlp"}}}, "balance.actor.kind"),
        ({"balance": {"probes": 3}}, "balance.probes"),
        ({"difficulty": {"groups": 2}}, "difficulty.groups"),
        ({"lora": {"r": 4}}, "lora"),
        ({"train": {"max_length": 7}}, "train.max_length"),
        ({"mixture": {**MINIMAL["mixture"], "temperature": 2}}, "mixture.temperature"),
        ({"mixture": {"datasets": {"a": "a.jsonl"}}}, "mixture.datasets.b"),
        ({"mixture": {"datasets": {**MINIMAL["mixture"]["datasets"], "c": "c"}}}, "mixture.datasets.c"),
        (
            {"mixture": {"datasets": {**MINIMAL["mixture"]["datasets"], "a": {"path": "a", "split": "x"}}}},
            "mixture.datasets.a.split",
        ),
    ],
)
def test_what_may_not_change_is_named(sections, key):
    with pytest.raises(ResumeError) as error:
        check_config(run_config(), run_config(**sections))
    assert key in str(error.value)


def test_what_may_change_passes():
    datasets = {"a": {"path": "elsewhere/a.jsonl", "weight": 5}, "b": {"path": "b.jsonl", "weight": 0.5}}
    now = run_config(
        output="moved",
        mixture={"datasets": datasets},
        balance={"min_probability": 0.1, "update_every": 7},
        train={"max_steps": 9, "save_steps": 3},
    )
    check_config(run_config(), now)


def test_every_changed_key_is_named_at_once():
    with pytest.raises(ResumeError, match=r"seed .*difficulty\.groups"):
        check_config(run_config(), run_config(seed=1, difficulty={"groups": 2}))


def test_the_command_refuses_a_changed_file_or_key_and_keeps_the_run(hbo, tmp_path, model_folder, write_rows):
    run, config = tmp_path / "run", tmp_path / "config.yaml"
    file = write_rows("b", 20)
    data = {
        "model": str(model_folder),
        "output": str(run),
        "mixture": {"datasets": {"a": str(write_rows("a", 40)), "b": str(file)}},
        "difficulty": {"groups": 1},
        "balance": {"update_every": 2, "probes": 2},
        "train": {"max_steps": 4, "bf16": False, "save_strategy": "steps", "save_steps": 4},
    }
    config.write_text(yaml.safe_dump(data))

    assert hbo("train", config).returncode == 0
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    refused = hbo("train", config, "--resume", "train.max_steps=8", "balance.probes=3")
    assert refused.returncode == 2
    assert "balance.probes (was 2, is 3)" in " ".join(refused.stderr.split())
    lines = file.read_text().splitlines()
    changed = [
        json.loads(line) | {"completion": "now another one"} if i == 7 else json.loads(line)
        for i, line in enumerate(lines)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in changed))
    refused = hbo("train", config, "--resume", "train.max_steps=8")
    assert refused.returncode == 2
    assert f"{file}: dataset 'b' has changed" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    file.write_text("\n".join(lines) + "\n")
    assert hbo("train", config, "--resume", "train.max_steps=8", "balance.update_every=1").returncode == 0
    records = [json.loads(line) for line in (run / "balance.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "changed" in record] == [4]
    assert records[-1]["step"] == 8
