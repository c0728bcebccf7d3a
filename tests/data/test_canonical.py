"""What rows hold beside role and content is stored in one column of text, whatever the rows are."""

import pytest
from datasets import Dataset

from hbo.data.canonical import EXTRA, FEATURES, Conversation, cells_of, conversation_of
from hbo.data.mixture import read_mixture
from hbo.data.unusable import BadRowError

USER = {"role": "user", "content": "q"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 0.1234567890123456789, "b": None, "c": [1]}}}
WHOLE = Conversation(
    [{"role": "system", "content": "s"}, USER],
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "I add."},
        {"role": "tool", "content": "3", "name": "add", "tool_call_id": "c0"},
        {"role": "assistant", "content": "x", "weight": 0},
        {"role": "assistant", "content": "Three."},
    ],
    [{"type": "function", "function": {"name": "add", "parameters": {"ü": None}}}],
    {"enable_thinking": False},
)


def placed(cells, i=0):
    return {**cells, "hbo_dataset": "d", "hbo_row": i}


def test_a_row_comes_back_as_it_was():
    plain = Conversation([USER], [{"role": "assistant", "content": "a"}])
    rows = [placed(cells_of(row), i) for i, row in enumerate((plain, WHOLE))]
    table = FEATURES.encode_batch({key: [row[key] for row in rows] for key in rows[0]})
    data = Dataset.from_dict(table, features=FEATURES)
    assert [conversation_of(row) for row in data] == [plain, WHOLE]
    assert [conversation_of(row) for row in data.with_format("arrow")[:].to_pylist()] == [plain, WHOLE]
    assert data[EXTRA][0] is None


def test_the_schema_is_the_same_whatever_the_rows_hold():
    row = {"messages": [USER, {"role": "assistant", "content": "a"}]}
    called = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
        ]
    }
    other = {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{"name": "sub", "arguments": {}}]}]}
    plain = read_mixture({"a": Dataset.from_list([row])})
    mixed = read_mixture(
        {"a": Dataset.from_list([row]), "b": Dataset.from_list([called]), "c": Dataset.from_list([other])}
    )
    assert EXTRA not in plain.column_names
    assert mixed.features == FEATURES
    names = [conversation_of(each).completion[0].get("tool_calls", [{}])[0].get("function") for each in mixed]
    assert names == [None, {"name": "add", "arguments": {"a": 1}}, {"name": "sub", "arguments": {}}]


@pytest.mark.parametrize("value", [float("nan"), b"bytes", "\ud800", 2**70])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(BadRowError, match="chat_template_kwargs can't be written as JSON"):
        cells_of(Conversation([USER], [{"role": "assistant", "content": "a"}], None, {"x": value}))
