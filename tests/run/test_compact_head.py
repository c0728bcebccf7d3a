import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from trl.trainer import utils

from hbo.compat import HEAD_CHOICE
from hbo.run.compact_head import targets_only

CPU = torch.device("cpu")
has_choice = pytest.mark.skipif(
    not hasattr(utils, HEAD_CHOICE), reason="TRL before 1.16 leaves out other tokens itself"
)


class HeadRows(TorchDispatchMode):
    """Counts the tokens whose logits are computed."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self.rows = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.mm.out and args[1].shape[1] == self.vocabulary:
            self.rows.append(len(args[0]))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def sft(make_trainer):
    trainer, _ = make_trainer()
    batch = trainer.data_collator([trainer.train_dataset[i] for i in (0, 5, 25)])
    return trainer, {name: value for name, value in batch.items() if torch.is_tensor(value)}


@has_choice
def test_logits_are_computed_for_the_targets_alone_and_the_loss_is_the_same(sft):
    trainer, batch = sft
    found = {}
    for compact in (False, True):
        trainer.model.zero_grad()
        with targets_only(CPU, enabled=compact), HeadRows(trainer.model.config.vocab_size) as seen:
            loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
        found[compact] = float(loss.detach()), float(norm), sum(seen.rows)
    labels = batch["labels"]
    assert found[True][2] == int((labels[:, 1:] != -100).sum())
    assert found[False][2] == labels[:, 1:].numel()
    assert found[True][:2] == pytest.approx(found[False][:2], rel=1e-5)


def test_a_batch_without_a_target_has_a_loss_of_zero_with_a_gradient(sft):
    trainer, batch = sft
    with targets_only(CPU):
        loss = trainer.compute_loss(trainer.model, {**batch, "labels": torch.full_like(batch["labels"], -100)})
        loss.backward()
    assert float(loss.detach()) == 0


@has_choice
def test_the_choice_is_put_back_and_left_alone_off_the_cpu_and_for_a_compiler():
    before = utils._use_triton
    with targets_only(torch.device("cuda")), targets_only(CPU, enabled=False):
        assert utils._use_triton is before
    with pytest.raises(RuntimeError, match="stop"), targets_only(CPU):
        assert utils._use_triton(CPU)
        assert not utils._use_triton(torch.device("meta"))
        raise RuntimeError("stop")
    assert utils._use_triton is before


def test_a_trl_without_the_choice_keeps_its_own_head(monkeypatch):
    monkeypatch.delattr(utils, HEAD_CHOICE, raising=False)
    with targets_only(CPU):
        assert not hasattr(utils, HEAD_CHOICE)
