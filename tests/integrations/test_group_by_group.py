from datasets import Dataset

from hbo.integrations.group_by_group import group_by_group, sorted_by_group


def pairs(batch):
    """Packs two rows into one, and loses the last of an odd number."""
    values = batch["n"]
    return {"two": [values[i : i + 2] for i in range(0, len(values) - 1, 2)]}


def test_no_row_that_is_made_is_of_two_groups():
    rows = {"n": [1, 2, 3, 4, 5, 6, 7], "hbo_dataset": list("abababa"), "hbo_level": [0, 0, 0, 0, 1, 0, 1]}
    assert group_by_group(pairs, rows) == {
        "two": [[1, 3], [2, 4], [5, 7]],
        "hbo_dataset": ["a", "b", "a"],
        "hbo_level": [0, 0, 1],
    }


def test_rows_without_names_are_made_at_once_and_get_none():
    assert group_by_group(pairs, {"n": [1, 2, 3, 4]}) == {"two": [[1, 2], [3, 4]]}


def test_a_group_of_which_nothing_is_made_leaves_nothing():
    assert group_by_group(pairs, {"n": [1, 2, 3], "hbo_dataset": ["a", "b", "b"]}) == {
        "two": [[2, 3]],
        "hbo_dataset": ["b"],
    }
    assert group_by_group(lambda batch: {}, {"n": [1], "hbo_dataset": ["a"]}) == {"hbo_dataset": []}


def test_rows_of_a_group_come_one_after_the_other():
    rows = Dataset.from_dict({"n": [1, 2, 3, 4], "hbo_dataset": list("baba"), "hbo_level": [1, 0, 0, 0]})
    assert sorted_by_group(rows)["n"][:] == [2, 4, 3, 1]
