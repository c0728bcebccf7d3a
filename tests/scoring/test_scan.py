import numpy as np

from hbo.scoring.tokenized import Scan


def test_a_scan_counts_what_python_counts(mixed):
    scan = Scan.of(mixed)
    assert scan.length_N.tolist() == [len(row["input_ids"]) for row in mixed]
    assert scan.target_N.tolist() == [sum(label != -100 for label in row["labels"][1:]) for row in mixed]
    assert scan.has_instruction_N.tolist() == [True, True, False, False, True, True]
    assert scan.largest_id == max(max(row["input_ids"]) for row in mixed)
    assert scan.target_N[4] == 0


def test_a_label_on_the_first_token_is_no_target(mixed):
    labels = [[7, 7], [7], [], [-100, 7], [-100, -100], [7, -100]]
    ids = [[7] * len(row) for row in labels]
    columns = mixed.remove_columns(["input_ids", "labels"]).add_column("input_ids", ids).add_column("labels", labels)
    assert Scan.of(columns).target_N.tolist() == [1, 0, 0, 1, 0, 0]


def test_a_selection_is_scanned_in_its_order(mixed):
    whole, some = Scan.of(mixed), Scan.of(mixed.select([5, 1]))
    np.testing.assert_array_equal(some.target_N, whole.target_N[[5, 1]])
    assert len(Scan.of(mixed.select([])).length_N) == 0
