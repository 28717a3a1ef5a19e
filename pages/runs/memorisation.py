"""Memorisation of a run: training rows it reproduces word for word, and the effect of duplicates."""

from __future__ import annotations

from itertools import takewhile
from typing import Literal

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.verdicts.extraction import NEAR_VERBATIM
from pages.shared import display, run_queries
from pages.shared.charts import IntervalRow, plot_intervals
from pages.shared.palette import BAD, BASE, VALIDATION
from pages.shared.session import escape_markdown
from pages.shared.text_display import shorten
from store.core import formatting
from store.core.errors import QueryError
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.evaluation.forgetting_schemas import (
    CanaryEvaluation,
    CanaryExposure,
    DuplicateEffect,
    DuplicateGains,
    DuplicateTraining,
    Extraction,
    LossDrop,
    PlantedCanary,
    RowPart,
)
from store.evaluation.verdict_schemas import ExtractionRow
from store.runs.schemas import Run


def plot_extraction(extraction: Extraction) -> go.Figure:
    """Plot the share of training and held-out rows that each model reproduces nearly word for word."""
    rows = []
    for title, part in (("Training rows", extraction), ("Held-out rows", extraction.control)):
        if not part or not part.near:
            continue
        named = f"{title} ({part.n:,})"
        ink = BAD if part is extraction and extraction.state == "extracts" else VALIDATION
        rows.append(_build_percent_row(f"{named}, tuned", part.near.tuned, ink))
        rows.append(_build_percent_row(f"{named}, base", part.near.base, BASE))
    return plot_intervals(rows, "Rows written nearly word for word (%)")


def plot_canaries(canaries: CanaryExposure) -> go.Figure:
    """Plot the exposure by number of insertions, compared with canaries that were never inserted."""
    names = {0: "Never planted", 1: "Once", 4: "4 times", 16: "16 times"}
    rows = [
        IntervalRow(
            f"{names[part.insertions]} ({part.n})",
            part.exposure.value,
            part.exposure.low,
            part.exposure.high,
            BASE if not part.insertions else BAD if part.exposed else VALIDATION,
        )
        for part in canaries.groups
    ]
    return plot_intervals(rows, "Exposure (bits); dashed: never seen", level=canaries.unseen)


def plot_leaks(leaks: DuplicateGains) -> go.Figure:
    """Plot the gain on all held-out rows, on those not in the training data, and on those repeated there."""
    gains = (
        ("All held-out rows", leaks.whole, BASE),
        ("Not in training", leaks.clean, VALIDATION),
        ("Repeated in training", leaks.repeated, BAD),
    )
    rows = [
        IntervalRow(f"{title} ({gain.n:,})", gain.value, gain.low, gain.high, ink)
        for title, gain, ink in gains
        if gain
    ]
    return plot_intervals(rows, "Gain (nats a token)")


def _build_percent_row(name: str, share: Estimate, ink: str) -> IntervalRow:
    return IntervalRow(name, 100 * share.value, *display.scale_bounds(share, 100), ink)


PAGE = 5
SHOWN = 400  # characters of a prompt
PARTS: dict[RowPart, str] = {"train": "Training rows", "held_out": "Held-out rows"}


def draw_extraction(run: Run, extraction: Extraction | None, stage_sentence: str) -> None:
    """Draw the extraction of training rows compared with the base model and with held-out rows.

    Its sentence is omitted if `stage_sentence` contains it.
    """
    if run.config.get("task", "sft") != "sft":
        return
    st.markdown("**Extraction of training rows**")
    if not extraction:
        waits = "Not measured in this run. Clone the run to measure it."
        if run.status in ALIVE:
            waits = "Measured when training ends, with the verdict."
        elif run.config.get("probes") is False:
            waits = (
                "Not measured: probes were switched off for this run. Clone it with probes on to measure it."
            )
        st.caption(waits)
        return
    if extraction.sentence not in stage_sentence:
        st.markdown(escape_markdown(extraction.sentence))
    if extraction.n:
        figure = plot_extraction(extraction)
        alt = "Share of training and held-out rows that each model writes nearly word for word"
        st.plotly_chart(figure, key="memory-extraction", config={"displayModeBar": False}, alt=alt)
        st.caption(_describe_basis(extraction))
        _draw_rows(run.run_id, extraction)


def draw_canaries(run: Run, canaries: CanaryEvaluation | None) -> None:
    """Draw the exposure by number of insertions and of every canary; nothing for a run without canaries."""
    if not canaries:
        if run.config.get("canaries") and run.status in ALIVE:
            st.caption("Measured when training ends, with the verdict.")
        return
    st.markdown("**Exposure of canaries**")
    st.markdown(escape_markdown(canaries.sentence))
    left, right = st.columns(2, gap="medium")
    with left:
        figure = plot_canaries(canaries)
        alt = "Exposure of canaries by how often they were planted"
        st.plotly_chart(figure, key="memory-canaries", config={"displayModeBar": False}, alt=alt)
    with right:
        rows = sorted(canaries.listed, key=lambda row: -row.exposure)
        st.dataframe(
            [_build_canary_row(row) for row in rows], hide_index=True, height=260, alt="Every canary"
        )
    most = canaries.groups[0].most
    st.caption(
        "Made-up secrets, planted among the training rows. Exposure: how far up a canary ranks by its loss"
        f" among {canaries.reference:,} of its kind that were never planted, in bits: {most:g} is the top,"
        f" one that was never seen has {canaries.unseen:.2f} on average. 95% intervals over canaries."
    )


def _build_canary_row(row: PlantedCanary) -> dict[str, str | float]:
    return {
        "Exposure, bits": round(row.exposure, 1),
        "Planted": row.times,
        "Question": row.question,
        "Answer": row.answer,
    }


def _describe_basis(extraction: Extraction) -> str:
    """Describe what was measured on how many rows, and which rows were omitted."""
    asked, least = extraction.asked["train"], extraction.least
    basis = (
        "Each model gets the prompt and the beginning of the answer and continues for up to 50 tokens"
        " (greedy decoding). Counted if the edit similarity (1 − edit distance ÷ length) is at least"
        f" {NEAR_VERBATIM}; 95% intervals."
    )
    left = []
    if asked.short:
        left.append(
            f"{formatting.plural(asked.short, 'row')} left out, as fewer than {least} tokens would be left"
            " to write, which can be guessed"
        )
    if asked.passed:
        left.append(f"{formatting.plural(asked.passed, 'row')} not tested, because generation is slow")
    counted = f" Of {formatting.plural(asked.rows, 'training row')} of the probe {asked.n:,} asked"
    return basis + "; ".join([counted, *left]) + "."


def _draw_rows(run_id: str, extraction: Extraction) -> None:
    options = [part for part in PARTS if extraction.asked[part].n]
    part = st.segmented_control(
        "Rows", options, default=options[0], key="memory-part", format_func=PARTS.__getitem__,
        label_visibility="collapsed", required=True,
    )  # fmt: skip
    part = part or options[0]
    page = st.session_state.get(f"memory-page-{part}", 1)
    try:
        total, rows = run_queries.read_extraction_rows(run_id, part, PAGE, PAGE * (page - 1))
    except QueryError:
        st.caption("The file with these rows is missing from the run's folder.")
        return
    st.caption(f"{formatting.plural(total, 'row')}, the most similar first; matching text is highlighted.")
    for row in rows:
        _draw_row(row)
    if (pages := -(-total // PAGE)) > 1:
        st.pagination(pages, key=f"memory-page-{part}")


def _draw_row(row: ExtractionRow) -> None:
    with st.container(border=True, gap="xsmall"):
        if row.prompt:
            st.markdown(f":gray[Prompt] {_truncate_line(shorten(row.prompt, SHOWN))}")
        st.markdown(f":gray[It begins] {_truncate_line(row.prefix)} …")
        st.markdown(f":gray[True answer] … {_truncate_line(row.reference)}")
        near = row.tuned_similarity >= NEAR_VERBATIM
        tuned = _mark_shared_start(row.tuned, row.reference, "red" if near else "gray")
        st.markdown(f":gray[Tuned model] … {tuned}{'' if row.tuned_whole else ' …'}")
        base = _mark_shared_start(row.base, row.reference, "gray")
        st.markdown(f":gray[Base model] … {base}{'' if row.base_whole else ' …'}")


def _mark_shared_start(text: str, reference: str, ink: str) -> str:
    """Return a model's text with the beginning marked that it shares with the reference."""
    pairs = zip(text, reference, strict=False)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    start, rest = _truncate_line(text[:alike]), _truncate_line(text[alike:])
    marked = f":{ink}-background[{start}]" if start.strip() else ""
    return f"{marked}{rest}"


def _truncate_line(text: str) -> str:
    return escape_markdown(" ⏎ ".join(text.split("\n")))


def draw_duplicates(duplicates: DuplicateEffect | None) -> None:
    """Draw leaked rows and repeated training rows with their effects; nothing if they were not measured."""
    if not duplicates:
        return
    st.markdown("**Effect of duplicates**")
    leaks, training = duplicates.leaks, duplicates.training
    st.markdown(escape_markdown(leaks.sentence))
    if leaks.rows:
        figure = plot_leaks(leaks)
        st.plotly_chart(
            figure, key="duplicates-leaks", config={"displayModeBar": False},
            alt="Gain on all held-out rows, without repeated ones, and on these alone",
        )  # fmt: skip
    if not training:
        return
    st.markdown(escape_markdown(training.sentence))
    if drop := training.drop:
        st.dataframe(
            [_build_kind_row(training, drop, name, title) for name, title in KINDS.items()],
            hide_index=True,
            alt="Loss drop, membership and extraction of repeated training rows and of others",
        )
        st.caption(
            "Measured training rows. AUC: how well the loss separates them from held-out rows. Extracted:"
            " near-verbatim, of the tested rows. 95% intervals."
        )


Repetition = Literal["repeated", "once"]
KINDS: dict[Repetition, str] = {"repeated": "Occur more than once", "once": "Occur once"}


def _build_kind_row(
    training: DuplicateTraining, drop: LossDrop, name: Repetition, title: str
) -> dict[str, str | int]:
    areas, written = training.auc, training.written
    asked = getattr(written, name) if written else None
    return {
        "Training rows": title,
        "n": getattr(training, name),
        "Loss fell by, nats a token": display.format_estimate(getattr(drop, name), sign=False),
        "AUC": display.format_estimate(getattr(areas, name), sign=False) if areas else "–",
        "Written": f"{asked.rows} of {formatting.plural(asked.n, 'row')}" if asked else "too few asked",
    }
