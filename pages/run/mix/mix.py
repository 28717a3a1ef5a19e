"""Mix: how much of the tuning is worth keeping? Models between a run's base (α 0) and its own (α 1), each
scored on what it gains and what it forgets. Nothing is trained. The link is `?run=ID` (or a name); without it
the run that was scored last is shown.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.run.mix.mix_view import draw_mix
from pages.run_parts import run_reads
from pages.run_parts.chips import gain_text
from pages.shared import reads
from pages.shared.session import client, guarded, remembered, show_error
from store.contract.errors import NotFoundError
from store.queries.runs import interpolations

SHOWN = 200  # newest finished runs to choose from


def main() -> None:
    st.title("How much of the tuning is worth keeping?", anchor=False)
    asked = st.query_params.get("run", "")
    with guarded():
        try:
            run = run_reads.find(asked) if asked else None
        except NotFoundError as error:
            show_error(error)
            run = None
        scored = mixed()
        if run is None and scored:
            run = run_reads.find(scored[0])
        run = choose(run, scored)
        if run is not None:
            draw_mix(run)


@remembered
@st.cache_data(ttl=reads.LIVE, max_entries=4, show_spinner=False)
def mixed() -> list[str]:
    return interpolations.mixed(client())


def choose(shown: dict[str, Any] | None, scored: list[str]) -> dict[str, Any] | None:
    """The finished runs, those with scored shares first; the one that is to be drawn. `shown`: by the link,
    or the one that was scored last."""
    found = {run["run_id"]: run for run in reads.runs("", ("finished",), SHOWN, 0)}
    if shown is not None:
        found.setdefault(shown["run_id"], shown)
    if not found:
        st.markdown("No run has finished yet. A finished run can be mixed with its base model here.")
        if st.button("Launch a run", type="primary", icon=":material/rocket_launch:", key="mix-launch"):
            st.switch_page("pages/launch/launch.py")
        return None
    if shown is None:
        st.markdown(
            "Between a run's base model and the tuned one lie others, which need no training: with a part"
            " of the tuning they keep a part of the gain and forget less. Choose a run to see which are"
            " worth it."
        )
    order = sorted(found, key=lambda one: scored.index(one) if one in scored else len(scored))
    chosen = st.selectbox(
        "Which run?",
        order,
        index=None if shown is None else order.index(shown["run_id"]),
        format_func=lambda one: (
            f"{found[one]['name']} (#{found[one]['number']}), gain {gain_text(found[one]['verdict'])}"
            + (", shares scored" if one in scored else "")
        ),
        key=f"mix-run-{shown['run_id'] if shown else ''}",
        placeholder="A finished run",
    )
    if chosen and chosen != (shown or {}).get("run_id"):
        st.query_params["run"] = chosen
        st.rerun()
    return shown


main()
