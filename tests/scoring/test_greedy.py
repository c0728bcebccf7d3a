import numpy as np
import torch

from hbo.data.tokens import IGNORED
from hbo.scoring.answering import greedy_answers


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
