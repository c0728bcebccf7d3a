"""Ways to spread a model that HBO can't go with end in one sentence, before anything is loaded."""

import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import ParallelismConfig, cpu_offload
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.launch import prepare_multi_gpu_env
from commands import refused
from tiny_training import tiny_model, token_rows
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel
from transformers import Trainer, TrainingArguments

from hbo import HBOCallback, HBOConfig
from hbo.errors import ConfigError
from hbo.training.parallel import check_parallelism, check_placement

TENSOR, CONTEXT, SEQUENCE = (f"{kind} parallelism" for kind in ("tensor", "context", "sequence"))


def arguments(**train):
    return TrainingArguments("out", report_to="none", use_cpu=True, **train)


def refuses(way, where, args):
    with pytest.raises(ConfigError) as error:
        check_parallelism(args)
    assert str(error.value).startswith(f"{way} ({where}) doesn't work with HBO: ")


@pytest.mark.parametrize(
    ("train", "way", "where"),
    [
        ({"fsdp": True, "fsdp_config": {"version": 1}}, "FSDP1", "fsdp_config.version is 1"),
        ({"fsdp": "full_shard", "fsdp_config": {"fsdp_version": 1}}, "FSDP1", "fsdp_config.version is 1"),
        ({"parallelism_config": {"tp_size": 2}}, TENSOR, "parallelism_config.tp_size is 2"),
        ({"parallelism_config": {"cp_size": 4}}, CONTEXT, "parallelism_config.cp_size is 4"),
        ({"parallelism_config": {"sp_size": 2}}, SEQUENCE, "parallelism_config.sp_size is 2"),
        ({"model_init_kwargs": {"tp_plan": "auto"}}, TENSOR, "model_init_kwargs.tp_plan is auto"),
        ({"model_init_kwargs": {"tp_size": 2}}, TENSOR, "model_init_kwargs.tp_size is 2"),
        *[
            ({"model_init_kwargs": {"distributed_config": {f"{kind}_size": 2}}}, way, f"config.{kind}_size is 2")
            for kind, way in {
                "tp": TENSOR,
                "pp": "pipeline parallelism",
                "ep": "expert parallelism",
                "fsdp": "sharding at loading",
            }.items()
        ],
        (
            {"model_init_kwargs": {"device_map": {"model.embed_tokens": 0, "model.layers": "disk"}}},
            "offloading of weights",
            "device_map puts 'model.layers' on disk",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "check"])
def test_hbo_refuses_before_it_looks_for_the_model(hbo, config, command, train, way, where):
    done = hbo(command, config(model="./nowhere", train=train))
    assert "nowhere" not in refused(done, f"{way} (", where, "doesn't work with HBO")


@pytest.mark.parametrize("method", ["hbo", "uniform"])
def test_a_static_method_is_refused_too(hbo, config, method):
    # Sampling takes every process to have rows of its own, which those of a tensor-parallel group have not.
    words = [f"balance.method={method}", "train.parallelism_config={tp_size: 2}"]
    refused(hbo("check", config(), *words), "tensor parallelism")


@pytest.mark.parametrize(
    ("environment", "way", "where"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP1", "accelerate's fsdp_version is 1, its default"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP1", "accelerate's fsdp_version is 1, its default"),
        *[
            (
                {"ACCELERATE_USE_PARALLELISM_CONFIG": "true", f"PARALLELISM_CONFIG_{kind.upper()}_SIZE": "2"},
                way,
                f"accelerate's parallelism_config.{kind}_size is 2",
            )
            for kind, way in {"tp": TENSOR, "cp": CONTEXT, "sp": SEQUENCE}.items()
        ],
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM", "accelerate's distributed_type is MEGATRON_LM"),
    ],
)
def test_what_accelerate_launch_asks_for_is_seen(monkeypatch, environment, way, where):
    args = arguments()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refuses(way, where, args)


def test_what_works_is_let_through(monkeypatch):
    check_parallelism(arguments())
    check_parallelism(arguments(fsdp=True, fsdp_config={"version": 2}))
    check_parallelism(arguments(parallelism_config=ParallelismConfig(dp_replicate_size=2, dp_shard_size=2)))
    for name, value in {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "ACCELERATE_USE_PARALLELISM_CONFIG": "true",
        "PARALLELISM_CONFIG_DP_SHARD_SIZE": "2",
        "PARALLELISM_CONFIG_TP_SIZE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    check_parallelism(arguments())
    monkeypatch.setenv("FSDP_VERSION", "1")  # overruled by the arguments, as in the Trainer
    check_parallelism(arguments(fsdp=True, fsdp_config={"version": 2}))


def test_the_launcher_sets_the_variables_that_are_read():
    """A release of accelerate that names them otherwise would go unrefused."""
    sizes = [word for kind in ("tp", "cp", "sp") for word in (f"--parallelism_config_{kind}_size", "2")]
    asked = launch_command_parser().parse_args(["--use_fsdp", *sizes, "--use_parallelism_config", "program.py"])
    asked.dynamo_backend = "no"
    asked.num_machines, asked.num_processes, asked.mixed_precision = 1, 2, "no"
    found = prepare_multi_gpu_env(asked)
    assert found["ACCELERATE_USE_FSDP"] == found["ACCELERATE_USE_PARALLELISM_CONFIG"] == "true"
    assert found["FSDP_VERSION"] == "1"
    for kind in ("TP", "CP", "SP"):
        assert found[f"PARALLELISM_CONFIG_{kind}_SIZE"] == "2"


@pytest.mark.parametrize(
    ("keys", "way", "where"),
    [
        ({"tensor_parallel": {"autotp_size": 2}}, TENSOR, "DeepSpeed's tensor_parallel.autotp_size is 2"),
        ({"sequence_parallel_size": 2}, SEQUENCE, "DeepSpeed's sequence_parallel_size is 2"),
        ({}, None, None),
    ],
)
def test_deepspeeds_own_keys_are_read(tmp_path, keys, way, where):
    file = tmp_path / "zero.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": 3}, **keys}))
    args = arguments()
    args.deepspeed_plugin = SimpleNamespace(hf_ds_config=HfDeepSpeedConfig(str(file)))  # the plugin needs DeepSpeed
    if way is None:
        check_parallelism(args)
    else:
        refuses(way, where, args)


@pytest.fixture
def trainer(tmp_path):
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    return Trainer(tiny_model(), args, train_dataset=token_rows())


@pytest.mark.filterwarnings("ignore:.*NO_SHARD")  # a group of one has nothing to share
def test_a_callback_refuses_a_model_that_is_wrapped_by_fsdp1(trainer):
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        trainer.model = FullyShardedDataParallel(trainer.model, device_id=torch.device("cpu"))
        with pytest.raises(ConfigError, match=r"^FSDP1 \(the model is a FullyShardedDataParallel\)"):
            HBOCallback(trainer, HBOConfig(method="uniform"))
    finally:
        distributed.destroy_process_group()


def test_a_callback_refuses_a_model_that_was_sharded_when_it_was_loaded(trainer):
    trainer.model._is_distributed_loading_by_transformers = True  # as `from_pretrained(distributed_config=…)` sets it
    with pytest.raises(ConfigError, match="^sharding at loading "):
        HBOCallback(trainer)


def test_a_callback_refuses_what_the_accelerator_was_given(trainer):
    trainer.accelerator.state.parallelism_config = ParallelismConfig(tp_size=2)
    try:
        with pytest.raises(
            ConfigError, match=r"^tensor parallelism \(the accelerator's parallelism_config.tp_size is 2"
        ):
            HBOCallback(trainer)
    finally:
        trainer.accelerator.state.parallelism_config = None  # it is shared by all of a process


def test_offloaded_weights_are_refused_if_they_are_trained(trainer):
    cpu_offload(trainer.model, execution_device="cpu")
    with pytest.raises(ConfigError, match=r"^offloading of weights \(model.embed_tokens.weight lies on no device"):
        HBOCallback(trainer)
    for parameter in trainer.model.parameters():
        parameter.requires_grad_(False)
    check_placement(trainer.model)


@pytest.fixture
def two_gpus(monkeypatch):
    """What torch says of a machine with two, as far as transformers asks; the words that make it ask."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return ["train.use_cpu=false", "train.max_steps=2", "train.save_strategy=no"]


def test_a_process_that_sees_several_gpus_uses_one_and_says_so(hbo, config, two_gpus, tmp_path):
    assert TrainingArguments("out", report_to="none").n_gpu == 2  # or this test shows nothing
    for words in (["check", config(), *two_gpus], ["train", config(global_batch_size=8), *two_gpus]):
        done = hbo(*words)
        assert done.returncode == 0, done.stderr
        said = " ".join((done.stdout + done.stderr).split())
        assert "2 GPUs are visible to this one process, which uses cpu only" in said
        assert "torchrun --nproc_per_node 2 -m hbo train" in said
    lines = (tmp_path / "run" / "balance.jsonl").read_text().splitlines()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert len(lines) == 1
    assert sum(sum(taken) for taken in metrics["drawn"].values()) == 2 * 8  # the batch that was asked for


def test_a_model_that_is_spread_over_gpus_on_purpose_is_left_alone(hbo, config, two_gpus):
    done = hbo("check", config(), *two_gpus, "train.model_init_kwargs={device_map: auto}")
    assert done.returncode == 0, done.stderr
    assert "GPUs are visible" not in " ".join((done.stdout + done.stderr).split())


def test_a_callback_is_refused_where_the_trainer_would_copy_the_model(make_trainer):
    trainer, _ = make_trainer()
    trainer.args._n_gpu = 2
    with pytest.raises(ConfigError, match=r"2 GPUs are visible to one process.*torchrun --nproc_per_node 2"):
        HBOCallback(trainer)
