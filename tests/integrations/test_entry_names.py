"""Promises about what the entries of a trainer's list of datasets are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbo.integrations.entry_names import entry_names


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"path": "data/math.jsonl"}, "math"),
        ({"path": "org/gsm8k"}, "gsm8k"),
        ({"path": "org/gsm8k", "name": "main"}, "main"),
        ({"path": "data/math.jsonl", "name": None}, "math"),
        ({"path": "org/much", "data_files": "part/two.jsonl.zst"}, "two"),
        ({"path": "org/much", "data_files": ["a.jsonl", "b.jsonl"]}, "much"),
    ],
)
def test_an_entry_is_called_as_the_user_would(entry, name):
    assert entry_names([entry]) == [name]


def test_entries_that_are_alike_stay_apart():
    same = {"path": "math.jsonl"}
    assert entry_names([same, {"path": "chat.jsonl"}, same]) == ["math-1", "chat", "math-3"]
    assert entry_names([{"name": "a-2"}, {"name": "a"}, {"name": "a"}]) == ["a-2", "a-2-2", "a-3"]


@given(st.lists(st.sampled_from(["a", "a-1", "a-2", "a-2-2", "a-3", "b"]), max_size=7))
def test_no_two_names_are_alike(given_names):
    found = entry_names([{"name": name} for name in given_names])
    assert len(set(found)) == len(given_names)
    assert all(own == name for own, name in zip(found, given_names, strict=True) if given_names.count(name) == 1)
