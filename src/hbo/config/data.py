"""What a user writes about data: the YAML's `mixture:` and `difficulty:`."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationInfo, field_validator

from hbo.config.section import Section, Switch, written

Temperature = Annotated[float, Field(gt=0)]
YamlScalar = StrictStr | StrictBool | StrictInt | StrictFloat


def stem(entry: Any) -> str:
    """The name of a dataset that was given without one: its path's stem."""
    path = str(entry.get("path", "")) if isinstance(entry, Mapping) else str(entry)
    return path.rstrip("/").rsplit("/", 1)[-1].split(".")[0] or "dataset"


class SourceConfig(Section):
    """Where rows come from, which rows to use, and what their columns mean."""

    path: str
    """Hub name; or a JSONL, JSON, CSV, Parquet or Arrow file, a folder of such files, or a pattern (`a/*.jsonl`)."""
    name: str | None = None
    """Configuration name of a Hub dataset, or of a local clone of one."""
    data_dir: str | None = None
    """Folder inside the Hub dataset."""
    data_files: str | list[str] | dict[str, str | list[str]] | None = None
    """Files inside the Hub dataset or folder: patterns, or split → patterns."""
    split: str = "train"
    """Split of a Hub dataset, or of a folder that has several."""
    format: str | None = None
    """Row format; detected from the columns when absent."""
    columns: dict[str, str] | list[str] | None = None
    """A mapping renames (`{prompt: question}`); a list keeps only these columns."""
    roles: dict[str, str] | None = None
    """Role in the source → system, user, assistant or tool. Or the reverse, with lists: `{user: [human, customer]}`."""
    where: dict[str, YamlScalar | Annotated[list[YamlScalar], Field(min_length=1)]] | None = None
    """Column → value or list of values: only rows with such a value in that column are used."""

    @field_validator("columns", "where", mode="before")
    @classmethod
    def _says_to_quote(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML makes null of a bare `null`, and other things than text of other words.
        no_name: tuple[type, ...] = (NoneType,) if info.field_name == "where" else (NoneType, bool, int, float)
        pairs = value.items() if isinstance(value, Mapping) else [(None, value)] if isinstance(value, list) else []
        for column, given in pairs:
            for each in given if isinstance(given, list) else [given]:
                if isinstance(each, no_name):
                    where = "" if column is None else f"'{column}': "
                    raise ValueError(f"{where}{written(each)} isn't text; quote it ('{written(each)}') if it is a name")
        return value

    @field_validator("roles", mode="before")
    @classmethod
    def _turn_around(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        found: dict[Any, Any] = {}
        for role, names in value.items():
            found |= dict.fromkeys(names, role) if isinstance(names, list) else {role: names}
        return found


class DatasetConfig(SourceConfig):
    """One dataset of the mixture: its source, and settings of the dataset as a whole."""

    also: list[SourceConfig] = Field(default_factory=list)
    """Further sources whose rows belong to the same dataset, each with the keys from `path` to `where`."""
    drop_unusable: Switch = False
    """Leave out and count rows that can't be used (a null text, no answer), instead of stopping with an error."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Use at most this many rows, chosen by the split seed; a dry run that reads no rows assumes this number."""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Relative share of the rows drawn at the start; absent: by the dataset's size."""
    group_by: str | None = None
    """Split this dataset into one dataset per value of this column."""

    @property
    def sources(self) -> list[SourceConfig]:
        """All sources, in the order in which they are read."""
        return [self, *self.also]


class MixtureConfig(Section):
    """The datasets, the shares they start with, and what is held out."""

    datasets: dict[str, DatasetConfig]
    """Name → dataset. A list of entries (TRL's style) works too; each is then named after its file or folder."""
    temperature: Temperature | None = None
    """Prior over datasets, q ∝ n^(1/τ): 1 = proportional, .inf = uniform. Absent: the method's own (1 for hbo).
    The methods proportional and uniform ignore it. `balance.temperature` has the value in use."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of each dataset held out and never trained on; at least one row unless 0."""
    eval_accuracy: Switch = True
    """Also measure accuracy on held-out rows with multiple choice or a numeric answer."""
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each dataset's training rows to use, chosen by the split seed; at least one row."""
    max_passes: Annotated[int, Field(ge=1)] | None = None
    """How often each row may be trained on; a group that reaches it gives its share to the others."""
    split_seed: Annotated[int, Field(ge=0)] | None = None
    """Seed that chooses the held-out rows; absent: `seed`. `hbo compare` sets it: its runs hold out the same rows."""

    @field_validator("datasets", mode="before")
    @classmethod
    def _name_a_list(cls, value: Any) -> Any:
        if isinstance(value, list):
            names = [stem(entry) for entry in value]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"two entries would be named '{twice[0]}'; write `datasets:` as a mapping name: entry")
            value = dict(zip(names, value, strict=True))
        if isinstance(value, Mapping):
            return {str(k): {"path": v} if isinstance(v, str) else v for k, v in value.items()}
        return value

    @field_validator("datasets")
    @classmethod
    def _at_least_one(cls, value: dict[str, DatasetConfig]) -> dict[str, DatasetConfig]:
        if not value:
            raise ValueError("the mixture names no dataset; add at least one entry")
        return value


class DifficultyConfig(Section):
    """How the rows of a dataset are divided into difficulty groups."""

    metric: Literal["ifd", "perplexity", "loss"] = "ifd"
    """Score by which rows are sorted; a low score means easy."""
    groups: Annotated[int, Field(ge=1, le=1024)] = 4
    """Equal groups per dataset (M in the paper)."""
    model: str | None = None
    """Model that scores the rows; absent: the model that is trained."""
    ifd: Literal["perplexity_ratio", "loss_ratio"] = "perplexity_ratio"
    """PPL(y|x)/PPL(y) as in the paper, or the ratio of mean losses as in the authors' code."""
    drop_easiest: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Leave this share of each dataset, its easiest rows, out of training; the number of steps stays the same."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Number format of scoring; auto: bf16 where the hardware multiplies in it, else fp32."""
    examples: Annotated[int, Field(ge=0, le=10)] = 1
    """Example rows of each group, from its middle, in the report; 0 keeps all texts out of the run's folder."""
