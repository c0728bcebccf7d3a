"""Files as people have them, in every storage, become the tokens and the labels that their authors meant."""

import csv
import json
from itertools import groupby

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, Features, Value

from hbo.compat import has_json, list_of
from hbo.data.mixture import read_mixture
from hbo.data.tokens import IGNORED, tokenize

# Like Qwen3: tools first, thoughts of earlier turns cut, calls after the text.
QWEN3 = (
    "{% if tools %}<|im_start|>tools{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}<|im_end|>\n{% endif %}"
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and m.reasoning_content and loop.index0 > ns.last %}"
    "<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
ADD = '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>'


def user(text):
    return f"<|im_start|>user\n{text}<|im_end|>\n"


def bot(text, learned=True):
    said = f"{text}<|im_end|>\n"
    return f"<|im_start|>assistant\n{f'«{said}»' if learned else said}"


def tool(text):
    return f"<|im_start|>tool\n{text}<|im_end|>\n"


def system(text):
    return f"<|im_start|>system\n{text}<|im_end|>\n"


TOOLS = f"<|im_start|>tools\n{json.dumps(TOOL)}<|im_end|>\n"
WITH_TOOLS = TOOLS + user("1 + 2?") + bot(ADD) + tool("3") + bot("Three.")

KINDS = {
    "dolly": (
        {"instruction": "Which colour?", "context": "The door is red.", "response": "Red.", "category": "closed_qa"},
        user("Which colour?\n\nThe door is red.") + bot("Red."),
    ),
    "history": (
        {"instruction": "c?", "input": "", "output": "C", "history": [["a?", "A"], ["b?", "B"]], "system": "Be brief."},
        system("Be brief.") + user("a?") + bot("A") + user("b?") + bot("B") + user("c?") + bot("C"),
    ),
    "openai tools": (
        {
            "messages": [
                {"role": "user", "content": "1 + 2?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "c0", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "c0", "content": "3"},
                {"role": "assistant", "content": "Three."},
            ],
            "tools": [TOOL],
        },
        WITH_TOOLS,
    ),
    "sharegpt tools": (
        {
            "conversations": [
                {"from": "human", "value": "1 + 2?"},
                {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
                {"from": "observation", "value": "3"},
                {"from": "gpt", "value": "Three."},
            ],
            "tools": '[{"name": "add", "parameters": {"type": "object"}}]',
        },
        WITH_TOOLS,
    ),
    "thoughts": (
        {
            "messages": [
                {"role": "user", "content": "a?"},
                {"role": "assistant", "reasoning_content": "cut", "content": "A"},
                {"role": "user", "content": "b?"},
                {"role": "assistant", "reasoning_content": "kept", "content": "B"},
            ]
        },
        user("a?") + bot("A") + user("b?") + bot("<think>\nkept\n</think>\n\nB"),
    ),
    "parts": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "1"}, {"type": "text", "text": "+2?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "3"}]},
            ]
        },
        user("1+2?") + bot("3"),
    ),
    "weights": (
        {
            "messages": [
                {"role": "user", "content": "a?"},
                {"role": "assistant", "content": "A", "weight": 1},
                {"role": "user", "content": "b?"},
                {"role": "assistant", "content": "WRONG", "weight": 0},
                {"role": "user", "content": "no"},
                {"role": "assistant", "content": "B", "weight": 1},
                {"role": "user", "content": "c?"},
                {"role": "assistant", "content": "ALSO WRONG", "weight": 0},
            ]
        },
        user("a?") + bot("A") + user("b?") + bot("WRONG", learned=False) + user("no") + bot("B"),
    ),
    "axolotl": (
        {
            "conversations": [
                {"from": "human", "value": "a?"},
                {"from": "gpt", "value": "WRONG", "train": False},
                {"from": "human", "value": "no"},
                {"from": "gpt", "value": "A", "train": True},
            ]
        },
        user("a?") + bot("WRONG", learned=False) + user("no") + bot("A"),
    ),
    "preference": (
        {
            "prompt": "a?",
            "chosen": [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "A"}],
            "rejected": "B",
        },
        user("a?") + bot("A"),
    ),
}


def shown(row, tokenizer):
    """The text of a row, its targets between « and »."""
    assert all(label in (IGNORED, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    learned = [label != IGNORED for label in row["labels"]]
    parts = [
        (is_target, tokenizer.decode([token for _, token in tokens]))
        for is_target, tokens in groupby(zip(learned, row["input_ids"], strict=True), key=lambda each: each[0])
    ]
    return "".join(f"«{text}»" if is_target else text for is_target, text in parts)


SORTS_KEYS = pa.array([{"b": 1, "a": 2}]).type[0].name == "a"


def write(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        columns = list(dict.fromkeys(column for row in rows for column in row))
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows)
    else:
        Dataset.from_list(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_row_becomes_the_tokens_that_were_meant(kind, ending, tmp_path, make_tokenizer):
    if (kind, ending) == ("openai tools", "parquet") and SORTS_KEYS:
        pytest.skip("this release of pyarrow writes the keys of an object in the order of their names")
    row, expected = KINDS[kind]
    tokenizer = make_tokenizer(QWEN3)
    data = read_mixture({"a": write(tmp_path / f"rows.{ending}", [row])})
    assert shown(tokenize(data, tokenizer, max_length=None)[0], tokenizer) == expected


def test_rows_of_all_kinds_stand_in_one_file(tmp_path, make_tokenizer):
    tokenizer = make_tokenizer(QWEN3)
    for ending in ("jsonl", "csv"):
        data = read_mixture({"a": write(tmp_path / f"rows.{ending}", [row for row, _ in KINDS.values()])})
        rows = tokenize(data, tokenizer, max_length=None)
        assert [shown(row, tokenizer) for row in rows] == [expected for _, expected in KINDS.values()]


@pytest.mark.skipif(not has_json(), reason="datasets stores JSON since 4.7")
def test_what_datasets_stores_as_json_is_read(make_tokenizer):
    row, expected = KINDS["openai tools"]
    tokenizer = make_tokenizer(QWEN3)
    features = {"messages": list_of(datasets.Json()), "tools": datasets.Json(), "note": Value("string")}
    data = Dataset.from_list([{**row, "note": "x"}], features=Features(features))
    assert shown(tokenize(read_mixture({"a": data}), tokenizer, max_length=None)[0], tokenizer) == expected


def test_a_template_that_cuts_thoughts_trains_on_the_rest(tmp_path, make_tokenizer):
    r1 = (  # like the distillations of R1, which open a thought and cut it out of every answer
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    row = {"prompt": "a?", "completion": "<think>\nhm\n</think>\n\nA"}
    data = read_mixture({"a": write(tmp_path / "rows.jsonl", [row])})
    tokenizer = make_tokenizer(r1)
    assert shown(tokenize(data, tokenizer)[0], tokenizer) == user("a?") + bot("\n\nA")
