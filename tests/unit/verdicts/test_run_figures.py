"""All figures of a verdict as one list: the ones that a repeated run has too, under the same keys."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from engine.archives import originals
from engine.evaluation.comparison import run_comparison
from engine.evaluation.comparison.run_comparison import HeldOutRowLosses, list_figures
from store.core.documents import as_json
from store.core.figure_schemas import Estimate, Gain, UnitEstimate
from store.db.records import to_json
from store.evaluation.forgetting_schemas import (
    ChoiceForgetting,
    Divergence,
    Extraction,
    Forgetting,
    Membership,
    MembershipScore,
    RefusalChange,
    RequestFlips,
    TextForgetting,
)
from store.evaluation.schemas import ClassFigures, Classification, ClassModels
from store.evaluation.verdict_schemas import LossFigures, Verdict
from store.runs.schemas import Run
from tests.unit.store_samples import row_of

ESTIMATE = Estimate(value=0.5, low=0.4, high=0.6, n=9)
GAIN = row_of(Gain, **vars(ESTIMATE), unit="nats a token", split="test")
LOSS = LossFigures(loss=2.0, perplexity=7.4, token_accuracy=0.5, n=3, tokens=6)


def test_every_part_has_its_figures_and_nothing_that_is_none() -> None:
    classes = row_of(ClassFigures, accuracy=ESTIMATE, f1_macro=ESTIMATE, f1_weighted=ESTIMATE, n=3)
    flips = row_of(RequestFlips, change=ESTIMATE)
    broken = replace(ESTIMATE, value=float("nan"))
    verdict = row_of(
        Verdict,
        gain=GAIN,
        accuracy_gain=UnitEstimate(**vars(ESTIMATE), unit="share of tokens"),
        base=LOSS,
        tuned=replace(LOSS, loss=None),
        membership=row_of(Membership, scores={"loss": row_of(MembershipScore, auc=ESTIMATE)}),
        extraction=row_of(Extraction),
        classification=row_of(Classification, models=row_of(ClassModels, tuned=classes)),
        forgetting=row_of(
            Forgetting,
            texts=[row_of(TextForgetting, probe="prose", unit="nats a token", change=ESTIMATE)],
            choices=[row_of(ChoiceForgetting, probe="data/Sums", change=broken)],
            divergence=[row_of(Divergence, probe="own_samples", unit="nats a token", kl=ESTIMATE)],
            requests=row_of(RefusalChange, harmful=flips, harmless=flips),
        ),
    )
    ones = np.ones(3)
    rows = HeldOutRowLosses(np.arange(3), 2 * ones, np.array([3.0, 4, 5]), ones, ones, ones)
    figures = {figure.key: figure for figure in list_figures(verdict, rows)}
    assert list(figures) == [
        "loss.base", "gain", "accuracy_gain", "classes.accuracy", "classes.f1_macro", "text.prose",
        "kl.own_samples", "requests.harmful", "requests.harmless", "membership.loss",
    ]  # fmt: skip
    assert figures["text.prose"].title == "loss on general prose, change"
    assert figures["loss.base"].value == 2.0
    again = list_figures(verdict, rows._replace(base_loss=9 * ones))[0]  # rows that don't give the loss
    assert (again.value, again.low) == (2.0, None)


def test_an_upgrade_changes_no_field_of_a_run(tmp_path: Path) -> None:
    verdict = row_of(Verdict, gain=GAIN, base=LOSS, tuned=LOSS)
    run = row_of(Run, created_at=datetime.fromtimestamp(0, UTC), config={}, model="tiny", facts={})
    run.data_fingerprint, run.verdict = "f", verdict
    figures = [as_json(figure) for figure in run_comparison.list_figures(verdict)]
    bundled: Any = {
        "run": {"created_at": run.created_at.isoformat(), "kind": "train"},
        **{"config": {"model": "tiny"}, "data": {"fingerprint": "f"}, "files": [], "facts": {}},
        "figures": figures[:-1],  # one came later
        "verdict": json.loads(to_json(verdict)),
    }
    first = figures[0]
    bundled["figures"][0] = first | {"title": "as it was called", "value": first["value"] * (1 + 1e-9)}
    assert originals.compare_with_original(bundled, run, "train", tmp_path) == []
    bundled["figures"][0] = first | {"value": first["value"] * 1.01}
    bundled["verdict"]["gain"]["value"] = 0.9
    fields = [line.field for line in originals.compare_with_original(bundled, run, "train", tmp_path)]
    assert sorted(fields) == ["figures.loss.base.value", "verdict.gain.value"]
