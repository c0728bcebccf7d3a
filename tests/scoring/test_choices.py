import numpy as np
import torch

from hbo.data.tokens import IGNORED
from hbo.scoring.answering import Question, chosen, encode

PROMPT = [{"role": "user", "content": "which?"}]
OPTIONS = ("A. a rather long one", "B. no", "C. it")


def test_the_targets_are_the_option_and_nothing_else(tokenizer):
    question = encode(PROMPT, OPTIONS, tokenizer, "here")
    assert question.characters == (20, 5, 5)
    for (ids, labels), option in zip(question.rows, OPTIONS, strict=True):
        assert tokenizer.decode(labels[labels != IGNORED]) == option
        assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n" + option)


def test_a_tokenizer_without_a_template_gets_the_plain_rendering(tokenizer):
    tokenizer.chat_template = None
    ((ids, labels),) = encode(PROMPT, ["yes"], tokenizer, "here").rows
    assert tokenizer.decode(ids) == "User: which?\n\nAssistant: yes"
    assert tokenizer.decode(labels[labels != IGNORED]) == "yes"


def test_the_option_with_the_highest_likelihood_per_character_is_chosen(llama, tokenizer):
    questions = [encode([{"role": "user", "content": text}], OPTIONS, tokenizer, "here") for text in ("a", "which b")]
    by_hand = []
    for question in questions:
        scores = []
        for (ids, labels), option in zip(question.rows, OPTIONS, strict=True):
            with torch.no_grad():
                log_p = llama(torch.tensor(ids)[None]).logits[0].double().log_softmax(-1)
            targets = np.flatnonzero(labels != IGNORED)
            scores.append(sum(float(log_p[t - 1, ids[t]]) for t in targets) / len(option))
        by_hand.append(int(np.argmax(scores)))
    assert chosen(llama, questions, pad_token_id=0).tolist() == by_hand
    assert chosen(llama, questions, pad_token_id=0, token_budget=1).tolist() == by_hand


def test_length_counts_per_character_not_per_token(llama, tokenizer):
    question = encode(PROMPT, OPTIONS, tokenizer, "here")
    stretched = [Question(question.rows, tuple(10**6 if i == k else 1 for i in range(3))) for k in range(3)]
    assert chosen(llama, stretched, pad_token_id=0).tolist() == [0, 1, 2]


def test_nothing_is_chosen_where_no_likelihood_is_a_number(llama, tokenizer):
    question = encode(PROMPT, OPTIONS, tokenizer, "here")
    with torch.no_grad():
        llama.lm_head.weight.fill_(float("nan"))
    assert chosen(llama, [question], pad_token_id=0).tolist() == [-1]
    assert chosen(llama, [], pad_token_id=0).tolist() == []
