"""Runs as a list: who it is, how far it is, what came out, and a box to choose it for a comparison."""

from __future__ import annotations

import html
from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.components import figures, quantities
from pages.components.progress import doing, fraction
from pages.components.session import plain
from store.config import METHOD_TITLES
from store.states import ALIVE

PICKED = "runs-picked"
STYLE = """
<style>
.tb-run {display: grid; gap: .15rem 1rem; align-items: center; line-height: 1.4;
  grid-template-columns: minmax(11rem, 1.3fr) minmax(7rem, .8fr) minmax(11rem, 1.3fr) 5.5rem}
.tb-run small {font-size: .82rem; opacity: .68; display: block}
.tb-run .value {font-weight: 600; font-variant-numeric: tabular-nums}
.tb-run .better {color: #12a594} .tb-run .worse {color: #d64545}
@media (max-width: 640px) {.tb-run {grid-template-columns: 1fr 1fr}}
</style>
"""


def run_numbers(run: dict[str, Any]) -> str:
    """What there is to say of one run beside its name, as a line of HTML."""
    cells = "".join(f"<div>{cell}</div>" for cell in (_what(run), _loss(run), _gain(run), _when(run)))
    return f"{figures.STYLE}{STYLE}<div class='tb-run'>{cells}</div>"


def _what(run: dict[str, Any]) -> str:
    if run["status"] in ALIVE:
        bar = "" if run["status"] == "queued" else figures.bar(fraction(run))
        return f"{bar}<small>{html.escape(doing(run))}</small>"
    method = METHOD_TITLES.get(run["method"], run["method"])
    return f"{html.escape(method)}<small>{html.escape(run['dataset_name'])}</small>"


def _loss(run: dict[str, Any]) -> str:
    if run["best_eval_loss"] is None:
        return "<small>no validation yet</small>"
    base = run["base_eval_loss"]
    start = f"<small>from {phrasing.number(base, 3)}</small>" if base is not None else ""
    return f"<span class='value'>{phrasing.number(run['best_eval_loss'], 3)}</span>{start}"


def _gain(run: dict[str, Any]) -> str:
    """The gain with its interval where there is a verdict, else the change on the validation rows."""
    gain = (run.get("verdict") or {}).get("gain")
    if gain:
        low, high = gain["low"], gain["high"]
        places = phrasing.decimals(low, high)
        better, worse = low is not None and low > 0, high is not None and high < 0
        word, kind = ("undecided:", "")
        if better or worse:
            word, kind = ("better by", "better") if better else ("worse by", "worse")
        value = phrasing.number(-gain["value"] if worse else gain["value"], places)
        return (
            f"<span class='value {kind}'>{word} {value}</span>"
            f"<small>{phrasing.interval(low, high, places)}, n {gain['n']:,}</small>"
        )
    if run["best_eval_loss"] is None or run["base_eval_loss"] is None or not run["best_step"]:
        return ""
    change = run["best_eval_loss"] - run["base_eval_loss"]
    kind = "better" if change < 0 else "worse"
    arrow = "↓" if change < 0 else "↑"
    shown = phrasing.number(abs(change), 3)
    return f"<span class='value {kind}'>{arrow} {shown}</span><small>not tested yet</small>"


def _when(run: dict[str, Any]) -> str:
    took = ""
    if run["started_at"] and run["ended_at"]:
        took = f"took {quantities.span((run['ended_at'] - run['started_at']).total_seconds())}"
    return f"<small>{quantities.ago(run['created_at'])}<br>{took}</small>"


def picked() -> list[str]:
    """Ids of the runs that are chosen for a comparison, in the order in which they were chosen."""
    return list(st.session_state.get(PICKED, []))


def pick_box(run: dict[str, Any]) -> None:
    """The box that chooses a run; the choice survives paging, searching and leaving the page."""
    run_id = run["run_id"]
    key = f"pick-{run_id}"
    st.session_state.setdefault(key, run_id in picked())
    st.checkbox(
        f"Compare {plain(run['name'])}",
        key=key,
        label_visibility="collapsed",
        on_change=_pick,
        args=(run_id, key),
    )


def _pick(run_id: str, key: str) -> None:
    others = [other for other in picked() if other != run_id]
    st.session_state[PICKED] = [*others, run_id] if st.session_state[key] else others


def drop_picked() -> None:
    """Callback: choose none."""
    for run_id in picked():
        st.session_state[f"pick-{run_id}"] = False
    st.session_state[PICKED] = []
