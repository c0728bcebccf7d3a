"""The judge of recipes/known/ says right of a made-up run that is right, and wrong of one that is wrong in one way."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from example_runs import ledger_line, write_json, write_lines

from hbo.config.file import load

ROOT = Path(__file__).parents[1]
ROWS = 640  # of a run


@pytest.fixture
def judge(monkeypatch, tmp_path, capsys):
    """`judge(mixture, …)` → what benchmarks/known.py says of each method, on the finished runs below `tmp_path`."""
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    known = importlib.import_module("known")

    def run(mixture, *words):
        code = known.main(["--judge-only", "--mixtures", mixture, "--output", str(tmp_path), *map(str, words)])
        said = capsys.readouterr()
        if code:
            return said.err
        assert (tmp_path / "known.md").read_text() in said.out
        table = said.out.partition("\n### ")[0].strip().splitlines()[2:]
        return {line.split("`")[1]: line.split(" | ")[1] for line in table}

    return run


def write(folder, end, nll, *, drawn=None, size=300, last=0.25, last_drawn=None):
    """A finished run whose last update left the shares `end`, and `last` to the last group of each dataset."""
    folder.mkdir(parents=True)
    names, shares = list(end), np.array([(drawn or end)[name] for name in end])

    def groups(share):
        return np.array([[(1 - share) / 3] * 3 + [share]] * len(names))

    rows_KL = np.rint(ROWS * shares[:, None] * groups(last if last_drawn is None else last_drawn)).astype(int)
    even = np.full(len(names), 1 / len(names))
    write_lines(
        folder,
        [
            ledger_line(names, 0, 0, even, groups(0.25), np.zeros((len(names), 4), dtype=int)),
            ledger_line(names, 80, ROWS + 8, np.array(list(end.values())), groups(last), rows_KL),
        ],
    )
    sizes = {name: [(40 if name in ("few", "target") else size) // 4] * 4 for name in names}
    scores = {name: {"nll": value, "perplexity": 9.0, "n": 9} for name, value in nll.items()}
    by_name = dict(zip(names, rows_KL.tolist(), strict=True))
    write_json(folder / "metrics.json", {"method": "x", "seed": 0, "eval": scores, "sizes": sizes, "drawn": by_name})


def even(mixture):
    names = list(load(ROOT / "recipes" / "known" / f"{mixture}.yaml").mixture.datasets)
    return dict.fromkeys(names, 1 / len(names)), dict.fromkeys(names, 3.0)


# Mixture → a run that keeps all rules, in what it differs from one at even shares and losses of 3 nats.
RIGHT = {
    "useless": {"end": {"general": 0.4, "math": 0.4, "shuffled": 0.2}},
    "mastered": {"end": {"general": 0.45, "math": 0.45, "mastered": 0.1}, "nll": {"mastered": 0.01}},
    "few": {"end": {"general": 0.4, "math": 0.4, "few": 0.2}},
    "twins": {"end": {"general": 0.5, "math": 0.25, "math-again": 0.25}},
    "helper": {"end": {"general": 0.4, "target": 0.2, "helper": 0.4}},
    "wrong": {"last": 0.1},
    "length": {},
}
# Mixture, what else is changed of the right run, and the rules that it then breaks.
WRONG = [
    ("useless", {"end": {"general": 0.36, "math": 0.36, "shuffled": 0.28}}, "1"),
    ("useless", {"drawn": {"general": 0.3, "math": 0.3, "shuffled": 0.4}}, "2"),
    ("useless", {"nll": {"general": 3.05, "math": 3.04}}, "3"),
    ("useless", {"nll": {"general": 3.05, "math": 3.02, "shuffled": 9.0}}, ""),  # in the mean 0.035: chance
    ("mastered", {"end": {"general": 0.4, "math": 0.4, "mastered": 0.2}}, "1"),
    ("mastered", {"drawn": {"general": 0.35, "math": 0.35, "mastered": 0.3}}, "2"),
    ("mastered", {"nll": {"mastered": 0.2}}, "3"),
    ("mastered", {"nll": {"mastered": 0.01, "general": 3.1, "math": 3.0}}, "4"),
    ("few", {"drawn": {"general": 0.35, "math": 0.35, "few": 0.3}}, "1"),
    (
        "few",
        {"end": {"general": 0.3, "math": 0.3, "few": 0.4}, "drawn": {"general": 0.4, "math": 0.4, "few": 0.2}},
        "2",
    ),
    ("few", {"nll": {"few": 2.95}}, "3"),  # below uniform's, but above proportional's 2.8
    ("few", {"nll": {"math": 3.2}}, "4"),
    ("twins", {"end": {"general": 0.5, "math": 0.35, "math-again": 0.15}}, "1"),
    ("twins", {"end": {"general": 0.34, "math": 0.33, "math-again": 0.33}}, "2"),
    ("twins", {"nll": {"general": 3.1, "math": 9.0}}, "3"),
    ("helper", {"end": {"general": 0.6, "target": 0.1, "helper": 0.3}}, "1"),
    ("helper", {"end": {"general": 0.2, "target": 0.4, "helper": 0.4}}, "2"),
    ("helper", {"nll": {"target": 3.1}}, "3"),
    ("helper", {"nll": {"general": 3.2}}, "4"),
    ("wrong", {"last": 0.24, "last_drawn": 0.1}, "1"),
    ("wrong", {"last_drawn": 0.25}, "2"),
    ("wrong", {"nll": {"wrong-general": 3.1}}, "3"),
    ("length", {"end": {"short": 0.7, "long": 0.3}}, "1"),
    ("length", {"end": {"short": 0.3, "long": 0.7}}, "1"),
    ("length", {"end": {"short": 0.3, "long": 0.7}, "nll": {"short": 2.9, "long": 2.9}}, ""),  # it had a reason
    ("length", {"nll": {"short": 3.1, "long": 2.5}}, "2"),
]


def write_grid(tmp_path, mixture, changes, method="hbo", seed=0):
    """The runs of one seed: static ones, and one of `method`."""
    shares, losses = even(mixture)
    write(tmp_path / mixture / "runs" / f"uniform-seed{seed}", shares, losses)
    if mixture == "few":
        static = {"general": 0.45, "math": 0.45, "few": 0.1}
        write(tmp_path / mixture / "runs" / f"proportional-seed{seed}", static, {**losses, "few": 2.8})
        losses = {**losses, "few": 2.8}
    if mixture == "twins":
        once, equal = even("once")
        for name in (method, "uniform"):
            write(tmp_path / "once" / "runs" / f"{name}-seed{seed}", once, equal)
    asked = {**RIGHT[mixture], **changes}
    nll = {**losses, **RIGHT[mixture].get("nll", {}), **changes.get("nll", {})}
    settings = {"end": shares, **asked, "nll": nll}
    write(tmp_path / mixture / "runs" / f"{method}-seed{seed}", **settings)


@pytest.mark.parametrize("mixture", RIGHT)
def test_a_run_that_does_what_is_known_is_right(judge, tmp_path, mixture):
    write_grid(tmp_path, mixture, {})
    assert judge(mixture, "--methods", "hbo")["hbo"] == "right"


@pytest.mark.parametrize(("mixture", "changes", "broken"), WRONG)
def test_a_run_that_breaks_one_rule_is_wrong_by_that_rule(judge, tmp_path, mixture, changes, broken):
    write_grid(tmp_path, mixture, changes)
    assert judge(mixture, "--methods", "hbo")["hbo"] == (f"wrong ({broken})" if broken else "right")


def test_every_rule_has_a_run_that_breaks_it(judge):
    rules = importlib.import_module("support.known_rules").KNOWN
    broken = {(mixture, int(number)) for mixture, _, number in WRONG if number}
    assert broken == {(name, i) for name, known in rules.items() for i in range(1, len(known.rules) + 1)}


def test_no_rule_calls_uniform_sampling_worse_than_itself(judge, tmp_path):
    rules = importlib.import_module("support.known_rules").KNOWN
    for mixture, known in rules.items():
        write_grid(tmp_path, mixture, {})
        found = judge(mixture, "--methods", "hbo,uniform")["uniform"]
        numbers = {int(word) for word in found.removeprefix("wrong").strip(" ()").split(", ") if word.isdigit()}
        of_losses = {known.rules[number - 1].says for number in numbers if known.rules[number - 1].by_chance}
        # The few rows are compared with proportional sampling too.
        assert len(of_losses) == (mixture == "few")


def test_more_seeds_leave_less_to_chance(judge, tmp_path):
    for seed in range(4):
        write_grid(tmp_path, "useless", {"nll": {"general": 3.03, "math": 3.03}}, seed=seed)
    assert judge("useless", "--methods", "hbo", "--seeds", "0")["hbo"] == "right"
    assert judge("useless", "--methods", "hbo", "--seeds", "0,1,2,3")["hbo"] == "wrong (3)"


def test_a_method_is_judged_on_the_seeds_that_its_references_have_too(judge, tmp_path):
    write_grid(tmp_path, "useless", {})
    shares, losses = even("useless")
    write(tmp_path / "useless" / "runs" / "mos-seed1", shares, losses)
    assert judge("useless", "--methods", "hbo,mos", "--seeds", "0,1").keys() == {"uniform", "hbo"}


def test_varied_settings_are_judged_beside_plain_references(judge, tmp_path):
    write_grid(tmp_path, "useless", {})
    runs = tmp_path / "useless" / "runs"
    (runs / "hbo-seed0").rename(runs / "hbo-balance.global_reward=loss_ratio-seed0")
    found = judge("useless", "--methods", "hbo", "--vary", "balance.global_reward=loss_ratio,loss")
    assert found == {"uniform": "wrong (1, 2)", "hbo, balance.global_reward=loss_ratio": "right"}


def test_a_page_has_its_figures_replaced_and_its_words_kept(judge, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter\n")
    write_grid(tmp_path, "useless", {})
    judge("useless", "--methods", "hbo", "--page", page)
    text = page.read_text()
    assert text.startswith("before\n<!-- figures -->\n\n| method |")
    assert text.endswith("<!-- end of figures -->\nafter\n")
    assert "old" not in text
    assert "| `hbo` | 1 | 0.40 (0.40) | 0.40 (0.40) | 0.20 (0.20) | 3.000 | 3.000 | 3.000 | right |" in text


def test_what_cannot_be_run_is_one_sentence(judge):
    assert judge("useless", "--methods", "hbbo").startswith("error: ")
    with pytest.raises(SystemExit):
        judge("useles", "--methods", "hbo")


def test_the_page_in_the_docs_states_the_rules_as_they_are(judge):
    rules = importlib.import_module("support.known_rules").KNOWN
    text = (ROOT / "docs" / "known.md").read_text(encoding="utf-8")
    for known in rules.values():
        assert known.about in text
        assert all(rule.says in text for rule in known.rules)
