"""`hbo score`: the difficulty of every row of a mixture, as a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from hbo.config import RunConfig
from hbo.data.cache import atomic_path
from hbo.data.mixture import read_mixture
from hbo.progress import Track, silent
from hbo.run import prepare
from hbo.run.arguments import training_arguments
from hbo.scoring.devices import scoring_autocast, to_device
from hbo.scoring.difficulty import score
from hbo.scoring.models import resolve
from hbo.scoring.processes import all_processes
from hbo.scoring.scores import Quantiles, quantiles, score_table


def write_scores(config: RunConfig, output: Path, *, track: Track = silent) -> tuple[list[Quantiles], bool]:
    """The spread of the scores per dataset, and whether all came from the cache; `output` holds one row per example.

    Every row of the mixture is scored, also those that a run would hold out.

    Raises:
        HBOError: A source, a row or the model can't be used.
    """
    prepare.quiet_libraries()
    args = training_arguments(config.model_copy(update={"output": config.output or "runs/unnamed"}))
    scorer = config.difficulty.model
    spec, tokenizer = prepare.load(config, track) if scorer is None else (resolve(scorer, track=track), None)
    mixture = read_mixture(config.mixture.datasets, seed=config.split_seed, track=track)
    if scorer is None:
        (data,), _ = prepare.own_tokens(config, [mixture], tokenizer, args, track)
    else:
        spec, tokenizer, data = prepare.scorer_rows(config, mixture, args, track)
    model = (prepare.load_weights if scorer is None else prepare.load_scorer)(spec, args)
    to_device(model, args.device)
    processes = all_processes()
    with scoring_autocast(args.device, config.difficulty.precision):
        scores = score(data, model, tokenizer, ifd=config.difficulty.ifd, track=track, processes=processes)
    table = score_table(data, scores)
    if processes.is_first:
        with atomic_path(output.absolute()) as temporary:
            pq.write_table(table, temporary)
    processes.from_first(None)  # when any process is through, the file is there
    return quantiles(table, config.difficulty.metric), scores.cached
