"""`hbo` in several real processes (gloo), started as torchrun starts them."""

import socket
from functools import partial
from pathlib import Path

import forked


def run(words, cache, log, *, processes=2, before=None):
    """Exit codes of `hbo` with these words, by rank; `before(rank)` is called in each process first.

    What they write to the terminal goes to `log`, followed by the rank.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"HBO_CACHE": cache, "OMP_NUM_THREADS": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(processes):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes} if processes > 1 else {}
        first = None if before is None else partial(before, rank)
        started.append(forked.start(words, f"{log}{rank}", {**shared, **own}, first))
    for process in started:
        process.join(240)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    assert None not in codes, f"a process hangs: {codes}"
    return codes


def said(log, rank):
    return Path(f"{log}{rank}").read_text()
