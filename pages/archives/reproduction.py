"""A run from a bundle: where it comes from, and which of its figures came back."""

from __future__ import annotations

import streamlit as st

from pages.shared import cached_queries
from pages.shared.session import escape_markdown
from store.archives import text as archive_text
from store.archives.schemas import (
    LOSS_TOLERANCE,
    OpenedBundle,
    OriginalComparison,
    ReproducedFigure,
    Reproduction,
)
from store.core import formatting
from store.core.documents import parse_document
from store.core.errors import NotFoundError
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.runs.schemas import Run

REPRODUCTION_RESULTS = {
    "same": "the same",
    "within": "within",
    "outside": "**outside**",
    "cant_tell": "can't be told",
}


def draw_reproduction(run: Run) -> None:
    """From which bundle a run was launched, and whether its figures came back."""
    source = run.facts.get("reproduces")
    if source is None:
        return
    st.markdown(
        f"Launched from the bundle **{escape_markdown(source['bundle'])}** of the run"
        f" {escape_markdown(source['run_name'])}"
        f" :gray[({escape_markdown(source['run_id'])})]"
    )
    _draw_origin(source["opened_by"])
    try:
        job = cached_queries.read_job(source["compared_by"])
    except NotFoundError:
        return
    if job.status == "finished":
        result = parse_document(Reproduction, job.result)  # of a finished job of this kind
        _draw_figures(result)
        if beside := result.beside:
            _draw_reproduction_comparison(beside)
    elif run.status in ALIVE:
        st.caption("Its figures are held against the bundle's once it has ended.")


def _draw_origin(job_id: str) -> None:
    """The bundle's fingerprint, and whether it is the run of this home that it says."""
    try:
        opened = parse_document(OpenedBundle, cached_queries.read_job(job_id).result)  # it has finished
    except NotFoundError:
        return
    original = opened.original
    if original and original.differences:
        st.error(escape_markdown(archive_text.describe_origin(opened)), icon=":material/gpp_bad:")
        st.dataframe(
            [
                {"Field": row.field, "In the bundle": row.bundle, "In this home": row.here}
                for row in original.differences
            ],
            hide_index=True,
            key="bundle-differences",
            alt="Fields of the bundle that differ from the run of this home",
        )
    elif words := archive_text.describe_origin(opened):
        st.caption(escape_markdown(words))
    if words := archive_text.format_fingerprint(opened):
        st.caption(escape_markdown(words))


def _draw_reproduction_comparison(beside: OriginalComparison) -> None:
    """What is the same as in the original run, and what differs."""
    differs = any(line.same is False for line in beside.lines)
    with st.expander(escape_markdown(beside.sentence), icon=":material/difference:", expanded=differs):
        rows = [
            "| " + " | ".join(escape_markdown(cell) or "–" for cell in cells) + " |"
            for line in sorted(beside.lines, key=lambda line: line.same is not False)
            for cells in [[line.what, line.first, line.second, archive_text.SAME[line.same], line.detail]]
        ]
        head = "| What | Original run | This run | Same | How far |\n|---|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            f"Losses of a step are the same up to {LOSS_TOLERANCE:g} nats a token; figures where they surely"
            " differ by less than would matter."
        )


def _draw_figures(result: Reproduction) -> None:
    with st.expander(result.sentence, icon=":material/compare:", expanded=bool(result.outside)):
        rows = [
            f"| {escape_markdown(_format_title(figure))} | {_format_estimate(figure.first)} |"
            f" {_format_estimate(figure.second)} |"
            f" {REPRODUCTION_RESULTS[figure.came]} |"
            for figure in sorted(result.figures, key=lambda figure: figure.came != "outside")
        ]
        head = "| Figure | First run | This run | Came back |\n|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            "The same: to the last digit. Within: it surely differs by less than would matter. Outside:"
            " surely by more. Where the rows say neither, it can't be told."
        )
        for difference in result.differences:
            st.caption(
                escape_markdown(f"Differs: {difference.what} was {difference.first}, here {difference.here}.")
            )


def _format_title(figure: ReproducedFigure) -> str:
    return f"{figure.title[:1].upper()}{figure.title[1:]}, {figure.unit}"


def _format_estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else formatting.format_estimate(estimate)
