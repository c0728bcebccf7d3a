"""Rows that a model's chat template refuses: left out and counted, or one sentence with file and line."""

import json

import pytest
import yaml
from byte_models import STRICT, byte_model
from commands import refused

GOOD = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
TWICE = [GOOD[0], *GOOD]
SYSTEM = [{"role": "system", "content": "Be brief."}, *GOOD]
REFUSES = "the tokenizer's chat template refuses the conversation (Conversation roles must alternate)"


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    return byte_model(tmp_path_factory.mktemp("strict"), template=STRICT)


@pytest.fixture
def written(tmp_path, strict):
    def write(rows, model=strict, difficulty=None, eval_fraction=0.1, **entry):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
        config = {
            "model": str(model),
            "output": str(tmp_path / "run"),
            "mixture": {"datasets": {"a": {"path": str(file), **entry}}, "eval_fraction": eval_fraction},
            "difficulty": difficulty or {"groups": 1},
            "balance": {"method": "proportional"},
            "train": {"max_steps": 1, "per_device_train_batch_size": 4, "bf16": False, "report_to": "none"},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        return tmp_path / "config.yaml"

    return write


def test_they_are_left_out_and_counted_in_check_training_and_the_mixture_file(hbo, written, tmp_path):
    file = written([TWICE if i in (3, 9, 15) else GOOD for i in range(23)], drop_unusable=True)
    told = f"can't be used and are left out: 3 as {REFUSES} (the first: row 3)"
    done = hbo("check", file)
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 3 training rows {told}" in done.stdout
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    assert f"warning: dataset 'a': 3 training rows {told}" in done.stderr
    assert json.loads((tmp_path / "run" / "mixture.json").read_text())["left_out"] == {"a": {REFUSES: 3}}


def test_without_leave_it_is_one_sentence_with_file_and_line(hbo, written, tmp_path):
    file = written([GOOD] * 5 + [TWICE] + [GOOD] * 6)
    for command in ("check", "train", "score"):
        sentence = refused(hbo(command, file), REFUSES, "drop_unusable: true")
        assert f"dataset 'a', row 5 ({tmp_path / 'a.jsonl'}, line 6): " in sentence


def test_held_out_rows_that_fall_away_are_counted_and_fail_nothing(hbo, written, tmp_path):
    rows = [GOOD] * 20
    config = written(rows, eval_fraction=0.05)
    done = hbo("train", config)
    assert done.returncode == 0, done.stderr
    (held,) = set(range(20)) - {row for row in range(20) if row not in held_rows(config)}
    rows[held] = TWICE
    done = hbo("train", written(rows, eval_fraction=0.05, drop_unusable=True), "--overwrite")
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 1 held-out row can't be used and is left out: 1 as {REFUSES}" in done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["eval"] == {}


def held_rows(config):
    from hbo.config import file as config_file
    from hbo.data.held_out import hold_out
    from hbo.data.mixture import read_mixture

    run = config_file.load(config)
    return hold_out(read_mixture(run.mixture.datasets), run.mixture.eval_fraction, run.split_seed)[1]["hbo_row"][:]


def test_a_system_message_that_no_template_of_the_family_takes_goes_into_the_users(hbo, written):
    done = hbo("train", written([SYSTEM if i % 5 == 0 else GOOD for i in range(20)]))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the chat template takes no system message; that of 4 rows stands at the start of") == 1


def test_rows_that_only_the_scorer_refuses_count_as_hard(hbo, written, strict, tmp_path):
    model = byte_model(tmp_path / "model")
    file = written([TWICE if i == 3 else GOOD for i in range(20)], model, {"groups": 2, "model": str(strict)})
    done = hbo("train", file)
    assert done.returncode == 0, done.stderr
    assert f"dataset 'a': 1 rows can't be scored by {strict} and count as hard: 1 as {REFUSES}" in done.stderr
    mixture = json.loads((tmp_path / "run" / "mixture.json").read_text())
    assert sum(group["rows"] for group in mixture["datasets"]["a"]["groups"]) == 18
