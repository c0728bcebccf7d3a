"""Where a chat template puts the answers: the text of a conversation and the characters of each assistant turn.

Templates differ in how they want calls: the arguments as an object or as text, the content beside them empty or absent.
A template gets them in the first of these ways that it can render.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from hbo.compat import with_thought
from hbo.data.turns import is_target
from hbo.data.unusable import UnusableRowError

Message = Mapping[str, Any]
Span = tuple[int, int]

PLAIN = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant: ' }}"
    "{% if message['reasoning_content'] %}"
    "{{ '<think>\n' + message['reasoning_content'] + '\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + (eos_token or '') }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{% if messages %}{{ '\n\n' }}{% endif %}{{ 'Assistant:' }}{% endif %}"
)
"""The rendering for tokenizers without a chat template: `User: …`, `Assistant: …` and EOS, a blank line between.

A thought stands before its answer, between `<think>` and `</think>`. BOS comes first if the tokenizer adds one.
"""

_MARK = "HBOanswerGOEShere"
_DATE = "26 Jul 2024"  # Llama's templates write today's date otherwise: other tokens after midnight
_OPEN_TAG = re.compile(r"<[^<>]*\Z")


class Renderer:
    """Renders conversations by one tokenizer's chat template, or by `PLAIN` if it has none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template = None if tokenizer.chat_template else plain_template(tokenizer)
        self._refuses_system: bool | None = None

    def answers(
        self,
        prompt: Sequence[Message],
        completion: Sequence[Message],
        where: str,
        given: Mapping[str, Any] | None = None,
    ) -> tuple[str, list[Span]]:
        """The rendered conversation and, for each answer of the completion that is trained on, its characters.

        Args:
            prompt: The conversation's start, without targets.
            completion: Its rest.
            where: Named in errors.
            given: What the template gets beside the messages, such as `tools`.

        Raises:
            UnusableRowError: The template refuses the conversation, rewrites an answer beyond recognition, or omits
                calls.
        """
        if self.folds(prompt):
            prompt = _folded(prompt)
        whole = [*prompt, *completion]
        targets = [i for i in range(len(prompt), len(whole)) if is_target(whole[i])]
        problems = []
        for messages in self._spellings(whole):
            found = self._found(messages, targets, given or {})
            if not isinstance(found, str):
                return found
            problems.append(found)
        # That calls are left out in one spelling says more than that another is refused.
        problem = min(problems, key=lambda each: each.startswith("refuses"))
        told = f"the tokenizer's chat template {problem}"
        raise UnusableRowError(f"{where}: {told}", told.partition("; ")[0])

    def folds(self, prompt: Sequence[Message]) -> bool:
        """Whether the system message goes to the start of the user's, as Gemma and Mistral have it.

        That is so where the template refuses a system message, and takes the conversation without it.
        """
        if len(_folded(prompt)) == len(prompt):
            return False
        if self._refuses_system is None:
            asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            system = {"role": "system", "content": "c"}
            self._refuses_system = isinstance(self.render([system, *asked], {}), Exception) and isinstance(
                self.render(asked, {}), str
            )
        return self._refuses_system

    def _found(
        self, messages: list[Message], targets: Sequence[int], given: Mapping[str, Any]
    ) -> tuple[str, list[Span]] | str:
        """The text and the answers in it; or what is wrong."""
        text = self.render(messages, given)
        if isinstance(text, Exception):
            what = "conversation with its tool_calls" if any("tool_calls" in m for m in messages) else "conversation"
            return f"refuses the {what} ({text}); change its messages to roles and an order that the template takes"
        chat = _Chat(self, messages, text, given)
        spans: list[Span] = []
        for number, i in enumerate(targets, start=1):
            span = chat.by_prefix(i) or chat.by_mark(i)
            names = [call["function"]["name"] for call in messages[i].get("tool_calls", ())]
            if not all(name in (text[slice(*span)] if span else text) for name in names):
                return (
                    f"doesn't write the tool_calls of answer {number} into it, so the model would learn to call "
                    "nothing; use a model or a chat template that renders tool_calls"
                )
            if span is None:
                return (
                    f"rewrites answer {number} so that its tokens can't be told from the rest; use a simpler chat "
                    "template"
                )
            spans.append(span)
        return text, spans

    def render(
        self, messages: Sequence[Message], given: Mapping[str, Any], opens_answer: bool = False
    ) -> str | Exception:
        """The text of messages as the template reads them, or what it says against them."""
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [with_thought(message) for message in messages],
                    chat_template=self._template,
                    tokenize=False,
                    add_generation_prompt=opens_answer,
                    **{"date_string": _DATE, **given},
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            return error

    def _spellings(self, turns: Sequence[Message]) -> Iterator[list[Message]]:
        messages: list[Message] = [{key: value for key, value in turn.items() if key != "weight"} for turn in turns]
        yield messages
        if any("tool_calls" in message for message in messages):
            yield [_with_text_arguments(message) for message in messages]
            swapped = [_with_other_blank(message) for message in messages]
            yield swapped
            yield [_with_text_arguments(message) for message in swapped]


class _Chat:
    """One rendered conversation, in which answers are sought."""

    def __init__(self, renderer: Renderer, messages: Sequence[Message], text: str, given: Mapping[str, Any]) -> None:
        self.renderer, self.messages, self.text, self.given = renderer, messages, text, given

    def by_prefix(self, i: int) -> Span | None:
        """The answer of message `i`, if what stands before it and with it are beginnings of the text."""
        messages, text = self.messages, self.text
        after = text if i == len(messages) - 1 else self._render(messages[: i + 1])
        if isinstance(after, Exception) or not text.startswith(after):
            return None
        start = self._opened(i, after)
        return None if start is None else (start, len(after))

    def by_mark(self, i: int) -> Span | None:
        """The same of a template whose earlier turns change with later ones (thoughts removed, system moved)."""
        message = self.messages[i]
        said = {**message, "content": _MARK}
        if "tool_calls" not in message:
            return self._around(i, said)
        called = self._around(i, _with_marked_call(message), message["tool_calls"][0]["function"]["name"])
        by_text = self._around(i, said) if message["content"] else None
        if called is None or (by_text and by_text[0] <= called[0] and by_text[1] >= called[1]):
            return by_text
        # What opens a call stands before its name. It begins where a text would, if one may stand there.
        start = self._start(i, said)
        return called if start is None or start > called[0] else (start, called[1])

    def _around(self, i: int, marked: Message, part: str = "") -> Span | None:
        """The answer of which `marked` replaces a part by the mark; `part` is what later turns may repeat of it."""
        if (found := self._marked(i, marked)) is None:
            return None
        (head, tail), (_, alone_tail) = found
        tail, alone_tail = tail.replace(_MARK, part), alone_tail.replace(_MARK, part)
        text, start = self.text, self._start(i, marked)
        if start is None or not text.endswith(tail) or len(text) < len(head) + len(tail):
            return None
        return start, len(text) - len(tail) + len(_ending(tail, alone_tail))

    def _start(self, i: int, marked: Message) -> int | None:
        """Where the answer begins of which `marked` replaces a part by the mark."""
        found = self._marked(i, marked)
        if found is None or not self.text.startswith(found[0][0]):
            return None
        (head, _), (alone_head, alone_tail) = found
        opened = self._opened(i, alone_head + _MARK + alone_tail)
        lead = "" if opened is None else alone_head[opened:]  # such as a space that stands before every answer
        return len(head) - len(lead) if head.endswith(lead) else len(head)

    def _marked(self, i: int, marked: Message) -> tuple[tuple[str, str], tuple[str, str]] | None:
        """What stands before and after the mark, in the whole conversation and in one that ends with the answer."""
        asked = self.messages[:i]
        whole = self._render([*asked, marked, *self.messages[i + 1 :]])
        alone = self._render([*asked, marked])
        if isinstance(whole, Exception) or isinstance(alone, Exception) or _MARK not in whole or _MARK not in alone:
            return None
        head, _, tail = whole.partition(_MARK)
        alone_head, _, alone_tail = alone.partition(_MARK)
        return (head, tail), (alone_head, alone_tail)

    def _opened(self, i: int, answered: str) -> int | None:
        """How much of `answered` the generation prompt before answer `i` wrote already; None if that can't be told."""
        asked = self.messages[:i]
        before = self._render(asked, opens_answer=True)
        if isinstance(before, Exception):
            return None
        start = _shared(before, answered)
        if start < len(before):
            # Some generation prompts open a thought that the finished turn doesn't have; all else must be the same.
            closed = self._render(asked)
            if isinstance(closed, Exception) or start < len(closed):
                return None
            # An answer may begin like that thought by chance, as "<b>" does like "<think>".
            start = max(len(closed), len(_OPEN_TAG.sub("", answered[:start])))
        return start

    def _render(self, messages: Sequence[Message], opens_answer: bool = False) -> str | Exception:
        return self.renderer.render(messages, self.given, opens_answer)


def plain_template(tokenizer: Any) -> str:
    """`PLAIN`, with the tokenizer's BOS where it would put one before a text."""
    return ("{{ bos_token }}" if adds_bos(tokenizer) else "") + PLAIN


def example_prompt(tokenizer: Any) -> str:
    """A question as the model gets it, up to where its answer begins."""
    return str(Renderer(tokenizer).render([{"role": "user", "content": "What is 2 + 2?"}], {}, opens_answer=True))


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts BOS before a text by itself."""
    bos = tokenizer.bos_token_id
    return bos is not None and list(tokenizer("a")["input_ids"])[:1] == [bos]


def render_opening(tokenizer: Any) -> str | None:
    """The chat template's text for an empty user message, up to the response; None if there is no such text."""
    if not tokenizer.chat_template:
        return None
    text = Renderer(tokenizer).render([{"role": "user", "content": ""}], {}, opens_answer=True)
    return None if isinstance(text, Exception) else text


def _folded(prompt: Sequence[Message]) -> Sequence[Message]:
    """The system messages at the start put before the first user's text, if that comes next."""
    count = next((i for i, turn in enumerate(prompt) if turn["role"] != "system"), len(prompt))
    if not count or count == len(prompt) or prompt[count]["role"] != "user":
        return prompt
    parts = [turn["content"] for turn in prompt[: count + 1]]
    return [{**prompt[count], "content": "\n\n".join(part for part in parts if part)}, *prompt[count + 1 :]]


def _with_text_arguments(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"]["arguments"]
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": text}})
    return {**message, "tool_calls": calls}


def _with_other_blank(message: Message) -> Message:
    """Null in the place of an empty content beside calls, or the other way round."""
    if "tool_calls" not in message or message["content"]:
        return message
    return {**message, "content": "" if message["content"] is None else None}


def _with_marked_call(message: Message) -> Message:
    first, *rest = message["tool_calls"]
    return {**message, "tool_calls": [{**first, "function": {**first["function"], "name": _MARK}}, *rest]}


def _ending(tail: str, alone_tail: str) -> str:
    """How an answer ends, by what stands after it amid a conversation and at its end.

    Where the two differ, it is the beginning that they share, unless that goes on into the next turn: "<|end|>\\n<" if
    one says "<|end|>\\n<|user|>" and the other "<|end|>\\n</s>".
    """
    shared = tail[: _shared(tail, alone_tail)]
    if shared in (tail, alone_tail):
        return shared
    whole = _OPEN_TAG.sub("", shared)
    return whole if whole.strip() else shared


def _shared(a: str, b: str) -> int:
    """How many characters both begin with."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
