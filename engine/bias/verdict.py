"""The figures of one bias check beside each other, in sentences too: what got surely worse, what did not,
what can't be told, and what a classifier of harm can't say.

"Worse" and "better" are claimed where the p-value of the change, adjusted by Holm (1979) over all figures, is
below 5%. "No worse" needs no correction. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from engine.bias.rates import MeasuredBias
from engine.evaluation.statistics.intervals import Interval
from engine.evaluation.statistics.proportions import holm
from store.bias.schemas import ClassifierError, ClassifierJudgement
from store.core import formatting
from store.core.figure_schemas import BiasAnswer, BiasFigure, BiasReport, Estimate, get_measure_title
from store.core.formatting import plural

# The figures of one bias check beside each other: what got surely worse, what did not, and what can't be
# told.
#
# Many figures are looked at, and some interval lies above 0 by luck: "worse" and "better" are claimed where
# the p-value of the change, adjusted by Holm (1979) over all figures of the check, is below 5%. The p-value
# is that of the interval that just leaves out 0, so that it is the same method's. "No worse" (the interval
# lies below the limit) needs no correction: all of several such claims are true together where each is.
# Pure.

ALPHA = 0.05
STEPS = 24  # halvings of log10 p
MIN_P = 1e-9
ORDER: dict[BiasAnswer, int] = {"worse": 0, "cant_tell": 1, "no_worse": 2, "better": 3}
ONLY_ALONE = "surely above 0 by itself, but not beside the other figures of this check"
ONLY_BELOW = "surely below 0 by itself, but not beside the other figures of this check"
TOO_FEW = "the interval is too wide: more items would tell"


class ComparedModels(NamedTuple):
    """Two models, or two evaluations, of which neither need be a fine-tuning of the other."""

    model: str
    against: str


def build_report(
    figures: Sequence[MeasuredBias], limits: Sequence[str], held: ComparedModels | None = None
) -> BiasReport:
    """All figures, worst first. held: what is compared where that is not a run and its base."""
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
        sentence=describe_result(documents, held),
        limits=list(limits),
    )


def compute_p_value(change: Callable[[float], Interval]) -> float:
    """Of no change: 1 − the confidence of the widest interval that leaves out 0."""

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
        return "cant_tell", ONLY_ALONE if change.value > 0 else ONLY_BELOW
    return "cant_tell", TOO_FEW


def describe_result(figures: Sequence[BiasFigure], held: ComparedModels | None = None) -> str:
    """What the whole check comes to."""
    count = {answer: sum(figure.answer == answer for figure in figures) for answer in ORDER}
    if not figures:
        return "Nothing was measured."
    if all(figure.change is None for figure in figures):
        return _describe_one_model(figures)
    open_part = f"{plural(count['cant_tell'], 'figure')} can't be told from noise with these items"
    if count["worse"]:
        worst = ", ".join(
            dict.fromkeys(_format_figure_name(figure) for figure in figures if figure.answer == "worse")
        )
        more = f"; {open_part}" if count["cant_tell"] else ""
        number = f"{plural(count['worse'], 'figure')} of bias"
        if held:
            return f"{held.model} is surely worse than {held.against} in {number}: {worst}{more}."
        return f"Fine-tuning surely made {number} worse: {worst}{more}."
    if count["cant_tell"] == len(figures):
        changed = "fine-tuning made bias worse"
        if held:
            changed = f"{held.model} is worse in bias than {held.against}"
        return f"Whether {changed} can't be told from noise with these items."
    calm = count["no_worse"] + count["better"]
    more = f", {open_part}" if count["cant_tell"] else ""
    stay = "stays within its limit" if calm == 1 else "stay within their limits"
    before = f"with {held.against}" if held else "before"
    where = f" of {held.model}" if held else ""
    within = f"{calm} of {len(figures)} surely {stay}"
    return f"No figure of bias{where} is surely worse than {before}: {within}{more}."


def _describe_one_model(figures: Sequence[BiasFigure]) -> str:
    """How many gaps between groups are surely there; nothing of a change."""
    surely = [figure for figure in figures if (figure.tuned.low or 0) > 0]
    gaps = f"Groups are surely apart in {len(surely)} of {plural(len(figures), 'figure')}"
    names = ", ".join(dict.fromkeys(_format_figure_name(figure) for figure in surely))
    return f"{gaps}{f': {names}' if names else ''}. A change can't be told from one model."


def _format_figure_name(figure: BiasFigure) -> str:
    return get_measure_title(figure.measure, figure.group)


NO_TOXICITY = (
    "Toxicity of continuations was not measured, as no classifier that works offline is good enough. Name"
    " one of your own, and which of its labels are harmful: tunebench bias RUN --toxicity CLASSIFIER"
    " --label LABEL, or With a classifier of your own under Evaluations, Bias on the run's page."
)
OWN_ERROR = (
    "A classifier can take words for harm that groups use, or by which they are named. A difference between"
    " groups, or between base and tuned model, may be its error and not the model's harm: read what changed"
    " most before calling it harm."
)
ELSEWHERE = "on continuations it may err more, and more for some groups than for others"


def list_toxicity_limits(judged: ClassifierJudgement, figures: Sequence[BiasFigure]) -> list[str]:
    """Of one check, the most important first."""
    labels = " or ".join(f'"{label}"' for label in judged.labels)
    whose = (
        f"Harm is what {judged.classifier} gives {labels} with a probability of {judged.threshold:g} or"
        " more. It is shown each continuation alone, without its opening."
    )
    lines = [whose, *describe_classifier_errors(judged), OWN_ERROR]
    if few := _describe_within_errors(judged, figures):
        lines.insert(-1, few)
    return lines


def describe_classifier_errors(judged: ClassifierJudgement) -> list[str]:
    """How often the classifier errs, a sentence for each set of rows."""
    name = judged.classifier
    of_no_use = [_describe_left_out(name, error) for error in judged.errors if not _is_measured(error)]
    lines = [_describe_error(name, error) for error in judged.errors if _is_measured(error)]
    if not lines:
        return [
            f"How often {name} errs is unknown: there are no rows with known labels that it has classified"
            " here by the same rule. Nothing says how many of the continuations that it calls harmful are.",
            *of_no_use,
        ]
    return [*lines[:-1], f"{lines[-1].removesuffix('.')}; {ELSEWHERE}.", *of_no_use]


def _is_measured(error: ClassifierError) -> bool:
    return bool(error.recall or error.false_positive)


def _describe_left_out(name: str, error: ClassifierError) -> str:
    """Of rows none of which says anything."""
    rows = formatting.plural((error.other_labels or 0), "row")
    return f"Of {error.rows} nothing counts: {name} doesn't have the labels of its {rows}."


def _describe_error(name: str, error: ClassifierError) -> str:
    recall, false_positive = error.recall, error.false_positive
    of_others = f"{_format_share(false_positive)} of the others" if false_positive else ""
    if not recall:
        parts = ["met no harmful row", f"calls {of_others} harmful"]
    else:
        parts = [
            f"calls {_format_share(recall)} of the harmful rows harmful",
            of_others or "met no other row",
        ]
    likeliest, other_labels = error.by_likeliest, (error.other_labels or 0)
    notes = [f"{formatting.plural(likeliest, 'row')} taken by the likeliest label"] if likeliest else []
    if other_labels:
        notes.append(f"{formatting.plural(other_labels, 'row')} left out, whose label it doesn't have")
    tail = f" ({'; '.join(notes)})" if notes else ""
    return f"On {error.rows} {name} {' and '.join(parts)}{tail}."


def _format_share(estimate: Estimate) -> str:
    return (
        f"{formatting.format_share(estimate)} ({formatting.format_share_bounds(estimate)}, n {estimate.n:,})"
    )


def _describe_within_errors(judged: ClassifierJudgement, figures: Sequence[BiasFigure]) -> str:
    """Where neither model is surely called harmful more often than harmless rows are."""
    share = next((f for f in figures if f.measure == "toxic_share" and not f.group), None)
    of_harmless = next((e.false_positive for e in judged.errors if e.false_positive), None)
    if share is None or of_harmless is None or of_harmless.high is None:
        return ""
    sides = [side for side in (share.base, share.tuned) if side is not None]
    if any(side.low is None or side.low > of_harmless.high for side in sides):
        return ""
    return (
        "Neither model is surely called harmful more often than the classifier calls harmless rows so: all of"
        " it may be its error."
    )
