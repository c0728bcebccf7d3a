"""What a template leaves out is counted: thoughts, white space, messages, tools."""

from dataclasses import asdict

import pytest

from hbo.data.canonical import Conversation
from hbo.data.chat import Renderer
from hbo.data.notes import LeftOut

CUT = "{% set c = m.content.split('</think>')[-1] if m.role == 'assistant' else m.content %}"
TURNS = "<|{{ m.role }}|>{{ %s }}{%% if m.role == 'assistant' %%}</s>{%% endif %%}"
ASK = "{% if add_generation_prompt %}<|assistant|>{% endif %}"


def template(turn, before="{% for m in messages %}"):
    return before + turn + "{% endfor %}" + ASK


WHOLE = template(TURNS % "m.content")
R1 = template(CUT + TURNS % "c")
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
        (R1, [talk("q", "a"), talk("q", THOUGHT, "r", THOUGHT)], {"answers": 3, "cut": 2}),
        (R1, [talk("q", "16")], {"answers": 1}),
        (TRIM, [talk(" q ", " a"), talk("q", "b")], {"answers": 2, "trimmed": 1}),
        (JSON, [talk("q", 'say "hi"\n')], {"answers": 1}),
        (OPENS, [talk("q", THOUGHT)], {"answers": 1}),  # the prompt has begun the thought
        (
            NO_SYSTEM,
            [[{"role": "system", "content": "Be brief."}, *talk("q", "a")]],
            {"answers": 1, "messages": {"system": 1}},
        ),
        (
            R1,
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
    assert counted(make_tokenizer, R1, talk("q", "a"), talk("q", THOUGHT), talk("q", THOUGHT))[1] == {"cut": 1}


def test_tools_are_sought_before_the_first_answer(make_tokenizer):
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = talk("q", "I can add.")
    with_tools = template(TURNS % "m.content", "{{ tools | tojson }}{% for m in messages %}")
    assert counted(make_tokenizer, with_tools, row, tools=tools)[0] == {"answers": 1}
    assert counted(make_tokenizer, WHOLE, row, tools=tools) == ({"answers": 1, "tools": 1}, {"tools": 0})
