"""What rows hold beside role and content is stored in one column of text, whatever the rows are.

Without a tokenizer, `build_mixture` gives rows of which SFTTrainer makes the same text.
"""

import json

import pytest
from datasets import Dataset
from trl.data_utils import apply_chat_template

from hbo import build_mixture
from hbo.data.canonical import EXTRA, FEATURES, Conversation, cells_of, conversation_of
from hbo.data.chat import Renderer
from hbo.data.mixture import read_mixture
from hbo.data.unusable import BadRowError
from hbo.errors import DataError

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


TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}\n{% endif %}{% if shout %}LOUD\n{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content or '' }}{% if 'tool_calls' in m %}{% for c in m.tool_calls %}<call>{{ c | tojson }}</call>{% endfor %}{% endif %}"
    "{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROWS = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]},
    {
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "I add.",
                "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "3", "tool_call_id": "c0"},
            {"role": "assistant", "content": "Three."},
        ],
        "tools": TOOLS,
        "chat_template_kwargs": {"shout": True},
    },
    {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "WRONG", "weight": 0},
            {"role": "user", "content": "no"},
            {"role": "assistant", "content": "RIGHT"},
        ]
    },
]


@pytest.fixture
def write(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def test_trl_makes_the_same_text_of_the_rows(write, make_tokenizer):
    tokenizer = make_tokenizer(TEMPLATE)
    for row in build_mixture({"a": write(ROWS)}):
        made = apply_chat_template(row, tokenizer, row["tools"])
        whole = conversation_of(row)
        text, _ = Renderer(tokenizer).answers(whole.prompt, whole.completion, "row", whole.given)
        assert made["prompt"] + made["completion"] == text
        assert not made["prompt"].endswith("WRONG</s>")
    assert row["prompt"][1] == {"role": "assistant", "content": "WRONG"}


def test_turns_keep_the_keys_that_are_their_own(write):
    rows = build_mixture({"a": write(ROWS)})
    assert rows[0]["completion"] == [{"role": "assistant", "content": "yo"}]
    assert set(rows[1]["completion"][0]) == {"role", "content", "reasoning_content", "tool_calls"}
    assert (rows[0]["tools"], rows[0]["chat_template_kwargs"]) == (None, {})


def test_rows_of_role_and_content_alone_have_no_further_columns(write):
    assert build_mixture({"a": write(ROWS[:1])}).column_names == ["prompt", "completion", "hbo_dataset", "hbo_row"]


def test_context_between_answers_needs_the_tokenizer(write, tokenizer):
    turns = [
        {"role": "user", "content": "q"},
        *({"role": "assistant", "content": c, "weight": w} for c, w in [("a", 1), ("b", 0), ("c", 1)]),
    ]
    path = write([{"messages": turns}])
    with pytest.raises(DataError, match=r"row 0: an answer between others is marked as context .*give tokenizer="):
        build_mixture({"a": path})
    row = build_mixture({"a": path}, tokenizer=tokenizer)[0]
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == "a<|im_end|>\nc<|im_end|>\n"
