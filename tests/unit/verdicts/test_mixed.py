"""The verdict on a model that was mixed, not trained."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from engine.evaluation.verdicts import verdict as mixed
from store.core.documents import as_json
from store.evaluation.forgetting_schemas import AdviceItem, Forgetting
from tests.unit.store_samples import row_of
from tests.unit.verdict_inputs import judge_mixed


def test_it_has_the_figures_of_a_run_and_no_course() -> None:
    tokens, base = np.full(60, 10), np.random.default_rng(0).normal(20, 2, 60)
    verdict = judge_mixed(
        alpha=0.4, of="LoRA on D", row_ids=range(60), split="test", base_loss_sum=base,
        tuned_loss_sum=base - 5 - np.random.default_rng(1).normal(0, 0.5, 60), tokens=tokens,
        base_correct=np.full(60, 3), tuned_correct=np.full(60, 5), config={"load_best_model_at_end": True},
    )  # fmt: skip
    assert verdict.state == "learned"
    assert verdict.gain.n == 60
    assert verdict.overfitting is None
    assert verdict.advice == []
    assert verdict.stopped.reason == "mixed"
    assert "Interpolation at α 0.4" in verdict.sentences[0]
    assert "“LoRA on D”" in verdict.sentences[0]
    assert verdict.sentences[1].startswith("Perplexity went from")
    assert verdict.sentences[2].startswith("The interval of the gain allows for what 60 rows")
    assert len(verdict.sentences) == 3  # nothing on steps, epochs or validations
    json.dumps(verdict, default=as_json, allow_nan=False)
    forgot = row_of(Forgetting, advice=[AdviceItem(text="Train for less.", change={})], state="some")
    kept = mixed.drop_advice(replace(verdict, forgetting=forgot))
    assert kept.forgetting == replace(forgot, advice=[])
