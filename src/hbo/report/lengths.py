"""What answers of different lengths do to a reward that is a gradient's norm."""

from __future__ import annotations

import math

from hbo.folder.run import Run
from hbo.report.words import Show

_MANY = 4.0
"""Answers this many times as long are reported: the norm of a mean over n tokens falls like 1/√n, here by half."""


def length_note(run: Run, show: Show = str) -> str:
    """Says that one dataset's answers are many times as long as another's, and what to do; else an empty string."""
    known = run.mixture.datasets if run.mixture else {}
    tokens = {name: held.answer_tokens for name, held in known.items() if held.answer_tokens > 0}
    norms = {"gradient_norm", "batch_gradient_norm"} & {run.global_reward, run.local_reward}
    if len(tokens) < 2 or not norms:
        return ""
    long, short = max(tokens, key=lambda name: tokens[name]), min(tokens, key=lambda name: tokens[name])
    times = tokens[long] / tokens[short]
    if times < _MANY:
        return ""
    return (
        f"Answers of {show(long)} are {times:.0f} times as long as those of {show(short)} ({tokens[long]:.0f} tokens "
        f"on average against {tokens[short]:.0f}). A row's gradient is the mean over its answer's tokens, and the norm "
        f"of a mean falls with their number, by up to {math.sqrt(times):.1f} times here: gradient norms favour "
        "datasets of short answers, whatever is left to learn. balance.global_reward: token_gradient_norm corrects "
        "for the length."
    )
