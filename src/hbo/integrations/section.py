"""The `hbo:` section that a user adds to the configuration of another program's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from hbo.config import HBOConfig
from hbo.config.section import Section, complaint, shown
from hbo.errors import ConfigError


class TrainerDifficulty(Section):
    """How the rows of a dataset are cut into difficulty groups."""

    metric: Literal["ifd", "perplexity", "loss", "length"] = "ifd"
    """Score the rows are sorted by, under the model that is trained; `length`, in tokens, asks no model."""
    groups: Annotated[int, Field(ge=1, le=1024)] = 4
    """Equal groups per dataset (M in the paper)."""
    ifd: Literal["perplexity_ratio", "loss_ratio"] = "perplexity_ratio"
    """PPL(y|x)/PPL(y) as in the paper, or the ratio of mean losses as in the authors' code."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """What the scorer computes in; auto: bf16 where the processor multiplies in it, else fp32."""


class TrainerSection(HBOConfig):
    """Method and settings, and what else belongs to the mixture: the section `hbo:`."""

    difficulty: TrainerDifficulty = TrainerDifficulty()
    """The groups of a dataset; `{groups: 1}` for none."""
    weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    """Dataset → relative share at the start, instead of its size."""
    max_passes: Annotated[int, Field(ge=1)] | None = None
    """How often each row may be trained on; a group that reaches it gives its share to the others."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Key of every draw; absent: the trainer's."""


def section_of(data: Any, source: str = "hbo") -> TrainerSection:
    """The section from plain data; nothing at all is a section of defaults.

    Args:
        data: What stands under `hbo:`.
        source: Where it stands, for errors.

    Raises:
        ConfigError: A key or value can't be used.
    """
    if data is None:
        data = {}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source}: is {shown(data)}, but it takes keys, such as `update_every: 200`")
    try:
        return TrainerSection.model_validate(dict(data))
    except ValidationError as error:
        raise ConfigError(f"{source}: {complaint(error, TrainerSection)[1]}") from None
