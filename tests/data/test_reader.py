"""Rows are read by what is filled in each of them, and what nobody reads is counted."""

import pytest

from hbo.data.reader import Reader
from hbo.errors import ConfigError, DataError


def user(text):
    return {"role": "user", "content": text}


def bot(text):
    return {"role": "assistant", "content": text}


def read(*rows, **options):
    """The conversations, and the account of them."""
    reader = Reader("d", **options)
    found = [reader.read(row, f"line {i}") for i, row in enumerate(rows, start=1)]
    reader.check_columns()
    return found, reader.account


def test_rows_of_two_formats_in_one_file_are_read_each_in_its_own():
    found, account = read(
        {"messages": None, "instruction": "q", "input": None, "output": "a"},
        {"messages": [user("r"), bot("b")], "instruction": None, "input": None, "output": None},
        {"instruction": "s", "output": "c"},
    )
    assert [(row.prompt, row.completion) for row in found] == [
        ([user("q")], [bot("a")]),
        ([user("r")], [bot("b")]),
        ([user("s")], [bot("c")]),
    ]
    assert account.formats == {"instruction": (2, "line 1"), "messages": (1, "line 2")}


def test_cells_that_csv_leaves_blank_are_not_filled():
    blank = {"messages": "", "prompt": "", "completion": "", "text": ""}
    found, account = read(
        {**blank, "messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'},
        {**blank, "prompt": "q", "completion": "a"},
        {**blank, "text": "t"},
    )
    assert list(account.formats) == ["messages", "prompt", "text"]
    assert found[0][:2] == found[1][:2] == ([user("q")], [bot("a")])


def test_an_empty_response_is_still_one():
    assert read({"prompt": "q", "completion": ""})[0][0].completion == [bot("")]
    assert read({"instruction": "", "output": "a", "text": "x"})[0][0].completion == [bot("a")]
    with pytest.raises(DataError, match="line 1: output is null"):
        read({"instruction": "q", "output": None, "text": "the whole of it"})


def test_columns_that_only_later_rows_have_are_renamed_too():
    found, _ = read(
        {"question": "q", "answer": "a"},
        {"question": "r", "answer": "b", "rules": "Be brief."},
        columns={"prompt": "question", "completion": "answer", "system": "rules"},
    )
    assert found[0].prompt == [user("q")]
    assert found[1].prompt == [{"role": "system", "content": "Be brief."}, user("r")]


def test_a_column_that_no_row_has_is_refused():
    with pytest.raises(DataError, match=r"`columns` names 'rule', which no row has \(did you mean 'rules'\?\)"):
        read({"prompt": "q", "completion": "a", "rules": "x"}, columns={"system": "rule"})


def test_what_nobody_reads_is_counted_with_its_first_place():
    _, account = read(
        {"instruction": "q", "context": "c", "output": "a", "id": 1, "source": None},
        {"instruction": "q", "context": "", "output": "a", "id": 2, "source": "web"},
        used=("topic",),
    )
    assert account.unread == {"id": (2, "line 1"), "source": (1, "line 2")}
    _, account = read({"prompt": "q", "completion": "a", "topic": "x", "id": 3}, used=("topic",))
    assert list(account.unread) == ["id"]
    _, account = read({"messages": [user("q"), {**bot("a"), "lang": "en"}]})
    assert account.unread == {"messages[].lang": (1, "line 1")}


def test_a_column_whose_name_another_one_took_is_not_read():
    _, account = read({"question": "q", "prompt": "p", "completion": "a"}, columns={"prompt": "question"})
    assert list(account.unread) == ["prompt"]
    _, account = read({"messages": [user("q"), bot("a")], "body": "x"}, columns={"input": "body"})
    assert list(account.unread) == ["body"]


def test_columns_left_out_on_purpose_are_not_listed():
    assert read({"prompt": "q", "completion": "a", "id": 1}, columns=["prompt", "completion"])[1].unread == {}


@pytest.mark.parametrize("column", ["image", "images", "audio"])
def test_rows_that_need_more_than_text_are_refused_by_name(column):
    row = {"conversations": [user("<image>What is it?"), bot("A cat.")], column: ["cat.png"]}
    with pytest.raises(DataError, match=rf"line 1: '{column}' is filled, .* set `columns: \[conversations\]`"):
        read(row)
    assert read(row, columns=["conversations"])[0][0].completion == [bot("A cat.")]
    assert read({**row, column: []})[0][0].completion == [bot("A cat.")]


def test_a_role_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="`roles` makes 'agent' a 'machine', an unknown role"):
        Reader("d", roles={"agent": "machine"})


def test_names_of_columns_may_be_as_many_as_they_like():
    _, account = read(*({"prompt": "q", "completion": "a", f"column {i}": 1} for i in range(200)))
    assert len(account.unread) == 50
