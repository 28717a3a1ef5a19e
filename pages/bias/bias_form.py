"""How a bias check is asked for: the built-in pairs at a press, files of one's own beside them."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from pages.run_parts import bias_time
from pages.shared.session import act, client, guarded, may, owns_machine, plain
from store.documents.tables.run import Run

FORMS = (
    "Known by their columns: pairs of sentences (sent_more, sent_less), pronouns (text with [marks],"
    " stereotype), multiple choice in the form of BBQ (context, question, ans0 …)."
)


def estimate(run: Run) -> str:
    """How long the built-in pairs take, base and tuned model."""
    gpu = str(run["facts"].get("device", "cpu")).startswith("cuda")
    time = bias_time.takes(run["facts"].get("total_parameters"), gpu=gpu)
    return f"It takes {time}, and asks the base and the tuned model the same {bias_time.PAIRS} pairs."


def draw_button(run: Run, *, first: bool) -> None:
    """The press that starts a check with the built-in pairs."""
    if not may("work"):
        return
    label = "Check for bias" if first else "Check again"
    kind: Literal["primary", "secondary"] = "primary" if first else "secondary"
    if st.button(label, icon=":material/balance:", type=kind, key="bias-check"):
        start({"run": run["run_id"]})


def start(body: dict[str, Any]) -> None:
    """Queue it; the tab is drawn anew."""
    if act("check_bias", body, "The check is queued.") is not None:
        st.cache_data.clear()
        st.rerun()


def draw_files(run: Run) -> None:
    """A check with files of the user's own."""
    if not may("work"):
        return
    with st.expander("With files of your own", icon=":material/upload_file:"):
        st.caption(FORMS)
        files = st.file_uploader("Files", accept_multiple_files=True, key="bias-files")
        path = ""
        if owns_machine():
            path = st.text_input(
                "Or the path of a file on this machine", key="bias-path", placeholder="/home/me/pairs.csv"
            )
        most = st.number_input(
            "Items of each file at most", min_value=10, value=1000, step=100, key="bias-most"
        )
        builtin = st.toggle("The built-in pairs too", value=True, key="bias-builtin")
        if st.button("Check with these files", icon=":material/balance:", key="bias-check-files"):
            asked = [{"path": path.strip()}] if path.strip() else []
            with guarded(), st.spinner("Copying the files into the home folder …"):
                for file in files:
                    asked.append({"upload": client().upload(file.name, file)})
            if not asked:
                st.warning("Choose a file.")
                return
            chosen = [{**file, "max_rows": int(most)} for file in asked]
            start({"run": run["run_id"], "builtin": builtin, "files": chosen})
        if files:
            st.caption(", ".join(plain(file.name) for file in files))
