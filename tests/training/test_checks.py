import pytest
from byte_models import byte_model, byte_tokenizer
from datasets import Dataset
from tiny_training import token_rows
from trl import SFTConfig, SFTTrainer

from hbo import HBOCallback
from hbo.errors import ConfigError, DataError, ModelError
from hbo.scoring.models import load_model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy"),
        ({"packing": True}, "packing"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches"),
    ],
)
def test_options_that_would_undo_balancing_are_refused_by_name(make_trainer, options, message):
    with pytest.raises(ConfigError, match=message):
        make_trainer(**options)


def test_rows_without_a_dataset_are_refused(make_trainer):
    with pytest.raises(DataError, match="hbo_dataset"):
        make_trainer(rows=token_rows().remove_columns("hbo_dataset"))


def trainer(model, rows, tmp_path):
    args = SFTConfig(
        str(tmp_path / "out"), max_steps=1, bf16=False, report_to="none", dataset_kwargs={"skip_prepare_dataset": True}
    )  # fmt: skip
    return SFTTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=byte_tokenizer())


def row(length, token=5):
    return {"input_ids": [token] * length, "labels": [token] * length, "hbo_dataset": "a"}


def test_a_trainer_whose_rows_do_not_fit_its_model_is_refused(tmp_path):
    gpt2 = load_model(str(byte_model(tmp_path / "gpt2", "gpt2", n_positions=64, vocab_size=258)))
    HBOCallback(trainer(gpt2, [row(64)], tmp_path))
    with pytest.raises(
        ModelError, match="a row of 65 tokens is longer than the 64 positions that the model has; lower"
    ):
        HBOCallback(trainer(gpt2, [row(64), row(65)], tmp_path))
    with pytest.raises(ModelError, match="dataset 'a', row 1: holds the token .* with id 258, but .* 258 rows"):
        HBOCallback(trainer(gpt2, [row(4), row(4, 258)], tmp_path))


def test_a_trainer_of_a_rotary_model_is_warned(tmp_path):
    llama = load_model(str(byte_model(tmp_path / "llama", max_position_embeddings=64)))
    with pytest.warns(
        UserWarning, match="a row of 65 tokens is longer than the 64 positions that the model was made for"
    ):
        HBOCallback(trainer(llama, [row(65)], tmp_path))
