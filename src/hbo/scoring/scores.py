"""How hard each row is: the scores, as arrays, as a table and as quantiles per dataset. Letters: N rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from datasets import Dataset

METRICS = ("ifd", "perplexity", "loss")
IFD_KINDS = ("perplexity_ratio", "loss_ratio")

_LARGEST_LOG = math.log(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Scores:
    """The scores of N rows; NaN where a row has none.

    A row without a response left has no score at all; a row without an instruction (plain text) has a loss and a
    perplexity, but nothing to compare them with.
    """

    loss_N: np.ndarray
    """Mean loss of the response's tokens given all that stands before them, in nats."""
    loss_alone_N: np.ndarray
    """Mean loss of the very same tokens without the instruction."""
    tokens_N: np.ndarray
    """Tokens of the response, the same number on both sides; 0 if none is left after truncation."""
    ifd: str = "perplexity_ratio"
    """Which ratio `ifd_N` is: `perplexity_ratio` or `loss_ratio`."""
    cached: bool = False
    """All was found in the cache, and the model was not asked."""

    def of(self, rows: np.ndarray) -> Scores:
        """The scores of some rows, by their numbers."""
        chosen = {name: getattr(self, name)[rows] for name in ("loss_N", "loss_alone_N", "tokens_N")}
        return replace(self, **chosen)

    @property
    def ifd_N(self) -> np.ndarray:
        """How little the instruction helps: about 1 (or more) if not at all."""
        if self.ifd == "loss_ratio":
            alone = np.where(self.loss_alone_N > 0, self.loss_alone_N, np.nan)  # a sure response has no ratio
            return self.loss_N / alone
        return _exp(self.loss_N - self.loss_alone_N)  # the perplexities themselves could overflow

    def by(self, metric: str) -> np.ndarray:
        """What rows (N,) are sorted by: the IFD; or the loss, in whose order their perplexities are too."""
        return self.ifd_N if metric == "ifd" else self.loss_N

    @property
    def perplexity_N(self) -> np.ndarray:
        """exp(loss), held at the largest float where it would overflow."""
        return _exp(self.loss_N)

    @property
    def perplexity_alone_N(self) -> np.ndarray:
        """The same without the instruction."""
        return _exp(self.loss_alone_N)


@dataclass(frozen=True)
class Quantiles:
    """How a metric is spread over the rows of one dataset; NaN where no row is scored."""

    dataset: str
    n: int
    scored: int
    """Rows that the metric can score; the rest is theirs."""
    min: float
    q25: float
    q50: float
    q75: float
    max: float
    suspect: float
    """Share, of the rows that have an IFD, with IFD ≥ 1: there the instruction does not help."""


def score_table(data: Dataset, scores: Scores) -> pa.Table:
    """One row per example: dataset, row, ifd, perplexity, perplexity_alone, loss, tokens; null if it has no score."""
    origin = data.select_columns(["hbo_dataset", "hbo_row"]).with_format("arrow")[:]
    columns = {
        "dataset": origin["hbo_dataset"].cast(pa.string()),
        "row": origin["hbo_row"].cast(pa.int64()),
        "ifd": _nullable(scores.ifd_N),
        "perplexity": _nullable(scores.perplexity_N),
        "perplexity_alone": _nullable(scores.perplexity_alone_N),
        "loss": _nullable(scores.loss_N),
        "tokens": pa.array(scores.tokens_N, pa.int64()),
    }
    return pa.table(columns)


def quantiles(table: pa.Table, metric: str = "ifd") -> list[Quantiles]:
    """The spread of a metric per dataset of a `score_table`, in the order in which the datasets appear.

    Example:
        >>> table = pa.table({"dataset": ["a", "a", "a"], "ifd": [0.5, 1.5, None]})
        >>> [(q.dataset, q.n, q.scored, q.q50, q.suspect) for q in quantiles(table)]
        [('a', 3, 2, 1.0, 0.5)]
    """
    names = np.array(table["dataset"].to_pylist())
    values = {name: table[name].to_numpy().astype(np.float64) for name in {metric, "ifd"}}
    found = []
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        scored, ifd = (each[mine & ~np.isnan(each)] for each in (values[metric], values["ifd"]))
        spread = np.quantile(scored, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(scored) else [math.nan] * 5
        suspect = float((ifd >= 1).mean()) if len(ifd) else math.nan
        least, q25, q50, q75, most = spread
        found.append(Quantiles(name, int(mine.sum()), len(scored), least, q25, q50, q75, most, suspect))
    return found


def _exp(values: np.ndarray) -> np.ndarray:
    perplexity: np.ndarray = np.exp(np.minimum(values, _LARGEST_LOG))
    return perplexity


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)
