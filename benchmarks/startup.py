"""Claim: with a warm cache `hbo train` is at its first optimizer step within 3 s above imports and loading the model.

Whole processes, in turn: ours runs `hbo train` on the demo's configuration up to its first step; the reference imports
torch, transformers and trl and loads the same weights. A run before the first round fills the cache.

    python benchmarks/startup.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from support.side_by_side import say, seconds

_STOPPED = 42
_OURS = """
import sys
from hbo.cli import main

class FirstStep:
    # Set in the place of the trainer's module as soon as that is imported, so that nothing is imported earlier than
    # `hbo` itself would.
    def find_spec(self, name, path=None, target=None):
        if name == "hbo.run.train":
            import os
            from transformers import Trainer
            Trainer.training_step = lambda *args, **kwargs: os._exit(42)
        return None

sys.meta_path.insert(0, FirstStep())
sys.argv = ["hbo", "train", sys.argv[1], "--overwrite"]
main()
"""
_REFERENCE = """
import sys
import torch, transformers, trl
transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
"""


def main() -> None:
    """Prints the figure."""
    words = argparse.ArgumentParser()
    words.add_argument("--rounds", type=int, default=5)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, config = _prepared(Path(folder))

        def ours() -> None:
            _run(_OURS, str(config), _STOPPED)

        def reference() -> None:
            _run(_REFERENCE, model)

        ours()
        reference()
        pairs = [(seconds(ours), seconds(reference)) for _ in range(given.rounds)]
    say(
        "start-up of hbo train to its first step, above imports and loading the model",
        ours_seconds=round(statistics.median(own for own, _ in pairs), 2),
        reference_seconds=round(statistics.median(other for _, other in pairs), 2),
        above_seconds=round(statistics.median(own - other for own, other in pairs), 2),
        rounds=given.rounds,
    )


def _prepared(folder: Path) -> tuple[str, Path]:
    """The model's folder and the demo's configuration as a file."""
    from hbo.config.file import dump
    from hbo.demo import demo_config
    from hbo.scoring.models import resolve

    run = demo_config(folder / "run", steps=1)
    file = folder / "run.yaml"
    file.write_text(dump(run), encoding="utf-8")
    return resolve(run.model), file


def _run(code: str, argument: str, ends_with: int = 0) -> None:
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1"}
    done = subprocess.run([sys.executable, "-c", code, argument], env=environment, capture_output=True, text=True)
    if done.returncode != ends_with:
        raise RuntimeError(done.stderr)


if __name__ == "__main__":
    main()
