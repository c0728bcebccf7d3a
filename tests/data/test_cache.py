from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Features, Value

from hbo.data.cache import cache_root, stored_table
from hbo.errors import DataError

FEATURES = Features({"x": Value("int64")})


def tables(*values):
    yield pa.table({"x": pa.array(values, pa.int64())})


def test_the_root_is_the_environments_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("HBO_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("HBO_CACHE")
    assert cache_root() == Path.home() / ".cache" / "hbo"


def test_a_stored_table_is_written_once_and_memory_mapped(tmp_path):
    path = tmp_path / "key.arrow"
    first = stored_table(path, FEATURES, tables(1, 2))
    again = stored_table(path, FEATURES, tables(3))
    assert first.to_list() == again.to_list() == [{"x": 1}, {"x": 2}]
    assert again.cache_files == [{"filename": str(path)}]
    assert again._fingerprint == "key"


def test_a_failing_reader_leaves_no_table(tmp_path):
    def failing():
        yield from tables(1)
        raise DataError("line 2")

    with pytest.raises(DataError, match="line 2"):
        stored_table(tmp_path / "key.arrow", FEATURES, failing())
    assert not list(tmp_path.iterdir())


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "key.arrow"
    path.write_bytes(b"not arrow")
    with pytest.raises(DataError, match=r"key\.arrow: the cached rows can't be read .*delete the file"):
        stored_table(path, FEATURES, tables(1))
