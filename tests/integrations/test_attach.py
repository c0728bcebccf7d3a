import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_models import tiny
from transformers import Trainer, TrainingArguments

from hbo.errors import ConfigError, DataError
from hbo.integrations.attach import attach, with_levels
from hbo.integrations.section import section_of
from hbo.scoring.losses import per_example_loss
from hbo.training.own_columns import WithoutOurColumns

PAD = 3


class Letters:
    """As much of a tokenizer as scoring asks for: no chat template, and a BOS to stand for the opening."""

    chat_template, bos_token_id, eos_token_id, pad_token_id = None, 1, 2, PAD


def row(name, number, *, asked=True):
    generator = np.random.default_rng([number, name == "b"])
    ids = [1, *generator.integers(4, 97, size=4 + number % 5).tolist()]
    return {"input_ids": ids, "labels": [-100] * 3 * asked + ids[3 * asked :], "hbo_dataset": name}


def padded(rows):
    assert all(set(each) == {"input_ids", "labels"} for each in rows), "a tensor is to be made of every column"
    longest = max(len(each["input_ids"]) for each in rows)
    batch = {
        key: torch.tensor([each[key] + [fill] * (longest - len(each[key])) for each in rows])
        for key, fill in (("input_ids", PAD), ("labels", -100))
    }
    return batch | {"attention_mask": (batch["input_ids"] != PAD).long()}


def trainer_of(rows, folder, **options):
    args = TrainingArguments(
        str(folder), max_steps=6, per_device_train_batch_size=4, report_to="none", use_cpu=True, save_strategy="no",
        remove_unused_columns=False, learning_rate=1e-2, **options,
    )  # fmt: skip
    return Trainer(tiny(), args, padded, Dataset.from_list(rows), processing_class=Letters())


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def rows():
    return [row(name, number) for name in "ab" for number in range(20)]


def test_a_foreign_trainer_is_balanced_on_levels_of_its_own_tokens(rows, tmp_path):
    trainer = trainer_of(rows, tmp_path)
    callback = attach(trainer, section_of({"update_every": 2, "probes": 4, "difficulty": {"groups": 2}}))
    trainer.train()
    assert len(callback.balancer.ledger) == 4
    assert callback.groups.sizes_KL.tolist() == [[10, 10], [10, 10]]


def test_levels_by_loss_are_the_models_losses_in_order(rows, tmp_path):
    trainer = trainer_of(rows, tmp_path)
    loss_N = np.array([per_example_loss(trainer.model.eval(), padded([bare(each)])).item() for each in rows])
    attach(trainer, section_of({"difficulty": {"groups": 2, "metric": "loss", "precision": "fp32"}}))
    level_N = np.array(trainer.train_dataset["hbo_level"][:])
    for name in "ab":
        mine = np.array([each["hbo_dataset"] == name for each in rows])
        assert loss_N[mine & (level_N == 0)].max() < loss_N[mine & (level_N == 1)].min()


def test_levels_by_length_ask_no_model(rows, tmp_path):
    trainer = trainer_of(rows, tmp_path)
    trainer.processing_class = None
    attach(trainer, section_of({"difficulty": {"groups": 2, "metric": "length"}}))
    length_N = np.array([len(each["input_ids"]) for each in rows])
    level_N = np.array(trainer.train_dataset["hbo_level"][:])
    assert length_N[level_N == 0].max() <= length_N[level_N == 1].min()


def test_rows_of_pairs_have_levels_by_length_only(tmp_path):
    pairs = [{"chosen_ids": [1] * (2 + n % 7), "rejected_ids": [1], "hbo_dataset": "a"} for n in range(20)]
    trainer = trainer_of(pairs, tmp_path)
    with pytest.raises(ConfigError, match=r"no column input_ids .*; set difficulty.metric to length, or"):
        with_levels(trainer, section_of({}).difficulty)
    level_N = np.array(
        with_levels(trainer, section_of({"difficulty": {"metric": "length"}}).difficulty)["hbo_level"][:]
    )
    length_N = np.array([len(each["chosen_ids"]) for each in pairs])
    assert length_N[level_N == 0].max() <= length_N[level_N == 3].min()


def test_rows_that_are_made_when_they_are_drawn_keep_their_columns(rows, tmp_path):
    trainer = trainer_of(rows, tmp_path)
    trainer.train_dataset = trainer.train_dataset.with_transform(
        lambda batch: {name: batch[name] for name in ("input_ids", "labels")}
    )
    callback = attach(trainer, section_of({"update_every": 2, "probes": 4, "difficulty": {"groups": 2}}))
    trainer.train()
    assert callback.snapshot()["data"].keys() == {"a", "b"}


def test_rows_that_are_all_target_have_no_ifd(tmp_path):
    trainer = trainer_of([row(name, number, asked=False) for name in "ab" for number in range(20)], tmp_path)
    with pytest.warns(UserWarning, match="IFD|ifd"):
        attach(trainer, section_of({"difficulty": {"groups": 2}}))


def test_rows_are_regrouped_once_their_levels_are_known(rows, tmp_path):
    trainer, seen = trainer_of(rows, tmp_path), []

    def fewer(found):
        seen.extend(found.column_names)
        return found.select(range(0, 40, 2))

    callback = attach(trainer, section_of({"difficulty": {"groups": 2, "metric": "length"}}), regroup=fewer)
    assert "hbo_level" in seen
    assert callback.groups.sizes_KL.sum() == 20


def test_rows_without_what_a_score_needs_are_refused(tmp_path):
    trainer = trainer_of([{"ids": [1, 2], "hbo_dataset": "a"}] * 8, tmp_path)
    with pytest.raises(ConfigError, match="no column input_ids to score them by; set difficulty.groups to 1"):
        attach(trainer, section_of({"method": "uniform"}))


def test_too_few_rows_for_the_groups_are_refused(rows, tmp_path):
    with pytest.raises(DataError, match="no dataset has rows for 21 groups"):
        attach(trainer_of(rows, tmp_path), section_of({"difficulty": {"groups": 21}}))


def test_a_trainer_that_cannot_be_balanced_is_refused_before_it_is_scored(rows, tmp_path):
    trainer = trainer_of(rows, tmp_path, accelerator_config={"dispatch_batches": True})
    trainer.processing_class = None  # whatever scores, fails
    with pytest.raises(ConfigError, match="dispatch_batches"):
        attach(trainer, section_of({}))


def test_the_collator_is_given_nothing_of_ours():
    collator = WithoutOurColumns(lambda rows: rows, ["labels"])
    assert collator([{"input_ids": [1], "labels": [1], "hbo_level": 0, "hbo_dataset": "a"}]) == [{"input_ids": [1]}]


def bare(each):
    return {name: each[name] for name in ("input_ids", "labels")}
