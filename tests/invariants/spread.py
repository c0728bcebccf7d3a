"""Tiny models trained by SFTTrainer in one process or two (gloo), as accelerate spreads them; written down by each.

course = spread.train(folder, "llama", processes=2, fsdp={...})
"""

import json
import multiprocessing
import os
import random
import socket
import warnings
from hashlib import sha256
from pathlib import Path

import forked
from transformers import TrainerCallback

SIZES = {
    "vocab_size": 264,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "bos_token_id": None,
}


def llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SIZES, **changes))


def tied():
    return llama(tie_word_embeddings=True)


def mixtral():
    from transformers import MixtralConfig, MixtralForCausalLM

    experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0.0}
    return MixtralForCausalLM(MixtralConfig(**SIZES, **experts, sliding_window=None))


def stubborn():
    """The final norm's weight is the embedding's scale too: no layer tells that, and the block around is the model."""
    model = tied()
    base = model.model

    def scaled(layer, args, output):
        return output * base.norm.weight

    base.embed_tokens.register_forward_hook(scaled)
    return model


MODELS = {"llama": llama, "tied": tied, "mixtral": mixtral, "stubborn": stubborn}


def rows():
    from datasets import Dataset

    words, found = random.Random(0), []
    for k, size in enumerate((21, 10)):
        for i in range(size):
            # Some rows have no target, and the longest, a batch of its own, is one of them.
            has_target, count = i % 7 != 6, 60 if i == 6 else words.randint(2, 12)
            tail = [words.randrange(10, 264) for _ in range(count)]
            labels = [-100, -100, *tail] if has_target else [-100] * (2 + count)
            found.append(
                {"input_ids": [2 + k, 4 + i, *tail], "labels": labels, "hbo_dataset": "ab"[k], "hbo_level": i % 2}
            )
    return Dataset.from_list(found)


class Surprise(TrainerCallback):
    """From the first step on, rows can't be told apart."""

    def on_step_begin(self, args, state, control, **kwargs):
        from hbo.rewards.norms import recorder
        from hbo.rewards.norms.layers import Unruly

        def by_row(*args):
            raise Unruly("has changed its mind")

        recorder.by_row = by_row


def train(folder, model, *, processes=2, resume=None, lora=False, surprised=None, **options):
    """What each process wrote down of the training of this model, by rank.

    Args:
        folder: Output; notes and what is written to the terminal stand beside it.
        model: A name of `MODELS`.
        processes: How many share the eight rows of a step.
        resume: The checkpoint to go on from.
        lora: An adapter is trained.
        surprised: The rank of a process in which, after the start, no layer's rows can be told apart any more.
        options: Of SFTConfig.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(forked.PRELOAD)
    started = []
    for rank in range(processes):
        environment = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        asked = {"model": model, "resume": resume, "lora": lora, "is_surprised": rank == surprised}
        options = {"per_device_train_batch_size": 8 // processes, **options}
        started.append(context.Process(target=_child, args=(str(folder), rank, asked, options, environment)))
        started[-1].start()
    for process in started:
        process.join(240)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    logs = [Path(f"{folder}.{rank}.log").read_text()[-3000:] for rank in range(processes)]
    assert codes == [0] * processes, "\n".join([str(codes), *logs])
    return [json.loads(Path(f"{folder}.{rank}.json").read_text()) for rank in range(processes)]


def _child(folder, rank, asked, options, environment):
    with Path(f"{folder}.{rank}.log").open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ |= environment
    multiprocessing.set_start_method("fork", force=True)
    said = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer, callback = _trained(folder, asked, options, said)
    state = callback.state.state()["attributes"]["snapshot"]
    ledger = [
        {**entry.to_record(callback.balancing.groups.datasets), "seconds": 0} for entry in callback.balancer.ledger
    ]
    named = {name.replace("_checkpoint_wrapped_module.", ""): p for name, p in trainer.model.named_parameters()}
    notes = {
        "facts": state["rewards"]["facts"],
        "said": said,
        "warned": [str(each.message) for each in warned if "one row at a time" in str(each.message)],
        "ledger": ledger,
        "kind": type(next(iter(named.values()))).__name__,
        "gradients": sum(p.grad is not None for p in named.values()),
        "weights": {name: _digest(parameter) for name, parameter in named.items()},
    }
    Path(f"{folder}.{rank}.json").write_text(json.dumps(notes))
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _digest(parameter):
    return sha256(_whole(parameter).contiguous().numpy().tobytes()).hexdigest()


def _whole(parameter):
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    value = parameter.detach()
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _trained(folder, asked, options, said):
    import spread_on_cpu  # noqa: F401 - lets accelerate spread a model over processes without a GPU
    import torch
    from tiny_runs import byte_tokenizer
    from trl import SFTConfig, SFTTrainer

    from hbo import HBOCallback, HBOConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    defaults = {
        "max_steps": 4, "learning_rate": 1e-2, "bf16": False, "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "dataloader_pin_memory": False, "logging_steps": 2, "save_strategy": "steps",
        "save_steps": 2, "activation_checkpointing": False, "dataset_kwargs": {"skip_prepare_dataset": True},
    }  # fmt: skip
    peft_config = None
    if asked["lora"]:
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, target_modules=["q_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        MODELS[asked["model"]](),
        args=SFTConfig(folder, **{**defaults, **options}),
        train_dataset=rows(),
        processing_class=byte_tokenizer(),
        peft_config=peft_config,
    )
    # All rows are probes, a few in a batch, so that each process has batches and not equally many.
    config = {"update_every": 2, "probes": 40, "probe_pool": 40, "probe_tokens": 48, "actor": {"learning_rate": 3e-3}}
    callback = HBOCallback(trainer, HBOConfig(**config))
    trainer.add_callback(callback)

    def hear(sentence):
        said.append(sentence)

    callback.say = hear
    if asked["is_surprised"]:
        trainer.add_callback(Surprise())
    trainer.train(resume_from_checkpoint=asked["resume"])
    return trainer, callback
