"""A run's folder → one Run, checked: all that the report draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hbo.config.yaml_text import write_yaml
from hbo.errors import DataError
from hbo.folder.benchmarks import Evaluation
from hbo.folder.ledger import Line, read_lines
from hbo.folder.log import Training, further, read_log, read_training
from hbo.folder.metrics import Metrics
from hbo.folder.mixture import Mixture
from hbo.folder.paths import CONFIG, EVALUATION, LEDGER, METRICS_FILE, MIXTURE
from hbo.folder.status import FINISHED, Status, read_status

SECRETS = ("hub_token", "push_to_hub_token")
"""Keys of `train:` that no file or page of a run shows."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds; `metrics` and `training` are None while the run hasn't written them.

    So is `evaluation`, until `hbo eval` has, and `mixture` where another program trained.
    """

    folder: Path
    datasets: tuple[str, ...]
    lines: tuple[Line, ...]
    config: dict[str, Any]
    config_text: str
    metrics: Metrics | None
    training: Training | None
    evaluation: Evaluation | None = None
    mixture: Mixture | None = None
    status: Status | None = None

    @property
    def has_finished(self) -> bool:
        """Whether the run has come to its end, as far as the folder tells."""
        return self.metrics is not None or (self.status is not None and self.status.end == FINISHED)

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Dataset → rows of each of its groups (packed rows with packing); empty while no file tells."""
        if self.metrics and self.metrics.sizes:
            return self.metrics.sizes
        if self.mixture is None or self.lines[0].per_row_KL is not None:
            return {}
        return {name: tuple(group.rows for group in groups) for name, groups in self.mixture.groups.items()}

    @property
    def drawn_KL(self) -> tuple[tuple[int, ...], ...] | None:
        """Rows of each group that the whole run took; None while it goes on, and in folders of before this was kept."""
        whole = self.metrics.drawn if self.metrics else {}
        return tuple(whole[name] for name in self.datasets) if set(self.datasets) <= set(whole) else None

    @property
    def method(self) -> str:
        """The balancing method's name, or `unknown`."""
        named = self.metrics.method if self.metrics else None
        return named or str(self._configured("balance", "method") or "unknown")

    @property
    def actor(self) -> str:
        """The kind of the actors, or `unknown`."""
        return str(self._configured("balance", "actor", "kind") or "unknown")

    @property
    def global_reward(self) -> str:
        """The datasets' reward, or nothing where there is none, or none is known."""
        return str(self._configured("balance", "global_reward") or "")

    @property
    def local_reward(self) -> str:
        """The groups' reward, likewise."""
        return str(self._configured("balance", "local_reward") or "")

    @property
    def update_every(self) -> int | None:
        """Steps between two updates; None where it isn't known, or differs between the levels."""
        every = self._configured("balance", "update_every")
        return every if isinstance(every, int) else None

    @property
    def is_static(self) -> bool:
        """Whether, as far as the folder tells, no reward will ever be measured."""
        balance = self._configured("balance")
        known = isinstance(balance, dict) and {"global_reward", "local_reward"} <= balance.keys()
        return known and not (self.global_reward or self.local_reward) and len(self.lines) == 1

    @property
    def temperature(self) -> str:
        """τ of the prior, or nothing where the configuration doesn't say."""
        tau = self._configured("mixture", "temperature")
        return {"inf": "∞"}.get(str(tau), str(tau)) if tau is not None else ""

    @property
    def model(self) -> str:
        """The model that was tuned, or `unknown`."""
        return str(self._configured("model") or "unknown")

    @property
    def model_name(self) -> str:
        """`model` as it may be shown to others: of a folder, not where on this machine it lies."""
        return Path(self.model).name if Path(self.model).is_absolute() else self.model

    @property
    def seed(self) -> str:
        """The run's seed, or `unknown`."""
        measured = self.metrics.seed if self.metrics else None
        seed = self._configured("seed") if measured is None else measured
        return "unknown" if seed is None else str(seed)

    @property
    def steps(self) -> int:
        """Optimizer steps done, as far as the folder tells."""
        known = [self.lines[-1].step]
        if self.training:
            known.append(self.training.step)
        if self.metrics and self.metrics.steps is not None:
            known.append(self.metrics.steps)
        return max(known)

    @property
    def planned(self) -> int:
        """Optimizer steps that the run was to do, as far as the folder tells; 0 where it doesn't."""
        return max(self.training.max_steps if self.training else 0, self._told_total)

    @property
    def _told_total(self) -> int:
        return self.status.total if self.status and self.status.phase == "training" else 0

    def _configured(self, *keys: str) -> Any:
        value: Any = self.config
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


def read_run(folder: Path) -> Run:
    """The run in `folder`.

    Raises:
        DataError: The folder isn't a run's, or one of its files is broken; file and line are named.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that a run writes to")
    datasets, lines = read_lines(folder / LEDGER)
    config, text = read_config(folder / CONFIG)
    metrics, mixture = Metrics.read(folder / METRICS_FILE), Mixture.read(folder / MIXTURE)
    shape = {name: len(q) for name, q in zip(datasets, lines[0].q_KL, strict=True)}
    found: dict[tuple[str, str], Mapping[str, Any]] = {(MIXTURE, "groups"): mixture.groups if mixture else {}}
    if metrics:
        found |= {(METRICS_FILE, "sizes"): metrics.sizes, (METRICS_FILE, "drawn"): metrics.drawn}
    for (file, key), sizes in found.items():
        for name, groups in sizes.items():
            if shape.get(name, len(groups)) != len(groups):
                raise DataError(f"{folder / file}: '{key}' of '{name[:40]}' must name {shape[name]} groups")
    training, evaluation = further(read_training(folder), read_log(folder)), Evaluation.read(folder / EVALUATION)
    status = read_status(folder)
    return Run(
        folder, datasets, lines, config or settings_told(status), text, metrics, training, evaluation, mixture, status
    )


def settings_told(status: Status | None) -> dict[str, Any]:
    """The settings of a run without a `config.yaml`, as its HBOCallback has told them."""
    return dict(status.settings) if status else {}


def read_config(file: Path) -> tuple[dict[str, Any], str]:
    """The configuration of a run and its text, without tokens; empty where there is no such file.

    Raises:
        DataError: The file can't be read, or holds something else.
    """
    # Someone's own loop with the callback has a ledger and no YAML file: that is no error.
    try:
        text = file.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
    except FileNotFoundError:
        return {}, ""
    except UnicodeDecodeError:
        raise DataError(f"{file}: not UTF-8") from None
    except OSError as error:
        raise DataError(f"{file}: can't be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise DataError(f"{file}{f', line {mark.line + 1}' if mark else ''}: not valid YAML") from None
    if not isinstance(config, dict):
        raise DataError(f"{file}: holds no keys; it must be the run's configuration")
    # A report is made to be passed around; a token is not.
    if _hide_secrets(config):
        text = write_yaml(config)
    return config, text


def _hide_secrets(config: dict[str, Any]) -> bool:
    hidden = False
    for section in (config, config.get("train")):
        for key in SECRETS:
            if isinstance(section, dict) and section.get(key):
                section[key] = "(hidden)"
                hidden = True
    return hidden
