"""A round as one HTML file: what it asked, what it came to, how sure that is.

Everything in it is escaped, and it loads nothing.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

import streamlit as st

from engine.diagnostics.phrasing import plural
from engine.diagnostics.rating.raters.label_figures import chance_weights
from engine.diagnostics.rating.rows.of_round import system_names
from engine.diagnostics.rating.words.round_words import RoundSentences, round_sentences
from engine.diagnostics.rating.words.text_words import TEXTS, text_sentences
from pages.rating import round_reads
from pages.rating.round_figures import comparing, ratings_of, stamp
from pages.rating.round_list import prompts_words
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.documents.rating.round import RoundLine

STYLE = """
body {font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2.5rem auto; padding: 0 1.2rem;
  color: #1c2430; background: #fff}
h1 {font-size: 1.7rem; margin-bottom: .2rem} h2 {font-size: 1.15rem; margin-top: 2rem}
.gray {color: #5c6675} li {margin: .3rem 0} .verdict {border-left: 5px solid #2e7d5b; padding: .2rem 1rem;
  font-size: 1.15rem}
@media (prefers-color-scheme: dark) {body {background: #14181f; color: #e3e8ef} .gray {color: #9aa5b4}}
"""


def draw_report(round: RoundLine) -> None:
    """The button that saves it. It is written with the page: a download is answered outside of the page's
    run, where nobody is signed in."""
    st.download_button(
        "Save as a report",
        _report(stamp(round), round),
        file_name=f"{''.join(c if c.isalnum() else '-' for c in round['name'])[:60]}.html",
        mime="text/html",
        icon=":material/description:",
        key="round-report",
        on_click="ignore",
    )


@st.cache_data(ttl=600, max_entries=16, show_spinner=False)
def _report(stamped: tuple[str, ...], _round: RoundLine) -> str:
    return report(_round)


def report(round: RoundLine) -> str:
    """The file."""
    about = [
        PROTOCOL_TITLES[round["protocol"]],
        " against ".join(system_names(round)),
        prompts_words(round),
        f"{plural(round['rated'], 'rating')} by {plural(round['raters'], 'rater')}",
        f"started by {round['created_by_name']} on {round['created_at']:%d %b %Y}",
    ]
    parts = [f"<h1>{_safe(round['name'])}</h1>", f"<p class=gray>{_safe(' · '.join(about))}</p>"]
    instruction = round["config"].get("instruction", "")
    if instruction:
        parts += ["<h2>What raters were told</h2>", f"<p>{_safe(instruction)}</p>"]
    verdict, agreement, raters = _sentences(round)
    parts += ["<h2>Result</h2>", f"<p class=verdict>{_safe(verdict[0])}</p>", _list(verdict[1:])]
    left_out = round_reads.left_out(round["round_id"])
    if left_out:
        raters = [*raters, f"{plural(len(left_out), 'rater')} left out of all figures."]
    parts += [f"<h2>{title}</h2>{_list(lines)}" for title, lines in
              (("Agreement", agreement), ("Raters", raters)) if lines]  # fmt: skip
    notes = [*round["details"]["notices"], "Intervals are 95% intervals."]
    parts += ["<h2>Notes</h2>", _list(notes)]
    body = "\n".join(parts)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_safe(round['name'])}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style><body>{body}</body></html>"
    )


def _sentences(round: RoundLine) -> RoundSentences:
    """What it came to, whether people agree, and what each is like."""
    if round["protocol"] not in TEXTS:
        return round_sentences(ratings_of(round), comparing(round))
    round_id = round["round_id"]
    items, requests = round_reads.items(round_id), round_reads.requests(round_id)
    left_out = {rater["person_id"] for rater in round_reads.left_out(round_id)}
    weights = chance_weights(round, items, requests)
    sentences = text_sentences(round, round_reads.tasks(round_id), items, requests, weights, left_out)
    return sentences or round_sentences(ratings_of(round))


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_safe(line)}</li>" for line in lines) + "</ul>"


def _safe(text: str) -> str:
    return html.escape(text)
