"""How a data set is dealt to training, validation and test, and whether it overlaps with another."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import figures, quantities, reads
from pages.components.session import act, plain, show_error
from store.config import Split
from store.errors import ConfigError

PARTS = (("train", "Training"), ("validation", "Validation"), ("test", "Test"))


def show_split(dataset: dict[str, Any]) -> None:
    """Shares and seed, editable, with the counts that they give; then the check against another data set."""
    st.caption("Validation chooses the best step; the verdict alone sees test. Equal rows stay together.")
    said = _asked(dataset)
    try:
        split = Split.parse(said)
    except ConfigError as error:
        show_error(error)
        return
    body = {"fingerprint": dataset["fingerprint"], "split": split.model_dump()}
    with st.spinner("Dealing the rows …"):
        dealt = reads.ask("split", json.dumps(body, sort_keys=True))
    total = sum(dealt["rows"].values())
    st.html(
        figures.facts(
            [
                (title, plural(dealt["rows"][part], "row"), quantities.share(dealt["rows"][part], total))
                for part, title in PARTS
            ]
            + [("Kept together", plural(dealt["kept_together"], "row"), "moved so that equals share a side")]
        )
    )
    for problem in dealt["problems"]:
        text = problem if isinstance(problem, str) else f"{problem['message']} {problem.get('fix', '')}"
        st.warning(plain(text.strip()), icon=":material/warning:")
    _save(dataset, said)


def _asked(dataset: dict[str, Any]) -> dict[str, Any]:
    key = f"split-{dataset['dataset_id']}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        validation = st.number_input(
            "Validation %", 0.0, 50.0, 100 * dataset["validation_size"], 1.0, "%g", key=f"{key}-validation"
        )
        test = st.number_input("Test %", 0.0, 50.0, 100 * dataset["test_size"], 1.0, "%g", key=f"{key}-test")
        seed = st.number_input("Seed", 0, 2**31 - 1, dataset["split_seed"], key=f"{key}-seed")
    return {
        "split_seed": int(seed),
        "validation_size": round(float(validation) / 100, 6),
        "test_size": round(float(test) / 100, 6),
    }


def _save(dataset: dict[str, Any], said: dict[str, Any]) -> None:
    changed = any(said[part] != dataset[part] for part in said)
    key = f"split-{dataset['dataset_id']}-save"
    pressed = st.button(
        "Save this split", type="primary", disabled=not changed, icon=":material/save:", key=key
    )
    body = {"dataset": dataset["dataset_id"], **said}
    if pressed and act("set_split", body, "The split is saved.") is not None:
        st.rerun()
    if changed:
        st.caption("Runs that are there already keep the split that they were started with.")
