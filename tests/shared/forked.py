"""`hbo` in processes forked from a server that has imported everything and run nothing, so that each starts in no time."""

import multiprocessing
import os
import sys
from pathlib import Path

PRELOAD = [
    "hbo.cli",
    "hbo.run.train",
    "hbo.training.callback",
    "hbo.run.scored_rows",
    "trl.trainer.sft_trainer",
    "peft",
]


def start(words, log, environment, before=None):
    """The running process of `hbo` with these words; what it writes to the terminal goes to `log`.

    `before()` is called in it first, when all is imported.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    words, environment = [str(word) for word in words], {name: str(value) for name, value in environment.items()}
    process = context.Process(target=_child, args=(words, str(log), environment, before))
    process.start()
    return process


def _child(words, log, environment, before):
    with Path(log).open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ |= environment
    # As in a process of its own. Workers of a fork server would import everything anew, and outlive a killed run.
    multiprocessing.set_start_method("fork", force=True)
    import torch

    from hbo.cli import main

    torch.set_num_threads(1)
    if before is not None:
        before()
    sys.argv = ["hbo", *words]
    main()
