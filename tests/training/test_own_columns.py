import pytest
import torch
from byte_models import byte_tokenizer
from tiny_training import tiny_model, token_rows
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments, default_data_collator

from hbo import HBOCallback, HBOConfig
from hbo.training.own_columns import WithoutOurColumns


def reads_ours(rows):
    """A user's own, which weighs rows by their dataset."""
    batch = DataCollatorForSeq2Seq(byte_tokenizer())(
        [{"input_ids": r["input_ids"], "labels": r["labels"]} for r in rows]
    )
    assert all(row["hbo_dataset"] in "ab" for row in rows)
    return batch


@pytest.mark.parametrize(
    ("collator", "is_wrapped", "is_kept"),
    [
        (DataCollatorForSeq2Seq(byte_tokenizer()), True, True),  # fails on text
        (default_data_collator, True, True),  # hands levels on to the model
        (reads_ours, False, True),
        (DataCollatorForSeq2Seq(byte_tokenizer()), False, False),
    ],
    ids=["fails", "hands on", "reads", "dropped by transformers"],
)
def test_our_columns_are_hidden_from_a_collator_that_cannot_take_them(collator, is_wrapped, is_kept, tmp_path):
    rows = token_rows((6, 6)).map(lambda row: {name: row[name][:4] for name in ("input_ids", "labels")})
    args = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=2, remove_unused_columns=not is_kept, use_cpu=True,
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(tiny_model(), args=args, train_dataset=rows, data_collator=collator)
    random = torch.get_rng_state()
    trainer.add_callback(HBOCallback(trainer, HBOConfig(update_every=1, probes=2, probe_pool=2)))
    assert torch.equal(random, torch.get_rng_state())
    assert isinstance(trainer.data_collator, WithoutOurColumns) == is_wrapped
    given = []
    trainer.model.register_forward_pre_hook(lambda *seen: given.append(set(seen[2])), with_kwargs=True)
    trainer.train()
    assert all(not name.startswith("hbo_") for names in given for name in names)
    assert trainer.state.global_step == 2
