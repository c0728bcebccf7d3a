"""Promises of HBOCallback on DPOTrainer, whose loss isn't a mean over target tokens."""

import copy
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from courses import assert_one_course, launch, records
from own_losses import ALL_ROWS, measured_and_expected, preferences, shaken
from peft import LoraConfig
from tiny_training import MOVING, QUIET, assert_same_weights, ledger, weights
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from hbo import HBOCallback, HBOConfig
from hbo.errors import ConfigError, ResumeError
from hbo.training.balancing import parts_of

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


@pytest.fixture
def make_dpo(tmp_path, model_folder, tokenizer):
    def make(
        folder="dpo", *, rows=None, balance=None, peft=False, weights=None, ref_model=None, eval_rows=None, **train
    ):
        options = {
            **QUIET,
            "per_device_train_batch_size": 4,
            "max_steps": 8,
            "learning_rate": 1e-2,
            "logging_steps": 3,
            "activation_checkpointing": False,
        }
        trainer = DPOTrainer(
            str(model_folder),
            ref_model=ref_model,
            args=DPOConfig(str(tmp_path / folder), **{**options, **train}),
            train_dataset=preferences() if rows is None else rows,
            eval_dataset=eval_rows,
            processing_class=tokenizer,
            peft_config=LoraConfig(r=2, lora_dropout=0.3, task_type="CAUSAL_LM") if peft else None,
        )
        callback = HBOCallback(trainer, HBOConfig(**{**MOVING, **(balance or {})}), weights=weights)
        trainer.add_callback(callback)
        return trainer, callback

    return make


def log_probability(model, row, answer):
    """Of an answer's tokens after the prompt, by the model's plain logits."""
    ids = torch.tensor([row["prompt_ids"] + row[answer]])
    log_p = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return log_p[len(row["prompt_ids"]) - 1 :].sum()


def dpo_by_hand(model, reference, row, beta=0.1):
    """−log σ(β · (how much likelier the chosen answer became − how much likelier the rejected one did))."""
    gain = {}
    for answer in ("chosen_ids", "rejected_ids"):
        with torch.no_grad():
            before = log_probability(reference, row, answer)
        gain[answer] = log_probability(model, row, answer) - before
    return -logsigmoid(beta * (gain["chosen_ids"] - gain["rejected_ids"]))


def own_loss(trainer, row):
    return trainer.compute_loss(trainer.model, trainer.data_collator([row]))


def test_rewards_are_gradient_norm_and_growth_of_the_dpo_loss_written_out(make_dpo, model_folder):
    trainer, callback = make_dpo(rows=preferences(sizes=(5, 4)), balance=ALL_ROWS)
    reference = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    measured, expected = measured_and_expected(
        trainer, callback, lambda row: dpo_by_hand(trainer.model, reference, trainer.train_dataset[row])
    )
    assert measured[0] == pytest.approx(expected[0], rel=1e-4)
    assert measured[1] == pytest.approx(expected[1], rel=1e-4)
    assert callback.config.local_reward == "loss_ratio"


@pytest.mark.parametrize(
    "options",
    [
        {"loss_type": ["ipo"]},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"peft": True},
        {"precompute_ref_log_probs": True, "max_length": 9},
    ],
    ids=["ipo", "two losses", "lora", "reference in the rows, cut answers"],
)
def test_rewards_are_those_of_the_trainers_own_loss(make_dpo, options):
    trainer, callback = make_dpo(rows=preferences(sizes=(5, 4)), balance=ALL_ROWS, **options)
    measured, expected = measured_and_expected(
        trainer, callback, lambda row: own_loss(trainer, trainer.train_dataset[row])
    )
    assert measured[0] == pytest.approx(expected[0], rel=1e-5)
    assert measured[1] == pytest.approx(expected[1], rel=1e-5)


def without_balance(logs):
    kept = [{k: v for k, v in line.items() if not k.startswith(("balance/", "loss/"))} for line in logs]
    unequal = ("runtime", "per_second", "total_flos")
    return [{k: v for k, v in line.items() if not any(word in k for word in unequal)} for line in kept]


@pytest.mark.parametrize("peft", [False, True])
def test_measuring_leaves_no_trace_on_training_or_its_log(make_dpo, peft):
    frozen = {"actor": {"learning_rate": 1e-300}}
    options = {"peft": peft, "eval_rows": preferences(sizes=(3, 2), seed=1), "eval_strategy": "steps", "eval_steps": 4}
    options |= {"disable_dropout": False}  # of the adapter
    options |= {"logging_steps": 2}  # an update has the trainer log its step, so it logs these steps anyway
    measured, callback = make_dpo("on", balance=frozen, **options)
    measured.train()
    plain, _ = make_dpo("off", balance={"method": "proportional"}, **options)
    plain.train()
    assert [entry.step for entry in callback.balancer.ledger] == [0, 2, 4, 6, 8]
    assert_same_weights(weights(measured), weights(plain))
    assert without_balance(measured.state.log_history) == without_balance(plain.state.log_history)


@pytest.mark.parametrize(
    "options",
    [{"gradient_accumulation_steps": 2}, {"peft": True}, {"precompute_ref_log_probs": True}],
    ids=["reference model", "lora", "reference in the rows"],
)
def test_resume_is_bitwise(make_dpo, tmp_path, options):
    options |= {"save_strategy": "steps", "save_steps": 3}
    whole, _ = make_dpo(**copy.deepcopy(options))
    whole.train()
    expected = weights(whole), ledger(tmp_path / "dpo")
    assert expected[1][-1]["global"] != expected[1][0]["global"]
    assert expected[1][-1]["local"] != expected[1][0]["local"]
    again, _ = make_dpo(**copy.deepcopy(options))
    again.train(resume_from_checkpoint=str(tmp_path / "dpo" / "checkpoint-3"))
    assert_same_weights(weights(again), expected[0])
    assert ledger(tmp_path / "dpo") == expected[1]


def test_the_model_sees_the_stream_and_the_stream_follows_the_probabilities(make_dpo):
    static = {"method": "proportional"}
    trainer, callback = make_dpo(balance=static, weights={"a": 1, "b": 9}, max_steps=40, learning_rate=0.0)
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.extend(map(tuple, kwargs["input_ids"][:4].tolist())), with_kwargs=True
    )
    trainer.train()
    rows = callback.balancer.stream.rows(0, callback.balancing.schedule.position(40)).tolist()
    names = Counter(trainer.train_dataset["hbo_dataset"][row] for row in rows)
    assert abs(names["b"] / len(rows) - 0.9) < 0.06  # 160 draws: two standard deviations are 0.05
    prompts = trainer.train_dataset["prompt_ids"][:]
    at = 0
    for step in range(40):
        window = callback.balancer.stream.rows(*map(callback.balancing.schedule.position, (step, step + 1))).tolist()
        begins = Counter(tuple(prompts[row]) for row in window)
        found = seen[at : at + len(window)]
        assert all(sum(ids[: len(prompt)] == prompt for ids in found) >= n for prompt, n in begins.items())
        at += len(window)
    assert at == len(seen)


@pytest.mark.parametrize(
    "options",
    [{}, {"peft": True}, {"precompute_ref_log_probs": True}, {"max_length": 12, "gradient_accumulation_steps": 2}],
    ids=["reference model", "lora", "reference in the rows", "cut answers"],
)
def test_the_logged_loss_of_a_dataset_is_the_trainers_own(make_dpo, options):
    # At learning rate 0 every row's loss stays what it is; the start is shaken off the reference so that they differ.
    trainer, callback = make_dpo(learning_rate=0.0, max_steps=3, balance={"update_every": 50}, **options)
    shaken(trainer.model)
    trainer.train()
    line = next(line for line in trainer.state.log_history if "loss/a" in line)
    plain = next(line for line in trainer.state.log_history if "loss" in line)
    rows = callback.balancer.stream.rows(0, callback.balancing.schedule.position(3)).tolist()
    losses = {"a": [], "b": []}
    trainer.model.eval()
    for row in rows:
        example = trainer.train_dataset[row]
        losses[example["hbo_dataset"]].append(own_loss(trainer, example).item())
    for name, values in losses.items():
        assert line[f"loss/{name}"] == pytest.approx(np.mean(values), rel=1e-4)
    assert plain["loss"] == pytest.approx(np.mean([*losses["a"], *losses["b"]]), abs=2e-4)  # the log is rounded
    assert len({round(value, 3) for value in losses["a"]}) > 1


def test_the_length_of_a_row_is_that_of_both_its_sequences(make_dpo):
    trainer, callback = make_dpo()
    lengths = callback.trainer.train_dataset.map(
        lambda row: {"n": 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])}
    )["n"][:]
    groups, _ = parts_of(trainer, callback.config, 0)
    assert groups.length_N.tolist() == lengths


@pytest.mark.parametrize(
    ("balance", "says"),
    [
        ({"local_reward": "perplexity_ratio"}, "choose one of gradient_norm, loss_ratio, loss"),
        ({"global_reward": "perplexity"}, "global_reward is 'perplexity'"),
        ({"local_reward": "ifd_ratio"}, "local_reward is 'ifd_ratio'"),
        ({"rewards": "stream"}, "set it to probe"),
        ({"method": "multidds"}, "global_reward is 'gradient_alignment'"),
        ({"global_reward": "hbo.rewards.gain:gain"}, "global_reward is 'hbo.rewards.gain:gain'"),
    ],
)
def test_what_presumes_a_token_loss_is_refused_by_name(make_dpo, balance, says):
    with pytest.raises(ConfigError, match="DPOTrainer's loss isn't a mean over target tokens") as refusal:
        make_dpo(balance=balance)
    assert says in str(refusal.value)


def test_a_reward_of_the_users_own_gets_each_pair(make_dpo, tmp_path):
    shapes = []

    def margin(model, batch, *, loss, reference, **_):
        shapes.append((batch["input_ids"].shape[0], loss.shape, reference.shape))
        return loss + 1

    trainer, _ = make_dpo(balance={"global_reward": "loss", "local_reward": margin}, max_steps=2)
    trainer.train()
    assert set(shapes) == {(2, (1,), (1,))}
    record = json.loads((tmp_path / "dpo" / "balance.jsonl").read_text().splitlines()[-1])
    assert all(value > 1 for values in record["local_reward"].values() for value in values)


def test_changed_preferences_are_refused_at_resume(make_dpo, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trainer, _ = make_dpo(**saving)
    trainer.train()
    changed = preferences().map(
        lambda row, i: {"rejected": " river" if i == 25 else row["rejected"]}, with_indices=True
    )
    again, _ = make_dpo(rows=changed, **saving)
    with pytest.raises(ResumeError, match="dataset 'b' has changed"):
        again.train(resume_from_checkpoint=str(tmp_path / "dpo" / "checkpoint-2"))


@pytest.mark.slow
def test_two_processes_take_the_course_of_one(model_folder, tmp_path):
    script, rows = Path(__file__).with_name("dpo_in_processes.py"), tmp_path / "rows.jsonl"
    preferences().to_json(rows)
    launch(script, model_folder, rows, tmp_path / "one")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    launch(*torchrun, script, model_folder, rows, tmp_path / "two")
    assert_one_course(records(tmp_path / "one"), records(tmp_path / "two"))
