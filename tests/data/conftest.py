import pytest
from commands import hbo  # noqa: F401 - a fixture
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("HBO_CACHE", str(folder))
    return folder


@pytest.fixture
def make_tokenizer():
    def make(template=CHATML, bos=None, eos="<|im_end|>", trim_offsets=False):
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        special = ["<|im_start|>", "<|im_end|>", "<s>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        corpus = ["hello world, the answer is a number", "user assistant system"]
        bpe.train_from_iterator(
            corpus,
            trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
        )
        bpe.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
        if bos:
            adds_bos = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, bpe.token_to_id(bos))])
            bpe.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=trim_offsets), adds_bos])
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos, eos_token=eos)
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture
def tokenizer(make_tokenizer):
    return make_tokenizer()
