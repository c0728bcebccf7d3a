import copy

import pyarrow as pa
import pytest
import torch
from datasets import Dataset, concatenate_datasets

from hbo.scoring.fingerprint import content_fingerprint, model_fingerprint

COLUMNS = ["ids", "name", "turns", "share"]


def rows(change=None):
    made = [
        {"ids": [i, i + 1], "name": f"n{i}", "turns": [{"role": "user", "content": "a"}], "share": i / 7}
        for i in range(30)
    ]
    if change:
        made[17] |= change
    return made


def fingerprint(made):
    return content_fingerprint(Dataset.from_list(made), COLUMNS)


def test_the_same_content_has_one_fingerprint_wherever_it_lies(tmp_path):
    whole = Dataset.from_list(rows())
    expected = content_fingerprint(whole, COLUMNS)
    chunked = concatenate_datasets([whole.select(range(7)), whole.select(range(7, 30))])
    whole.save_to_disk(tmp_path / "rows")
    narrow = pa.schema(
        [
            ("ids", pa.list_(pa.int32())),
            ("name", pa.large_string()),
            *[pa.field(n, whole.data.schema.field(n).type) for n in COLUMNS[2:]],
        ]
    )
    for same in (
        chunked,
        whole.select(range(29, -1, -1)).select(range(29, -1, -1)),
        Dataset.load_from_disk(tmp_path / "rows"),
        Dataset(whole.data.table.cast(narrow.with_metadata(None))),
        whole.add_column("other", list(range(30))),
    ):
        assert content_fingerprint(same, COLUMNS) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"ids": [17, 19]},
        {"ids": [17]},
        {"ids": None},
        {"name": "m17"},
        {"name": None},
        {"turns": [{"role": "user", "content": "b"}]},
        {"turns": []},
        {"share": 0.1},
    ],
)
def test_any_change_of_content_changes_the_fingerprint(change):
    assert fingerprint(rows(change)) != fingerprint(rows())


def test_what_moves_from_row_to_row_changes_the_fingerprint():
    apart = [{"ids": [1], "name": "ab"}, {"ids": [2, 3], "name": "c"}]
    moved = [{"ids": [1, 2], "name": "a"}, {"ids": [3], "name": "bc"}]
    for column in ("ids", "name"):
        assert content_fingerprint(Dataset.from_list(apart), [column]) != content_fingerprint(
            Dataset.from_list(moved), [column]
        )


def test_order_and_columns_count():
    data = Dataset.from_list(rows())
    assert content_fingerprint(data.select(range(29, -1, -1)), COLUMNS) != content_fingerprint(data, COLUMNS)
    assert content_fingerprint(data, ["ids"]) != content_fingerprint(data, COLUMNS)
    assert content_fingerprint(data.select([]), ["ids"]) == content_fingerprint(data.select([]), ["ids"])


def test_a_model_and_its_copy_have_one_fingerprint(llama):
    assert model_fingerprint(copy.deepcopy(llama)) == model_fingerprint(llama)
    assert model_fingerprint(torch.nn.ModuleList([llama])) == model_fingerprint(llama)  # as a wrapper would hold it


def test_one_bit_of_one_weight_changes_the_fingerprint(llama):
    before = model_fingerprint(llama)
    with torch.no_grad():
        llama.model.norm.weight[3] = torch.nextafter(llama.model.norm.weight[3], torch.tensor(9.0))
    assert model_fingerprint(llama) != before


def test_precision_and_rotary_frequencies_count(llama):
    before = model_fingerprint(llama)
    assert model_fingerprint(copy.deepcopy(llama).bfloat16()) != before
    llama.model.rotary_emb.inv_freq *= 2
    assert model_fingerprint(llama) != before


def test_scalars_and_empty_parameters_are_hashed():
    module = torch.nn.Module()
    module.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.bfloat16))
    module.nothing = torch.nn.Parameter(torch.empty(0, 3))
    assert len(model_fingerprint(module)) == 32
