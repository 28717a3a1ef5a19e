"""What is evaluated: a model by name, folder or hub id, or a run; then the form with all else."""

from __future__ import annotations

import streamlit as st

from pages.evaluations.evaluation_form import draw_form
from pages.evaluations.metric_options import PREFIX
from pages.run_parts import run_reads
from pages.shared import reads
from store.config.training.train_config import BUNDLED_MODEL
from store.contract.states import ALIVE
from store.documents.tables.run import Run

MOST = 200  # runs to choose from
KINDS = ("A model", "A run")


def draw_start() -> None:
    """The choice, and the form for it."""
    kind = st.segmented_control(
        "What", KINDS, default=KINDS[0], key=f"{PREFIX}kind", label_visibility="collapsed", required=True
    )
    if kind == KINDS[1]:
        run = _run()
        if run is not None:
            draw_form(run)
        return
    model = _model()
    if model is None:
        st.caption("Choose a model, or type a folder or a hub id such as owner/name.")
        return
    draw_form(None, model)


def _run() -> Run | None:
    """A run that has ended."""
    ended = [run for run in run_reads.newest("", (), MOST) if run["status"] not in ALIVE]
    if not ended:
        st.caption("No run has ended yet.")
        return None
    by_id = {run["run_id"]: run for run in ended}
    chosen = st.selectbox(
        "Run", list(by_id), format_func=lambda run_id: by_id[run_id]["name"], key=f"{PREFIX}run"
    )
    if len(ended) == MOST:
        st.caption(f"The newest {MOST}; an older one is evaluated from its own page.")
    return by_id[chosen]


def _model() -> str | None:
    """The name, folder or hub id of one."""
    names = [*(model["name"] for model in reads.models()), *reads.registered_models()]
    return st.selectbox(
        "Model",
        list(dict.fromkeys([*names, BUNDLED_MODEL])),
        key=f"{PREFIX}model",
        accept_new_options=True,
        help="Choose one, or type NAME@3 of a registered model, a local folder or a Hugging Face id.",
    )
