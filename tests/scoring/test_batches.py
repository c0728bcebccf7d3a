import numpy as np
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from hbo.scoring.batches import lengths, pack, pad, reader

ROWS = [{"input_ids": list(range(1, n + 1)), "labels": [-100] * n} for n in (3, 0, 5, 5)]


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 200), st.data())
def test_every_wanted_row_is_in_one_batch_within_the_budget(length_N, budget, data):
    length_N = np.array(length_N, dtype=np.int64)
    wanted = np.array([i for i in range(len(length_N)) if data.draw(st.booleans())], dtype=np.int64)
    packed = list(pack(length_N, wanted, budget))
    assert sorted(np.concatenate([[], *packed]).tolist()) == wanted.tolist()
    assert all(len(rows_B) == 1 or len(rows_B) * length_N[rows_B].max() <= budget for rows_B in packed)
    longest = [length_N[rows_B].max() for rows_B in packed]
    assert longest == sorted(longest, reverse=True)


def test_rows_of_a_dataset_and_of_a_list_are_read_alike():
    data = Dataset.from_list([*ROWS[::-1], {"input_ids": [9], "labels": [9]}]).select([3, 2, 1, 0])
    for rows in (ROWS, data):
        assert lengths(rows).tolist() == [3, 0, 5, 5]
        for wanted in ([2, 0], [2, 3], [1]):
            found = reader(rows)(np.array(wanted))
            assert [ids.tolist() for ids, _ in found] == [ROWS[i]["input_ids"] for i in wanted]
            assert [labels.tolist() for _, labels in found] == [ROWS[i]["labels"] for i in wanted]


def test_padding_is_masked_and_no_target():
    batch = pad([(np.array([5, 6]), np.array([-100, 6])), (np.array([7]), np.array([7]))], pad_token_id=1)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[-100, 6], [7, -100]]
