"""The findings as cards, each with the rows it means and a button that adds its fix to the recipe."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from engine.diagnostics.data.findings import Checked, Finding, checked, findings
from engine.diagnostics.phrasing import plural
from pages.data.clean.clean_rows import show_found
from pages.data.rows import clean_draft, clean_reads
from pages.data.rows.clean_draft import StepDocument
from pages.data.rows.measure_group import measurable, show_measuring
from pages.shared.session import act, may, plain
from store.catalog.signals import GROUPS
from store.documents.tables.dataset import Dataset

BADGES = {
    "serious": ":red-badge[:material/priority_high: Serious]",
    "notable": ":orange-badge[:material/warning: Notable]",
    "minor": ":gray-badge[:material/info: Minor]",
    "look": ":blue-badge[:material/visibility: Look at these]",
}


def show_findings(dataset: Dataset) -> None:
    """What is wrong, the most serious first; else what was checked, and what was not measured yet."""
    measured = clean_reads.signals(dataset["fingerprint"])
    working = clean_reads.measuring(dataset["dataset_id"])
    dataset_findings = findings(dataset, measured, GROUPS)
    state = checked(measured, measurable(dataset))
    st.subheader(plural(len(dataset_findings), "finding") if dataset_findings else "Findings", anchor=False)
    if working:
        show_measuring(dataset["dataset_id"], len(working))
    elif not measured:
        st.markdown("Nothing was measured yet: measure now, and see what is wrong with these rows.")
        if st.button("Measure now", type="primary", icon=":material/speed:", key="clean-measure"):
            _measure(dataset["dataset_id"], [g.name for g in GROUPS.values() if g.automatic])
    for finding in dataset_findings:
        _card(dataset, finding)
    if measured and not dataset_findings:
        st.success(
            f"Nothing lies outside its healthy band. {plural(len(state.signals), 'signal')} checked"
            f" on {plural(dataset['row_count'], 'row')}.",
            icon=":material/check_circle:",
        )
    if measured:
        _what_was_checked(dataset, state)


def _card(dataset: Dataset, finding: Finding) -> None:
    dataset_id, key = dataset["dataset_id"], f"finding-{finding.column}"
    with st.container(border=True, gap="xsmall", key=key):
        st.markdown(f"**{plain(finding.title)}**  \n{BADGES[finding.severity]} {plain(finding.measure)}")
        st.caption(plain(finding.why), help=plain(finding.severity_reason))
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            for index, fix in enumerate(finding.fixes):
                added = clean_draft.holds(dataset_id, fix.steps)
                st.button(
                    "In the recipe" if added else fix.label,
                    icon=":material/check:" if added else ":material/add:" if index else ":material/build:",
                    type="secondary" if index == 0 and finding.severity != "look" else "tertiary",
                    disabled=added,
                    key=f"fix-{finding.column}-{index}",
                    on_click=_add,
                    args=(dataset_id, fix.steps),
                )
            likely: Literal["secondary", "tertiary"] = (
                "secondary" if finding.severity == "look" else "tertiary"
            )
            if st.button("Show rows", icon=":material/table_rows:", type=likely, key=f"show-{key}"):
                show_found(dataset, finding)


def _add(dataset_id: str, steps: tuple[StepDocument, ...]) -> None:
    """Callback of a fix; what it did is said, since the recipe may be out of sight on a phone."""
    clean_draft.add(dataset_id, steps)
    count = plural(len(clean_draft.steps(dataset_id)), "step")
    st.toast(f"Added. The recipe has {count}.", icon=":material/check:")


def _what_was_checked(dataset: Dataset, state: Checked) -> None:
    names = ", ".join(state.signals)
    with st.expander(f"{plural(len(state.signals), 'signal')} checked", icon=":material/fact_check:"):
        st.caption(plain(f"{names}."))
    missing = [group for group in GROUPS.values() if group.title in state.missing]
    if not missing or not may("work"):
        return
    st.caption(f"Not measured yet: {plain(', '.join(group.title for group in missing))}.")
    chosen = st.selectbox(
        "Measure",
        [group.name for group in missing],
        None,
        format_func=lambda name: GROUPS[name].title,
        placeholder="Measure more",
        label_visibility="collapsed",
        key=f"clean-more-{dataset['dataset_id']}",
    )
    if chosen and st.button("Measure", icon=":material/speed:", key="clean-more"):
        _measure(dataset["dataset_id"], [chosen])


def _measure(dataset_id: str, groups: list[str]) -> None:
    asked = [act("profile", {"dataset": dataset_id, "group": group}) for group in groups]
    if any(answer is not None for answer in asked):
        st.rerun()
