"""Architectures and settings of which a step is rehearsed, and how."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, PreTrainedConfig

from engine.evaluation.statistics import cost_prediction
from engine.models.tokenization.rendering import TokenRows
from engine.training.costs.footprint import Footprint, Rehearsal
from store.training.train_config import TrainConfig

CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
SMOLLM2 = LlamaConfig(
    vocab_size=49_152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)
LLAMA_70B = LlamaConfig(
    vocab_size=128_256,
    hidden_size=8192,
    intermediate_size=28_672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
SMALL = LlamaConfig(
    vocab_size=512,
    hidden_size=128,
    intermediate_size=384,
    num_hidden_layers=5,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def padded(architecture: LlamaConfig) -> LlamaConfig:
    """The same with an activation that rows without padding are not computed with."""
    other = copy(architecture)
    other.hidden_act = "gelu"
    return other


UNTOLD = cost_prediction.correct_prediction([], "lora", cost_prediction.MEMORY)


def config(**fields: Any) -> TrainConfig:
    return TrainConfig(dataset="d", **fields).resolved(1000)


def rows(count: int, length: int, trained: float = 1.0) -> TokenRows:
    mask = np.arange(length) >= length * (1 - trained)
    starts = np.arange(count + 1) * length
    ids = np.ones(count * length, np.int32)
    return TokenRows(np.arange(count), starts, ids, np.tile(mask, count), np.zeros(count, np.uint8))


def rehearse(
    architecture: PreTrainedConfig, chosen: TrainConfig, dtype: torch.dtype = BF16, length: int = 128
) -> tuple[Rehearsal, Footprint]:
    tried = Rehearsal(architecture, chosen, dtype, "cpu")
    return tried, tried.run(chosen, rows(32, length, 0.3), rows(16, length, 0.3))
