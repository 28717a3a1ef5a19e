"""The parts of a layer give what torch's own operations give, forward and backward, in blocks of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.forward import operations
from engine.models.forward.attention import HeadCounts, Layout, RotaryAttention, group_rows
from engine.models.forward.llama_layers import Affine
from engine.models.forward.operations import (
    NormedLinears,
    ResidualLinear,
    ResidualSwiglu,
    RmsNorm,
    SummedLoss,
)

TOKENS, WIDTH, EPS = 37, 12, 1e-6


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: Any) -> None:
    """Sizes that do not divide the number of rows."""
    for name, size in {"BLOCK": 60, "LOSS_ROWS": 5, "HEAD_ROWS": 16}.items():
        monkeypatch.setattr(operations, name, size)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def part(out: int, width: int, *, rank: int = 0, bias: bool = False) -> Affine:
    """A layer whose every tensor is trained."""
    pair = (numbers(rank, width), numbers(out, rank)) if rank else (None, None)
    return Affine(numbers(out, width), numbers(out) if bias else None, *pair, scale=0.7)


def applied(layer: Affine, x: Tensor) -> Tensor:
    y = F.linear(x, layer.weight, layer.bias)
    return y if layer.a is None or layer.b is None else y + layer.scale * (x @ layer.a.t()) @ layer.b.t()


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)


def same(mine: Callable[[], Any], theirs: Callable[[], Any], inputs: list[Tensor | None]) -> None:
    """Outputs are equal, and the gradients of their squares by the inputs."""
    given = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    results = []
    for function in (mine, theirs):
        outputs = function()
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        gradients = torch.autograd.grad(sum(output.pow(2).sum() for output in outputs), given)
        results.append([*outputs, *gradients])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(expected.detach().abs().max()))
        )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_norm() -> None:
    x, weight = numbers(TOKENS, WIDTH), numbers(WIDTH)
    same(lambda: RmsNorm.apply(x, weight, EPS), lambda: normed(x, weight), [x, weight])


@pytest.mark.parametrize("frozen", [(), ("x",), ("weight",), ("matrices",), ("x", "weight")])
def test_layers_of_normed_rows(frozen: tuple[str, ...]) -> None:
    x, weight = numbers(TOKENS, WIDTH), numbers(WIDTH)
    parts = [part(7, WIDTH, rank=3, bias=True), part(5, WIDTH), part(6, WIDTH, rank=2)]
    held = {"x": [x], "weight": [weight], "matrices": [p.weight for p in parts]}
    for name in frozen:
        for tensor in held[name]:
            tensor.requires_grad_(False)
    tensors = [tensor for p in parts for tensor in p.tensors]

    def theirs() -> tuple[Tensor, ...]:
        rows = normed(x, weight)
        return (x, *(applied(p, rows) for p in parts))

    same(lambda: NormedLinears.apply(parts, EPS, x, weight, *tensors), theirs, [x, weight, *tensors])


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_layers_that_are_added_to_a_residual(rank: int, bias: bool) -> None:
    layer, residual = part(WIDTH, 9, rank=rank, bias=bias), numbers(TOKENS, WIDTH)
    x, gate, up = numbers(TOKENS, 9), numbers(TOKENS, 9), numbers(TOKENS, 9)
    same(
        lambda: ResidualLinear.apply(layer, x, residual, *layer.tensors),
        lambda: residual + applied(layer, x),
        [x, residual, *layer.tensors],
    )
    same(
        lambda: ResidualSwiglu.apply(layer, gate, up, residual, *layer.tensors),
        lambda: residual + applied(layer, F.silu(gate) * up),
        [gate, up, residual, *layer.tensors],
    )


@pytest.mark.parametrize("trained", [(True, True), (True, False), (False, True)])
def test_a_loss_of_which_spare_rows_have_no_part(trained: tuple[bool, bool]) -> None:
    hidden, weight = numbers(TOKENS, WIDTH), numbers(50, WIDTH)
    hidden.requires_grad_(trained[0])
    weight.requires_grad_(trained[1])
    targets = torch.randint(0, 50, (TOKENS - 6,))
    same(
        lambda: SummedLoss.apply(hidden, weight, targets),
        lambda: F.cross_entropy(hidden[:-6] @ weight.t(), targets, reduction="sum"),
        [hidden, weight],
    )


@pytest.mark.parametrize("lengths", [[1], [5, 3, 40, 2], [130, 70], [300, 8], [33, 33, 33]])
def test_attention_is_that_of_each_row_alone(lengths: list[int]) -> None:
    heads, kv, width, spare = 6, 2, 8, 3
    count = sum(lengths) + spare
    query, key, value = numbers(count, heads * width), numbers(count, kv * width), numbers(count, kv * width)
    positions = torch.cat([torch.arange(n) for n in [*lengths, spare]])
    angles = torch.outer(positions, 10_000 ** -(torch.arange(width // 2) / (width // 2)))
    cos, sin = torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin()
    signed = torch.cat((-sin[:, : width // 2], sin[:, width // 2 :]), -1)
    layout = Layout(heads, kv, width, width**-0.5, group_rows(lengths, HeadCounts(heads, kv)), cos, signed)

    def turned(x: Tensor, count: int) -> Tensor:
        x = x.view(-1, count, width)
        swapped = torch.cat((-x[..., width // 2 :], x[..., : width // 2]), -1)
        return x * cos[:, None] + swapped * sin[:, None]

    def theirs() -> Tensor:
        outputs, start = [], 0
        for n in lengths:
            row = slice(start, start + n)
            q, k, v = (
                x[row].transpose(0, 1)[None]
                for x in (turned(query, heads), turned(key, kv), value.view(-1, kv, width))
            )
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            outputs.append(mixed[0].transpose(0, 1).reshape(n, -1))
            start += n
        return torch.cat([*outputs, torch.zeros(spare, heads * width)])

    same(lambda: RotaryAttention.apply(layout, query, key, value), theirs, [query, key, value])
