"""Measure the chosen metrics over stored answers, row by row, after the model has answered.

Metrics are independent: rows that a metric can't score are counted by reason, and a metric that fails as a
whole reports why while the rest go on. A custom metric runs in a separate process
(`custom_metric_process.py`), whose failure affects nothing else. Only cancellation is propagated.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from engine.evaluation.metrics import answer_format, answer_metrics, custom_metric
from engine.evaluation.metrics.answer_rows import Answers, MetricInput, MetricScores, Texts
from engine.evaluation.metrics.custom_metric import CustomMetricError
from engine.evaluation.metrics.judge import score_grades
from engine.evaluation.probes.choice_items import pick_options
from engine.evaluation.statistics.metric_estimates import RowScores, WholeFigure
from engine.worker.job import JobCancelled
from store.core.address_policy import PUBLIC, AddressPolicy
from store.core.home import Home
from store.core.metric_table import METRICS
from store.core.metrics_config import CustomMetricChoice, MetricsConfig
from store.evaluation.schemas import IsolatedAnswer, IsolatedQuestion

# A custom metric runs in a separate process (`custom_metric_process`).
#
# Whatever it does (a crash, `os._exit`, an endless loop, unbounded memory) affects nothing else. Its
# processes end when it has answered, when it exceeds a limit, when the job is cancelled, and when this
# process dies.

ROOT = Path(__file__).resolve().parents[3]
PROCESS_MODULE = "engine.evaluation.metrics.custom_metric_process"
PROCESS_PAUSE = 0.05  # seconds between checks for its end and for cancellation
PROCESS_GRACE = 10.0  # seconds for the process to kill everything the metric started


def run_isolated(choice: CustomMetricChoice, asked: MetricInput) -> MetricScores:
    """Score the rows with a custom metric. Raises CustomMetricError if it fails, and whatever
    `check` raises.
    """
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as answer:
        question.write(json.dumps(_build_question(choice, asked)).encode())
        question.seek(0)
        process = _start_process(choice, question, answer)
        try:
            while not _has_ended(process):
                asked.check()
        finally:
            _terminate(process)
        answer.seek(0)
        return _read_answer(choice, answer.read().decode("utf-8", "replace"), asked)


def _build_question(choice: CustomMetricChoice, asked: MetricInput) -> IsolatedQuestion:
    rows = asked.rows
    return {
        "choice": choice.model_dump(mode="json"),
        "home": str(asked.home.path),
        "confidence": asked.confidence,
        "row_ids": rows.row_ids.tolist(),
        "predictions": _list_texts(rows.predictions),
        "references": _list_texts(rows.references),
        "prompts": _list_texts(rows.prompts),
        "groups": None if rows.groups is None else [None if g is None else str(g) for g in rows.groups],
    }


def _list_texts(column: Texts | None) -> list[str | None] | None:
    return None if column is None else list(column)


def _start_process(
    choice: CustomMetricChoice, question: IO[bytes], answer: IO[bytes]
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    limits = [str(choice.max_seconds), str(choice.max_memory_gib)]
    return subprocess.Popen(
        [sys.executable, "-m", PROCESS_MODULE, str(answer.fileno()), str(os.getpid()), *limits],
        stdin=question,
        pass_fds=[answer.fileno()],
        env=environment,
        start_new_session=True,
    )


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(PROCESS_PAUSE)
    except subprocess.TimeoutExpired:
        return False
    return True


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, on which the process kills everything the metric started; only it knows what that is."""
    process.terminate()
    try:
        process.wait(PROCESS_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read_answer(choice: CustomMetricChoice, text: str, asked: MetricInput) -> MetricScores:
    """Parse the answer: a line break for each row that was started, then a document of one line."""
    begun = text.count("\n")
    try:
        document: IsolatedAnswer = json.loads(text)
    except ValueError:
        document = {"failed": "its process was stopped before it could answer"}
    if "failed" in document:
        at_row = f" in row {asked.rows.row_ids[begun - 1]}" if 0 < begun <= len(asked.rows) else ""
        raise CustomMetricError(f"{choice.file}.py: {document['failed']}{at_row}.")
    if "error" in document:
        raise CustomMetricError(document["error"], document["traceback"])
    scores = np.array([np.nan if score is None else score for score in document["scores"]], np.float64)
    scores_of_rows = MetricScores(scores, estimator=document["estimator"], whole=document["whole"])
    scores_of_rows.reasons = {int(place): reason for place, reason in document["reasons"]}
    scores_of_rows.traceback = document["traceback"]
    return scores_of_rows


# Any error of a metric is caught here, as a metric may be user code. Only cancellation is propagated.

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
) -> list[RowScores]:
    """Measure every chosen metric, in order. `policy` restricts a judge's address. `check` is called between
    rows and may raise JobCancelled; `log` gets tracebacks; `on_metric(metrics done, name of the next)` is
    called before each metric.
    """
    scored_metrics = []
    for done, choice in enumerate(config.metrics):
        on_metric(done, choice.key)
        check()
        scored = _score_metric(choice, answers, MetricInput(answers, home, config.confidence, check, policy))
        if scored.traceback:
            log(f"{choice.key}: {scored.failed or 'some rows could not be scored'}\n{scored.traceback}")
        scored_metrics.append(scored)
    return scored_metrics


def _score_metric(choice: Any, answers: Answers, asked: MetricInput) -> RowScores:
    metric = METRICS[choice.metric]
    scored = RowScores(
        choice.key,
        answers.row_ids,
        np.full(len(answers), np.nan),
        bounds=(float(choice.lowest), float(choice.highest)) if choice.metric == "judge" else metric.bounds,
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
        _assign_scores(
            scored, places, SCORERS[metric.family](choice, replace(asked, rows=answers.take(places)))
        )
    except JobCancelled:
        raise
    except custom_metric.CustomMetricError as error:
        scored.failed, scored.traceback = str(error), error.trace
    except Exception as error:  # noqa: BLE001 (the border: one metric must not end the others)
        scored.failed, scored.traceback = custom_metric.format_error(error), traceback.format_exc()
    return scored


def _assign_scores(scored: RowScores, places: np.ndarray, row_scores: MetricScores) -> None:
    """Assign the scores of some rows to their positions among all rows."""
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
    return MetricScores(answer_metrics.exact_match(asked.pairs, normalise=choice.normalise))


def _token_f1(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(answer_metrics.token_f1(asked.pairs))


def _bleu(choice: Any, asked: MetricInput) -> MetricScores:
    scores, counts = answer_metrics.bleu(asked.pairs, tokenize=choice.tokenize, lowercase=choice.lowercase)
    return MetricScores(scores, statistics=counts, estimator="bleu")


def _chrf(choice: Any, asked: MetricInput) -> MetricScores:
    scores, counts = answer_metrics.chrf(asked.pairs, word_order=choice.word_order)
    return MetricScores(scores, statistics=counts, estimator="chrf")


def _rouge(choice: Any, asked: MetricInput) -> MetricScores:
    by_kind = answer_metrics.rouge(asked.pairs, [choice.metric], use_stemmer=choice.use_stemmer)
    return MetricScores(by_kind[choice.metric])


def _score_classes(choice: Any, asked: MetricInput) -> MetricScores:
    truths = asked.truths
    labels = choice.labels or answer_metrics.list_labels(truths)
    truth = answer_metrics.find_label_indices(truths, labels, ignore_case=False)
    answer = answer_metrics.find_label_indices(asked.predictions, labels, ignore_case=choice.ignore_case)
    details: dict[str, Any] = {
        "no_label": answer_metrics.count_unknown_labels(asked.predictions, answer, labels),
        "outside": answer_metrics.count_unknown_labels(truths, truth, labels),
    }
    if choice.metric == "accuracy":
        details |= answer_metrics.compute_class_details(truth, answer, labels)
    right = (truth == answer) & (truth < len(labels))
    places = np.column_stack([truth, answer]).astype(float)
    return MetricScores(
        right.astype(float), statistics=places, estimator=choice.metric, labels=labels, details=details
    )


def _score_choices(choice: Any, asked: MetricInput) -> MetricScores:
    rows = asked.rows
    scores = [np.array(each, float) for each in rows.choice_scores or ()]
    options = [each or () for each in rows.choices or ()]
    by_byte = choice.metric == "choice_accuracy_per_byte"
    right = pick_options(scores, options if by_byte else None) == np.array(rows.rights)
    return MetricScores(
        right.astype(float), details={"guessing": float(np.mean([1 / len(each) for each in options]))}
    )


def _score_calibration(choice: Any, asked: MetricInput) -> MetricScores:
    logs = np.asarray(asked.rows.log_probabilities, float)
    names = list(asked.rows.classes)
    truth = answer_metrics.find_label_indices(asked.truths, names, ignore_case=False)
    if choice.metric == "brier":
        return MetricScores(answer_metrics.compute_brier_scores(logs, truth, len(names)))
    document = answer_metrics.compute_calibration_figures(logs, truth, len(names))
    nothing = np.full(len(asked.rows), np.nan)
    if choice.metric == "ece":
        ece = document.ece
        whole: WholeFigure = {"value": ece.value, "low": None, "high": None, "n": ece.n}
        whole["details"] = {"chance": ece.null, "bins": document.bins}
    else:
        whole = {"value": None, "low": None, "high": None, "n": len(truth)}
        if (heat := document.temperature) is not None:
            whole = {"value": heat.value, "low": heat.low, "high": heat.high, "n": heat.n}
        whole["details"] = {"overconfident": document.overconfident}
    return MetricScores(nothing, whole=whole, estimator="whole")


def _score_losses(choice: Any, asked: MetricInput) -> MetricScores:
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


def _score_valid_json(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(answer_format.score_valid_json(asked.predictions, fenced=choice.fenced))


def _score_json_schema(choice: Any, asked: MetricInput) -> MetricScores:
    scores, why = answer_format.score_json_schema(asked.predictions, choice.json_schema, fenced=choice.fenced)
    return MetricScores(scores, details={"why_not": why})


def _score_regex(choice: Any, asked: MetricInput) -> MetricScores:
    return MetricScores(answer_format.score_regex(asked.predictions, choice.pattern, whole=choice.whole))


def _score_constraints(choice: Any, asked: MetricInput) -> MetricScores:
    met = answer_metrics.check_constraints(asked.predictions, choice.constraints)
    details = {
        "constraints": answer_metrics.compute_constraint_shares(asked.predictions, met, choice.constraints)
    }
    return MetricScores(met.all(axis=1).astype(float), details=details)


SCORERS: dict[str, Callable[[Any, MetricInput], MetricScores]] = {
    "exact_match": _exact_match,
    "token_f1": _token_f1,
    "bleu": _bleu,
    "chrf": _chrf,
    "rouge": _rouge,
    "classes": _score_classes,
    "choices": _score_choices,
    "calibration": _score_calibration,
    "losses": _score_losses,
    "valid_json": _score_valid_json,
    "json_schema": _score_json_schema,
    "regex": _score_regex,
    "constraints": _score_constraints,
    "judge": score_grades,
    "own": run_isolated,
}
