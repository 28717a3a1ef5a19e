"""Modules of `evaluate`: ours load from files without a hub, a user's own is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from engine.evaluation.metrics import custom_metric, evaluate_module
from engine.evaluation.metrics.answer_rows import Answers, MetricInput
from engine.evaluation.metrics.measurement import measure
from engine.evaluation.statistics.metric_estimates import RowScores, aggregate_scores
from store.core.home import Home
from store.core.metric_table import METRICS
from store.core.metrics_config import MetricsConfig

MODULE = """
import datasets
import evaluate

class Mine(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(description="", citation="", inputs_description="",
                                   features=datasets.Features({"predictions": text, "references": text}))

    def _compute(self, predictions, references, scale=1):
        same = [float(a == b) for a, b in zip(predictions, references)]
        return RESULT
"""


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")


def loaded(family: str) -> Any:
    return evaluate.load(evaluate_module.__file__, family, keep_in_memory=True)


SAID = ["the cat sat on the mat", "a dog ran", ""]
REFERENCES = ["the cat sat on a mat", "a dog ran", "x"]


def test_every_family_that_needs_no_server_is_loaded_with_its_columns() -> None:
    apart = {"judge", "own", "choices"}  # choices are scored by the model itself
    families = {metric.family for metric in METRICS.values()} - apart
    columns = {family: set(loaded(family).features) for family in families}
    alone = {"valid_json", "json_schema", "regex", "constraints"}
    assert columns.pop("losses") == {"loss_sum", "tokens", "bytes"}
    for family, names in columns.items():
        assert names == ({"predictions"} if family in alone else {"predictions", "references"}), family


def test_a_family_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="There is no configuration blue; available: bleu, calibration"):
        loaded("blue")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("exact_match", {"normalise": True}),
        ("token_f1", {}),
        ("bleu", {"tokenize": "intl"}),
        ("chrf", {}),
        ("rouge", {"use_stemmer": True}),
        ("classes", {"labels": ["a dog ran", "x"]}),
        ("valid_json", {}),
        ("json_schema", {"json_schema": {"type": "object"}}),
        ("regex", {"pattern": "cat"}),
        ("constraints", {"constraints": [{"kind": "words", "at_least": 3}]}),
    ],
)
def test_a_module_gives_what_an_evaluation_gives(family: str, options: dict[str, Any]) -> None:
    module = loaded(family)
    columns = {"predictions": SAID, "references": REFERENCES}
    results = module.compute(**{name: columns[name] for name in module.features}, **options)
    assert results["n"] == 3
    for name in (name for name, metric in METRICS.items() if metric.family == family):
        config = MetricsConfig.parse({"metrics": [{"metric": name, **options}]})
        scored = measure(config, Answers(np.arange(3), SAID, REFERENCES), Home())[0]
        document = aggregate_scores(scored)
        assert (results[name], results[f"{name}_low"]) == (document.value, document.low)
        assert results[f"{name}_scores"] == scored.scores.tolist()


def test_bleu_is_that_of_sacrebleu_and_losses_have_their_columns() -> None:
    results = loaded("bleu").compute(predictions=SAID, references=REFERENCES)
    assert results["bleu"] == pytest.approx(BLEU().corpus_score(SAID, [REFERENCES]).score)
    results = loaded("losses").compute(loss_sum=[1.0, 2.0], tokens=[2, 1], bytes=[8, 4])
    assert results["perplexity"] == pytest.approx(np.e)
    assert results["bits_per_byte"] == pytest.approx(3 / np.log(2) / 12)


def test_calibration_is_asked_with_probabilities() -> None:
    logs = np.log([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    results = loaded("calibration").compute(predictions=logs.tolist(), references=[0, 1, 1, 0])
    assert results["brier"] == pytest.approx(2 * np.mean([0.01, 0.36, 0.04, 0.09]))
    assert 0 < results["ece"] < 1
    assert results["temperature"] > 0


def run(tmp_path: Path, source: str, rows: int = 40, **options: Any) -> tuple[RowScores, str]:
    home = Home(tmp_path).create()
    (home.metrics / "mine.py").write_text(source, encoding="utf-8")
    config = MetricsConfig.parse({"metrics": [{"metric": "own", "file": "mine", **options}]})
    predictions = ["a" if i % 4 else "b" for i in range(rows)]
    log_lines: list[str] = []
    answers = Answers(np.arange(rows), predictions, ["a"] * rows)
    return measure(config, answers, home, log=log_lines.append)[0], "\n".join(log_lines)


def test_a_module_gives_scores_or_a_figure_with_an_interval(tmp_path: Path) -> None:
    mine, _ = run(tmp_path, MODULE.replace("RESULT", "{'total': 7.0, 'scores': same}"))
    assert mine.scores.sum() == 30
    mine, _ = run(
        tmp_path, MODULE.replace("RESULT", "{'share': scale * sum(same) / len(same)}"), options={"scale": 10}
    )
    document = aggregate_scores(mine)
    assert (document.value, document.n, document.details) == (7.5, 40, {"result": "share"})
    assert document.low < 7.5 < document.high


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ("None", "Its compute() returned None"),
        ("{'scores': [1.0]}", "It returned 1 values for 40 rows."),
        ("{'said': 'good'}", "Its compute() returned said, but no number."),
        ("{'f': float('nan')}", "Of f: it gave nan."),
    ],
)
def test_a_module_that_gives_no_figure_is_refused(tmp_path: Path, result: str, reason: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MODULE.replace("RESULT", result), encoding="utf-8")
    answers = Answers(np.arange(40), ["a"] * 40, ["a"] * 40)
    asked = MetricInput(answers, Home(tmp_path), 0.95, lambda: None)
    with pytest.raises(custom_metric.CustomMetricError, match="^" + re.escape(reason)):
        custom_metric.compute_scores(custom_metric.load_metric(path), asked, {})


def test_a_module_that_fails_says_why(tmp_path: Path) -> None:
    mine, log = run(tmp_path, MODULE.replace("RESULT", "1 / 0"))
    assert mine.failed.startswith("ZeroDivisionError")
    assert aggregate_scores(mine).value is None
    assert "Traceback" in log
