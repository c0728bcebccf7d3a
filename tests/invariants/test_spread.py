"""Models spread over two processes (gloo): what is found out before the first step, and the rewards of one process."""

import json
import shutil
from importlib.util import find_spec

import pytest
import spread

pytestmark = pytest.mark.slow

FSDP = {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}
RECOMPUTED = {"fsdp": True, "fsdp_config": {**FSDP["fsdp_config"], "activation_checkpointing": True}}
_BATCH = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
ZERO3 = {"deepspeed": {"zero_optimization": {"stage": 3}, **dict.fromkeys(_BATCH, "auto")}}
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed (pip install deepspeed)")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same training in one process, once for each model."""
    found, folder = {}, tmp_path_factory.mktemp("alone")

    def train(model, lora=False):
        if (model, lora) not in found:
            (found[model, lora],) = spread.train(folder / f"{model}{lora}", model, processes=1, lora=lora)
        return found[model, lora]

    return train


def assert_one_course(one, two):
    assert [record["step"] for record in one] == [record["step"] for record in two] == [0, 2, 4]
    for left, right in zip(one, two, strict=True):
        assert left["drawn"] == right["drawn"]
        for key in ("global_reward", "local_reward"):
            for name, reward in (left[key] or {}).items():
                assert right[key][name] == pytest.approx(reward, rel=1e-4), (left["step"], key, name)


def verdicts(notes):
    """What all processes must agree in."""
    return [(each["facts"], each["ledger"], each["weights"]) for each in notes]


CASES = [
    pytest.param("llama", FSDP, {}, id="fsdp2"),
    pytest.param("llama", RECOMPUTED, {}, id="fsdp2-checkpoint-wrapper"),
    pytest.param("mixtral", FSDP, {}, id="fsdp2-experts"),
    pytest.param("mixtral", RECOMPUTED, {}, id="fsdp2-experts-checkpoint-wrapper"),
    pytest.param("tied", FSDP, {}, id="fsdp2-tied"),
    pytest.param("llama", FSDP, {"lora": True}, id="fsdp2-lora"),
    pytest.param("mixtral", {}, {}, id="ddp-experts"),
    pytest.param("llama", ZERO3, {}, id="zero3", marks=needs_deepspeed),
    pytest.param("mixtral", ZERO3, {}, id="zero3-experts", marks=needs_deepspeed),
    pytest.param("tied", {**ZERO3, "activation_checkpointing": True}, {}, id="zero3-tied", marks=needs_deepspeed),
    pytest.param("llama", ZERO3, {"lora": True}, id="zero3-lora", marks=needs_deepspeed),
]


@pytest.mark.parametrize(("model", "options", "adapter"), CASES)
def test_two_processes_measure_what_one_does_a_batch_at_a_time(tmp_path, alone, model, options, adapter):
    one, two = alone(model, **adapter), spread.train(tmp_path / "two", model, **adapter, **options)
    assert_one_course(one["ledger"], two[0]["ledger"])
    assert verdicts(two[:1]) == verdicts(two[1:])
    assert two[0]["facts"]["batched"]
    assert [len(each["said"]) for each in two] == [1, 0]  # once, by the first process
    assert two[0]["said"] == one["said"]
    assert not two[0]["warned"]
    assert two[0]["gradients"] == 0
    assert (two[0]["kind"] == "DTensor") == ("fsdp" in options)


UNCOVERED = [pytest.param(FSDP, id="fsdp2"), pytest.param(ZERO3, id="zero3", marks=needs_deepspeed)]


@pytest.mark.parametrize("options", UNCOVERED)
def test_a_model_that_no_rule_covers_is_measured_one_row_at_a_time_by_all_together(tmp_path, alone, options):
    one, two = alone("stubborn"), spread.train(tmp_path / "two", "stubborn", **options)
    assert not one["facts"]["batched"]
    assert_one_course(one["ledger"], two[0]["ledger"])
    assert verdicts(two[:1]) == verdicts(two[1:])
    assert "'model.norm.weight' is used outside of its own layer" in two[0]["facts"]["why"]
    assert two[0]["said"][0].startswith("gradient norms are measured one row at a time")


@pytest.mark.parametrize("options", UNCOVERED)
def test_if_one_process_finds_that_the_facts_do_not_hold_all_turn_to_single_rows(tmp_path, alone, options):
    one, two = alone("llama"), spread.train(tmp_path / "two", "llama", surprised=1, **options)
    assert_one_course(one["ledger"], two[0]["ledger"])
    assert verdicts(two[:1]) == verdicts(two[1:])
    assert not two[0]["facts"]["batched"]
    assert two[1]["warned"]


RESUMED = [pytest.param("mixtral", RECOMPUTED, id="fsdp2-experts"), pytest.param("llama", {}, id="ddp")]


@pytest.mark.parametrize(("model", "options"), RESUMED)
def test_the_verdict_stands_in_the_checkpoint_and_is_not_asked_again(tmp_path, model, options):
    folder = tmp_path / "two"
    whole = spread.train(folder, model, **options)
    for file in ("checkpoint-2", "checkpoint-4"):
        state = json.loads((folder / file / "trainer_state.json").read_text())
        snapshot = state["stateful_callbacks"]["HBOState"]["attributes"]["snapshot"]
        assert snapshot["rewards"]["facts"] == whole[0]["facts"]
    assert bool(whole[0]["facts"]["layouts"]) == (model == "mixtral")  # of experts, which are run again for each row
    shutil.rmtree(folder / "checkpoint-4")
    resumed = spread.train(folder, model, resume=str(folder / "checkpoint-2"), **options)
    assert verdicts(resumed) == verdicts(whole)
    assert [each["said"] for each in resumed] == [[], []]
