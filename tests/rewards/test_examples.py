import numpy as np
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hbo.rewards.examples import PackedExamples, example_counts
from hbo.scoring.batches import lengths, reader

LENGTHS = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=6)


def packed_rows(lengths_of):
    """Rows whose tokens count through all of them."""
    rows, at = [], 0
    for parts in lengths_of:
        ids = list(range(at, at := at + sum(parts)))
        reference = [float(part) for part in parts]
        rows.append({"input_ids": ids, "labels": [-i for i in ids], "seq_lengths": parts, "hbo_reference": reference})
    return Dataset.from_list(rows)


@settings(deadline=None, max_examples=40)
@given(LENGTHS)
def test_examples_are_the_parts_of_the_rows_in_order(lengths_of):
    examples = PackedExamples(packed_rows(lengths_of))
    parts = [part for row in lengths_of for part in row]
    assert [len(example["input_ids"]) for example in examples] == parts
    assert [example["hbo_reference"] for example in examples] == parts
    assert np.concatenate([example["input_ids"] for example in examples]).tolist() == list(range(sum(parts)))
    assert lengths(examples).tolist() == parts
    last = len(parts) - 1
    ((ids, labels),) = reader(examples)(np.array([last]))
    assert ids.tolist() == examples[last]["input_ids"].tolist()
    assert labels.tolist() == (-ids).tolist()


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.data())
def test_the_examples_of_rows_are_those_whose_place_is_in_them(lengths_of, data):
    rows = packed_rows(lengths_of)
    examples = PackedExamples(rows)
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)))), dtype=np.int64)
    places = [examples.place(number) for number in range(len(examples))]
    wanted = [number for number, (row, _) in enumerate(places) if row in chosen]
    assert examples.of_rows(chosen).tolist() == wanted
    assert places == [(row, part) for row, parts in enumerate(lengths_of) for part in range(len(parts))]


def test_rows_that_are_not_packed_have_no_counts():
    assert example_counts(Dataset.from_list([{"input_ids": [1]}])) is None
    assert example_counts(packed_rows([[1, 2], [3]])).tolist() == [2, 1]
