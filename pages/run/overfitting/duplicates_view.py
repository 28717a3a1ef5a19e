"""What duplicates did to a run: to its gain where training repeats held-out rows, and to its memory."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.run.overfitting import memory_charts
from pages.shared import wording
from pages.shared.session import plain

Document = dict[str, Any]


def draw_duplicates(found: Document | None) -> None:
    """Leaked rows and repeated training rows, each with its effect; nothing where they weren't looked at."""
    if not found:
        return
    st.markdown("**What did duplicates do?**")
    leaks, training = found["leaks"], found["training"]
    st.markdown(plain(leaks["sentence"]))
    if leaks["rows"]:
        figure = memory_charts.leak_chart(leaks)
        st.plotly_chart(
            figure, key="duplicates-leaks", config={"displayModeBar": False},
            alt="Gain on all held-out rows, without repeated ones, and on these alone",
        )  # fmt: skip
    if not training:
        return
    st.markdown(plain(training["sentence"]))
    if training["drop"]:
        st.dataframe(
            [_kind(training, name, title) for name, title in KINDS.items()],
            hide_index=True,
            alt="Loss drop, membership and extraction of repeated training rows and of others",
        )
        st.caption(
            "Of the training rows that were measured. AUC: how well the loss tells them from held-out rows."
            " Written: nearly word for word, of those that were asked. 95% intervals."
        )


KINDS = {"repeated": "Occur more than once", "once": "Occur once"}


def _kind(training: Document, name: str, title: str) -> Document:
    areas, written = training["auc"], training["written"]
    asked = written and written[name]
    return {
        "Training rows": title,
        "n": training[name],
        "Loss fell by, nats a token": wording.estimate(training["drop"][name], sign=False),
        "AUC": wording.estimate(areas[name], sign=False) if areas else "–",
        "Written": f"{asked['rows']} of {phrasing.plural(asked['n'], 'row')}" if asked else "too few asked",
    }
