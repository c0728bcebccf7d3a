"""Which runs a search has, what is refused, and that what was found stays."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from hbo.cli import app
from hbo.compare.grid import cells
from hbo.compare.headroom import WON
from hbo.compare.search import (
    BEST,
    FOUND_FILE,
    already_found,
    finished_runs,
    judged_cells,
    planned,
    references,
    settled,
)
from hbo.compare.surface import bent
from hbo.errors import ConfigError, DataError


@pytest.fixture
def config(tmp_path):
    def make(mixture=None, **datasets):
        entries = {"a": {"path": "a.jsonl"}, "b": {"path": "b.jsonl"}, "c": {"path": "c.jsonl"}} | datasets
        data = {"model": "nothing", "seed": 5, "mixture": {"datasets": entries, **(mixture or {})}}
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({**data, "train": {"max_steps": 4}}))
        return file

    return make


def search(file, mixtures=7, repeats=1, fresh=(0, 1)):
    return planned(file, mixtures, repeats, fresh, file.parent / "grid")


def finish(cells, law):
    """Leaves the results that each of these runs would have by a law of its shares."""
    for cell in cells:
        entries = cell.config.mixture.datasets
        weight = {
            name: entry.weight or {"uniform": 1}.get(cell.method, size)
            for (name, entry), size in zip(entries.items(), (60, 30, 30), strict=True)
        }
        shares = {name: each / sum(weight.values()) for name, each in weight.items()}
        scores = {
            name: {"nll": law(name, share, cell.seed), "perplexity": 1.0, "n": 5} for name, share in shares.items()
        }
        cell.folder.mkdir(parents=True, exist_ok=True)
        sizes = {"a": [30, 30], "b": [15, 15], "c": [5, 5]}  # c's are packed: three examples to a row
        (cell.folder / "metrics.json").write_text(json.dumps({"eval": scores, "sizes": sizes}))
        line = {"step": 0, "start": 0, "global": shares, "local": {name: [0.5, 0.5] for name in shares}}
        line["drawn"] = {name: [0, 0] for name in shares}
        (cell.folder / "balance.jsonl").write_text(json.dumps(line) + "\n")


def lose(cells, name):
    """Takes the held-out loss of a dataset out of these runs' results."""
    for cell in cells:
        file = cell.folder / "metrics.json"
        held = json.loads(file.read_text())
        del held["eval"][name]
        file.write_text(json.dumps(held))


def law(name, share, seed):
    return float(2 + {"a": 0.02, "b": 0.1, "c": 0.05}[name] * bent(share, 0.0) + 0.001 * (seed % 3))


def test_uniform_and_proportional_are_among_the_mixtures_and_uniform_is_repeated(config):
    found = search(config())
    assert [(cell.label, cell.seed) for cell in found.cells] == [
        ("uniform", 1000), ("uniform", 1001), ("uniform", 1002), ("proportional", 1000),
        *((f"mixture {n}", 1000) for n in range(1, 6)),
    ]  # fmt: skip
    assert {cell.config.mixture.split_seed for cell in found.cells} == {5}
    assert all(cell.config.balance.is_static for cell in found.cells)
    for cell in found.cells[4:]:
        weights = {name: entry.weight for name, entry in cell.config.mixture.datasets.items()}
        assert weights == found.shares[cell.label] and sum(weights.values()) == pytest.approx(1)
    assert len({cell.folder for cell in found.cells}) == len(found.cells)


def test_more_seeds_are_given_to_every_mixture(config):
    found = search(config(), repeats=4)
    assert [cell.seed for cell in found.cells if cell.label == "uniform"] == [1000, 1001, 1002, 1003]
    assert [cell.seed for cell in found.cells if cell.label == "mixture 1"] == [1000, 1001, 1002, 1003]


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({}, {"mixtures": 4}, "--mixtures 4: too few for 3 datasets; give 5"),
        ({}, {"repeats": 0}, "--mixture-seeds 0: give 1 or more"),
        ({}, {"fresh": (0, 1001)}, r"--seeds 1001: is a seed of the search \(1000 to 1002\)"),
        ({"c": {"path": "c.jsonl", "weight": 2}}, {}, "'c' has a weight"),
        ({"c": {"path": "c.jsonl", "group_by": "kind"}}, {}, "'c' is split by group_by"),
        ({"mixture": {"eval_fraction": 0}}, {}, "nothing is held out"),
        ({"mixture": {"datasets": {"a": "a.jsonl"}}}, {}, "CONFIG has 1 datasets; a search takes 2"),
    ],
)
def test_a_search_that_cannot_be_is_one_sentence(config, given, options, message):
    with pytest.raises(ConfigError, match=message) as error:
        search(config(**given), **options)
    assert "\n" not in str(error.value)


def test_what_is_compared_beside_the_search():
    assert references("hbo", [], 12) == ["uniform", "proportional"]
    assert references(None, [], 12) == ["uniform"]
    assert references("hbo", ["balance.probes=4,8"], 12) == ["uniform", "proportional"]
    with pytest.raises(ConfigError, match="--vary train.learning_rate: each value may have a different best mixture"):
        references("hbo", ["train.learning_rate=1,2"], 12)
    with pytest.raises(ConfigError, match="--methods: name what to compare"):
        references(None, [], None)


def test_the_best_mixture_of_a_known_law_is_found_and_never_found_anew(config):
    file = config()
    plan, output = search(file, mixtures=12), file.parent / "grid"
    assert already_found(plan, output) is None and finished_runs(plan) == []
    finish(plan.cells, law)
    found = settled(plan, output)
    # The sum of w log(1/r) is least at shares that stand as the w.
    assert found.weights == pytest.approx({"a": 0.12, "b": 0.59, "c": 0.29}, abs=0.03)
    assert found.gain.value > 0 and found.error < 0.2 * found.deviation
    assert [run.shares for run in found.runs if run.mixture == "proportional"] == [{"a": 0.5, "b": 0.25, "c": 0.25}]
    finish(plan.cells, lambda name, share, seed: 3.0 + share)
    assert settled(plan, output) == found == already_found(search(file, mixtures=12), output)
    for other in (search(file, mixtures=9), search(file, mixtures=12, repeats=2)):
        with pytest.raises(ConfigError, match="was found from 12 mixtures of a, b, c on 1 seeds.*another --output"):
            already_found(other, output)


def test_the_command_tells_what_the_search_came_to_and_goes_on_with_it(config, tmp_path):
    file, output = config(), tmp_path / "grid"
    plan = search(file)
    words = ["compare", str(file), "--mixtures", "7", "--output", str(output)]
    listed = CliRunner().invoke(app, [*words, "--dry-run"])
    assert listed.exit_code == 0 and "mixture 5, seed 1000: 4 steps, to run" in listed.stdout
    assert f"{BEST}, seed 0: 4 steps, to run" in listed.stdout and "11 runs: 0 finished, 11 to run" in listed.stdout
    assert "mixture 1: a " in listed.stdout and not output.exists()
    finish(plan.cells, law)
    best = settled(plan, output)
    text = (output / FOUND_FILE).read_text()
    finish(judged_cells(cells(file, ["uniform"], [0], [], output), file, ["uniform"], best.weights, output), law)
    (output / FOUND_FILE).unlink()
    for _ in range(2):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert "Seeds of uniform differ by" in done.stdout and "there is something to win" in done.stdout
        assert (output / FOUND_FILE).read_text() == text
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    assert [(line["label"], line["method"]) for line in lines] == [("uniform", "uniform"), (BEST, "static mixture")]
    assert WON in (output / "comparison.html").read_text() and WON in (output / "comparison.md").read_text()
    refused = CliRunner().invoke(app, [*words[:3], "8", *words[4:]])
    assert "was found from 7 mixtures" in str(refused.exception)


def test_a_mixture_that_lacks_a_loss_is_left_out_and_said(config, tmp_path):
    file, output = config(), tmp_path / "grid"
    plan = search(file)
    finish(plan.cells, law)
    lose([cell for cell in plan.cells if (cell.label, cell.seed) in (("mixture 2", 1000), ("uniform", 1002))], "b")
    assert len(finished_runs(plan)) == len(plan.cells) - 2
    found = settled(plan, output)
    assert found.left_out == ("mixture 2",) and {run.mixture for run in found.runs}.isdisjoint(found.left_out)
    assert [run.seed for run in found.runs if run.mixture == "uniform"] == [1000, 1001]
    assert sum(found.weights.values()) == pytest.approx(1)
    (output / FOUND_FILE).unlink()
    finish(judged_cells(cells(file, ["uniform"], [0], [], output), file, ["uniform"], found.weights, output), law)
    done = CliRunner().invoke(app, ["compare", str(file), "--mixtures", "7", "--output", str(output)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "a surface through 6 static mixtures" in said
    assert "Left out, as runs of theirs lack the held-out loss of a dataset: mixture 2." in said


def test_a_mixture_is_left_out_with_all_its_seeds(config):
    file = config()
    plan = search(file, repeats=2)
    finish(plan.cells, law)
    lose([cell for cell in plan.cells if (cell.label, cell.seed) == ("mixture 1", 1001)], "a")
    assert settled(plan, file.parent / "grid").left_out == ("mixture 1",)


def test_a_search_goes_on_past_a_lost_loss_and_is_refused_at_its_end_if_too_few_are_left(config, tmp_path):
    file, output = config(), tmp_path / "grid"
    plan = search(file, mixtures=5)
    finish(plan.cells, law)
    lose(plan.cells[-1:], "c")
    done = CliRunner().invoke(app, ["compare", str(file), "--mixtures", "5", "--output", str(output)])
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith("--mixtures 5: only 4 of the mixtures have held-out losses of all 3 datasets")
    told = (output / "comparison.md").read_text()
    assert "7 of 7 runs are finished; 1 of them can't be judged" in told
    assert not (output / FOUND_FILE).exists()


def test_a_dataset_without_held_out_rows_is_one_refusal(config, tmp_path):
    plan = search(config())
    finish(plan.cells, law)
    lose(plan.cells, "b")
    with pytest.raises(DataError, match="no run has a held-out loss of dataset 'b'.*two rows or more") as error:
        settled(plan, tmp_path / "grid")
    assert "\n" not in str(error.value)


def test_the_comparison_has_the_references_it_lacks_and_the_best_mixture_seed_by_seed(config):
    file = config()
    output, best = file.parent / "grid", {"a": 0.1, "b": 0.6, "c": 0.3}
    grid = cells(file, ["hbo", "uniform"], [0, 1], [], output)
    found = judged_cells(grid, file, ["uniform", "proportional"], best, output)
    labels = ["hbo", "uniform", "proportional", BEST]
    assert [(cell.label, cell.seed) for cell in found] == [(label, seed) for seed in (0, 1) for label in labels]
    weights = {name: entry.weight for name, entry in found[3].config.mixture.datasets.items()}
    assert (
        weights == best
        and found[3].config.balance.is_static
        and found[3].folder.name == "best-static-mixture-found-seed0"
    )
