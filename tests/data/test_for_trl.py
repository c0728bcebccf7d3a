"""Without a tokenizer, `build_mixture` gives rows of which SFTTrainer makes the same text."""

import json

import pytest
from trl.data_utils import apply_chat_template

from hbo import build_mixture
from hbo.data.canonical import conversation_of
from hbo.data.chat import Renderer
from hbo.errors import DataError

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
