"""The chosen metrics over stored answers, row by row: what an evaluation does after the model has answered.

One metric never ends another: what it can't score is counted with its reason, and a metric that fails as a
whole says so in its place while the rest goes on. That makes this a border where any error is caught, as a
metric may be code of the user's. Only a request to stop passes.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from engine.diagnostics.statistics.scored import Scored, WholeFigure
from engine.metrics import class_metrics, constraint_checks, form, own, text_overlap
from engine.metrics.answer_rows import Answers, MetricInput, MetricScores
from engine.metrics.isolated import ask_apart
from engine.metrics.judge_scores import graded
from engine.rows.choice_items import picked
from engine.worker.job import Cancelled
from store.catalog.metric_table import METRICS
from store.config.measuring.metrics_config import MetricsConfig
from store.contract.addresses import PUBLIC, AddressPolicy
from store.contract.home import Home

NOT_FINITE = "the loss of the row is not a number"


def measure(
    config: MetricsConfig,
    answers: Answers,
    home: Home,
    *,
    policy: AddressPolicy = PUBLIC,
    check: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    on_metric: Callable[[int, str], None] = lambda done, name: None,
) -> list[Scored]:
    """Every chosen metric, in order. `policy` says where a judge may be. `check` is called between rows and
    may raise Cancelled; `log` is told tracebacks; `on_metric(metrics done, name of the next)` as it goes."""
    scored_metrics = []
    for done, choice in enumerate(config.metrics):
        on_metric(done, choice.key)
        check()
        scored = _measured(choice, answers, MetricInput(answers, home, config.confidence, check, policy))
        if scored.traceback:
            log(f"{choice.key}: {scored.failed or 'some rows could not be scored'}\n{scored.traceback}")
        scored_metrics.append(scored)
    return scored_metrics


def _measured(choice: Any, answers: Answers, asked: MetricInput) -> Scored:
    metric = METRICS[choice.metric]
    scored = Scored(
        choice.key,
        answers.row_ids,
        np.full(len(answers), np.nan),
        bounds=_bounds(choice),
        unit=metric.unit,
        better=getattr(choice, "better", metric.better),
        empty=answers.empty if "prediction" in metric.needs else 0,
    )
    scored.failed = answers.missing(metric.needs)
    if scored.failed:
        return scored
    scored.reasons = answers.gaps(metric.needs)
    places = np.array([i for i in range(len(answers)) if i not in scored.reasons], np.int64)
    if not len(places):
        return scored
    try:
        _put(scored, places, MEASURES[metric.family](choice, replace(asked, rows=answers.take(places))))
    except Cancelled:
        raise
    except own.OwnMetricError as error:
        scored.failed, scored.traceback = str(error), error.trace
    except Exception as error:  # noqa: BLE001 (the border: one metric must not end the others)
        scored.failed, scored.traceback = own.error_line(error), traceback.format_exc()
    return scored


def _bounds(choice: Any) -> tuple[float | None, float | None]:
    if choice.metric == "judge":
        return (float(choice.lowest), float(choice.highest))
    return METRICS[choice.metric].bounds


def _put(scored: Scored, places: np.ndarray, row_scores: MetricScores) -> None:
    """What was found of some rows, at their places among all."""
    scored.scores[places] = row_scores.scores
    scored.reasons |= {int(places[row]): reason for row, reason in row_scores.reasons.items()}
    scored.estimator, scored.labels = row_scores.estimator, row_scores.labels
    scored.whole, scored.details, scored.traceback = (
        row_scores.whole,
        row_scores.details,
        row_scores.traceback,
    )
    if row_scores.statistics is not None:
        scored.statistics = np.full((len(scored.row_ids), row_scores.statistics.shape[1]), np.nan)
        scored.statistics[places] = row_scores.statistics
    if row_scores.whole is None and len(row_scores.reasons) == len(places):
        scored.failed = f"No row could be scored; the first: {row_scores.reasons[0]}."


def _exact_match(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(text_overlap.exact_match(asked.pairs, normalise=choice.normalise))


def _token_f1(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(text_overlap.token_f1(asked.pairs))


def _bleu(choice: Any, asked: MetricInput) -> MetricScores:
    scores, counts = text_overlap.bleu(asked.pairs, tokenize=choice.tokenize, lowercase=choice.lowercase)
    return MetricScores(scores, statistics=counts, estimator="bleu")


def _chrf(choice: Any, asked: MetricInput) -> MetricScores:
    scores, counts = text_overlap.chrf(asked.pairs, word_order=choice.word_order)
    return MetricScores(scores, statistics=counts, estimator="chrf")


def _rouge(choice: Any, asked: MetricInput) -> MetricScores:
    by_kind = text_overlap.rouge(asked.pairs, [choice.metric], use_stemmer=choice.use_stemmer)
    return MetricScores(by_kind[choice.metric])


def _classes(choice: Any, asked: MetricInput) -> MetricScores:
    truths = asked.truths
    labels = choice.labels or class_metrics.label_set(truths)
    truth = class_metrics.places(truths, labels, ignore_case=False)
    answer = class_metrics.places(asked.predictions, labels, ignore_case=choice.ignore_case)
    details: dict[str, Any] = {
        "no_label": class_metrics.outside(asked.predictions, answer, labels),
        "outside": class_metrics.outside(truths, truth, labels),
    }
    if choice.metric == "accuracy":
        details |= class_metrics.details(truth, answer, labels)
    right = (truth == answer) & (truth < len(labels))
    places = np.column_stack([truth, answer]).astype(float)
    return MetricScores(
        right.astype(float), statistics=places, estimator=choice.metric, labels=labels, details=details
    )


def _choices(choice: Any, asked: MetricInput) -> MetricScores:
    rows = asked.rows
    scores = [np.array(each, float) for each in rows.choice_scores or ()]
    options = [each or () for each in rows.choices or ()]
    by_byte = choice.metric == "choice_accuracy_per_byte"
    right = picked(scores, options if by_byte else None) == np.array(rows.rights)
    return MetricScores(
        right.astype(float), details={"guessing": float(np.mean([1 / len(each) for each in options]))}
    )


def _calibration(choice: Any, asked: MetricInput) -> MetricScores:
    logs = np.asarray(asked.rows.log_probabilities, float)
    names = list(asked.rows.classes)
    truth = class_metrics.places(asked.truths, names, ignore_case=False)
    if choice.metric == "brier":
        return MetricScores(class_metrics.brier(logs, truth, len(names)))
    document = class_metrics.calibrated(logs, truth, len(names))
    nothing = np.full(len(asked.rows), np.nan)
    if choice.metric == "ece":
        ece = document["ece"]
        whole: WholeFigure = {"value": ece["value"], "low": None, "high": None, "n": ece["n"]}
        whole["details"] = {"chance": ece["null"], "bins": document["bins"]}
    else:
        whole = {"value": None, "low": None, "high": None, "n": len(truth)}
        if (heat := document["temperature"]) is not None:
            whole = {"value": heat["value"], "low": heat["low"], "high": heat["high"], "n": heat["n"]}
        whole["details"] = {"overconfident": document["overconfident"]}
    return MetricScores(nothing, whole=whole, estimator="whole")


def _losses(choice: Any, asked: MetricInput) -> MetricScores:
    loss = np.asarray(asked.rows.loss_sum, float)
    size = asked.rows.tokens if choice.metric == "perplexity" else asked.rows.bytes
    below = np.asarray(size, float)
    sums = np.column_stack([loss, below])
    with np.errstate(all="ignore"):
        each = loss / below
        scores = np.exp(each) if choice.metric == "perplexity" else each / np.log(2)
    bad = np.flatnonzero(~np.isfinite(scores) | ~(below > 0))
    scores[bad] = np.nan
    sums[~np.isfinite(each) | ~(below > 0)] = np.nan
    reasons = {int(row): NOT_FINITE if below[row] > 0 else "the row has no token" for row in bad}
    return MetricScores(scores, statistics=sums, estimator=choice.metric, reasons=reasons)


def _valid_json(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(form.valid_json(asked.predictions, fenced=choice.fenced))


def _json_schema(choice: Any, asked: MetricInput) -> MetricScores:
    scores, why = form.json_schema(asked.predictions, choice.json_schema, fenced=choice.fenced)
    return MetricScores(scores, details={"why_not": why})


def _regex(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(form.regex(asked.predictions, choice.pattern, whole=choice.whole))


def _constraints(choice: Any, asked: MetricInput) -> MetricScores:
    met = constraint_checks.kept(asked.predictions, choice.constraints)
    details = {"constraints": constraint_checks.shares(asked.predictions, met, choice.constraints)}
    return MetricScores(met.all(axis=1).astype(float), details=details)


MEASURES: dict[str, Callable[[Any, MetricInput], MetricScores]] = {
    "exact_match": _exact_match,
    "token_f1": _token_f1,
    "bleu": _bleu,
    "chrf": _chrf,
    "rouge": _rouge,
    "classes": _classes,
    "choices": _choices,
    "calibration": _calibration,
    "losses": _losses,
    "valid_json": _valid_json,
    "json_schema": _json_schema,
    "regex": _regex,
    "constraints": _constraints,
    "judge": graded,
    "own": ask_apart,
}
