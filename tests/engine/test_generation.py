"""How answers are generated: what costs memory and time, whatever they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.evaluation.generation import answers
from engine.evaluation.own_samples import continued
from engine.tuning import models
from engine.tuning.methods import make_trainable
from store.config import TrainConfig
from tests.tiny import make_tokenizer, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("generation") / "tiny")


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_the_head_is_never_given_rows_with_gaps(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch would copy the head's weights for every row: gigabytes for a real vocabulary."""
    config = TrainConfig.parse({"dataset": "d", "model": str(folder), "method": method}).resolved(100)
    base = models.load_model(config, config.model, "cpu", torch.float32)
    model = make_trainable(base, config, torch.float32)
    head: Any = model.get_output_embeddings()
    given: list[torch.Tensor] = []
    forward = head.forward
    monkeypatch.setattr(head, "forward", lambda x: (given.append(x), forward(x))[1])
    tokenizer = make_tokenizer()
    answers(model, tokenizer, ["what is it", "who"], max_new_tokens=3, device="cpu")
    if method == "lora":
        continued(model, tokenizer, [[1, 2, 3], [4, 5, 6]], seed=0, length=3)
    assert len(given) >= 3
    assert all(x.is_contiguous() for x in given)
    assert not head._forward_pre_hooks
