"""Where rows can't be packed it is said why, and they go through the model's own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification

from engine.models import loading
from engine.models.batching import collate
from engine.models.forward import llama_layers
from engine.models.forward.packed_forward import compute_hidden_states
from engine.models.losses import compute_loss_sum
from engine.models.tuning_methods import make_trainable
from tests.engine.packed_rows import LONGEST, base, config, rows
from tests.tiny import write_model


def test_a_base_in_eight_bits_goes_through_its_own_forward(tmp_path: Path) -> None:
    """Which columns count as outliers hangs on all rows of a batch there."""
    write_model(tmp_path / "tiny", max_position_embeddings=512)
    chosen = config(method="lora", load_in_8bit=True, model=str(tmp_path / "tiny"))
    base_model = loading.load_model(chosen, chosen.model, "cpu", torch.float32)
    model = make_trainable(base_model, chosen, torch.float32)
    assert "Linear8bitLt" in llama_layers.explain_refusal(model, LONGEST)


REFUSED = [
    ({"method": "lora", "use_dora": True}, "q_proj of layer 0"),
    ({"method": "lora", "lora_dropout": 0.1}, "q_proj of layer 0"),
    ({"method": "ia3"}, "k_proj of layer 0"),
    ({"method": "vera"}, "q_proj of layer 0"),
    ({"method": "oft"}, "q_proj of layer 0"),
    ({"method": "adalora"}, "q_proj of layer 0"),
    ({"method": "bottleneck"}, "self_attn is changed"),
    ({"method": "llama_adapter"}, "before each row"),
    ({"method": "prompt_tuning"}, "before each row"),
    ({"method": "prefix_tuning"}, "before each row"),
    ({"method": "p_tuning"}, "before each row"),
]


@pytest.mark.parametrize(("fields", "why"), REFUSED)
def test_other_methods_go_through_their_own_forward(fields: dict[str, Any], why: str) -> None:
    model = make_trainable(base(), config(**fields | {"r": 8}), torch.float32).train()
    batch = collate(rows(), np.arange(6))
    assert why in llama_layers.explain_refusal(model, LONGEST)
    assert compute_hidden_states(model, batch) is None
    compute_loss_sum(model, batch).backward()
    assert any(p.grad is not None for p in model.parameters())


def test_what_else_is_refused() -> None:
    model = base()
    assert "sliding window of 100" in llama_layers.explain_refusal(base("mistral", sliding_window=100), 101)
    assert llama_layers.explain_refusal(base("mistral", sliding_window=100), 100) == ""
    assert "LlamaForSequenceClassification" in llama_layers.explain_refusal(
        LlamaForSequenceClassification(model.config), 9
    )
    positions = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    assert "dynamic" in llama_layers.explain_refusal(base(rope_parameters=positions), 9)
    assert "activation is gelu" in llama_layers.explain_refusal(base(hidden_act="gelu"), 9)
    assert "attention_dropout is 0.1" in llama_layers.explain_refusal(base(attention_dropout=0.1), 9)
    assert "precisions" in llama_layers.explain_refusal(_with_wide_norm(base().to(torch.bfloat16)), 9)
    model.model.layers[1].mlp.register_forward_hook(lambda *_: None)
    assert llama_layers.explain_refusal(model, 9) == "model.layers.1.mlp is changed"
    assert "on meta" in llama_layers.explain_refusal(base().to("meta"), 9)


def _with_wide_norm(model: Any) -> Any:
    model.model.norm.float()
    return model
