"""Rows without tokens to train on: which, why, and what is left."""

import pytest
from byte_models import STRICT
from datasets import Dataset

from hbo.data.tokens import tokenize
from hbo.data.trainable import cut_rows, refuse_empty, without_unusable
from hbo.errors import DataError

ROWS = {
    "input_ids": [[1, 2, 3, 4], [5, 6], [7, 8, 9]],
    "labels": [[-100, -100, 3, 4], [-100, 6], [-100, 8, 9]],
    "hbo_dataset": ["a", "a", "b"],
}


def test_longer_rows_keep_their_start_and_are_counted(cache):
    cut, longer = cut_rows(Dataset.from_dict(ROWS), 2)
    assert cut["input_ids"][:] == [[1, 2], [5, 6], [7, 8]]
    assert cut["labels"][:] == [[-100, -100], [-100, 6], [-100, 8]]
    assert cut["hbo_dataset"][:] == ["a", "a", "b"]
    assert longer == {"a": 1, "b": 1}


def test_rows_that_fit_are_left_as_they_are(cache):
    data = Dataset.from_dict(ROWS)
    for positions in (4, None):
        assert cut_rows(data, positions) == (data, {})
    assert not cache.exists()


def test_chosen_rows_are_cut_as_they_were_chosen(cache):
    chosen = Dataset.from_dict(ROWS).select([2, 0])
    assert cut_rows(chosen, 3)[0]["input_ids"][:] == [[7, 8, 9], [1, 2, 3]]


def test_rows_may_keep_their_end_whose_first_token_is_no_target(cache):
    cut, longer = cut_rows(Dataset.from_dict(ROWS), 2, keep_end=True)
    assert cut["input_ids"][:] == [[3, 4], [5, 6], [8, 9]]
    assert cut["labels"][:] == [[-100, 4], [-100, 6], [-100, 9]]
    assert longer == {"a": 1, "b": 1}


REFUSED = "the tokenizer's chat template refuses the conversation (Conversation roles must alternate)"


def user(text):
    return {"role": "user", "content": text}


def rows(*prompts):
    return Dataset.from_list(
        [
            {"prompt": prompt, "completion": [{"role": "assistant", "content": "a"}], "hbo_dataset": "d", "hbo_row": 10 + i}
            for i, prompt in enumerate(prompts)
        ]
    )  # fmt: skip


TWICE, LONG, SHORT = [user("q"), user("r")], [user("q" * 90)], [user("q")]


def test_every_row_that_is_lost_has_its_reason(make_tokenizer):
    tokens = tokenize(rows(LONG, TWICE, SHORT, LONG, TWICE), make_tokenizer(STRICT), max_length=40, lenient={"d"})
    kept, lost = without_unusable(tokens, 40)
    assert kept["hbo_row"][:] == [12]
    assert lost == {"d": {REFUSED: (2, "row 11"), "no response token is left within max_length 40": (2, "row 10")}}


def test_rows_that_can_all_be_used_are_left_as_they_are(make_tokenizer):
    tokens = tokenize(rows(SHORT), make_tokenizer(STRICT))
    assert without_unusable(tokens, 1024) == (tokens, {})


def test_a_dataset_of_which_nothing_is_left_is_refused_with_all_reasons():
    lost = {"d": {REFUSED: (2, "row 11"), "no response token is left within max_length 5": (3, "row 0")}}
    refuse_empty(["e"], {"e": 1}, lost)
    with pytest.raises(DataError) as caught:
        refuse_empty(["d"], {"d": 0}, lost)
    assert str(caught.value) == (
        "dataset 'd': none of its 5 rows to train on can be used: 3 as no response token is left within max_length 5 (the "
        f"first: row 0); 2 as {REFUSED} (the first: row 11); change the rows, raise max_length if that is why, or leave "
        "the dataset out"
    )
