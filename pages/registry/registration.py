"""Register a run or a folder as a model version, as a form and as a dialog of a run; and the versions made
from a run.
"""

from __future__ import annotations

import re

import streamlit as st

from pages.shared.cached_queries import CALM
from pages.shared.session import cached, escape_markdown, get_client, has_right, send_command
from store.core.errors import ConfigError
from store.core.model_schemas import VersionSummary
from store.registry import model_versions
from store.registry.config import RegisterConfig
from store.runs.schemas import Run

NEW = "A new model"
REGISTERING = "registering-job"  # this session's registration job, whose result the Models page shows
MAX_MODELS = 200  # maximum models in the selector; others can be named
MAX_REGISTERED = 4  # maximum versions in the header of a run
MAX_OFFERED = 50  # maximum models offered in selectors; others can be typed


@cached(CALM, max_entries=4)
def list_model_names() -> list[str]:
    """List registered models for selectors: NAME@production if there is one, else the newest version's
    number.
    """
    return [
        f"{line.name}@{'production' if line.production else line.newest}"
        for line in model_versions.list_models(get_client(), limit=MAX_OFFERED)[1]
        if line.newest is not None
    ]


@cached(CALM, max_entries=32)
def list_registered_versions(run_id: str) -> list[VersionSummary]:
    """List versions of registered models made from the run, newest first."""
    return model_versions.versions_of_run(get_client(), run_id)


def draw_registered(run: Run) -> None:
    """Draw links to the versions of registered models made from the run."""
    registered = list_registered_versions(run.run_id) if run.status == "finished" else []
    if not registered:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Registered as", width="content")
        for line in registered[:MAX_REGISTERED]:
            st.page_link(
                "pages/registry/models.py",
                label=escape_markdown(f"{line.name}@{line.version}"),
                query_params={"model": line.name, "version": str(line.version)},
                width="content",
            )


def draw_run_button(run: Run) -> None:
    """Draw the button that opens the dialog."""
    if has_right("work") and st.button(
        "Register model",
        icon=":material/deployed_code:",
        key="run-register",
        help="Keep the trained model as a version with aliases and gates",
    ):
        register_run(run.run_id, run.name)


def draw_fields(body: dict[str, str], key: str) -> None:
    """Draw model, name, notes and the button; `body`: what is registered."""
    names = [line.name for line in model_versions.list_models(get_client(), limit=MAX_MODELS)[1]]
    chosen = NEW
    if names:
        chosen = st.selectbox("Model", [NEW, *names], key=f"{key}-model") or NEW
    name = chosen
    if chosen == NEW:
        typed = st.text_input(
            "Model name", key=f"{key}-name", placeholder="support-assistant", max_chars=64,
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
    queued = send_command("register_model", config.model_dump())
    if queued is not None:
        st.session_state[REGISTERING] = queued["job_id"]
        st.switch_page("pages/registry/models.py")


@st.dialog("Register model")
def register_run(run_id: str, name: str) -> None:
    """Open the registration dialog of a run."""
    st.markdown(
        "The run's model is copied, with checksums, as the next version of a model. It is kept even if "
        "the run is deleted, and you can use it anywhere as NAME@3."
    )
    suggested = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64].lower()
    st.session_state.setdefault("register-run-name", suggested)
    draw_fields({"run": run_id}, "register-run")
