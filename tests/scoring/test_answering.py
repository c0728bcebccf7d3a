import numpy as np
import torch

from hbo.data.tokens import IGNORED
from hbo.scoring.answering import Question, greedy_answers, likeliest_options, question_of

PROMPT = [{"role": "user", "content": "which?"}]
OPTIONS = ("A. a rather long one", "B. no", "C. it")


def test_the_targets_are_the_option_and_nothing_else(tokenizer):
    question = question_of(PROMPT, OPTIONS, tokenizer, "here")
    assert question.characters == (20, 5, 5)
    for (ids, labels), option in zip(question.rows, OPTIONS, strict=True):
        assert tokenizer.decode(labels[labels != IGNORED]) == option
        assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n" + option)


def test_a_tokenizer_without_a_template_gets_the_plain_rendering(tokenizer):
    tokenizer.chat_template = None
    ((ids, labels),) = question_of(PROMPT, ["yes"], tokenizer, "here").rows
    assert tokenizer.decode(ids) == "User: which?\n\nAssistant: yes"
    assert tokenizer.decode(labels[labels != IGNORED]) == "yes"


def test_the_option_with_the_highest_likelihood_per_character_is_chosen(llama, tokenizer):
    questions = [
        question_of([{"role": "user", "content": text}], OPTIONS, tokenizer, "here") for text in ("a", "which b")
    ]
    by_hand = []
    for question in questions:
        scores = []
        for (ids, labels), option in zip(question.rows, OPTIONS, strict=True):
            with torch.no_grad():
                log_p = llama(torch.tensor(ids)[None]).logits[0].double().log_softmax(-1)
            targets = np.flatnonzero(labels != IGNORED)
            scores.append(sum(float(log_p[t - 1, ids[t]]) for t in targets) / len(option))
        by_hand.append(int(np.argmax(scores)))
    assert likeliest_options(llama, questions, pad_token_id=0).tolist() == by_hand
    assert likeliest_options(llama, questions, pad_token_id=0, token_budget=1).tolist() == by_hand


def test_length_counts_per_character_not_per_token(llama, tokenizer):
    question = question_of(PROMPT, OPTIONS, tokenizer, "here")
    stretched = [Question(question.rows, tuple(10**6 if i == k else 1 for i in range(3))) for k in range(3)]
    assert likeliest_options(llama, stretched, pad_token_id=0).tolist() == [0, 1, 2]


def test_nothing_is_chosen_where_no_likelihood_is_a_number(llama, tokenizer):
    question = question_of(PROMPT, OPTIONS, tokenizer, "here")
    with torch.no_grad():
        llama.lm_head.weight.fill_(float("nan"))
    assert likeliest_options(llama, [question], pad_token_id=0).tolist() == [-1]
    assert likeliest_options(llama, [], pad_token_id=0).tolist() == []


def rows_of(mixed):
    return [(np.array(row["input_ids"]), np.array(row["labels"])) for row in mixed]


def test_answers_are_those_of_a_loop_over_one_row_at_a_time(llama, tokenizer, mixed):
    rows = [row for row in rows_of(mixed) if (row[1] != IGNORED).any() and row[1][0] == IGNORED][:4]
    found = greedy_answers(llama, rows, tokenizer)
    for (ids, labels), answer in zip(rows, found, strict=True):
        first = int(np.flatnonzero(labels != IGNORED)[0])
        written = ids[:first].tolist()
        most = max(int((labels != IGNORED).sum()) for _, labels in rows) + 4
        for _ in range(most):
            with torch.no_grad():
                written.append(int(llama(torch.tensor([written])).logits[0, -1].argmax()))
            if written[-1] == tokenizer.eos_token_id:
                break
        assert answer == tokenizer.decode(written[first:], skip_special_tokens=True)


def test_the_models_mode_and_the_random_state_are_left_alone(llama, tokenizer, mixed):
    llama.train()
    before = torch.get_rng_state()
    greedy_answers(llama, rows_of(mixed)[:2], tokenizer)
    assert llama.training
    assert torch.equal(torch.get_rng_state(), before)
