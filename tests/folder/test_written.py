"""What is written is, byte for byte, what other programs have learned to read, and is read back as it was."""

import json
import math

import pytest

from hbo.folder.benchmarks import Evaluation, Measure, TaskResult
from hbo.folder.metrics import Metrics
from hbo.folder.mixture import DatasetGroups, Example, Group, Mixture
from hbo.folder.status import new_status, read_status, write_status

NLL = {"nll": 0.1 + 0.2, "perplexity": 1.35, "n": 7}
METRICS = {
    "method": "hbo", "seed": 0, "steps": 4, "tokens": 1234, "train_seconds": 1.5, "balance_seconds": 0.25,
    "balance_overhead": 0.2, "eval": {"größe": NLL, "a": NLL}, "eval_before": {}, "macro_nll": 0.3,
    "relative_nll": None, "sizes": {"größe": [3, 4]}, "drawn": {"größe": [5, 0]}, "environment": {"python": "3.11"},
    "accuracy": {"a": {"accuracy": 0.5, "n": 2, "kind": "choice"}}, "accuracy_before": {},
}  # fmt: skip


def text(data, indent=None):
    return json.dumps(data, indent=indent, ensure_ascii=False) + "\n"


def test_metrics(tmp_path):
    Metrics.checked(METRICS, "").write(tmp_path / "metrics.json")
    assert (tmp_path / "metrics.json").read_text(encoding="utf-8") == text(METRICS, 2)
    found = Metrics.read(tmp_path / "metrics.json")
    assert (found.after["a"].nll, found.right["a"].value, found.relative_nll) == (0.1 + 0.2, 0.5, None)
    assert (found.sizes["größe"], found.drawn["größe"]) == ((3, 4), (5, 0))


def test_the_mixture(tmp_path):
    example = Example(row=3, score=math.nan, prompt="¿?", response="!")
    group = Group(rows=2, low=0.5, high=math.nan, examples=(example,))
    mixture = Mixture(
        metric="ifd", datasets={"a": DatasetGroups(held_out=1, groups=(group,))}, left_out={"a": {"no response": 2}}
    )
    mixture.write(tmp_path / "mixture.json")
    assert (tmp_path / "mixture.json").read_text(encoding="utf-8") == text(
        {
            "metric": "ifd",
            "datasets": {
                "a": {
                    "held_out": 1,
                    "groups": [
                        {
                            "rows": 2, "low": 0.5, "high": None,
                            "examples": [{"row": 3, "score": None, "prompt": "¿?", "response": "!"}],
                        }
                    ],
                }
            },
            "left_out": {"a": {"no response": 2}},
        }
    )  # fmt: skip
    assert math.isnan(Mixture.read(tmp_path / "mixture.json").groups["a"][0].high)


def test_results_on_benchmarks(tmp_path):
    mean = {"accuracy": 0.5, "standard_error": math.nan}
    task = TaskResult(**mean, n=3, metric="acc,none", languages={"sw": {**mean, "n": 3}}, seconds=1.0)
    found = Evaluation(model="m", settings={"limit": None}, averages={"mu_ml": Measure(**mean)}, tasks={"xcopa": task})
    found = found.model_copy(update={"base_model": None, "environment": {"batch_size": 8}})
    file = tmp_path / "eval.json"
    found.write(file)
    written = {"accuracy": 0.5, "standard_error": None}
    assert file.read_text() == text(
        {
            "model": "m", "settings": {"limit": None}, "averages": {"mu_ml": written},
            "tasks": {
                "xcopa": {
                    **written, "n": 3, "metric": "acc,none", "languages": {"sw": {**written, "n": 3}}, "seconds": 1.0
                }
            },
            "base_model": None, "environment": {"batch_size": 8},
        },
        2,
    )  # fmt: skip
    assert Evaluation.read(file).to_json() == found.to_json()


def test_the_status(tmp_path):
    now = new_status(5.0)
    write_status(tmp_path, now)
    written = json.loads((tmp_path / "status.json").read_text())
    assert (tmp_path / "status.json").read_text() == text(written)
    assert list(written) == [
        "phase", "done", "total", "first", "began", "updated", "trains", "pid", "born", "host", "end", "message"
    ]  # fmt: skip
    assert (written["phase"], written["end"], written["message"]) == ("starting", None, "")
    assert read_status(tmp_path) == now
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("change", [{"end": "gone"}, {"done": True}, {"done": -1}, {"began": 1e999}, {"trains": 1}])
def test_a_status_that_cannot_be_is_none(tmp_path, change):
    write_status(tmp_path, new_status(5.0))
    written = json.loads((tmp_path / "status.json").read_text())
    (tmp_path / "status.json").write_text(json.dumps(written | change))
    assert read_status(tmp_path) is None


def test_a_folder_that_was_removed_is_not_made_anew(tmp_path):
    write_status(tmp_path / "gone", new_status(5.0))
    assert not (tmp_path / "gone").exists()
