"""`hbo train` in a process of its own, killed with SIGKILL at a chosen moment."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import forked


def run(words, cache, log, kill=None):
    """Exit code of `hbo` with these words; −9 when it was killed.

    `kill` is (moment, n): the process kills itself at the n-th time that it comes to this moment.
    """
    process = forked.start(words, log, {"HBO_CACHE": cache}, None if kill is None else partial(_arm, *kill))
    process.join(300)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def results(folder):
    """What two runs must agree in: weights, ledger, metrics, without times."""
    ledger = [json.loads(line) for line in (folder / "balance.jsonl").read_text().splitlines()]
    for record in ledger:
        del record["seconds"]
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("train_seconds", "balance_seconds", "balance_overhead", "environment"):
        del metrics[name]
    weights = {file.name: file.read_bytes() for file in (folder / "model").glob("*.safetensors")}
    assert weights
    return ledger, metrics, weights


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(moment, n):
    import torch
    import transformers
    from transformers import Trainer, TrainerState

    import hbo.run.train as run_module
    from hbo.folder.paths import LEDGER
    from hbo.rewards.probe import Probe
    from hbo.run import finish, held_out_scores
    from hbo.training import callback

    def before(owner, name, then=lambda *args, **kwargs: None, *, when=lambda *args, **kwargs: True):
        original, calls = getattr(owner, name), [0]

        def wrapped(*args, **kwargs):
            if when(*args, **kwargs):
                calls[0] += 1
                if calls[0] == n:
                    then(*args, **kwargs)
                    _die()
            return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    def half_of_state(state, path):
        text = json.dumps(state.log_history) * 3
        Path(path).write_text('{"stateful_callbacks": ' + text[: len(text) // 2])

    def half_of_line(folder, record):
        with (folder / LEDGER).open("a") as file:
            line = json.dumps(record)
            file.write(line[: len(line) // 2])

    def one_file_less(path, *args, **kwargs):
        next(file for file in sorted(Path(path).iterdir()) if file.is_file()).unlink()

    saves = {"when": lambda self, folder=None, *args, **kwargs: "checkpoint" in str(folder)}
    match moment:
        case "forward":
            before(transformers.LlamaModel, "forward")
        case "backward":
            before(torch.Tensor, "backward")
        case "optimizer step":
            before(torch.optim.AdamW, "step")
        case "measuring":
            before(Probe, "_measure_batch")
        case "saving weights":
            before(Trainer, "_save", **saves)
        case "saving the optimizer":
            before(Trainer, "_save_optimizer_and_scheduler")
        case "saving random states":
            before(Trainer, "_save_rng_state")
        case "before the state":
            before(TrainerState, "save_to_json")
        case "half of the state":
            before(TrainerState, "save_to_json", half_of_state)
        case "rotating":
            before(shutil, "rmtree", one_file_less, when=lambda path, *a, **k: "checkpoint" in str(path))
        case "removing the former run":
            before(shutil, "rmtree", one_file_less, when=lambda path, *a, **k: str(path).endswith(".former.gone"))
        case "half of a line":
            before(callback, "append_record", half_of_line)
        case "nothing trained yet":
            before(Trainer, "train")
        case "last evaluation":
            before(held_out_scores, "held_out_losses", when=lambda *a, phase, **k: phase.endswith("after"))
        case "before metrics":
            before(run_module, "metrics_of")
        case "before the report":
            before(finish, "write_report")
        case _:
            raise ValueError(moment)
