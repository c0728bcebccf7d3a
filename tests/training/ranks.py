"""`hbo` in several real processes (gloo), started as torchrun starts them but forked from a server that has imported
everything already, so that each starts in no time."""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

_PRELOAD = ["hbo.cli", "hbo.training.run", "hbo.training.callback", "hbo.training.scores_file", "trl", "peft"]


def run(words, cache, log, *, processes=2, before=None):
    """Exit codes of `hbo` with these words, by rank; `before(rank)` is called in each process first.

    What they write to the terminal goes to `log`, followed by the rank.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(word) for word in words]
    started = [
        context.Process(target=_child, args=(words, str(cache), f"{log}{rank}", rank, processes, port, before))
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert None not in codes, f"a process hangs: {codes}"
    return codes


def said(log, rank):
    return Path(f"{log}{rank}").read_text()


def _child(words, cache, log, rank, processes, port, before):
    with Path(log).open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ |= {"HBO_CACHE": cache, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if processes > 1:
        for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", processes)):
            os.environ[name] = str(value)
    multiprocessing.set_start_method("fork", force=True)  # workers of a fork server would import everything anew
    import torch

    from hbo.cli import main

    torch.set_num_threads(1)
    if before is not None:
        before(rank)
    sys.argv = ["hbo", *words]
    main()
