"""LLaMA-Factory's `run_exp` through hbo's command, whole, and killed and resumed; then what is refused."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import check
import tiny
from killed import run, run_and_kill, whole_checkpoints

STEPS, SAVED = 24, 4
CONFIG = f"""
model_name_or_path: model
stage: sft
do_train: true
finetuning_type: full
template: chatml
dataset_dir: .
dataset: easy, hard
cutoff_len: 128
output_dir: whole
per_device_train_batch_size: 4
learning_rate: 1.0e-2
max_steps: {STEPS}
save_steps: {SAVED}
logging_steps: {SAVED}
report_to: none
use_cpu: true

hbo:
  update_every: 6
  probes: 8
  actor: {{kind: tracking}}
  difficulty: {{groups: 2}}
"""
# As `python -m hbo.integrations.llama_factory`, with the test's own eyes on what is trained on.
STARTED = (
    "import runpy, seen; seen.watch(); "
    "runpy.run_module('hbo.integrations.llama_factory', run_name='__main__', alter_sys=True)"
)
REFUSED = {
    "hbo.updat_every=5": "unknown key 'updat_every' (did you mean 'update_every'?)",
    "hbo.difficulty.groups=none": "'difficulty.groups' is 'none'",
    "packing=true": "set neat_packing: true",
    "streaming=true": "streaming leaves HBO no rows",
    "disable_shuffling=true": "disable_shuffling asks for the rows in order",
    "stage=ppo reward_model=model reward_model_type=full": "stage ppo isn't one that HBO balances",
}
"""Keys that can't go with HBO → what is said of them."""


def main(work):
    """Trains both ways and compares what they left."""
    work = Path(work)
    make_audio_importable()
    tiny.write(work)
    info = {name: {"file_name": f"{name}.jsonl"} for name in tiny.ROWS}
    (work / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    (work / "config.yaml").write_text(CONFIG, encoding="utf-8")
    caches = {"HBO_CACHE": str(work / "cache"), "HF_DATASETS_CACHE": str(work / "datasets")}
    options = {"cwd": work, "env": {**os.environ, **caches}}
    whole, resumed = work / "whole", work / "resumed"
    run(command(), work / "whole.log", **options)
    run_and_kill(command("output_dir=resumed"), work / "resumed.log", resumed, last_step=STEPS, **options)
    last = whole_checkpoints(resumed)[max(whole_checkpoints(resumed))]
    run(command("output_dir=resumed", f"resume_from_checkpoint={last}"), work / "resumed.log", **options)
    check.main(whole, resumed)
    for keys, said in REFUSED.items():
        check_refused(command("output_dir=refused", *keys.split()), said, work, options)
    print(f"{len(REFUSED)} settings that can't go with HBO are refused, in a sentence and with exit code 2")


def command(*changed):
    """hbo's, with `key=value` changed."""
    return [sys.executable, "-c", STARTED, "config.yaml", *changed]


def check_refused(refused, said, work, options):
    """It ends with code 2 and one line, and nothing is trained."""
    done = subprocess.run(refused, capture_output=True, text=True, timeout=300, check=False, **options)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2, f"{refused[4:]} ended with {done.returncode}: {last}"
    assert last.startswith("error: ") and said in last, last
    assert "Traceback" not in done.stderr, done.stderr
    assert not list((work / "refused").glob("checkpoint-*")), f"{refused[4:]} was trained"


def make_audio_importable():
    """The index has torchaudio built for CUDA alone; without its compiled part it can be imported on any machine."""
    try:
        import torchaudio  # noqa: F401 - what LLaMA-Factory does too
    except OSError:
        folder = Path(importlib.util.find_spec("torchaudio").submodule_search_locations[0])
        for compiled in folder.glob("lib/*.so"):
            compiled.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
