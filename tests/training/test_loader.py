import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher
from datasets import Dataset
from tiny_training import tiny_model, token_rows
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from trl import KTOConfig, KTOTrainer
from trl.trainer.utils import RepeatSampler

from hbo import HBOCallback, HBOConfig
from hbo.core.ledger import Entry, Ledger
from hbo.core.stream import Stream
from hbo.errors import ConfigError
from hbo.training.groups import groups_of
from hbo.training.sampler import HBOSampler
from hbo.training.schedule import Schedule

STATIC = HBOConfig(method="uniform")


def trainer_with(tmp_path, sampler=None, loader=None, **options):
    """A trainer whose own sampler or loader is what these functions make of it."""

    class OwnTrainer(Trainer):
        def _get_train_sampler(self, train_dataset=None):
            return super()._get_train_sampler(train_dataset) if sampler is None else sampler(self.train_dataset)

        def get_train_dataloader(self):
            return super().get_train_dataloader() if loader is None else loader(self)

    args = TrainingArguments(
        str(tmp_path / "out"), max_steps=2, report_to="none", use_cpu=True, per_device_train_batch_size=4, **options
    )  # fmt: skip
    return OwnTrainer(tiny_model(), args=args, train_dataset=token_rows(levels=1))


@pytest.mark.parametrize(
    ("sampler", "named"),
    [
        (SequentialSampler, "SequentialSampler"),
        (lambda rows: RandomSampler(rows, replacement=True, num_samples=8), "8 rows with replacement"),
        (lambda rows: RandomSampler(rows, num_samples=8), "8 rows without replacement"),
        (lambda rows: RepeatSampler(rows, 2, batch_size=2, shuffle=False), "shuffle_dataset"),
        (type("Shuffled", (RandomSampler,), {}), "Shuffled"),
    ],
)
def test_a_sampler_of_the_trainers_own_is_refused_by_name(tmp_path, sampler, named):
    with pytest.raises(ConfigError, match=f"OwnTrainer .*{named}"):
        HBOCallback(trainer_with(tmp_path, sampler), STATIC)


def rebatched(trainer):
    batches = BatchSampler(RandomSampler(trainer.train_dataset), 4, drop_last=True)
    own = type("OwnBatches", (BatchSampler,), {})(batches.sampler, 4, True)
    return trainer.accelerator.prepare(
        DataLoader(trainer.train_dataset, batch_sampler=own, collate_fn=trainer.data_collator)
    )


def sequential(trainer):
    return trainer.accelerator.prepare(DataLoader(trainer.train_dataset, 4, collate_fn=trainer.data_collator))


def repeated(trainer):
    sampler = RepeatSampler(trainer.train_dataset, 2, batch_size=3)
    return trainer.accelerator.prepare(
        DataLoader(trainer.train_dataset, 4, sampler=sampler, collate_fn=trainer.data_collator)
    )


@pytest.mark.parametrize(
    ("loader", "named"),
    [
        (rebatched, "batch sampler of its own \\(OwnBatches\\)"),
        (sequential, "SequentialSampler"),
        (repeated, "draws 3 prompts 2 times each, but a batch of its loader has 4 rows"),
    ],
)
def test_what_only_the_loader_shows_is_refused_before_the_first_step(tmp_path, loader, named):
    trainer = trainer_with(tmp_path, loader=loader)
    trainer.add_callback(HBOCallback(trainer, STATIC))
    with pytest.raises(ConfigError, match=named):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not (tmp_path / "out" / "balance.jsonl").exists()


@pytest.mark.parametrize("is_made_later", [False, True])
def test_dispatched_batches_are_refused_wherever_they_are_asked_for(tmp_path, is_made_later):
    trainer = trainer_with(tmp_path)
    if not is_made_later:
        trainer.accelerator.dataloader_config.dispatch_batches = True
        with pytest.raises(ConfigError, match="dispatch_batches"):
            HBOCallback(trainer, STATIC)
        return
    trainer.add_callback(HBOCallback(trainer, STATIC))
    trainer.accelerator.dataloader_config.dispatch_batches = True
    assert isinstance(trainer.get_train_dataloader(), DataLoaderDispatcher)
    with pytest.raises(ConfigError, match="dispatch_batches"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("options", [{"split_batches": True}, {"use_seedable_sampler": False}])
def test_other_ways_to_load_make_no_difference(make_trainer, options):
    drawn = []
    for folder, given in (("plain", {}), ("other", {"accelerator_config": options})):
        trainer, callback = make_trainer(folder, balance={"method": "uniform"}, max_steps=4, **given)
        trainer.train()
        drawn.append(callback.drawn_so_far(4).tolist())
        assert callback.balancing.schedule.rows == 4
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("given", [dict, lambda **options: AcceleratorConfig(**options)])
def test_dispatched_batches_are_refused_however_they_are_written(tmp_path, given):
    with pytest.raises(ConfigError, match="dispatch_batches"):
        HBOCallback(trainer_with(tmp_path, accelerator_config=given(dispatch_batches=True)), STATIC)


@pytest.mark.parametrize("is_split", [False, True])
def test_each_process_loads_the_rows_that_are_booked_for_it(is_split):
    processes, accumulation, batch = 2, 3, 4
    rows = batch if is_split else processes * batch
    schedule = Schedule.of(4, rows, accumulation)

    def drawn():
        return HBOSampler(Stream(groups_of(token_rows()), even_ledger(), seed=1), schedule)

    for rank in range(processes):
        whole = BatchSampler(drawn(), batch, drop_last=False)
        loaded = list(BatchSamplerShard(whole, processes, rank, split_batches=is_split))
        for step in range(2):
            window = drawn().window(step)
            size = schedule.rows // accumulation // processes
            booked = [window[i : i + size].tolist() for i in range(0, len(window), size)][rank::processes]
            assert booked == loaded[step * accumulation : (step + 1) * accumulation]


def even_ledger():
    return Ledger(["a", "b"], [Entry(0, 0, np.full(2, 0.5), np.full((2, 2), 0.5))])


def test_rows_of_kto_are_drawn_though_it_asks_for_their_own_order(tmp_path, model_folder, tokenizer):
    rows = [
        {
            "prompt": f"{i} plus",
            "completion": " what" * (1 + i % 4),
            "label": i % 2 == 0,
            "hbo_dataset": "ab"[i % 3 == 0],
        }
        for i in range(24)
    ]
    args = KTOConfig(
        str(tmp_path / "out"), max_steps=3, report_to="none", bf16=False, per_device_train_batch_size=4,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = KTOTrainer(
        str(model_folder), args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    assert args.train_sampling_strategy == "sequential"
    callback = HBOCallback(trainer, HBOConfig(method="uniform", update_every=1))
    trainer.add_callback(callback)
    trainer.train()
    assert callback.drawn_so_far(3).sum() == 12
    args.train_sampling_strategy = "group_by_length"
    with pytest.raises(ConfigError, match="train_sampling_strategy is 'group_by_length'.* set it to random"):
        HBOCallback(trainer, STATIC)


def test_rows_that_fill_no_batch_are_refused(tmp_path):
    trainer = trainer_with(tmp_path, dataloader_drop_last=True)
    trainer.train_dataset = Dataset.from_list(token_rows(levels=1).to_list()[:3])
    trainer.add_callback(HBOCallback(trainer, STATIC))
    with pytest.raises(ConfigError, match="3 rows don't fill a single batch of OwnTrainer's"):
        trainer.train()
