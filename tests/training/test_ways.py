"""Promises of HBOCallback on trainers of every kind: rewards are those of the trainer's own loss of each row."""

import functools
import itertools

import numpy as np
import pytest
import torch
from byte_models import byte_tokenizer
from datasets import Dataset
from own_losses import ALL_ROWS, measured_and_expected, preferences
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig
from PIL import Image
from tiny_training import MOVING, QUIET, assert_same_weights, ledger, tiny_model, token_rows, weights
from torch.nn import functional
from torch.nn.functional import logsigmoid
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionConfig,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from trl import KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDConfig, GKDTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.experimental.tpo import TPOConfig, TPOTrainer

from hbo import HBOCallback, HBOConfig
from hbo.errors import ConfigError, RewardError
from hbo.training.packing import pack_within_groups

pytestmark = pytest.mark.filterwarnings(
    "ignore:dataset .* about to be seen:UserWarning", "ignore::FutureWarning", "ignore:.*experimental"
)


TOKENIZER = byte_tokenizer()


@pytest.fixture
def options(tmp_path):
    """Folder → the training arguments of a short run."""
    return lambda folder="out", **more: {
        **QUIET,
        "output_dir": str(tmp_path / folder),
        "per_device_train_batch_size": 4,
        "max_steps": 8,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "logging_steps": 3,
        **more,
    }


def attach(trainer, **balance):
    callback = HBOCallback(trainer, HBOConfig(**{**MOVING, **balance}))
    trainer.add_callback(callback)
    return callback


def log_probabilities(model, prompt, answer):
    """Of the answer's tokens (T,), by plain logits."""
    ids = torch.tensor([[*prompt, *answer]])
    log_p = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return log_p[len(prompt) - 1 :]


# Trainers with a loss of their own


def one_score():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=320, num_labels=1, pad_token_id=1, **sizes))


def reward(options, tokenizer, folder, rows):
    args = RewardConfig(**options, gradient_checkpointing=False)
    return RewardTrainer(one_score(), args=args, train_dataset=rows, processing_class=tokenizer)


def reward_by_hand(trainer, row):
    score = lambda ids: trainer.model(input_ids=torch.tensor([ids])).logits[0, 0]  # noqa: E731
    return -logsigmoid(score(row["chosen_ids"]) - score(row["rejected_ids"]))


def cpo(options, tokenizer, folder, rows):
    args = CPOConfig(**options, max_length=32, gradient_checkpointing=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    return CPOTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)


def answers(trainer, row, kind):
    ids, labels = row[f"{kind}_input_ids"], row[f"{kind}_labels"]
    start = labels.count(-100)
    return log_probabilities(trainer.model, ids[:start], ids[start:])


def nll_of_chosen(trainer, row, whole):
    ids = row["chosen_input_ids"]
    own = log_probabilities(trainer.model, ids[:1], ids[1:]) if whole else answers(trainer, row, "chosen")
    return -own.mean()


def cpo_by_hand(trainer, row):
    margin = answers(trainer, row, "chosen").sum() - answers(trainer, row, "rejected").sum()
    return -logsigmoid(0.1 * margin) + nll_of_chosen(trainer, row, False)


def orpo(options, tokenizer, folder, rows):
    args = ORPOConfig(**options, max_length=32, gradient_checkpointing=False)
    model = AutoModelForCausalLM.from_pretrained(folder)
    return ORPOTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)


def orpo_by_hand(trainer, row):
    good, bad = answers(trainer, row, "chosen").mean(), answers(trainer, row, "rejected").mean()
    odds = (good - bad) - (torch.log1p(-good.exp()) - torch.log1p(-bad.exp()))
    return nll_of_chosen(trainer, row, True) - 0.1 * logsigmoid(odds)


def tpo(options, tokenizer, folder, rows):
    rows = rows.map(lambda row: {"reference": row["chosen"] + " river"})
    model = AutoModelForCausalLM.from_pretrained(folder)
    args = TPOConfig(**options, gradient_checkpointing=False, tpo_alpha=0.5, beta=0.2)
    return TPOTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer)


def tpo_by_hand(trainer, row):
    chosen, rejected, gold = (
        log_probabilities(trainer.model, row["prompt_ids"], row[f"{kind}_ids"])
        for kind in ("chosen", "rejected", "reference")
    )
    return -logsigmoid(0.2 * (chosen.sum() - rejected.sum())) - 0.5 * gold.mean()


def kto(options, tokenizer, folder, rows):
    rows = rows.map(
        lambda row, i: {"completion": row["chosen"], "label": i % 3 > 0},
        with_indices=True,
        remove_columns=["chosen", "rejected"],
    )
    args = KTOConfig(**options, gradient_checkpointing=False, undesirable_weight=1.5)
    trainer = KTOTrainer(str(folder), args=args, train_dataset=rows, processing_class=tokenizer)
    trainer.reference = AutoModelForCausalLM.from_pretrained(folder).eval()  # for the tests
    return trainer


def kto_by_hand(trainer, row):
    def gain(answer):
        with torch.no_grad():
            before = log_probabilities(trainer.reference, row["prompt_ids"], row[answer]).sum()
        return log_probabilities(trainer.model, row["prompt_ids"], row[answer]).sum() - before

    divergence = gain("KL_completion_ids").detach().clamp(min=0)  # of the one mismatched answer that the row has
    z = 0.1 * (gain("completion_ids") - divergence)
    return 1 - torch.sigmoid(z) if row["label"] else 1.5 * (1 - torch.sigmoid(-z))


def gkd(options, tokenizer, folder, rows):
    rows = rows.map(
        lambda row: {"messages": [{"role": "user", "content": row["prompt"]},
                                  {"role": "assistant", "content": row["chosen"]}]},
        remove_columns=["prompt", "chosen", "rejected"],
    )  # fmt: skip
    teacher = tiny_model()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    args = GKDConfig(**options, lmbda=0.0, max_length=64, gradient_checkpointing=False)
    return GKDTrainer(str(folder), teacher, args=args, train_dataset=rows, processing_class=tokenizer)


def gkd_by_hand(trainer, row):
    batch = trainer.data_collator.collator([row]) if hasattr(trainer.data_collator, "collator") else None
    batch = batch or trainer.data_collator([row])
    at = (batch["labels"][0, 1:] != -100).nonzero()[:, 0]
    student = trainer.model(input_ids=batch["input_ids"]).logits[0, at].log_softmax(-1)
    with torch.no_grad():
        teacher = trainer.teacher_model(input_ids=batch["input_ids"]).logits[0, at].log_softmax(-1)
    middle = ((student.exp() + teacher.exp()) / 2).log()
    kl = lambda p: (p.exp() * (p - middle)).sum()  # noqa: E731
    return (kl(student) + kl(teacher)) / 2 / len(at)


TRAINERS = {
    "Reward": (reward, reward_by_hand),
    "CPO": (cpo, cpo_by_hand),
    "ORPO": (orpo, orpo_by_hand),
    "TPO": (tpo, tpo_by_hand),
    "KTO": (kto, kto_by_hand),
    "GKD": (gkd, gkd_by_hand),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_rewards_are_those_of_the_trainers_loss_written_out(name, options, tokenizer, model_folder):
    make, by_hand = TRAINERS[name]
    trainer = make(options(), tokenizer, model_folder, preferences(sizes=(5, 4)))
    callback = attach(trainer, **ALL_ROWS)
    assert callback.config.local_reward == "loss_ratio"
    measured, expected = measured_and_expected(
        trainer, callback, lambda row: by_hand(trainer, trainer.train_dataset[row])
    )
    assert measured[0] == pytest.approx(expected[0], rel=1e-4)
    assert measured[1] == pytest.approx(expected[1], rel=1e-4)


@pytest.mark.parametrize("name", TRAINERS)
def test_probabilities_move_and_training_sees_the_stream(name, options, tokenizer, model_folder, tmp_path):
    trainer = TRAINERS[name][0](options(), tokenizer, model_folder, preferences())
    callback = attach(trainer)
    trainer.train()
    lines = ledger(tmp_path / "out")
    assert [line["step"] for line in lines] == [0, 2, 4, 6, 8]
    assert all(before["global"] != after["global"] for before, after in itertools.pairwise(lines))
    assert all(before["local"] != after["local"] for before, after in itertools.pairwise(lines))
    assert sum(sum(line["drawn"][name]) for line in lines for name in "ab") == 32
    assert callback.groups.length_N is None or callback.tokens > 0


# Losses and rows of the user's own


def test_a_trainer_whose_own_loss_is_the_token_mean_is_measured_in_batches(options):
    class Renamed(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    class Doubled(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return 2 * super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    ways = {}
    for kind in (Trainer, Renamed, Doubled):
        collator = DataCollatorForSeq2Seq(TOKENIZER)
        args = TrainingArguments(**options())
        callback = attach(kind(tiny_model(), args=args, train_dataset=token_rows(), data_collator=collator))
        ways[kind] = callback._way.alone, callback.config.local_reward
    assert ways[Trainer] == ways[Renamed] == (None, "perplexity_ratio")
    assert ways[Doubled] == ("its loss isn't a mean over target tokens", "loss_ratio")


def test_a_packed_rows_token_mean_is_over_its_examples_each_by_itself(options, tmp_path):
    class Renamed(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def apart(rows, is_apart):
        (row,) = rows
        places = (
            [place for count in row["seq_lengths"] for place in range(count)]
            if is_apart
            else range(len(row["input_ids"]))
        )
        return {name: torch.tensor([row[name]]) for name in ("input_ids", "labels")} | {
            "position_ids": torch.tensor([list(places)])
        }

    rows = pack_within_groups(token_rows(), 64, cache_dir=tmp_path)
    assert len(rows[0]["seq_lengths"]) > 1
    ways = {}
    for is_apart in (True, False):
        args = TrainingArguments(**options(), remove_unused_columns=False)
        args.packing, args.max_length = True, 64
        collator = functools.partial(apart, is_apart=is_apart)
        callback = attach(Renamed(tiny_model(), args=args, train_dataset=rows, data_collator=collator))
        ways[is_apart] = callback._way.alone
    assert ways == {True: None, False: "its loss isn't a mean over target tokens"}


class Rows(torch.utils.data.Dataset):
    """Tokenised rows that are no datasets.Dataset."""

    def __init__(self, rows):
        self.rows = list(rows)
        self.read = 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        self.read += 1
        return dict(self.rows[number])


def mean_of_targets(trainer, row, power=1):
    """The loss of a row's targets by plain logits, each to this power."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"][1:])
    loss = functional.cross_entropy(trainer.model(input_ids=ids).logits[0, :-1], labels, reduction="none")
    return (loss[labels != -100] ** power).mean()


def squared_loss(outputs, labels, num_items_in_batch=None):
    """Divides by the number it is given, as the guides have it."""
    labels = labels[:, 1:].flatten()
    loss = functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels, reduction="none")
    return (loss[labels != -100] ** 2).sum() / num_items_in_batch


def with_loss_function(options):
    args = TrainingArguments(**options())
    collator = DataCollatorForSeq2Seq(TOKENIZER)
    trainer = Trainer(
        tiny_model(),
        args=args,
        train_dataset=token_rows((5, 4)),
        data_collator=collator,
        compute_loss_func=squared_loss,
    )
    return trainer, lambda row: mean_of_targets(trainer, trainer.train_dataset[row], 2), "loss_ratio"


def with_torch_rows(options):
    args = TrainingArguments(**options())
    collator = DataCollatorForSeq2Seq(TOKENIZER)
    trainer = Trainer(tiny_model(), args=args, train_dataset=Rows(token_rows((5, 4))), data_collator=collator)
    return trainer, lambda row: mean_of_targets(trainer, trainer.train_dataset[row]), "perplexity_ratio"


def tokenising(rows):
    ids = [TOKENIZER(row["text"])["input_ids"] for row in rows]
    width = max(map(len, ids))
    return {
        "input_ids": torch.tensor([one + [1] * (width - len(one)) for one in ids]),
        "labels": torch.tensor([one + [-100] * (width - len(one)) for one in ids]),
        "attention_mask": torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in ids]),
    }


def with_tokens_in_the_collator(options):
    rows = preferences((5, 4)).rename_columns({"chosen": "text"}).remove_columns(["prompt", "rejected"])
    args = TrainingArguments(**options(), remove_unused_columns=False)
    trainer = Trainer(tiny_model(), args=args, train_dataset=rows, data_collator=tokenising)
    tokens = [TOKENIZER(text)["input_ids"] for text in rows["text"]]
    by_hand = lambda row: mean_of_targets(trainer, {"input_ids": tokens[row], "labels": tokens[row]})  # noqa: E731
    return trainer, by_hand, "perplexity_ratio"


def with_classes(options):
    rows = token_rows((5, 4)).map(lambda row, i: {"label": i % 3}, with_indices=True, remove_columns=["labels"])
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForSequenceClassification(LlamaConfig(vocab_size=320, num_labels=3, pad_token_id=1, **sizes))
    trainer = Trainer(
        model,
        args=TrainingArguments(**options()),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(TOKENIZER),
    )

    def by_hand(row):
        row = trainer.train_dataset[row]
        return -model(input_ids=torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)[row["label"]]

    return trainer, by_hand, "loss_ratio"


def with_an_encoder(options):
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    model = T5ForConditionalGeneration(T5Config(vocab_size=320, decoder_start_token_id=1, pad_token_id=1, **sizes))
    trainer = Trainer(
        model,
        args=TrainingArguments(**options()),
        train_dataset=token_rows((5, 4)),
        data_collator=DataCollatorForSeq2Seq(TOKENIZER),
    )

    def by_hand(row):
        row = trainer.train_dataset[row]
        targets = torch.tensor(row["labels"])
        shifted = torch.tensor([1, *(1 if label == -100 else label for label in row["labels"][:-1])])
        given = torch.tensor([row["input_ids"]])
        logits = model(input_ids=given, decoder_input_ids=shifted[None]).logits[0]
        return functional.cross_entropy(logits, targets)

    return trainer, by_hand, "perplexity_ratio"


def prompt_learning(config):
    def make(options):
        args = SFTConfig(**options(), gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True})
        trainer = SFTTrainer(
            tiny_model(),
            args=args,
            train_dataset=token_rows((5, 4)),
            processing_class=TOKENIZER,
            peft_config=config(task_type="CAUSAL_LM", num_virtual_tokens=3),
        )

        def by_hand(row):
            row = trainer.train_dataset[row]
            logits = trainer.model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
            logits = logits[-len(row["input_ids"]) :][:-1]
            return functional.cross_entropy(logits, torch.tensor(row["labels"][1:]))

        return trainer, by_hand, "perplexity_ratio"

    return make


SEEING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def with_images(options):
    tokenizer = byte_tokenizer(SEEING, special=("<|im_start|>", "<|im_end|>", "<image>"))
    eyes = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    made = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaProcessor(eyes, tokenizer, **made, chat_template=SEEING, image_token="<image>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = LlamaConfig(vocab_size=264, pad_token_id=1, eos_token_id=1, **sizes)
    vision = CLIPVisionConfig(image_size=16, patch_size=8, **sizes)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=2, vision_feature_layer=-1)
    colour = np.random.default_rng(0)
    rows = [
        {
            "images": [Image.fromarray(colour.integers(0, 256, (20, 20, 3), dtype=np.uint8))],
            "prompt": [{"role": "user", "content": f"what {i}"}],
            "completion": [{"role": "assistant", "content": f"thing {i * i}"}],
            "hbo_dataset": "ab"[i % 2],
            "hbo_level": i // 2 % 2,
        }
        for i in range(9)
    ]
    trainer = SFTTrainer(
        LlavaForConditionalGeneration(config),
        args=SFTConfig(**options(), gradient_checkpointing=False, max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=processor,
    )

    def by_hand(row):
        asked = f"<|im_start|>user\n{'<image>' * 4}what {row}<|im_end|>\n<|im_start|>assistant\n"
        said = f"thing {row * row}<|im_end|>\n"
        prompt, answer = (tokenizer(part)["input_ids"] for part in (asked, said))
        pixels = eyes(rows[row]["images"][0], return_tensors="pt")["pixel_values"]
        logits = trainer.model(input_ids=torch.tensor([prompt + answer]), pixel_values=pixels).logits[0]
        return functional.cross_entropy(logits[len(prompt) - 1 : -1], torch.tensor(answer))

    return trainer, by_hand, "perplexity_ratio"


OWN = {
    "images": with_images,
    "compute_loss_func": with_loss_function,
    "torch dataset": with_torch_rows,
    "tokens made in the collator": with_tokens_in_the_collator,
    "sequence classification": with_classes,
    "encoder and decoder": with_an_encoder,
    "prompt tuning": prompt_learning(PromptTuningConfig),
    "p-tuning": prompt_learning(lambda **both: PromptEncoderConfig(encoder_hidden_size=16, **both)),
    "prefix tuning": prompt_learning(PrefixTuningConfig),
}


@pytest.mark.parametrize("name", OWN)
def test_rewards_are_those_of_the_loss_that_is_trained_on(name, options):
    trainer, by_hand, local = OWN[name](options)
    callback = attach(trainer, **ALL_ROWS)
    assert callback.config.local_reward == local
    measured, expected = measured_and_expected(trainer, callback, by_hand)
    assert measured[0] == pytest.approx(expected[0], rel=1e-4)
    assert measured[1] == pytest.approx(expected[1], rel=1e-4)


@pytest.mark.parametrize("name", OWN)
def test_a_run_of_any_kind_is_balanced(name, options, tmp_path):
    trainer, _, local = OWN[name](lambda: options(max_steps=4))
    attach(trainer)
    trainer.train()
    lines = ledger(tmp_path / "out")
    assert [line["step"] for line in lines] == [0, 2, 4]
    assert all(before["global"] != after["global"] for before, after in itertools.pairwise(lines))
    has_losses = any("loss/a" in line for line in trainer.state.log_history)
    assert has_losses == (local == "perplexity_ratio" and name != "encoder and decoder")


@pytest.mark.parametrize("name", ["Reward", "torch dataset", "prompt tuning"])
def test_resume_is_bitwise(name, options, tokenizer, model_folder, tmp_path):
    def run(**more):
        train = options(save_strategy="steps", save_steps=3)
        if name in TRAINERS:
            trainer = TRAINERS[name][0](train, tokenizer, model_folder, preferences())
        else:
            trainer = OWN[name](lambda: train)[0]
        attach(trainer)
        trainer.train(**more)
        return weights(trainer), ledger(tmp_path / "out")

    whole = run()
    assert whole[1][-1]["global"] != whole[1][0]["global"]
    again = run(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert_same_weights(again[0], whole[0])
    assert again[1] == whole[1]


@pytest.mark.parametrize("name", ["CPO", "Reward"])
def test_measuring_leaves_no_trace_on_training_or_its_records(name, options, tokenizer, model_folder):
    found = []
    for method in ({"actor": {"learning_rate": 1e-300}}, {"method": "proportional"}):
        trainer = TRAINERS[name][0](options(logging_steps=2), tokenizer, model_folder, preferences())
        attach(trainer, **method)
        trainer.train()
        kept = lambda key: not key.startswith(("balance/", "loss/", "train_")) and key != "total_flos"  # noqa: E731
        lines = [
            {key: line[key] for key in sorted(line) if kept(key)}
            for line in trainer.state.log_history
            if "grad_norm" in line
        ]
        found.append((weights(trainer), lines))
    assert_same_weights(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


# What can't be measured


def online(options, tokenizer):
    args = OnlineDPOConfig(**options, max_new_tokens=4, gradient_checkpointing=False)
    longer = lambda prompts, completions, **_: [float(len(text)) for text in completions]  # noqa: E731
    rows = preferences().select_columns(["prompt", "hbo_dataset"])
    models = {"model": tiny_model(), "ref_model": tiny_model()}
    return OnlineDPOTrainer(**models, reward_funcs=longer, args=args, train_dataset=rows, processing_class=tokenizer)


def test_a_trainer_that_generates_what_it_trains_on_is_refused_by_name(options, tokenizer, model_folder):
    onto_itself = gkd(options(), tokenizer, model_folder, preferences())
    onto_itself.lmbda = 1.0
    with pytest.raises(ConfigError, match="GKDTrainer with lmbda 1 .* never trains on the completions in its rows"):
        HBOCallback(onto_itself)
    trainer = online(options(max_steps=2), tokenizer)
    with pytest.raises(ConfigError, match="OnlineDPOTrainer trains on completions that it generates .*choose a method"):
        HBOCallback(trainer)
    attach(trainer, method="uniform")  # which measures nothing
    trainer.train()
    assert trainer.state.global_step == 2


class Pairwise(Trainer):
    """Compares the rows of a batch with each other: a row alone has nothing to be compared with."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        state = model(input_ids=inputs["input_ids"]).logits[:, -1]
        return (state - state.mean(0)).square().mean()


class Broken(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(input_ids=inputs["input_ids"]).logits.mean() * inputs["weights"]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Pairwise, "Pairwise can't be measured: the loss of a single row is 0"),
        (Broken, r"Broken can't be measured: its loss of a single row ended in KeyError \('weights'\)"),
    ],
)
def test_a_loss_that_a_row_has_not_is_told_before_the_first_step(kind, says, options):
    collator = DataCollatorForSeq2Seq(TOKENIZER)
    trainer = kind(
        tiny_model(), args=TrainingArguments(**options()), train_dataset=token_rows(), data_collator=collator
    )
    attach(trainer)
    with pytest.raises(RewardError, match=says):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("balance", [{"rewards": "stream"}, {"local_reward": "ifd_ratio"}, {"method": "mos"}])
def test_what_needs_batches_of_tokens_is_refused_with_the_cause(balance, options):
    trainer, _, _ = with_torch_rows(options)
    with pytest.raises(ConfigError, match="Trainer is measured one row at a time, because its rows are a Rows"):
        attach(trainer, **balance)
