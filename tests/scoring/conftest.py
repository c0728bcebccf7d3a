import pytest
import torch
from datasets import Dataset, Features, Value
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hbo.compat import list_of
from hbo.data.tokens import tokenize

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HBO_CACHE", str(folder))
    return folder


@pytest.fixture
def tokenizer():
    """A token per byte, and ChatML."""
    special = ["<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({token: i for i, token in enumerate(special + alphabet)}, []))
    bytes_only.add_special_tokens(special)
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<|im_end|>", pad_token="<pad>")
    made.chat_template = CHATML
    return made


@pytest.fixture
def llama():
    """A tiny model whose losses differ from row to row."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture
def canonical():
    """(prompt, completion) pairs → canonical rows; a string is a user's or assistant's one message."""
    messages = list_of({"role": Value("string"), "content": Value("string")})
    features = Features(
        {"prompt": messages, "completion": messages, "hbo_dataset": Value("string"), "hbo_row": Value("int64")}
    )

    def build(*pairs, dataset="chat", first=0):
        rows = []
        for number, (prompt, completion) in enumerate(pairs, start=first):
            prompt = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
            if isinstance(completion, str):
                completion = [{"role": "assistant" if prompt else "text", "content": completion}]
            rows.append({"prompt": prompt, "completion": completion, "hbo_dataset": dataset, "hbo_row": number})
        return Dataset.from_list(rows, features=features)

    return build


@pytest.fixture
def mixed(canonical, tokenizer, cache):
    """Tokenized rows of all kinds: plain, several turns, text, a blank prompt, cut off."""
    turns = [
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "and then?"},
        {"role": "assistant", "content": "two"},
    ]
    rows = canonical(
        ("what is it?", "a house"),
        ("count", turns),
        ([], "only text here"),
        ("  ", "to nobody"),
        ("x" * 90, "is cut off"),
        ("say more", "a rather longer answer than the others"),
    )
    return tokenize(rows, tokenizer, max_length=100)


@pytest.fixture
def forwards(llama):
    """The sizes of the batches that the model has seen."""
    seen = []
    llama.register_forward_pre_hook(lambda *call: seen.append(tuple(call[2]["input_ids"].shape)), with_kwargs=True)
    return seen
