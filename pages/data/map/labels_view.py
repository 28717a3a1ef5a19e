"""Which labels look wrong: the most suspicious rows, what the others suggest, which labels are mixed up."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from engine.diagnostics.phrasing import plural
from pages.data.rows import clean_draft, explore_filter, explore_reads
from pages.data.rows.diversity_kinds import of_set
from pages.data.rows.measure_group import show_missing
from pages.shared.quantities import share
from pages.shared.session import plain
from store.config.data.filters import Condition, Filter
from store.documents.data.signal_figures import SetFigure
from store.documents.tables.dataset import Dataset
from store.queries.data.explore import DatasetTable, Sort, TablePage, filter_json

SHOWN = 12
SUSPECTS = Filter(conditions=[Condition(column="label_suspect", op="is", value=True)])
STEPS = {
    "suggested": ("Take the suggested labels", ":material/auto_fix_high:"),
    "drop": ("Drop the suspected rows", ":material/delete_sweep:"),
}


def show_labels(dataset: Dataset, rows: DatasetTable) -> None:
    """A button to measure, or the suspects."""
    if "labels" not in rows.measured:
        show_missing(
            dataset,
            "labels",
            "Look for wrong labels",
            "Each row gets the label that the other rows suggest, out of fold, and rows whose own label looks"
            " wrong are ranked. 10,000 rows take about 20 seconds.",
        )
        return
    set_figures = of_set(rows.measured["labels"]["figures"])
    suspects = set_figures["confused"]["n"]
    st.markdown(_summary(set_figures, suspects))
    if not suspects:
        return
    dataset_id = dataset["dataset_id"]
    _buttons(dataset_id, suspects)
    wide, narrow = st.columns([5, 3], gap="medium")
    with wide:
        _suspects(dataset_id, rows, suspects)
    with narrow:
        _confused(set_figures["confused"])


def _summary(set_figures: Mapping[str, SetFigure], suspects: int) -> str:
    accuracy, unjudged = set_figures["accuracy"], set_figures["unjudged"]
    sentence = (
        f"**{plural(suspects, 'suspected label error')}** in {accuracy['n']:,} rows"
        f" ({share(suspects, accuracy['n'])}; up to 3% is healthy)."
    )
    if accuracy["value"] is not None:
        sentence += (
            f" The other rows suggest the given label for {share(accuracy['value'], 1)} of the rows;"
            " where that is low, suspects are less sure."
        )
    if unjudged["value"]:
        parts = []
        if unjudged["without_label"]:
            parts.append(f"{unjudged['without_label']:,} without a label")
        if unjudged["rare_labels"]:
            rare = ", ".join(str(name) for name in unjudged["examples"][:5])
            parts.append(
                f"those of {plural(unjudged['rare_labels'], 'label')} too rare to judge ({plain(rare)})"
            )
        sentence += f" Not judged: {plural(int(unjudged['value']), 'row')}, {' and '.join(parts)}."
    return sentence


def _buttons(dataset_id: str, suspects: int) -> None:
    with st.container(horizontal=True, gap="small"):
        st.button(
            f"Show the {suspects:,} in the table",
            icon=":material/filter_alt:",
            key=f"labels-filter-{dataset_id}",
            on_click=explore_filter.show_in_table,
            args=(dataset_id, SUSPECTS),
        )
        for action, (title, icon) in STEPS.items():
            step = {"step": "label_errors", "action": action}
            added = clean_draft.holds(dataset_id, [step])
            pressed = st.button(
                "In the recipe" if added else title,
                icon=":material/check:" if added else icon,
                key=f"labels-{action}-{dataset_id}",
                disabled=added,
                help="Adds a step to the recipe under Clean",
            )
            if pressed:
                clean_draft.add(dataset_id, [step])
                st.toast("It is in the recipe under Clean.", icon=":material/check:")
                st.rerun()


def _suspects(dataset_id: str, rows: DatasetTable, suspects: int) -> None:
    names = ("label_rank", "label", "label_suggested", "label_confidence", "prompt")
    part = TablePage(names, Sort("label_rank"), limit=SHOWN)
    first = explore_reads.page(dataset_id, filter_json(SUSPECTS), part, explore_reads.stamp(rows))
    st.dataframe(
        first,
        hide_index=True,
        column_order=("prompt", "label", "label_suggested", "label_confidence", "row_id"),
        column_config={
            "prompt": st.column_config.TextColumn("Text", width=210),
            "label": st.column_config.TextColumn("Given", width=130),
            "label_suggested": st.column_config.TextColumn("Suggested", width=130),
            "label_confidence": st.column_config.NumberColumn(
                "Sure",
                width=60,
                format="percent",
                help="How sure the other rows are of the given label (its out-of-fold probability)",
            ),
            "row_id": st.column_config.NumberColumn("Row", width="small", format="localized"),
        },
        alt="The most suspicious labels",
    )
    if suspects > SHOWN:
        st.caption(f"The {SHOWN} most suspicious of {suspects:,}.")


def _confused(confused: SetFigure) -> None:
    st.dataframe(
        [{"Rows": rows, "Given": given, "Suggested": other} for given, other, rows in confused["pairs"]],
        hide_index=True,
        column_config={
            "Rows": st.column_config.NumberColumn(width=50, format="localized"),
            "Given": st.column_config.TextColumn(width=130),
            "Suggested": st.column_config.TextColumn(width=130),
        },
        alt="Labels that are mixed up",
    )
    st.caption(f"Labels that are mixed up: {confused['value']:,} of the {confused['n']:,} suspects.")
