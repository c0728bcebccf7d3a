import io
import json
import re
from importlib import resources

import pytest
from example_runs import write_json, write_mixture, write_run
from rich.console import Console
from test_page import HOSTILE, Page

from hbo.folder.benchmarks import Evaluation
from hbo.folder.run import read_run
from hbo.report.page import write_report
from hbo.report.sections import SECTIONS
from hbo.report.terminal import evaluation_table


def shown(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_the_page_shows_sizes_prior_groups_and_a_row_of_each(run_folder):
    write_mixture(run_folder)
    text = shown(run_folder).text
    assert "general1,20052.9%52.9%40" in text
    assert "g1, the easiest: 300 rows, IFD 0.20 to 0.40" in text
    assert "g4, the hardest: 100 rows, IFD 0.80 to 1.00" in text
    assert text.count("Row 30, difficulty 0.90") == 4


def test_the_scores_of_easy_groups_are_told_apart(run_folder):
    write_mixture(run_folder)
    file = run_folder / "mixture.json"
    held = json.loads(file.read_text())
    groups = next(iter(held["datasets"].values()))["groups"]
    groups[0] |= {"low": 0.000074, "high": 0.0019}
    write_json(file, held)
    assert "g1, the easiest: 300 rows, IFD 0.000074 to 0.0019" in shown(run_folder).text


def test_example_rows_stay_text(tmp_path):
    folder = write_run(tmp_path / "run", HOSTILE)
    write_mixture(folder, HOSTILE)
    page = shown(folder)
    assert not page.open
    assert page.tags("img") == []
    assert len(page.scripts) == 2
    assert "<img src=x onerror=alert(1)> </details> & $title" in page.text
    assert all(attrs.get("dir") == "auto" for attrs in page.tags("dd") if "class" not in attrs and attrs)


def test_a_run_that_goes_on_has_its_passes(run_folder):
    (run_folder / "metrics.json").unlink()
    assert "×" not in shown(run_folder).text.split("Rows drawn")[-1].split("Cost")[0]
    write_mixture(run_folder)
    assert read_run(run_folder).sizes["math"] == (100, 100, 100, 100)
    assert "0." in shown(run_folder).text.split("the row of the group was seen")[-1]


def test_packed_rows_are_not_counted_by_examples(run_folder):
    write_mixture(run_folder)
    (run_folder / "metrics.json").unlink()
    lines = (run_folder / "balance.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["examples_per_row"] = {name: [2.0] * 4 for name in first["global"]}
    (run_folder / "balance.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    assert read_run(run_folder).sizes == {}


def test_no_rows_are_asked_for_and_none_are_shown(run_folder):
    write_mixture(run_folder, examples=0)
    assert "group by group" not in shown(run_folder).text


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
def evaluated(run_folder):
    write_json(run_folder / "eval.json", HELD)
    return run_folder


def test_the_page_shows_tasks_languages_means_and_settings(evaluated):
    html = write_report(evaluated).read_text(encoding="utf-8")
    section = html[html.index('<section id="evaluation"') :].split("</section>")[0]
    assert '40.0 <small class="se">± 2.0</small>' in section
    assert '50.0 <small class="se">± 3.0</small>' in section and "<td>30.0</td>" in section
    assert "μ_ML" in section and "51.2" in section
    assert "num fewshot 0, chat template on, limit none" in section
    assert "<b>" not in section


def test_the_terminal_shows_the_same_benchmarks(evaluated):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(evaluation_table(Evaluation.read(evaluated / "eval.json")))
    shown = console.export_text()
    assert "40.00" in shown and "2.00" in shown and re.search(r"en +50\.00", shown)
    assert "μ_ML" in shown and "51.25" in shown


def test_every_section_has_a_template_of_its_name_and_no_template_is_left_over():
    held = {path.name for path in resources.files("hbo.report").joinpath("templates").iterdir()}
    assert {f"{section.anchor}.html" for section in SECTIONS} == {name for name in held if name.endswith(".html")} - {
        "frame.html",
        "page.html",
        "parts.html",
    }
