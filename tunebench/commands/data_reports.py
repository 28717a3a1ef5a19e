"""Output of the command line about data quality: metrics, previews of recipes, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from engine.evaluation.verdicts.data_findings import find_findings
from store.core.formatting import plural
from store.core.row_schemas import Fates, SignalFigure, SignalOptions
from store.data.cleaning import FATES
from store.data.schemas import CleanPreview, Dataset, FateExample, SignalRow, Version
from store.data.signals import GROUPS, format_band, format_figure, format_four_digits
from store.training.split import Split
from tunebench.terminal.output import out, print_notice, print_rows

EXAMPLE_WIDTH = 100  # characters shown of an example row


class MeasuredGroup(TypedDict):
    """Measurement of one group of signals."""

    options: SignalOptions
    row_count: int
    reused_count: int
    seconds: float
    figures: dict[str, SignalFigure]


class OutOfBandSignal(TypedDict):
    """A signal outside its healthy band."""

    signal: str
    severity: str
    title: str


class ProfileReport(TypedDict):
    """Measurements by group, and the signals outside their healthy bands."""

    dataset: str
    row_count: int
    groups: dict[str, MeasuredGroup]
    outside: list[OutOfBandSignal]


def build_profile(dataset: Dataset, measured: Mapping[str, SignalRow]) -> ProfileReport:
    """Build the report of a data set's measurements."""
    return {
        "dataset": dataset.name,
        "row_count": dataset.row_count,
        "groups": {
            name: {
                "options": row.options,
                "row_count": row.row_count,
                "reused_count": row.reused_count,
                "seconds": row.seconds,
                "figures": row.figures,
            }
            for name, row in measured.items()
        },
        "outside": [
            {"signal": finding.column, "severity": finding.severity, "title": finding.title}
            for finding in find_findings(dataset.row_count, measured, GROUPS)
        ],
    }


def print_profile(dataset: Dataset, measured: Mapping[str, SignalRow]) -> None:
    """Print a table of signals; those outside their bands are marked and explained at the end."""
    outside = {finding.column: finding for finding in find_findings(dataset.row_count, measured, GROUPS)}
    rows = []
    for name, row in measured.items():
        for signal in GROUPS[name].signals:
            figure = row.figures.get(signal.column)
            if figure is not None:
                mark = "!" if signal.column in outside else ""
                rows.append([mark, signal.title, format_figure(signal, figure), format_band(signal)])
        for key, figure in row.figures.items():
            if key.startswith("set.") and "value" in figure and isinstance(figure["value"], int | float):
                title = key.removeprefix("set.").replace("_", " ")
                rows.append(["", title, format_four_digits(figure["value"]), ""])
    print_rows(["", "signal", "figure", "healthy"], rows)
    for finding in outside.values():
        print_notice(f"! {finding.title}. {GROUPS_OUTSIDE.get(finding.column, '')}".rstrip())
    if not outside:
        print_notice("All signals are in their healthy ranges.")


GROUPS_OUTSIDE = {signal.column: signal.outside for group in GROUPS.values() for signal in group.signals}


def print_fates(fates: Fates) -> None:
    """Print the steps with their counts, and the total of rows by outcome."""
    rows = []
    for number, step in enumerate(fates.steps, 1):
        counts = (step.rows_in, step.changed, step.dropped, step.added, step.rows_out)
        rows.append([f"{number}. {step.title}", *(f"{count:,}" for count in counts)])
    print_rows(["step", "rows in", "changed", "dropped", "added", "rows out"], rows)
    print_notice(", ".join(f"{getattr(fates, fate):,} {fate}" for fate in FATES) + ".")


def print_preview(answer: CleanPreview) -> None:
    """Print the effect of a recipe, with examples."""
    if of := answer.of:
        print_notice(f"Preview on the first {of.rows:,} of {of.total:,} rows; use --all for all rows.")
        for step in answer.unknown or ():
            print_notice(
                f"Not computed yet: effect of step {step['step'] + 1} ({step['title']}) on all rows."
            )
    for problem in answer.problems:
        print_notice(problem["message"])
    for example in answer.examples:
        if example.fate != "kept":
            _print_example(example)
    print_fates(answer.fates)


def _print_example(example: FateExample) -> None:
    step = "" if example.step is None else f"step {example.step + 1}"
    row = "" if example.row_id is None else f"row {example.row_id} "
    out.print(f"{row}{example.fate} by {step} {example.reason}".rstrip(), markup=False, soft_wrap=True)
    texts = [contents["text"] if contents else "" for contents in (example.before, example.after)]
    begin = _find_first_difference(*texts) if all(texts) else 0
    for sign, text in zip("-+", texts, strict=True):
        if text:
            out.print(f"  {sign} {_extract_line(text, begin)}", markup=False, soft_wrap=True)


def _find_first_difference(before: str, after: str) -> int:
    """Return the index of the first difference; 0 if one text is a prefix of the other."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((place for place, (old, new) in pairs if old != new), 0)


def _extract_line(text: str, place: int = 0) -> str:
    """Return one line of the text, around `place` if the text is long."""
    begin = max(0, place - EXAMPLE_WIDTH // 3) if len(text) > EXAMPLE_WIDTH else 0
    text = ("…" if begin else "") + text[begin:]
    text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t").replace("\x1b", "")
    return text if len(text) <= EXAMPLE_WIDTH else text[: EXAMPLE_WIDTH - 1] + "…"


def print_versions(family: Sequence[Version], chosen: str) -> None:
    """Print the tree of versions, each below its parent; a * marks the requested one."""
    rows = [
        [
            "*" if version.dataset_id == chosen else "",
            "  " * version.depth + version.name,
            f"{version.row_count:,}",
            "; ".join(version.titles) or "imported",
            ", ".join(run.name for run in version.runs),
            version.dataset_id,
        ]
        for version in family
    ]
    print_rows(["", "version", "rows", "created by", "runs", "id"], rows, plural(len(family), "version"))


def describe_split(split: Split) -> str:
    """Return, for example, "seed 0, validation 0.1, test 0.1, by group of source.author"."""
    text = "seed {split_seed}, validation {validation_size:g}, test {test_size:g}".format(
        **split.model_dump()
    )
    if split.split_by == "random":
        return text
    if split.split_by == "given":
        return f"{text}, using the splits given in the file"
    return f"{text}, by {split.split_by}" + (f" of {split.split_column}" if split.split_column else "")
