"""The Evaluations page: any model, run or checkpoint on any rows.

The link is `?evaluation=ID` (or a name); without it the newest evaluation is shown.
"""

from __future__ import annotations

import streamlit as st

from pages.evaluation import evaluation_list
from pages.evaluation.evaluation_list import draw_delete, draw_detail, draw_unfinished
from pages.evaluation.form import PREFIX, draw_form
from pages.shared import cached_queries, run_queries
from pages.shared.features import list_model_names
from pages.shared.session import show_errors
from store.core.job_kinds import ALIVE
from store.runs.schemas import Run
from store.training.train_config import BUNDLED_MODEL

MAX_RUNS = 200  # number of runs offered
KINDS = ("A model", "A run")


def draw_start() -> None:
    """Draw the choice of a model or run, and the evaluation form."""
    kind = st.segmented_control(
        "What", KINDS, default=KINDS[0], key=f"{PREFIX}kind", label_visibility="collapsed", required=True
    )
    if kind == KINDS[1]:
        run = _choose_run()
        if run is not None:
            draw_form(run)
        return
    model = _choose_model()
    if model is None:
        st.caption("Choose a model, or type a folder or a hub id such as owner/name.")
        return
    draw_form(None, model)


def _choose_run() -> Run | None:
    """Draw the choice of a run that has ended."""
    ended = [run for run in cached_queries.list_run_choices("", (), MAX_RUNS) if run.status not in ALIVE]
    if not ended:
        st.caption("No run has ended yet. Launch one, or evaluate a model instead.")
        return None
    by_id = {run.run_id: run for run in ended}
    chosen = st.selectbox(
        "Run", list(by_id), format_func=lambda run_id: by_id[run_id].name, key=f"{PREFIX}run"
    )
    if len(ended) == MAX_RUNS:
        st.caption(f"The newest {MAX_RUNS}; an older one is evaluated from its own page.")
    return run_queries.find_run(chosen)


def _choose_model() -> str | None:
    """Draw the choice of a model by name, folder or hub id."""
    names = [
        *(model.name for model in cached_queries.list_models()),
        *list_model_names(),
    ]
    return st.selectbox(
        "Model",
        list(dict.fromkeys([*names, BUNDLED_MODEL])),
        key=f"{PREFIX}model",
        accept_new_options=True,
        help="Choose one, or type NAME@3 of a registered model, a local folder or a Hugging Face id.",
    )


def main() -> None:
    st.title("Evaluations", anchor=False)
    with show_errors():
        alive = draw_unfinished(None)
        total = evaluation_list.count_evaluations()
        if not total and not alive:
            st.markdown(
                "No evaluations yet. Select a model or a run, rows and metrics, and press **Evaluate**:"
                " each metric has a confidence interval, and every row its score. Two evaluations on the"
                " same rows can be compared row by row."
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
            st.subheader(chosen.name.replace("$", r"\$"), anchor=False)
            gone = draw_delete(chosen)
        if gone:
            st.query_params.pop("evaluation", None)
            st.rerun()
        draw_detail(chosen)


main()
