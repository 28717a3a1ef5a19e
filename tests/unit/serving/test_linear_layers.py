"""Products of the batched forward: each row has the same bits whatever stands beside it."""

from __future__ import annotations

import pytest
import torch

from engine.serving.torch_backend import linear_layers
from engine.serving.torch_backend.batched_forward import ROW_MULTIPLE
from engine.serving.torch_backend.linear_layers import (
    BLOCK_ROWS,
    PackedProduct,
    build_dense_product,
    multiply_in_blocks,
)


@pytest.mark.parametrize(
    ("dtype", "step", "near"), [(torch.float32, ROW_MULTIPLE, 1e-4), (torch.bfloat16, 1, 0.3)]
)
@pytest.mark.parametrize("shape", [(3072, 576), (576, 1536), (960, 576), (259, 32)])
def test_a_row_has_its_bits_in_batches_of_any_size(
    shape: tuple[int, int], dtype: torch.dtype, step: int, near: float
) -> None:
    random = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(size, generator=random).to(dtype) for size in (shape, (40, shape[1])))
    product = build_dense_product(weight, None)
    assert isinstance(product, PackedProduct)
    whole = product(x)
    for rows in range(step, 40, step):
        assert torch.equal(product(x[:rows]), whole[:rows]), rows
    torch.testing.assert_close(
        whole.float(), x.float() @ weight.float().T, rtol=1e-2 if step == 1 else 1e-4, atol=near
    )


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 64, 100])
def test_with_amx_every_product_in_bf16_has_one_size(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_layers, "has_amx", lambda: True)
    sizes: list[int] = []

    def double(block: torch.Tensor) -> torch.Tensor:
        sizes.append(len(block))
        return 2 * block

    x = torch.randn(rows, 3).to(torch.bfloat16)
    assert torch.equal(multiply_in_blocks(double, x), 2 * x)
    assert sizes == [BLOCK_ROWS] * -(-rows // BLOCK_ROWS)
    assert torch.equal(multiply_in_blocks(double, x.float()), 2 * x.float())
    assert sizes[-1] == rows  # fp32 has no tiles
