"""From lines of results.jsonl to what the tables claim."""

import re

import pytest

from hbo.compare.comparison_page import page, significant
from hbo.compare.markdown import markdown
from hbo.compare.table import tabulate


def run(label, seed, nll, *, method=None, accuracy=None, relative=None):
    worst = max(nll, key=nll.get)
    return {
        "label": label, "method": method or label.split(",")[0], "seed": seed, "settings": {}, "nll": nll,
        "accuracy": accuracy, "macro_nll": sum(nll.values()) / len(nll), "relative_nll": relative or 0.5,
        "worst": worst, "worst_nll": nll[worst], "seconds": 10.0, "overhead": 0.01,
    }  # fmt: skip


RUNS = [
    run("hbo", 0, {"a": 1.0, "b": 3.0}, accuracy={"a": {"accuracy": 0.5, "n": 4}}),
    run("hbo", 1, {"a": 1.2, "b": 3.2}, accuracy={"a": {"accuracy": 0.7, "n": 4}}),
    run("uniform", 0, {"a": 1.4, "b": 2.0}, accuracy={"a": {"accuracy": 0.4, "n": 4}}),
    run("uniform", 1, {"a": 1.6, "b": 2.2}, accuracy={"a": {"accuracy": 0.4, "n": 4}}),
    run("mos+", 0, {"a": 1.4, "b": 4.0}, accuracy={"a": {"accuracy": 0.9, "n": 4}}),
    run("mos+", 1, {"a": 1.6, "b": 4.2}, accuracy={"a": {"accuracy": 0.9, "n": 4}}),
]


def entry(table, label, name):
    columns = [*table.losses, *table.averages, *table.costs, *table.benchmarks]
    return table.entries[label, next(column for column in columns if column.name == name)]


def test_best_and_second_best_of_a_column_with_ties():
    table = tabulate(RUNS)
    ranks = {label: entry(table, label, "a").rank for label in table.labels}
    assert ranks == {"hbo": 1, "uniform": 2, "mos+": 2}
    assert [entry(table, label, "accuracy").rank for label in table.labels] == [2, 0, 1]
    assert [entry(table, label, "seconds").rank for label in table.labels] == [0, 0, 0]


def test_wins_are_datasets_of_lowest_mean():
    assert tabulate(RUNS).wins == {"hbo": 1, "uniform": 1, "mos+": 0}


def test_means_and_errors_are_over_seeds():
    found = entry(tabulate(RUNS), "hbo", "macro NLL")
    assert (found.mean, found.error, found.seeds) == (pytest.approx(2.1), pytest.approx(0.1), 2)


def test_the_best_baseline_is_chosen_measure_by_measure_and_is_never_hbo():
    best = {contest.column.name: contest.best for contest in tabulate(RUNS).contests}
    assert best == {"macro NLL": "uniform", "relative NLL": "uniform", "worst NLL": "uniform", "accuracy": "mos+"}


def test_varied_hbo_is_no_baseline():
    varied = [run("hbo, balance.probes=8", s, {"a": 1.0}, method="hbo") for s in (0, 1)]
    assert tabulate(varied).contests == []
    assert tabulate([*varied, run("uniform", 0, {"a": 0.5})]).contests[0].best == "uniform"


def test_a_run_without_the_loss_of_a_dataset_has_no_averages_and_the_pages_say_so():
    diverged = run("hbo", 0, {"a": 1.0})  # b, the hard one, is not a number
    table = tabulate([diverged, *RUNS[1:]])
    for name, mean in (("macro NLL", 2.2), ("worst NLL", 3.2), ("relative NLL", 0.5), ("a", 1.1)):
        assert entry(table, "hbo", name).mean == pytest.approx(mean)
    assert [each.found.pairs for each in table.contests[0].differences if each.label == "hbo"] == [1]
    note = "Left out of the averages over datasets, as they lack the held-out loss of a dataset: hbo, seed 0 (b)."
    assert note in markdown(table) and note in page(table, "grid")
    assert "Left out" not in markdown(tabulate(RUNS)) + page(tabulate(RUNS), "grid")


def test_a_row_with_fewer_seeds_has_no_rank_and_is_no_baseline():
    lucky = run("proportional", 0, {"a": 0.9, "b": 1.0})  # its seed is an easy one: the others do better there
    table = tabulate([*RUNS, lucky])
    assert {label: entry(table, label, "b").rank for label in table.labels} == {
        "hbo": 2, "uniform": 1, "mos+": 0, "proportional": 0,
    }  # fmt: skip
    assert table.wins == {"hbo": 1, "uniform": 1, "mos+": 0, "proportional": 0}
    assert table.contests[0].best == "uniform"


def test_a_row_that_none_can_match_in_seeds_has_won_nothing():
    assert tabulate([*RUNS[:2], RUNS[2]]).wins == {"hbo": 0, "uniform": 0}


def test_all_averages_stand_together():
    head = next(line for line in markdown(tabulate(RUNS)).splitlines() if line.startswith("| method"))
    names = [cell.strip() for cell in head.strip("|").split("|")]
    assert names == [
        "method", "seeds", "a", "b", "macro NLL", "relative NLL", "worst NLL", "accuracy", "overhead", "seconds", "wins",
    ]  # fmt: skip


def test_the_markdown_marks_and_says_what_is_seen():
    text = markdown(tabulate(RUNS))
    assert "| **1.100 ± 0.100** |" in text
    assert "<u>1.500 ± 0.100</u>" in text
    assert (
        "- hbo: +0.3000 [+0.3000, +0.3000], p = 0.500, 2 seeds: higher in all 2 seeds, which are too few to tell"
        in text
    )


def test_one_seed_gives_no_interval_and_says_so():
    text = markdown(tabulate([each for each in RUNS if each["seed"] == 0]))
    assert text.startswith("One seed can't tell hbo from chance")
    assert "±" not in text.split("\n", 3)[3]
    assert "one seed: no interval" in text
    assert "nan" not in text + page(tabulate([each for each in RUNS if each["seed"] == 0]), "one")


@pytest.mark.parametrize("name", ["seconds", "overhead", "accuracy", "macro NLL", "accuracy of b", "μ_MT"])
def test_a_dataset_may_have_the_name_of_a_measure(name):
    scores = {"accuracy": {"b": {"accuracy": 0.5, "n": 4}}, "benchmarks": {"μ_MT": 0.25}}
    runs = [{**run(label, 0, {name: loss, "b": 3.0}), **scores} for label, loss in (("hbo", 1.25), ("uniform", 1.5))]
    text = markdown(tabulate(runs))
    head, _, row, *_ = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    shown = dict(reversed([(cell.strip(), value.strip()) for cell, value in zip(head, row, strict=True)]))
    assert shown[name] == "**1.250**"  # datasets come before measures
    html = page(tabulate(runs), "grid").split('id="losses"')[1].split("</section>")[0]
    assert f'title="{name}"' in html and "<strong>1.250</strong>" in html
    assert html.count('<th scope="col">') == 4 and "1.0%" in page(tabulate(runs), "grid").split('id="costs"')[1]


def test_without_any_answer_there_is_no_accuracy():
    table = tabulate([run("hbo", 0, {"a": 1.0}), run("uniform", 0, {"a": 2.0})])
    assert "accuracy" not in {column.name for column in table.averages}
    assert table.accuracies == []


def test_a_grid_half_done_is_a_table_too():
    found = page(tabulate(RUNS[:3]), "half")
    assert found.count("<tr>") >= 3
    assert "No run is finished" in page(None, "none")
    assert "No run is finished" in markdown(None)


def test_the_page_loads_nothing_and_trusts_no_name():
    nasty = '<img src=x onerror="alert(1)">|'
    text = page(tabulate([run(f"hbo, model={nasty}", 0, {nasty: 1.0}), run("uniform", 0, {nasty: 2.0})]), nasty)
    assert "<img" not in text
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", text)
    assert "default-src 'none'" in text
    plain = markdown(tabulate([run("hbo", 0, {"a|b": 1.0}), run("uniform", 0, {"a|b": 2.0})]))
    assert "a\\|b" in plain


def test_without_hbo_the_page_calls_the_baseline_that_the_best_baseline():
    text = page(tabulate([run("gain", 0, {"a": 1.0}), run("uniform", 0, {"a": 2.0})]), "grid")
    assert "to uniform, the best baseline" in text and "without HBO" not in text


def test_benchmarks_have_a_table_and_their_means_a_contest():
    scores = {"hbo": (0.5, 0.6), "uniform": (0.7, 0.6), "mos+": (0.1, 0.2)}
    runs = [{**each, "benchmarks": {"μ_MT": scores[each["label"]][each["seed"]], "benchmark a": 0.25}} for each in RUNS]
    table = tabulate(runs)
    assert [column.name for column in table.benchmarks] == ["μ_MT", "benchmark a"]
    assert [entry(table, label, "μ_MT").rank for label in table.labels] == [2, 1, 0]
    assert entry(table, "hbo", "a").mean == pytest.approx(1.1)  # the dataset of the same name keeps its NLL
    contests = {contest.column.name: contest.best for contest in table.contests}
    assert contests["μ_MT"] == "uniform" and "benchmark a" not in contests
    assert "**65.00% ± 5.00**" in markdown(table) and "Accuracy on benchmarks" in page(table, "grid")


def test_without_benchmarks_there_is_no_such_table():
    table = tabulate(RUNS)
    assert table.benchmarks == []
    assert "benchmarks" not in markdown(table) + page(table, "grid")


def test_the_page_begins_with_the_verdict_and_ends_with_costs_and_reports():
    runs = [{**each, "folder": f"runs/{each['label']}-seed{each['seed']}"} for each in RUNS]
    text = page(tabulate(RUNS), "grid", runs)
    places = [text.index(part) for part in ("Did balancing help?", 'id="methods"', 'id="differences"', 'id="costs"')]
    assert places == sorted(places)
    assert 'href="runs/mos%2B-seed1/report.html"' in text
    assert "10.0 s" in text.split('id="costs"')[1] and "seconds" not in text.split('id="costs"')[0]
    assert "accuracy ↑" in text and "mean loss (macro NLL) ↓" in text


def test_a_sure_difference_that_matters_to_nobody_is_called_too_small():
    near = [run("hbo", seed, {"a": 2.0}) for seed in range(6)] + [
        run("uniform", seed, {"a": 2.001}) for seed in range(6)
    ]
    assert "lower; too small to matter" in page(tabulate(near), "grid")
    far = [run("hbo", seed, {"a": 1.0}) for seed in range(6)] + [run("uniform", seed, {"a": 2.0}) for seed in range(6)]
    text = page(tabulate(far), "grid")
    assert "; too small to matter" not in text
    assert 'aria-label="better">▼</span> −1.00' in text


def test_figures_have_the_digits_that_their_errors_leave_them():
    assert [cell.split(" ")[0] for cell in significant([(6.92431, 0.0312), (6.9, 0.001)])] == ["6.924", "6.900"]
    assert significant([(1234.4, 120.0)])[0].startswith("1,234 ")
    assert significant([(0.5, float("nan"))]) == ["0.500"]
    assert significant([(50.0, 1.5)], "%")[0].startswith("50.0% ")


def test_what_the_seeds_do_not_show_has_no_arrow():
    same = [
        run(method, seed, {"a": 2.0 + 0.1 * ((seed + (method == "hbo")) % 2)})
        for method in ("hbo", "uniform")
        for seed in range(6)
    ]
    text = page(tabulate(same), "grid").split('id="differences"')[1]
    assert "no difference seen" in text and "▲" not in text and "▼" not in text
