"""A run's folder → the model card that lies beside the weights, as the Hugging Face Hub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import ModelCardData

from hbo import __version__
from hbo.folder.metrics import Accuracy, Metrics
from hbo.folder.run import Run
from hbo.report.chance import is_chance
from hbo.report.helped import Answers, answers_of
from hbo.text import counted, one_line

PAPER = "https://arxiv.org/abs/2505.12300"

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MARKS = re.compile(r"[\\`*_\[\]<>|#~&]")
_SHARES = ("dataset", "rows", "share at the start", "share at the end", "of its groups, easiest first")
_LOSSES = ("dataset", "NLL before", "NLL after", "rows", "right before", "right after", "chance")
_READING = (
    "Mean negative log-likelihood per token of responses that weren't trained on, in nats (NLL), before and after "
    "training; and how many answers were right, where a dataset has such. Within chance: Fisher's exact test on the "
    "two counts gives p > 0.05."
)
_PROMPTS = (
    "The base model's tokenizer had no chat template. The one here has that of the training, so that "
    "`tokenizer.apply_chat_template(messages, add_generation_prompt=True)` makes prompts of this form:"
)
_CITATION = """\
@article{wang2025hbo,
  title   = {HBO: Hierarchical Balancing Optimization for Fine-Tuning Large Language Models},
  author  = {Wang, Weixuan and Wu, Minghao and Haddow, Barry and Birch, Alexandra},
  journal = {arXiv preprint arXiv:2505.12300},
  year    = {2025}
}"""


def model_card(run: Run, *, is_adapter: bool, prompt: str | None = None) -> str:
    """The whole of the card: what the model was tuned on, how the mixture was balanced, and how well it then did.

    Args:
        run: A finished run.
        is_adapter: Whether the weights are an adapter for PEFT.
        prompt: An example of one, where the base model's tokenizer had no chat template.
    """
    data = ModelCardData(
        library_name="peft" if is_adapter else "transformers",
        # Only what the Hub could know: a folder of this machine is nobody else's.
        base_model=run.model if _HUB_NAME.fullmatch(run.model) and not Path(run.model).exists() else None,
        pipeline_tag="text-generation",
        tags=["hbo", "sft", "trl", *(["lora"] if is_adapter else [])],
    )
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {plain(run.model_name)}, fine-tuned on {counted(len(run.datasets), 'dataset')}\n",
        f"Trained with hbo {__version__}: method `{run.method}`, {run.steps} steps, "
        f"seed {run.seed}. {_balanced(run)}\n",
        "## The mixture\n",
        *_table(_SHARES, _shares(run)),
    ]
    if run.metrics and run.metrics.after:
        parts += ["", "## Held-out rows\n", _READING, "", *_table(_LOSSES, _held_out(run.metrics))]
    if prompt is not None:
        fence = "`" * 3
        parts += ["", "## Prompts\n", _PROMPTS, "", f"{fence}text", prompt, fence]
    parts += ["", "## Citation\n", f"The method is that of [this paper]({PAPER}).\n", f"```bibtex\n{_CITATION}\n```"]
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """`text` as Markdown shows it letter by letter, on one line.

    Example:
        >>> print(plain("a|b *c*"))
        a\\|b \\*c\\*
    """
    return _MARKS.sub(r"\\\g<0>", one_line(text))


def _balanced(run: Run) -> str:
    updates = len(run.lines) - 1
    if not updates:
        return "Rows were drawn with the same probabilities from start to end."
    times = counted(updates, "time")
    return f"How much of each dataset, and of each difficulty group inside it, came next was decided anew {times}."


def _shares(run: Run) -> Iterator[list[str]]:
    first, last = run.lines[0], run.lines[-1]
    sizes = run.metrics.sizes if run.metrics else {}
    for k, name in enumerate(run.datasets):
        rows = str(sum(sizes[name])) if name in sizes else ""
        groups = ", ".join(f"{100 * q:.1f}%" for q in last.q_KL[k])
        yield [plain(name), rows, f"{100 * first.p_K[k]:.1f}%", f"{100 * last.p_K[k]:.1f}%", groups]


def _held_out(metrics: Metrics) -> Iterator[list[str]]:
    counted_answers = answers_of(metrics)
    for name, after in metrics.after.items():
        before, counts = metrics.before.get(name), counted_answers.get(name)
        shown = [f"{before.nll:.3f}" if before else "", f"{after.nll:.3f}", str(after.n)]
        right = [_count(metrics.right_before.get(name)), _count(metrics.right.get(name))]
        yield [plain(name), *shown, *right, _chance(counts)]
    if metrics.macro_nll is not None:
        start = metrics.macro_before
        yield ["mean", "" if start is None else f"{start:.3f}", f"{metrics.macro_nll:.3f}", "", "", "", ""]


def _count(found: Accuracy | None) -> str:
    return f"{found.right} of {found.n}" if found else ""


def _chance(counts: Answers | None) -> str:
    if counts is None:
        return ""
    if counts.before == counts.after:
        return "unchanged"
    return "within chance" if is_chance(*counts) else "more than chance"


def _table(head: Sequence[str], rows: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
