"""bf16 by itself only where the processor multiplies in it."""

from types import SimpleNamespace

import pytest
import torch

from hbo.compat import accelerator
from hbo.scoring.devices import is_bf16_native, scoring_autocast, uses_bf16


@pytest.mark.parametrize(
    ("has", "native"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True, "avx512_bf16": False}, False)],
)
def test_auto_follows_the_processor(has: dict[str, bool], native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert is_bf16_native("cpu") is native
    assert uses_bf16("cpu", "auto") is native
    assert uses_bf16("cpu", "bf16")
    assert not uses_bf16("cpu", "fp32")


def test_fp32_switches_a_callers_autocast_off() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype is torch.bfloat16
        with scoring_autocast("cpu", "fp32"):
            assert (x @ x).dtype is torch.float32


def test_a_torch_built_for_gpus_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here = SimpleNamespace(is_available=lambda: False, current_accelerator=lambda: torch.device("cuda"))
    monkeypatch.setattr(torch, "accelerator", here)
    assert accelerator() is None
    here.is_available = lambda: True
    assert accelerator() == torch.device("cuda")


def test_a_torch_without_accelerators_is_asked_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "accelerator", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert accelerator() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert accelerator() == torch.device("cuda")
