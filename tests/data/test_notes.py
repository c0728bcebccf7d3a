"""What is said of rows that nobody would look for.

What a template leaves out is counted: thoughts, white space, messages, tools.
"""

import json
from dataclasses import asdict

import pytest

from hbo import build_mixture
from hbo.data.canonical import Conversation
from hbo.data.chat import Renderer
from hbo.data.mixture import read_mixture
from hbo.data.notes import LeftOut, of_reading, of_tokens
from hbo.data.tokens import tokenize

R1 = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROWS = [{"prompt": f"q{i}", "completion": f"<think>t</think>a{i}", "category": "x"} for i in range(4)]


@pytest.fixture
def write(tmp_path):
    def write(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def said(notes):
    return [note.text for note in notes]


def test_columns_that_are_not_read_are_named_with_what_to_do(write):
    path = write(*ROWS, {"prompt": "q", "completion": "a", "id": 3})
    (note,) = of_reading(read_mixture({"a": path}))
    assert note.text == (
        "dataset 'a': columns that are not read: category (4 rows), id (1 row); `columns: {input: NAME}` puts one before "
        "the answer, `where` chooses rows by one, `group_by` splits"
    )
    assert not note.is_warning
    assert list(of_reading(read_mixture({"a": {"path": write(*ROWS), "group_by": "category"}}))) == []
    assert list(of_reading(read_mixture({"a": {"path": write(*ROWS), "where": {"category": "x"}}}))) == []


def test_they_are_named_again_when_the_rows_come_from_the_cache(write):
    path = write(*ROWS)
    first = said(of_reading(read_mixture({"a": path})))
    assert said(of_reading(read_mixture({"a": path}))) == first != []
    assert said(of_reading(read_mixture({"a": {"path": path, "max_rows": 2}}))) == first


def test_mixed_formats_and_keys_of_turns_are_named(write):
    turns = [{"role": "user", "content": "q", "time": 1}, {"role": "assistant", "content": "a"}]
    path = write({"prompt": "q", "completion": "a"}, {"messages": turns})
    mixed, keys = said(of_reading(read_mixture({"a": path})))
    assert mixed == (
        f"dataset 'a': its rows are of several formats: 1 prompt (the first: {path}, line 1), 1 messages (the first: "
        f"{path}, line 2)"
    )
    assert keys.startswith(
        "dataset 'a': keys of turns that are not read: messages[].time (1 row); read are role, content"
    )


@pytest.mark.parametrize(
    ("row", "fragment"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "rejected (1 row) is not read; hbo trains on `chosen` alone"),
        ({"prompt": "q", "completion": "a", "label": False}, "label (1 row) is not read; where it marks answers"),
        ({"prompt": "q", "completion": "a", "chosen": "b"}, "chosen (1 row) is not read; the answer stands in another"),
    ],
)
def test_columns_that_change_what_a_row_means_are_warned_of(row, fragment, write):
    with pytest.warns(UserWarning) as warned:
        build_mixture({"a": write(row)})
    assert [fragment in str(each.message) for each in warned] == [True]


def test_answers_of_which_a_part_is_cut_are_counted_over_all_parts(write, make_tokenizer):
    data = read_mixture({"a": write(*ROWS)})
    parts = [tokenize(data.select(rows), make_tokenizer(R1)) for rows in ([0, 1, 3], [2])]
    (note,) = of_tokens(parts)
    assert note.text == (
        "dataset 'a': part of 4 of 4 answers is not in the tokens: the chat template cuts it, so the model doesn't learn "
        "it (the first: row 0)"
    )
    assert note.is_warning
    with pytest.warns(UserWarning, match="part of 4 of 4 answers is not in the tokens"):
        build_mixture({"a": write(*ROWS)}, tokenizer=make_tokenizer(R1))
    assert list(of_tokens([tokenize(data, make_tokenizer())])) == []


def test_all_else_that_is_left_out_is_said_too(monkeypatch):
    left = LeftOut(5, 0, 2, {"system": 3}, 1, {"trimmed": 1, "system": 2, "tools": 4})
    monkeypatch.setattr("hbo.data.notes.notes_of", lambda data: {"a": asdict(left)})
    assert [(note.text, note.is_warning) for note in of_tokens([None])] == [
        (
            "dataset 'a': white space at the ends of 2 of 5 answers is not in the tokens: the chat template trims it (the "
            "first: row 1)",
            False,
        ),
        (
            "dataset 'a': part of 3 system messages that are context is not in the tokens: the chat template cuts it (the "
            "first: row 2)",
            True,
        ),
        (
            "dataset 'a': the tools of 1 row are not in the tokens: the chat template doesn't render them (the first: row 4)",
            True,
        ),
    ]


CUT = "{% set c = m.content.split('</think>')[-1] if m.role == 'assistant' else m.content %}"
TURNS = "<|{{ m.role }}|>{{ %s }}{%% if m.role == 'assistant' %%}</s>{%% endif %%}"
ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def template(turn, before="{% for m in messages %}"):
    return before + turn + "{% endfor %}" + ASK


WHOLE = template(TURNS % "m.content")
CUTS_THOUGHTS = template(CUT + TURNS % "c")
TRIM = template(TURNS % "m.content | trim")
JSON = template(TURNS % "m.content | tojson")
NO_SYSTEM = template("{% if m.role != 'system' %}" + TURNS % "m.content" + "{% endif %}")
OPENS = template(TURNS % "m.content").replace(
    "{% if add_generation_prompt %}<|assistant|>", "{% if add_generation_prompt %}<|assistant|><think>\n"
)


def counted(make_tokenizer, template, *rows, tools=None):
    left, renderer = LeftOut(), Renderer(make_tokenizer(template))
    for i, turns in enumerate(rows):
        first = next(i for i, turn in enumerate(turns) if turn["role"] == "assistant" and "weight" not in turn)
        row = Conversation(turns[:first], turns[first:], tools)
        left.add(row, *renderer.answers(row.prompt, row.completion, "row", row.given), i)
    return {key: value for key, value in asdict(left).items() if value and key != "first"}, left.first


def talk(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


THOUGHT = "<think>\nI add.\n</think>\n\n16"


@pytest.mark.parametrize(
    ("template", "rows", "expected"),
    [
        (WHOLE, [talk("q", THOUGHT), talk("q", "a", "r", " b ")], {"answers": 3}),
        (CUTS_THOUGHTS, [talk("q", "a"), talk("q", THOUGHT, "r", THOUGHT)], {"answers": 3, "cut": 2}),
        (CUTS_THOUGHTS, [talk("q", "16")], {"answers": 1}),
        (TRIM, [talk(" q ", " a"), talk("q", "b")], {"answers": 2, "trimmed": 1}),
        (JSON, [talk("q", 'say "hi"\n')], {"answers": 1}),
        (OPENS, [talk("q", THOUGHT)], {"answers": 1}),  # the prompt has begun the thought
        (
            NO_SYSTEM,
            [[{"role": "system", "content": "Be brief."}, *talk("q", "a")]],
            {"answers": 1, "messages": {"system": 1}},
        ),
        (
            CUTS_THOUGHTS,
            [[*talk("q", THOUGHT)[:1], {**talk("q", THOUGHT)[1], "weight": 0}, *talk("r", "a")]],
            {"answers": 1, "messages": {"assistant": 1}},
        ),
        (
            WHOLE,
            [[*talk("q"), {"role": "assistant", "content": "16", "reasoning_content": "I add."}]],
            {"answers": 1, "cut": 1},
        ),
    ],
)
def test_what_is_left_out_of_the_text_is_counted(template, rows, expected, make_tokenizer):
    assert counted(make_tokenizer, template, *rows)[0] == expected


def test_the_first_row_of_each_is_known(make_tokenizer):
    assert counted(make_tokenizer, CUTS_THOUGHTS, talk("q", "a"), talk("q", THOUGHT), talk("q", THOUGHT))[1] == {
        "cut": 1
    }


def test_tools_are_sought_before_the_first_answer(make_tokenizer):
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = talk("q", "I can add.")
    with_tools = template(TURNS % "m.content", "{{ tools | tojson }}{% for m in messages %}")
    assert counted(make_tokenizer, with_tools, row, tools=tools)[0] == {"answers": 1}
    assert counted(make_tokenizer, WHOLE, row, tools=tools) == ({"answers": 1, "tools": 1}, {"tools": 0})
