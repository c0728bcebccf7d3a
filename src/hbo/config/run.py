"""What a user writes: small frozen models, one per part of the YAML file.

`train:` and `lora:` hold keys of `trl.SFTConfig` and `peft.LoraConfig`, which document them. Their values are looked at
where these libraries are loaded (`hbo.run.arguments`), and not here.
"""

from __future__ import annotations

import math
import warnings
from typing import Annotated, Any

from pydantic import Field, model_validator

from hbo.config.balance import HBOConfig
from hbo.config.data import DifficultyConfig, MixtureConfig
from hbo.config.section import Section


class RunConfig(Section):
    """One run of `hbo train`: a whole YAML file."""

    model: str
    """Hub name, folder, GGUF file, `pypi:package==version`, or `demo:tiny`."""
    output: str | None = None
    """Run folder; `--output` overrides it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the held-out rows, of every draw, and (unless `train:` has its own) of the trainer."""
    global_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per optimizer step over all processes, however many there are; sets `train.gradient_accumulation_steps`."""
    mixture: MixtureConfig
    """Datasets and prior."""
    difficulty: DifficultyConfig = DifficultyConfig()
    """Scores and groups."""
    balance: HBOConfig = Field(default_factory=HBOConfig)
    """Method and its settings."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Keys of `trl.SFTConfig`; docs/train-keys.md says what becomes of each."""
    lora: dict[str, Any] | None = None
    """Keys of `peft.LoraConfig`; absent: full fine-tuning."""

    @model_validator(mode="after")
    def _one_temperature(self) -> RunConfig:
        tau = self.mixture.temperature
        if tau is not None and math.isnan(tau):
            raise ValueError("mixture.temperature is not a number; give a value above 0, or .inf for uniform")
        return self

    @property
    def split_seed(self) -> int:
        """Seed of the held-out rows, and of those chosen where not all are used."""
        return self.seed if self.mixture.split_seed is None else self.mixture.split_seed

    def resolved(self) -> RunConfig:
        """This configuration with the prior's temperature written in both places it may stand."""
        from hbo.config.methods import FIXED_TEMPERATURE

        own, tau = self.balance.temperature, self.mixture.temperature
        if tau is None or self.balance.method in FIXED_TEMPERATURE:
            if tau not in (None, own):
                warnings.warn(
                    f"mixture.temperature is {tau:g}, which does not apply: method {self.balance.method} means {own:g}",
                    UserWarning,
                    stacklevel=2,
                )
            tau = own
        return self.model_copy(
            update={
                "mixture": self.mixture.model_copy(update={"temperature": tau}),
                "balance": self.balance.model_copy(update={"temperature": tau}),
            }
        )
