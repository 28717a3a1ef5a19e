"""What evaluation says of every token, where rows are packed: the same as the model's own forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from engine.models import losses
from engine.models.batching import CPU_TOKENS, collate
from engine.models.forward import llama_layers
from engine.models.losses import build_fitting_batches, compute_row_losses, compute_token_losses
from tests.engine.packed_rows import LONGEST, base, rows


def test_every_token_has_the_loss_and_the_guess_of_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "HEAD_ROWS", 16)
    monkeypatch.setattr(losses, "LOSS_ROWS", 5)
    model, token_rows = base().eval(), rows()
    assert llama_layers.explain_refusal(model, LONGEST) == ""
    sums, right = [], []
    with torch.no_grad():
        for place in range(len(token_rows)):
            batch = collate(token_rows, np.array([place]))
            logits = model(input_ids=batch.inputs, use_cache=False).logits[batch.picked]
            half = len(logits) // 2  # of which the model is made right
            batch.targets[:half] = logits.argmax(-1)[:half]
            each, hits = compute_token_losses(model, batch)
            own = F.cross_entropy(logits, batch.targets, reduction="none")
            torch.testing.assert_close(each, own, rtol=1e-4, atol=1e-5)
            assert hits.tolist() == (logits.argmax(-1) == batch.targets).tolist()
            assert hits[:half].all()
            plain = collate(token_rows, np.array([place])).targets
            sums.append(F.cross_entropy(logits, plain, reduction="sum").item())
            right.append(int((logits.argmax(-1) == plain).sum()))
    per_row = compute_row_losses(model, token_rows, batch_size=4, device="cpu")
    assert per_row.loss_sum == pytest.approx(sums, rel=1e-4)
    assert per_row.correct.tolist() == right


def test_packed_rows_are_evaluated_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    model, token_rows = base().eval(), rows()
    whole = build_fitting_batches(model, token_rows, 6)
    assert [len(batch) for batch in whole] == [6]
    monkeypatch.setitem(CPU_TOKENS, "full", int(token_rows.lengths.max()))
    dealt = build_fitting_batches(model, token_rows, 6)
    assert len(dealt) > 1
    assert sorted(np.concatenate(dealt).tolist()) == list(range(6))
    assert all(token_rows.lengths[batch].sum() <= token_rows.lengths.max() for batch in dealt)


def test_the_worst_tokens_of_a_row_and_its_hits() -> None:
    model, token_rows = base().eval(), rows()
    per_row = compute_row_losses(model, token_rows, batch_size=4, device="cpu")
    assert per_row.min_k is not None
    assert per_row.hits is not None
    ends = np.cumsum(per_row.tokens)
    for place in range(len(token_rows)):
        batch = collate(token_rows, np.array([place]))
        with torch.no_grad():
            each, hits = compute_token_losses(model, batch)
        worst = each.sort(descending=True).values[: max(1, round(0.2 * len(each)))]
        assert per_row.min_k[place] == pytest.approx(-worst.mean().item(), rel=1e-4)
        assert per_row.hits[ends[place] - per_row.tokens[place] : ends[place]].tolist() == hits.tolist()
