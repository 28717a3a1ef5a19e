"""Models with trained prompts: losses are of the row's own tokens, and answers those that training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.models import loading
from engine.models.batching import collate
from engine.models.generation import GenerationOptions, generate_answers
from engine.models.losses import compute_picked_logits
from engine.models.tokenization.rendering import render
from engine.models.tuning_methods import make_trainable
from store.training.train_config import TrainConfig
from tests.tiny import conversations, make_tokenizer, write_model

METHODS = ("prompt_tuning", "prefix_tuning", "p_tuning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("prompts") / "tiny", initializer_range=0.1)


def prompted(folder: Path, method: str) -> Any:
    """A model whose prompts are far from nothing."""
    config = TrainConfig.parse({"dataset": "d", "model": str(folder), "method": method}).resolved(100)
    torch.manual_seed(1)
    base = loading.load_model(config, config.model, "cpu", torch.float32)
    model = make_trainable(base, config, torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.5)
    return model


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_of_the_rows_own_tokens(folder: Path, method: str) -> None:
    """Each row by itself, and its logits counted from the end: what stands before it has none."""
    model = prompted(folder, method).eval()
    rows = render(make_tokenizer(), range(4), conversations(4))
    batch = collate(rows, np.arange(4))
    expected = []
    with torch.no_grad():
        for i in range(4):
            ids, trained = rows.row(i)
            logits = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0, -len(ids) :]
            expected.append(logits[:-1][torch.from_numpy(trained[1:].copy())])
        picked = compute_picked_logits(model, batch)
    torch.testing.assert_close(picked, torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_answers_are_those_that_training_saw(folder: Path, method: str) -> None:
    """The greedy token after each prompt is the one that the training forward calls likeliest."""
    model = prompted(folder, method)
    tokenizer = loading.load_tokenizer(str(folder))
    asked = ["<|im_start|>user\nA<|im_end|>\n", "<|im_start|>user\nLonger one<|im_end|>\n"]
    completions = generate_answers(model, tokenizer, asked, GenerationOptions(1, "cpu"))
    for prompt, answer in zip(asked, completions, strict=True):
        ids = torch.tensor([tokenizer(prompt, add_special_tokens=False).input_ids])
        with torch.no_grad():
            token = model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
        assert answer == tokenizer.decode([int(token)], skip_special_tokens=True).strip()
