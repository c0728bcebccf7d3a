"""Facts of CLDR and spelt-out numbers, as JSON on stdout: a program for a process of its own.

    python -I -S cldr_program.py FOLDER WHEEL

FOLDER holds Babel, WHEEL is that of num2words. Nothing else is imported, neither hbo nor what happens to be installed,
so the versions that are pinned are the ones that answer. What is printed is task → fact → dataset → [question, answer].
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from typing import Any

LOCALES = {
    "english": "en",
    "arabic": "ar",
    "german": "de",
    "spanish": "es",
    "hindi": "hi",
    "russian": "ru",
    "swahili": "sw",
    "chinese": "zh_Hans",
}
_SPELT = ("english", "arabic", "german", "spanish", "russian")  # those that num2words knows
_DAYS, _NUMBERS, _AMOUNTS = 1000, 500, 500
_FIRST_DAY, _LAST_DAY = date(1950, 1, 1).toordinal(), date(2024, 12, 31).toordinal()
_NO_PLACE = {"EU", "EZ", "UN", "QO", "XA", "XB", "ZZ"}  # unions, remainders, tests, the unknown
_NO_LANGUAGE = {"mis", "mul", "root", "und", "zxx"}
_MONEY = ("AED", "BRL", "CHF", "CNY", "EUR", "GBP", "ILS", "INR", "KES", "MXN", "PLN", "RUB", "SAR", "TRY", "USD")

Answers = Iterator[tuple[str, str, str]]
"""Fact, question and answer, of one dataset."""


def countries(locale: Any) -> Answers:
    for code, name in locale.territories.items():
        if re.fullmatch("[A-Z]{2}", code) and code not in _NO_PLACE:
            yield code, code, name


def languages(locale: Any) -> Answers:
    for code, name in locale.languages.items():
        if re.fullmatch("[a-z]{2,3}", code) and code not in _NO_LANGUAGE:
            yield code, code, name


def currencies(locale: Any) -> Answers:
    for code, name in locale.currencies.items():
        if code[0] != "X" and not re.search(r"\d", name):  # neither metals and tests nor a currency of certain years
            yield code, code, name


def units(locale: Any) -> Answers:
    from babel.units import format_unit

    for place, unit in enumerate(sorted(locale.unit_display_names)):
        count = 2 + place * 37 % 97
        patterns, form = locale._data["unit_patterns"].get(unit, {}), locale.plural_form(count)
        # Where a pattern is missing Babel puts the unit's identifier or its plain name beside the number.
        if all(form in patterns.get(length, {}) for length in ("short", "long")):
            yield unit, *(format_unit(count, unit, length, locale=locale) for length in ("short", "long"))


def _days(wanted: int) -> Iterator[date]:
    # Every other day is for the dates and the rest for the days of the week, so that no day serves both.
    for place in range(wanted, 2 * _DAYS, 2):
        yield date.fromordinal(_FIRST_DAY + place * 7919 % (_LAST_DAY - _FIRST_DAY + 1))


def dates(locale: Any) -> Answers:
    from babel.dates import format_date

    for day in _days(0):
        yield day.isoformat(), day.isoformat(), format_date(day, "long", locale)


def weekdays(locale: Any) -> Answers:
    from babel.dates import format_date

    for day in _days(1):
        yield day.isoformat(), format_date(day, "long", locale), format_date(day, "EEEE", locale)


def amounts(locale: Any) -> Answers:
    from babel.numbers import format_currency

    for place in range(_AMOUNTS):
        whole, cents = 1 + place * 7919 % (10 ** (2 + place % 4)), place * 37 % 100
        value, code = f"{whole}.{cents:02}", _MONEY[place % len(_MONEY)]
        yield f"{value} {code}", f"{value} {code}", format_currency(value, code, locale=locale)


def numbers(locale: Any) -> Answers:
    from num2words import num2words

    for place in range(_NUMBERS):
        value = 11 + place * 7919 % (10 ** (2 + place % 4))
        yield str(value), num2words(value, lang=locale.language), str(value)


ANSWERS = {
    "country": countries,
    "language": languages,
    "currency": currencies,
    "unit": units,
    "date": dates,
    "weekday": weekdays,
    "number": numbers,
    "amount": amounts,
}


def _plain(text: str) -> str:
    # Marks of direction go, and spaces that don't break become ordinary ones.
    return " ".join(re.sub("[\u061c\u200e\u200f]", "", text).split())


def print_facts() -> None:
    from babel import Locale

    facts: dict[str, dict[str, dict[str, list[str]]]] = {task: {} for task in ANSWERS}
    for dataset, identifier in LOCALES.items():
        locale = Locale.parse(identifier)
        for task, answers in ANSWERS.items():
            if task == "number" and dataset not in _SPELT:
                continue
            for fact, question, answer in answers(locale):
                facts[task].setdefault(fact, {})[dataset] = [_plain(question), _plain(answer)]
    json.dump(facts, sys.stdout)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[1:]
    print_facts()
