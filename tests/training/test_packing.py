"""Packed rows train as their examples would, belong to one group, and are measured example by example."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import MOVING, assert_same_weights, ledger, step, tiny_model, token_rows, weights
from transformers import default_data_collator
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from hbo import HBOCallback
from hbo.config import HBOConfig
from hbo.errors import ConfigError, DataError
from hbo.rewards.probe import Probe
from hbo.scoring.batches import pad, reader
from hbo.training.group_losses import Meter
from hbo.training.groups import groups_of
from hbo.training.packing import pack_trainer, pack_within_groups

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")
LENGTH = 32


def packed(rows=None, length=LENGTH):
    return pack_within_groups(token_rows() if rows is None else rows, length)


def parts_of(row):
    ends = np.cumsum(row["seq_lengths"])
    return [row["input_ids"][end - size : end] for end, size in zip(ends, row["seq_lengths"], strict=True)]


def alone(rows, numbers):
    return pad(reader(rows)(np.array(numbers)), 1)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=40))
def test_every_example_is_whole_in_one_row_of_its_own_group(tmp_path_factory, cells):
    ids = iter(range(10_000))
    rows = [
        {"input_ids": [next(ids) for _ in range(size)], "labels": [7] * size, "hbo_dataset": name, "hbo_level": level}
        for name, level, size in cells
    ]
    found = pack_within_groups(Dataset.from_list(rows), 12, cache_dir=tmp_path_factory.mktemp("packed"))
    seen = []
    for row in found:
        assert len(row["input_ids"]) == len(row["labels"]) == sum(row["seq_lengths"]) <= 12
        for example, tokens in zip(row["hbo_example"], parts_of(row), strict=True):
            seen.append(example)
            assert tokens == rows[example]["input_ids"]
            assert (row["hbo_dataset"], row["hbo_level"]) == (rows[example]["hbo_dataset"], rows[example]["hbo_level"])
    assert sorted(seen) == list(range(len(rows)))
    assert groups_of(found).examples_KL.sum() == len(rows)


def test_packed_rows_are_found_again_and_made_anew_when_rows_change(tmp_path):
    first = packed()
    (file,) = (tmp_path / "cache").glob("packed-*.arrow")
    made = file.stat().st_mtime_ns
    assert packed().to_dict() == first.to_dict()
    assert file.stat().st_mtime_ns == made
    packed(token_rows().select(range(30)))
    packed(length=40)
    assert len(list((tmp_path / "cache").glob("packed-*.arrow"))) == 3


def test_rows_that_would_be_cut_are_refused():
    with pytest.raises(DataError, match="has 14 tokens, but packed rows hold 8"):
        packed(length=8)
    with pytest.raises(DataError, match="no column labels"):
        packed(token_rows().remove_columns("labels"))


def test_the_loss_of_a_packed_batch_is_that_of_its_examples_alone():
    rows = token_rows()
    found = packed(rows)
    model = tiny_model().eval()
    collate = DataCollatorForLanguageModeling(pad_token_id=1, padding_free=True)
    chosen = [row for row in found if len(row["seq_lengths"]) > 1][:3]
    examples = [example for row in chosen for example in row["hbo_example"]]
    with torch.no_grad():
        together = model(**collate(chosen), use_cache=False).loss.item()  # as SFTTrainer calls it
        losses = [model(**alone(rows, [number])).loss.item() for number in examples]
    targets = [sum(label != -100 for label in rows[number]["labels"]) for number in examples]
    assert len(examples) > 5
    assert together == pytest.approx(np.average(losses, weights=targets), rel=1e-5)


def test_a_step_with_packed_rows_equals_one_with_their_examples(make_trainer):
    rows = token_rows(sizes=(12,), levels=1)
    once = {"max_steps": 1, "balance": {"method": "proportional"}, "optim": "sgd"}
    unpacked, _ = make_trainer("alone", rows=rows, per_device_train_batch_size=12, **once)
    found = packed(rows)
    assert 1 < len(found) < 12
    together, _ = make_trainer("packed", rows=found, packing=True, per_device_train_batch_size=len(found), **once)
    before = weights(together)
    for trainer in (unpacked, together):
        trainer.train()
    for name, value in weights(unpacked).items():
        assert (value - before[name]).abs().max() > 0
        torch.testing.assert_close(weights(together)[name], value, rtol=1e-4, atol=1e-6)


def test_losses_of_a_flattened_batch_are_booked_on_the_group_of_each_token():
    rows = token_rows()
    found = packed(rows)
    model = tiny_model().train()
    meter = Meter(groups_of(found))
    numbers = [0, len(found) - 1, 1]
    meter.before_step(model, step(numbers))
    collate = DataCollatorForLanguageModeling(pad_token_id=1, padding_free=True)
    model(**collate([found[i] for i in numbers]), use_cache=False)
    sums, tokens = meter.read()
    wanted, count = np.zeros((2, 2)), np.zeros((2, 2))
    for row in (found[i] for i in numbers):
        for number in row["hbo_example"]:
            targets = sum(label != -100 for label in rows[number]["labels"])
            k, level = "ab".index(row["hbo_dataset"]), row["hbo_level"]
            count[k, level] += targets
            wanted[k, level] += targets * model(**alone(rows, [number])).loss.item()
    assert tokens.tolist() == count.tolist()
    assert sums == pytest.approx(wanted, rel=1e-5)


def test_rewards_are_measured_on_single_examples():
    rows = token_rows()
    found = packed(rows.add_column("hbo_reference", np.arange(len(rows)) / 10))
    config = HBOConfig(probes=4, probe_pool=3)
    probe = Probe(found, groups_of(found), config, pad_token_id=1)
    model = tiny_model()
    probe.measure_reference(model)
    whose = [example for row in found for example in row["hbo_example"]]
    assert len(probe.reference) == 12
    for number, loss in probe.reference.items():
        assert loss == pytest.approx(whose[number] / 10, rel=1e-6)
    measured = probe.measure(model, 5)
    for cell, numbers in enumerate(probe.probes(5)):
        losses = [model(**alone(rows, [whose[number]])).loss.item() for number in numbers]
        ratio = np.exp(np.array(losses) - np.array([whose[number] / 10 for number in numbers]))
        assert measured.local_KL.ravel()[cell] == pytest.approx(ratio.mean(), rel=1e-4)
    without = Probe(packed(rows), groups_of(found), config, pad_token_id=1)
    without.measure_reference(model)
    for number, loss in without.reference.items():
        assert loss == pytest.approx(model(**alone(rows, [whose[number]])).loss.item(), rel=1e-5)


def test_a_resumed_run_on_packed_rows_equals_one_that_never_stopped(make_trainer, tmp_path):
    options = {"packing": True, "max_length": LENGTH, "per_device_train_batch_size": 2, "dropout": 0.1}
    whole, _ = make_trainer("whole", rows=packed(), **options)
    whole.train()
    first, _ = make_trainer("parts", rows=packed(), save_strategy="steps", save_steps=5, **options)
    first.train()
    again, callback = make_trainer("parts", rows=packed(), **options)
    again.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-5"))
    assert_same_weights(weights(again), weights(whole))
    assert ledger(tmp_path / "parts") == ledger(tmp_path / "whole")
    assert ledger(tmp_path / "whole")[0]["global"] != ledger(tmp_path / "whole")[-1]["global"]
    tokens = callback.balancing.groups.length_N[
        callback.balancer.stream.rows(0, callback.balancing.schedule.position(12))
    ].sum()
    assert callback.balancing.tokens == tokens
    assert {"loss/a", "loss/b/g2"} <= {key for line in whole.state.log_history for key in line}


def test_packing_that_mixes_groups_or_joins_examples_is_refused_with_what_to_do(make_trainer):
    with pytest.raises(ConfigError, match=r"pack_trainer"):
        make_trainer(packing=True)
    with pytest.raises(ConfigError, match=r"pack_trainer"):
        make_trainer(packing=True, rows=packed(), dataset_kwargs=None)
    with pytest.raises(ConfigError, match="'wrapped' cuts examples"):
        make_trainer(packing=True, packing_strategy="wrapped", rows=packed())
    with pytest.raises(ConfigError, match="attend to each other; set packing: true"):
        make_trainer(rows=packed())


def text_trainer(tmp_path, model_folder, tokenizer, **options):
    rows = [
        {
            "prompt": f"{i} plus {i}",
            "completion": "what is the sum " * (1 + i % 3),
            "hbo_dataset": name,
            "hbo_level": i % 2,
        }
        for name, size in (("a", 40), ("b", 20))
        for i in range(size)
    ]
    settings = {
        "max_length": 40,
        "max_steps": 6,
        "logging_steps": 2,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
    }
    args = SFTConfig(str(tmp_path / "out"), dataloader_pin_memory=False, **{**settings, **options})
    return SFTTrainer(str(model_folder), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def test_following_the_refusal_of_packing_packs_within_groups(tmp_path, model_folder, tokenizer):
    with pytest.raises(
        ConfigError, match=r"leave packing out and call hbo\.training\.packing\.pack_trainer\(trainer\)"
    ):
        HBOCallback(text_trainer(tmp_path, model_folder, tokenizer, packing=True))
    trainer = text_trainer(tmp_path, model_folder, tokenizer)
    prepared = trainer.train_dataset
    pack_trainer(trainer)
    rows = trainer.train_dataset
    assert len(rows) < len(prepared) and max(map(len, rows["input_ids"])) <= 40
    for row in rows:
        whose = {(prepared[i]["hbo_dataset"], prepared[i]["hbo_level"]) for i in row["hbo_example"]}
        assert whose == {(row["hbo_dataset"], row["hbo_level"])}
    callback = HBOCallback(trainer, HBOConfig(**MOVING))
    trainer.add_callback(callback)
    trainer.train()
    records = ledger(tmp_path / "out")
    assert [record["step"] for record in records] == [0, 2, 4, 6]
    assert records[-1]["global"] != records[0]["global"]
    assert {"loss/a", "loss/b"} <= {key for line in trainer.state.log_history for key in line}


def test_a_trainer_that_cannot_load_packed_rows_is_refused(tmp_path, model_folder, tokenizer):
    with pytest.raises(ConfigError, match="has packed its rows already"):
        pack_trainer(text_trainer(tmp_path, model_folder, tokenizer, packing=True))
    with pytest.raises(ConfigError, match="set max_length"):
        pack_trainer(text_trainer(tmp_path, model_folder, tokenizer, max_length=None))
    trainer = text_trainer(tmp_path, model_folder, tokenizer)
    trainer.data_collator = default_data_collator
    with pytest.raises(ConfigError, match="leave data_collator out"):
        pack_trainer(trainer)
