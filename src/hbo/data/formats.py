"""A row of a chat, instruction, preference or text dataset → its prompt and its completion, as lists of messages.

    messages        {messages: [{role, content}, …]}
    conversations   {conversations: [{from, value}, …]}                    ShareGPT
    prompt          {prompt, completion}: strings, or lists of messages
    instruction     {instruction, input?, output | response}               Alpaca, Dolly
    preference      {chosen, and whatever comes before it}: `chosen` is the answer
    text            {text}

The prompt is every message before the first answer that is trained on, the completion the rest up to the last one; only
a row that has `prompt` and `completion` itself may hold earlier answers in its prompt, which then are no targets. Both
spellings of a turn are read in every format that has turns. All but `text` read `system`, `tools` and
`chat_template_kwargs` too; `hbo.data.columns` has the names that each column goes by.

An empty string is text like any other: an empty prompt is no instruction, an empty response leaves the end-of-turn
token as its target. Null, or anything that isn't text, is an error that names the row.

A new format is one more `Format` in `FORMATS`, and a function where none of those that are here reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hbo.data.canonical import Conversation
from hbo.data.columns import SPELLINGS, Cells, Names
from hbo.data.json_text import listed, tools_of
from hbo.data.turns import Turn, TurnReader, is_filled, split_turns, text_of
from hbo.data.unusable import BadRowError

Parts = tuple[list[Turn], list[Turn]]
"""Turns of which none is a target, and turns of which every answer is."""

_OWN_ARGUMENTS = {"tokenize", "add_generation_prompt", "continue_final_message", "return_dict", "conversation", "tools"}


@dataclass(frozen=True)
class Format:
    """One kind of row."""

    name: str
    needs: tuple[str, ...]
    """The columns that it can't be without."""
    read: Callable[[Cells, TurnReader], Parts]
    aliases: tuple[str, ...] = ()
    """Other names that `format:` takes."""
    shown: str = ""
    """Its columns, in words."""
    is_chat: bool = True
    """Whether it becomes messages."""
    context: str | None = "input"
    """The column that a text beside them goes to which stands before the answer; None where nothing can."""
    also: Callable[[Cells], bool] = lambda cells: True
    """What must hold beside that before a row is taken for one."""

    def conversation(self, cells: Cells, turns: TurnReader) -> Conversation:
        """The row's conversation.

        Raises:
            BadRowError: It can't be used.
        """
        before, rest = self.read(cells, turns)
        if not self.is_chat:
            return Conversation(before, rest)
        lead, answers = split_turns(rest)
        begun = [*before, *lead]
        tools = cells.value("tools", lambda value: tools_of(value, fills_nulls=turns.fills_nulls))
        return Conversation([*_system(cells, begun), *begun], answers, tools or None, _template_kwargs(cells, turns))

    def fits(self, cells: Cells) -> bool:
        """Whether the row has all it needs, and not all of it blank."""
        found = [cells.first(name) for name in self.needs]
        return None not in found and any(map(is_filled, found)) and self.also(cells)


def _chat(column: str) -> Callable[[Cells, TurnReader], Parts]:
    def read(cells: Cells, turns: TurnReader) -> Parts:
        found = turns.turns(cells.get(column), column)
        cells.note_said(("prompt", "chosen"), [cells.row[column], *(turn["content"] for turn in found)])
        if found[-1]["role"] != "assistant" and is_filled(cells.row.get("chosen")):
            found += _chosen(cells, turns)  # the pairs of LLaMA-Factory: a conversation, and two ways to go on
        return [], found

    return read


def _prompt(cells: Cells, turns: TurnReader) -> Parts:
    before, asked = _asked(cells, turns)
    completion = _messages(cells.get("completion"))
    if isinstance(completion, list):
        return [*before, *asked], turns.turns(completion, "completion")
    return before, [*asked, _answer(completion, "completion", cells)]


def _asked(cells: Cells, turns: TurnReader) -> Parts:
    """The turns of `prompt`: a list holds no targets; beside a string `history` may."""
    prompt = _messages(cells.get("prompt"))
    if isinstance(prompt, list):
        return (turns.turns(prompt, "prompt") if prompt else []), []
    context = cells.text("input") if "input" in cells.renamed else ""
    return [], [*_history(cells, turns), *_user(text_of(prompt, "prompt"), context)]


def _instruction(cells: Cells, turns: TurnReader) -> Parts:
    asked = _user(text_of(cells.get("instruction"), "instruction"), *cells.contexts())
    name = cells.named("output")
    return [], [*_history(cells, turns), *asked, _answer(cells.get(name), name, cells)]


def _preference(cells: Cells, turns: TurnReader) -> Parts:
    answers = _chosen(cells, turns)
    if answers[0]["role"] != "assistant":  # the whole conversation
        cells.note_said(
            ("prompt", "question", "messages"), [cells.row["chosen"], *(turn["content"] for turn in answers)]
        )
        return [], answers
    row = cells.row
    if is_filled(row.get("prompt")):
        before = [turn for part in _asked(cells, turns) for turn in part]
    elif is_filled(row.get("instruction")):
        asked = _user(text_of(cells.get("instruction"), "instruction"), *cells.contexts())
        before = [*_history(cells, turns), *asked]
    elif is_filled(row.get("question")):
        before = [*_history(cells, turns), *_user(text_of(cells.get("question"), "question"), *cells.contexts())]
    else:
        column = next((name for name in ("messages", "conversations") if is_filled(row.get(name))), None)
        if column is None:
            raise BadRowError(
                "there is no prompt before `chosen`; name its column with `columns: {prompt: <column>}`, or train on "
                "it as a whole with `columns: {text: chosen}`"
            )
        before = turns.turns(cells.get(column), column)
    return before, answers


def _chosen(cells: Cells, turns: TurnReader) -> list[Turn]:
    chosen = _messages(cells.get("chosen"))
    if isinstance(chosen, list):
        return turns.turns(chosen, "chosen")
    return [_answer(chosen, "chosen", cells)]


def _has_start(cells: Cells) -> bool:
    names = ("prompt", "instruction", "question", "messages", "conversations")
    return not isinstance(_messages(cells.row["chosen"]), str) or any(is_filled(cells.row.get(name)) for name in names)


def _text(cells: Cells, turns: TurnReader) -> Parts:
    return [], [{"role": "text", "content": text_of(cells.get("text"), "text")}]


FORMATS: tuple[Format, ...] = (
    Format("messages", ("messages",), _chat("messages"), ("openai",), context="system"),
    Format("conversations", ("conversations",), _chat("conversations"), ("sharegpt",), context="system"),
    Format("prompt", ("prompt", "completion"), _prompt, ("prompt_completion",), "prompt, completion"),
    Format("instruction", ("instruction", "output"), _instruction, ("alpaca", "dolly"), "instruction, input, output"),
    Format("preference", ("chosen",), _preference, ("chosen",), "prompt, chosen", also=_has_start),
    Format("text", ("text",), _text, is_chat=False, context=None),
)
"""The formats, in the order in which they are detected."""

READABLE = tuple(dict.fromkeys([*SPELLINGS, *(name for each in FORMATS for name in each.needs)]))
"""The columns that they read."""

KNOWN_FORMATS = "; ".join(f"{each.name} ({each.shown})" if each.shown else each.name for each in FORMATS)


def format_named(name: str) -> Format | None:
    """The format of that name, or of one of its other names; of `prompt/completion` and the like the first word counts.

    Example:
        >>> format_named("alpaca").name, format_named("text/anything").name, format_named("wizard")
        ('instruction', 'text', None)
    """
    return next((each for each in FORMATS if name in each.aliases or name.split("/")[0] == each.name), None)


def possible(names: Names) -> list[Format]:
    """The formats whose columns are there, whatever stands in them."""
    return [each for each in FORMATS if all(name in names for name in each.needs)]


def detect(cells: Cells, formats: Sequence[Format] | None = None) -> Format | None:
    """The first format whose columns are filled in this row, else the first whose columns are there, or None.

    Args:
        cells: The row.
        formats: `possible` of its columns, where that is known.

    Example:
        >>> detect(Cells({"messages": None, "instruction": "q", "input": None, "output": "a"})).name
        'instruction'
    """
    formats = possible(cells.names) if formats is None else formats
    begun: Format | None = None
    for each in formats:
        if each.fits(cells):
            return each if each.is_chat or begun is None else begun
        if begun is None and any(is_filled(cells.first(name)) for name in each.needs):
            begun = each  # a row of it that lacks something is no text because of that
    return begun or (formats[0] if formats else None)


def _messages(value: Any) -> Any:
    """`value`, or the messages of which it is the JSON text; any other text is a text."""
    found = listed(value)
    items = found if isinstance(found, list) else [found]
    is_turn = [isinstance(item, Mapping) and bool({"role", "from"} & item.keys()) for item in items]
    return items if is_turn and all(is_turn) else value


def _user(*texts: str) -> list[Turn]:
    asked = "\n\n".join(text for text in texts if is_filled(text))
    return [{"role": "user", "content": asked}] if asked else []


def _answer(value: Any, field: str, cells: Cells) -> Turn:
    answer = {"role": "assistant", "content": text_of(value, field)}
    thought = cells.value("reasoning_content", lambda each: each if isinstance(each, str) else None)
    return answer | ({"reasoning_content": text_of(thought, "reasoning_content")} if thought else {})


def _history(cells: Cells, turns: TurnReader) -> list[Turn]:
    """Earlier turns: pairs of a question and its answer, as Alpaca's derivatives have them, or messages."""

    def read(value: Any) -> list[Turn] | None:
        if not isinstance(value, list) or not value:
            return None
        if all(isinstance(item, Mapping) for item in value):
            return turns.turns(value, "history") if all({"role", "from"} & item.keys() for item in value) else None
        pairs = [listed(item) for item in value]
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return None
        found: list[Turn] = []
        for i, (asked, answered) in enumerate(pairs):
            said = text_of("" if asked is None else asked, f"history[{i}][0]")
            found += [*_user(said), {"role": "assistant", "content": text_of(answered, f"history[{i}][1]")}]
        return found

    return cells.value("history", read) or []


def _system(cells: Cells, begun: list[Turn]) -> list[Turn]:
    has_own = bool(begun) and begun[0]["role"] == "system"
    if has_own and not is_filled(cells.row.get("system")):
        cells.note_said(cells.names.get("system", ()), [begun[0]["content"]])
        return []  # the conversation says itself what a column of another name may say otherwise
    text = cells.text("system")
    repeats = has_own and text.strip() == begun[0]["content"].strip()
    return [{"role": "system", "content": text}] if is_filled(text) and not repeats else []


def _template_kwargs(cells: Cells, turns: TurnReader) -> dict[str, Any] | None:
    def read(value: Any) -> dict[str, Any] | None:
        return value if isinstance(value, dict) else None

    found: dict[str, Any] | None = cells.value("chat_template_kwargs", read)
    if found is None:
        return None
    if own := sorted(_OWN_ARGUMENTS & found.keys()):
        raise BadRowError(f"chat_template_kwargs holds '{own[0]}', which hbo sets itself; remove it")
    # Columnar files give each object the keys of all others, and templates ask whether a key is there.
    return {key: value for key, value in found.items() if value is not None or not turns.fills_nulls} or None


_PAIRS = (  # what other datasets call a prompt and its completion
    ("question", "answer"), ("query", "response"), ("inputs", "targets"), ("problem", "solution"),
    ("prompt", "response"), ("prompt", "answer"), ("question", "response"), ("input", "output"),
    ("instruction", "answer"), ("source", "target"),
)  # fmt: skip
_CHATS = ("conversation", "dialog", "dialogue", "chat", "turns")


def renamed(row: Mapping[str, Any]) -> dict[str, str]:
    """Canonical name → column, for rows in no known format whose columns have names that are common elsewhere.

    Example:
        >>> renamed({"question": "1 + 1?", "answer": "2"})
        {'prompt': 'question', 'completion': 'answer'}
    """
    cells = Cells(row)
    if detect(cells) is not None:
        return {}
    for prompt, completion in _PAIRS:
        if prompt in row and completion in row:
            context = [name for name in cells.names.get("input", ()) if name != prompt][:1]
            return {"prompt": prompt, "completion": completion} | dict(zip(["input"], context, strict=False))
    for column in _CHATS:
        if isinstance(listed(row.get(column)), list):
            return {"messages": column}
    return {}
