"""The turns of one conversation, in any spelling that data has → messages as chat templates read them.

A canonical turn has `role` and `content`, which is null only where a turn consists of calls. Where there is any it has
`reasoning_content`, `tool_calls`, `name` and `tool_call_id` too, and `weight: 0` where it is context alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

from hbo.data.json_text import calls_of, json_text, listed
from hbo.data.unusable import BadRowError

Turn = dict[str, Any]

_SPELLINGS = {
    "system": "system developer",
    "user": "user human prompter",
    "assistant": "assistant gpt chatgpt bot chatbot ai model function_call tool_call tool_calls",
    "tool": "tool function observation ipython tool_response tool_result tool_output function_response",
}
ROLES = {spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings.split()}
"""Every spelling of a role that is understood, and the role it becomes."""

_CALLS = {"function_call", "tool_call", "tool_calls"}  # roles whose text is the JSON of a call
_ROLE = ("role", "from", "speaker")
_TEXT = ("content", "value", "text")
_THOUGHT = ("reasoning_content", "thinking", "reasoning")
_MADE = ("tool_calls", "function_call")
_TARGET = ("weight", "train", "training", "loss")
_CARRIED = ("name", "tool_call_id")

_KINDS: dict[type, str] = {
    NoneType: "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def text_of(value: Any, field: str) -> str:
    """`value` if it is a string that can be stored.

    Raises:
        BadRowError: It is null, something else than a string, or holds half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise BadRowError(f"{field} is {kind(value)}, not a string")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRowError(
            f"{field} holds an unpaired surrogate (character {error.start + 1}), so it isn't valid text"
        ) from None
    return value


def is_filled(value: Any) -> bool:
    """Whether a cell says anything: it is neither null, nor blank text, nor an empty list or object.

    Example:
        >>> is_filled("  "), is_filled([]), is_filled(0)
        (False, False, True)
    """
    if isinstance(value, str):
        return bool(value) and not value.isspace()
    return value is not None and not (isinstance(value, list | dict) and not value)


def kind(value: Any) -> str:
    """What a value is, in the words of JSON.

    Example:
        >>> kind(None), kind(3), kind(["a"])
        ('null', 'a number', 'a list')
    """
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def is_target(turn: Mapping[str, Any]) -> bool:
    """Whether the turn is an answer that is trained on.

    Example:
        >>> answer = {"role": "assistant", "content": "4"}
        >>> is_target(answer), is_target({**answer, "weight": 0})
        (True, False)
    """
    return turn["role"] == "assistant" and "weight" not in turn


def split_turns(turns: list[Turn]) -> tuple[list[Turn], list[Turn]]:
    """The turns before the first answer that is trained on, and the rest up to the last one.

    What stands after the last such answer is left out: nothing follows from it, so it could not teach anything.

    Raises:
        BadRowError: There is no answer, or none that is trained on.
    """
    if not any(turn["role"] == "assistant" for turn in turns):
        raise BadRowError("the conversation has no assistant turn")
    targets = [i for i, turn in enumerate(turns) if is_target(turn)]
    if not targets:
        raise BadRowError("every assistant turn is marked as context (weight: 0, train: false), so none is a target")
    return turns[: targets[0]], turns[targets[0] : targets[-1] + 1]


class TurnReader:
    """Turns of one source → canonical ones.

    Args:
        roles: Further spellings of roles, and the role that each becomes.
        fills_nulls: Whether the source gives each object the keys of all others.
    """

    unread: set[str]
    """Keys of the turns that were read since it was last cleared, of which no use is made."""

    def __init__(self, roles: Mapping[str, str] | None = None, *, fills_nulls: bool = False) -> None:
        self.roles = ROLES | {name.strip().lower(): ROLES[role] for name, role in (roles or {}).items()}
        self.fills_nulls = fills_nulls
        self.unread = set()

    def turns(self, value: Any, field: str) -> list[Turn]:
        """The messages of a list of turns, which may be JSON text.

        Raises:
            BadRowError: It is no list, is empty, or holds a turn without a known role or without text.
        """
        value = _transposed(listed(value))
        if not isinstance(value, list):
            text = " (nor JSON text of one, as json.dumps writes it)" if isinstance(value, str) else ""
            raise BadRowError(f"{field} is {kind(value)}, not a list of messages{text}")
        if not value:
            raise BadRowError(f"{field} is an empty list")
        found: list[Turn] = []
        for i, item in enumerate(value):
            turn, is_call = self._plain(item, field, i) or self._turn(listed(item), field, i)
            if is_call and found and found[-1]["role"] == "assistant" and _weight(found[-1]) == _weight(turn):
                found[-1].setdefault("tool_calls", []).extend(turn["tool_calls"])  # one answer, written as two turns
            else:
                found.append(turn)
        return found

    def _plain(self, turn: Any, field: str, i: int) -> tuple[Turn, bool] | None:
        """A turn of nothing but role and content, as most are; None for any other."""
        if not isinstance(turn, dict) or len(turn) != 2:
            return None
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(role, str) or not isinstance(content, str) or role in _CALLS or role not in self.roles:
            return None
        return {"role": self.roles[role], "content": text_of(content, f"{field}[{i}].content")}, False

    def _turn(self, turn: Any, field: str, i: int) -> tuple[Turn, bool]:
        """The turn, and whether it came under a role of its own for calls."""
        place = f"{field}[{i}]"
        if not isinstance(turn, Mapping):
            raise BadRowError(f"{place} is {kind(turn)}, not an object")
        role_key, text_key = _first(turn, _ROLE), _first(turn, _TEXT) or "content"
        if role_key is None:
            raise BadRowError(f"{place} has no role; a turn is {{role, content}} or {{from, value}}")
        spelled = text_of(turn[role_key], f"{place}.{role_key}").strip().lower()
        if spelled not in self.roles:
            raise BadRowError(
                f"{place}.{role_key} is '{spelled[:40]}', an unknown role; say with "
                f"`roles: {{{spelled[:40]}: user}}` that it is the user, or system, assistant or tool "
                f"(known: {', '.join(self.roles)})"
            )
        role, said = self.roles[spelled], turn.get(text_key)
        calls = calls_of(said, fills_nulls=self.fills_nulls) if spelled in _CALLS else None
        more = self._more(turn, role, place) if len(turn) > 2 else {}
        if calls:
            said, more["tool_calls"] = None, calls + more.get("tool_calls", [])
        content, thought = _content(said, role, more, f"{place}.{text_key}")
        if thought:
            more["reasoning_content"] = thought
        if len(turn) > 2:
            self._note_unread(turn, {role_key, text_key}, role, field)
        return {"role": role, "content": content, **more}, bool(calls)

    def _more(self, turn: Mapping[str, Any], role: str, place: str) -> Turn:
        """What a turn has beyond its role and content."""
        found: Turn = {}
        if role == "assistant":
            key = _first(turn, _THOUGHT)
            if key and isinstance(turn[key], str) and is_filled(turn[key]):
                found["reasoning_content"] = text_of(turn[key], f"{place}.{key}")
            key = _first(turn, _MADE)
            if key and is_filled(turn[key]):
                calls = calls_of(turn[key], fills_nulls=self.fills_nulls)
                if calls is None:
                    raise BadRowError(f"{place}.{key} isn't a list of calls {{function: {{name, arguments}}}}")
                if calls:
                    found["tool_calls"] = calls
            if is_filled(turn.get("train_detail")):
                raise BadRowError(
                    f"{place}.train_detail marks parts of a turn, but hbo trains on whole turns; mark them with "
                    "train: true or false, and take train_detail out"
                )
        for key in _CARRIED:
            if isinstance(turn.get(key), str):
                found[key] = text_of(turn[key], f"{place}.{key}")
        if any(_is_context(turn.get(key), key, f"{place}.{key}") for key in _TARGET):
            found["weight"] = 0
        return found

    def _note_unread(self, turn: Mapping[str, Any], used: set[str], role: str, field: str) -> None:
        for key, value in turn.items():
            if key in used or not is_filled(value):
                continue
            if key in _TARGET:
                if role != "assistant" and value and not (key == "loss" and not isinstance(value, bool)):
                    self.unread.add(f"{field}[].{key} of turns that are no answers")
                is_read = key != "loss" or isinstance(value, bool)
            elif role == "assistant" and key in (*_THOUGHT, *_MADE):
                is_read = key in (_first(turn, _THOUGHT), _first(turn, _MADE))
            else:
                is_read = key in _CARRIED
            if not is_read or (key in (*_CARRIED, *_THOUGHT) and not isinstance(value, str)):
                self.unread.add(f"{field}[].{key}")


def _first(turn: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    # Columnar files give every key to every turn, those of another spelling as null.
    filled = next((key for key in keys if turn.get(key) is not None), None)
    return filled or next((key for key in keys if key in turn), None)


def _weight(turn: Turn) -> int:
    return int(turn.get("weight", 1))


def _is_context(value: Any, key: str, place: str) -> bool:
    """Whether a turn is marked as no target, in OpenAI's (weight), axolotl's (train) or ms-swift's (loss) words."""
    if value is None or (key == "loss" and not isinstance(value, bool)):  # a loss that someone measured
        return False
    if not isinstance(value, int | float) or value not in (0, 1):
        is_short = isinstance(value, str | int | float)
        shown = f"'{value[:20]}'" if isinstance(value, str) else value if is_short else kind(value)
        raise BadRowError(f"{place} is {shown}, but hbo trains on a turn (1, true) or doesn't (0, false)")
    return not value


def _content(said: Any, role: str, more: Turn, field: str) -> tuple[str | None, str | None]:
    """The text of a turn, and the thought that stands among its parts."""
    if said is None and "tool_calls" in more:
        return None, None
    if said is None and "reasoning_content" in more:
        return "", None
    if isinstance(said, list) and not (role == "tool" and not _are_parts(said)):
        return _joined(said, field)
    if role == "tool" and isinstance(said, list | dict):
        try:
            return json_text(said), None
        except ValueError as error:
            raise BadRowError(f"{field} can't be written as JSON ({error})") from None
    return text_of(said, field), None


def _are_parts(said: list[Any]) -> bool:
    return bool(said) and all(isinstance(part, Mapping) and "type" in part for part in said)


def _joined(parts: list[Any], field: str) -> tuple[str, str | None]:
    texts, thoughts = [], []
    for part in parts:
        sort = part.get("type", "text") if isinstance(part, Mapping) else "text"
        if sort in ("text", "input_text", "output_text"):
            texts.append(text_of(part.get("text") if isinstance(part, Mapping) else part, field))
        elif sort in ("thinking", "reasoning"):
            thought = part.get("thinking") or part.get("reasoning") or part.get("text")
            thoughts.append(_joined(thought, field)[0] if isinstance(thought, list) else text_of(thought, field))
        else:
            raise BadRowError(f"{field} has a part that isn't text but '{str(sort)[:40]}'; only text can be trained on")
    return "".join(texts), "".join(thoughts) or None


def _transposed(value: Any) -> Any:
    """A list of turns, from the columns of turns that older releases of datasets wrote: {role: […], content: […]}."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(each, list) for each in value.values()):
        return value
    if len({len(each) for each in value.values()}) != 1:
        return value
    return [dict(zip(value, each, strict=True)) for each in zip(*value.values(), strict=True)]
