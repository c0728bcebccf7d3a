"""DPO with HBO on a tiny model, four rows per step over all processes: model folder, rows (JSONL), output folder.

Run by a test.
"""

import os
import sys

from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from hbo import HBOCallback, HBOConfig

model, rows, output = sys.argv[1:]
trainer = DPOTrainer(
    model,
    args=DPOConfig(
        output, per_device_train_batch_size=4 // int(os.environ.get("WORLD_SIZE", 1)), max_steps=9, learning_rate=1e-2,
        bf16=False, use_cpu=True, report_to="none", disable_tqdm=True, dataloader_pin_memory=False, logging_steps=3,
        save_strategy="no", activation_checkpointing=False,
    ),
    train_dataset=Dataset.from_json(rows),
    processing_class=AutoTokenizer.from_pretrained(model),
)  # fmt: skip
balance = HBOConfig(update_every=3, probes=5, probe_pool=8, actor={"learning_rate": 3e-3})
trainer.add_callback(HBOCallback(trainer, balance))
trainer.train()
