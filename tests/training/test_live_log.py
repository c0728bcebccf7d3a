import json

import pytest

from hbo.config import HBOConfig
from hbo.errors import ConfigError, Interrupted
from hbo.folder import paths as run_folder
from hbo.folder import status
from hbo.folder.log import read_log
from hbo.folder.run import read_run
from hbo.folder.status import read_status
from hbo.progress import silent
from hbo.training.live_log import Teller, settings_of


class Recorder(Teller):
    """A teller whose every word is kept."""

    def __init__(self, *args, **options):
        self.heard_of = []
        super().__init__(*args, **options)

    def _write(self):
        super()._write()
        self.heard_of.append(self.now)


def history(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.trl  # older releases of SFTTrainer show no losses of tokens
def test_the_log_of_training_is_the_trainers_own_as_it_grows(make_trainer, tmp_path):
    trainer, callback = make_trainer(max_steps=6, logging_steps=2, report_to="none")
    sizes = []

    def looked(*args, **kwargs):
        sizes.append(len(history(tmp_path / "out")))

    callback.live.teller.reach = looked  # at the end of each step
    trainer.train()
    assert history(tmp_path / "out") == json.loads(json.dumps(trainer.state.log_history))
    assert sizes[0] == 0 < sizes[3] < sizes[5] <= len(trainer.state.log_history)
    assert len({json.dumps(entry) for entry in history(tmp_path / "out")}) == len(trainer.state.log_history)
    found = read_log(tmp_path / "out")
    assert found.series("loss/a")[0] == [2, 4, 6]


def test_a_trainer_of_ones_own_tells_how_it_stands(make_trainer, tmp_path):
    trainer, callback = make_trainer(max_steps=3)
    callback.live.teller = teller = Recorder(tmp_path / "out")
    trainer.train()
    told = [(now.phase, now.done, now.total, now.trains) for now in teller.heard_of]
    assert told[0] == ("training", 0, 3, True)
    assert told[-1] == ("training", 3, 3, True)
    assert read_status(tmp_path / "out").end == "finished"


def test_a_resumed_run_goes_on_with_the_log_of_its_checkpoint(make_trainer, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4, "logging_steps": 1}
    make_trainer(max_steps=6, **options)[0].train()
    whole = history(tmp_path / "out")
    trainer, _ = make_trainer(max_steps=6, **options)
    first = read_status(tmp_path / "out")
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    told = read_status(tmp_path / "out")
    assert (first.first, told.first, told.done) == (0, 4, 6)
    assert [entry["step"] for entry in history(tmp_path / "out")] == [entry["step"] for entry in whole]
    assert [entry.get("loss") for entry in history(tmp_path / "out")] == [entry.get("loss") for entry in whole]


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path):
    teller = Teller(tmp_path / "gone")
    with teller.told():
        teller.begin("training", 3)
        teller.reach(3)
    assert not (tmp_path / "gone").exists()


def test_a_step_is_told_at_most_every_half_second_and_the_last_one_always(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("hbo.training.live_log.time.time", lambda: 1000 + next(clock) / 100)
    teller = Recorder(tmp_path)
    teller.begin("training", 120)
    for step in range(1, 121):
        teller.reach(step)
    assert 2 <= len(teller.heard_of) <= 5
    assert read_status(tmp_path).done == 120


@pytest.mark.parametrize(
    ("error", "how", "why"),
    [
        (ConfigError("no such thing; mend it"), "failed", "no such thing; mend it"),
        (KeyError(), "failed", "KeyError"),
        (SystemExit(3), "failed", "3"),
        (KeyboardInterrupt(), "interrupted", "stopped by Ctrl-C"),
        (Interrupted("stopped by SIGTERM after step 3", 143), "interrupted", "stopped by SIGTERM after step 3"),
    ],
)
def test_however_a_run_ends_it_says_so(tmp_path, error, how, why):
    with pytest.raises(type(error)), Teller(tmp_path).told():
        raise error
    told = read_status(tmp_path)
    assert (told.end, told.message) == (how, why)
    assert not status.is_gone(told)


def test_other_processes_say_nothing(tmp_path):
    with Teller(tmp_path, speaks=False).told():
        pass
    assert list(tmp_path.iterdir()) == []


def test_phases_are_told_with_their_counts(tmp_path):
    teller = Recorder(tmp_path)
    with teller.heard(silent)("scoring", 4) as advance:
        advance(3)
        advance(1)
    assert [(now.phase, now.done, now.total) for now in teller.heard_of] == [("scoring", 0, 4), ("scoring", 4, 4)]


def test_what_a_refused_attempt_has_said_is_no_run(tmp_path):
    Teller(tmp_path).end("failed")
    assert run_folder.check_folder(tmp_path, resume=False, overwrite=False) is None
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"files that hbo didn't write \(thesis.tex\)"):
        run_folder.check_folder(tmp_path, resume=False, overwrite=True)


def test_a_run_of_the_command_line_tells_all_of_its_phases(hbo, config, tmp_path, monkeypatch):
    tellers = []

    class Kept(Recorder):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            tellers.append(self)

    monkeypatch.setattr("hbo.run.train.Teller", Kept)
    assert hbo("train", config(), "train.max_steps=2", "train.save_strategy=no").returncode == 0
    phases = list(dict.fromkeys(now.phase for now in tellers[-1].heard_of))
    assert phases[0] == "starting"
    assert phases.index("tokenizing") < phases.index("training") < phases.index("held-out loss after")
    told = {now.phase: now.trains for now in tellers[-1].heard_of}
    assert not told["tokenizing"]
    assert told["held-out loss after"]
    ends = [now.end for now in tellers[-1].heard_of]
    assert ends[-1] == "finished"
    assert set(ends[:-1]) == {None}
    assert read_run(tmp_path / "run").training.source == "trainer_state.json"
    assert history(tmp_path / "run") == json.loads((tmp_path / "run" / "trainer_state.json").read_text())["log_history"]

    # Refused before it trains: what is there stays as it is.
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert hbo("train", config(), "--overwrite", "mixture.datasets.a.path=/no/such.jsonl").returncode == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()} == before


def test_an_attempt_given_up_before_it_trains_leaves_the_status_of_the_run_before(tmp_path):
    for has_run, old in [(True, b"old"), (True, None), (False, b"old"), (False, None)]:
        folder = tmp_path / f"{has_run}-{old}"
        folder.mkdir()
        if has_run:
            (folder / "balance.jsonl").touch()
        if old:
            (folder / "status.json").write_bytes(old)
        teller = Teller(folder)
        with pytest.raises(ConfigError), teller.told():
            teller.begin("reading", 3)
            assert read_status(folder).phase == "reading"
            raise ConfigError("no such file")
        if has_run:
            assert [path.read_bytes() for path in folder.glob("status.json")] == ([old] if old else [])
        else:
            assert read_status(folder).message == "no such file"


def test_a_report_of_a_trainer_of_ones_own_knows_method_model_seed_and_end(make_trainer, tmp_path):
    trainer, callback = make_trainer(max_steps=3)
    trainer.train()
    run = read_run(tmp_path / "out")
    assert run.has_finished and run.metrics is None
    assert (run.method, run.seed) == (callback.config.method, str(callback.seed))
    assert run.model == trainer.model.config._name_or_path or run.model == "unknown"
    assert run.global_reward == "gradient_norm"
    assert run.update_every == callback.config.update_every


def test_settings_are_json_whatever_the_configuration_holds():
    def reward(model, batch, **context):
        return None

    told = settings_of(HBOConfig(method="uniform", global_reward=reward, local_reward=None), model=None, seed=1)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["balance"]["global_reward"].endswith("<locals>.reward")
