"""A run's model, or a folder, as a version of a registered model: the form, on whichever page it stands."""

from __future__ import annotations

import re

import streamlit as st

from pages.shared.session import act, client
from store.config.shipping.registry_config import RegisterConfig
from store.contract.errors import ConfigError
from store.queries.shipping import versions

NEW = "A new model"
REGISTERING = "registering-job"  # that this session asked for; the models page says what it came to
MOST = 200  # models that may be chosen from; others are named


def draw_fields(body: dict[str, str], key: str) -> None:
    """Name, checkpoint where there are several, notes and the button; `body`: what is registered."""
    names = [line["name"] for line in versions.list_models(client(), limit=MOST)[1]]
    chosen = NEW
    if names:
        chosen = st.selectbox("Model", [NEW, *names], key=f"{key}-model") or NEW
    name = chosen
    if chosen == NEW:
        typed = st.text_input(
            "Name of the model", key=f"{key}-name", placeholder="support-assistant", max_chars=64,
            help="Letters, digits, dots, dashes and underscores. Its versions are NAME@1, NAME@2, …",
        )  # fmt: skip
        name = (typed or "").strip()
    notes = st.text_area("Notes", key=f"{key}-notes", max_chars=10_000, height=80)
    if st.button("Register", type="primary", icon=":material/deployed_code:", key=f"{key}-go"):
        _register(body | {"name": name, "notes": (notes or "").strip()})


def _register(body: dict[str, str]) -> None:
    try:
        config = RegisterConfig.parse(body)
    except ConfigError as error:
        st.error(f"{error.message} {error.fix}", icon=":material/error:")
        return
    queued = act("register_model", config.model_dump())
    if queued is not None:
        st.session_state[REGISTERING] = queued["job_id"]
        st.switch_page("pages/models/models.py")


@st.dialog("Register as a model")
def register_run(run_id: str, name: str) -> None:
    """The dialog of a run's page."""
    st.markdown(
        "What the run left is copied, with checksums, as the next version of a model. It stays whatever"
        " becomes of the run, and is named wherever a model is: NAME@3."
    )
    suggested = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64].lower()
    st.session_state.setdefault("register-run-name", suggested)
    draw_fields({"run": run_id}, "register-run")
