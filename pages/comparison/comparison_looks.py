"""The line under a comparison that says how often runs were compared on the same rows. Drawing it records the
comparison, once for each set of runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.evaluation.comparison.evaluation_text import describe_looks
from pages.shared.cached_queries import CALM
from pages.shared.session import cached, get_client, show_errors
from store.core.documents import parse_document
from store.evaluation.schemas import ComparisonLooks
from store.http.schemas import ComparisonRecorded


@cached(CALM, max_entries=64)
def record_comparison(run_ids: tuple[str, ...]) -> list[ComparisonLooks]:
    """Record that these runs are compared, and return the looks at each set of rows that they share."""
    answer = get_client().command("record_comparison", {"runs": list(run_ids)})
    return parse_document(ComparisonRecorded, answer)["looks"]


def draw_looks(run_ids: Sequence[str]) -> None:
    """Draw the line, for each set of rows that was looked at more than once."""
    if len(run_ids) < 2:
        return
    with show_errors():  # the comparison stays readable when its look can't be recorded
        for looks in record_comparison(tuple(sorted(run_ids))):
            if sentence := describe_looks(looks):
                st.caption(f":material/visibility: {sentence}")
