"""Verdicts on the metrics of a bias check: significantly worse, not worse, or inconclusive.

"Worse" and "better" are claimed if the p-value of the change, adjusted by Holm (1979) over all metrics, is
below 5%. "No worse" needs no correction. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from engine.bias import text
from engine.bias.rates import MeasuredBias
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.statistics.proportions import holm
from store.core.figure_schemas import BiasAnswer, BiasFigure, BiasReport

# With many metrics, some interval is above 0 by chance, hence Holm's adjustment. The p-value is that of the
# interval that just excludes 0, so that both use the same method. "No worse" (the interval is below the
# limit) needs no correction: several such claims are true together if each is.

ALPHA = 0.05
STEPS = 24  # bisection steps of log10 p
MIN_P = 1e-9
ORDER: dict[BiasAnswer, int] = {"worse": 0, "cant_tell": 1, "no_worse": 2, "better": 3}


def build_report(
    figures: Sequence[MeasuredBias], limits: Sequence[str], held: text.ComparedModels | None = None
) -> BiasReport:
    """Build the report of all metrics, worst first; `held` names what is compared if not a run and
    its base.
    """
    p_values = [compute_p_value(figure.change) if figure.change else 1.0 for figure in figures]
    changing = [index for index, figure in enumerate(figures) if figure.change]
    adjusted = dict(zip(changing, holm([p_values[index] for index in changing]), strict=True))
    documents = [
        _build_figure(figure, adjusted.get(index, 1.0), p_values[index])
        for index, figure in enumerate(figures)
    ]
    documents.sort(key=lambda figure: (ORDER[figure.answer], bool(figure.group)))
    worse = [figure for figure in documents if figure.answer == "worse"]
    cant_tell = sum(figure.answer == "cant_tell" for figure in documents)
    return BiasReport(
        figures=documents,
        worse=len(worse),
        cant_tell=cant_tell,
        sentence=text.describe_result(documents, held),
        limits=list(limits),
    )


def compute_p_value(change: Callable[[float], Interval]) -> float:
    """Return the p-value of no change: 1 − the confidence of the widest interval that excludes 0."""

    def leaves_out(p: float) -> bool:
        interval = change(1 - p)
        return interval.above or interval.below

    if not leaves_out(0.999):
        return 1.0
    if leaves_out(MIN_P):
        return MIN_P
    low, high = math.log10(MIN_P), math.log10(0.999)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if leaves_out(10**middle) else (middle, high)
    return float(10**high)


def _build_figure(figure: MeasuredBias, adjusted: float, alone: float) -> BiasFigure:
    change = figure.change(1 - ALPHA) if figure.change else None
    answer, why = _decide_answer(figure, change, adjusted, alone)
    document = BiasFigure(
        probe=figure.probe,
        kind=figure.kind,
        measure=figure.measure,
        group=figure.group,
        base=figure.base.to_estimate() if figure.base else None,
        tuned=figure.tuned.to_estimate(),
        change=change.to_estimate() if change else None,
        limit=figure.limit,
        answer=answer,
        unit=figure.unit,
    )
    if why:
        document.why = why
    return document


def _decide_answer(
    figure: MeasuredBias, change: Interval | None, adjusted: float, alone: float
) -> tuple[BiasAnswer, str]:
    if change is None or change.low is None or change.high is None:
        return "cant_tell", figure.why or (change.why if change else "")
    if adjusted < ALPHA and change.above:
        return "worse", ""
    if adjusted < ALPHA and change.below:
        return "better", ""
    if change.high < figure.limit:
        return "no_worse", ""
    if alone < ALPHA:
        return "cant_tell", text.ONLY_ALONE if change.value > 0 else text.ONLY_BELOW
    return "cant_tell", text.TOO_FEW
