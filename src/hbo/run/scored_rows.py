"""How hard each row of a run is, and the groups that follow from it; `hbo score` writes the scores to a file.

Whatever takes a configuration here takes one that `hbo.run.arguments.typed` has gone over.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig

from hbo.atomic import atomic_path
from hbo.config import RunConfig
from hbo.data.mixture import dataset_sizes, read_mixture
from hbo.data.tokens import refused
from hbo.data.unusable import counted_rows, reasons_told
from hbo.progress import Track, silent
from hbo.run.arguments import training_arguments, typed
from hbo.run.model import FoundModel, find_model, find_scorer, load_weights, quiet_libraries
from hbo.run.rows import fitted, own_tokens
from hbo.scoring.devices import scoring_autocast, to_device, uses_bf16
from hbo.scoring.difficulty import Scores, assign_levels, score
from hbo.scoring.levels import without_easiest
from hbo.scoring.models import load_model
from hbo.scoring.processes import all_processes
from hbo.scoring.scores import Quantiles, quantiles, score_table


def needs_scores(config: RunConfig) -> bool:
    """Whether difficulty means anything to this run; with one group there is nothing to sort."""
    return config.difficulty.groups > 1 or config.difficulty.drop_easiest > 0


def scored(
    config: RunConfig,
    rows: Dataset,
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    args: SFTConfig,
    track: Track,
) -> Scores:
    """Difficulty of every row, under the untuned model itself or the separate scorer.

    The scorer needs neither `model` nor `tokenizer`, and of `rows` only what is canonical: it makes tokens of its own.
    """
    if config.difficulty.model is not None:
        scorer, rows = scorer_rows(config, rows, args, track)
        model, tokenizer = load_model(scorer.spec, trust_remote_code=bool(args.trust_remote_code)), scorer.tokenizer
    assert model is not None
    to_device(model, args.device)
    with scoring_autocast(args.device, config.difficulty.precision):
        return score(rows, model, tokenizer, ifd=config.difficulty.ifd, track=track, processes=all_processes())


def scorer_rows(config: RunConfig, data: Dataset, args: SFTConfig, track: Track) -> tuple[FoundModel, Dataset]:
    """The separate scorer, and the rows with its tokens.

    A row that its chat template refuses has no tokens, and a warning counts it.

    Raises:
        ModelError: It can't be found, or has no embedding of a token.
    """
    assert config.difficulty.model is not None
    scorer = find_scorer(config.difficulty.model, args, track)
    texts = data.remove_columns([name for name in ("input_ids", "labels") if name in data.column_names])
    lenient = dataset_sizes(texts)  # what the scorer can't rank is hard, not unusable
    ((rows,), _) = fitted(config, [texts], scorer, args, track, lenient=lenient)
    for dataset, reasons in refused(rows).items():
        warnings.warn(
            f"dataset '{dataset}': {counted_rows(reasons)} rows can't be scored by {scorer.name} and count as "
            f"hard: {reasons_told(reasons)}",
            UserWarning,
            stacklevel=2,
        )
    return scorer, rows


def grouped(config: RunConfig, train: Dataset, scores: Scores | None, args: SFTConfig) -> tuple[Dataset, Scores | None]:
    """`train` with `hbo_level`, without the rows that `difficulty.drop_easiest` drops; and the scores of what is left.

    If the model itself was the scorer, as precise as in training, the rows have `hbo_reference` too.
    """
    if scores is None:
        return train.add_column("hbo_level", np.zeros(len(train), dtype=np.int64)), None
    metric, share = config.difficulty.metric, config.difficulty.drop_easiest
    if share:
        left = without_easiest(train["hbo_dataset"][:], scores, metric, share, train["hbo_row"][:])
        train, scores = train.select(left), scores.of(left)
    level_N = assign_levels(train["hbo_dataset"][:], scores, metric, config.difficulty.groups, train["hbo_row"][:])
    train = train.add_column("hbo_level", np.asarray(level_N, dtype=np.int64))
    as_trained = uses_bf16(args.device, config.difficulty.precision) == bool(args.bf16)
    if config.difficulty.model is None and as_trained:
        train = train.add_column("hbo_reference", np.asarray(scores.loss_N, dtype=np.float64))
    return train, scores


def write_scores(config: RunConfig, output: Path, *, track: Track = silent) -> tuple[list[Quantiles], bool]:
    """The spread of the scores per dataset, and whether all came from the cache; `output` holds one row per example.

    Every row of the mixture is scored, also those that a run would hold out. The configuration may be as it is written.

    Raises:
        HBOError: A source, a row or the model can't be used.
    """
    quiet_libraries()
    config = typed(config)
    args = training_arguments(config)
    name = config.difficulty.model
    found = find_model(config, track) if name is None else find_scorer(name, args, track)
    rows = read_mixture(config.mixture.datasets, seed=config.split_seed, track=track)
    model = None
    if name is None:
        (rows,), _ = own_tokens(config, [rows], found, args, track)
        model = load_weights(found.spec, args)
    scores = scored(config, rows, model, found.tokenizer, args, track)
    table = score_table(rows, scores)
    processes = all_processes()
    if processes.is_first:
        with atomic_path(output.absolute()) as temporary:
            pq.write_table(table, temporary)
    processes.from_first(None)  # when any process is through, the file is there
    return quantiles(table, config.difficulty.metric), scores.cached
