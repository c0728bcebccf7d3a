"""What a user of unsloth writes: script.py OUTPUT STEPS [resume], beside the files of tiny.py."""

# isort: off
import unsloth  # before what it patches
from unsloth import FastLanguageModel

# isort: on
import sys

import seen
from trl import SFTConfig, SFTTrainer

from hbo import HBOCallback, HBOConfig, build_mixture, stratify

if __name__ == "__main__":
    print("unsloth", unsloth.__version__)
    seen.watch()
    output, steps, *resume = sys.argv[1:]
    model, tokenizer = FastLanguageModel.from_pretrained("model", max_seq_length=128, load_in_4bit=False)
    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = FastLanguageModel.get_peft_model(model, r=8, lora_alpha=16, target_modules=projections)
    data = build_mixture({"easy": "easy.chat.jsonl", "hard": "hard.chat.jsonl"}, tokenizer=tokenizer)
    data = stratify(data, model="model", score="loss", levels=2)
    args = SFTConfig(
        output,
        max_steps=int(steps),
        per_device_train_batch_size=4,
        learning_rate=3e-2,
        logging_steps=4,
        save_steps=4,
        report_to="none",
        max_length=128,
        dataset_num_proc=1,
        disable_tqdm=True,
    )
    trainer = SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer)
    settings = {"update_every": 6, "probes": 8, "probe_pool": 16, "actor": {"kind": "tracking"}}
    trainer.add_callback(HBOCallback(trainer, HBOConfig.model_validate(settings)))
    trainer.train(resume_from_checkpoint=bool(resume))
