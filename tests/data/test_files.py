import bz2
import gzip
import json
import lzma
from functools import partial

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbo.data import files
from hbo.data.files import read_file
from hbo.errors import DataError

ROWS = [{"prompt": "q", "completion": "ä"}, {"prompt": "two\nlines", "completion": "☃"}]
zstd = partial(pa.compress, codec="zstd", asbytes=True)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def rows(path):
    return [row for row, _ in read_file(path)]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.jsonl", bytes),
        ("a.json", bytes),
        ("A.JSONL", bytes),
        ("a.jsonl.gz", gzip.compress),
        ("a.json.gz", gzip.compress),
        ("a.jsonl.zst", zstd),
        ("a.ndjson.bz2", bz2.compress),
        ("a.jsonl.xz", lzma.compress),
    ],
)
def test_json_lines_are_read_packed_or_not(tmp_path, name, pack):
    assert rows(write(tmp_path, name, pack(LINES))) == ROWS


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_members_packed_one_after_another_are_all_read(tmp_path, pack):
    suffix = "gz" if pack is gzip.compress else "zst"
    assert rows(write(tmp_path, f"a.jsonl.{suffix}", pack(LINES) + pack(b"") + pack(LINES))) == ROWS * 2


def test_blank_lines_and_a_byte_order_mark_are_no_rows_but_count_as_lines(tmp_path):
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf\r\n{"a": 1}\r\n  \n{"a": 2}')
    assert list(read_file(path)) == [({"a": 1}, f"{path}, line 2"), ({"a": 2}, f"{path}, line 4")]


def test_a_json_list_is_read(tmp_path):
    path = write(tmp_path, "a.json", b"\n " + json.dumps(ROWS, indent=1).encode())
    assert list(read_file(path)) == [(ROWS[0], f"{path}, item 0"), (ROWS[1], f"{path}, item 1")]


def test_csv_is_read_with_quoted_line_breaks(tmp_path):
    path = write(tmp_path, "a.csv", '\ufeffprompt,completion\r\n"a, b","two\nlines"\r\n\r\nq,☃\r\n'.encode())
    assert list(read_file(path)) == [
        ({"prompt": "a, b", "completion": "two\nlines"}, f"{path}, line 3"),
        ({"prompt": "q", "completion": "☃"}, f"{path}, line 5"),
    ]


def test_csv_takes_long_cells(tmp_path):
    assert rows(write(tmp_path, "a.csv", b"text\n" + b"x" * 200_000))[0]["text"] == "x" * 200_000


def test_tabs_may_stand_for_commas_and_csv_be_packed(tmp_path):
    assert rows(write(tmp_path, "a.tsv", b"prompt\tcompletion\na, b\tc\n")) == [{"prompt": "a, b", "completion": "c"}]
    assert rows(write(tmp_path, "a.csv.xz", lzma.compress(b"text\na\n"))) == [{"text": "a"}]


@pytest.fixture
def table():
    return pa.Table.from_pylist(ROWS)


def as_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def as_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "put"),
    [
        ("a.parquet", pq.write_table),
        ("a.arrow", as_stream),
        ("b.arrow", as_file),
        ("a.feather", pa.feather.write_feather),
    ],
)
def test_columnar_files_are_read_row_by_row(tmp_path, table, name, put):
    path = tmp_path / name
    put(pa.concat_tables([table] * 700), path)
    found = list(read_file(path))
    assert found[1] == (ROWS[1], f"{path}, row 1") and found[-1] == (ROWS[1], f"{path}, row 1399")


@pytest.mark.parametrize("put", [as_stream, as_file])
def test_a_damaged_arrow_file_is_refused_or_read_and_never_reached_beyond(tmp_path, table, put):
    put(table, tmp_path / "a.arrow")
    data = (tmp_path / "a.arrow").read_bytes()
    for at in range(0, len(data), 7):
        path = write(tmp_path, "b.arrow", data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            rows(path)
        except DataError as error:
            assert str(path) in str(error)


def test_what_a_name_does_not_say_may_be_told(tmp_path):
    assert [row for row, _ in read_file(write(tmp_path, "rows.txt", LINES), ".json")] == ROWS


def test_a_pointer_in_the_place_of_the_data_is_called_so(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    for name in ("a.parquet", "a.jsonl", "a.arrow", "a.csv.gz"):
        with pytest.raises(DataError, match="is a pointer of Git LFS, not the data; fetch that with `git lfs pull`"):
            rows(write(tmp_path, name, pointer))


def test_rows_come_lazily(tmp_path):
    path = write(tmp_path, "a.jsonl", LINES + b"broken")
    reader = read_file(path)
    assert [next(reader)[0], next(reader)[0]] == ROWS
    with pytest.raises(DataError):
        next(reader)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl, line 2: not valid JSON \(Expecting value, column \d+\)"),
        ("a.jsonl", b'{"a": 1}\n\n[1]\n', r"a\.jsonl, line 3: holds a list, not a JSON object"),
        ("a.jsonl", b"null\n", "line 1: holds null"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe4"}\n', r"a\.jsonl, line 2: not UTF-8 \(byte 8\); save the file as UTF-8"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "line 1: not UTF-8"),
        ("a.jsonl", b"[" * 200_000, "line 1: JSON that can't be read|line 1: not valid JSON"),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1: JSON that can't be read"),
        ("a.jsonl.gz", LINES, r"a\.jsonl\.gz: the compressed data is damaged"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], "damaged or cut short"),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)[:-8] + bytes(8), "damaged or cut short"),
        ("a.jsonl.zst", LINES, r"a\.jsonl\.zst: the compressed data is damaged"),
        ("a.jsonl.zst", zstd(LINES)[:-3], "Truncated compressed stream"),
        ("a.jsonl.bz2", LINES, r"a\.jsonl\.bz2: the compressed data is damaged"),
        ("a.jsonl.bz2", bz2.compress(LINES)[:-3], "damaged or cut short"),
        ("a.jsonl.xz", LINES, r"a\.jsonl\.xz: the compressed data is damaged"),
        ("a.jsonl.xz", lzma.compress(LINES)[:-3], "damaged or cut short"),
        ("a.json", b"[1]", r"a\.json, item 0: holds a number"),
        ("a.json", b'[{"a": 1}', r"a\.json: not valid JSON"),
        ("a.json", b'{\n "a": 1\n}', "line 1: not valid JSON .*one JSON object per line"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", r"a\.csv, line 3: 3 cells, but the header has 2"),
        ("a.csv", b"a,b\n1\n", "line 2: 1 cells"),
        ("a.csv", b"a,a\n1,2\n", "line 1: the header names 'a' twice"),
        ("a.csv", b'a,b\n1,"open\nstill', r"a\.csv, line 3: not valid CSV \(unexpected end of data\)"),
        ("a.csv", b"a,b\n1,\xff\n", r"a\.csv, line 2: not UTF-8"),
        ("a.parquet", b"PAR1 no", r"a\.parquet: not a Parquet file"),
        ("a.parquet", b"", "not a Parquet file"),
        ("a.arrow", b"", "a.arrow: not an Arrow file that can be read"),
        ("a.arrow", b"ARROW1 no", "not an Arrow file"),
        (
            "a.xlsx",
            b"",
            r"a\.xlsx: unknown kind of file; hbo reads \.jsonl, \.ndjson, .*also packed: \.gz, \.zst, \.bz2",
        ),
        ("a.zip", b"", r"a\.zip: an archive is not read; unpack it"),
        ("a.txt", b"", r"lines of text are rows with \{path: text, data_files: .*a\.txt\}"),
        ("a.parquet.gz", b"", "compress their columns by themselves; unpack this one first"),
    ],
)
def test_a_bad_file_is_refused_in_one_sentence_with_its_place(tmp_path, name, data, message):
    path = write(tmp_path, name, data)
    with pytest.raises(DataError, match=message) as caught:
        rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_endless_line_is_refused_before_memory_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 2**20)
    path = write(tmp_path, "a.jsonl.zst", zstd(b'{"a": 1}\n' + b" " * (50 * 2**20)))
    with pytest.raises(DataError, match="line 2: longer than 1 MiB"):
        rows(path)


def test_an_unreadable_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.jsonl: can't be read \(No such file"):
        rows(tmp_path / "gone.jsonl")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=60),
    st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz", "a.parquet", "a.arrow"]),
)
def test_any_bytes_are_read_or_refused(tmp_path, data, name):
    path = write(tmp_path, name, data)
    try:
        assert all(isinstance(row, dict) for row in rows(path))
    except DataError as error:
        assert str(path) in str(error)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_cut_zstd_file_never_passes_for_a_shorter_one(tmp_path, data):
    packed = zstd(LINES * 20)
    path = write(tmp_path, "a.jsonl.zst", packed[: data.draw(st.integers(1, len(packed) - 1))])
    with pytest.raises(DataError, match="damaged or cut short"):
        rows(path)
