"""The parts of the page about the balancer: probabilities, rewards, and the rows drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hbo.config.methods import is_flat
from hbo.folder.run import Run
from hbo.report import markup
from hbo.report.figures import Figure
from hbo.report.markup import MISSING, how_to_read, name, number, section, swatch, table, with_error
from hbo.report.tables import Array, Tables, evenly
from hbo.report.targets import targets

_ROWS = 12  # of a table with one row per update; the ledger has them all
_LEGEND_GROUPS = 12
TARGET_KEY = ("target", "share of the rewards")
TARGETS = 30  # ledger lines up to which the targets are shown unasked: they hide the policy when they are many


def global_policy(run: Run, series: Tables, figures: dict[str, Figure]) -> str:
    """The sampling probability of each dataset over steps (the paper's Figure 2, left)."""
    keys = [(f"d{k}", name(dataset)) for k, dataset in enumerate(run.datasets)]
    sentence = "each line is the share of rows asked from one dataset; it changes only at an update (marker). "
    if any(trace.get("target") for trace in figures["global-p"]["traces"]):
        keys.append(TARGET_KEY)
        sentence += (
            "Hollow markers (the button 'share of the rewards') are a dataset's share of all rewards, where the update "
            "pulls its line: a line below its marker rises, one above it falls."
        )
    shown = len(figures["global-p"]["traces"][0]["x"])
    if shown < len(run.lines):
        sentence += f" So long a run is drawn with {shown:,} of its {len(run.lines):,} ledger lines."
    final, aims = series.p_SK[-1], targets(run, series).p_SK
    last = aims[np.flatnonzero(np.isfinite(aims).any(axis=1))][-1:]
    rows = [
        [
            swatch(f"d{k}") + name(d),
            number(series.p_SK[0, k]),
            number(final[k]),
            number(last[0, k] if len(last) else None),
        ]
        for k, d in enumerate(run.datasets)
    ]
    return section(
        "global-p",
        "Share of each dataset",
        how_to_read("global-p", sentence),
        markup.legend("global-p", keys, pressed=lambda key: key != "target" or len(run.lines) <= TARGETS),
        markup.chart("global-p", _said("Line chart of each dataset's sampling probability"), "global-p"),
        table(
            "Sampling probability per dataset",
            ["Dataset", "At the start", "After the last update", "Its last share of the rewards"],
            rows,
        ),
        markup.details("Every update", _over_steps(run, series, lambda s, k: number(series.p_SK[s, k], 4))),
    )


def local_policy(run: Run, series: Tables, figures: dict[str, Figure]) -> str:
    """The probabilities of the groups inside each dataset (the paper's Figure 2, right)."""
    sentence = (
        "g1 holds a dataset's easiest rows, the last group its hardest; the dotted line is an equal share. All charts "
        "have the same vertical axis"
    )
    extent = figures["local-p-0"]["range"]
    sentence += ", which doesn't start at 0 because the shares move little." if extent and extent[0] > 0 else "."
    keys = group_keys(series.groups)
    if np.isfinite(targets(run, series).q_SKL).any():
        keys.append(TARGET_KEY)
        sentence += " Hollow markers (a button too) are a group's share of its dataset's rewards, which pulls its line."
    return section(
        "local-p",
        "Share of each difficulty group, inside its dataset",
        how_to_read("local-p", sentence),
        markup.legend("local-p-", keys, pressed=lambda key: key != "target" or len(run.lines) <= TARGETS),
        _grid(run, "local-p", "Line chart of the groups' probabilities inside"),
        _by_group(
            run,
            "Probability of each group, at the start → after the last update",
            series,
            lambda k, j: f"{number(series.q_SKL[0, k, j])} → {number(series.q_SKL[-1, k, j])}",
        ),
    )


def rewards(run: Run, series: Tables, figures: dict[str, Figure]) -> str:
    """What was measured to move the probabilities, per dataset and per group, with standard errors."""
    parts = []
    if "global-reward" in figures:
        parts += _global_rewards(run, series)
    if np.isfinite(series.reward_SKL).any():
        parts += _local_rewards(run, series)
    if not parts:
        static = len(run.lines) > 1 or run.metrics is not None
        why = "measures no rewards: its probabilities are frozen" if static else "has measured no rewards yet"
        return section("rewards", "Rewards", f'<p class="empty">The run {why}.</p>')
    return section("rewards", "Rewards", *parts)


def _global_rewards(run: Run, series: Tables) -> list[str]:
    keys = [(f"d{k}", name(dataset)) for k, dataset in enumerate(run.datasets)]

    def cell(s: int, k: int) -> str:
        return with_error(series.reward_SK[s, k], series.reward_se_SK[s, k])

    return [
        "<h3>Of the datasets</h3>",
        how_to_read(
            "global-reward",
            "what each update measured for each dataset, with ±1 standard error over its probes; the larger a reward "
            "against the others, the more the dataset is drawn. Rewards within each other's error can't be told apart.",
        ),
        markup.legend("global-reward", keys),
        markup.chart(
            "global-reward", _said("Line chart of each dataset's reward with its standard error"), "global-reward"
        ),
        markup.details("Every update", _over_steps(run, series, cell, series.reward_SK)),
    ]


def _local_rewards(run: Run, series: Tables) -> list[str]:
    last = int(np.flatnonzero(np.isfinite(series.reward_SKL).any(axis=(1, 2)))[-1])

    def cell(k: int, j: int) -> str:
        return with_error(series.reward_SKL[last, k, j], series.reward_se_SKL[last, k, j])

    inside = "of all groups" if is_flat(run.method) else "inside one dataset"
    return [
        "<h3>Of the groups</h3>",
        how_to_read(
            "local-reward",
            f"what each update measured for each group, with ±1 standard error; only the comparison {inside} matters: "
            "a group above the others is drawn more.",
        ),
        markup.legend("local-reward-", group_keys(series.groups)),
        _grid(run, "local-reward", "Line chart of the groups' rewards inside"),
        _by_group(run, f"Reward of each group at step {series.step_S[last]:,}, ± standard error", series, cell),
    ]


def group_keys(groups: int) -> list[tuple[str, str]]:
    """The entries of a legend of difficulty groups."""
    names = {0: " (easiest)", groups - 1: " (hardest)"} if groups > 1 else {}
    return [(f"g{j}/{groups}", f"g{j + 1}{names.get(j, '')}") for j in evenly(groups, _LEGEND_GROUPS)]


def _grid(run: Run, prefix: str, what: str) -> str:
    charts = [
        markup.chart(
            f"{prefix}-{k}", f"{what} {dataset}; numbers in the table below", prefix, name(dataset), small=True
        )
        for k, dataset in enumerate(run.datasets)
    ]
    return f'<div class="grid">{"".join(charts)}</div>'


def _by_group(run: Run, caption: str, series: Tables, cell: Callable[[int, int], str]) -> str:
    head = ["Dataset", *(f"g{j + 1}" for j in range(series.groups))]
    exists = np.isfinite(series.q_SKL[0])
    rows = [
        [name(d), *(cell(k, j) if exists[k, j] else MISSING for j in range(series.groups))]
        for k, d in enumerate(run.datasets)
    ]
    return table(caption, head, rows)


def _over_steps(run: Run, series: Tables, cell: Callable[[int, int], str], measured: Array | None = None) -> str:
    every = range(len(run.lines))
    lines = [s for s in every if measured is None or np.isfinite(measured[s]).any()]
    chosen = [lines[i] for i in evenly(len(lines), _ROWS)]
    rows = [[f"{series.step_S[s]:,}", *(cell(s, k) for k in range(len(run.datasets)))] for s in chosen]
    caption = f"After step ({len(chosen)} of {len(lines)} lines of balance.jsonl)"
    return table(caption, ["Step", *map(name, run.datasets)], rows)


def _said(what: str) -> str:
    return f"{what} over optimizer steps; numbers in the table below"
