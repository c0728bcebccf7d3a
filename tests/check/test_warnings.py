"""What hbo check says of sizes: small groups, steps of an epoch, passes."""

import pytest

from hbo.check.warnings import size_warnings
from hbo.config.file import parse


def notes(sizes, passes=None, **sections):
    run = parse({"model": "m", "mixture": {"datasets": {name: f"{name}.jsonl" for name in sizes}}, **sections})
    return list(size_warnings(run, sizes, passes or {}))


def told(sizes, passes=None, **sections):
    return [note.text for note in notes(sizes, passes, **sections)]


@pytest.mark.parametrize(
    ("size", "sections", "fragments"),
    [
        (22, {}, ["groups g1 to g4 has 5 to 6 rows", "fewer than the 8 probes", "balance.probes to 11", "groups to 1"]),
        (40, {"balance": {"method": "uniform"}}, ["has 10 rows", "difficulty.groups to 2 or less"]),
        (20, {"difficulty": {"groups": 1}}, ["its group has 20 rows", "balance.probes to 10"]),
    ],
)
def test_a_small_group_is_named_with_what_to_change(size, sections, fragments):
    (line,) = told({"a": 4096, "b": size}, **sections)
    assert line.startswith("dataset 'b': ")
    for fragment in fragments:
        assert fragment in line


@pytest.mark.parametrize("sections", [{"balance": {"method": "uniform"}}, {"balance": {"rewards": "stream"}}])
def test_nothing_is_said_of_probes_where_there_are_none(sections):
    assert told({"a": 80}, **sections) == []


def test_over_repetition_is_told_and_an_ordinary_three_epochs_are_not():
    (line,) = told({"a": 1024, "b": 1024}, passes={"a": 3.02, "b": 9.0})
    assert line.startswith("dataset 'b': each row is expected to be seen 9.0 times")


def test_what_befalls_a_small_part_of_the_mixture_is_a_note():
    assert [note.is_warning for note in notes({"a": 4096, "b": 22})] == [False]
    assert [note.is_warning for note in notes({"a": 96, "b": 22})] == [True]
