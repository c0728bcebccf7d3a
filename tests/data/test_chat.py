import pytest

from hbo.data.chat import Renderer, render_opening
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
    text, spans = Renderer(make_tokenizer(template)).answers(messages[:start], messages[start:], "row 0")
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


CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
# Like Qwen3: tools stand before, thoughts of earlier turns are cut, a call may follow a text.
QWEN3 = (
    "{% if tools %}# Tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% endif %}"
    "{% set ns = namespace(last=0) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set content = m.content if m.content is string else '' %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or m.reasoning_content) %}"
    "<think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ content }}"
    "{% for call in m.tool_calls or [] %}{% if content or not loop.first %}{{ '\n' }}{% endif %}<tool_call>\n"
    "{{ call.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like Llama 3.1: a call replaces the text; more than one is refused.
LLAMA = (
    "{% for m in messages %}{% if 'tool_calls' in m %}"
    "{% if m.tool_calls | length != 1 %}{{ raise_exception('only single tool-calls at once!') }}{% endif %}"
    '<|assistant|>{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}</s>'
    "{% else %}<|{{ m.role }}|>{{ m.content | trim }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Like DeepSeek-V3: no content may stand beside a call, arguments must be text, and nothing opens a call.
DEEPSEEK = (
    "{% for m in messages %}{% if m.role == 'assistant' and m.content is not string %}"
    "{% for call in m.tool_calls %}<call>{{ call.function.name + ' ' + call.function.arguments }}{% endfor %}</s>"
    "{% else %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}</s>{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Like Gemma 4 and gpt-oss: what a tool says is written with the tool's name.
NAMING = (
    "{% for m in messages %}{% if m.role == 'tool' %}<result of {{ m.name }}>{{ m.content }}\n"
    "{% else %}<{{ m.role }}>{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<call {{ call.function.name }}>{% endfor %}</s>"
    "{% if not loop.last %}\n{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def called(content, name="add", **arguments):
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": content, "tool_calls": [call]}


def asking(call):
    return [TALK[0], call, {"role": "tool", "name": "add", "content": "3"}, {"role": "assistant", "content": "Three."}]


QWEN3_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
THREE = "<think>\n\n</think>\n\nThree.<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "content", "expected"),
    [
        (QWEN3, None, [QWEN3_CALL, THREE]),
        (QWEN3, "", [QWEN3_CALL, THREE]),
        (QWEN3, "Let me see.", [f"Let me see.\n{QWEN3_CALL}", THREE]),
        (LLAMA, None, ['{"name": "add", "parameters": {"a": 1}}</s>', "Three.</s>"]),
        (DEEPSEEK, None, ['<call>add {"a": 1}</s>', "Three.</s>"]),
        (DEEPSEEK, "", ['<call>add {"a": 1}</s>', "Three.</s>"]),
        (NAMING, None, ["<call add></s>", "Three.</s>"]),
        (NAMING, "Let me see.", ["Let me see.<call add></s>", "Three.</s>"]),
    ],
)
def test_a_call_is_an_answer_in_the_way_that_the_template_wants_it(template, content, expected, make_tokenizer):
    assert answers(template, asking(called(content, a=1)), make_tokenizer)[0] == expected


def test_tools_are_given_to_the_template(make_tokenizer):
    tools = [{"type": "function", "function": {"name": "add", "parameters": {}}}]
    text, spans = Renderer(make_tokenizer(QWEN3)).answers(TALK[:1], TALK[1:], "row 0", {"tools": tools})
    assert text.startswith(
        '# Tools\n{"type": "function", "function": {"name": "add", "parameters": {}}}\n<|im_start|>user'
    )
    assert text[slice(*spans[-1])] == "<think>\n\n</think>\n\nno<|im_end|>\n"


def test_a_template_that_leaves_calls_out_is_refused_by_name(make_tokenizer):
    for content in (None, "", "Let me see."):
        for template in (CHATML, None):
            with pytest.raises(DataError, match=r"row 0: .*doesn't write the tool_calls of answer 1 into it"):
                answers(template, asking(called(content)), make_tokenizer)


def test_a_template_that_refuses_calls_says_why(make_tokenizer):
    call = called(None)
    call["tool_calls"] *= 2
    with pytest.raises(DataError, match=r"refuses the conversation with its tool_calls \(only single tool-calls"):
        answers(LLAMA, asking(call), make_tokenizer)


@pytest.mark.parametrize("name", ["reasoning_content", "thinking"])
def test_a_thought_is_given_under_the_name_that_the_template_reads(name, make_tokenizer):
    template = (
        "{% for m in messages %}<|{{ m.role }}|>{% if m." + name + " %}<think>{{ m." + name + " }}</think>{% endif %}"
        "{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    thought = {**TALK[1], "reasoning_content": "I agree."}
    assert answers(template, [TALK[0], thought], make_tokenizer)[0] == ["<think>I agree.</think>yes</s>"]


def test_without_a_template_a_thought_stands_before_its_answer(make_tokenizer):
    thought = {**TALK[1], "reasoning_content": "I agree."}
    assert answers(None, [TALK[0], thought], make_tokenizer)[0] == [" <think>\nI agree.\n</think>\n\nyes<|im_end|>"]


def test_thoughts_of_earlier_turns_are_cut_where_the_template_cuts_them(make_tokenizer):
    first, second = ({**TALK[i], "reasoning_content": f"thought {i}"} for i in (1, 3))
    found, _ = answers(QWEN3, [TALK[0], first, TALK[2], second], make_tokenizer)
    assert found == ["yes<|im_end|>\n", "<think>\nthought 3\n</think>\n\nno<|im_end|>\n"]


def test_answers_that_are_context_are_not_sought(make_tokenizer):
    talk = [TALK[0], TALK[1], {**TALK[3], "weight": 0}, TALK[2], TALK[3]]
    assert answers(THINKING, talk, make_tokenizer)[0] == ["yes<|im_end|>\n", "<think>\n\n</think>\n\nno<|im_end|>\n"]


def test_an_answer_that_begins_like_the_thought_of_the_prompt_is_whole(make_tokenizer):
    talk = [TALK[0], {"role": "assistant", "content": "<b>yes</b>"}]
    assert answers(OPENED, talk, make_tokenizer)[0] == ["<b>yes</b></s>"]


def test_an_answer_does_not_end_inside_the_next_turn(make_tokenizer):
    phi = (  # like Phi 3: EOS stands after all, which begins like the next turn
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|im_end|>{% endif %}"
    )
    assert answers(phi, TALK, make_tokenizer)[0] == ["yes<|end|>\n", "no<|end|>\n<|im_end|>"]
