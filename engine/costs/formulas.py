"""What a step takes by formula, for code that decides by numbers, such as a router's, which the meta device
has not: bytes and operations of a Llama's layer, and of logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.forward.operations import Piece
from store.catalog.method_sizes import adapted_layers
from store.config.train_config import TrainConfig

LOGIT = 12  # bytes a trained token and vocabulary entry
TOUCHED = 8.0  # times that a byte which a forward keeps is read or written in it, as rehearsed for a Llama
CALLS = 110  # operations of a layer's forward


@dataclass(frozen=True)
class Formula:
    """A micro-batch of padded rows, as many tokens long; wide: 2 in fp32, else 1."""

    text: Any
    config: TrainConfig
    rows: int
    length: int
    trained: int
    wide: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length

    @property
    def layers(self) -> int:
        return int(self.text.num_hidden_layers)

    @property
    def layer(self) -> float:
        """Bytes that a layer's forward writes."""
        text = self.text
        mlp = getattr(text, "intermediate_size", None) or 4 * text.hidden_size
        return float(self.wide * self.tokens * (24 * text.hidden_size + 8 * mlp))

    @property
    def saved(self) -> float:
        """Bytes that the layers keep for backward."""
        if not self.config.gradient_checkpointing:
            return self.layers * self.layer
        return self.layers * 2 * self.wide * self.tokens * self.text.hidden_size + self.layer

    @property
    def logits(self) -> float:
        """Bytes of logits and what a loss makes of them."""
        return float(LOGIT * self.trained * self.text.vocab_size)

    def piece(self, linear: float, trains: float) -> Piece:
        """What it does; linear: weights of the layers' matrices, trains: share of them that is trained."""
        products, attention, head = flops(self.text, linear, self.tokens, self.trained, self.length)
        forward = np.array([products, attention, TOUCHED * self.layers * self.layer, CALLS * self.layers])
        judged = np.array([head, 0.0, 1.5 * self.logits, CALLS])
        # backward: gradients of activations down to the lowest trained layer, those of weights where trained
        passes = 1 + _backward_share(self.config, self.layers) + self.config.gradient_checkpointing + trains
        return Piece(self.tokens, self.trained, self.length, passes * forward, 2 * judged, forward, judged)


def flops(
    text: Any, linear: float, tokens: float, trained: float, length: float
) -> tuple[float, float, float]:
    """Operations of a forward pass: of two a weight and token, of attention, and of logits where trained."""
    attention = 4 * length * text.hidden_size * text.num_hidden_layers
    return tokens * 2 * linear, tokens * attention, 2 * trained * text.hidden_size * text.vocab_size


def _backward_share(config: TrainConfig, layers: int) -> float:
    """Of the layers, that gradients flow through."""
    if config.method == "freeze" and not config.train_embeddings:
        return min(config.trainable_layers, layers) / layers
    if config.method == "llama_adapter":
        return min(adapted_layers(layers, config.adapter_layers), layers) / layers
    return 1.0
