"""Numbers of several runs side by side, and the settings in which they differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages.comparison.differences import (
    build_run_labels,
    compare_with_best,
    group_by_settings,
    list_runs_with_gain,
)
from pages.shared import display
from pages.shared.run_results import format_percent
from pages.shared.session import escape_markdown
from store.core.config import drop_false_code_field
from store.core.figure_schemas import Estimate
from store.evaluation.schemas import ClassFigures
from store.evaluation.verdict_schemas import Verdict
from store.runs.schemas import Run

QUESTION, SHAPE = "From the question ↑ (95% interval)", "Shape of the answers (95% interval)"
CLASS_COLUMNS = ("Accuracy ↑ (95% interval)", "Macro F1 ↑ (95% interval)")
DESCRIPTIVE_FIELDS = frozenset({"name", "notes", "parent"})  # always different


def draw_numbers(runs: Sequence[Run]) -> None:
    """Draw one line per run: gain with interval and n, held-out figures, cost.

    The best run is marked only if it is significantly best.
    """
    st.subheader("Numbers", anchor=False)
    winners = find_significantly_best(runs)
    names = build_run_labels(runs)
    rows = [_build_row(run, names[run.run_id], run.run_id in winners) for run in runs]
    if not any(run.verdict and run.verdict.classification for run in runs):
        rows = [_blank_columns(row, CLASS_COLUMNS) for row in rows]
    if not any(run.verdict and run.verdict.parts for run in runs):
        rows = [_blank_columns(row, (QUESTION, SHAPE)) for row in rows]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={"Run": st.column_config.TextColumn(pinned=True)},
        key="compare-numbers",
        alt="Numbers of each run",
    )
    if reasons := display.describe_missing_intervals(_iterate_macro_f1(runs, names)):
        st.caption(escape_markdown(reasons))
    if not winners and sum(bool(run.verdict) for run in runs) > 1:
        leading = find_leading_runs(runs)
        why = "the leading runs can't be distinguished"
        if leading:
            unsure = next(run for run in leading if _is_unsure(run))
            shape = unsure.verdict and unsure.verdict.state == "shape"
            why = f"{escape_markdown(names[unsure.run_id])} leads"
            why += (
                " by the shape of its answers alone"
                if shape
                else ", but not significantly by what the prompt asks"
            )
        st.caption(f"No run is marked as the best: {why}.")


def _iterate_macro_f1(runs: Sequence[Run], names: Mapping[str, str]) -> Iterator[tuple[str, Estimate]]:
    """Yield the macro F1 of each run that has one, titled with the run's name."""
    for run in runs:
        classes = run.verdict.classification if run.verdict else None
        if classes:
            yield f"Macro F1 of {names[run.run_id]}", classes.models.tuned.f1_macro


def _blank_columns(row: dict[str, str], columns: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name not in columns}


def find_significantly_best(runs: Sequence[Run]) -> set[str]:
    """Return the run that is significantly better than all others, or all runs of the best setting.

    Empty unless each of them demonstrably learned more than the shape of the answers.
    """
    leading = find_leading_runs(runs)
    if any(map(_is_unsure, leading)):
        return set()
    return {run.run_id for run in leading}


def _is_unsure(run: Run) -> bool:
    """Whether the run's gain is not shown to come from the question."""
    return bool(run.verdict and run.verdict.state in ("better", "shape"))


def find_leading_runs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of the setting whose loss is significantly lower than that of all others, or none."""
    judged = list_runs_with_gain(runs)
    comparisons = compare_with_best(judged)
    if not comparisons or not all(d.interval is not None and d.interval.above for d in comparisons):
        return []
    return group_by_settings(judged)[0]


def _build_row(run: Run, name: str, best: bool) -> dict[str, str]:
    verdict, memory = run.verdict, run.facts.get("peak_memory_gib")
    gain, tuned = verdict.gain if verdict else None, verdict.tuned if verdict else None
    accuracy = tuned.token_accuracy if tuned else None
    classification = verdict.classification if verdict else None
    trained = run.facts.get("trainable_parameters")
    return {
        "Run": f"{name} ★ best" if best else name,
        "Gain ↑ (95% interval)": display.format_estimate(gain),
        "n": str(gain.n) if gain else "–",
        **format_gain_parts(verdict),
        "Held-out loss ↓": display.format_transition(verdict.base.loss, verdict.tuned.loss)
        if verdict
        else "–",
        "Perplexity ↓": display.format_number(tuned.perplexity if tuned else None, 2),
        "Token accuracy ↑": "–" if accuracy is None else f"{accuracy:.1%}",
        **format_classification(classification.models.tuned if classification else None),
        "Best validation loss ↓": display.format_number(run.best_eval_loss),
        "at step": "–" if run.best_step is None else f"{run.best_step:,}",
        "Duration": display.format_elapsed(run.started_at, run.ended_at),
        "Trained parameters": "–" if trained is None else display.format_parameters(trained),
        "Peak memory ↓": "–" if memory is None else display.format_gib(memory),
        "Status": display.STATUSES[run.status].title,
    }


def format_gain_parts(verdict: Verdict | None) -> dict[str, str]:
    """Format the columns of both parts of the gain, each with its number of rows."""
    parts = verdict.parts if verdict else None
    if not parts:
        why = "not measured" if verdict and verdict.gain else "–"
        return {QUESTION: why, SHAPE: why}
    by_column = {QUESTION: parts.question, SHAPE: parts.shape}
    return {name: f"{display.format_estimate(part)}, n {part.n:,}" for name, part in by_column.items()}


def format_classification(figures: ClassFigures | None) -> dict[str, str]:
    """Format the columns of a classifier, with a head or in words."""
    accuracy, macro = (figures.accuracy, figures.f1_macro) if figures else (None, None)
    texts = format_percent(accuracy), display.format_estimate(macro, sign=False, reason=False)
    return dict(zip(CLASS_COLUMNS, texts, strict=True))


def draw_settings(runs: Sequence[Run]) -> None:
    """Draw a line per setting and a column per run; by default only settings that differ."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        several = len(runs) > 1
        st.subheader("Settings that differ" if several else "Settings", anchor=False, width="content")
        everything = st.toggle("Show all settings", key="compare-all-settings") if several else True
    table = build_settings_rows(runs, everything=everything)
    if not table:
        st.caption("These runs have the same settings, data and model.")
        return
    st.dataframe(pd.DataFrame(table), hide_index=True, key="compare-settings", alt="Settings of each run")


def build_settings_rows(runs: Sequence[Run], *, everything: bool = False) -> list[dict[str, str]]:
    """Build rows of {"Setting", run: value}; for a single run with all settings.

    If a run is named "Setting", its number is appended to its column's name.
    """
    run_labels = build_run_labels(runs)
    names = [run_labels[r.run_id] for r in runs]
    names = [
        f"{name} #{r.number}" if name == "Setting" else name for name, r in zip(names, runs, strict=True)
    ]
    documents = [
        {**drop_false_code_field(run.config), "data fingerprint": run.data_fingerprint} for run in runs
    ]
    for document, run in zip(documents, runs, strict=True):
        if alpha := run.facts.get("alpha"):
            document["interpolated at α"] = alpha
    fields = list(dict.fromkeys(field for document in documents for field in document))
    table = []
    for field in fields:
        values = [_format_setting(document.get(field)) for document in documents]
        if everything or len(runs) == 1 or (field not in DESCRIPTIVE_FIELDS and len(set(values)) > 1):
            table.append({"Setting": field} | dict(zip(names, values, strict=True)))
    return table


def _format_setting(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return display.format_compact(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
