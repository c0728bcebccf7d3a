import json

import pytest
from tiny_training import token_rows

from hbo.errors import ResumeError
from hbo.training.state import HBOState, fingerprints

pytestmark = pytest.mark.filterwarnings("ignore:dataset .* about to be seen:UserWarning")


def test_fingerprints_tell_which_dataset_differs():
    rows = token_rows()
    one = rows.map(lambda row, i: {"input_ids": row["input_ids"] + [3]} if i == 2 else row, with_indices=True)
    before, after = fingerprints(rows, rows.select([25])), fingerprints(one, rows.select([25]))
    assert before["a"] != after["a"]
    assert before["b"] == after["b"]
    assert fingerprints(rows)["b"] != before["b"]  # held-out rows count too


def test_a_checkpoint_without_hbo_is_refused(make_trainer, tmp_path):
    trainer, _callback = make_trainer(save_strategy="steps", save_steps=6)
    trainer.train()
    file = tmp_path / "out" / "checkpoint-6" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["stateful_callbacks"]["HBOState"]
    file.write_text(json.dumps(state))
    again, _ = make_trainer()
    with pytest.raises(ResumeError, match="made without HBO"):
        again.train(resume_from_checkpoint=str(file.parent))


def test_a_rebuilt_state_is_linked_again(make_trainer, tmp_path):
    options = {"save_strategy": "steps", "save_steps": 6, "restore_callback_states_from_checkpoint": True}
    trainer, _ = make_trainer(**options)
    trainer.train()
    again, callback = make_trainer(**options)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-6"))
    assert isinstance(callback.state, HBOState)
    assert callback.state in again.callback_handler.callbacks
    assert callback.state.state()["attributes"]["snapshot"]["balancer"]["ledger"][-1]["step"] == 12
