"""Evaluations: how good is it? Any model, run or checkpoint on any rows, listed, compared and looked into.

The link is `?evaluation=ID` (or a name); without it the newest is shown.
"""

from __future__ import annotations

import streamlit as st

from pages.evaluations import evaluation_list
from pages.evaluations.evaluation_detail import draw_delete, draw_detail
from pages.evaluations.evaluation_subject import draw_start
from pages.evaluations.evaluations_view import draw_unfinished
from pages.shared.session import guarded


def main() -> None:
    st.title("How good is it?", anchor=False)
    with guarded():
        alive = draw_unfinished(None)
        total = evaluation_list.count()
        if not total and not alive:
            st.markdown(
                "There is no evaluation yet. Choose a model or a run, the rows that it is to answer and the"
                " metrics, and press **Evaluate**: each figure comes with its interval, and every row with"
                " its score. Two evaluations on the same rows are compared row by row."
            )
        with st.expander(
            "Evaluate a model or a run", icon=":material/add:", expanded=not total and not alive
        ):
            draw_start()
        if not total:
            return
        chosen = evaluation_list.draw_list()
        if chosen is None:
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader(chosen["name"].replace("$", r"\$"), anchor=False)
            gone = draw_delete(chosen)
        if gone:
            st.query_params.pop("evaluation", None)
            st.rerun()
        draw_detail(chosen)


main()
