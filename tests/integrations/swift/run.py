"""ms-swift's own command, whole, and killed and resumed.

The rows of the one dataset say by their `channel` what they are of, the others are of the file that they come from.
"""

import json
import os
import sys
from pathlib import Path

import check
import tiny
from killed import run, run_and_kill, whole_checkpoints

SETTINGS = """
update_every: 6
probes: 8
actor: {kind: tracking}
difficulty: {groups: 2}
"""
STEPS, SAVED = 24, 4
PLUGIN = "import hbo.integrations.swift\n"
ALSO = "import seen\nseen.watch()\n"  # the second is this test's


def main(work):
    """Trains both ways and compares what they left."""
    work = Path(work)
    tiny.write(work)
    rows = [json.loads(line) for line in (work / "easy.chat.jsonl").read_text(encoding="utf-8").splitlines()]
    named = [{**row, "channel": "easy"} for row in rows]
    (work / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in named), encoding="utf-8")
    (work / "hbo.yaml").write_text(SETTINGS, encoding="utf-8")
    (work / "hbo_plugin.py").write_text(PLUGIN, encoding="utf-8")
    (work / "watch.py").write_text(ALSO, encoding="utf-8")
    options = {
        "cwd": work,
        "env": {
            **os.environ,
            "HBO": "hbo.yaml",
            "HBO_CACHE": str(work / "cache"),
            "MODELSCOPE_CACHE": str(work / "ms"),
        },
    }
    whole, resumed = work / "whole", work / "resumed"
    run(command(whole), work / "whole.log", **options)
    run_and_kill(command(resumed), work / "resumed.log", resumed, last_step=STEPS, **options)
    last = whole_checkpoints(resumed)[max(whole_checkpoints(resumed))]
    run([*command(resumed), "--resume_from_checkpoint", last], work / "resumed.log", **options)
    check.main(whole, resumed)


def command(output):
    """ms-swift's, with three lines more than without HBO."""
    chosen = {
        "model": "model",
        "model_type": "llama",
        "template": "dummy",  # the tokenizer's own
        "dataset": ["rows.jsonl", "hard.chat.jsonl"],
        "output_dir": output,
        "add_version": "false",
        "tuner_type": "lora",  # of which a resumed model is no longer the one that the rows were scored by
        "torch_dtype": "float32",
        "learning_rate": "1e-2",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": STEPS,
        "save_steps": SAVED,
        "logging_steps": SAVED,
        "use_hf": "true",
        "check_model": "false",
        "report_to": "none",
        "external_plugins": ["hbo_plugin.py", "watch.py"],
        "callbacks": "hbo",
    }
    flat = [
        part for key, value in chosen.items() for part in (f"--{key}", *(value if isinstance(value, list) else [value]))
    ]
    return [Path(sys.executable).parent / "swift", "sft", *map(str, flat)]


if __name__ == "__main__":
    main(*sys.argv[1:])
