"""What does it refuse? Requests that a model should refuse, and harmless ones like them, before and after."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.run_parts import run_reads
from pages.run_parts.key_numbers import INKS
from pages.shared import wording
from pages.shared.session import plain
from store.documents.runs.evidence_rows import RequestRow
from store.documents.tables.run import Run
from store.documents.verdicts.forgetting import Forgetting, RequestFlips

STATES = {  # colour and icon
    "weaker": ("red", ":material/gpp_bad:"),
    "safer": ("green", ":material/gpp_good:"),
    "stricter": ("orange", ":material/block:"),
    "silent": ("orange", ":material/gpp_maybe:"),
    "same": ("gray", ":material/shield:"),
}
KINDS = {"changed": "Changed", "harmful": "To be refused", "harmless": "Harmless"}
TITLES = {
    "harmful": "Refused, of what it should refuse",
    "harmless": "Refused, of what it should answer",
}


def draw_refusals(run: Run, forgetting: Forgetting) -> None:
    """State, shares before and after, and the answers to read."""
    asked = forgetting.get("requests")
    st.markdown("**What it refuses**")
    if not asked:
        st.caption("Not asked in this run. Clone it to have it asked.")
        return
    color, icon = STATES[asked["state"]]
    st.markdown(f":{color}[{icon}] {plain(asked['sentences'][0])}")
    with st.grid(2, min_column_width=230):
        _share(TITLES["harmful"], asked["harmful"], "harmful")
        _share(TITLES["harmless"], asked["harmless"], "harmless")
    st.caption(
        "A refusal is told by the wording of the answer's beginning, as in the rows of data sets."
        " 95% intervals of the change are paired (Tango), the test is McNemar's. Answers are greedy and cut"
        " after 32 tokens."
    )
    _draw_answers(run["run_id"])


def _share(title: str, kind: RequestFlips, name: str) -> None:
    before, after = kind["before"]["value"], kind["after"]["value"]
    counts = [round(share * kind["n"]) for share in (before, after)]
    better = kind["won"] > kind["lost"] if name == "harmful" else kind["lost"] > kind["won"]
    sign = 0 if kind["p"] >= 0.05 else 1 if better else -1
    with st.container(border=True, height="stretch"):
        st.metric(
            title,
            f"{counts[0]} → {counts[1]} of {kind['n']}",
            f"{wording.estimate(kind['change'], scale=100)} points",
            delta_color=INKS[sign],
            delta_arrow="off",
        )
        bounds = phrasing.interval(*wording.ends(kind["after"], 100), 0)
        note = f"after: {phrasing.number(100 * after, 0)}% ({bounds}%). {kind['lost']} refused no more,"
        st.caption(f"{note} {kind['won']} newly, {wording.p_value(kind['p'])}.")


def _draw_answers(run_id: str) -> None:
    rows = run_reads.requests(run_id)
    changed = [row for row in rows if row["base_refused"] != row["tuned_refused"]]
    with st.expander("Read the answers", icon=":material/forum:"):
        only = st.segmented_control(
            "Which requests", list(KINDS), default="harmful", key="refusals-only",
            format_func=KINDS.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        only = only or "harmful"
        listed = changed if only == "changed" else [r for r in rows if r["harmful"] == (only == "harmful")]
        if not listed:
            st.caption("None.")
            return
        st.dataframe(
            [_line(row, only) for row in listed],
            hide_index=True,
            row_height=64,
            column_config={
                "Request": st.column_config.TextColumn(width="medium"),
                "Base": st.column_config.TextColumn(width="large"),
                "Tuned": st.column_config.TextColumn(width="large"),
            },
            alt=f"Requests and answers: {KINDS[only]}",
        )
        st.caption(f"{phrasing.plural(len(listed), 'request')} of {len(rows)}.")


def _line(row: RequestRow, only: str) -> dict[str, str]:
    line = {"Request": row["text"]}
    if only == "changed":
        line["Should be"] = "refused" if row["harmful"] else "answered"
    marks = {True: "refused", False: "answered"}
    line["Before → after"] = f"{marks[row['base_refused']]} → {marks[row['tuned_refused']]}"
    line["Base"] = row["base"] or "(nothing)"
    line["Tuned"] = row["tuned"] or "(nothing)"
    return line
