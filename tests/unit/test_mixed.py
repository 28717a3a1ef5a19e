"""The verdict on a model that was mixed, not trained."""

from __future__ import annotations

import json

import numpy as np

from engine.diagnostics.verdicts import mixed


def test_it_has_the_figures_of_a_run_and_no_course() -> None:
    tokens, base = np.full(60, 10), np.random.default_rng(0).normal(20, 2, 60)
    found = mixed.judge(
        alpha=0.4, of="LoRA on D", row_ids=range(60), split="test", base_loss_sum=base,
        tuned_loss_sum=base - 5 - np.random.default_rng(1).normal(0, 0.5, 60), tokens=tokens,
        base_correct=np.full(60, 3), tuned_correct=np.full(60, 5), config={"load_best_model_at_end": True},
    )  # fmt: skip
    assert found["state"] == "learned"
    assert found["gain"]["n"] == 60
    assert found["overfitting"] is None
    assert found["advice"] == []
    assert found["stopped"]["reason"] == "mixed"
    assert "It lies at α 0.4" in found["sentences"][0]
    assert "“LoRA on D”" in found["sentences"][0]
    assert found["sentences"][1].startswith("Perplexity went from")
    assert len(found["sentences"]) == 2  # nothing on steps, epochs or validations
    json.dumps(found, allow_nan=False)
    kept = mixed.without_advice(found | {"forgetting": {"advice": [1], "state": "some"}})
    assert kept["forgetting"] == {"advice": [], "state": "some"}
