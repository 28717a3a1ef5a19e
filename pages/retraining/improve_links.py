"""Links from other pages to the improvement of a model: from rows of an endpoint, a round or a slice to
its form, and to improvements that wait for a decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from pages.registry.model_links import PAGE, build_improve_query
from pages.registry.registration import list_model_names, list_registered_versions
from pages.retraining import retraining_queries
from pages.serving.calling import list_subjects
from pages.shared import display, palette
from pages.shared.features import NewRows
from pages.shared.session import escape_markdown, has_right, show_errors
from store.core.formatting import plural
from store.core.version_folders import is_reference
from store.retraining.schemas import Improvement

IMPROVEMENT = "improvement"  # link parameter: id of an improvement


def _draw_link(model: str, label: str, **rows: str) -> None:
    st.page_link(
        PAGE, label=label, icon=":material/autorenew:", query_params=build_improve_query(model, **rows)
    )


def draw_row_use(rows: NewRows) -> None:
    """Draw a link for each registered model whose answers the rows contain."""
    names = _list_named_models(rows.models)
    for run_id in rows.run_ids:
        names += [line.name for line in list_registered_versions(run_id)]
    for name in dict.fromkeys(names):
        _draw_link(name, rows.label.format(escape_markdown(name)), **rows.query)


def draw_slice_use(dataset_id: str, slice_id: str) -> None:
    """Draw a link from a saved slice; the model is selected on the linked page."""
    if has_right("work") and list_model_names():
        st.page_link(
            PAGE, label="Improve a model with these rows", icon=":material/autorenew:",
            query_params={"dataset": dataset_id, "slice": slice_id},
        )  # fmt: skip


def list_settings_models(settings: Mapping[str, Any]) -> list[str]:
    """Names of the registered models served according to an endpoint's settings."""
    return _list_named_models(list_subjects(settings))


def _list_named_models(subjects: Iterable[str]) -> list[str]:
    names = (subject.rpartition("@")[0] for subject in subjects if is_reference(subject))
    return list(dict.fromkeys(names))


SHOWN_IMPROVEMENTS = 3
KEY = "improvements-waiting"
STYLE = f"<style>.st-key-{KEY} {{border-left: 4px solid {palette.TRAIN}}}</style>"
GATE_ANSWERS = {
    "passed": "passed on old and new rows",
    "failed": "checks failed",
    "cant_tell": "checks inconclusive",
}


def draw_pending_improvements() -> None:
    """Draw improvements that wait for a decision, newest first."""
    with show_errors():
        waiting = retraining_queries.list_improvements_in(("deciding",))[::-1]
        if not waiting:
            return
        st.html(STYLE)
        with st.container(border=True, gap="small", key=KEY):
            verb = "waits" if len(waiting) == 1 else "wait"
            count = plural(len(waiting), "improvement")
            st.markdown(f"#### :orange[:material/how_to_reg:] {count} {verb} for your decision")
            for improvement in waiting[:SHOWN_IMPROVEMENTS]:
                _draw_improvement(improvement)
            if len(waiting) > SHOWN_IMPROVEMENTS:
                st.caption(
                    f"Showing the newest {SHOWN_IMPROVEMENTS} of {len(waiting)}; the others are on their "
                    "models' pages."
                )


def _draw_improvement(improvement: Improvement) -> None:
    facts = improvement.facts
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        label = f"**{escape_markdown(improvement.name)}**"
        _draw_link(improvement.model_id, label, **{IMPROVEMENT: improvement.improvement_id})
        reference, holder = facts.get("version", ""), facts.get("holder", "")
        beside = f"{reference} in place of {holder}" if holder else reference
        answer = GATE_ANSWERS[facts["gate"].answer] if "gate" in facts else ""
        since = f"since {display.format_ago(improvement.changed_at)}"
        words = ", ".join(part for part in (beside, answer, since) if part)
        st.markdown(f":gray[{escape_markdown(words)}]", width="content")
