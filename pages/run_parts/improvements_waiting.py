"""Improvements of all models that wait for a person, where people look first."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.run_parts.improve_link import IMPROVEMENT, draw_improve_link
from pages.shared import palette, quantities, reads
from pages.shared.session import guarded, plain
from store.documents.tables.improvement import Improvement

SHOWN = 3
KEY = "improvements-waiting"
STYLE = f"<style>.st-key-{KEY} {{border-left: 4px solid {palette.TRAIN}}}</style>"
ANSWERS = {
    "passed": "as good on old and new rows",
    "failed": "its checks failed",
    "cant_tell": "it can't be told whether it is as good",
}


def draw_waiting() -> None:
    """Those that wait for a yes, the newest first."""
    with guarded():
        waiting = reads.improvements_in(("deciding",))[::-1]
        if not waiting:
            return
        st.html(STYLE)
        with st.container(border=True, gap="small", key=KEY):
            verb = "waits" if len(waiting) == 1 else "wait"
            count = plural(len(waiting), "improvement")
            st.markdown(f"#### :orange[:material/how_to_reg:] {count} {verb} for a yes")
            for improvement in waiting[:SHOWN]:
                _draw_line(improvement)
            if len(waiting) > SHOWN:
                st.caption(f"The newest {SHOWN} of {len(waiting)}; all are on the pages of their models.")


def _draw_line(improvement: Improvement) -> None:
    facts = improvement["facts"]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        label = f"**{plain(improvement['name'])}**"
        draw_improve_link(improvement["model_id"], label, **{IMPROVEMENT: improvement["improvement_id"]})
        reference, holder = facts.get("version", ""), facts.get("holder", "")
        beside = f"{reference} in place of {holder}" if holder else reference
        answer = ANSWERS[facts["gate"]["answer"]] if "gate" in facts else ""
        since = f"since {quantities.ago(improvement['changed_at'])}"
        words = ", ".join(part for part in (beside, answer, since) if part)
        st.markdown(f":gray[{plain(words)}]", width="content")
