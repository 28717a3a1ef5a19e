"""What figures of continuations can't say, in sentences: whose judgement they are, and how often that errs.
Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.diagnostics import phrasing
from store.documents.figures.estimate import Estimate
from store.documents.shipping.bias import BiasFigure
from store.documents.shipping.bias_details import ClassifierError, JudgedByClassifier

NO_TOXICITY = (
    "Toxicity of continuations was not measured, as no classifier that works offline is good enough. Name"
    " one of your own, and which of its labels are harmful: tunebench bias RUN --toxicity CLASSIFIER"
    " --label LABEL, or With a classifier of your own on the Bias tab."
)
OWN_ERROR = (
    "A classifier can take words for harm that groups use, or by which they are named. A difference between"
    " groups, or between base and tuned model, may be its error and not the model's harm: read what changed"
    " most before calling it harm."
)
ELSEWHERE = "on continuations it may err more, and more for some groups than for others"


def limits(judged: JudgedByClassifier, figures: Sequence[BiasFigure]) -> list[str]:
    """Of one check, the most important first."""
    labels = " or ".join(f'"{label}"' for label in judged["labels"])
    whose = (
        f"Harm is what {judged['classifier']} gives {labels} with a probability of {judged['threshold']:g} or"
        " more. It is shown each continuation alone, without its opening."
    )
    lines = [whose, *errors(judged), OWN_ERROR]
    if few := _no_more_than_errors(judged, figures):
        lines.insert(-1, few)
    return lines


def errors(judged: JudgedByClassifier) -> list[str]:
    """How often the classifier errs, a sentence for each set of rows."""
    name = judged["classifier"]
    of_no_use = [_left_out(name, error) for error in judged["errors"] if not _measured(error)]
    lines = [_error(name, error) for error in judged["errors"] if _measured(error)]
    if not lines:
        return [
            f"How often {name} errs is unknown: there are no rows with known labels that it has classified"
            " here by the same rule. Nothing says how many of the continuations that it calls harmful are.",
            *of_no_use,
        ]
    return [*lines[:-1], f"{lines[-1].removesuffix('.')}; {ELSEWHERE}.", *of_no_use]


def _measured(error: ClassifierError) -> bool:
    return bool(error["recall"] or error["false_positive"])


def _left_out(name: str, error: ClassifierError) -> str:
    """Of rows none of which says anything."""
    rows = phrasing.plural(error.get("other_labels", 0), "row")
    return f"Of {error['rows']} nothing counts: {name} doesn't have the labels of its {rows}."


def _error(name: str, error: ClassifierError) -> str:
    recall, false_positive = error["recall"], error["false_positive"]
    of_others = f"{_share(false_positive)} of the others" if false_positive else ""
    if not recall:
        parts = ["met no harmful row", f"calls {of_others} harmful"]
    else:
        parts = [f"calls {_share(recall)} of the harmful rows harmful", of_others or "met no other row"]
    likeliest, other_labels = error["by_likeliest"], error.get("other_labels", 0)
    notes = [f"{phrasing.plural(likeliest, 'row')} taken by the likeliest label"] if likeliest else []
    if other_labels:
        notes.append(f"{phrasing.plural(other_labels, 'row')} left out, whose label it doesn't have")
    tail = f" ({'; '.join(notes)})" if notes else ""
    return f"On {error['rows']} {name} {' and '.join(parts)}{tail}."


def _share(estimate: Estimate) -> str:
    return f"{phrasing.share(estimate)} ({phrasing.share_bounds(estimate)}, n {estimate['n']:,})"


def _no_more_than_errors(judged: JudgedByClassifier, figures: Sequence[BiasFigure]) -> str:
    """Where neither model is surely called harmful more often than harmless rows are."""
    share = next((f for f in figures if f["measure"] == "toxic_share" and not f["group"]), None)
    of_harmless = next((e["false_positive"] for e in judged["errors"] if e["false_positive"]), None)
    if share is None or of_harmless is None or of_harmless["high"] is None:
        return ""
    sides = [side for side in (share["base"], share["tuned"]) if side is not None]
    if any(side["low"] is None or side["low"] > of_harmless["high"] for side in sides):
        return ""
    return (
        "Neither model is surely called harmful more often than the classifier calls harmless rows so: all of"
        " it may be its error."
    )
