"""What is said of the cost of balancing before a run."""

import pytest
import transformers as hf
from test_plan import HUB, planned

from hbo.check.cost import norms_notes
from hbo.config.file import parse
from hbo.run.arguments import training_arguments


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        # 9 updates of 64 probes of 3 forwards, a pool of 2 × 4 × 64 rows; 180 steps of 4 rows of 4 forwards
        ({}, (9 * 64 * 3 + 512) / (180 * 4 * 4)),
        ({"train": {"activation_checkpointing": False}}, (9 * 64 * 3 + 512) / (180 * 4 * 3)),
        ({"lora": {"r": 4}}, (9 * 64 * 2 + 512) / (180 * 4 * 3)),
        ({"balance": {"global": False}}, (9 * 64 + 512) / (180 * 4 * 4)),
        ({"balance": {"local_reward": "ifd_ratio"}}, (9 * 64 * 4 + 1024) / (180 * 4 * 4)),
        ({"balance": {"update_every": {"global": 60, "local": 20}}}, (3 * 64 * 3 + 6 * 64 + 512) / (180 * 4 * 4)),
        ({"difficulty": {"groups": 64}, "balance": {"probes": 8}}, (9 * 128 * 3 + 8192) / (180 * 4 * 4)),
        ({"balance": {"method": "proportional"}}, 0),
        ({"balance": {"rewards": "stream"}}, None),
        # 8 probes and 8 rows set aside of each of two datasets, of which gradients are taken
        ({"balance": {"method": "multidds"}}, 9 * (16 + 16) * 3 / (180 * 4 * 4)),
        ({"balance": {"method": "mos"}}, 9 * 128 / (180 * 4 * 4)),
        ({"balance": {"method": "signal_norm"}}, 9 * 64 * 3 / (180 * 4 * 4)),
        ({"balance": {"method": "slope"}}, 10 * 128 / (180 * 4 * 4)),  # a pool of 64 each, and once before
        # as `slope`; for the groups 64 probes, and the pool of hbo once
        ({"balance": {"method": "gain"}}, (10 * 128 + 9 * 64 + 512) / (180 * 4 * 4)),
        ({"balance": {"method": "annealed"}}, 0),
        ({"balance": {"global_reward": "lookahead_alignment"}}, None),
        ({"balance": {"global_reward": "hbo.rewards.per_row:gradient_norm"}}, (9 * 64 * 3 + 512) / (180 * 4 * 4)),
        ({"balance": {"global_reward": "math:exp"}}, None),  # as good as any function of the user's
    ],
)
def test_the_overhead_of_updates_is_their_passes_over_those_of_training(sections, expected):
    balance = {"update_every": 20, **sections.get("balance", {})}
    if balance.get("method") == "multidds":
        balance["probes"] = 8
    plan = planned(HUB, **{**sections, "balance": balance})
    assert plan["update_share"] == (expected if expected is None else pytest.approx(expected, rel=1e-12))


def test_scoring_costs_two_passes_of_every_row_once():
    assert planned(HUB)["scoring_share"] == pytest.approx(2 * 360 / (180 * 4 * 4))
    assert planned(HUB, difficulty={"groups": 1})["scoring_share"] == 0
    assert planned(HUB, difficulty={"model": "owner/small"})["scoring_share"] is None


def test_the_forecast_names_layers_that_are_run_again_for_each_row(tmp_path, write_rows):
    hf.MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4,
    ).save_pretrained(tmp_path / "moe")  # fmt: skip
    hf.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ).save_pretrained(tmp_path / "dense")

    def told(model, **balance):
        run = parse(
            {
                "model": str(tmp_path / model),
                "mixture": {"datasets": {"a": str(write_rows("a", 30))}},
                "balance": balance,
            }
        )
        args = training_arguments(run.model_copy(update={"output": str(tmp_path / "out")}))
        return norms_notes(run, args, str(tmp_path / model))

    assert "MixtralExperts (2 of them)" in told("moe")[0]
    assert "a whole batch in one pass, judging by its layers" in told("dense")[0]
    assert told("dense", method="uniform") == []
