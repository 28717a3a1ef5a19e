"""Sentences of bias checks: the overall result, and the limitations of a harm classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

from store.bias.schemas import ClassifierError, ClassifierJudgement
from store.core import formatting
from store.core.figure_schemas import BiasAnswer, BiasFigure, Estimate, get_measure_title
from store.core.formatting import plural

ONLY_ALONE = "above 0 on its own, but not significant after correction over all metrics of this check"
ONLY_BELOW = "below 0 on its own, but not significant after correction over all metrics of this check"
TOO_FEW = "the confidence interval is too wide; more items needed"


class ComparedModels(NamedTuple):
    """Two models or evaluations; neither need be a fine-tuned version of the other."""

    model: str
    against: str


def describe_result(figures: Sequence[BiasFigure], held: ComparedModels | None = None) -> str:
    """Describe the overall result of a check."""
    count = {answer: sum(figure.answer == answer for figure in figures) for answer in get_args(BiasAnswer)}
    if not figures:
        return "Nothing was measured."
    if all(figure.change is None for figure in figures):
        return _describe_one_model(figures)
    open_part = f"{plural(count['cant_tell'], 'metric')} inconclusive"
    if count["worse"]:
        worst = ", ".join(
            dict.fromkeys(_format_figure_name(figure) for figure in figures if figure.answer == "worse")
        )
        more = f"; {open_part}" if count["cant_tell"] else ""
        number = f"{plural(count['worse'], 'bias metric')}"
        if held:
            return f"{held.model} is significantly worse than {held.against} in {number}: {worst}{more}."
        return f"Fine-tuning made {number} significantly worse: {worst}{more}."
    if count["cant_tell"] == len(figures):
        changed = "fine-tuning made bias worse"
        if held:
            changed = f"{held.model} is worse in bias than {held.against}"
        return f"Inconclusive whether {changed}: too few items."
    calm = count["no_worse"] + count["better"]
    more = f", {open_part}" if count["cant_tell"] else ""
    stay = "within the limit" if calm == 1 else "within their limits"
    before = f"{held.against}" if held else "the base model"
    where = f" of {held.model}" if held else ""
    within = f"{calm} of {len(figures)} {stay}"
    return f"No bias metric{where} is significantly worse than for {before}: {within}{more}."


def _describe_one_model(figures: Sequence[BiasFigure]) -> str:
    """Describe how many gaps between groups are significant, without a change."""
    surely = [figure for figure in figures if (figure.tuned.low or 0) > 0]
    gaps = f"Significant gaps between groups in {len(surely)} of {plural(len(figures), 'metric')}"
    names = ", ".join(dict.fromkeys(_format_figure_name(figure) for figure in surely))
    return f"{gaps}{f': {names}' if names else ''}. A change can't be determined from one model."


def _format_figure_name(figure: BiasFigure) -> str:
    return get_measure_title(figure.measure, figure.group)


NO_TOXICITY = (
    "Toxicity was not measured, as no offline classifier is reliable enough. Use your own classifier and"
    " its harmful labels: tunebench bias RUN --toxicity CLASSIFIER --label LABEL, or With your own"
    " classifier under Evaluations, Bias on the run page."
)
OWN_ERROR = (
    "Classifiers may mistake names of groups, or words that they use, for harm. Differences between groups"
    " or models may be classifier errors: read the largest changes before drawing conclusions."
)
ELSEWHERE = "error rates on continuations may be higher, and differ between groups"


def list_toxicity_limits(judged: ClassifierJudgement, figures: Sequence[BiasFigure]) -> list[str]:
    """Return the limitations of a classification of harm, most important first."""
    labels = " or ".join(f'"{label}"' for label in judged.labels)
    whose = (
        f"Harmful: {labels} by {judged.classifier} with a probability of {judged.threshold:g} or more. Each"
        " continuation is classified without its prompt."
    )
    lines = [whose, *describe_classifier_errors(judged), OWN_ERROR]
    if few := _describe_within_errors(judged, figures):
        lines.insert(-1, few)
    return lines


def describe_classifier_errors(judged: ClassifierJudgement) -> list[str]:
    """Describe the classifier's error rates, one sentence per set of rows."""
    name = judged.classifier
    of_no_use = [
        f"{error.rows} not used: {name} does not have the labels of its"
        f" {formatting.plural(error.other_labels or 0, 'row')}."
        for error in judged.errors
        if not _is_measured(error)
    ]
    lines = [_describe_error(name, error) for error in judged.errors if _is_measured(error)]
    if not lines:
        return [
            f"Error rate of {name} unknown: no labeled rows were classified here by the same rule. The share"
            " of its harmful classifications that are correct is unknown.",
            *of_no_use,
        ]
    return [*lines[:-1], f"{lines[-1].removesuffix('.')}; {ELSEWHERE}.", *of_no_use]


def _is_measured(error: ClassifierError) -> bool:
    return bool(error.recall or error.false_positive)


def _describe_error(name: str, error: ClassifierError) -> str:
    recall, false_positive = error.recall, error.false_positive
    parts = [
        f"recall {_format_share(recall)} for harmful rows" if recall else "no harmful rows",
        f"false positive rate {_format_share(false_positive)}" if false_positive else "no harmless rows",
    ]
    likeliest, other_labels = error.by_likeliest, (error.other_labels or 0)
    notes = (
        [f"{formatting.plural(likeliest, 'row')} classified by the most likely label"] if likeliest else []
    )
    if other_labels:
        notes.append(f"{formatting.plural(other_labels, 'row')} with unknown labels excluded")
    tail = f" ({'; '.join(notes)})" if notes else ""
    return f"{name} on {error.rows}: {', '.join(parts)}{tail}."


def _format_share(estimate: Estimate) -> str:
    return (
        f"{formatting.format_share(estimate)} ({formatting.format_share_bounds(estimate)}, n {estimate.n:,})"
    )


def _describe_within_errors(judged: ClassifierJudgement, figures: Sequence[BiasFigure]) -> str:
    """Describe that neither harm rate is significantly above the classifier's false positive rate; empty if
    one is.
    """
    share = next((f for f in figures if f.measure == "toxic_share" and not f.group), None)
    of_harmless = next((e.false_positive for e in judged.errors if e.false_positive), None)
    if share is None or of_harmless is None or of_harmless.high is None:
        return ""
    sides = [side for side in (share.base, share.tuned) if side is not None]
    if any(side.low is None or side.low > of_harmless.high for side in sides):
        return ""
    return (
        "Neither harm rate is significantly above the false positive rate of the classifier: all of it may"
        " be classifier error."
    )
