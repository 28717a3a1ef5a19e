"""A run launched from a bundle: its origin, and which of its figures were reproduced."""

from __future__ import annotations

import streamlit as st

from pages.shared import cached_queries
from pages.shared.session import escape_markdown
from store.archives import text as archive_text
from store.archives.schemas import (
    LOSS_TOLERANCE,
    OpenedBundle,
    OriginalComparison,
    Reproduction,
)
from store.core import formatting
from store.core.documents import parse_document
from store.core.errors import NotFoundError
from store.core.figure_schemas import Estimate
from store.core.job_kinds import ALIVE
from store.runs.schemas import Run

REPRODUCTION_RESULTS = {
    "same": "identical",
    "within": "within",
    "outside": "**outside**",
    "cant_tell": "inconclusive",
}


def draw_reproduction(run: Run) -> None:
    """Draw the bundle a run was launched from, and whether its figures were reproduced."""
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
        result = parse_document(Reproduction, job.result)  # result of a finished comparison
        _draw_figures(result)
        if beside := result.beside:
            _draw_reproduction_comparison(beside)
    elif run.status in ALIVE:
        st.caption("Its metrics are compared with the bundle's once the run has ended.")


def _draw_origin(job_id: str) -> None:
    """Draw the bundle's fingerprint, and whether it matches the run in this home folder that it names."""
    try:
        opened = parse_document(OpenedBundle, cached_queries.read_job(job_id).result)  # a finished job
    except NotFoundError:
        return
    original = opened.original
    if original and original.differences:
        st.error(escape_markdown(archive_text.describe_origin(opened)), icon=":material/gpp_bad:")
        st.dataframe(
            [
                {"Field": row.field, "Bundle": row.bundle, "This home folder": row.here}
                for row in original.differences
            ],
            hide_index=True,
            key="bundle-differences",
            alt="Fields that differ between the bundle and the run in this home folder",
        )
    elif words := archive_text.describe_origin(opened):
        st.caption(escape_markdown(words))
    if words := archive_text.format_fingerprint(opened):
        st.caption(escape_markdown(words))


def _draw_reproduction_comparison(beside: OriginalComparison) -> None:
    """Draw what is identical to the original run, and what differs."""
    differs = any(line.same is False for line in beside.lines)
    with st.expander(escape_markdown(beside.sentence), icon=":material/difference:", expanded=differs):
        rows = [
            "| " + " | ".join(escape_markdown(cell) or "–" for cell in cells) + " |"
            for line in sorted(beside.lines, key=lambda line: line.same is not False)
            for cells in [[line.what, line.first, line.second, archive_text.SAME[line.same], line.detail]]
        ]
        head = "| Item | Original run | This run | Match | Details |\n|---|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            f"Step losses match within {LOSS_TOLERANCE:g} nats a token; metrics match if the 95% CI of the"
            " difference is within the margin."
        )


def _draw_figures(result: Reproduction) -> None:
    with st.expander(result.sentence, icon=":material/compare:", expanded=bool(result.outside)):
        rows = [
            f"| {escape_markdown(archive_text.format_figure_title(figure))} |"
            f" {_format_estimate(figure.first)} | {_format_estimate(figure.second)} |"
            f" {REPRODUCTION_RESULTS[figure.came]} |"
            for figure in sorted(result.figures, key=lambda figure: figure.came != "outside")
        ]
        head = "| Metric | Original run | This run | Reproduced |\n|---|---|---|---|\n"
        st.markdown(head + "\n".join(rows))
        st.caption(
            "Identical: to the last digit. Within: the 95% CI of the difference is within the margin."
            " Outside: it is beyond the margin. Inconclusive: neither."
        )
        for difference in result.differences:
            st.caption(
                escape_markdown(
                    f"Difference: {difference.what} was {difference.first}, here {difference.here}."
                )
            )


def _format_estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else formatting.format_estimate(estimate)
