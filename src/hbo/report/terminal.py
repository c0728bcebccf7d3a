"""What the command line prints as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from hbo.core.prior import MANY_PASSES
from hbo.data.notes import Note
from hbo.folder.benchmarks import Evaluation, Measure
from hbo.folder.metrics import Metrics, Score
from hbo.report.columns import Columns
from hbo.report.words import PAPER_NAMES
from hbo.text import visible


def metrics_table(metrics: Mapping[str, Any]) -> Columns:
    """Perplexity of the held-out rows per dataset before and after training, and the mean loss.

    `metrics` is what `metrics.json` holds.

    Raises:
        DataError: A value has the wrong type.

    Example:
        >>> metrics_table({"eval": {"math": {"nll": 0.0, "perplexity": 1.0, "n": 5}}}).row_count
        2
    """
    found = Metrics.checked(dict(metrics), "metrics.json")
    was_asked = bool(found.right or found.right_before)
    columns = ["rows", "before", "after", "change", *(["right answers"] if was_asked else [])]
    table = Columns(["dataset", *columns], "Perplexity of the held-out rows (lower is better)")
    for name in dict.fromkeys([*found.after, *found.before]):
        before, after = found.before.get(name), found.after.get(name)
        scores = [score.perplexity if score else None for score in (before, after)]
        cells: list[str | Text] = [_rows(after or before), *(_number(s, 2) for s in scores), _change(*scores)]
        table.add(_name(name), *cells, *([_accuracy(found, name)] if was_asked else []))
    table.end_part()
    macro = (found.macro_before, found.macro_nll)
    last = [""] if was_asked else []
    table.add("mean loss (nats per token)", "", *(_number(value, 3) for value in macro), _change(*macro), *last)
    return table


def quantiles_table(spread: Sequence[Any], metric: str) -> Columns:
    """How a difficulty metric is spread over each dataset's rows.

    Args:
        spread: `hbo.scoring.scores.Quantiles`, one per dataset.
        metric: What was scored.
    """
    columns = ["rows", "scored", "min", "25%", "50%", "75%", "max", "IFD ≥ 1"]
    table = Columns(["dataset", *columns], f"Difficulty ({metric})")
    for q in spread:
        values = (_number(value, 3) for value in (q.min, q.q25, q.q50, q.q75, q.max))
        suspect = "–" if math.isnan(q.suspect) else f"{q.suspect:.1%}"
        table.add(_name(q.dataset), str(q.n), str(q.scored), *values, suspect)
    return table


def evaluation_table(found: Evaluation) -> Columns:
    """Accuracy on benchmarks: per task with its languages, and the paper's means."""
    table = Columns(["task", "accuracy", "± error"], "Accuracy in percent")
    for task, measure in found.tasks.items():
        table.add(visible(task), *_percent(measure))
        several = found.languages[task] if len(found.languages[task]) > 1 else {}
        for language, each in several.items():
            table.add(f"  {visible(language)}", *_percent(each))
    if found.averages:
        table.end_part()
    for key, mean in found.averages.items():
        table.add(PAPER_NAMES.get(key, visible(key)), *_percent(mean))
    return table


def plan_title(plan: Mapping[str, Any]) -> str:
    """What a run would do, in a line."""
    kind = "packed rows" if plan["packing"] else "rows"
    datasets, levels = plan["datasets"], plan["groups"]
    groups = "unknown groups" if datasets is None else f"{datasets * levels} groups ({datasets} datasets × {levels})"
    return (
        f"{plan['method']}: {_count(plan['steps'])} steps of {plan['batch']} {kind}, {groups}, "
        f"{_count(plan['updates'])} updates of {_count(plan['probes_per_update'])} probes"
    )


def plan_table(plan: Mapping[str, Any]) -> Columns:
    """The datasets of a run, with their share at the start, how often their rows are seen, and how long these are."""
    packed, tokens, longest = plan["packed_rows"], plan["tokens"], plan["max_length"]
    head = ["dataset", "train rows", *([] if packed is None else ["packed, about"]), "held out", "share at start"]
    head += ["steps per pass", "passes"]
    if tokens:
        head += ["tokens: median", "longest", *(["cut"] if longest else [])]
    table = Columns(head)
    for name, rows in plan["rows"].items():
        share, steps = plan["prior"][name], plan["steps_per_pass"].get(name)
        cells: list[str | Text] = [_count(rows), *([] if packed is None else [_count(packed[name])])]
        cells += [_count(plan["held_out"].get(name, 0)), "unknown" if share is None else f"{share:.1%}"]
        cells += ["unknown" if steps is None else _steps(steps), _passes(plan["epochs"][name])]
        if tokens:
            seen = tokens.get(name)
            cells += [str(seen.median), str(seen.longest)] if seen else ["–", "–"]
            cells += [(f"{seen.full:.1%}" if seen else "–")] if longest else []
        table.add(_name(name), *cells)
    return table


def plan_reading(plan: Mapping[str, Any]) -> str:
    """What the columns of the table mean, as far as their names don't say."""
    told = "share at start: part of the rows drawn; steps per pass: how many steps one pass over the dataset takes"
    cut = (
        f"; cut: rows of max_length {plan['max_length']} tokens or more"
        if plan["tokens"] and plan["max_length"]
        else ""
    )
    whole = f"; one pass over the whole mixture takes {_steps(plan['epoch'])} steps" if plan["epoch"] else ""
    return f"{told}{cut}{whole}."


def plan_costs(plan: Mapping[str, Any]) -> str:
    """The cost that is to be expected."""
    updates, scoring = _share(plan["update_share"]), _share(plan["scoring_share"])
    return f"compared with the operations of training: updates {updates}; scoring the rows once: {scoring}"


def plan_gaps(plan: Mapping[str, Any]) -> list[Note]:
    """What was not looked at."""
    found = []
    if plan["unread"]:
        names = ", ".join(plan["unread"])
        told = f"not read, since not on this machine: {names}; their rows are the most that max_rows allows"
        found.append(Note(told))
    if not plan["tokenized"]:
        told = "nothing was tokenised; rows that max_length leaves without a response are counted too"
        found.append(Note(told))
    return found


def _steps(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _share(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"at most {value:.1%}" if value else "none"


def _passes(value: float | None) -> Text | str:
    if value is None:
        return "unknown"
    return Text(f"{value:.2f}", style="bold red" if value > MANY_PASSES - 0.5 else "")


def _count(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _name(dataset: str) -> Text:
    # A Text, because square brackets in a plain string are markup.
    return Text(visible(dataset).replace("\n", "\\n"))


def _accuracy(metrics: Metrics, dataset: str) -> str:
    before, after = metrics.right_before.get(dataset), metrics.right.get(dataset)
    if before and after and before.n == after.n:
        return f"{before.right} → {after.right} of {after.n}"
    told = [f"{each.right} of {each.n}" if each else "–" for each in (before, after)]
    return " → ".join(told) if before or after else "–"


def _rows(score: Score | None) -> str:
    return f"{score.n:,}" if score else "–"


def _number(value: float | None, digits: int) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:,.{digits}f}" if value < 1e6 else f"{value:.2e}"


def _change(before: float | None, after: float | None) -> Text:
    if not before or after is None or not abs(after / before) < float("inf"):
        return Text("–")
    percent = 100 * (after / before - 1)
    return Text(f"{percent:+.1f}%", style="green" if percent < 0 else "red" if percent > 0 else "")


def _percent(measure: Measure) -> tuple[str, str]:
    return f"{100 * measure.accuracy:.2f}", "–" if math.isnan(measure.error) else f"{100 * measure.error:.2f}"
