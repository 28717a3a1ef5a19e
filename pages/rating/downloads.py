"""Downloads of a round: a self-contained HTML report and all ratings as CSV or Parquet. The report escapes
all texts and loads no resources.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from engine.rating.analysis.labels import compute_sampling_weights
from engine.rating.analysis.round_ratings import list_system_names
from engine.rating.exported_ratings import build_rating_table
from engine.rating.round_text import TEXT_PROTOCOLS, RoundDescription, summarize_round, summarize_text_round
from pages.rating import round_queries
from pages.rating.round_queries import build_ratings, build_stamp, compute_comparison
from pages.rating.rounds import describe_prompts
from store.core.formatting import plural
from store.core.rating_schemas import RoundSummary
from store.core.table_values import write_csv
from store.rating.templates import PROTOCOL_TITLES

STYLE = """
body {font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2.5rem auto; padding: 0 1.2rem;
  color: #1c2430; background: #fff}
h1 {font-size: 1.7rem; margin-bottom: .2rem} h2 {font-size: 1.15rem; margin-top: 2rem}
.gray {color: #5c6675} li {margin: .3rem 0} .verdict {border-left: 5px solid #2e7d5b; padding: .2rem 1rem;
  font-size: 1.15rem}
@media (prefers-color-scheme: dark) {body {background: #14181f; color: #e3e8ef} .gray {color: #9aa5b4}}
"""


def draw_report(round: RoundSummary) -> None:
    """Draw the download button of the report.

    The report is built with the page, because a download is served outside a page run, without a signed-in
    person.
    """
    st.download_button(
        "Download report",
        _render_report(build_stamp(round), round),
        file_name=f"{''.join(c if c.isalnum() else '-' for c in round.name)[:60]}.html",
        mime="text/html",
        icon=":material/description:",
        key="round-report",
        on_click="ignore",
    )


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def _render_report(stamped: tuple[str, ...], _round: RoundSummary) -> str:
    return render_report(_round)


def render_report(round: RoundSummary) -> str:
    """Render the report as HTML."""
    about = [
        PROTOCOL_TITLES[round.protocol],
        " against ".join(list_system_names(round)),
        describe_prompts(round),
        f"{plural(round.rated, 'rating')} by {plural(round.raters, 'rater')}",
        f"started by {round.created_by_name} on {round.created_at:%d %b %Y}",
    ]
    parts = [f"<h1>{_escape(round.name)}</h1>", f"<p class=gray>{_escape(' · '.join(about))}</p>"]
    instruction = round.config.get("instruction", "")
    if instruction:
        parts += ["<h2>Instruction to raters</h2>", f"<p>{_escape(instruction)}</p>"]
    verdict, agreement, raters = _describe_round(round)
    parts += ["<h2>Result</h2>", f"<p class=verdict>{_escape(verdict[0])}</p>", _render_list(verdict[1:])]
    left_out = round_queries.list_excluded_raters(round.round_id)
    if left_out:
        raters = [*raters, f"{plural(len(left_out), 'rater')} excluded from all results."]
    parts += [f"<h2>{title}</h2>{_render_list(lines)}" for title, lines in
              (("Agreement", agreement), ("Raters", raters)) if lines]  # fmt: skip
    notes = [*round.details.notices, "Intervals are 95% intervals."]
    parts += ["<h2>Notes</h2>", _render_list(notes)]
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_escape(round.name)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><body>{body}</body></html>"
    )


def _describe_round(round: RoundSummary) -> RoundDescription:
    """Return sentences on the result, the agreement, and the raters."""
    if round.protocol not in TEXT_PROTOCOLS:
        return summarize_round(build_ratings(round), compute_comparison(round))
    round_id = round.round_id
    items, requests = round_queries.list_items(round_id), round_queries.list_round_requests(round_id)
    left_out = {rater.person_id for rater in round_queries.list_excluded_raters(round_id)}
    weights = compute_sampling_weights(round, items, requests)
    sentences = summarize_text_round(
        round, round_queries.list_tasks(round_id), items, requests, weights, left_out
    )
    return sentences or summarize_round(build_ratings(round))


def _render_list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_escape(line)}</li>" for line in lines) + "</ul>"


def _escape(text: str) -> str:
    return html.escape(text)


Write = Callable[[pa.Table, io.BytesIO], None]


def draw_table(round: RoundSummary) -> None:
    """Draw buttons to download all ratings; data is read when the panel is open, files are built on click.

    Only for closed rounds, because the authors of answers would influence people who still rate.
    """
    with st.expander(
        "Download all ratings", icon=":material/table:", on_change="rerun", key="round-table"
    ) as box:
        if box.open:
            _draw_buttons(round)


def _draw_buttons(round: RoundSummary) -> None:
    kinds: tuple[tuple[str, str, Write], ...] = (
        ("CSV", "text/csv", write_csv),
        ("Parquet", "application/vnd.apache.parquet", pq.write_table),
    )
    for kind, mime, write in kinds:
        st.download_button(
            f"Download as {kind}",
            _build_file_writer(round, write),
            file_name=f"{''.join(c if c.isalnum() else '-' for c in round.name)[:60]}.{kind.lower()}",
            mime=mime,
            icon=":material/table:",
            key=f"round-table-{kind.lower()}",
            on_click="ignore",
            help="One row per rating: what was shown, who rated it and how, when, and whether it counts",
        )


def _build_file_writer(round: RoundSummary, write: Write) -> Callable[[], bytes]:
    """Return a function that builds the file from data read now.

    A download is served outside the page run, so it cannot query the engine.
    """
    round_id = round.round_id
    tasks, items = round_queries.list_tasks(round_id), round_queries.list_items(round_id)
    left_out = {rater.person_id for rater in round_queries.list_excluded_raters(round_id)}

    def make() -> bytes:
        out = io.BytesIO()
        write(build_rating_table(round, tasks, items, left_out), out)
        return out.getvalue()

    return make
