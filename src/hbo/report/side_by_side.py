"""The charts of several runs: one legend for all, and each chart beside its like of the other runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hbo.report import markup
from hbo.report.balance_sections import TARGET_KEY, TARGETS, group_keys
from hbo.report.figures import BUDGET, Figure, figures
from hbo.report.markup import chart, how_to_read, name, section, swatch
from hbo.report.runs import Shown, places
from hbo.report.side_tables import probabilities

_KINDS = ("global-p", "local-p", "global-reward", "local-reward", "loss")


def drawings(runs: Sequence[Shown]) -> dict[str, Figure]:
    """Every figure of every run by its id, such as `r0-global-p` of the first; those of a kind have one vertical axis.

    Charts of rewards do so where the runs measured the same reward.

    Raises:
        Nothing.
    """
    where = places(runs)
    found: dict[str, Figure] = {}
    for i, shown in enumerate(runs):
        drawn = figures(shown.run, shown.series, BUDGET // len(runs), where)
        found |= {f"r{i}-{key}": figure for key, figure in drawn.items()}
    for kind in _KINDS:
        # One axis for what is of one scale, or the eye would compare what can't be compared.
        alike: defaultdict[str, list[Figure]] = defaultdict(list)
        for i, shown in enumerate(runs):
            scale = {"global-reward": shown.run.global_reward, "local-reward": shown.run.local_reward}.get(kind, "")
            alike[scale] += [figure for key, figure in found.items() if key.startswith(f"r{i}-{kind}")]
        for figures_of_scale in alike.values():
            extent = _extent(figures_of_scale)
            for figure in figures_of_scale:
                figure |= {"range": extent, "until": max(shown.run.steps for shown in runs)}
    return found


def legend(runs: Sequence[Shown], found: dict[str, Figure]) -> str:
    """The buttons that hide a dataset, a group or the targets in the charts of all runs."""
    keys = [(f"d{place}", name(dataset)) for dataset, place in places(runs).items()]
    sizes = sorted({len(q) for shown in runs for q in shown.run.lines[0].q_KL} - {1})
    for groups in sizes:
        among = f" of {groups}" if len(sizes) > 1 else ""
        keys += [(key, said + among) for key, said in group_keys(groups)]
    if any(trace.get("target") for figure in found.values() for trace in figure["traces"]):
        keys.append(TARGET_KEY)
    few = all(len(shown.run.lines) <= TARGETS for shown in runs)
    return f'<div class="shared">{markup.legend("r", keys, pressed=lambda key: key != "target" or few)}</div>'


def policies(runs: Sequence[Shown], found: dict[str, Figure]) -> list[str]:
    """The sections of the probabilities: of the datasets, and of the groups inside each dataset."""
    return [
        section(
            "global-p",
            "Share of each dataset",
            how_to_read(
                "global-p",
                "each line is the share of rows asked from one dataset; it changes only at an update. Hollow markers "
                "are a dataset's share of all rewards, where the update pulls its line. All charts have one axis.",
            ),
            _grid(runs, found, "global-p", "Line chart of each dataset's sampling probability", small=False),
            probabilities(runs, inside=False),
        ),
        section(
            "local-p",
            "Share of each difficulty group, inside its dataset",
            how_to_read(
                "local-p",
                "g1 holds a dataset's easiest rows, the last group its hardest; the dotted line is an equal share, and "
                "hollow markers are a group's share of its dataset's rewards. All charts have one axis.",
            ),
            _by_dataset(runs, found, "local-p", "Line chart of the groups' probabilities"),
            probabilities(runs, inside=True),
        ),
    ]


def rewards(runs: Sequence[Shown], found: dict[str, Figure]) -> str:
    """What was measured to move the probabilities; runs that measure nothing are named."""
    parts = []
    if datasets := _grid(runs, found, "global-reward", "Line chart of each dataset's reward", small=False):
        what = (
            "what each update measured for each dataset, with ±1 standard error over its probes. Runs of one reward "
            "have one axis; another reward has another scale."
        )
        parts += ["<h3>Of the datasets</h3>", how_to_read("global-reward", what), datasets]
    if groups := _by_dataset(runs, found, "local-reward", "Line chart of the groups' rewards", level=4):
        what = "what each update measured for each group, with ±1 standard error over its probes."
        parts += ["<h3>Of the groups</h3>", how_to_read("local-reward", what), groups]
    without = [
        name(shown.label)
        for shown in runs
        if not (np.isfinite(shown.series.reward_SK).any() or np.isfinite(shown.series.reward_SKL).any())
    ]
    if without:
        parts.append(f'<p class="empty">Measured no rewards: {", ".join(without)}.</p>')
    return section("rewards", "Rewards", *parts)


def loss(runs: Sequence[Shown], found: dict[str, Figure]) -> str:
    """The training loss of each run, overall and per dataset."""
    charts = _grid(runs, found, "loss", "Line chart of the training loss", small=False)
    return section(
        "loss",
        "Training loss",
        how_to_read(
            "loss",
            "the loss that the trainer logged, on the rows drawn, thick over all datasets. Runs that draw other rows "
            "can't be compared by it; held-out rows are the same for all that share a seed of the split.",
        ),
        charts or '<p class="empty">No run has logged a training loss yet.</p>',
    )


def _grid(runs: Sequence[Shown], found: dict[str, Figure], kind: str, what: str, *, small: bool) -> str:
    charts = [
        chart(f"r{i}-{kind}", f"{what} in run {shown.label}", kind, name(shown.label), small=small)
        for i, shown in enumerate(runs)
        if f"r{i}-{kind}" in found
    ]
    return f'<div class="grid {"" if small else "wide"}">{"".join(charts)}</div>' if charts else ""


def _by_dataset(runs: Sequence[Shown], found: dict[str, Figure], kind: str, what: str, level: int = 3) -> str:
    parts, widest = [], 1
    for dataset, place in places(runs).items():
        charts = []
        for i, shown in enumerate(runs):
            anchor = f"r{i}-{kind}-{shown.run.datasets.index(dataset)}" if dataset in shown.run.datasets else ""
            if anchor in found:
                said = f"{what} of {dataset} in run {shown.label}"
                charts.append(chart(anchor, said, kind, name(shown.label), small=True))
        if charts:
            title = f"<h{level}>{swatch(f'd{place}')}{name(dataset)}</h{level}>"
            parts.append(f'<div>{title}<div class="grid">{"".join(charts)}</div></div>')
            widest = max(widest, len(charts))
    # As many datasets abreast as there is room for the charts of one.
    return f'<div class="blocks" style="--charts: {widest}">{"".join(parts)}</div>' if parts else ""


def _extent(alike: Sequence[Figure]) -> list[float] | None:
    """The range that holds all of these figures, from 0 where they begin there themselves."""
    given = [figure["range"] for figure in alike if figure["range"]]
    if given:
        return [min(low for low, _ in given), max(high for _, high in given)]
    ends: list[float] = []
    for trace in (trace for figure in alike for trace in figure["traces"]):
        spread = trace.get("se") or [None] * len(trace["y"])
        for y, error in zip(trace["y"], spread, strict=True):
            ends += [] if y is None else [y - (error or 0.0), y + (error or 0.0)]
    if not ends:
        return None
    low, high = min(ends), max(ends)
    margin = 0.05 * (high - low) or 0.05
    return [0.0 if all(figure["zero"] for figure in alike) else low - margin, high + margin]
