"""All figures of a verdict as one list: the ones that a repeated run has too, under the same keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from engine.archives import originals
from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses, list_figures
from store.evaluation.verdict_schemas import read_verdict
from store.runs.schemas import Run
from tests.unit.store_samples import row_of

ESTIMATE = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}


def test_every_part_has_its_figures_and_nothing_that_is_none() -> None:
    loss = {"loss": 2.0, "perplexity": 7.4, "token_accuracy": 0.5, "n": 3, "tokens": 6}
    classes = {"accuracy": ESTIMATE, "f1_macro": ESTIMATE, "f1_weighted": ESTIMATE, "n": 3}
    flips = {"change": ESTIMATE}
    document = {
        "gain": ESTIMATE | {"unit": "nats a token", "split": "test"},
        "accuracy_gain": ESTIMATE | {"unit": "share of tokens"},
        "base": loss,
        "tuned": loss | {"loss": None},
        "overfitting": None,
        "membership": {"scores": {"loss": {"auc": ESTIMATE}}},
        "extraction": {"beyond": None},
        "classification": {"models": {"tuned": classes}, "over_prompted": None},
        "forgetting": {
            "texts": [{"probe": "prose", "unit": "nats a token", "change": ESTIMATE}],
            "choices": [{"probe": "data/Sums", "change": ESTIMATE | {"value": float("nan")}}],
            "divergence": [{"probe": "own_samples", "unit": "nats a token", "kl": ESTIMATE}],
            "requests": {"harmful": flips, "harmless": flips},
        },
    }
    verdict = read_verdict(document)
    assert verdict is not None
    ones = np.ones(3)
    rows = HeldOutRowLosses(np.arange(3), 2 * ones, np.array([3.0, 4, 5]), ones, ones, ones)
    figures = {figure["key"]: figure for figure in list_figures(verdict, rows)}
    assert list(figures) == [
        "loss.base", "gain", "accuracy_gain", "classes.accuracy", "classes.f1_macro", "text.prose",
        "kl.own_samples", "requests.harmful", "requests.harmless", "membership.loss",
    ]  # fmt: skip
    assert figures["text.prose"]["title"] == "loss on general prose, change"
    assert figures["loss.base"]["value"] == 2.0
    again = list_figures(verdict, rows._replace(base_loss=9 * ones))[0]  # rows that don't give the loss
    assert (again["value"], again["low"]) == (2.0, None)


def test_an_upgrade_changes_no_field_of_a_run(tmp_path: Path) -> None:
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    loss = {"loss": 2.0, "perplexity": 7.4, "token_accuracy": 0.5, "n": 3, "tokens": 6}
    verdict = {
        "gain": estimate | {"unit": "nats a token"},
        "accuracy_gain": None,
        "base": loss,
        "tuned": loss,
    }
    run = row_of(Run, created_at=datetime.fromtimestamp(0, UTC), config={}, model="tiny", facts={})
    run.data_fingerprint, run.verdict = "f", verdict
    judged = read_verdict(verdict)
    assert judged is not None
    figures = [{**figure} for figure in run_comparison.list_figures(judged)]
    bundled: Any = {
        "run": {"created_at": run.created_at.isoformat(), "kind": "train"},
        **{"config": {"model": "tiny"}, "data": {"fingerprint": "f"}, "files": [], "facts": {}},
        "figures": figures[:-1],  # one came later
        "verdict": {**verdict, "overfitting": None},
    }
    first = figures[0]
    bundled["figures"][0] = first | {"title": "as it was called", "value": first["value"] * (1 + 1e-9)}
    assert originals.compare_with_original(bundled, run, "train", tmp_path) == []
    bundled["figures"][0] = first | {"value": first["value"] * 1.01}
    bundled["verdict"]["gain"] = estimate | {"value": 0.9, "unit": "nats a token"}
    fields = [line["field"] for line in originals.compare_with_original(bundled, run, "train", tmp_path)]
    assert sorted(fields) == ["figures.loss.base.value", "verdict.gain.value"]
