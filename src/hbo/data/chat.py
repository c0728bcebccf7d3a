"""Where a chat template puts the answers: the text of a conversation and the characters of each assistant turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hbo.errors import DataError

Message = Mapping[str, str]
Span = tuple[int, int]

PLAIN = (
    "{% for message in messages %}"
    "{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + (eos_token or '') }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{% if messages %}{{ '\n\n' }}{% endif %}{{ 'Assistant:' }}{% endif %}"
)
"""The rendering for tokenizers without a chat template: `User: …`, `Assistant: …` and EOS, a blank line between."""

_MARK = "HBOanswerGOEShere"
_DATE = "26 Jul 2024"  # Llama's templates write today's date otherwise: other tokens after midnight


def render_answers(
    prompt: Sequence[Message], completion: Sequence[Message], tokenizer: Any, where: str
) -> tuple[str, list[Span]]:
    """The rendered conversation and, for each assistant turn of the completion, the characters that are its answer.

    Args:
        prompt: The conversation's start, without targets.
        completion: Its rest.
        tokenizer: Its chat template is used; `PLAIN` if it has none.
        where: Named in errors.

    Raises:
        DataError: The template refuses the conversation, or rewrites an answer beyond recognition.
    """
    messages = [*prompt, *completion]
    text = _render(messages, tokenizer)
    if isinstance(text, Exception):
        raise DataError(
            f"{where}: the tokenizer's chat template refuses the conversation ({text}); "
            "change its messages to roles and an order that the template takes"
        )
    spans: list[Span] = []
    for i, message in enumerate(completion, start=len(prompt)):
        if message["role"] == "assistant":
            span = _by_prefix(messages, i, text, tokenizer) or _by_mark(messages, i, text, tokenizer)
            if span is None:
                raise DataError(
                    f"{where}: the tokenizer's chat template rewrites answer {len(spans) + 1} so that its tokens "
                    "can't be told from the rest; use a simpler chat template"
                )
            spans.append(span)
    return text, spans


def render_opening(tokenizer: Any) -> str | None:
    """The chat template's text for an empty user message, up to the response; None if there is no such text."""
    if not tokenizer.chat_template:
        return None
    text = _render([{"role": "user", "content": ""}], tokenizer, opens_answer=True)
    return None if isinstance(text, Exception) else text


def _by_prefix(messages: Sequence[Message], i: int, text: str, tokenizer: Any) -> Span | None:
    after = text if i == len(messages) - 1 else _render(messages[: i + 1], tokenizer)
    if isinstance(after, Exception) or not text.startswith(after):
        return None
    start = _opened(messages[:i], after, tokenizer)
    return None if start is None else (start, len(after))


def _by_mark(messages: Sequence[Message], i: int, text: str, tokenizer: Any) -> Span | None:
    """The answer of a template whose earlier turns change with later ones (thoughts removed, system moved)."""
    marked = [*messages[:i], {**messages[i], "content": _MARK}, *messages[i + 1 :]]
    whole = _render(marked, tokenizer)
    alone = _render(marked[: i + 1], tokenizer)
    if isinstance(whole, Exception) or isinstance(alone, Exception):
        return None
    head, found, tail = whole.partition(_MARK)
    if not found or not text.startswith(head) or not text.endswith(tail) or len(text) < len(head) + len(tail):
        return None
    alone_head, _, alone_tail = alone.partition(_MARK)
    opened = _opened(messages[:i], alone, tokenizer)
    lead = "" if opened is None else alone_head[opened:]  # such as a space that stands before every answer
    start = len(head) - len(lead) if head.endswith(lead) else len(head)
    return start, len(text) - len(tail) + _shared(tail, alone_tail)


def _opened(asked: Sequence[Message], answered: str, tokenizer: Any) -> int | None:
    """How much of `answered` the generation prompt after `asked` has written already; None if that can't be told."""
    before = _render(asked, tokenizer, opens_answer=True)
    if isinstance(before, Exception):
        return None
    start = _shared(before, answered)
    if start < len(before):
        # Some generation prompts open a thought that the finished turn doesn't have; all else must be the same.
        closed = _render(asked, tokenizer)
        if isinstance(closed, Exception) or start < len(closed):
            return None
    return start


def _shared(a: str, b: str) -> int:
    """How many characters both begin with."""
    if b.startswith(a):
        return len(a)
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _render(messages: Sequence[Message], tokenizer: Any, opens_answer: bool = False) -> str | Exception:
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages),
                chat_template=None if tokenizer.chat_template else PLAIN,
                tokenize=False,
                add_generation_prompt=opens_answer,
                date_string=_DATE,
            )
        )
    except (TemplateError, TypeError, ValueError, LookupError) as error:
        return error
