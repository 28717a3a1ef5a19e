"""Compare: which run is better, and is that more than noise?

Any runs by link (`?runs=a,b,c`): what each gained, which of them can be told apart on the rows that both
held out, their curves over each other, their numbers, and the settings in which they differ.
"""

from __future__ import annotations

import streamlit as st

from pages.compare import compare_evidence, compare_picker, compare_tables, compare_view
from pages.compare.compare_classes import draw_class_evidence
from pages.run_parts.chips import chip_link, status_badge
from pages.shared.session import guarded, watch_engine
from store.contract.states import ALIVE


def main() -> None:
    st.title("Which run is better?", anchor=False)
    with guarded():
        picked = compare_picker.pick_runs()
        if not picked:
            compare_picker.draw_empty()
            return
        runs = compare_picker.chosen(picked)
        if not runs:
            return
        alive = any(run["status"] in ALIVE for run in runs)
        with st.container(horizontal=True, gap="medium"):
            for run in runs:
                with st.container(
                    horizontal=True, width="content", gap="xsmall", vertical_alignment="center"
                ):
                    chip_link(run)
                    if run["status"] != "finished":  # of many that are, a word for each would fill a phone
                        st.markdown(status_badge(run["status"]), width="content")
        compare_evidence.draw_evidence(runs)
        draw_class_evidence(runs, compare_evidence.labels(runs))
        st.fragment(_live, run_every="4s" if alive else None)(tuple(run["run_id"] for run in runs))
        compare_tables.draw_numbers(runs)
        compare_tables.draw_settings(runs)


def _live(run_ids: tuple[str, ...]) -> None:
    with guarded():
        watch_engine()
        compare_view.draw_curves(compare_picker.chosen(list(run_ids)))


main()
