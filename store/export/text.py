"""Descriptions of exports: parity results, quality loss, and the recommended format."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from store.core.export_schemas import ModelExportRow, ModelVerifyResult, ParityStatus
from store.core.figure_schemas import Difference
from store.export.forms import FAMILY_TITLES, FORMS, count_rows_to_pass

STATUS_LABELS = {
    "passed": "Quality loss is within the limits of the format",
    "untold": "Inconclusive: too few rows to determine whether quality loss is within the limits",
    "warned": "Quality loss may be higher than usual for the format",
    "failed": "Quality loss exceeds the limit of the format, or prompts are tokenized differently",
}
VERIFICATION_LABELS: dict[ParityStatus, str] = {
    "passed": "it matches the model",
    "untold": "its files match; inconclusive for its responses, with too few rows",
    "warned": "its files match; quality loss may be higher than usual for the format",
    "failed": "it does not match the model",
}
FIRST = ("gguf-q8_0", "merged", "merged-f32")  # formats to try, in this order


class FormSummary(TypedDict):
    """A format in a list."""

    form: str
    title: str
    family: str
    when: str
    reader: str
    kl_passes: float
    kl_fails: float
    argmax_passes: float
    argmax_fails: float
    why: str


def describe_rows_needed(asked: int) -> str:
    """Describe, before a comparison, what this number of rows can show."""
    needed = count_rows_to_pass()
    if asked >= needed:
        return f"Passing requires {needed} rows, or files that are byte-identical to the model's."
    return (
        f"Passing requires {needed} rows; {asked} are inconclusive unless the files are byte-identical to"
        " the model's. Failures can be detected with fewer."
    )


def describe_verification(result: ModelVerifyResult) -> str:
    """Describe the result of comparing an export with its model again."""
    words, form = VERIFICATION_LABELS[result.parity.status], FORMS[result.form].title
    count = result.parity.prompts
    asked = f"{count:,} rows compared" if count else "files compared; the model was not loaded"
    return f"{form} compared with {result.subject}: {words} ({asked})."


def list_forms() -> list[FormSummary]:
    """Return all formats."""
    return [
        {
            "form": form.name,
            "title": form.title,
            "family": FAMILY_TITLES[form.family],
            "when": form.when,
            "reader": form.reader,
            "kl_passes": form.limits.kl[0],
            "kl_fails": form.limits.kl[1],
            "argmax_passes": form.limits.argmax[0],
            "argmax_fails": form.limits.argmax[1],
            "why": form.limits.why,
        }
        for form in FORMS.values()
    ]


def compute_size_share(row: ModelExportRow) -> float:
    """Return the size relative to the full 16-bit weights."""
    return row.model_bytes / row.source_bytes if row.source_bytes else 0.0


def get_main_figure(row: ModelExportRow) -> Difference | None:
    """Return the most important change: in perplexity on the rows' answers, else in the task's metric."""
    figures = {figure.metric: figure for figure in row.parity.figures}
    for name in ("eval/perplexity", "eval/f1_macro", "eval/accuracy", "eval/chrf"):
        if name in figures:
            return figures[name]
    return row.parity.figures[0] if row.parity.figures else None


def format_metric_name(metric: str) -> str:
    """Format a metric's name for a sentence."""
    return metric.removeprefix("eval/").replace("_", " ")


def describe_export(row: ModelExportRow) -> str:
    """Describe size and quality loss of an export."""
    form, parity = FORMS[row.form], row.parity
    size = f"{form.title}: {100 * compute_size_share(row):.0f}% of the size of the 16-bit weights"
    if form.family == "adapter":
        size = f"{form.title}: {row.model_bytes / 2**20:,.1f} MiB, requires the base model"
    status = STATUS_LABELS[parity.status]
    return f"{size}, {describe_change(row)}. {status} ({parity.prompts:,} rows compared)."


def describe_change(row: ModelExportRow) -> str:
    """Describe the change of the main metric."""
    figure = get_main_figure(row)
    if figure is None or figure.value is None:
        return "responses could not be compared"
    name, low, high = format_metric_name(figure.metric), figure.low, figure.high
    if low is None or high is None:
        return f"change in {name} inconclusive"
    if low <= 0 <= high:
        return f"no significant change in {name}"
    worse = (figure.value > 0) == (figure.better == "lower")
    return f"{name} {'worse' if worse else 'better'} by {abs(figure.value):.2g} ({low:+.2g} to {high:+.2g})"


def is_surely_worse(row: ModelExportRow) -> bool:
    """Return whether the main figure is significantly worse: its whole interval is on the worse side."""
    figure = get_main_figure(row)
    if figure is None or figure.low is None or figure.high is None:
        return False
    return figure.low > 0 if figure.better == "lower" else figure.high < 0


def find_recommended(rows_of: Sequence[ModelExportRow]) -> ModelExportRow | None:
    """Return the smallest full-model export that passed and isn't significantly worse in its main figure."""
    good = [row for row in _list_passed_whole_models(rows_of) if not is_surely_worse(row)]
    return min(good, key=lambda row: row.model_bytes) if good else None


def _list_passed_whole_models(rows_of: Sequence[ModelExportRow]) -> list[ModelExportRow]:
    return [row for row in rows_of if row.status == "passed" and FORMS[row.form].needs_merge]


def find_least_lossy(rows_of: Sequence[ModelExportRow]) -> ModelExportRow | None:
    """Return the inconclusive full-model export with the smallest loss."""
    unsure = [row for row in rows_of if row.status in ("untold", "warned") and FORMS[row.form].needs_merge]
    lost = [(row.parity.mean_kl.value, i) for i, row in enumerate(unsure) if row.parity.mean_kl]
    return unsure[min(lost)[1]] if lost else None


def describe_recommendation(
    rows_of: Sequence[ModelExportRow], possible: Collection[str] = tuple(FORMS)
) -> str:
    """Describe which format to use. possible: formats that this model supports."""
    best, unsure = find_recommended(rows_of), find_least_lossy(rows_of)
    if best is None and unsure:
        return (
            "No full-model export has passed conclusively; compare more rows. Closest: "
            f"{describe_export(unsure)}"
        )
    if best is None:
        return _describe_next_try(rows_of, possible)
    return f"Recommended: {describe_export(best)}"


def _describe_next_try(rows_of: Sequence[ModelExportRow], possible: Collection[str]) -> str:
    merges = any(FORMS[form].needs_merge for form in possible)
    if not merges and any(row.form == "adapter" and row.status == "passed" for row in rows_of):
        return "Recommended: Adapter. It passed, and this method can't be merged into the weights."
    tried = {row.form for row in rows_of}
    untried = [form for form in FIRST if form in possible and form not in tried]
    after = f"Try {FORMS[untried[0]].title} next." if untried else "See the reasons for each failure below."
    if worse := _list_passed_whole_models(rows_of):
        least = min(worse, key=lambda row: row.model_bytes)
        return (
            f"Exports that passed have significantly worse metrics; {FORMS[least.form].title}: "
            f"{describe_change(least)}. {after}"
        )
    return f"No full-model export has passed yet. {after}"
