"""A tiny model trained with transformers.Trainer and HBO, where none of the packages named on the command line exists."""

import os
import sys
import tempfile
from pathlib import Path


class Without:
    """A finder of modules that finds none of those packages."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in sys.argv[1:] else self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
work = Path(tempfile.mkdtemp())
os.environ["HBO_CACHE"] = str(work / "cache")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from hbo import HBOCallback, HBOConfig, build_mixture, stratify  # noqa: E402

WORDS = [f"w{number}" for number in range(60)]
plain = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["<pad>", "<end>", *WORDS])}, unk_token="<end>"))
plain.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<end>")
torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=62, pad_token_id=0, eos_token_id=1, bos_token_id=None, **sizes))
model.save_pretrained(work / "model")
tokenizer.save_pretrained(work / "model")
rows = {
    name: Dataset.from_list(
        [{"prompt": " ".join(WORDS[i : i + 5]), "completion": " ".join(WORDS[-i - 4 : -i - 1])} for i in range(count)]
    )
    for name, count in (("a", 30), ("b", 12))
}
data = build_mixture(rows, tokenizer=tokenizer)
data = stratify(data, model=str(work / "model"), levels=2)
options = {"per_device_train_batch_size": 4, "max_steps": 6, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
trainer = Trainer(
    model,
    args=TrainingArguments(str(work / "out"), learning_rate=1e-2, **options),
    train_dataset=data,
    processing_class=tokenizer,
    data_collator=DataCollatorForSeq2Seq(tokenizer),
)
trainer.add_callback(HBOCallback(trainer, HBOConfig(update_every=2, probes=4, probe_pool=4)))
trainer.train()
print(len((work / "out" / "balance.jsonl").read_text().splitlines()), "lines")
print("loaded:", *sorted({"trl", "typer"} & set(sys.modules)))
