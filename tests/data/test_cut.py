from datasets import Dataset

from hbo.data.trainable import cut_rows

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
