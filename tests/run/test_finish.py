"""`train.push_to_hub`, up to the calls that only the Hub could answer."""

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from commands import refused
from transformers import AutoModelForCausalLM

from hbo.folder.status import read_status

SECRET = "hf_aSecretOfMine"


@pytest.fixture
def pushed(monkeypatch):
    """What would have been sent: a list of (message, options, file → content)."""
    sent = []

    def create_repo(self, repo_id, **options):
        return SimpleNamespace(repo_id=f"me/{repo_id.rpartition('/')[2]}")

    def upload_folder(self, *, folder_path, commit_message, run_as_future=False, **options):
        if options.get("path_in_repo"):
            raise AssertionError("no checkpoint was asked for")
        files = {
            p.relative_to(folder_path).as_posix(): p.read_bytes() for p in Path(folder_path).rglob("*") if p.is_file()
        }
        ignored = options["ignore_patterns"]
        kept = {
            name: held for name, held in files.items() if not name.startswith("checkpoint-") and name not in ignored
        }
        sent.append((commit_message, options, kept))
        done = Future()
        done.set_result(None)
        return done

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    return sent


def test_the_model_is_pushed_once_with_our_card_and_without_the_token(hbo, config, tmp_path, pushed):
    words = ["push_to_hub=true", "hub_model_id=me/tuned", f"hub_token={SECRET}", "hub_revision=dev", "max_steps=4"]
    done = hbo("train", config(), *(f"train.{word}" for word in words))
    assert done.returncode == 0, done.stderr
    assert "pushed to me/tuned" in done.stderr
    *during, (message, options, files) = pushed
    assert message == "End of training"
    assert (options["repo_id"], options["token"], options["revision"]) == ("me/tuned", SECRET, "dev")
    assert {"README.md", "model.safetensors", "tokenizer.json", "config.json"} <= set(files)
    assert not {"training_args.bin", "balance.jsonl", "model/model.safetensors"} & set(files)
    assert b"## The mixture" in files["README.md"]
    assert b"## Held-out rows" in files["README.md"]
    assert not [name for name, held in files.items() if SECRET.encode() in held]
    (tmp_path / "again").mkdir()
    for name, held in files.items():
        (tmp_path / "again" / name).write_bytes(held)
    AutoModelForCausalLM.from_pretrained(tmp_path / "again")

    # The trainer's own pushes, by default one at each save, go out of the run's folder.
    ((message, options, files),) = during
    assert message == "Training in progress, step 4"
    assert "config.yaml" in files
    assert [name for name, held in files.items() if SECRET.encode() in held] == ["training_args.bin"]


def test_a_run_that_pushes_nothing_asks_nothing(hbo, config, pushed):
    assert hbo("train", config(), "train.max_steps=1", "train.save_strategy=no").returncode == 0
    assert pushed == []


def test_without_the_hub_it_is_refused_before_anything_is_read(hbo, config, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    file = config()
    (tmp_path / "a.jsonl").unlink()
    done = hbo("train", file, "train.push_to_hub=true", "train.hub_model_id=me/tuned", f"train.hub_token={SECRET}")
    assert SECRET not in refused(done, "train.push_to_hub", "'me/tuned'", "HF_TOKEN")


def test_a_push_that_fails_loses_nothing(hbo, config, tmp_path, pushed, monkeypatch):
    def upload_folder(self, **options):
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    words = ["push_to_hub=true", "hub_model_id=me/tuned", "save_strategy=no", "max_steps=1"]
    done = hbo("train", config(), *(f"train.{word}" for word in words))
    refused(done, "the line is dead", f"hf upload me/tuned {tmp_path / 'run' / 'model'}")
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert (tmp_path / "run" / "model" / "README.md").is_file()
    assert read_status(tmp_path / "run").end == "failed"
