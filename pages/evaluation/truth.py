"""Simulation results of every statistic: failures first, then the rates of each topic. `?text=…` in the link
filters them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from pages.shared.palette import BAD
from pages.shared.session import escape_markdown
from store.evaluation import simulated_truth
from store.evaluation.schemas import SimulatedRate, SimulatedTopic
from store.evaluation.simulated_truth import TruthTable

STYLE = f"""
<style>
.tb-truth {{overflow: auto; max-width: 100%; max-height: 32rem; margin-bottom: .6rem}}
.tb-truth table {{border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem;
  line-height: 1.35}}
.tb-truth th, .tb-truth td {{padding: .3rem .6rem; text-align: right; white-space: nowrap; border: 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 13%, transparent)}}
.tb-truth thead th {{position: sticky; top: 0; z-index: 1; font-weight: 600; font-size: .84rem}}
.tb-truth thead th:first-child {{left: 0; z-index: 2}}
.tb-truth tbody th {{position: sticky; left: 0; font-weight: 400}}
.tb-truth th {{background: var(--tb-ground, Canvas)}}
.tb-truth small {{display: block; font-size: .78rem; opacity: .72}}
.tb-truth tr > :first-child {{text-align: left; white-space: normal; overflow-wrap: anywhere; padding-left: 0;
  min-width: 9rem; max-width: 38rem}}
.tb-truth td.off {{font-weight: 600; background: color-mix(in srgb, {BAD} 22%, transparent)}}
@media (max-width: 640px) {{.tb-truth tr > :first-child {{max-width: 12.5rem}}}}
</style>
"""


def render_rate_table(table: TruthTable, label: str, ground: str) -> str:
    """Render a topic's matrix or list; `ground`: the colour behind the table's sticky headings."""
    sizes = [f"n {size:,}" for size in table.sizes] or ["observed"]
    rows = [
        _render_row(
            row.name,
            row.wanted,
            row.draws,
            simulated_truth.format_cells(row, table.sizes, _render_cell, "<td></td>"),
        )
        for row in table.rows
    ]
    counted = f" by {table.unit}" if table.unit else ""
    return _render_table(f"{label}{counted}", sizes, rows, ground)


def render_broken_table(broken: Sequence[tuple[str, SimulatedRate]], ground: str) -> str:
    """Render the failing rates, each with its topic."""
    rows = [
        _render_row(
            f"{topic}: {rate['name']}",
            simulated_truth.format_target_band(rate),
            f"{rate['draws']:,}",
            [_render_cell(rate)],
        )
        for topic, rate in broken
    ]
    return _render_table("Failing rates", ["observed"], rows, ground)


def _render_table(label: str, heads: Sequence[str], rows: Sequence[str], ground: str) -> str:
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in ("what", *heads))
    return (
        f"{STYLE}<div class='tb-truth' role='region' tabindex='0' aria-label='{html.escape(label)}'"
        f" style='--tb-ground:{html.escape(ground)}'><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _render_row(name: str, wanted: str, draws: str, cells: Sequence[str]) -> str:
    note = f"<small>wanted {html.escape(wanted)}, {draws} draws</small>"
    return f"<tr><th scope='row'>{html.escape(name)}{note}</th>{''.join(cells)}</tr>"


def _render_cell(rate: SimulatedRate) -> str:
    text = html.escape(simulated_truth.format_observed_share(rate))
    tip = f"{rate['draws']:,} draws; wanted {simulated_truth.format_target_band(rate)}"
    return (
        f"<td title='{tip}'>{text}</td>" if rate["holds"] else f"<td class='off' title='{tip}'>✗ {text}</td>"
    )


SEARCH = "truth-text"
EMPTY = f"""
Nothing was measured yet. `{simulated_truth.COMMAND}` draws rows whose truth is known, asks the functions
that judge runs about them, and leaves here how often they were right.
"""


def main() -> None:
    st.title("Simulated truth", anchor=False)
    topics = simulated_truth.read()["topics"]
    if not topics:
        st.markdown(EMPTY)
        return
    _draw_head(topics)
    _draw_broken(topics)
    words = _draw_search().lower().split()
    matching = [topic for topic in (_filter_topic(topic, words) for topic in topics) if topic["rates"]]
    if not matching:
        st.caption("No rate matches. Use fewer search words.")
    for topic in matching:
        _draw_topic(topic, searched=bool(words))


def _draw_head(topics: Sequence[SimulatedTopic]) -> None:
    """Draw the summary."""
    held, total = simulated_truth.count_holding_rates(topics)
    icon = ":green[:material/verified:]" if held == total else ":orange[:material/rule:]"
    st.subheader(f"{icon} {held:,} of {total:,} rates on target", anchor=False)
    st.markdown(f"{simulated_truth.MEANS} Measured {simulated_truth.describe_measurement(topics)}.")
    if note := simulated_truth.describe_subset(topics):
        st.warning(note, icon=":material/hourglass_top:")


def _draw_broken(topics: Sequence[SimulatedTopic]) -> None:
    """Draw the failing rates above everything else."""
    broken = [(topic, rate) for topic in topics for rate in topic["rates"] if not rate["holds"]]
    if broken:
        st.markdown("**Failing rates**")
        named = [(simulated_truth.get_topic_title(topic), rate) for topic, rate in broken]
        st.html(render_broken_table(named, _get_background()))


def _draw_search() -> str:
    """Draw the search box, which is kept in sync with the link, and return the search text."""
    st.session_state[SEARCH] = st.query_params.get("text", "")
    typed = st.text_input(
        "Search", key=SEARCH, type="search", live="300ms", icon=":material/search:",
        placeholder="Search topics and rates, such as forgetting or n 30", label_visibility="collapsed",
        on_change=_update_link,
    )  # fmt: skip
    return (typed or "").strip()


def _update_link() -> None:
    """Callback: write the search text to the link."""
    if text := (st.session_state[SEARCH] or "").strip():
        st.query_params["text"] = text
    else:
        st.query_params.pop("text", None)


def _filter_topic(topic: SimulatedTopic, words: Sequence[str]) -> SimulatedTopic:
    """Return the topic with the rates whose name, or the topic's title, contains all words."""

    def has_all(rate: SimulatedRate) -> bool:
        text = f"{simulated_truth.get_topic_title(topic)} {rate['name']}".lower()
        return all(word in text for word in words)

    return {**topic, "rates": [rate for rate in topic["rates"] if has_all(rate)]}


def _draw_topic(topic: SimulatedTopic, *, searched: bool) -> None:
    """Draw a topic, whose tables are drawn only when it is open; a searched topic is open."""
    held, total = simulated_truth.count_holding_rates([topic])
    icon = ":material/check:" if held == total else ":material/close:"
    label = f"**{escape_markdown(simulated_truth.get_topic_title(topic))}** {held:,} of {total:,} on target"
    key = f"truth-{topic['topic']}" + ("-searched" if searched else "")
    with st.expander(label, icon=icon, key=key, expanded=searched, on_change="rerun") as box:
        if not box.open:
            return
        st.markdown(escape_markdown(topic["about"]))
        st.caption(escape_markdown(simulated_truth.describe_run(topic)))
        for table in simulated_truth.build_tables(topic["rates"]):
            st.html(render_rate_table(table, simulated_truth.get_topic_title(topic), _get_background()))


def _get_background() -> str:
    """Return the background colour of the page."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    return str(st.get_option(f"theme.{theme}.backgroundColor") or "Canvas")


main()
