import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hbo.scoring.scores import Quantiles, Scores, quantiles, score_table

NAN = math.nan


def scores(loss, alone, tokens=None, **options):
    tokens = [3] * len(loss) if tokens is None else tokens
    return Scores(np.array(loss), np.array(alone), np.array(tokens), **options)


def test_ifd_is_the_ratio_of_perplexities():
    found = scores([1.0, 2.0, NAN], [2.0, 1.5, NAN])
    np.testing.assert_allclose(found.ifd_N, [math.exp(1) / math.exp(2), math.exp(2) / math.exp(1.5), NAN])
    np.testing.assert_allclose(found.perplexity_N, np.exp([1.0, 2.0, NAN]))
    np.testing.assert_allclose(found.perplexity_alone_N, np.exp([2.0, 1.5, NAN]))


def test_the_ratio_of_losses_is_the_option():
    found = scores([1.0, 0.0, 0.3], [2.0, 1.0, 0.0], ifd="loss_ratio").ifd_N
    np.testing.assert_array_equal(found, [0.5, 0.0, NAN])  # nothing can be compared with a loss of 0


def test_perplexities_that_overflow_still_have_an_ifd():
    found = scores([800.0, 900.0, 5000.0], [801.0, 899.0, 1.0])
    np.testing.assert_allclose(found.ifd_N[:2], np.exp([-1.0, 1.0]))
    for values in (found.ifd_N, found.perplexity_N, found.perplexity_alone_N):
        assert np.isfinite(values).all()
    assert found.perplexity_N[0] > 1e308


@pytest.fixture
def data():
    return Dataset.from_dict({"hbo_dataset": ["a", "b", "a", "a"], "hbo_row": [0, 0, 5, 7], "text": list("wxyz")})


def test_the_table_has_the_promised_columns_and_null_for_no_score(data, tmp_path):
    table = score_table(data, scores([1.0, 2.0, NAN, 0.0], [2.0, NAN, NAN, 0.0], [4, 5, 0, 1]))
    pq.write_table(table, tmp_path / "scores.parquet")
    table = pq.read_table(tmp_path / "scores.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        "dataset": "string", "row": "int64", "ifd": "double", "perplexity": "double", "perplexity_alone": "double",
        "loss": "double", "tokens": "int64",
    }  # fmt: skip
    assert table["dataset"].to_pylist() == ["a", "b", "a", "a"]
    assert table["row"].to_pylist() == [0, 0, 5, 7]
    assert table["ifd"].to_pylist() == pytest.approx([math.exp(-1), None, None, 1.0])
    assert table["perplexity"].to_pylist() == pytest.approx([math.exp(1), math.exp(2), None, 1.0])
    assert table["loss"].to_pylist() == [1.0, 2.0, None, 0.0]
    assert table["tokens"].to_pylist() == [4, 5, 0, 1]


def test_the_table_follows_a_selection_of_rows(data):
    chosen = data.select([3, 1])
    table = score_table(chosen, scores([1.0, 2.0], [1.0, 2.0]))
    assert list(zip(table["dataset"].to_pylist(), table["row"].to_pylist(), strict=True)) == [("a", 7), ("b", 0)]


def test_quantiles_per_dataset_in_order_of_appearance():
    ifd = {"b": [0.1, 0.2, 0.3, 1.0, None], "a": [None]}
    table = pa.table(
        {
            "dataset": [name for name, values in ifd.items() for _ in values],
            "ifd": pa.array([value for values in ifd.values() for value in values], pa.float64()),
            "loss": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        }
    )
    first, second = quantiles(table)
    assert (first.dataset, first.n, first.scored, first.suspect) == ("b", 5, 4, 0.25)
    np.testing.assert_allclose([first.min, first.q25, first.q50, first.q75, first.max], [0.1, 0.175, 0.25, 0.475, 1.0])
    assert (second.dataset, second.n, second.scored) == ("a", 1, 0)
    assert math.isnan(second.q50) and math.isnan(second.suspect)
    first, second = quantiles(table, "loss")
    assert first == Quantiles("b", 5, 5, 1.0, 2.0, 3.0, 4.0, 5.0, suspect=0.25)
    assert (second.scored, second.q50) == (1, 6.0)
