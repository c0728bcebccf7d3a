import pytest

from hbo.data.chat import render_answers, render_opening
from hbo.errors import DataError

TALK = [
    {"role": "user", "content": "yes"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "no"},
    {"role": "assistant", "content": "no"},
]

# Like Qwen3: the last answer gets an empty thought, earlier ones don't.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Mistral: the system message is written into the last user turn, wherever that is.
MOVING = (
    "{% set system = messages[0].content if messages and messages[0].role == 'system' else '' %}"
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST]{% if loop.index0 == ns.last %}{{ system }}\n\n{% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content | trim }}</s>{% endif %}{% endfor %}"
)
# Like DeepSeek-R1: the generation prompt opens a thought that a finished turn doesn't have.
OPENED = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# EOS stands after the last turn only, and an empty conversation is refused.
LAST_EOS = (
    "{{ messages[0]['role'] | upper }}: {% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# The head of the page says whether an answer is asked for.
ANNOUNCED = (
    "{% if add_generation_prompt %}ASK {% else %}DONE {% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def answers(template, messages, make_tokenizer, start=1):
    text, spans = render_answers(messages[:start], messages[start:], make_tokenizer(template), "row 0")
    return [text[first:last] for first, last in spans], [text[:first] for first, _ in spans]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (THINKING, ["yes<|im_end|>\n", "<think>\n\n</think>\n\nno<|im_end|>\n"]),
        (MOVING, [" yes</s>", " no</s>"]),
        (OPENED, ["yes</s>", "no</s>"]),
        (LAST_EOS, ["yes", "no</s>"]),
        (ANNOUNCED, ["yes</s>", "no</s>"]),
    ],
    ids=["thinking", "moving", "opened", "last_eos", "announced"],
)
def test_answers_are_found_when_prefixes_do_not_line_up(template, expected, make_tokenizer):
    found, before = answers(template, TALK, make_tokenizer)
    assert found == expected
    assert before[0].count("yes") == 1  # the user's own "yes" is not taken for the answer


def test_a_moving_system_message_is_never_part_of_an_answer(make_tokenizer):
    messages = [{"role": "system", "content": "SYS"}, *TALK]
    found, _ = answers(MOVING, messages, make_tokenizer, start=2)
    assert [answer.strip() for answer in found] == ["yes</s>", "no</s>"]


def test_a_conversation_may_begin_with_an_answer(make_tokenizer):
    found, _ = answers(LAST_EOS, TALK[1:], make_tokenizer, start=0)
    assert found == ["yes", "no</s>"]


def test_an_empty_answer_still_ends_its_turn(make_tokenizer):
    talk = [TALK[0], {"role": "assistant", "content": ""}, *TALK[2:]]
    assert answers(THINKING, talk, make_tokenizer)[0][0] == "<|im_end|>\n"


def test_todays_date_is_not_rendered(make_tokenizer):
    dated = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}{{ date_string }}"
    assert render_opening(make_tokenizer(dated)) == "26 Jul 2024"


def test_a_template_that_hides_the_answer_is_refused(make_tokenizer):
    hiding = "{% for m in messages %}{{ m.content | length + messages | length }};{% endfor %}"
    with pytest.raises(DataError, match=r"row 0: .*rewrites answer 1"):
        answers(hiding, TALK, make_tokenizer)


def test_a_template_that_refuses_an_empty_user_message_has_no_opening(make_tokenizer):
    assert render_opening(make_tokenizer("{{ raise_exception('no') }}")) is None
    assert render_opening(make_tokenizer(None)) is None
