"""How a data set is dealt to training, validation and test, and whether another one has rows of it."""

from __future__ import annotations

from typing import Literal, get_args

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.overlap_view import show_overlap
from pages.data.rows import asks, explore_reads
from pages.data.rows.explore_filter import label
from pages.data.split_leaks import show_mending
from pages.people.edits import FieldEdit
from pages.shared import figures, quantities
from pages.shared.session import guarded, plain, show_error
from store.config.training.train_config import Split, TrainConfig, fields_of
from store.contract.errors import ConfigError
from store.documents.data.split import SplitBy
from store.documents.tables.dataset import Dataset
from store.documents.tables.job_order import SplitFields

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
TITLES = {
    "split_by": "Split",
    "split_column": "Column",
    "validation_size": "Validation",
    "test_size": "Test",
    "split_seed": "Seed",
}


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
    edit = FieldEdit(f"split-{dataset['dataset_id']}", _present(dataset), whole=True)
    settings = _asked(dataset, edit)
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
    if edit.seen["split_by"] == settings["split_by"] == "given" and dealt["leaking_rows"]:
        show_mending(dataset, dealt, edit, settings)
    _save(dataset, edit, settings)


def _asked(dataset: Dataset, edit: FieldEdit) -> SplitFields:
    shares = st.container(horizontal=True, vertical_alignment="bottom")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ways = list(get_args(SplitBy))
        own = edit.seen["split_by"] or "random"
        by = st.selectbox(
            "Split", ways, ways.index(own), format_func=BY.__getitem__, key=edit.widget_key("split_by")
        )
        column = _column(dataset, by, edit) if by not in ("random", "given") else None
    given = (dataset["stats"].get("parts") or {}) if by == "given" else {}  # the share has no effect there
    sizes = {}
    for part, title in PARTS[1:]:
        field = f"{part}_size"
        start = 100 * edit.seen[field]
        sizes[part] = shares.number_input(
            f"{title} %", 0.0, 50.0, start, 1.0, "%g", key=edit.widget_key(field), disabled=part in given
        )
    seed = shares.number_input(
        "Seed", 0, 2**31 - 1, edit.seen["split_seed"], key=edit.widget_key("split_seed")
    )
    return {
        "split_seed": int(seed),
        "validation_size": round(float(sizes["validation"]) / 100, 6),
        "test_size": round(float(sizes["test"]) / 100, 6),
        "split_by": by,
        "split_column": column,
    }


def _column(dataset: Dataset, by: str, edit: FieldEdit) -> str | None:
    """The label, or a column of the file."""
    columns = explore_reads.rows(dataset["dataset_id"]).columns
    names = [name for name in columns if name == "label" or name.startswith("source.")]
    own = edit.seen["split_column"]
    place = names.index(own) if own in names else 0
    key = f"{edit.widget_key('split_column')}-{by}"
    chosen: str | None = st.selectbox(
        "Column", names, place, format_func=lambda name: label(columns[name]), key=key
    )
    return chosen


def _save(dataset: Dataset, edit: FieldEdit, settings: SplitFields) -> None:
    changed = edit.changed(settings)
    pressed = st.button(
        "Save this split",
        type="primary",
        disabled=not changed,
        icon=":material/save:",
        key=f"split-{dataset['dataset_id']}-save",
    )
    mine = edit.take_mine(TITLES, settings, _words)
    body = {"dataset": dataset["dataset_id"]}
    if (pressed or mine) and edit.save("set_split", body, settings, "The split is saved."):
        st.rerun()
    if changed:
        st.caption("Runs that are there already keep the split that they were started with.")


def _words(value: object) -> str:
    """A field's value, for who has to choose between two."""
    if isinstance(value, float):
        return f"{100 * value:g}%"
    return BY.get(str(value), "none" if value is None else str(value))


def _present(dataset: Dataset) -> SplitFields:
    """How the data set is dealt now."""
    fields = fields_of(dataset)
    return {**fields, "split_by": fields["split_by"] or "random"}
