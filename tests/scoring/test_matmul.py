"""Products of fp32 matrices: the same numbers, whichever library multiplies."""

import pytest
import torch
from torch import nn

from hbo.scoring.matmul import OneDNN, fast_matmul, mkl_is_slow, products

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_and_its_gradients_are_the_same(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(48, 80, bias=bias, dtype=dtype), torch.randn(3, 40, 48, dtype=dtype, requires_grad=True)

    def run() -> list[torch.Tensor]:
        out = layer(x)
        return [out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])]

    plain = run()
    with OneDNN():
        routed = run()
    for one, other in zip(plain, routed, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(other, one)


@needs_onednn
def test_products_of_fp32_matrices_go_to_onednn() -> None:
    one, other = torch.randn(64, 32), torch.randn(32, 64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen, OneDNN():
        one @ other
    assert "mkldnn::_linear_pointwise" in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize(("left", "right"), [((0, 4), (4, 3)), ((3, 0), (0, 4)), ((1, 200), (200, 300))])
@needs_onednn
def test_odd_shapes_stay_right(left: tuple[int, int], right: tuple[int, int]) -> None:
    one, other = torch.randn(left), torch.randn(right)
    expected = one @ other
    with OneDNN():
        torch.testing.assert_close(one @ other, expected)


@needs_onednn
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_large_products_of_a_batch_go_there_one_by_one(batch: int) -> None:
    torch.manual_seed(0)
    # Whole numbers, whose sums have no rounding in whatever order.
    one, other = (torch.randint(-4, 5, (batch, rows, 384)).float() for rows in (256, 192))
    other = other.mT
    expected = one @ other
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen, OneDNN():
        torch.testing.assert_close(one @ other, expected)
        torch.testing.assert_close(one[:, :4] @ other, expected[:, :4])  # these are too small
    calls = {event.key: event.count for event in seen.key_averages()}
    assert calls.get("mkldnn::_linear_pointwise", 0) == batch


@needs_onednn
def test_outside_torch_multiplies_by_itself_again() -> None:
    one = torch.randn(64, 64)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), OneDNN():
        one @ torch.randn(63, 64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        one @ one
    assert "mkldnn::_linear_pointwise" not in {event.key for event in seen.key_averages()}


@needs_onednn
def test_a_factor_before_the_product_or_the_bias_counts() -> None:
    one, other, bias = torch.randn(64, 32), torch.randn(32, 64), torch.randn(64, 64)
    expected = 2 * bias + 3 * (one @ other)
    with OneDNN():
        torch.testing.assert_close(torch.addmm(bias, one, other, beta=2, alpha=3), expected)
        torch.testing.assert_close(torch.addmm(bias[0], one, other, beta=2, alpha=3), 2 * bias[0] + 3 * (one @ other))


@needs_onednn
def test_views_with_any_strides_stay_right() -> None:
    one, other = torch.randn(90, 64)[::2, ::2], torch.randn(96, 32).t()[:, ::3]
    expected = (one.double() @ other.double()).float()
    with OneDNN():
        torch.testing.assert_close(one @ other, expected)


def test_it_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    mkl_is_slow.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    one = torch.randn(64, 64)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen, fast_matmul():
        one @ one
    mkl_is_slow.cache_clear()
    assert "aten::mm" in {event.key for event in seen.key_averages()}
    assert "mkldnn::_linear_pointwise" not in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("sizes", [(3, 5, 8, 7), (2, 256, 384, 192), (0, 5, 8, 7)])
def test_products_of_a_batch_are_the_same_inside_and_outside(sizes: tuple[int, int, int, int]) -> None:
    batch, rows, shared, columns = sizes
    one, other = (
        torch.randint(-4, 5, (batch, rows, shared)).float(),
        torch.randint(-4, 5, (batch, shared, columns)).float(),
    )
    expected = (one.double() @ other.double()).float()
    assert torch.equal(products(one, other), expected)
    with fast_matmul():
        assert torch.equal(products(one, other), expected)
