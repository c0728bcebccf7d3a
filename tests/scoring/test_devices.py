"""bf16 by itself only where the processor multiplies in it."""

import pytest
import torch

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
