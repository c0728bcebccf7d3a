import numpy as np
import pytest
import torch
from datasets import Dataset

from hbo.errors import DataError
from hbo.training.groups import groups_of
from hbo.training.trainer_rows import labelled, row_lengths


class Items(torch.utils.data.Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        return self.items[number]


def test_a_table_is_itself():
    rows = Dataset.from_list([{"hbo_dataset": "a"}])
    assert labelled(rows) is rows


def test_items_say_their_dataset_level_and_length():
    items = [
        {"hbo_dataset": "b", "hbo_level": torch.tensor(1), "input_ids": torch.arange(5)},
        {"hbo_dataset": "a", "hbo_level": np.int64(0), "input_ids": [1, 2]},
        {"hbo_dataset": "b", "hbo_level": 0, "input_ids": []},
    ]
    groups = groups_of(labelled(Items(items)))
    assert groups.datasets == ("b", "a")
    assert groups.sizes_KL.tolist() == [[1, 1], [1, 0]]
    assert groups.length_N.tolist() == [5, 2, 0]
    few = groups_of(labelled([{"hbo_dataset": "a", "text": "no tokens"}, {"hbo_dataset": "b"}]))  # a list is one too
    assert few.length_N is None
    assert few.levels == 1


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([{"text": "x"}], r"row 0 of the training rows \(Items\) has no entry hbo_dataset; let each item be a mapping"),
        ([{"hbo_dataset": "a", "hbo_level": 0}, {"hbo_dataset": "a"}], "row 1 .* has no entry hbo_level"),
        ([("a", 1)], "row 0 .* is a tuple; let each item be a mapping"),
        ([], "are empty"),
    ],
)
def test_an_item_that_does_not_say_where_it_belongs_is_named(items, says):
    with pytest.raises(DataError, match=says):
        labelled(Items(items))


def test_a_stream_is_refused():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from ()

    for rows in (Stream(), Dataset.from_list([{"a": 1}]).to_iterable_dataset()):
        with pytest.raises(
            DataError, match="HBO draws rows by their number, which isn't possible with .*streaming=False"
        ):
            labelled(rows)


@pytest.mark.parametrize(
    ("row", "length"),
    [
        ({"input_ids": [1, 2, 3]}, 3),
        ({"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}, 7),
        ({"prompt_ids": [1], "chosen_ids": [3], "rejected_ids": [4], "reference_ids": [5, 6]}, 7),
        ({"prompt_ids": [1, 2], "completion_ids": [3], "KL_completion_ids": [4, 5]}, 7),
        ({"prompt_ids": [1, 2], "completion_ids": [3]}, 3),
        ({"chosen_ids": [3, 1], "rejected_ids": [4]}, 3),
        ({"chosen_input_ids": [3, 1], "rejected_input_ids": [4], "chosen_labels": [4]}, 3),
    ],
)
def test_the_length_of_a_row_counts_each_token_as_often_as_it_is_run(row, length):
    assert row_lengths(Dataset.from_list([row])).tolist() == [length]


def test_rows_without_tokens_have_no_length():
    assert row_lengths(Dataset.from_list([{"text": "x"}])) is None
