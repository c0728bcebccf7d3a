import json
import subprocess
import sys

import pytest
from tiny_runs import cache, config, model_folder, tokenizer  # noqa: F401

pytestmark = pytest.mark.slow


def test_a_grid_runs_to_a_table_and_nothing_runs_twice(config, tmp_path):  # noqa: F811
    command = [sys.executable, "-m", "hbo", "compare", str(config()), "--methods", "hbo,uniform", "--seeds", "0"]
    command += ["--output", str(tmp_path / "grid")]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    files = {f: f.stat().st_mtime_ns for f in tmp_path.glob("grid/runs/*/metrics.json")}
    table = (tmp_path / "grid/comparison.md").read_text()
    assert len((tmp_path / "grid/results.jsonl").read_text().splitlines()) == len(files) == 2
    assert json.loads((tmp_path / "grid/results.jsonl").read_text().splitlines()[0])["steps"] == 4
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert {f: f.stat().st_mtime_ns for f in files} == files
    assert (tmp_path / "grid/comparison.md").read_text() == table
