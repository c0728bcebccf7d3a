"""`hbo replay`: the rows of a step, found again from the run folder; draws being pure, no training is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from trl import SFTConfig

from hbo.config.file import load
from hbo.core.ledger import Ledger
from hbo.core.stream import Stream
from hbo.data.canonical import conversation_of
from hbo.errors import ConfigError, DataError
from hbo.folder.ledger import read_records
from hbo.folder.paths import CONFIG, LEDGER, last_checkpoint, snapshot
from hbo.progress import silent
from hbo.run.arguments import draw_seed, training_arguments, typed
from hbo.run.model import find_model, load_weights, quiet_libraries
from hbo.run.rows import read_data
from hbo.run.scored_rows import grouped, needs_scores, scored
from hbo.training.groups import drawn_groups
from hbo.training.packing import as_drawn
from hbo.training.sampler import HBOSampler
from hbo.training.schedule import Schedule


def rows_of_step(run: Path, step: int) -> Iterator[str]:
    """The rows of optimizer step `step` (from 1), shortest first, each as a JSON line.

    Raises:
        ConfigError: There is no such run or step.
        DataError: The data is no longer what the run was trained on.
    """
    if not (run / CONFIG).is_file() or not (run / LEDGER).is_file():
        raise ConfigError(f"{run}: isn't a run folder of hbo (it needs {CONFIG} and {LEDGER})")
    if step < 1:
        raise ConfigError(f"--step is {step}, but steps are counted from 1")
    quiet_libraries()
    config = typed(load(run / CONFIG))
    args = training_arguments(config)
    found = find_model(config)
    data = read_data(config, found, args, silent)
    scores = None
    if needs_scores(config):
        scores = scored(config, data.train, load_weights(found.spec, args), found.tokenizer, args, silent)
    examples, _ = grouped(config, data.train, scores, args)
    rows = as_drawn(examples, args)
    seed = draw_seed(config, args)
    groups, _ = drawn_groups(rows, config.balance, seed)
    records = [record for _, record in read_records(run / LEDGER)]
    if list(records[0]["global"]) != list(groups.datasets):
        raise DataError(
            f"{run}: was trained on {list(records[0]['global'])}, but its config now gives {groups.datasets}"
        )
    ledger = Ledger.from_records(records, groups.datasets)
    is_stratified, cap = config.balance.is_stratified, config.mixture.max_passes
    stream = Stream(groups, ledger, seed, stratified=is_stratified, max_passes=cap)
    for number in HBOSampler(stream, _schedule(run, len(rows), args)).window(step - 1).tolist():
        for example in rows[number]["hbo_example"] if args.packing else [number]:
            row = examples[example]
            turns = conversation_of(row)
            shown = {"dataset": row["hbo_dataset"], "group": row["hbo_level"], "row": row["hbo_row"]}
            shown |= {"prompt": turns.prompt, "completion": turns.completion}
            yield json.dumps(shown | ({"tools": turns.tools} if turns.tools else {}), ensure_ascii=False)


def _schedule(run: Path, rows: int, args: SFTConfig) -> Schedule:
    """Rows per step as the run noted them, because how many processes it had stands nowhere else."""
    saved = snapshot(run) or snapshot(last_checkpoint(run) or run)
    if saved:
        return Schedule(*saved["schedule"])
    batch = args.per_device_train_batch_size * args.world_size
    return Schedule.of(-(-rows // batch), batch, args.gradient_accumulation_steps)
