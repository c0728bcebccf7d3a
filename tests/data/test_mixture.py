import json
from contextlib import contextmanager

import pytest
from datasets import Dataset, DatasetDict

from hbo import build_mixture
from hbo.config.data import DatasetConfig
from hbo.data.mixture import dataset_names, dataset_sizes, place_of, read_mixture
from hbo.data.notes import accounts_of, of_reading
from hbo.errors import ConfigError, DataError

CHAT = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(10)]
TEXT = [{"text": f"text {i}"} for i in range(4)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def chat(tmp_path):
    return write(tmp_path / "chat.jsonl", CHAT)


def test_rows_are_canonical_and_know_their_origin(chat):
    talk = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}]
    data = read_mixture({"chat": chat, "talk": Dataset.from_list(talk), "text": Dataset.from_list(TEXT)})
    assert data[3] == {
        "prompt": [{"role": "user", "content": "question 3"}],
        "completion": [{"role": "assistant", "content": "answer 3"}],
        "hbo_dataset": "chat",
        "hbo_row": 3,
    }
    assert data[11]["prompt"] == []
    assert data[11]["completion"] == [{"role": "text", "content": "text 0"}]
    assert dataset_sizes(data) == {"chat": 10, "talk": 1, "text": 4}


def test_the_mixture_is_one_memory_mapped_file(chat, cache):
    data = read_mixture({"a": chat, "b": chat})
    (file,) = cache.glob("*.arrow")
    assert data.cache_files == [{"filename": str(file)}]
    other = read_mixture({"a": chat}, cache_dir=cache / "other")
    assert [entry["filename"] for entry in other.cache_files] == [str(next((cache / "other").glob("*.arrow")))]


def test_a_second_run_reads_the_file(chat, cache, tmp_path):
    phases = []

    @contextmanager
    def track(phase, total):
        counts = []
        yield counts.append
        phases.append((phase, total, sum(counts)))

    first = read_mixture({"a": chat}, track=track)
    (file,) = cache.glob("*.arrow")
    written = file.stat().st_mtime_ns
    moved = chat.rename(tmp_path / "moved.jsonl")
    again = read_mixture({"a": str(moved)}, track=track)
    assert phases == [("reading", 1, 1)]
    assert again.to_list() == first.to_list()
    assert again._fingerprint == first._fingerprint
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    "change", [{"columns": {"prompt": "completion", "completion": "prompt"}}, {"group_by": "prompt"}]
)
def test_another_reading_of_the_same_file_is_another_mixture(chat, change):
    read_mixture({"a": chat})
    assert read_mixture({"a": {"path": chat, **change}}).to_list() != read_mixture({"a": chat}).to_list()


def test_changed_content_is_read_anew(chat):
    assert len(read_mixture({"a": chat})) == 10
    write(chat, CHAT[:3])
    assert len(read_mixture({"a": chat})) == 3


def test_rows_are_numbered_through_the_files_of_a_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "b.jsonl", CHAT[2:])
    write(folder / "a.jsonl", CHAT[:2])
    data = read_mixture({"a": folder})
    assert data["hbo_row"][:] == list(range(10))
    assert [row["completion"][0]["content"] for row in data] == [row["completion"] for row in CHAT]


def test_group_by_splits_one_source(tmp_path):
    rows = [{**row, "language": ["de", "en"][i % 2]} for i, row in enumerate(CHAT)]
    file = write(tmp_path / "a.jsonl", rows)
    data = read_mixture({"talk": DatasetConfig(path=str(file), group_by="language")})
    assert dataset_sizes(data) == {"talk/de": 5, "talk/en": 5}
    assert data["hbo_row"][:] == list(range(10))
    renamed = {"path": file, "group_by": "language", "columns": ["prompt", "completion"]}
    assert dataset_names(read_mixture({"talk": renamed})) == ["talk/de", "talk/en"]


def test_group_by_needs_a_value_in_each_row(tmp_path):
    file = write(tmp_path / "a.jsonl", [{**CHAT[0], "language": "de"}, {**CHAT[1], "language": None}])
    with pytest.raises(DataError, match="line 2: 'language' is null, so the row belongs to no group"):
        read_mixture({"a": {"path": file, "group_by": "language"}})
    with pytest.raises(DataError, match=r"line 1: no column 'languge', .*did you mean 'language'"):
        read_mixture({"a": {"path": file, "group_by": "languge"}})


def test_two_entries_may_not_give_the_same_dataset(tmp_path, chat):
    file = write(tmp_path / "a.jsonl", [{**CHAT[0], "g": "b"}])
    with pytest.raises(ConfigError, match="two entries of the mixture make a dataset 'a/b'; rename 'a/b'"):
        read_mixture({"a": {"path": file, "group_by": "g"}, "a/b": chat})


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.json"])
def test_an_empty_dataset_is_named_and_nothing_is_kept(tmp_path, chat, cache, name):
    (tmp_path / name).write_bytes({"empty.csv": b"text\n", "empty.json": b"[]"}.get(name, b"\n"))
    with pytest.raises(DataError, match=rf"dataset 'none': .*{name} is empty"):
        read_mixture({"chat": chat, "none": tmp_path / name})
    assert not list(cache.glob("*"))


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="names no dataset"):
        read_mixture({})


def test_a_bad_row_is_named_with_file_and_line(tmp_path):
    file = write(tmp_path / "a.jsonl", [CHAT[0], {"prompt": "q", "completion": None}])
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: completion is null"):
        read_mixture({"a": file})


def test_without_a_tokenizer_rows_are_prompt_and_completion(chat):
    data = build_mixture({"a": chat})
    assert data.column_names == ["prompt", "completion", "hbo_dataset", "hbo_row"]


def test_plain_text_alone_becomes_a_text_column(chat):
    data = build_mixture({"a": Dataset.from_list(TEXT), "b": Dataset.from_list(TEXT[:1])})
    assert data.column_names == ["text", "hbo_dataset", "hbo_row"]
    assert data[4] == {"text": "text 0", "hbo_dataset": "b", "hbo_row": 0}
    assert data.cache_files


def test_text_beside_instructions_needs_a_tokenizer(chat, tokenizer):
    sources = {"a": chat, "b": Dataset.from_list(TEXT)}
    with pytest.raises(DataError, match=r"'b' is plain text and 'a' has prompts.*give tokenizer="):
        build_mixture(sources)
    assert dataset_sizes(build_mixture(sources, tokenizer=tokenizer)) == {"a": 10, "b": 4}


def test_a_row_without_prompt_needs_a_tokenizer(tokenizer):
    sources = {"a": Dataset.from_list([CHAT[0], {"prompt": "", "completion": "a"}])}
    with pytest.raises(DataError, match=r"dataset 'a', row 1: the row has no prompt.*give tokenizer="):
        build_mixture(sources)
    assert len(build_mixture(sources, tokenizer=tokenizer)) == 2


def test_a_tokenizer_adds_ids_and_labels(chat, tokenizer, cache):
    data = build_mixture({"a": chat}, tokenizer=tokenizer, cache_dir=cache / "own")
    assert tokenizer.decode([label for label in data[0]["labels"] if label != -100]) == "answer 0<|im_end|>\n"
    assert len(list((cache / "own").glob("*.arrow"))) == 2


def test_rows_without_target_are_left_out_with_a_warning(tmp_path, tokenizer):
    file = write(tmp_path / "a.jsonl", [CHAT[0], {"prompt": "long " * 99, "completion": "a"}])
    told = r"dataset 'a': 1 row can't be used and is left out: 1 as no response token is left within max_length 50"
    with pytest.warns(UserWarning, match=rf"{told} \(the first: row 1\)"):
        assert len(build_mixture({"a": file}, tokenizer=tokenizer, max_length=50)) == 1


def test_an_eval_fraction_returns_both_splits(chat):
    data = build_mixture({"a": chat, "b": chat}, eval_fraction=0.2, seed=3)
    assert isinstance(data, DatasetDict)
    assert dataset_sizes(data["train"]) == {"a": 8, "b": 8}
    assert dataset_sizes(data["eval"]) == {"a": 2, "b": 2}
    again = build_mixture({"a": chat}, eval_fraction=0.2, seed=3)
    assert [row for row in data["eval"].to_list() if row["hbo_dataset"] == "a"] == again["eval"].to_list()


def test_no_progress_bar_and_no_word_is_written(chat, tokenizer, capfd):
    build_mixture({"a": chat, "b": Dataset.from_list(CHAT)}, tokenizer=tokenizer, eval_fraction=0.2)
    assert capfd.readouterr() == ("", "")


TALK = [
    {"conversation": [{"role": "user", "content": f"hi {i}"}, {"role": "assistant", "content": "yo"}]} for i in range(3)
]


def test_a_dataset_may_have_several_sources_each_with_columns_of_its_own(chat, tmp_path):
    talk = write(tmp_path / "talk.jsonl", TALK)
    entry = {"path": chat, "also": [{"path": talk, "columns": {"messages": "conversation"}}]}
    data = read_mixture({"all": entry, "b": chat})
    assert dataset_sizes(data) == {"all": 13, "b": 10}
    assert data["hbo_row"][:13] == list(range(13))
    assert data[11]["prompt"] == [{"role": "user", "content": "hi 1"}]
    assert read_mixture({"all": chat, "b": chat}).to_list() != data.to_list()  # another file in the cache
    (tmp_path / "none.jsonl").touch()
    with pytest.raises(DataError, match=r"dataset 'all': .*none\.jsonl is empty"):
        read_mixture({"all": {"path": chat, "also": [{"path": tmp_path / "none.jsonl"}]}})
    with pytest.raises(ConfigError, match=r"dataset 'all': `also\.0\.path`: Field required"):
        read_mixture({"all": {"path": chat, "also": [{"columns": {}}]}})


def test_the_parts_of_group_by_may_come_from_several_sources(tmp_path):
    paths = [
        write(tmp_path / f"{half}.jsonl", [{**row, "kind": f"k{i % 2}"} for i, row in enumerate(CHAT[:half])])
        for half in (4, 6)
    ]
    data = read_mixture({"a": {"path": paths[0], "also": [{"path": paths[1]}], "group_by": "kind"}})
    assert dataset_sizes(data) == {"a/k0": 5, "a/k1": 5}


def test_no_more_rows_than_max_rows_are_taken_and_fewer_are_among_more(chat):
    def taken(most, seed=0):
        data = read_mixture({"a": {"path": chat, "max_rows": most}, "b": chat}, seed=seed)
        rows = [row["hbo_row"] for row in data if row["hbo_dataset"] == "a"]
        assert rows == sorted(rows)
        assert len(data) - len(rows) == 10
        return rows

    assert (len(taken(3)), len(taken(6)), len(taken(10)), len(taken(99))) == (3, 6, 10, 10)
    assert set(taken(3)) < set(taken(6))
    assert taken(3) == taken(3)
    assert len({tuple(taken(3, seed)) for seed in range(5)}) > 1
    assert len(build_mixture({"a": {"path": chat, "max_rows": 4}})) == 4


def test_max_rows_holds_for_every_part_of_group_by(chat, tmp_path):
    rows = write(tmp_path / "kinds.jsonl", [{**row, "kind": "x" if i < 7 else "y"} for i, row in enumerate(CHAT)])
    data = read_mixture({"a": {"path": rows, "group_by": "kind", "max_rows": 4}, "ab": chat})
    assert dataset_sizes(data) == {"a/x": 4, "a/y": 3, "ab": 10}


def test_rows_that_cannot_be_used_are_left_out_only_when_asked(tmp_path):
    file = write(tmp_path / "chat.jsonl", [*CHAT[:3], {"prompt": None, "completion": "x"}, *CHAT[3:5]])
    with pytest.raises(DataError, match=r"chat\.jsonl, line 4: prompt is null"):
        read_mixture({"a": file})
    for _ in range(2):  # read, and from the cache
        data = read_mixture({"a": {"path": file, "drop_unusable": True}})
        told = [note.text for note in of_reading(data) if note.is_warning]
        assert told == [
            f"dataset 'a': of {file} 1 row can't be used and is left out: 1 as prompt is null, not a string "
            f"(the first: {file}, line 4)"
        ]
    assert data["hbo_row"][:] == [0, 1, 2, 3, 4]
    assert data[3]["completion"][0]["content"] == "answer 3"
    with pytest.raises(DataError, match="prompt is null"):
        read_mixture({"a": file})  # what was read otherwise is not taken from the cache
    write(file, [{"prompt": None, "completion": "x"}] * 2)
    with pytest.raises(DataError, match=r"dataset 'a': none of 2 rows of .* can be used; the first: .*line 1"):
        read_mixture({"a": {"path": file, "drop_unusable": True}})
    write(file, [{"left": "x"}])
    with pytest.raises(DataError, match="no known row format"):  # which is no matter of a row
        read_mixture({"a": {"path": file, "drop_unusable": True}})


def test_rows_are_left_out_for_whatever_reason_and_counted_by_it(tmp_path):
    good, said = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    bad = [
        {"messages": [good, {"role": "assistant", "content": None}], "lang": "de"},
        {"messages": [good, said, good, {"role": "assistant", "content": None}], "lang": "de"},
        {"messages": [good], "lang": "de"},
        {"messages": [good, {"role": "oracle", "content": "a"}], "lang": "de"},
        {"messages": [good, said], "lang": None},
        {"lang": "de"},
    ]
    file = write(tmp_path / "a.jsonl", [{"messages": [good, said], "lang": "de"}, *bad])
    data = read_mixture({"a": {"path": file, "group_by": "lang", "drop_unusable": True}})
    assert dataset_sizes(data) == {"a/de": 1}
    (account,) = accounts_of(data)
    assert [(rows, first.rpartition(", ")[2]) for rows, first in account.unusable.values()] == [
        (2, "line 2"), (1, "line 4"), (1, "line 5"), (1, "line 6"), (1, "line 7"),
    ]  # fmt: skip
    assert next(iter(account.unusable)) == "messages[…].content is null, not a string"


def test_the_place_of_a_row_is_its_file_and_line(tmp_path):
    file = write(tmp_path / "a.jsonl", [CHAT[0], {"prompt": None, "completion": "x"}, CHAT[1]])
    entry = {"path": file, "drop_unusable": True}
    assert place_of({"b": Dataset.from_list(TEXT), "a": entry}, "a", 1) == f"dataset 'a', row 1 ({file}, line 3)"
    assert place_of({"b": Dataset.from_list(TEXT)}, "b", 1) == "dataset 'b', row 1"
