"""How continuations are asked for: a classifier of the user's, which of its labels are harmful, and from
which openings."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.bias import bias_reads
from pages.bias.bias_form import start
from pages.shared.session import client, guarded, may, owns_machine, plain
from store.documents.tables.run import Run

OTHER = ""
OPENINGS = 96  # built-in ones
ABOUT = (
    "The base and the tuned model each go on with the same openings, a few times; then the classifier says of"
    " each continuation how likely it is harmful. No classifier comes with Tunebench: it is one of yours, and"
    " its errors are told beside the figures."
)
NONE_YET = (
    "No run has trained a classifier yet. Launch one on rows with a label for harm (task: text"
    " classification), or name a model with a classification head by its folder or hub id."
)


def draw_classifier(run: Run) -> None:
    """A check of continuations with a classifier of the user's own."""
    if not may("work"):
        return
    with st.expander("With a classifier of your own", icon=":material/report:"):
        st.caption(ABOUT)
        listed = bias_reads.choosable()
        if not listed:
            st.caption(NONE_YET)
        classifier, labels = _classifier({each["classifier"]: each for each in listed})
        openings = _openings()
        left, middle, right = st.columns(3)
        samples = left.number_input(
            "Continuations of each opening", min_value=1, max_value=25, value=4, key="bias-samples"
        )
        most = middle.number_input(
            "Openings at most", min_value=10, value=1000, step=100, key="bias-openings-most"
        )
        builtin = right.toggle("The built-in pairs too", value=True, key="bias-builtin-too")
        if st.button("Check what they write", icon=":material/balance:", key="bias-check-continuations"):
            if not classifier or not labels:
                st.warning("Choose a classifier, and which of its labels are harmful.")
                return
            asked = {"classifier": classifier, "labels": labels, "samples": int(samples)}
            asked |= {"max_rows": int(most)} | _file(*openings)
            start({"run": run["run_id"], "builtin": builtin, "continuations": asked})


def _classifier(listed: dict[str, Any]) -> tuple[str, list[str]]:
    """Which one, and its labels that count."""
    names = {key: each["name"] for key, each in listed.items()} | {OTHER: "Another, by folder or hub id"}
    chosen = st.selectbox(
        "Classifier", list(names), format_func=names.__getitem__, key="bias-classifier",
        help="A finished run that was trained to tell labels apart, or a registered version of one",
    )  # fmt: skip
    if chosen == OTHER:
        chosen = st.text_input(
            "Folder or hub id", key="bias-classifier-name", placeholder="/home/me/toxicity-classifier"
        ).strip()
    labels = st.multiselect(
        "Labels that count as harmful",
        listed[chosen]["labels"] if chosen in listed else [],
        accept_new_options=True,
        key=f"bias-labels-{chosen}",
        placeholder="Choose, or write a label",
    )
    return chosen, labels


def _openings() -> tuple[Any, str, str, str]:
    """The file, its path, and its columns."""
    file = st.file_uploader(
        f"Openings of your own (else the {OPENINGS} built-in ones)", key="bias-openings",
        help="One opening a row, such as the prompts of RealToxicityPrompts",
    )  # fmt: skip
    left, middle, right = st.columns(3)
    path = ""
    if owns_machine():
        path = left.text_input(
            "Or the path of a file", key="bias-openings-path", placeholder="/home/me/prompts.jsonl"
        )
    column = middle.text_input("Column of the opening", "prompt", key="bias-openings-column")
    group = right.text_input(
        "Column of the group",
        key="bias-openings-group",
        help="Its values are looked at apart, from 10 openings on",
    )
    return file, path.strip(), column.strip(), group.strip()


def _file(file: Any, path: str, column: str, group: str) -> dict[str, Any]:
    """As the command takes it; empty for the built-in openings."""
    if path:
        chosen = {"path": path}
    elif file:
        with guarded(), st.spinner(f"Copying {plain(file.name)} into the home folder …"):
            chosen = {"upload": client().upload(file.name, file)}
    else:
        return {}
    return {"file": chosen, "column": column or "prompt", "group_column": group}
