"""Files made to hurt: each ends in one sentence, within a bound of memory and time."""

import gzip
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hbo import build_mixture
from hbo.config.file import load
from hbo.data.files import MAX_LINE, read_file
from hbo.errors import ConfigError, DataError

GIGABYTE = 2**30
_READ = """
import resource, sys
from pathlib import Path
from hbo.data.files import read_file
from hbo.errors import DataError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for row in read_file(Path(sys.argv[1])): pass
except DataError as error:
    print(error)
else:
    print("read to its end")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def read_in_a_process(path):
    """What was said, and the megabytes that reading needed."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (3 * GIGABYTE, 3 * GIGABYTE))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", _READ, str(path)], capture_output=True, text=True, preexec_fn=limit, timeout=120
    )
    assert done.returncode == 0, done.stderr
    said, megabytes = done.stdout.strip().splitlines()
    return said, int(megabytes)


def sparse(path, start, size=GIGABYTE):
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def bomb(path, start, block, times=1024):
    """`start` and a gigabyte of `block`, packed to a few kilobytes or megabytes."""
    with pa.output_stream(str(path), compression="zstd" if path.suffix == ".zst" else "gzip") as file:
        file.write(start)
        for _ in range(times):
            file.write(block)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("start", [b"", b'{"text": "', b'[{"text": "', b'text\n"'])
def test_a_gigabyte_in_one_line_is_refused_in_little_memory(tmp_path, name, start):
    sparse(tmp_path / name, start)
    said, megabytes = read_in_a_process(tmp_path / name)
    assert name in said
    assert "longer than" in said or "not valid" in said
    assert megabytes < 300


def test_a_gigabyte_of_zeros_in_a_few_kilobytes_is_refused_in_little_memory(tmp_path):
    bomb(tmp_path / "a.jsonl.zst", b"", bytes(2**20))
    assert (tmp_path / "a.jsonl.zst").stat().st_size < 10**6
    said, megabytes = read_in_a_process(tmp_path / "a.jsonl.zst")
    assert "longer than" in said
    assert megabytes < 300


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "start", "block"),
    [
        ("a.jsonl", b"", bytes(2**20)),
        ("a.jsonl", b'{"text": "', b"x" * 2**20),
        ("a.json", b"[", b" " * 2**20),
        ("a.json", b'[{"text": "', b"x" * 2**20),
        ("a.json", b'[{"a": [', b"{}," * 2**18),
        ("a.csv", b"text\n", b'"' + b"x\n" * 2**19),
        ("a.csv", b"a,b\n", b'"' + b"x" * 2**19 + b'\n",'),
    ],
    ids=["zeros", "string", "spaces", "item", "objects", "open cell", "many cells"],
)
def test_a_bomb_is_refused_in_little_memory(tmp_path, name, suffix, start, block):
    path = tmp_path / (name + suffix)
    bomb(path, start, block)
    said, megabytes = read_in_a_process(path)
    assert path.name in said
    assert megabytes < 900 if "{}" in str(block[:4]) else megabytes < 300


def test_a_long_json_list_needs_the_memory_of_a_row(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.write(b"[" + b",\n".join([json.dumps({"text": "x" * 1000}).encode()] * 1000))
        for _ in range(150):
            file.write(b",\n" + b",\n".join([json.dumps({"text": "x" * 1000}).encode()] * 1000))
        file.write(b"]")
    assert path.stat().st_size > 150 * 10**6
    said, megabytes = read_in_a_process(path)
    assert said == "read to its end"
    assert megabytes < 50


def test_many_short_rows_of_csv_are_no_long_one(tmp_path, monkeypatch):
    monkeypatch.setattr("hbo.data.files.MAX_LINE", 100)
    (tmp_path / "a.csv").write_text("text\n" + "short\n" * 100)
    assert len(rows(tmp_path / "a.csv")) == 100
    (tmp_path / "b.csv").write_text('text\n"' + "short\n" * 100)
    with pytest.raises(DataError, match="the row is longer than"):
        rows(tmp_path / "b.csv")


def rows(path):
    return [row for row, _ in read_file(path)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"a": 1} {"a": 2}]', "comma"),
        ('[{"a": 1}, ]', "Expecting value"),
        ('[{"a": 1}] []', "text after the list"),
        ('[{"a": "' + "x" * (3 * MAX_LINE), "longer than"),
        ('[{"a": 1}, {"a": 12', "item 1"),
        ("[{}, nonsense, " + "1, " * 100_000, "item 1"),
        ("[" * 100_000, "item 0"),
    ],
)
def test_a_bad_json_list_names_its_item(tmp_path, text, said):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=said):
        rows(tmp_path / "a.json")


@pytest.mark.parametrize("size", [1, 7, 2**16 - 8, 2**16 - 1, 2**16, 2**17 + 3])
def test_a_json_list_is_read_across_blocks(tmp_path, size):
    found = [
        {"é" * 3: "ü\\u0041\n" * size, "n": -1.5e-3, "b": [True, None]},
        {"s": "\u2028" * size},
        {"k": 12345678},
    ] * 3
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")
    assert rows(tmp_path / "a.json") == found


@pytest.mark.parametrize(
    "line",
    [
        r'{"prompt": "\ud800", "completion": "a"}',
        '{"prompt": ' + "[" * 100 + "]" * 100 + ', "completion": "a"}',
        '{"prompt": 123456789012345678901234567890, "completion": "a"}',
        '{"prompt": 1e999, "completion": "a"}',
        '{"prompt": null, "completion": null}',
        '{"prompt": {"a": 1}, "completion": true}',
        r'{"messages": [{"role": "\ud800", "content": "a"}]}',
        '{"messages": [[], {}, 3]}',
        '{"messages": {"role": "user"}}',
        '{"conversations": [{"from": ["human"], "value": 3}]}',
        '{"instruction": 1, "output": 2}',
        '{"text": ["a"]}',
        r'{"\ud800": "a"}',
        "{}",
    ],
)
def test_rows_of_wrong_types_are_one_sentence_with_the_line(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(line + "\n")
    with pytest.raises(DataError) as error:
        build_mixture({"d": tmp_path / "a.jsonl"}, cache_dir=tmp_path)
    assert "line 1" in str(error.value) or "columns seen" in str(error.value)


@pytest.mark.parametrize(
    "line", [r'{"text": "nul \u0000 byte"}', '{"text": "a", "extra": ' + "[" * 100 + "1" + "]" * 100 + "}"]
)
def test_odd_rows_that_are_text_are_kept(tmp_path, line):
    (tmp_path / "a.jsonl").write_text("\ufeff" + line + "\n", encoding="utf-8")
    assert build_mixture({"d": tmp_path / "a.jsonl"}, cache_dir=tmp_path)["text"][0] == json.loads(line)["text"]


def test_of_a_key_that_stands_twice_the_last_counts_as_json_has_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "text": "two"}\n')
    assert build_mixture({"d": tmp_path / "a.jsonl"}, cache_dir=tmp_path)["text"][0] == "two"


@pytest.mark.parametrize("at", [4, 40, -1, -6, -9, -40])
def test_a_damaged_parquet_file_is_one_sentence(tmp_path, at):
    pq.write_table(pa.table({"text": ["a"] * 1000}), tmp_path / "a.parquet")
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "a.parquet").write_bytes(data)
    try:
        build_mixture({"d": tmp_path / "a.parquet"}, cache_dir=tmp_path / "cache")
    except DataError as error:
        assert "a.parquet" in str(error)


def test_parquet_of_other_types_is_one_sentence(tmp_path):
    pq.write_table(pa.table({"text": pa.array([b"\xff\xfe", b"x"])}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 0"):
        build_mixture({"d": tmp_path / "a.parquet"}, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "path", ["~nobody_of_this_name/x.jsonl", "x" * 5000 + ".jsonl", "/" + "y" * 300, "a\0b.jsonl", "\ud800.jsonl", "."]
)
def test_paths_that_no_file_can_have_are_one_sentence(tmp_path, path):
    with pytest.raises(DataError):
        build_mixture({"d": path if path != "." else str(tmp_path)}, cache_dir=tmp_path)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join(['*' + old] * 9)}]}}\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "model: *i\n",
        LAUGHS + "mixture: {datasets: *i}\n",
        MERGES,
        "model: " + "[" * 50_000,
        "model: " + "{a: " * 5_000,
        "- " * 100_000,
        "model: &a [*a]\n",
        "model: 0x" + "f" * 10_000,
        "model: " + "9" * 10_000,
        "model: " + "1:" * 10_000 + "1",
        "x: y\n" * 300_000,
        "".join(f"k{i}: {i}\n" for i in range(60_000)),
        "model: !!bool maybe\n",
        "model: !!int ''\n",
        "model: !!timestamp no\n",
        "? [a, b]\n: c\n",
        "? {a: b}\n: c\n",
        "!!python/object/apply:os.system ['true']\n",
        "model: !!python/name:os.system\n",
        "%YAML 9.9\n---\nmodel: m\n",
        'model: "\\ud800"\noutput: "\\ud800"\n',
    ],
)
def test_hostile_yaml_is_one_sentence_in_bounded_time(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    began = time.monotonic()
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "c.yaml")
    assert len(str(error.value)) < 1500
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("output", ["z" * 300, "a\0b", "/proc/nowhere", "/dev/null"])
def test_an_output_that_no_folder_can_have_is_one_sentence(output):
    from hbo.folder import paths as run_folder

    with pytest.raises(ConfigError):
        run_folder.check_folder(Path(output), resume=False, overwrite=False)


def test_a_gzip_of_garbage_behind_good_rows_is_refused(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n') + b"garbage")
    with pytest.raises(DataError, match="damaged"):
        build_mixture({"d": tmp_path / "a.jsonl.gz"}, cache_dir=tmp_path)


def test_a_dataset_object_of_odd_types_is_one_sentence(tmp_path):
    with pytest.raises(DataError):
        build_mixture({"d": Dataset.from_list([{"prompt": 1.5, "completion": [1, 2]}])}, cache_dir=tmp_path)
