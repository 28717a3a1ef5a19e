"""One evaluation in depth: figures, classes, slices, against another one, and row by row."""

from __future__ import annotations

import streamlit as st

from pages.bias.bias_groups import draw_groups
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_classes import draw_classes
from pages.evaluations.evaluation_compare import draw_comparison
from pages.evaluations.evaluation_figures import draw_figures
from pages.evaluations.evaluation_rows import draw_rows
from pages.evaluations.evaluation_slices import draw_slices
from pages.people import activity_reads, comments_view
from pages.people.activity_lines import draw_last
from pages.shared import quantities
from pages.shared.session import act, may, plain
from store.documents.evaluations.evaluation import Evaluation


def draw_delete(evaluation: Evaluation) -> bool:
    """A button that asks once more, for members; whether it was deleted."""
    if not may("work"):
        return False
    own = evaluation["evaluation_id"]
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown("Its rows, scores and figures are removed; the model stays.")
        pressed = st.button("Delete this evaluation", key=f"evaluation-delete-{own}")
    return pressed and act("delete", {"job": own}, "The evaluation is deleted.") is not None


def draw_detail(evaluation: Evaluation) -> None:
    """All of it, from what matters most down to single rows, and what people say of it."""
    if maker := activity_reads.maker(evaluation["created_by"]):
        st.caption(f"Asked for by {plain(maker)}, {quantities.ago(evaluation['created_at'])}")
    if evaluation["notes"]:
        st.caption(plain(evaluation["notes"]))
    draw_figures(evaluation)
    draw_classes(evaluation)
    st.markdown("**Against another evaluation, on the same rows**")
    draw_comparison(evaluation)
    st.markdown("**Slices**: where it is better or worse than on the other rows")
    draw_slices(evaluation)
    st.markdown("**Groups**: are they served alike?")
    draw_groups(evaluation["evaluation_id"], evaluation_reads.comparable(evaluation["evaluation_id"]))
    st.markdown("**Row by row**")
    draw_rows(evaluation)
    own = evaluation["evaluation_id"]
    comments_view.draw("evaluation", own)
    draw_last("evaluation", own)
