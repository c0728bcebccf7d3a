"""eval.json on the page and in the terminal."""

import io
import json

import pytest
from rich.console import Console

from hbo.folder.benchmarks import Evaluation
from hbo.report.evaluation import evaluation, evaluation_table

XNLI = {
    "accuracy": 0.4, "standard_error": 0.02,
    "languages": {
        "en": {"accuracy": 0.5, "standard_error": 0.03}, "sw": {"accuracy": 0.3, "standard_error": None},
    },
}  # fmt: skip
GSM8K = {"accuracy": 0.625, "standard_error": 0.01, "languages": {"en": {"accuracy": 0.625, "standard_error": 0.01}}}
HELD = {
    "model": "model", "settings": {"num_fewshot": 0, "chat_template": True, "limit": None},
    "averages": {"mu_ml": {"accuracy": 0.5125, "standard_error": None}}, "tasks": {"xnli": XNLI, "<b>": GSM8K},
}  # fmt: skip


@pytest.fixture
def found(tmp_path):
    file = tmp_path / "eval.json"
    file.write_text(json.dumps(HELD))
    return Evaluation.read(file)


def test_the_page_shows_tasks_languages_means_and_settings(found):
    page = evaluation(found)
    assert '40.0 <small class="se">± 2.0</small>' in page
    assert '50.0 <small class="se">± 3.0</small>' in page and "<td>30.0</td>" in page
    assert "μ_ML" in page and "51.2" in page
    assert "num fewshot 0, chat template on, limit none" in page
    assert "<b>" not in page


def test_the_terminal_shows_the_same(found):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(evaluation_table(found))
    shown = console.export_text()
    assert "40.00" in shown and "2.00" in shown and "en 50.0, sw 30.0" in shown
    assert "μ_ML" in shown and "51.25" in shown
