"""What a user writes: small frozen models, one per part of the YAML file.

`train:` and `lora:` hold keys of `trl.SFTConfig` and `peft.LoraConfig`, which document them. `hbo.run.arguments` checks
their values, since these libraries are loaded only there.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from hbo.config.balance import HBOConfig
from hbo.config.data import DifficultyConfig, MixtureConfig
from hbo.config.methods import SETTINGS
from hbo.config.section import Section


class RunConfig(Section):
    """One run of `hbo train`: a whole YAML file."""

    model: str
    """Hub name, folder, GGUF file, `pypi:package==version`, or `demo:tiny`."""
    output: str | None = None
    """Run folder; `--output` overrides it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the held-out rows, of all draws, and of the trainer (unless `train:` sets its own)."""
    global_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per optimizer step, over all processes together; sets `train.gradient_accumulation_steps`."""
    mixture: MixtureConfig
    """The datasets and the shares they start with."""
    difficulty: DifficultyConfig = DifficultyConfig()
    """How rows are scored and grouped by difficulty."""
    balance: HBOConfig = Field(default_factory=HBOConfig, validate_default=True)
    """The balancing method and its settings."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Keys of `trl.SFTConfig`; docs/train-keys.md says what each does here."""
    lora: dict[str, Any] | None = None
    """Keys of `peft.LoraConfig`; absent: full fine-tuning."""

    @field_validator("balance")
    @classmethod
    def _prior_of_the_mixture(cls, balance: HBOConfig, info: ValidationInfo) -> HBOConfig:
        """With the temperature that the YAML has under `mixture:`, unless the method means another."""
        mixture = info.data.get("mixture")  # missing if it can't be used, which is told first
        tau = None if mixture is None else mixture.temperature
        if tau in (None, balance.temperature):
            return balance
        if SETTINGS[balance.method].means_temperature:
            warnings.warn(
                f"mixture.temperature is {tau:g}, which is ignored: method {balance.method} always has "
                f"{balance.temperature:g}",
                UserWarning,
                stacklevel=1,  # the caller is pydantic, and hbo's own warnings are known by their file
            )
            return balance
        return balance.model_copy(update={"temperature": tau})

    @property
    def split_seed(self) -> int:
        """Seed that chooses the held-out rows, and the rows to use where not all are used."""
        return self.seed if self.mixture.split_seed is None else self.mixture.split_seed
