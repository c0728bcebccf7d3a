"""What a line says about where it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import hbo

ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


def device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def machine() -> dict[str, Any]:
    """Device, versions, commit and date."""
    return {
        "device": _name(),
        "device_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if _is_gpu() else None,
        "cores": os.cpu_count(),
        "versions": {
            "python": platform.python_version(),
            "hbo": hbo.__version__,
            **{name: _version(name) for name in _PACKAGES},
            "cuda": torch.version.cuda,
        },
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def commit() -> str | None:
    """The commit that is checked out, with a + if files differ from it; else `$HBO_COMMIT`, where git knows none."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("HBO_COMMIT")


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _is_gpu() -> bool:
    return device().type == "cuda"


def _name() -> str:
    return torch.cuda.get_device_name(0) if _is_gpu() else f"CPU ({platform.machine()})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
