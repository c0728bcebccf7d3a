import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, padded, tiny
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

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


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_examples_of_a_packed_row_see_themselves_only(family):
    model = tiny(family).eval()
    batch = padded((20, 3, 11, 7))
    real = batch["attention_mask"].bool()
    row = {name: batch[name][real].tolist() for name in ("input_ids", "labels")}
    flat = DataCollatorForLanguageModeling(pad_token_id=3, padding_free=True)([row | {"seq_lengths": [20, 3, 11, 7]}])
    with torch.no_grad():
        together = model(**flat, use_cache=False).logits[0]
        alone = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    torch.testing.assert_close(together, alone[real], rtol=1e-4, atol=1e-5)
