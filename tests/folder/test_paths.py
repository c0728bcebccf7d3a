import json

import pytest
import torch

from hbo.errors import ConfigError, ResumeError
from hbo.folder import paths as run_folder


def checkpoint(folder, step, state="whole"):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    snapshot = {"lag": 0} if state == "whole" else state
    whole = json.dumps({"stateful_callbacks": {"HBOState": {"attributes": {"snapshot": snapshot}}}})
    content = {"torn": whole[:20], "other": "{}"}.get(state, whole) if isinstance(state, str) else whole
    (path / "trainer_state.json").write_text(content)
    return path


def test_a_half_written_checkpoint_is_never_chosen(tmp_path):
    good = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, "torn")
    checkpoint(tmp_path, 11, "other")
    (tmp_path / "checkpoint-12").mkdir()
    assert run_folder.last_checkpoint(tmp_path) == good


def test_a_checkpoint_without_the_random_states_of_all_processes_is_never_chosen(tmp_path):
    good = checkpoint(tmp_path, 3)
    half = checkpoint(tmp_path, 6, {"lag": 0, "processes": 2})
    torch.save({"cpu": torch.zeros(3)}, half / "rng_state_0.pth")
    assert run_folder.last_checkpoint(tmp_path) == good
    whole = (half / "rng_state_0.pth").read_bytes()
    (half / "rng_state_1.pth").write_bytes(whole[: len(whole) // 2])
    assert run_folder.last_checkpoint(tmp_path) == good
    (half / "rng_state_1.pth").write_bytes(whole)
    assert run_folder.last_checkpoint(tmp_path) == half


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path):
    checkpoint(tmp_path, 90)
    assert run_folder.last_checkpoint(tmp_path) == tmp_path / "checkpoint-90"
    checkpoint(tmp_path, 100)
    assert run_folder.last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_a_checkpoint_of_the_model_only_is_not_resumed(tmp_path):
    (tmp_path / "config.yaml").touch()
    saved = checkpoint(tmp_path, 3)
    with pytest.raises(ResumeError, match="checkpoint-3: holds the model without its optimizer .*save_only_model"):
        run_folder.check_folder(tmp_path, resume=True, overwrite=False)
    (saved / "optimizer.pt").touch()
    assert run_folder.check_folder(tmp_path, resume=True, overwrite=False) == saved


def test_looking_at_a_folder_deletes_nothing(tmp_path):
    (tmp_path / "balance.jsonl").write_text("{}")
    run_folder.check_folder(tmp_path, resume=False, overwrite=True)
    assert (tmp_path / "balance.jsonl").exists()


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(ResumeError, match="no run to resume"):
        run_folder.check_folder(tmp_path, resume=True, overwrite=False)


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="can't be combined"):
        run_folder.check_folder(tmp_path, resume=True, overwrite=True)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        run_folder.check_folder(tmp_path / "file", resume=False, overwrite=False)
