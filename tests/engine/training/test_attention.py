"""Attention for short rows gives what transformers' own gives, forward and backward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from engine.models.forward import attention
from tests.tiny import make_model

GROUPED: Any = SimpleNamespace(num_key_value_groups=3, is_causal=True)


def _inputs(tokens: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [(2, 9, tokens, 16), (2, 3, tokens, 16), (2, 3, tokens, 16)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("tokens", [2, 31, 200])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_output_and_gradients_equal(tokens: int, dtype: torch.dtype, tolerance: float) -> None:
    results = []
    for function in (attention.attend, sdpa_attention_forward):
        inputs = _inputs(tokens, dtype)
        output = function(GROUPED, *inputs, None, scaling=0.25)[0]
        output.float().pow(2).sum().backward()
        results.append([output, *(tensor.grad for tensor in inputs)])
    for mine, theirs in zip(*results, strict=True):
        assert mine.shape == theirs.shape
        assert torch.allclose(mine.float(), theirs.float(), atol=tolerance * theirs.abs().max().item())


def test_masks_and_long_rows_go_to_transformers(monkeypatch: Any) -> None:
    called = []
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: called.append(a) or (a[1], None))
    mask = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    attention.attend(GROUPED, *_inputs(8, torch.float32), mask)
    attention.attend(GROUPED, *_inputs(attention.MAX_TOKENS + 1, torch.float32), None)
    attention.attend(GROUPED, *_inputs(1, torch.float32), None)
    attention.attend(GROUPED, *_inputs(8, torch.float32), None, dropout=0.1)
    assert len(called) == 4


def test_a_model_switches_without_writing_it_down(tmp_path: Any) -> None:
    model = make_model().to(torch.bfloat16).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        before = model(ids).logits
        attention.use_if_faster(model, torch.device("cpu"), torch.bfloat16)
        after = model(ids).logits
    assert model.config._attn_implementation == attention.NAME
    assert torch.allclose(before.float(), after.float(), atol=0.02)
    model.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()
