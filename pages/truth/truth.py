"""Simulated truth: how far can figures be trusted? What does not hold first, then every topic's rates.

The link carries what is searched for (`?text=…`).
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.shared.session import plain
from pages.truth import truth_table
from store.documents.figures.simulated_truth import SimulatedRate, SimulatedTopic
from store.words import truth_text

SEARCH = "truth-text"
EMPTY = f"""
Nothing was measured yet. `{truth_text.COMMAND}` draws rows whose truth is known, asks the functions
that judge runs about them, and leaves here how often they were right.
"""


def main() -> None:
    st.title("How far can figures be trusted?", anchor=False)
    topics = truth_text.read()["topics"]
    if not topics:
        st.markdown(EMPTY)
        return
    _draw_head(topics)
    _draw_broken(topics)
    words = _search().lower().split()
    matching = [topic for topic in (_matching(topic, words) for topic in topics) if topic["rates"]]
    if not matching:
        st.caption("No rate is called so. Take a word away.")
    for topic in matching:
        _draw_topic(topic, searched=bool(words))


def _draw_head(topics: Sequence[SimulatedTopic]) -> None:
    """What a glance should give."""
    held, total = truth_text.holding(topics)
    icon = ":green[:material/verified:]" if held == total else ":orange[:material/rule:]"
    st.subheader(f"{icon} {held:,} of {total:,} rates hold", anchor=False)
    st.markdown(f"{truth_text.MEANS} Measured {truth_text.measured(topics)}.")
    if note := truth_text.first_look(topics):
        st.warning(note, icon=":material/hourglass_top:")


def _draw_broken(topics: Sequence[SimulatedTopic]) -> None:
    """What does not hold, before everything else."""
    broken = [(topic, rate) for topic in topics for rate in topic["rates"] if not rate["holds"]]
    if broken:
        st.markdown("**What does not hold**")
        named = [(truth_text.title(topic), rate) for topic, rate in broken]
        st.html(truth_table.broken_table(named, _ground()))


def _search() -> str:
    """The words that topics and rates are narrowed by, which are those of the link."""
    st.session_state[SEARCH] = st.query_params.get("text", "")
    typed = st.text_input(
        "Search", key=SEARCH, type="search", live="300ms", icon=":material/search:",
        placeholder="Search topics and rates, such as forgetting or n 30", label_visibility="collapsed",
        on_change=_follow,
    )  # fmt: skip
    return (typed or "").strip()


def _follow() -> None:
    """Callback: the words into the link."""
    if text := (st.session_state[SEARCH] or "").strip():
        st.query_params["text"] = text
    else:
        st.query_params.pop("text", None)


def _matching(topic: SimulatedTopic, words: Sequence[str]) -> SimulatedTopic:
    """The topic with those rates that have all words in its name or theirs."""

    def has_all(rate: SimulatedRate) -> bool:
        text = f"{truth_text.title(topic)} {rate['name']}".lower()
        return all(word in text for word in words)

    return {**topic, "rates": [rate for rate in topic["rates"] if has_all(rate)]}


def _draw_topic(topic: SimulatedTopic, *, searched: bool) -> None:
    """A topic's tables, drawn once it is open; open where it was searched for."""
    held, total = truth_text.holding([topic])
    icon = ":material/check:" if held == total else ":material/close:"
    label = f"**{plain(truth_text.title(topic))}** {held:,} of {total:,} hold"
    key = f"truth-{topic['topic']}" + ("-searched" if searched else "")
    with st.expander(label, icon=icon, key=key, expanded=searched, on_change="rerun") as box:
        if not box.open:
            return
        st.markdown(plain(topic["about"]))
        st.caption(plain(truth_text.stamp(topic)))
        for table in truth_text.tables(topic["rates"]):
            st.html(truth_table.rate_table(table, truth_text.title(topic), _ground()))


def _ground() -> str:
    """The page's background."""
    theme = "dark" if st.context.theme.type == "dark" else "light"
    return str(st.get_option(f"theme.{theme}.backgroundColor") or "Canvas")


main()
