"""Tiny models trained by SFTTrainer in one process or two (gloo), as accelerate spreads them; written down by each.

course = spread.train(folder, "llama", processes=2, fsdp={...})
"""

import json
import multiprocessing
import os
import random
import socket
import warnings
from pathlib import Path

import forked

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
STEPS = 4


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
            tail = [words.randrange(10, 264) for _ in range(words.randint(2, 12))]
            labels = [-100] * (2 + len(tail)) if i % 7 == 6 else [-100, -100, *tail]
            found.append(
                {"input_ids": [2 + k, 4 + i, *tail], "labels": labels, "hbo_dataset": "ab"[k], "hbo_level": i % 2}
            )
    return Dataset.from_list(found)


def train(folder, model, *, processes=2, resume=None, lora=False, balance=None, **options):
    """What each process wrote down of the training of this model, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(forked._PRELOAD)
    started = []
    for rank in range(processes):
        environment = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        words = (str(folder), model, rank, processes, resume, lora, balance or {}, options, environment)
        started.append(context.Process(target=_child, args=words))
        started[-1].start()
    for process in started:
        process.join(240)
    codes = [process.exitcode for process in started]
    for process in started:
        process.kill()
    logs = [Path(f"{folder}.{rank}.log").read_text()[-3000:] for rank in range(processes)]
    assert codes == [0] * processes, "\n".join([str(codes), *logs])
    return [json.loads(Path(f"{folder}.{rank}.json").read_text()) for rank in range(processes)]


def _child(folder, model, rank, processes, resume, lora, balance, options, environment):
    with Path(f"{folder}.{rank}.log").open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.environ |= environment
    multiprocessing.set_start_method("fork", force=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer, callback, sentences = _train(folder, model, processes, resume, lora, balance, options)
    state = callback.state.state()["attributes"]["snapshot"]
    ledger = [{**entry.to_record(callback.groups.datasets), "seconds": 0} for entry in callback.balancer.ledger]
    notes = {
        "facts": state["rewards"]["facts"],
        "sentences": sentences,
        "warnings": [str(each.message) for each in said if "gradient" in str(each.message)],
        "ledger": ledger,
        "kind": type(next(trainer.model.parameters())).__name__,
        "gradients": sum(p.grad is not None for p in trainer.model.parameters()),
        "weights": {
            name.replace("_checkpoint_wrapped_module.", ""): _whole(p).double().sum().item()
            for name, p in trainer.model.named_parameters()
        },
    }
    Path(f"{folder}.{rank}.json").write_text(json.dumps(notes))
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _whole(parameter):
    if hasattr(parameter, "ds_id"):
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().clone()
    value = parameter.detach()
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _train(folder, model, processes, resume, lora, balance, options):
    import logging

    import fsdp_on_cpu_state  # noqa: F401
    import torch
    from tiny_runs import byte_tokenizer
    from trl import SFTConfig, SFTTrainer

    from hbo import HBOCallback, HBOConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    args = {
        "max_steps": STEPS, "learning_rate": 1e-2, "bf16": False, "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "dataloader_pin_memory": False, "logging_steps": 2, "save_strategy": "steps",
        "save_steps": 2, "activation_checkpointing": False, "dataset_kwargs": {"skip_prepare_dataset": True},
        "per_device_train_batch_size": 8 // processes,
    }  # fmt: skip
    peft_config = None
    if lora:
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, target_modules=["q_proj", "up_proj", "down_proj"], task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        MODELS[model](),
        args=SFTConfig(str(folder), **{**args, **options}),
        train_dataset=rows(),
        processing_class=byte_tokenizer(),
        peft_config=peft_config,
    )
    config = {"update_every": 2, "probes": 5, "probe_pool": 6, "probe_tokens": 48, "actor": {"learning_rate": 3e-3}}
    callback = HBOCallback(trainer, HBOConfig(**{**config, **balance}))
    trainer.add_callback(callback)
    sentences = []

    class Listener(logging.Handler):
        def emit(self, record):
            sentences.append(record.getMessage())

    log = logging.getLogger("hbo.training.callback")
    log.addHandler(Listener())
    log.setLevel(logging.INFO)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback, sentences
