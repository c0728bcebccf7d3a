"""What TensorBoard shows, read from the file that it reads."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_tensorboard_shows_what_the_ledger_and_the_log_hold(make_trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer, _ = make_trainer(max_steps=6, logging_steps=3, report_to="tensorboard")
    trainer.train()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    seen = {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    lines = [json.loads(line) for line in (tmp_path / "out" / "balance.jsonl").read_text().splitlines()][1:]
    assert [line["step"] for line in lines] == [2, 4, 6]
    expected = {}
    drawn = dict.fromkeys("ab", 0)
    for line in lines:
        for name in "ab":
            drawn[name] += sum(line["drawn"][name])
            expected |= {
                (f"balance/p/{name}", line["step"]): line["global"][name],
                (f"balance/reward/{name}", line["step"]): line["global_reward"][name],
                (f"balance/drawn/{name}", line["step"]): drawn[name],
            }
            for j in range(2):
                expected[f"balance/p/{name}/g{j + 1}", line["step"]] = line["local"][name][j]
                expected[f"balance/reward/{name}/g{j + 1}", line["step"]] = line["local_reward"][name][j]
        expected["balance/seconds", line["step"]] = line["seconds"]
    for (tag, step), value in expected.items():
        assert seen[f"train/{tag}"][step] == pytest.approx(value, rel=1e-6, abs=1e-6), tag
    assert drawn["a"] == pytest.approx(seen["train/balance/epochs/a"][6] * 21)
    # The trainer's own log has nothing that is not there: losses per dataset and group, learning rate, …
    logged = {
        (key, entry["step"]): value
        for entry in trainer.state.log_history
        for key, value in entry.items()
        if key not in ("step", "epoch") and not key.startswith(("train_", "total_"))
    }
    assert {key for key, _ in logged} >= {"loss", "loss/a", "loss/b/g2", "learning_rate", "balance/p/a"}
    for (tag, step), value in logged.items():
        assert seen[f"train/{tag}"][step] == pytest.approx(value, rel=1e-6, abs=1e-6), tag
