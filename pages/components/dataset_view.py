"""One data set: its figures, rows, split and skipped rows, and the form to rename or remove it."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.components import figures, quantities, reads
from pages.components.dataset_list import back_to_list
from pages.components.dataset_rows import show_rows
from pages.components.import_progress import account, show_skipped
from pages.components.session import act, guarded, plain, show_error
from store.config import Split
from store.errors import ConfigError
from store.formats import FORMATS


def show_dataset(dataset: dict[str, Any]) -> None:
    """The page of one data set."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.title(plain(dataset["name"]), anchor=False, width="content")
        if st.button("Fine-tune on this", type="primary", icon=":material/rocket_launch:"):
            st.switch_page("pages/launch.py", query_params={"dataset": dataset["dataset_id"]})
    back_to_list()
    st.html(figures.facts(_figures(dataset)))
    rows, split, skipped, settings = st.tabs(
        [
            ":material/table_rows: Rows",
            ":material/call_split: Split",
            f":material/block: Skipped ({dataset['skipped_count']:,})",
            ":material/settings: Name and removal",
        ],
        key=f"dataset-tabs-{dataset['dataset_id']}",
        on_change="rerun",
    )
    for tab, draw in ((rows, show_rows), (split, _split), (skipped, _skipped), (settings, _settings)):
        if tab.open:
            with tab, guarded():
                draw(dataset)


def _figures(dataset: dict[str, Any]) -> list[tuple[str, str, str]]:
    stats = dataset["stats"]
    shown = account(dataset)
    shown.append(("Format", FORMATS[dataset["format"]].title, quantities.size(dataset["source_bytes"])))
    characters = stats.get("characters") or {}
    if characters:
        shown.append(
            (
                "Length of a row",
                f"{characters['median']:,.0f} characters",
                f"half are shorter; 5% are over {characters['p95']:,.0f}",
            )
        )
    if stats.get("label_count"):
        common = ", ".join(list(stats["labels"])[:3])
        shown.append(("Labels", f"{stats['label_count']:,}", f"most frequent: {common}"))
    version = f"version {dataset['fingerprint'][:8]}"
    return [*shown, ("Imported", quantities.ago(dataset["created_at"]), version)]


def _split(dataset: dict[str, Any]) -> None:
    """Shares and seed, editable, with the counts that they give."""
    st.caption("Validation chooses the best step; the verdict alone sees test. Equal rows stay together.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = f"split-{dataset['dataset_id']}"
        validation = st.number_input(
            "Validation %", 0.0, 50.0, 100 * dataset["validation_size"], 1.0, "%g", key=f"{key}-validation"
        )
        test = st.number_input("Test %", 0.0, 50.0, 100 * dataset["test_size"], 1.0, "%g", key=f"{key}-test")
        seed = st.number_input("Seed", 0, 2**31 - 1, dataset["split_seed"], key=f"{key}-seed")
    said = {
        "split_seed": int(seed),
        "validation_size": round(float(validation) / 100, 6),
        "test_size": round(float(test) / 100, 6),
    }
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
                for part, title in (("train", "Training"), ("validation", "Validation"), ("test", "Test"))
            ]
            + [("Kept together", plural(dealt["kept_together"], "row"), "moved so that equals share a side")]
        )
    )
    for problem in dealt["problems"]:
        text = problem if isinstance(problem, str) else f"{problem['message']} {problem.get('fix', '')}"
        st.warning(plain(text.strip()), icon=":material/warning:")
    changed = any(said[part] != dataset[part] for part in said)
    pressed = st.button(
        "Save this split", type="primary", disabled=not changed, icon=":material/save:", key=f"{key}-save"
    )
    body = {"dataset": dataset["dataset_id"], **said}
    if pressed and act("set_split", body, "The split is saved.") is not None:
        st.rerun()
    if changed:
        st.caption("Runs that are there already keep the split that they were started with.")


def _skipped(dataset: dict[str, Any]) -> None:
    if dataset["skipped_count"]:
        show_skipped(dataset)
    else:
        st.caption("Every row of the file was read.")


def _settings(dataset: dict[str, Any]) -> None:
    dataset_id = dataset["dataset_id"]
    with st.form(f"rename-{dataset_id}", border=False):
        name = st.text_input("Name", value=dataset["name"], max_chars=80)
        renamed = st.form_submit_button("Rename", icon=":material/edit:")
    if renamed and act("rename_dataset", {"dataset": dataset_id, "name": name}, "Renamed.") is not None:
        st.rerun()
    st.space("small")
    st.markdown("**Remove this data set**")
    st.caption("Its rows are deleted from this machine. That is refused while a run uses them.")
    sure = st.checkbox("I want to delete it for good", key=f"delete-sure-{dataset_id}")
    pressed = st.button("Delete", icon=":material/delete:", disabled=not sure, key=f"delete-{dataset_id}")
    if pressed and act("delete_dataset", {"dataset": dataset_id}, "The data set is deleted.") is not None:
        st.switch_page("pages/data_sets.py")
