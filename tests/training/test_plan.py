"""What a dry run knows without a network, and what it says the balancing costs."""

import json

import pytest
import transformers as hf
from commands import refused

from hbo.check.cost import norms_notes
from hbo.check.plan import plan_of
from hbo.config.file import parse
from hbo.errors import ConfigError
from hbo.run.arguments import batches_per_step, training_arguments


def run_of(datasets, **sections):
    mixture = {"datasets": datasets, "eval_fraction": 0.1, **sections.pop("mixture", {})}
    train = {"per_device_train_batch_size": 4, "num_train_epochs": 2, **sections.pop("train", {})}
    return parse({"model": "owner/model", "mixture": mixture, "train": train, **sections})


def planned(datasets, **sections):
    return plan_of(run_of(datasets, **sections), offline=True)


HUB = {"a": {"path": "x/a", "max_rows": 300}, "b": {"path": "x/b", "max_rows": 100}}


def test_stated_sizes_give_the_whole_plan():
    plan = planned(HUB, balance={"update_every": 20})
    assert (plan["rows"], plan["held_out"]) == ({"a": 270, "b": 90}, {"a": 30, "b": 10})
    assert (plan["prior"], plan["epochs"]) == ({"a": 0.75, "b": 0.25}, {"a": 2, "b": 2})
    assert (plan["steps"], plan["updates"], plan["probes_per_update"]) == (180, 9, 64)
    assert plan["unread"] == ("a", "b")


def test_local_rows_are_counted_and_those_on_the_hub_are_not_sought(write_rows):
    plan = planned({**HUB, "here": {"path": str(write_rows("here", 40))}}, mixture={"train_fraction": 0.5})
    assert plan["rows"] == {"a": 135, "b": 45, "here": 18}
    assert plan["unread"] == ("a", "b")
    assert not plan["tokenized"]


def test_a_dry_run_counts_local_rows_when_only_the_model_is_elsewhere(hbo, config):
    file = config()
    whole = hbo("train", file, "--dry-run").stdout
    counted = hbo("train", file, "--dry-run", "model=owner/model").stdout
    assert counted.startswith(whole[: whole.index("expected overhead")])  # no row of these is cut off
    assert "nothing was tokenised" in counted
    assert "tokenised" not in whole


@pytest.mark.parametrize(
    ("sections", "known"),
    [
        ({}, {}),
        ({"train": {"max_steps": 50}}, {"steps", "update_share"}),
        ({"balance": {"method": "uniform"}}, {"prior", "updates"}),
        ({"balance": {"method": "uniform"}, "train": {"max_steps": 50}}, {"steps", "prior", "update_share"}),
    ],
)
def test_what_depends_on_an_unknown_size_is_unknown(hbo, sections, known):
    plan = planned({"a": {"path": "x/a"}, "b": HUB["b"]}, **sections)
    assert plan["rows"] == {"a": None, "b": 90}
    assert plan["datasets"] == 2
    assert (plan["steps"] is not None) == ("steps" in known)
    assert (None not in plan["prior"].values()) == ("prior" in known)
    assert (plan["update_share"] is not None) == ("update_share" in known)
    assert plan["epochs"] == {"a": None, "b": plan["epochs"]["b"]}
    assert plan["scoring_share"] is None


def test_weights_for_all_give_the_prior_without_sizes():
    plan = planned({"a": {"path": "x/a", "weight": 3}, "b": {"path": "x/b", "weight": 1}})
    assert plan["prior"] == {"a": 0.75, "b": 0.25}


def test_the_parts_of_a_dataset_on_the_hub_are_unknown(tmp_path, hbo):
    file = tmp_path / "run.json"
    datasets = {"a": {"path": "x/a", "group_by": "kind", "max_rows": 100}, "b": HUB["b"]}
    file.write_text(json.dumps({"model": "owner/model", "mixture": {"datasets": datasets}}))
    done = hbo("train", file, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "hbo: unknown steps of 8 rows, unknown groups, unknown updates of unknown probes" in done.stdout
    assert "a/*" in done.stdout


def test_nothing_is_known_of_packed_rows_before_they_are_tokenised():
    plan = planned(HUB, train={"packing": True})
    assert (plan["steps"], plan["update_share"]) == (None, None)
    plan = planned(HUB, train={"packing": True, "max_steps": 40})
    assert (plan["steps"], plan["update_share"], plan["epochs"]) == (40, None, {"a": None, "b": None})


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        # 9 updates of 64 probes of 3 forwards, a pool of 2 × 4 × 64 rows; 180 steps of 4 rows of 4 forwards
        ({}, (9 * 64 * 3 + 512) / (180 * 4 * 4)),
        ({"train": {"activation_checkpointing": False}}, (9 * 64 * 3 + 512) / (180 * 4 * 3)),
        ({"lora": {"r": 4}}, (9 * 64 * 2 + 512) / (180 * 4 * 3)),
        ({"balance": {"global": False}}, (9 * 64 + 512) / (180 * 4 * 4)),
        ({"balance": {"local_reward": "ifd_ratio"}}, (9 * 64 * 4 + 1024) / (180 * 4 * 4)),
        ({"balance": {"update_every": {"global": 60, "local": 20}}}, (3 * 64 * 3 + 6 * 64 + 512) / (180 * 4 * 4)),
        ({"difficulty": {"groups": 64}, "balance": {"probes": 8}}, (9 * 128 * 3 + 8192) / (180 * 4 * 4)),
        ({"balance": {"method": "proportional"}}, 0),
        ({"balance": {"rewards": "stream"}}, None),
        ({"balance": {"method": "multidds"}}, None),
        ({"balance": {"global_reward": "hbo.rewards.per_row:gradient_norm"}}, (9 * 64 * 3 + 512) / (180 * 4 * 4)),
        ({"balance": {"global_reward": "math:exp"}}, None),  # as good as any function of the user's
    ],
)
def test_the_overhead_of_updates_is_their_passes_over_those_of_training(sections, expected):
    balance = {"update_every": 20, **sections.get("balance", {})}
    if balance.get("method") == "multidds":
        balance["probes"] = 8
    plan = planned(HUB, **{**sections, "balance": balance})
    assert plan["update_share"] == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_scoring_costs_two_passes_of_every_row_once():
    assert planned(HUB)["scoring_share"] == pytest.approx(2 * 360 / (180 * 4 * 4))
    assert planned(HUB, difficulty={"groups": 1})["scoring_share"] == 0
    assert planned(HUB, difficulty={"model": "owner/small"})["scoring_share"] is None


def test_a_fixed_batch_is_met_with_any_number_of_processes():
    assert [batches_per_step(64, 4, processes) for processes in (1, 2, 8, 16)] == [16, 8, 2, 1]
    with pytest.raises(ConfigError, match="3 processes can't share in batches of .* = 4; choose one that, times 3"):
        batches_per_step(64, 4, 3)
    plan = planned(HUB, global_batch_size=64)
    assert (plan["batch"], plan["steps"]) == (64, 12)


def test_a_run_with_a_fixed_batch_has_it(hbo, config, tmp_path):
    done = hbo("train", config(global_batch_size=8))
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run" / "balance.jsonl").read_text().splitlines()]
    assert [sum(map(sum, record["drawn"].values())) for record in records] == [0, 32, 32]  # 4 steps each
    rows = hbo("replay", tmp_path / "run", "--step", 3).stdout.splitlines()
    assert len(rows) == 8
    refused(hbo("train", config(global_batch_size=8), "--resume", "global_batch_size=4"), "global_batch_size")


def test_the_forecast_names_layers_that_are_run_again_for_each_row(tmp_path, write_rows):
    hf.MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    ).save_pretrained(tmp_path / "moe")  # fmt: skip
    hf.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ).save_pretrained(tmp_path / "dense")

    def told(model, **balance):
        run = parse(
            {
                "model": str(tmp_path / model),
                "mixture": {"datasets": {"a": str(write_rows("a", 30))}},
                "balance": balance,
            }
        )
        args = training_arguments(run.model_copy(update={"output": str(tmp_path / "out")}))
        return norms_notes(run, args, str(tmp_path / model))

    assert "MixtralExperts (2 of them)" in told("moe")[0]
    assert "a batch in one pass, as far as" in told("dense")[0]
    assert told("dense", method="uniform") == []
