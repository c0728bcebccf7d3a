"""A row's prompt and completion → the one right answer that they spell out, where they do.

Two kinds are recognised, by rules strict enough that a row is rather left alone than misread:

    choice    the prompt ends with lines "A. bank", "B. library", …, and the completion is exactly one of them:
              the whole line, its text, its label ("B.") or its letter ("B")
    number    the completion is one short line that begins with its only number ("19 peaches", "$1,000"), or its
              last line is "#### 19" (GSM8K's)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from string import ascii_uppercase

from hbo.data.chat import Message

_OPTION = re.compile(r"\s*(\(?([A-Z])[.):])\s+(\S.*?)\s*")
_NUMBER = re.compile(
    r"\s*(?P<minus>[-−–])?\s?[$€£¥]?\s?(?P<inner>[-−–])?(?P<number>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?=$|\s|[%$€£¥]|[.,;:!?](?:\s|$))"
)
_FINAL = re.compile(r"^####(.*)$", re.MULTILINE)
_MOST_WORDS = 6  # of a unit, as in "4000 milliliters of water"; more is a sentence


@dataclass(frozen=True)
class Choice:
    """The options of a multiple-choice row, each written as the completion would be, and which of them is right."""

    options: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class NumberAnswer:
    """The value of a numeric answer, and whether it stands behind `####` at the end."""

    value: Decimal
    is_final_line: bool = False

    def equals(self, answer: str) -> bool:
        """Whether `answer` gives this number, in the same place; spelling and unit don't count.

        Example:
            >>> NumberAnswer(Decimal(1000)).equals("$1,000.00 each")
            True
        """
        if self.is_final_line:
            finals = _FINAL.findall(answer)
            return bool(finals) and leading_number(finals[-1]) == self.value
        return leading_number(answer) == self.value


def right_answer(prompt: Sequence[Message], completion: Sequence[Message]) -> Choice | NumberAnswer | None:
    """The row's answer if it is multiple choice or numeric, else None.

    Example:
        >>> right_answer([{"role": "user", "content": "2+3?"}], [{"role": "assistant", "content": "5 apples"}])
        NumberAnswer(value=Decimal('5'), is_final_line=False)
    """
    if len(completion) != 1 or completion[0]["role"] != "assistant" or not prompt or prompt[-1]["role"] != "user":
        return None
    if not {"reasoning_content", "tool_calls"}.isdisjoint(completion[0]):  # the text is not all of the answer
        return None
    answer = completion[0]["content"].strip()
    return _choice(prompt[-1]["content"], answer) or _number(answer)


def leading_number(text: str) -> Decimal | None:
    """The number that `text` begins with, if it begins with one; a currency sign before it and commas don't count.

    Ratios, fractions, times, ranges and numbers grown together with letters (`3/4`, `3:2`, `3-4`, `401k`) are none.

    Example:
        >>> leading_number("$1,000.50 in all"), leading_number("401k")
        (Decimal('1000.50'), None)
    """
    if not (found := _NUMBER.match(text)):
        return None
    value = Decimal(found["number"].replace(",", ""))
    return -value if found["minus"] or found["inner"] else value


def _choice(prompt: str, answer: str) -> Choice | None:
    options: list[re.Match[str]] = []
    for line in reversed(prompt.rstrip().splitlines()):
        if not (found := _OPTION.fullmatch(line)):
            break
        options.insert(0, found)
        if found[2] == "A":
            break
    if len(options) < 2 or "".join(option[2] for option in options) != ascii_uppercase[: len(options)]:
        return None
    spellings = [tuple(spelling(option) for option in options) for spelling in _SPELLINGS]
    fitting = {spelling for spelling in spellings if spelling.count(answer) == 1}
    # An answer "B" that is both a letter and another option's text would be a guess.
    if len(fitting) != 1:
        return None
    (spelling,) = fitting
    return Choice(spelling, spelling.index(answer))


_SPELLINGS = (
    lambda option: option[0].strip(),
    lambda option: option[3],
    lambda option: option[1],
    lambda option: option[2],
)


def _number(answer: str) -> NumberAnswer | None:
    if finals := _FINAL.findall(answer):
        value = leading_number(finals[-1])
        is_last = answer.splitlines()[-1].startswith("####")
        return NumberAnswer(value, is_final_line=True) if is_last and value is not None else None
    found = _NUMBER.match(answer)
    value = leading_number(answer)
    if found is None or value is None or "\n" in answer:
        return None
    rest = answer[found.end() :]
    if re.search(r"\d", rest) or len(rest.split()) > _MOST_WORDS:
        return None
    return NumberAnswer(value)
