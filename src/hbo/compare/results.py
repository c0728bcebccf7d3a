"""Finished cells → `results.jsonl` and `comparison.md`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hbo.compare.grid import Cell
from hbo.compare.runner import is_finished
from hbo.compare.statistics import mean_and_error, paired
from hbo.data.cache import atomic_path
from hbo.training.run_folder import METRICS

MEASURES = ("macro_nll", "relative_nll", "worst_nll")
Row = dict[str, Any]


def write_results(cells: Sequence[Cell], output: Path) -> None:
    """Writes both files anew from every cell that is finished.

    Raises:
        DataError: A file can't be written.
    """
    rows = [_row(cell) for cell in cells if is_finished(cell)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for name, text in (("results.jsonl", lines), ("comparison.md", markdown(rows))):
        with atomic_path(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def markdown(rows: Sequence[Row]) -> str:
    """The table of methods and their paired difference to the best baseline, the one of the lowest mean.

    Raises:
        Nothing.
    """
    if not rows:
        return "No run is finished yet.\n"
    labels = list(dict.fromkeys(row["label"] for row in rows))
    names = list(rows[0]["nll"])
    columns = [*names, *MEASURES, "seconds", "overhead"]
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for label in labels:
        mine = [row for row in rows if row["label"] == label]
        shown = []
        for column in columns:
            mean, error = mean_and_error([row["nll"][column] if column in names else row[column] for row in mine])
            shown.append(f"{mean:.3f}" + ("" if len(mine) < 2 else f" ± {error:.3f}"))
        lines.append(f"| {label} | " + " | ".join(shown) + " |")
    baselines = {row["label"] for row in rows if row["method"] != "hbo"}
    for measure in MEASURES if baselines else ():
        by = {label: {r["seed"]: r[measure] for r in rows if r["label"] == label} for label in labels}
        best = min(sorted(baselines), key=lambda label: mean_and_error(list(by[label].values()))[0])
        lines += ["", f"{measure}, less is better, against {best}:", ""]
        for label in labels:
            if label != best:
                d = paired(by[label], by[best])
                numbers = f" {d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}], p = {d.p:.3f}," if d.pairs > 1 else ""
                lines.append(f"- {label}:{numbers} {d.pairs} seeds: {d.verdict}")
    return "\n".join(lines) + "\n"


def _row(cell: Cell) -> Row:
    found = json.loads((cell.folder / METRICS).read_text(encoding="utf-8"))
    nll = {name: score["nll"] for name, score in found["eval"].items()}
    worst = max(nll, key=lambda name: nll[name])
    return {
        "label": cell.label, "method": cell.method, "seed": cell.seed, "settings": dict(cell.settings),
        "steps": found["steps"], "nll": nll,
        "nll_before": {name: score["nll"] for name, score in found["eval_before"].items()},
        "accuracy": found.get("accuracy"), "macro_nll": found["macro_nll"], "relative_nll": found["relative_nll"],
        "worst": worst, "worst_nll": nll[worst], "seconds": found["train_seconds"],
        "overhead": found["balance_overhead"],
    }  # fmt: skip
