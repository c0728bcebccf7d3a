from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_training import step, tiny_model, token_rows
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.modeling_outputs import CausalLMOutput
from trl.trainer.utils import FusedCausalLMOutput

from hbo.scoring.batches import pad
from hbo.training import group_losses as meters
from hbo.training.group_losses import Meter, ReplayMeter
from hbo.training.groups import groups_of

ROWS = token_rows(sizes=(6, 4))


def forward(model, numbers):
    batch = pad([(np.array(ROWS[i]["input_ids"]), np.array(ROWS[i]["labels"])) for i in numbers], 1)
    return model(**batch)


def test_losses_are_booked_on_the_group_of_their_row():
    model = tiny_model().train()
    meter = Meter(groups_of(ROWS))
    meter.before_step(model, step([0, 7], [3]))
    forward(model, [0, 7])
    forward(model, [3])
    sums, tokens = meter.read()
    for number, (k, j) in {0: (0, 0), 7: (1, 1), 3: (0, 1)}.items():
        targets = sum(label != -100 for label in ROWS[number]["labels"])
        assert tokens[k, j] == targets
        assert sums[k, j] == pytest.approx(forward(model, [number]).loss.item() * targets, rel=1e-5)
    assert tokens[1, 0] == 0
    assert meter.read()[1].sum() == 0


def test_evaluation_and_passes_without_labels_are_not_booked():
    model = tiny_model()
    meter = Meter(groups_of(ROWS))
    meter.before_step(model, step([2]))
    forward(model.eval(), [1])
    model.train()(torch.tensor([[5, 6, 7]]))
    assert meter.read()[1].sum() == 0
    forward(model, [2])
    assert meter.read()[1][0, 0] > 0


def test_logits_alone_are_too_many_to_keep_for_a_trainers_own_loss():
    # As TRL's DPOTrainer has them before 1.15.
    own = SimpleNamespace(trainer=SimpleNamespace(ref_model=None), apart=nullcontext)
    model, meter = tiny_model().train(), ReplayMeter(own, groups_of(ROWS), is_referred=False)
    meter.before_step(model, step([0, 7]))
    forward(model, [0, 7])
    meter.after_step()
    assert meter.read()[1].sum() == 0


def test_listening_changes_no_gradient():
    gradients = []
    for listens in (False, True):
        model = tiny_model().train()
        meter = Meter(groups_of(ROWS))
        if listens:
            meter.before_step(model, step([0, 7]))
        forward(model, [0, 7]).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_once_closed_nothing_is_booked():
    model = tiny_model().train()
    meter = Meter(groups_of(ROWS))
    meter.before_step(model, step([0]))
    meter.close()
    forward(model, [0])
    assert meter.read()[1].sum() == 0


class Speaker(torch.nn.Module):
    """Says what it was told to."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, labels):
        return self.output


@pytest.mark.parametrize("is_fused", [True, False], ids=["trl", "plain"])
def test_nothing_is_read_from_the_device_before_the_log_asks(is_fused):
    """A meta tensor has no numbers: whoever asks it for one, or for a shape that depends on one, gets an error."""
    labels = torch.zeros(2, 9, dtype=torch.long, device="meta")
    per_token = torch.zeros(2, 8, device="meta")
    if is_fused:
        output = FusedCausalLMOutput(log_probs=per_token, label_mask=per_token.bool())
    else:
        output = CausalLMOutput(logits=torch.zeros(2, 9, 320, device="meta"))
    model = Speaker(output).train()
    meter = Meter(groups_of(ROWS))
    meter.before_step(model, step([0, 7], [0, 7]))
    for _ in range(2):
        model(labels=labels)
    with pytest.raises(NotImplementedError, match="meta"):
        meter.read()


class Largest(TorchDispatchMode):
    """Notes the most numbers that a tensor in fp32 had."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            if isinstance(each, torch.Tensor) and each.dtype == torch.float32:
                self.most = max(self.most, each.numel())
        return found


@pytest.mark.parametrize("counted", [True, False], ids=["cpu", "elsewhere"])
def test_logits_are_worked_on_in_slices_and_the_sums_are_those_of_all_at_once(monkeypatch, counted):
    original = meters._places
    monkeypatch.setattr(meters, "_places", lambda labels, size, **_: original(labels, size, counted=counted))
    torch.manual_seed(0)
    rows, tokens, vocabulary = (3, 8, 1), 300, 3000
    logits = torch.randn(len(rows), tokens, vocabulary, dtype=torch.bfloat16)
    labels = torch.randint(vocabulary, (len(rows), tokens))
    labels[:, :100] = labels[1, 150:] = -100
    meter = Meter(groups_of(ROWS))
    model = Speaker(CausalLMOutput(logits=logits)).train()
    meter.before_step(model, step(rows))
    with Largest() as seen:
        model(labels=labels)
    assert seen.most <= 2**20 < logits.numel()
    mask = labels[:, 1:] != -100
    loss = torch.zeros(mask.shape)
    loss[mask] = functional.cross_entropy(logits[:, :-1][mask].float(), labels[:, 1:][mask], reduction="none")
    wanted = np.zeros((2, 2))
    for row, each in zip(rows, loss.sum(dim=1).double().tolist(), strict=True):
        wanted["ab".index(ROWS[row]["hbo_dataset"]), ROWS[row]["hbo_level"]] += each
    sums, counts = meter.read()
    assert sums.tolist() == wanted.tolist()
    assert counts.tolist() == [[0, 200 + 200], [50, 0]]
