"""How a data set is dealt to training, validation and test, and whether another one has rows of it."""

from __future__ import annotations

import json
from typing import Any, get_args

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.overlap_view import show_overlap
from pages.data.rows import explore_reads
from pages.data.rows.explore_filter import label
from pages.shared import figures, quantities, reads
from pages.shared.session import act, guarded, plain, show_error
from store.config.train_config import Split, SplitBy, TrainConfig
from store.contract.errors import ConfigError

BY = {
    "random": "At random",
    "group": "By group: equal values stay on one side",
    "time": "By time: the newest rows are held out",
    "stratified": "Stratified: each value has its share everywhere",
    "given": "As the file says",
}
PARTS = (("train", "Training"), ("validation", "Validation"), ("test", "Test"))


def show_split(dataset: dict[str, Any]) -> None:
    """Shares, seed and way, editable, with the counts that they give; then the check against another set."""
    st.caption(
        "Validation chooses the best step; the verdict alone sees test. Equal rows stay together, and near"
        " duplicates too once they were measured."
    )
    with guarded():
        _show_deal(dataset)
    show_overlap(dataset)


def _show_deal(dataset: dict[str, Any]) -> None:
    settings = _asked(dataset)
    try:
        split = Split.parse(settings)
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
    most = TrainConfig.model_fields["max_eval_rows"].default
    if max(dealt["rows"]["validation"], dealt["rows"]["test"]) > most:
        st.caption(
            f"A run judges itself on {most:,} rows of a part at most, unless its max_eval_rows says more."
        )
    for problem in dealt["problems"]:
        text = problem if isinstance(problem, str) else f"{problem['message']} {problem.get('fix', '')}"
        if isinstance(problem, dict) and problem["level"] == "info":
            st.caption(plain(text.strip()))
        else:
            st.warning(plain(text.strip()), icon=":material/warning:")
    _save(dataset, settings)


def _asked(dataset: dict[str, Any]) -> dict[str, Any]:
    key = f"split-{dataset['dataset_id']}"
    shares = st.container(horizontal=True, vertical_alignment="bottom")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ways = list(get_args(SplitBy))
        own = dataset["split_by"] or "random"
        by = st.selectbox("Split", ways, ways.index(own), format_func=BY.__getitem__, key=f"{key}-by")
        column = _column(dataset, by, key) if by not in ("random", "given") else None
    given = (dataset["stats"].get("parts") or {}) if by == "given" else {}  # the share has no effect there
    sizes = {}
    for part, title in PARTS[1:]:
        start = 100 * dataset[f"{part}_size"]
        sizes[part] = shares.number_input(
            f"{title} %", 0.0, 50.0, start, 1.0, "%g", key=f"{key}-{part}", disabled=part in given
        )
    seed = shares.number_input("Seed", 0, 2**31 - 1, dataset["split_seed"], key=f"{key}-seed")
    return {
        "split_seed": int(seed),
        "validation_size": round(float(sizes["validation"]) / 100, 6),
        "test_size": round(float(sizes["test"]) / 100, 6),
        "split_by": by,
        "split_column": column,
    }


def _column(dataset: dict[str, Any], by: str, key: str) -> str | None:
    """The label, or a column of the file."""
    columns = explore_reads.rows(dataset["dataset_id"]).known
    names = [name for name in columns if name == "label" or name.startswith("source.")]
    own = dataset["split_column"]
    place = names.index(own) if own in names else 0
    chosen: str | None = st.selectbox(
        "Column", names, place, format_func=lambda name: label(columns[name]), key=f"{key}-column-{by}"
    )
    return chosen


def _save(dataset: dict[str, Any], settings: dict[str, Any]) -> None:
    changed = any(settings[part] != dataset[part] for part in settings)
    key = f"split-{dataset['dataset_id']}-save"
    pressed = st.button(
        "Save this split", type="primary", disabled=not changed, icon=":material/save:", key=key
    )
    body = {"dataset": dataset["dataset_id"], **settings}
    if pressed and act("set_split", body, "The split is saved.") is not None:
        st.rerun()
    if changed:
        st.caption("Runs that are there already keep the split that they were started with.")
