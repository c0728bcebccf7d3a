"""The sentence that a comparison comes to."""

import pytest

from hbo.compare.table import tabulate
from hbo.compare.verdict import verdict


def lines(**losses):
    """A line of results.jsonl for each method and seed: `lines(hbo=[1.0], uniform=[2.0])`."""
    return [
        {
            "label": method, "method": method.split(",")[0], "seed": seed, "nll": {"a": loss}, "accuracy": None,
            "macro_nll": loss, "relative_nll": loss, "worst_nll": loss, "overhead": 0.1, "seconds": 3.0,
        }
        for method, values in losses.items()
        for seed, loss in enumerate(values)
    ]  # fmt: skip


def of(**losses):
    return verdict(tabulate(lines(**losses)))


SIX = [2.0, 2.1, 2.2, 2.3, 2.4, 2.5]


@pytest.mark.parametrize(
    ("factor", "opening"),
    [(0.9, "Balancing helped: the mean held-out loss of hbo is 10.0% lower than that of uniform"),
     (1.1, "Balancing did harm: the mean held-out loss of hbo is 10.0% higher than that of uniform"),
     (0.998, "A small gain: the mean held-out loss of hbo is 0.2% lower than that of uniform, the best other method, which is too small")],
)  # fmt: skip
def test_six_seeds_that_agree_are_enough(factor, opening):
    assert of(hbo=[factor * loss for loss in SIX], uniform=SIX).startswith(opening)


def test_three_seeds_that_agree_are_too_few():
    told = of(hbo=[1.0, 1.1, 1.2], uniform=[2.0, 2.1, 2.2])
    assert told.startswith("hbo may be better, but 3 seeds are too few to tell")
    assert told.endswith("Run 6 seeds or more.")


def test_one_seed_is_chance_and_nothing_is_no_verdict():
    assert of(hbo=[1.0], uniform=[2.0]).startswith(
        "One seed can't tell hbo from chance: the mean held-out loss of hbo is 50.0%"
    )
    assert of(hbo=[1.0]) == "There is nothing to judge yet: name a baseline such as proportional in --methods too."
    assert of(uniform=[1.0], proportional=[2.0]) == "There is nothing to judge yet: name hbo in --methods too."


def test_rows_that_ran_but_were_not_measured_are_not_asked_for_again():
    def without_loss(**losses):
        none = {"nll": {}, "macro_nll": None, "relative_nll": None, "worst_nll": None}
        return [{**line, **none} for line in lines(**losses)]

    nothing = verdict(tabulate(without_loss(hbo=[1.0], uniform=[1.0])))
    assert "no run has a held-out loss; hold rows out (mixture.eval_fraction)" in nothing
    hbo = verdict(tabulate([*without_loss(hbo=[1.0]), *lines(uniform=[1.0])]))
    assert "no run of hbo has a held-out loss of every dataset" in hbo
    baselines = verdict(tabulate([*lines(hbo=[1.0]), *without_loss(uniform=[1.0], proportional=[1.0])]))
    assert "no run of uniform, proportional has a held-out loss of every dataset" in baselines
    assert "--methods" not in nothing + hbo + baselines


def test_without_hbo_the_best_method_that_follows_rewards_is_judged():
    told = of(gain=[0.9 * loss for loss in SIX], slope=SIX, uniform=SIX, placebo=[1.1 * loss for loss in SIX])
    assert told.startswith("Balancing helped: the mean held-out loss of gain is 10.0% lower than that of uniform")
    assert (
        of(gain=SIX, slope=SIX)
        == "There is nothing to judge yet: name a baseline such as proportional in --methods too."
    )
    assert "name hbo" in of(annealed=SIX, uniform=SIX)


def test_beside_hbo_every_other_method_is_a_baseline():
    assert "higher than that of gain, the best other method" in of(hbo=[2.0], gain=[1.0], uniform=[3.0])


def test_seeds_that_disagree_are_within_chance():
    told = of(hbo=[1.0, 2.2, 1.9], uniform=[1.1, 2.0, 2.0], proportional=[3.0, 3.0, 3.0])
    assert told.startswith("No difference was seen between hbo and uniform (3 seeds") and "within chance" in told


def test_rows_with_the_most_seeds_are_judged_however_low_one_seed_of_another_is():
    told = of(hbo=[0.9 * loss for loss in SIX], uniform=SIX, proportional=[1.0])
    assert told.startswith("Balancing helped: the mean held-out loss of hbo is 10.0% lower than that of uniform")
    varied = {"hbo, balance.probes=2": [0.9 * loss for loss in SIX], "hbo, balance.probes=4": [0.5], "uniform": SIX}
    assert "of hbo, balance.probes=2 is 10.0% lower" in verdict(tabulate(lines(**varied)))


def test_the_best_of_several_settings_is_judged():
    runs = lines(**{"hbo, balance.probes=2": [1.0], "hbo, balance.probes=4": [0.5], "uniform": [1.0]})
    assert "hbo, balance.probes=4" in verdict(tabulate(runs))
