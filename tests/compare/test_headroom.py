"""What a search for the best static mixture says, from made-up runs."""

import pytest

from hbo.compare.comparison_page import page
from hbo.compare.headroom import WON, Headroom, judgement, seed_noise
from hbo.compare.markdown import markdown
from hbo.compare.optimum import Estimate
from hbo.compare.search import BEST, Found, SearchRun, Share
from hbo.compare.table import tabulate

SHARES = {"a": 0.7, "b": 0.3}


def search_run(mixture, seed, loss, shares=SHARES):
    return SearchRun(mixture=mixture, seed=seed, shares=shares, nll=dict.fromkeys(shares, loss))


def found(gain, low, high, error=0.01, names=("a", "b")):
    shares = dict(zip(names, (0.7, 0.3), strict=True))
    runs = [search_run("uniform", 1000 + i, 2.0 + 0.01 * i, shares) for i in range(3)]
    return Found(
        mixtures=5, seeds=(1000,),
        datasets={name: Share(share=share, low=0.1, high=0.9, error=0.01) for name, share in shares.items()},
        gain=Estimate(gain, low, high), spread=Estimate(0.2, 0.1, 0.3),
        error=error, deviation=0.05, runs=(*runs, search_run("mixture 1", 1000, 1.9, shares)),
    )  # fmt: skip


def row(label, seed, loss, method=None):
    return {
        "label": label, "method": method or label, "seed": seed, "settings": {}, "nll": {"a": loss, "b": loss},
        "accuracy": None, "macro_nll": loss, "relative_nll": 0.5, "worst": "a", "worst_nll": loss, "seconds": 1.0,
        "overhead": 0.0,
    }  # fmt: skip


def rows(best, uniform, **others):
    given = {BEST: (best, "static mixture"), "uniform": (uniform, None)}
    given |= {label: (losses, None) for label, losses in others.items()}
    return [row(label, s, loss, how) for label, (losses, how) in given.items() for s, loss in enumerate(losses)]


def told(gain, comparison=()):
    return " ".join(Headroom(gain.runs, 4, gain).sentences(comparison))


def test_less_than_a_seeds_noise_is_said_plainly():
    said = told(found(0.004, 0.001, 0.006))
    assert "predicted gain, in nats of mean loss, is 0.0040 [0.0010, 0.0060] over uniform" in said
    assert "differ by 0.0100 (standard deviation of 3 runs)" in said
    assert "no balancer can help on this mixture with this budget." in said and "beyond" not in said
    unsure = told(found(0.004, -0.01, 0.02))
    assert "isn't known yet. More mixtures or seeds would tell." in unsure and "no balancer" not in unsure


@pytest.mark.parametrize(
    ("gain", "says"),
    [((0.03, 0.02, 0.04), "there is something to win"), ((0.03, 0.001, 0.06), "there may be something to win"),
     ((-0.001, -0.01, 0.009), "no balancer can help")],
)  # fmt: skip
def test_what_follows_depends_on_the_whole_interval(gain, says):
    assert says in judgement(Estimate(*gain), 0.01)


def test_fresh_seeds_are_told_and_six_of_them_judge():
    few = told(found(0.03, 0.02, 0.04), rows([1.98, 1.99], [2.0, 2.01]))
    assert "On 2 fresh seeds it was 0.0200 lower than that of uniform" in few and "differ by" in few
    assert "(standard deviation of 5 runs)" in few and "something to win" in few
    six = told(found(0.03, 0.02, 0.04), rows([2.0] * 6, [2.001] * 6))
    assert "The measured gain is less than the noise of a seed: no balancer can help" in six
    assert "On 1 fresh seed it was 0.1000 higher" in told(found(0.03, 0.02, 0.04), rows([2.1], [2.0]))


def test_a_fresh_run_that_lacks_a_dataset_is_no_measured_gain():
    runs = rows([1.98, 1.99], [2.0, 2.01])
    runs[0] |= {"nll": {"a": 0.1}, "macro_nll": 0.1}
    assert "On 1 fresh seed it was 0.0200 lower" in told(found(0.03, 0.02, 0.04), runs)


def test_without_two_runs_of_uniform_nothing_is_said_of_the_noise():
    gain = found(0.03, 0.02, 0.04)
    said = " ".join(Headroom(gain.runs[2:], 4, gain).sentences([]))
    assert "isn't known" in said and "give more --seeds" in said and "nan" not in said and "to win" not in said


def test_a_surface_that_predicts_nothing_is_not_to_be_trusted():
    assert "little more than a guess" in told(found(0.03, 0.02, 0.04, error=0.06))
    assert "guess" not in told(found(0.03, 0.02, 0.04))


def test_while_the_search_goes_on_the_pages_say_how_far_it_is():
    part = Headroom([search_run("uniform", 1000, 2.0)], 4).part([])
    assert "1 of 4 runs are finished" in markdown(None, part) and "1 of 4 runs are finished" in page(
        None, "x", (), part
    )


def test_the_best_mixture_is_a_row_and_never_the_baseline():
    table = tabulate(rows([1.0, 1.0], [2.0, 2.0], hbo=[1.5, 1.4]))
    assert [contest.best for contest in table.contests] == ["uniform"] * 3 + [BEST]
    last = {each.label: each.found.mean for each in table.contests[-1].differences}
    assert last == {"uniform": pytest.approx(1.0), "hbo": pytest.approx(0.45)}
    assert f"paired over seeds against {BEST}" in markdown(table)


def test_pages_ask_about_balancing_only_where_something_was_balanced():
    part = Headroom(found(0.03, 0.02, 0.04).runs, 4, found(0.03, 0.02, 0.04)).part([])
    alone, with_hbo = tabulate(rows([1.0], [2.0])), tabulate(rows([1.0], [2.0], hbo=[1.5]))
    assert "name hbo in --methods" not in markdown(alone, part) + page(alone, "x", (), part)
    assert WON in markdown(alone, part) and WON in page(alone, "x", (), part)
    assert "Did balancing help?" in page(with_hbo, "x", (), part) and "One seed can't tell" in markdown(with_hbo, part)
    assert "| mixture 1 | 1000 | 70.0% | 30.0% | 1.9000 |" in markdown(alone, part)
    assert f'<bdi class="name" title="{BEST}">' in page(alone, "x", (), part)


def test_no_name_is_trusted():
    nasty = '<img src=x onerror="alert(1)">|'
    bad = found(0.03, 0.02, 0.04, names=(nasty, "b"))
    part = Headroom(bad.runs, 4, bad).part([])
    assert "<img" not in page(None, "x", (), part) and '"alert(1)">|' not in markdown(None, part).replace("\\|", "")


def test_noise_is_that_of_runs_that_differ_in_their_seed():
    assert seed_noise([1.0, 3.0, 5.0]).deviation == pytest.approx(2.0)
