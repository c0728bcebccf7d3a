"""What each extra of hbo brings, and the one sentence that is said where a command needs one that isn't there."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from hbo.errors import ConfigError

EXTRAS: dict[str, dict[str, str]] = {
    "cli": {"rich": "14", "typer": "0.16"},
    "train": {
        "transformers": "5.16.1",
        "datasets": "4.8.4",
        "accelerate": "1.12",
        "trl": "1.9",
        "peft": "0.20",
        "gguf": "0.18",
    },
}
"""Extra → package → its lowest release, as pyproject.toml has them."""


def check_extra(name: str, who: str) -> None:
    """Refuses to go on where a package of an extra is missing or too old.

    Raises:
        ConfigError: Names the first such package and what installs it.
    """
    for package, lowest in EXTRAS[name].items():
        try:
            found = version(package)
        except PackageNotFoundError:
            raise ConfigError(f"{who} needs {package}, which isn't installed: pip install 'hbo[{name}]'") from None
        if _numbers(found) < _numbers(lowest):
            raise ConfigError(f"{who} needs {package}>={lowest}, but {found} is installed: pip install 'hbo[{name}]'")


def _numbers(release: str) -> list[int]:
    """The numbers that a release begins with."""
    found = re.match(r"\d+(\.\d+)*", release)
    return [int(part) for part in found[0].split(".")] if found else []
