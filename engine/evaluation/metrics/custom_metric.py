"""Custom metric: a Python file in the home folder, run in a separate process (`measurement.py`).

The file has one of
    score(prediction, reference, prompt) -> number                  called row by row; may omit arguments
    scores(predictions, references, prompts) -> numbers             called once, a number for each row
    a class that is an `evaluate.Metric`                            its compute() is called
Its errors affect nothing else: a row that raises, or whose value is not a number, is counted with its error.
If no row can be scored, or the file can't be run, the metric has failed and says why.
"""

from __future__ import annotations

import inspect
import math
import numbers
import traceback
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.evaluation.metrics.answer_rows import NO_PROMPT, NO_REFERENCE, Answers, MetricInput, MetricScores
from store.core.documents import as_json

if TYPE_CHECKING:  # importing scipy takes longer than most metrics
    from engine.evaluation.statistics.metric_estimates import WholeFigure

MAX_ERROR_LENGTH = 300  # characters
ROW = ("prediction", "reference", "prompt")
ROWS = ("predictions", "references", "prompts")
_REASONS = {"reference": NO_REFERENCE, "prompt": NO_PROMPT}


class CustomMetricError(Exception):
    """The metric can't be run at all; `trace` is the traceback for the log."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


def load_metric(path: Path) -> tuple[str, Any]:
    """Return ("score" or "scores", the function) or ("module", the class) from the file. Raises
    CustomMetricError.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise CustomMetricError(
            f"{path} can't be read ({error.strerror}); add the file of the metric."
        ) from error
    module = types.ModuleType(f"own_metric_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(source, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        where = f"line {error.lineno}" if error.lineno else "the file"
        raise CustomMetricError(
            f"{path.name} is not valid Python: {where}: {error.msg}.", format_traceback()
        ) from error
    except BaseException as error:
        raise CustomMetricError(
            f"{path.name} can't be run: {format_error(error)}", format_traceback()
        ) from error
    for name in ("score", "scores"):
        if callable(module.__dict__.get(name)):
            return name, module.__dict__[name]
    modules = [
        member
        for member in module.__dict__.values()
        if isinstance(member, type)
        and any(base.__name__ == "EvaluationModule" for base in member.__mro__[1:])
        and member.__module__ == module.__name__
    ]
    if modules:
        return "module", modules[0]
    raise CustomMetricError(f"{path.name} has no function score or scores, and no evaluate.Metric.")


def compute_scores(metric: tuple[str, Any], asked: MetricInput, options: dict[str, object]) -> MetricScores:
    """Score the rows with the metric, as returned by `load_metric`. Raises CustomMetricError."""
    kind, what = metric
    if kind == "score":
        return score_by_row(what, asked)
    if kind == "scores":
        return score_all_rows(what, asked.rows)
    if kind == "module":
        try:
            what = what(keep_in_memory=True, cache_dir=str(asked.home.cache / "evaluate"))
        except BaseException as error:
            raise CustomMetricError(
                f"{what.__name__} can't be created: {format_error(error)}", format_traceback()
            ) from error
    return score_by_module(what, asked, options)


def format_error(error: BaseException) -> str:
    """Format an error in one line: its type and message."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:MAX_ERROR_LENGTH] if text else type(error).__name__


def format_traceback() -> str:
    """Format the traceback of the exception being handled."""
    return traceback.format_exc()


def score_by_row(score: Callable[..., Any], asked: MetricInput) -> MetricScores:
    """Call the function once per row."""
    answers = asked.rows
    taken, needed = _inspect_arguments(score, ROW)
    columns = {"prediction": answers.predictions, "reference": answers.references, "prompt": answers.prompts}
    given = MetricScores.nothing(len(answers))
    for place in range(len(answers)):
        asked.check()
        entries = {name: _get_entry(columns[name], place) for name in taken}
        lacking = [name for name in needed if entries[name] is None]
        if lacking:
            given.reasons[place] = _REASONS.get(lacking[0], "no answer was generated")
            continue
        try:
            given.scores[place] = parse_number(score(**entries))
        except BaseException as error:  # noqa: BLE001 (the user's code: it ends this row alone)
            given.reasons[place] = format_error(error)
            given.traceback = given.traceback or format_traceback()
    return given


def _get_entry(column: Sequence[Any] | None, place: int) -> Any:
    return None if column is None else column[place]


def parse_number(value: Any) -> float:
    """Convert the value to a float. Raises TypeError if it is not a number, ValueError if it isn't finite."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value.item()
    if not isinstance(value, (numbers.Real, np.bool_)):
        raise TypeError(f"it gave {value!r:.80} ({type(value).__name__}), not a number")
    if not math.isfinite(value):
        raise ValueError(f"it gave {float(value)}")
    return float(value)


def score_all_rows(scores: Callable[..., Any], answers: Answers) -> MetricScores:
    """Call the function once for all rows that have the required columns."""
    taken, needed = _inspect_arguments(scores, ROWS)
    columns = {
        "predictions": answers.predictions,
        "references": answers.references,
        "prompts": answers.prompts,
    }
    given = MetricScores.nothing(len(answers))
    for place in range(len(answers)):
        lacking = [name for name in needed if _get_entry(columns[name], place) is None]
        if lacking:
            given.reasons[place] = _REASONS.get(lacking[0][:-1], "no answer was generated")
    kept = [place for place in range(len(answers)) if place not in given.reasons]
    if not kept:
        return given
    try:
        values = list(
            scores(**{name: [_get_entry(columns[name], place) for place in kept] for name in taken})
        )
    except BaseException as error:
        raise CustomMetricError(format_error(error), format_traceback()) from error
    _assign_scores(given, kept, values)
    return given


def _assign_scores(given: MetricScores, kept: Sequence[int], values: Sequence[Any]) -> None:
    if len(values) != len(kept):
        raise CustomMetricError(f"It returned {len(values):,} values for {len(kept):,} rows.")
    for place, value in zip(kept, values, strict=True):
        try:
            given.scores[place] = parse_number(value)
        except (TypeError, ValueError) as error:
            given.reasons[place] = format_error(error)


def _inspect_arguments(
    function: Callable[..., Any], argument_names: tuple[str, ...]
) -> tuple[list[str], list[str]]:
    """Return which of the known arguments the function takes, and which of those it requires."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise CustomMetricError(f"The parameters of {function!r} can't be determined.") from error
    plain = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for parameter in plain:
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.POSITIONAL_ONLY or (required and parameter.name not in argument_names):
            raise CustomMetricError(
                f"It has the parameter {parameter.name!r}; a metric is passed {', '.join(argument_names)}."
            )
    taken = [p.name for p in plain if p.name in argument_names]
    return taken, [p.name for p in plain if p.name in argument_names and p.default is p.empty]


def score_by_module(module: Any, asked: MetricInput, options: dict[str, object]) -> MetricScores:
    """Score with an instance of an `evaluate` module.

    A list with a number for each row gives row scores; a single number is a figure of the whole set, with a
    jackknife interval. Raises CustomMetricError.
    """
    answers = asked.rows
    predictions, references = answers.predictions or [], answers.references or []
    kept = [i for i in range(len(answers)) if not references or references[i] is not None]

    def ask(places: Sequence[int]) -> dict[str, Any]:
        rows = [kept[place] for place in places]
        asked.check()
        columns: dict[str, Any] = {"predictions": [predictions[i] for i in rows]}
        if references:
            columns["references"] = [references[i] for i in rows]
        try:
            computed = module.compute(**columns, **options)
        except BaseException as error:
            raise CustomMetricError(format_error(error), format_traceback()) from error
        if not isinstance(computed, dict) or not computed:
            raise CustomMetricError(f"Its compute() returned {computed!r:.80}, not a dictionary of numbers.")
        return computed

    given = MetricScores.nothing(len(answers))
    given.reasons = {i: NO_REFERENCE for i in range(len(answers)) if i not in set(kept)}
    if not kept:
        return given
    results = ask(range(len(kept)))
    own = _choose_result(results, len(kept))
    if own not in results:
        raise CustomMetricError(f"Its compute() returned {', '.join(map(str, results))}, but no number.")
    if isinstance(results[own], (list, tuple, np.ndarray)):
        _assign_scores(given, kept, list(results[own]))
        return given
    groups = None if answers.groups is None else [answers.groups[i] for i in kept]
    given.estimator = "whole"
    given.whole = _compute_whole_figure(
        lambda places: ask(places)[own], own, len(kept), groups, asked.confidence
    )
    return given


def _compute_whole_figure(
    ask: Callable[[Sequence[int]], Any],
    result: str,
    rows: int,
    groups: Sequence[Any] | None,
    confidence: float,
) -> WholeFigure:
    """Return the result as a figure of the whole set, with its interval. ask: computes it for some of the
    `rows` indices. Raises CustomMetricError.
    """
    # lazy: importing scipy takes longer than most metrics
    from engine.evaluation.statistics.estimators import jackknife_interval

    def figure(places: Any) -> float:
        try:
            return parse_number(ask(places.tolist()))
        except (TypeError, ValueError) as error:
            raise CustomMetricError(f"Of {result}: {error}.") from error

    interval = jackknife_interval(figure, rows, groups, confidence=confidence)
    return {**as_json(interval.to_estimate()), "details": {"result": result}}


def _choose_result(results: dict[str, Any], rows: int) -> str:
    """Choose among a module's results: `scores`, the first number, or the first list with a number for each
    row.
    """
    if "scores" in results:
        return "scores"
    numbers_first = [key for key, value in results.items() if isinstance(value, numbers.Real)]
    lists = [key for key, value in results.items() if np.ndim(value) == 1 and len(value) == rows]
    return next(iter(numbers_first + lists), "")
