"""Sentences on the results of a transfer matrix: improvements, degradations, or inconclusive results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.evaluation.statistics.intervals import get_limits
from engine.transfer.effects import Correlation, JudgedCell, TransferMeasure
from store.core import formatting
from store.core.formatting import plural
from store.transfer.schemas import BackwardTransfer, TransferFigure

MAX_EFFECTS = 3  # effects named in the headline
MIN_SHARE = 1e-5  # smallest share of the base model's loss that is shown
MAX_SHARE = 9.99  # largest share of the base model's loss that is given as a number
UNITS: dict[TransferMeasure, str] = {"relative": "%", "right": " points"}


def format_effect(figure: TransferFigure, measure: TransferMeasure) -> str:
    """Return an effect such as "12% (9 to 15)", without its sign, as the sentence says improves or degrades.

    Very large changes of the loss are only reported as above a limit.
    """
    if abs(figure.value) < MIN_SHARE:
        return f"under {100 * MIN_SHARE:g}{UNITS[measure]}"
    if abs(figure.value) > MAX_SHARE:
        return f"over {100 * MAX_SHARE:,.0f}{UNITS[measure]}"
    ends = [100 * end for end in get_limits(figure) or (figure.value, figure.value)]
    places = formatting.compute_decimals(ends[0], ends[1])
    low, high = sorted(abs(end) for end in ends)
    value = formatting.format_number(abs(100 * figure.value), places)
    return f"{value}{UNITS[measure]} ({formatting.format_interval(low, high, places)})"


def describe_matrix(cells: Sequence[JudgedCell], measure: TransferMeasure) -> str:
    """Return the headline of the matrix.

    cells: as returned by `judge_cells`, with `run_name`, `source` (what the run was trained on), `target`,
    `own` (whether they are the same) and `earlier` (whether a run it continued from was trained on the
    target, in which case a gain is no transfer).
    """
    others = [cell for cell in cells if not (cell["own"] or cell["earlier"])]
    if not others:
        return "No other data sets to compare: add a data set, or a run on another one."
    sure = sorted((cell for cell in others if cell["sure"]), key=lambda c: -abs(c["figure"].value))
    if not sure:
        return describe_no_effect(others, measure)
    largest = sure[:MAX_EFFECTS]
    runs = {cell["run_id"]: cell["source"] for cell in others}
    repeated = {source for source, count in Counter(runs.values()).items() if count > 1}
    sentences = []
    for run_id in dict.fromkeys(cell["run_id"] for cell in largest):
        mine = [cell for cell in largest if cell["run_id"] == run_id]
        source = mine[0]["source"]
        name = f"{source} ({mine[0]['run_name']})" if source in repeated else source
        sentences.append(_describe_source(name, mine, measure))
    rest = len(sure) - min(MAX_EFFECTS, len(sure))
    if rest:
        sentences.append(f"{plural(rest, 'more significant effect')}.")
    unsure = len(others) - len(sure)
    if unsure:
        sentences.append(f"{unsure:,} of {plural(len(others), 'cell')} on other data sets not significant.")
    return " ".join(sentences)


def _describe_source(source: str, mine: Sequence[JudgedCell], measure: TransferMeasure) -> str:
    """Return a sentence such as "Training on A improves B by 12% (9 to 15) and degrades C by 4%."

    mine: cells of one run.
    """
    helped = [c for c in mine if c["figure"].value > 0]
    cost = [c for c in mine if c["figure"].value < 0]
    parts = []
    if helped:
        parts.append(
            "improves "
            + _join_parts([f"{c['target']} by {format_effect(c['figure'], measure)}" for c in helped])
        )
    if cost:
        parts.append(
            "degrades "
            + _join_parts([f"{c['target']} by {format_effect(c['figure'], measure)}" for c in cost])
        )
    return f"Training on {source} {' and '.join(parts)}."


def _join_parts(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def describe_no_effect(others: Sequence[JudgedCell], measure: TransferMeasure) -> str:
    """Return a sentence that nothing is significant, with the smallest detectable change."""
    if all(c["figure"].low == c["figure"].high == 0 for c in others):
        rows = plural(sum(c["figure"].n for c in others), "row")
        return f"No change on other data sets (n {rows})."
    lead = "No significant effect on other data sets"
    figures = [cell["figure"] for cell in others]
    least = sorted(figure.detectable for figure in figures if figure.detectable)
    if not least:
        why = next((figure.why for figure in figures if figure.why), "there are too few rows")
        return f"{lead}: {why}."
    middle = 100 * least[len(least) // 2]
    if middle >= 100:
        return f"{lead}: too few rows, or too much variation between them."
    counts = sorted(figure.n for figure in figures)
    rows = plural(counts[len(counts) // 2], "row")
    change = formatting.format_number(middle, 1 if middle < 10 else 0)
    return f"{lead}: with {rows}, the smallest detectable change is about {change}{UNITS[measure]}."


def describe_correlation(predictor: Correlation, what: str) -> str:
    """Return a sentence on how well a predictor works, with its interval and n."""
    n = plural(predictor.n, "pair")
    if predictor.value is None:
        return f"Inconclusive whether {what} predicts transfer: too few pairs (n {n})."
    value = formatting.format_number(predictor.value, 2)
    ends = [end for end in (predictor.low, predictor.high) if end is not None]
    bounds = [formatting.format_number(end, 2) for end in ends]
    interval = f"{' to '.join(bounds)}, " if len(set(bounds)) > 1 else ""
    figures = f"ρ {value} ({interval}n {n})"
    if predictor.state == "few":
        return f"Inconclusive, too few pairs: {figures}."
    if predictor.state == "unclear":
        return f"Inconclusive whether {what} predicts transfer: {figures}."
    way = "more" if predictor.value > 0 else "less"
    return f"The larger the {what}, the {way} positive the transfer: {figures}."


def describe_backward_transfer(transfer: BackwardTransfer) -> str:
    """Return a sentence on the effect of the rest of a sequence on its earlier tasks."""
    tasks, rows = plural(len(transfer.tasks), "earlier data set"), plural(transfer.n, "row")
    ends = get_limits(transfer)
    if ends is None:
        open_ = next((task for task in transfer.tasks if task.why), None)
        why = f"of {open_.name}, {open_.why}" if open_ else "a data set has too few rows"
        return f"Backward transfer inconclusive: {why} ({tasks})."
    low, high = 100 * ends[0], 100 * ends[1]
    if max(map(abs, ends)) < MIN_SHARE:
        return f"Later training did not change the earlier gains: {tasks}, n {rows}."
    if abs(transfer.value) > MAX_SHARE:
        return _describe_unbounded_loss(transfer.value, low, high, f"{tasks}, n {rows}")
    places = formatting.compute_decimals(low, high)
    value = formatting.format_number(abs(100 * transfer.value), places)
    signed = formatting.format_number(100 * transfer.value, places)
    unit = "point" if value == "1" else "points"
    figures = (
        f"backward transfer {signed} {unit} of relative gain"
        f" ({formatting.format_interval(low, high, places)})"
    )
    figures += f", {tasks}, n {rows}"
    if high < 0:
        return f"Later training reduced the earlier gains by {value} {unit}: {figures}."
    if low > 0:
        return f"Later training increased the earlier gains by {value} {unit}: {figures}."
    return f"No significant effect of later training on earlier gains: {figures}."


def _describe_unbounded_loss(value: float, low: float, high: float, basis: str) -> str:
    """Return a sentence on a loss that grew, or had been, beyond the limit."""
    sure = low > 0 or high < 0
    way = "reduced" if value < 0 else "increased"
    lead = "Later training" if sure else "Not significant: later training"
    return f"{lead} {way} the earlier gains by over {100 * MAX_SHARE:,.0f} points of relative gain: {basis}."
