"""How a data set is dealt to training, validation and test, and whether another one has rows of it."""

from __future__ import annotations

from typing import Literal, get_args

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.overlap_view import show_overlap
from pages.data.rows import asks, explore_reads
from pages.data.rows.explore_filter import label
from pages.shared import figures, quantities
from pages.shared.session import act, guarded, plain, show_error
from store.config.train_config import Split, TrainConfig
from store.contract.errors import ConfigError
from store.documents.data.split import SplitBy
from store.documents.tables.dataset import Dataset
from store.documents.tables.job import SplitFields

BY = {
    "random": "At random",
    "group": "By group: equal values stay on one side",
    "time": "By time: the newest rows are held out",
    "stratified": "Stratified: each value has its share everywhere",
    "given": "As the file says",
}
DealtPart = Literal["train", "validation", "test"]
PARTS: tuple[tuple[DealtPart, str], ...] = (
    ("train", "Training"),
    ("validation", "Validation"),
    ("test", "Test"),
)


def show_split(dataset: Dataset) -> None:
    """Shares, seed and way, editable, with the counts that they give; then the check against another set."""
    st.caption(
        "Validation chooses the best step; the verdict alone sees test. Equal rows stay together, and near"
        " duplicates too once they were measured."
    )
    with guarded():
        _show_deal(dataset)
    show_overlap(dataset)


def _show_deal(dataset: Dataset) -> None:
    settings = _asked(dataset)
    try:
        split = Split.parse(settings)
    except ConfigError as error:
        show_error(error)
        return
    with st.spinner("Dealing the rows …"):
        dealt = asks.split_counts(dataset["fingerprint"], split)
    total = sum(dealt["rows"][part] for part, _ in PARTS)
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
        text = plain(f"{problem['message']} {problem['fix']}".strip())
        if problem["level"] == "info":
            st.caption(text)
        else:
            st.warning(text, icon=":material/warning:")
    _save(dataset, settings)


def _asked(dataset: Dataset) -> SplitFields:
    key = f"split-{dataset['dataset_id']}"
    shares = st.container(horizontal=True, vertical_alignment="bottom")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ways = list(get_args(SplitBy))
        own = dataset["split_by"] or "random"
        by = st.selectbox("Split", ways, ways.index(own), format_func=BY.__getitem__, key=f"{key}-by")
        column = _column(dataset, by, key) if by not in ("random", "given") else None
    given = (dataset["stats"].get("parts") or {}) if by == "given" else {}  # the share has no effect there
    sizes = {}
    starts = {"validation": dataset["validation_size"], "test": dataset["test_size"]}
    for part, title in PARTS[1:]:
        start = 100 * starts[part]
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


def _column(dataset: Dataset, by: str, key: str) -> str | None:
    """The label, or a column of the file."""
    columns = explore_reads.rows(dataset["dataset_id"]).columns
    names = [name for name in columns if name == "label" or name.startswith("source.")]
    own = dataset["split_column"]
    place = names.index(own) if own in names else 0
    chosen: str | None = st.selectbox(
        "Column", names, place, format_func=lambda name: label(columns[name]), key=f"{key}-column-{by}"
    )
    return chosen


def _save(dataset: Dataset, settings: SplitFields) -> None:
    changed = any(setting != dataset.get(name) for name, setting in settings.items())
    key = f"split-{dataset['dataset_id']}-save"
    pressed = st.button(
        "Save this split", type="primary", disabled=not changed, icon=":material/save:", key=key
    )
    body = {"dataset": dataset["dataset_id"], **settings}
    if pressed and act("set_split", body, "The split is saved.") is not None:
        st.rerun()
    if changed:
        st.caption("Runs that are there already keep the split that they were started with.")
