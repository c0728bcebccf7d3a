"""Promises of several processes that train or score together: two real ones (gloo) each."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ranks
import yaml
from courses import assert_one_course, launch, records

from hbo.run.replay import rows_of_step


@pytest.fixture
def config(tmp_path, model_folder, write_rows):
    file = tmp_path / "config.yaml"
    datasets = {"a": str(write_rows("a", 50)), "b": str(write_rows("b", 22))}
    file.write_text(
        yaml.safe_dump(
            {
                "model": str(model_folder),
                "mixture": {"datasets": datasets},
                "difficulty": {"groups": 2},
                "balance": {"update_every": 3, "probes": 4, "actor": {"learning_rate": 3e-3}},
                "train": {"max_steps": 12, "learning_rate": 1e-2, "bf16": False, "save_strategy": "no"},
            }
        )
    )
    return file


def note_what_is_trained_on(rank):
    """Each process writes the token ids of every training batch that it gets to rows.<rank>.jsonl, a line per step."""
    from trl import SFTTrainer

    original = SFTTrainer.training_step

    def noted(self, model, inputs, *args, **kwargs):
        ids = inputs["input_ids"]
        if "attention_mask" in inputs:
            rows = [row[real] for row, real in zip(ids, inputs["attention_mask"].bool(), strict=True)]
        else:  # packed: one example behind the other
            rows = ids[0].split(inputs["cu_seq_lens_q"].diff().tolist())
        with Path(self.args.output_dir, "..", f"rows.{rank}.jsonl").open("a") as file:
            file.write(json.dumps([row.tolist() for row in rows]) + "\n")
        return original(self, model, inputs, *args, **kwargs)

    SFTTrainer.training_step = noted


@pytest.mark.parametrize("options", [[], ["train.packing=true", "train.max_length=128"]], ids=["unpacked", "packed"])
def test_replay_gives_the_rows_that_two_processes_trained_on(tmp_path, config, tokenizer, cache, options):
    words = ["train", config, "train.per_device_train_batch_size=4", *options, "--output", tmp_path / "run"]
    codes = ranks.run(words, tmp_path / "cache", tmp_path / "log", before=note_what_is_trained_on)
    assert codes == [0, 0], ranks.said(tmp_path / "log", 0)
    notes = [(tmp_path / f"rows.{rank}.jsonl").read_text() for rank in range(2)]
    trained = [[json.loads(line) for line in note.splitlines()] for note in notes]
    assert [len(steps) for steps in trained] == [12, 12]  # an epoch has 9
    for step in (1, 5, 9, 10, 12):
        replayed = [json.loads(line) for line in rows_of_step(tmp_path / "run", step)]
        texts = [tokenizer.apply_chat_template(r["prompt"] + r["completion"], tokenize=False) for r in replayed]
        seen = [tokenizer.decode(ids) for batches in trained for ids in batches[step - 1]]
        assert len(seen) > 16 if options else len(seen) == 8
        assert sorted(text.strip() for text in seen) == sorted(text.strip() for text in texts)


def count_batches(rank):
    """Each process notes how many rows it has scored; none may write a result but the first."""
    import hbo.run.scored_rows as scores_file
    import hbo.scoring.measure as measure
    from hbo.scoring.prefix import PrefixScorer

    original = PrefixScorer.losses

    def counted(scorer, rows, pad_token_id):
        print(f"scored {len(rows)}", flush=True)
        return original(scorer, rows, pad_token_id)

    def refused(*args, **kwargs):
        raise AssertionError("only the first process may write")

    PrefixScorer.losses = counted
    if rank:
        measure.keep_losses = scores_file.pq.write_table = refused


def scored_rows(log, rank):
    return sum(int(line.split()[1]) for line in ranks.said(log, rank).splitlines() if line.startswith("scored "))


def test_processes_score_their_shares_and_write_what_one_would(tmp_path, config, monkeypatch):
    tables = []
    for processes in (1, 2):
        file, log = tmp_path / f"{processes}.parquet", tmp_path / f"log{processes}-"
        options = {"processes": processes, "before": count_batches}
        words = ["score", config, "--output", file]
        assert ranks.run(words, tmp_path / f"cache{processes}", log, **options) == [0] * processes, ranks.said(log, 0)
        tables.append(pq.read_table(file))
        shares = [scored_rows(log, rank) for rank in range(processes)]
        assert sum(shares) == 2 * 72  # with and without the instruction, none of them twice
        assert min(shares) > 0
        left = [path.name for path in (tmp_path / f"cache{processes}" / "scores").iterdir()]
        assert len(left) == 1, left
    assert tables[0].equals(tables[1])


def die_after_two_batches(rank):
    import hbo.scoring.measure as measure
    from hbo.scoring.prefix import PrefixScorer

    original, calls = PrefixScorer.losses, []

    def mortal(*args):
        calls.append(1)
        if len(calls) > 1:
            os._exit(9)
        return original(*args)

    PrefixScorer.losses = mortal
    measure.TOKEN_BUDGET = 64
    measure.score.__kwdefaults__["token_budget"] = 64


def small_batches(rank):
    import hbo.scoring.measure as measure

    measure.score.__kwdefaults__["token_budget"] = 64
    count_batches(rank)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_interrupted_scoring_goes_on_with_any_number_of_processes(tmp_path, config, processes):
    file, cache = tmp_path / "scores.parquet", tmp_path / "cache"
    words = ["score", config, "--output", file]
    assert ranks.run(words, cache, tmp_path / "dead", before=die_after_two_batches) == [9, 9]
    begun = sum(path.stat().st_size for path in (cache / "scores").iterdir()) // 16
    assert len(list((cache / "scores").iterdir())) == 2
    assert begun > 0
    log = tmp_path / "log"
    options = {"processes": processes, "before": small_batches}
    assert ranks.run(words, cache, log, **options) == [0] * processes, ranks.said(log, 0)
    assert sum(scored_rows(log, rank) for rank in range(processes)) == 2 * 72 - begun
    assert len(list((cache / "scores").iterdir())) == 1
    assert np.isfinite(pq.read_table(file)["loss"].to_numpy()).all()


def test_processes_that_hold_different_weights_do_not_score_together(tmp_path, config):
    log = tmp_path / "log"
    words = ["score", config, "--output", tmp_path / "scores.parquet"]
    assert ranks.run(words, tmp_path / "cache", log, before=other_weights) == [2, 2]
    for rank in range(2):
        assert "error: the processes hold different rows or weights" in ranks.said(log, rank)


def other_weights(rank):
    from hbo.run import model as loading

    original = loading.load_model

    def changed(*args, **kwargs):
        model = original(*args, **kwargs)
        next(model.parameters()).data.add_(rank)
        return model

    loading.load_model = changed


def train(config, output, processes, batch):
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    words = ("train", config, f"train.per_device_train_batch_size={batch}", "--output", output)
    launch(*torchrun, "-m", "hbo", *words)
    return records(output)


SLOW = [
    pytest.param(balance, marks=pytest.mark.slow, id=next(iter(balance.values())))
    for balance in ({"rewards": "stream"}, *({"method": name} for name in ("multidds", "multiuat", "mos", "mos+")))
]
OURS = [
    pytest.param({"method": name, "actor": {}}, marks=pytest.mark.slow, id=name)
    for name in ("gain", "slope", "token_signal_norm")
]


@pytest.mark.parametrize("balance", [pytest.param({}, id="hbo"), *SLOW, *OURS])
def test_ranks_draw_one_stream_and_hold_one_policy(tmp_path, model_folder, write_rows, balance):
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": str(model_folder),
                "mixture": {"datasets": {"a": str(write_rows("a", 50)), "b": str(write_rows("b", 22))}},
                "difficulty": {"groups": 2},
                "balance": {"actor": {"learning_rate": 3e-3}, **balance, "update_every": 3, "probes": 4},
                "train": {"max_steps": 9, "learning_rate": 1e-2, "bf16": False, "max_grad_norm": 1.0},
            }
        )
    )
    one = train(config, tmp_path / "one", processes=1, batch=4)
    two = train(config, tmp_path / "two", processes=2, batch=2)
    assert_one_course(one, two)
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert metrics[0]["tokens"] == metrics[1]["tokens"]
    assert metrics[0]["macro_nll"] == pytest.approx(metrics[1]["macro_nll"], rel=1e-4)
