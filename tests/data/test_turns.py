"""Turns as data has them, whatever their keys are called, become messages as templates read them."""

import pytest

from hbo.data.turns import TurnReader, split_turns
from hbo.data.unusable import BadRowError

WEATHER = {"name": "get_weather", "arguments": {"town": "Oslo"}}
CALL = {"type": "function", "function": WEATHER}


def read(*turns, roles=None, fills_nulls=False):
    return TurnReader(roles, fills_nulls=fills_nulls).turns(list(turns), "messages")


def unread(*turns):
    reader = TurnReader()
    reader.turns(list(turns), "messages")
    return reader.unread


def bot(content, **more):
    return {"role": "assistant", "content": content, **more}


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_a_thought_is_carried_under_the_name_that_templates_read(key):
    assert read(bot("16", **{key: "I add."})) == [bot("16", reasoning_content="I add.")]


def test_a_thought_among_the_parts_of_a_content_is_one():
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "I add."}]}, {"type": "text", "text": "16"}]
    assert read(bot(parts)) == [bot("16", reasoning_content="I add.")]
    assert read(bot([{"type": "reasoning", "text": "I add."}, "1", {"text": "6"}])) == [
        bot("16", reasoning_content="I add.")
    ]


@pytest.mark.parametrize("content", [None, "", "Let me look."])
def test_calls_are_carried_beside_any_content(content):
    assert read(bot(content, tool_calls=[{"id": "c0", **CALL}])) == [bot(content, tool_calls=[{"id": "c0", **CALL}])]


@pytest.mark.parametrize(
    "turn",
    [
        bot(None, tool_calls='[{"function": {"name": "get_weather", "arguments": "{\\"town\\": \\"Oslo\\"}"}}]'),
        bot(None, tool_calls=['{"name": "get_weather", "arguments": {"town": "Oslo"}}']),
        bot(None, function_call={"name": "get_weather", "arguments": '{"town": "Oslo"}'}),
        {"from": "function_call", "value": '{"name": "get_weather", "arguments": {"town": "Oslo"}}'},
        {"role": "tool_call", "content": '{"name": "get_weather", "parameters": {"town": "Oslo"}}'},
    ],
)
def test_every_spelling_of_a_call_becomes_the_one_that_templates_read(turn):
    assert read(turn) == [bot(None, tool_calls=[CALL])]


def test_calls_in_turns_of_their_own_belong_to_the_answer_before_them():
    calls = [
        {"role": "tool_call", "content": f'{{"name": "{name}", "arguments": {{}}}}'} for name in ("first", "second")
    ]
    turns = read(bot("Let me look."), *calls, {"role": "tool_response", "content": "3"}, bot("Three."))
    assert [turn["role"] for turn in turns] == ["assistant", "tool", "assistant"]
    assert turns[0]["content"] == "Let me look."
    assert [call["function"]["name"] for call in turns[0]["tool_calls"]] == ["first", "second"]


def test_a_call_that_is_no_json_stays_a_text():
    assert read({"from": "function_call", "value": "<call>add(1)</call>"}) == [bot("<call>add(1)</call>")]


def test_calls_that_can_not_be_read_are_refused_by_name():
    with pytest.raises(BadRowError, match=r"messages\[0\].tool_calls isn't a list of calls"):
        read(bot("", tool_calls=["look up the weather"]))


def test_columnar_files_fill_arguments_with_nulls_that_nobody_wrote():
    filled = {"function": {"name": "get_weather", "arguments": {"town": "Oslo", "query": None}}}
    assert read(bot(None, tool_calls=[filled]), fills_nulls=True) == [bot(None, tool_calls=[CALL])]
    written = {"function": {"name": "get_weather", "arguments": '{"town": null}'}}
    (turn,) = read(bot(None, tool_calls=[written]), fills_nulls=True)
    assert turn["tool_calls"][0]["function"]["arguments"] == {"town": None}
    (turn,) = read(bot(None, tool_calls=[filled]))
    assert turn["tool_calls"][0]["function"]["arguments"] == {"town": "Oslo", "query": None}


def test_what_a_tool_says_may_be_an_object_and_keeps_its_names():
    turn = {"role": "tool", "content": {"degrees": 3}, "name": "get_weather", "tool_call_id": "c0", "tool_calls": None}
    assert read(turn) == [{"role": "tool", "content": '{"degrees": 3}', "name": "get_weather", "tool_call_id": "c0"}]


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}, {"loss": False}]
)
def test_a_turn_marked_as_context_is_no_target(mark):
    turns = read({"role": "user", "content": "q"}, bot("WRONG", **mark), {"role": "user", "content": "r"}, bot("RIGHT"))
    prompt, completion = split_turns(turns)
    assert [turn["content"] for turn in prompt] == ["q", "WRONG", "r"]
    assert completion == [bot("RIGHT")]


def test_context_between_answers_stays_between_them():
    turns = read(bot("a", weight=1), bot("b", weight=0), bot("c", train=True), bot("d", weight=0))
    assert split_turns(turns) == ([], [bot("a"), bot("b", weight=0), bot("c")])


@pytest.mark.parametrize(
    "mark", [{"weight": 0.5}, {"weight": 2}, {"train": "no"}, {"train_detail": [{"train": False}]}]
)
def test_a_mark_that_can_not_be_honoured_is_refused_by_name(mark):
    (key,) = mark
    with pytest.raises(BadRowError, match=rf"messages\[0\].{key} "):
        read(bot("a", **mark))


def test_a_conversation_of_context_alone_has_no_target():
    with pytest.raises(BadRowError, match="every assistant turn is marked as context"):
        split_turns(read(bot("a", weight=0)))


def test_keys_that_nobody_reads_are_known():
    user = {"role": "user", "content": "q", "timestamp": 3, "language": None, "weight": 1}
    assert unread(user, bot("a", lang="en", name="Bo", loss=0.3)) == {
        "messages[].timestamp",
        "messages[].weight of turns that are no answers",
        "messages[].lang",
        "messages[].loss",
    }
    assert unread({"role": "user", "content": "q"}, bot("a", thinking="t", weight=1, tool_calls=[CALL])) == set()
    assert unread(bot("a", thinking="t", reasoning="u", speaker="Bo")) == {"messages[].reasoning", "messages[].speaker"}


def test_roles_of_ones_own_are_mapped():
    turns = read(
        {"from": "Agent", "value": "a"},
        {"from": "customer", "value": "b"},
        roles={"agent": "assistant", "Customer": "user"},
    )
    assert [turn["role"] for turn in turns] == ["assistant", "user"]
    with pytest.raises(BadRowError, match=r"is 'agent', an unknown role; say with `roles: {agent: user}`"):
        read({"from": "agent", "value": "a"})


def test_columns_of_turns_are_turns():
    turns = TurnReader().turns({"role": ["user", "assistant"], "content": ["q", "a"]}, "messages")
    assert turns == [{"role": "user", "content": "q"}, bot("a")]


def test_messages_may_be_json_text():
    text = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 1}]'
    assert TurnReader().turns(text, "messages") == [{"role": "user", "content": "q"}, bot("a")]
    assert read('{"role": "assistant", "content": "a"}') == [bot("a")]
