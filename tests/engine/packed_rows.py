"""Rows of different lengths and models of random weights that can take them packed."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from engine.models.tokenization.rendering import TokenRows, render
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_model, make_tokenizer

LONGEST = 400  # beyond a block of queries
SHAPE = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
}  # fmt: skip
OTHERS = {
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"tie_word_embeddings": True}),
}


def config(**fields: Any) -> TrainConfig:
    return TrainConfig.parse({"dataset": "d", "r": 4, "dtype": "float32"} | fields).resolved(100)


def base(architecture: str = "llama", **changes: Any) -> Any:
    """A model of random weights, its norms and biases too."""
    if architecture == "llama":
        model = make_model(max_position_embeddings=512, **changes)
    else:
        kind, settings, given = OTHERS[architecture]
        torch.manual_seed(0)
        model = kind(settings(**SHAPE | given | changes))
    return stirred(model)


def stirred(model: Any) -> Any:
    """No parameter is at a start that hides its gradient."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def rows() -> TokenRows:
    """Rows of different lengths, short and long."""
    chats = conversations(6)
    chats[1][1]["content"] = "x y " * 35
    chats[4][0]["content"] = "long " * 70
    rendered = render(make_tokenizer(), range(6), chats)
    assert rendered.lengths.max() <= LONGEST
    return rendered
