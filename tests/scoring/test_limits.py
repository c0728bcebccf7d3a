"""What a model's configuration says of the rows that it can take."""

import pytest
import transformers as hf
from byte_models import byte_tokenizer
from datasets import Dataset

from hbo.errors import ModelError
from hbo.scoring.limits import Limits, check_ids, has_position_table

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}


def llama(positions=64, **rope):
    given = {"rope_parameters": {"rope_theta": 10000.0, **rope}} if rope else {}
    return hf.LlamaConfig(**TINY, max_position_embeddings=positions, **given)


@pytest.mark.parametrize(
    ("config", "positions", "is_rotary"),
    [
        (llama(), 64, True),
        (hf.GPT2Config(vocab_size=50, n_positions=32), 32, False),
        (hf.OPTConfig(vocab_size=50, max_position_embeddings=32), 32, False),
        (hf.MptConfig(vocab_size=50, max_seq_len=32), 32, False),
        (hf.BloomConfig(vocab_size=50), None, False),
        (hf.MambaConfig(vocab_size=50), None, False),
        # Stretched positions: stated before the stretching, or after it.
        (llama(64, rope_type="yarn", factor=4.0, original_max_position_embeddings=64), 256, True),
        (llama(256, rope_type="yarn", factor=4.0, original_max_position_embeddings=64), 256, True),
        (llama(64, rope_type="linear", factor=2.0), 128, True),
        (hf.Gemma3TextConfig(vocab_size=50, max_position_embeddings=64), 64, True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, hf.PretrainedConfig) else str(value),
)
def test_positions_are_read_off_the_configuration(config, positions, is_rotary):
    assert Limits.of(config) == Limits(50, positions, is_rotary)


@pytest.mark.parametrize(
    ("model", "positions", "has_table"),
    [
        (lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2)), 32, True),
        (lambda: hf.OPTForCausalLM(hf.OPTConfig(vocab_size=50, max_position_embeddings=32, hidden_size=16, ffn_dim=16,
                                                word_embed_proj_dim=16, num_hidden_layers=1, num_attention_heads=2)), 32, True),
        (lambda: hf.GPTJForCausalLM(hf.GPTJConfig(vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2, rotary_dim=4)), 32, True),
        (lambda: hf.LlamaForCausalLM(llama()), 64, False),
    ],
    ids=["gpt2", "opt", "gptj", "llama"],
)  # fmt: skip
def test_a_table_of_positions_is_told_from_positions_that_are_computed(model, positions, has_table):
    assert has_position_table(model(), positions) is has_table


def test_a_token_without_an_embedding_is_named_with_its_row():
    tokenizer = byte_tokenizer(special=("<|im_start|>", "<|im_end|>"))
    rows = Dataset.from_dict(
        {"input_ids": [[5], [], [7, 257, 3]], "hbo_dataset": ["a", "a", "b"], "hbo_row": [0, 1, 40]}
    )
    check_ids(rows, tokenizer, Limits(258, None), "model 'm'")
    token = tokenizer.convert_ids_to_tokens(257)
    with pytest.raises(ModelError) as caught:
        check_ids(rows, tokenizer, Limits(257, None), "model 'm'")
    assert str(caught.value) == (
        f"dataset 'b', row 40: holds the token {token!r} with id 257, but the embeddings of model 'm' have 257 rows; save "
        "the model after model.resize_token_embeddings(len(tokenizer)), or with the tokenizer that belongs to it"
    )
    with pytest.raises(ModelError, match="^row 2: holds the token"):
        check_ids(rows.select_columns(["input_ids"]), tokenizer, Limits(257, None), "the model")
