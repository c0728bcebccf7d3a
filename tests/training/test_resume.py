"""What may change between a run and its resumption opens a recorded stage; what may not is refused by name."""

import json

import pytest
import yaml
from tiny_training import ledger, token_rows

from hbo.config.file import parse
from hbo.errors import ResumeError
from hbo.run.resume import check_config
from hbo.training.state import fingerprints

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")
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


def interrupted(make_trainer, **options):
    trainer, callback = make_trainer(max_steps=6, save_strategy="steps", save_steps=5, **options)
    trainer.train()
    return callback.balancer.p_K


def test_new_settings_open_a_recorded_stage_at_the_first_row_not_drawn(make_trainer, tmp_path):
    interrupted(make_trainer)
    trainer, callback = make_trainer(max_steps=12, balance={"update_every": 3, "min_probability": 0.2})
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 2, 4, 5, 6, 9, 12]
    (stage,) = [record for record in records if "changed" in record]
    assert stage["changed"] == ["min_probability", "update_every"]
    assert stage["start"] == callback.balancing.schedule.position(5)
    assert stage["global_reward"] is None
    assert sum(map(sum, stage["drawn"].values())) == 4
    drawn = sum(sum(map(sum, record["drawn"].values())) for record in records)
    assert drawn == callback.balancing.schedule.position(12)
    assert min(min(q) for record in records[3:] for q in record["local"].values()) >= 0.2 - 1e-12


def test_new_weights_multiply_what_was_learned(make_trainer, tmp_path):
    interrupted(make_trainer)
    learned = ledger(tmp_path / "out")[2]["global"]  # step 4, the last before the checkpoint
    trainer, callback = make_trainer(max_steps=6)
    callback.weights = {"a": 1.0, "b": 1.0}
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    (stage,) = [record for record in ledger(tmp_path / "out") if "changed" in record]
    assert stage["changed"] == ["weights"]
    odds = learned["b"] / learned["a"] * (21 / 10)  # the prior was 21 : 10 and is 1 : 1
    assert stage["global"]["b"] / stage["global"]["a"] == pytest.approx(odds, rel=1e-9)


def test_the_same_settings_open_none(make_trainer, tmp_path):
    interrupted(make_trainer)
    trainer, _ = make_trainer(max_steps=12)
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert not [record for record in ledger(tmp_path / "out") if "changed" in record]


def test_changed_rows_another_actor_and_other_groups_are_refused_in_python_too(make_trainer, tmp_path):
    interrupted(make_trainer)
    checkpoint = str(tmp_path / "out" / "checkpoint-5")
    rows = token_rows()
    changed = rows.map(lambda row, i: {"labels": [*row["labels"][:-1], 7]} if i == 30 else row, with_indices=True)
    trainer, _ = make_trainer(rows=changed)
    with pytest.raises(ResumeError, match="dataset 'b' has changed"):
        trainer.train(resume_from_checkpoint=checkpoint)
    trainer, _ = make_trainer(balance={"actor": {"kind": "mlp"}})
    with pytest.raises(ResumeError, match="actor: .*softmax.* in the checkpoint, but .*mlp.* now"):
        trainer.train(resume_from_checkpoint=checkpoint)
    swapped = rows.map(lambda row, i: {"hbo_level": 1 - row["hbo_level"]} if i in (0, 1) else row, with_indices=True)
    trainer, _ = make_trainer(rows=swapped)
    with pytest.raises(ResumeError, match="other difficulty groups"):
        trainer.train(resume_from_checkpoint=checkpoint)


def test_fingerprints_tell_which_dataset_differs():
    rows = token_rows()
    one = rows.map(lambda row, i: {"input_ids": row["input_ids"] + [3]} if i == 2 else row, with_indices=True)
    before, after = fingerprints(rows, rows.select([25])), fingerprints(one, rows.select([25]))
    assert before["a"] != after["a"]
    assert before["b"] == after["b"]
    assert fingerprints(rows)["b"] != before["b"]  # held-out rows count too


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
