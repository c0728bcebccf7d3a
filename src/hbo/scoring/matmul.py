"""Matrix products in fp32 at full speed on AMD's AVX-512 CPUs.

torch hands them to MKL, which uses at most AVX2 there; oneDNN, which torch carries too, is faster with the same
rounding errors: more than twice on a Zen 5, by a twelfth on a Zen 4. On any other processor nothing changes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

_CPUINFO = Path("/proc/cpuinfo")
_LEAST = 2**14  # multiplications below which MKL's smaller overhead wins
# The same for one product of a batch, which oneDNN here takes one by one, and MKL together. From Zen 5 on oneDNN's
# AVX-512 is full width, and it gains earlier.
_LEAST_OF_MANY = 2**24
_LEAST_OF_MANY_WIDE = 2**21
_ZEN_5 = 26
_entered = ContextVar("entered", default=False)


@contextmanager
def fast_matmul(device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, products of fp32 matrices go to oneDNN where that is the faster one; also those of a backward pass.

    Args:
        device: Where the model is; only on a CPU there is anything to gain.

    Raises:
        Nothing.

    Example:
        >>> with fast_matmul():
        ...     product = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> product[0].tolist()
        [3.0, 3.0, 3.0, 3.0]
    """
    if _entered.get() or torch.device(device).type != "cpu" or not mkl_is_slow():
        yield
        return
    token = _entered.set(True)
    try:
        with OneDNN():
            yield
    finally:
        _entered.reset(token)


def products(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` of a batch of matrices (B, …, …) each, for many small ones.

    Inside `fast_matmul` they go where that sends them, but past torch's table, which takes as long as one of them.

    Raises:
        Nothing.
    """
    return _bmm(left, right) if _entered.get() and left.device.type == "cpu" else left @ right


@cache
def mkl_is_slow() -> bool:
    """Whether this process's CPU is one for which MKL has no AVX-512 code, and oneDNN has.

    Raises:
        Nothing.
    """
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _CPUINFO.exists()
        and "AuthenticAMD" in _CPUINFO.read_text()
    )


@cache
def _least_of_many() -> int:
    family = re.search(r"^cpu family\s*:\s*(\d+)", _CPUINFO.read_text(), re.MULTILINE) if _CPUINFO.exists() else None
    return _LEAST_OF_MANY_WIDE if family is not None and int(family[1]) >= _ZEN_5 else _LEAST_OF_MANY


class OneDNN:
    """While entered, torch's products of CPU matrices come to this file, which sends those that suit to oneDNN.

    They are the operations to which linear layers, their backward and gradient norms come down. It is torch's own
    table of kernels that is changed, for the whole process, so that no other operation is slowed down by Python.
    """

    def __enter__(self) -> Self:
        self._library = torch.library.Library("aten", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*other operators may also be overridden")
            for name, kernel in (("mm", _mm), ("addmm", _addmm), ("bmm", _bmm)):
                self._library.impl(name, kernel, "CPU")
        return self

    def __exit__(self, *raised: object) -> None:
        del self._library


def _mm(left: Tensor, right: Tensor) -> Tensor:
    if _suits(left, right):
        return _product(left, right)
    # Another operation than the one replaced here, with torch's own kernel.
    return torch.ops.aten.mm.out(left, right, out=left.new_empty(left.shape[0], right.shape[1]))  # type: ignore[no-any-return]


def _addmm(bias: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    row = bias.dim() == 1 and len(bias) == right.shape[1] and bias.dtype is left.dtype
    if row and beta == alpha == 1 and _suits(left, right):
        return _product(left, right, bias)
    out = left.new_empty(left.shape[0], right.shape[1])
    return torch.ops.aten.addmm.out(bias, left, right, beta=beta, alpha=alpha, out=out)  # type: ignore[no-any-return]


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    if len(left) and _suits(left, right, _least_of_many()):
        return torch.stack([_product(one, other) for one, other in zip(left, right, strict=True)])
    out = left.new_empty(len(left), left.shape[1], right.shape[2])
    return torch.ops.aten.bmm.out(left, right, out=out)  # type: ignore[no-any-return]


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), bias, "none", [], "")
    return product


def _suits(left: Any, right: Any, least: int = _LEAST) -> bool:
    # Only plain tensors: a sharded one knows what else has to happen.
    plain = type(left) in (torch.Tensor, torch.nn.Parameter) and type(right) in (torch.Tensor, torch.nn.Parameter)
    return (
        plain
        and left.dtype is right.dtype is torch.float32
        and left.device.type == right.device.type == "cpu"
        and left.shape[-1] == right.shape[-2]  # else torch's own kernel says what is wrong
        and left.shape[-2] * right.shape[-2] * right.shape[-1] >= least
    )
