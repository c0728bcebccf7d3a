"""Coverage-guided fuzzing by hand: `python tests/fuzz/fuzz_inputs.py config|rows|lines [-max_total_time=180]`.

Needs atheris (`pip install atheris`). Each target gives hbo arbitrary input; anything but an HBOError is a finding.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["hbo", "yaml"]):
    from hbo.config.file import dump, load
    from hbo.data import files, turns  # noqa: F401 - instrumented
    from hbo.data.canonical import cells_of, conversation_of
    from hbo.data.columns import SPELLINGS
    from hbo.data.files import read_file
    from hbo.data.reader import Reader
    from hbo.data.unusable import BadRowError
    from hbo.errors import HBOError

FOLDER = Path(tempfile.mkdtemp())
COLUMNS = tuple(SPELLINGS)
KEYS = ("content", "value", "reasoning_content", "tool_calls", "weight", "name")
HEAD = "model: m\nmixture:\n  datasets:\n    a: a.jsonl\n"


def config(data: bytes) -> None:
    """Arbitrary YAML, alone and behind a good beginning, with an arbitrary override."""
    given = atheris.FuzzedDataProvider(data)
    start = HEAD if given.ConsumeBool() else ""
    override = given.ConsumeUnicode(40) if given.ConsumeBool() else None
    file = FOLDER / "config.yaml"
    file.write_text(start + given.ConsumeUnicodeNoSurrogates(given.remaining_bytes()), encoding="utf-8")
    try:
        run = load(file, [override] if override else [])
        dump(run)
    except HBOError as error:
        assert "\n" not in str(error) or "\n" in (override or ""), str(error)


def rows(data: bytes) -> None:
    """An arbitrary JSON row, under a column that some format reads."""
    given = atheris.FuzzedDataProvider(data)
    row = {}
    for _ in range(given.ConsumeIntInRange(1, 4)):
        text = given.ConsumeUnicode(given.ConsumeIntInRange(0, 80))
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        turn = {given.PickValueInList(["role", "from"]): given.PickValueInList(["user", "gpt", text])}
        for _ in range(given.ConsumeIntInRange(1, 3)):
            turn[given.PickValueInList(KEYS)] = value
        row[given.PickValueInList([*COLUMNS, text])] = given.PickValueInList([value, text, [turn], [turn, value]])
    try:
        conversation = Reader("d").read(row, "row 0")
        cells = cells_of(conversation)
    except (HBOError, BadRowError):
        return
    assert conversation_of(cells) == conversation
    json.dumps(conversation, ensure_ascii=False).encode()


def lines(data: bytes) -> None:
    """Arbitrary bytes as a file of each kind that text may have."""
    given = atheris.FuzzedDataProvider(data)
    file = FOLDER / given.PickValueInList(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.jsonl.zst"])
    file.write_bytes(given.ConsumeBytes(given.remaining_bytes()))
    try:
        assert all(isinstance(row, dict) for row, _ in read_file(file))
    except HBOError as error:
        assert str(file) in str(error)


if __name__ == "__main__":
    target = {"config": config, "rows": rows, "lines": lines}[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
