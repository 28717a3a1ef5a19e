"""Mix: how much of the tuning is worth keeping? Models between a run's base (α 0) and its own (α 1), each
scored on what it gains and what it forgets. Nothing is trained. The link is `?run=ID` (or a name).
"""

from __future__ import annotations

import streamlit as st

from pages.components import reads, run_reads
from pages.components.chips import gain_text
from pages.components.mix_view import draw_mix
from pages.components.session import guarded, show_error
from store.errors import NotFoundError

SHOWN = 200  # newest finished runs to choose from


def main() -> None:
    st.title("How much of the tuning is worth keeping?", anchor=False)
    asked = st.query_params.get("run", "")
    with guarded():
        if not asked:
            choose()
            return
        try:
            run = run_reads.find(asked)
        except NotFoundError as error:
            show_error(error)
            choose()
            return
        draw_mix(run)


def choose() -> None:
    """The newest finished runs, one of which is to be mixed with its base."""
    found = {run["run_id"]: run for run in reads.runs("", ("finished",), SHOWN, 0)}
    if not found:
        st.markdown("No run has finished yet. A finished run can be mixed with its base model here.")
        if st.button("Launch a run", type="primary", icon=":material/rocket_launch:", key="mix-launch"):
            st.switch_page("pages/launch.py")
        return
    st.markdown(
        "Between a run's base model and the tuned one lie others, which need no training: with a part of the"
        " tuning they keep a part of the gain and forget less. Choose a run to see which are worth it."
    )
    chosen = st.selectbox(
        "Which run?",
        list(found),
        index=None,
        format_func=lambda one: (
            f"{found[one]['name']} (#{found[one]['number']}), gain {gain_text(found[one]['verdict'])}"
        ),
        key="mix-run",
        placeholder="A finished run",
    )
    if chosen:
        st.query_params["run"] = chosen
        st.rerun()


main()
