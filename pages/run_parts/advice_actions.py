"""What a piece of advice can be done with, by one click: launched as it is, or looked at in the form first.

A piece is {text, change, kind?}; where its kind needs no training, the click leads to what takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import streamlit as st

from pages.run_parts.config_values import as_text
from pages.run_parts.launch_from import cloned
from pages.shared.session import act, may, plain
from pages.shared.tabs import BETWEEN, LINK
from store.documents.verdicts.forgetting import AdvicePiece, SettingValue


def draw_advice(piece: AdvicePiece, run_id: str, key: str) -> None:
    """One piece with its buttons; `key` tells them apart."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/lightbulb: {plain(piece['text'])}", width="stretch")
        if piece.get("kind") == "interpolation":
            _draw_mix(run_id, key)
        elif piece["change"] and may("work"):
            _draw_launch(piece, run_id, key)


def _draw_launch(piece: AdvicePiece, run_id: str, key: str) -> None:
    changed = changes(piece["change"])
    if st.button(
        "Launch it",
        icon=":material/rocket_launch:",
        key=f"{key}-launch",
        help=f"Starts this run once more with {plain(changed)}; all else stays. It is drawn beside this one.",
    ):
        with st.spinner("Checking rows, memory and settings …"):
            answer = act("launch", cloned(run_id, piece["change"]))
        if answer is not None:
            st.switch_page("pages/run/run.py", query_params={"run": answer["run_id"]})
    if st.button(
        "Edit", icon=":material/tune:", key=key, type="tertiary", help="Opens the form with this changed."
    ):
        link = {"from": run_id, "change": json.dumps(piece["change"])}
        st.switch_page("pages/launch/launch.py", query_params=link)


def _draw_mix(run_id: str, key: str) -> None:
    if st.button(
        "Mix it",
        icon=":material/linear_scale:",
        key=key,
        help="Scores models between this one and its base: minutes, and nothing is trained.",
    ):
        st.switch_page("pages/run/run.py", query_params={"run": run_id, LINK: BETWEEN})


def changes(change: Mapping[str, SettingValue | None]) -> str:
    """Fields with their new values: "learning_rate 0.00007, replay_share 0.05"."""
    words = {True: "on", False: "off"}
    return ", ".join(
        f"{name} {words[value] if isinstance(value, bool) else as_text(value)}"
        for name, value in change.items()
        if value is not None  # left to the default
    )
