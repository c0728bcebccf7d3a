"""Every key of `train:` is in the table, and what the table says of it is what happens."""

import dataclasses
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from peft import LoraConfig
from trl import SFTConfig

from hbo.config.file import load, parse
from hbo.errors import ConfigError
from hbo.run.arguments import CHECKPOINTING, adapter, for_trainer, training_arguments, typed
from hbo.run.field_types import kinds_of
from hbo.run.train_keys import FORMER, KINDS, RULES, as_markdown

ROOT = Path(__file__).parents[2]
PINNED = dict(re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
FIELDS = {field.name: field for field in dataclasses.fields(SFTConfig) if field.init}
TABLE = [(key, rule) for rule in RULES for key in rule.keys]
HANDED = [key for key, rule in TABLE if rule.does == "hands on"]
MINIMAL = {"model": "m", "output": "runs/a", "mixture": {"datasets": {"a": "a.jsonl"}}}
# Of fields whose other values aren't made by adding one, or need something beside them.
VALUES = {
    "lr_scheduler_type": "cosine", "optim": "adafactor", "lr_scheduler_kwargs": {"num_cycles": 2}, "loss_type": "dft",
    "eval_strategy": "steps", "save_strategy": "epoch", "logging_strategy": "epoch", "hub_strategy": "end",
    "log_level": "info", "log_level_replica": "error", "report_to": ["tensorboard"], "optim_target_modules": ["a"],
    "include_num_input_tokens_seen": "all", "debug": "underflow_overflow", "dataloader_multiprocessing_context": "spawn",
    "accelerator_config": {"even_batches": False}, "dataloader_prefetch_factor": 3,
    "torch_compile_backend": "inductor", "liger_kernel_config": {"rope": False}, "fsdp_config": {"min_num_params": 1},
    "metric_for_best_model": "eval_a_loss", "warmup_steps": 0.5, "adam_beta1": 0.5, "adam_beta2": 0.5,
    "pad_to_multiple_of": 8, f"{CHECKPOINTING}_kwargs": {"use_reentrant": False}, "trackio_static_space_id": False,
}  # fmt: skip
NEEDS = {
    "dataloader_prefetch_factor": {"dataloader_num_workers": 1},
    "load_best_model_at_end": {"eval_strategy": "steps", "eval_steps": 5, "save_steps": 5, "save_strategy": "steps"},
}
UNTRIED = {
    "bf16": "is about the processor", "tf32": "is about the GPU", "use_cpu": "is about the machine",
    "fsdp": "needs several processes", "ddp_backend": "needs several processes", "deepspeed": "needs a package", "parallelism_config": "is refused here",
    "activation_checkpointing": "one of two names", "activation_checkpointing_kwargs": "one of two names",
    "gradient_checkpointing": "one of two names", "gradient_checkpointing_kwargs": "one of two names",
}  # fmt: skip


def run(**train):
    return parse(MINIMAL | {"train": train})


def another(key):
    """A value of the field that isn't its default."""
    default = FIELDS[key].default
    if key in VALUES:
        return VALUES[key]
    options = str(kinds_of(SFTConfig)[key])
    if isinstance(default, bool) or "bool" in options:
        return not default
    if isinstance(default, int | float):
        return default + 1
    return 3 if "int" in options or "float" in options else "text"


def test_every_field_of_the_installed_release_is_in_the_table_once():
    keys = [key for key, _ in TABLE]
    assert sorted(set(FIELDS) - set(keys)) == [], "a release has brought these: give each a rule in hbo.run.train_keys"
    if version("transformers") == PINNED["transformers"]:  # an older one hasn't all of them yet
        assert sorted(set(keys) - set(FIELDS)) == []
    assert len(keys) == len(set(keys))
    assert set(KINDS) <= set(FIELDS)
    assert set(FORMER) & set(FIELDS) == set()


def test_the_documentation_shows_the_table():
    page = (ROOT / "docs" / "train-keys.md").read_text(encoding="utf-8")
    assert page.split("<!-- python -m hbo.run.train_keys -->\n")[1] == as_markdown()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("key", sorted(set(HANDED) & set(FIELDS) - set(UNTRIED)))
def test_what_is_handed_on_reaches_the_trainer(key):
    value = another(key)
    args = training_arguments(run(**{key: value}, **NEEDS.get(key, {})))
    found = getattr(args, key)
    if key == "accelerator_config":
        found = {name: getattr(found, name) for name in value}
    assert found == ([value] if key == "debug" else value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_computing_activations_twice_has_two_names_that_may_not_differ():
    for name in ("gradient_checkpointing", "activation_checkpointing"):
        assert getattr(training_arguments(run(**{name: False})), CHECKPOINTING) is False
        assert getattr(training_arguments(run(**{name: "yes"})), CHECKPOINTING) is True
    assert typed(run(gradient_checkpointing=True, activation_checkpointing=True)).train == {CHECKPOINTING: True}
    with pytest.raises(ConfigError, match="are the same option but differ"):
        typed(run(gradient_checkpointing=True, activation_checkpointing=False))


REFUSED = [(key, rule) for key, rule in TABLE if rule.only is not None]
WRONG = {
    "dataset_kwargs": {"skip_prepare_dataset": True}, "completion_only_loss": "no", "eval_packing": "yes",
    "train_sampling_strategy": "sequential", "dataloader_in_order": "off", "do_predict": True,
}  # fmt: skip


@pytest.mark.parametrize(("key", "rule"), REFUSED, ids=[key for key, _ in REFUSED])
def test_what_can_not_be_had_is_refused_by_name_and_its_default_is_not(key, rule):
    with pytest.raises(
        ConfigError, match=rf"^train\.{key} is .*which `hbo train` doesn't support; leave it out: "
    ) as error:
        typed(run(**{key: WRONG.get(key, "other")}))
    assert rule.how in str(error.value)
    for value in rule.only:
        assert typed(run(**{key: value})).train == {key: value}
    assert FIELDS[key].default in rule.only


def test_what_changes_nothing_is_said():
    for key in (key for key, rule in TABLE if rule.does == "says so"):
        with pytest.warns(UserWarning, match=rf"^train\.{key} has no effect: "):
            training_arguments(run(**{key: another(key) if key != "include_for_metrics" else ["loss"]}))
        default = FIELDS[key].default
        training_arguments(run(**{key: [] if default is dataclasses.MISSING else default}))


def test_what_hbo_obeys_while_it_prepares_rows_is_no_longer_the_trainers():
    train = {"eos_token": "<e>", "pad_token": "<p>", "chat_template_path": "t.jinja", "truncation_mode": "keep_end"}
    train |= {"assistant_only_loss": True, "completion_only_loss": True, "shuffle_dataset": True}
    args = training_arguments(run(**train, do_train=True, enable_jit_checkpoint=True))
    for key in (*train, "do_train", "enable_jit_checkpoint"):
        assert getattr(args, key) == FIELDS[key].default, key
    assert args.dataset_kwargs == {"skip_prepare_dataset": True}


def test_rows_without_padding_are_cut_here_and_so_not_by_the_trainer():
    args = training_arguments(run(padding_free=True, max_length=64))
    assert (args.max_length, for_trainer(args).max_length) == (64, None)
    args = training_arguments(run(padding_free=True, packing=True, max_length=64))
    assert for_trainer(args).max_length == 64


def test_no_tracker_is_no_tracker_however_it_is_written():
    for value in (None, "none", [], ["none"]):
        assert training_arguments(run(report_to=value)).report_to == []


@pytest.mark.parametrize("key", sorted(FORMER))
def test_a_former_name_is_refused_with_the_present_one(key):
    with pytest.raises(ConfigError, match=rf"^unknown key 'train\.{key}': {re.escape(FORMER[key])}$"):
        typed(run(**{key: 1}))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"max_steps": "many"}, "train.max_steps is 'many', but takes a whole number"),
        ({"max_length": 1}, "train.max_length is 1, but takes a whole number of at least 2 or null"),
        ({"per_device_train_batch_size": 0}, "takes a whole number of at least 1"),
        ({"num_train_epochs": 0}, "takes a number above 0"),
        ({"learning_rate": float("nan")}, "train.learning_rate is nan, but takes a number"),
        ({"report_to": ["wandbb"]}, "train.report_to[0] is 'wandbb', but takes one of 'azure_ml'"),
        ({"report_to": "tensorbord"}, "(did you mean 'tensorboard'?)"),
        ({"truncation_mode": "middle"}, "takes one of 'keep_end', 'keep_start'"),
        ({"loss_type": "mse"}, "train.loss_type is 'mse', but takes one of 'nll', 'dft'"),
        ({"accelerator_config": {"split_batch": True}}, "unknown key 'train.accelerator_config.split_batch' (did you"),
        ({"accelerator_config": {"split_batches": 3}}, "train.accelerator_config.split_batches is 3, but takes true"),
        ({"model_init_kwargs": "auto"}, "train.model_init_kwargs is 'auto', but takes a mapping"),
        ({"model_init_kwargs": {"dtype": "auto"}}, "train.model_init_kwargs.dtype is 'auto', but takes one of"),
        ({"model_init_kwargs": {"dtype": "float32", "torch_dtype": "float16"}}, "torch_dtype is the former name"),
        ({"model_init_kwargs": {"trust_remote_code": True}}, "write train.trust_remote_code"),
    ],
)
def test_a_value_that_no_field_takes_is_refused_by_its_key(train, message):
    with pytest.raises(ConfigError) as error:
        training_arguments(run(**train))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rnak": 8}, "unknown key 'lora.rnak'; lora: takes the fields of peft.LoraConfig"),
        ({"lora_alhpa": 8}, "unknown key 'lora.lora_alhpa' (did you mean 'lora_alpha'?)"),
        ({"r": 0}, "lora.r is 0, but takes a whole number of at least 1"),
        ({"lora_dropout": "often"}, "lora.lora_dropout is 'often', but takes a number"),
        ({"bias": "nun"}, "lora.bias is 'nun', but takes one of"),
        ({"init_lora_weights": "gausian"}, "lora.init_lora_weights is 'gausian', but takes true or false or one of"),
        ({"eva_config": {"roh": 2}}, "unknown key 'lora.eva_config.roh' (did you mean 'rho'?)"),
    ],
)
def test_lora_is_typed_likewise(lora, message):
    with pytest.raises(ConfigError) as error:
        adapter(parse(MINIMAL | {"lora": lora}))
    assert message in str(error.value)


def test_lora_takes_what_peft_takes_in_whatever_spelling():
    lora = {"r": "8", "lora_alpha": 16.0, "lora_dropout": "1e-1", "use_rslora": "yes", "modules_to_save": "lm_head"}
    lora |= {"init_lora_weights": "Gaussian", "rank_pattern": {"q_proj": "4"}, "layers_to_transform": ["0", 1]}
    found = adapter(parse(MINIMAL | {"lora": {**lora, "runtime_config": {"ephemeral_gpu_offload": "no"}}}))
    assert isinstance(found, LoraConfig)
    assert (found.r, found.lora_alpha, found.lora_dropout, found.use_rslora) == (8, 16, 0.1, True)
    assert (found.modules_to_save, found.rank_pattern, found.layers_to_transform) == (
        ["lm_head"],
        {"q_proj": 4},
        [0, 1],
    )
    assert (found.init_lora_weights, found.runtime_config.ephemeral_gpu_offload) == ("Gaussian", False)
    assert found.task_type == "CAUSAL_LM"
    assert adapter(parse(MINIMAL | {"lora": {"init_lora_weights": "pissa_niter_4"}})).init_lora_weights[-1] == "4"


def test_file_and_command_line_say_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = "model: m\noutput: runs/a\nmixture: {datasets: {a: a.jsonl}}\n"
    given = {
        "learning_rate": ("1e-3", 1e-3), "max_steps": ("'4'", 4), "num_train_epochs": ("2", 2), "eval_steps": ("4.0", 4),
        "per_device_train_batch_size": ("'2'", 2), "save_strategy": ("no", "no"), "use_cpu": ("'true'", True),
        "logging_first_step": ("on", True), "max_length": ("null", None), "report_to": ("none", "none"),
        "lr_scheduler_kwargs": ("'{\"num_cycles\": 2}'", {"num_cycles": 2}), "warmup_steps": ("1e-1", 0.1),
    }  # fmt: skip
    (tmp_path / "a.yaml").write_text(
        head + "train:\n" + "".join(f"  {key}: {text}\n" for key, (text, _) in given.items())
    )
    (tmp_path / "b.yaml").write_text(head)
    written = typed(load("a.yaml")).train
    assert written == typed(load("b.yaml", [f"train.{key}={text}" for key, (text, _) in given.items()])).train
    assert written == {key: value for key, (_, value) in given.items()}
    args = training_arguments(load("a.yaml"))
    assert {key: getattr(args, key) for key in given if key != "report_to"} == {
        key: value for key, value in written.items() if key != "report_to"
    }
