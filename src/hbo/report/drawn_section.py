"""The part of the page about the rows drawn: against what was asked, and how often each was seen."""

from __future__ import annotations

import numpy as np

from hbo.core.prior import MANY_PASSES
from hbo.folder.run import Run
from hbo.report.markup import MISSING, how_to_read, name, number, section, table
from hbo.report.tables import Array, Tables, epochs

_NAMED = 6


def drawn(run: Run, series: Tables) -> str:
    """How often each group was drawn, against what its probability asked for."""
    title, total = "Rows drawn", float(series.drawn_KL.sum())
    if total == 0:
        return section("drawn", title, '<p class="empty">The ledger counts no rows drawn yet.</p>')
    seen_KL = epochs(series.drawn_KL, run.sizes, run.datasets)
    until = f"up to step {series.step_S[-1]:,}, the last line of the ledger" if run.drawn_KL is None else "in all steps"
    rows = []
    for k, dataset in enumerate(run.datasets):
        cells = [_drawn_cell(series, seen_KL, k, j) for j in range(series.groups)]
        rows.append([name(dataset), *cells, _share(series.drawn_KL[k].sum(), series.asked_KL[k].sum(), total)])
    columns = [_share(series.drawn_KL[:, j].sum(), series.asked_KL[:, j].sum(), total) for j in range(series.groups)]
    rows.append(["<strong>All</strong>", *columns, f'<td class="count"><strong>{int(total):,}</strong></td>'])
    sentence = (
        f"rows consumed {until}; below each count, its share of all rows and "
        "the share that the probabilities asked for. The stronger its shade, the more rows a cell gave."
    )
    if np.isfinite(seen_KL).any():
        sentence += f" × is how often each row of the group was seen; ⚠ and a frame mark {MANY_PASSES} times or more."
    head = ["Dataset", *(f"g{j + 1}" for j in range(series.groups)), "All groups"]
    return section(
        "drawn",
        title,
        how_to_read("drawn", sentence),
        repeated(run, seen_KL),
        table("Rows drawn per dataset and group", head, rows, "heat"),
    )


def repeated(run: Run, seen_KL: Array, where: str = "") -> str:
    """A note that names the groups whose rows were seen very often; nothing where there is none."""
    worst = [(seen_KL[k, j], k, j) for k, j in np.argwhere(np.nan_to_num(seen_KL) >= MANY_PASSES)]
    if not worst:
        return ""
    named = [f"{name(run.datasets[k])} g{j + 1} ({number(seen, 1)} ×)" for seen, k, j in sorted(worst, reverse=True)]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return (
        f'<p class="note">{where}<strong>Seen {MANY_PASSES} times or more:</strong> {", ".join(named[:_NAMED])}{more}. '
        "Rows repeated so often may be learnt by heart; mixture.max_passes sets a limit.</p>"
    )


def _drawn_cell(series: Tables, seen_KL: Array, k: int, j: int) -> str:
    if np.isnan(series.q_SKL[0, k, j]):
        return f"<td>{MISSING}</td>"
    count, asked, total = series.drawn_KL[k, j], series.asked_KL[k, j], series.drawn_KL.sum()
    shade = count / series.drawn_KL.max()
    seen = seen_KL[k, j]
    again = "" if np.isnan(seen) else f"<small>{'⚠ ' if seen >= MANY_PASSES else ''}{number(seen, 2)} ×</small>"
    css = "count again" if seen >= MANY_PASSES else "count"
    return f'<td class="{css}" style="--share:{shade:.3f}">{int(count):,}{_shares(count, asked, total)}{again}</td>'


def _share(count: float, asked: float, total: float) -> str:
    return f'<td class="count">{int(count):,}{_shares(count, asked, total)}</td>'


def _shares(count: float, asked: float, total: float) -> str:
    return f"<small>{percent(count / total)}, asked {percent(asked / total)}</small>"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f} %"
