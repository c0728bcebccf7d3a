"""The stages in their order, and how long each may take; nothing here needs torch.

Nine minutes: 420 s at most for the first six together, and the seventh has what is left. A stage that takes less leaves
more to the last. Why a stage fits its limit is worked out in its file, for an H100 at 350 TFLOP/s in bf16 and 40 in
fp32. The arithmetic came out about right on an H200; Python was two to four times as slow as the 25 ms for a forward of
30 layers, and twice that backward, that had been supposed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MINUTES = 9.0
PATIENCE_ON_CPU = 10.0
"""Times the limits of a GPU, where there is none."""


@dataclass(frozen=True)
class Stage:
    """One part of the benchmark, run in a process of its own.

    Attributes:
        number: Its place, by which it is chosen.
        name: Also the file beside this one that holds it.
        seconds: Limit on a GPU; None: what is left of the whole.
        about: What it measures.
        environment: What its process needs to be told before it starts.
    """

    number: int
    name: str
    seconds: float | None
    about: str
    environment: dict[str, str] = field(default_factory=dict)


STAGES = (
    Stage(1, "correctness", 45, "gradient norms of a batch against one row at a time, in bf16 and fp32"),
    Stage(2, "memory", 60, "peak of a training step and of an update, shapes of 8B with LoRA, then in half the memory"),
    Stage(3, "cost", 90, "an update over 200 training steps and against the published procedure, 1B and 8B with LoRA"),
    Stage(4, "scoring", 60, "IFD of rows per second against one row at a time, by token budget"),
    Stage(5, "training", 75, "SFTTrainer with and without the callback, and the host syncs of an update"),
    Stage(
        6,
        "exactness",
        90,
        "kill and resume, a trace of probing, loader workers: to the bit",
        {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"},  # without it torch has no deterministic matrix products
    ),
    Stage(7, "comparison", None, "seven methods on a real model of 135M, processes side by side on the one card"),
)


def chosen(text: str | None) -> list[Stage]:
    """The stages in `3,4`, in their order; None: all.

    Raises:
        ValueError: It names none, or one that there isn't.

    Example:
        >>> [stage.name for stage in chosen("4,3")]
        ['cost', 'scoring']
    """
    if text is None:
        return list(STAGES)
    numbers = {part.strip() for part in text.split(",")}
    unknown = numbers - {str(stage.number) for stage in STAGES}
    if unknown:
        raise ValueError(
            f"--stages {text}: there is no stage '{min(unknown)}'; write --stages 3,4, of 1 to {len(STAGES)}"
        )
    return [stage for stage in STAGES if str(stage.number) in numbers]
