"""Two real processes (gloo) against one: the same draws, the same probabilities."""

import json

import pytest
import yaml
from courses import assert_one_course, launch, records


def train(config, output, processes, batch):
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
    words = ("train", config, f"train.per_device_train_batch_size={batch}", "--output", output)
    launch(*torchrun, "-m", "hbo", *words)
    return records(output)


SLOW = [
    pytest.param(balance, marks=pytest.mark.slow, id=next(iter(balance.values())))
    for balance in ({"rewards": "stream"}, *({"method": name} for name in ("multidds", "multiuat", "mos", "mos+")))
]


@pytest.mark.parametrize("balance", [pytest.param({}, id="hbo"), *SLOW])
def test_ranks_draw_one_stream_and_hold_one_policy(tmp_path, model_folder, write_rows, balance):
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model": str(model_folder),
                "mixture": {"datasets": {"a": str(write_rows("a", 50)), "b": str(write_rows("b", 22))}},
                "difficulty": {"groups": 2},
                "balance": {**balance, "update_every": 3, "probes": 4, "actor": {"learning_rate": 3e-3}},
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
