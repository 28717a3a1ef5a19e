"""How diverse a data set is, beside its map: each figure with what it rests on, and its band."""

from __future__ import annotations

import html

import streamlit as st

from engine.diagnostics.phrasing import number
from pages.data.rows.diversity_kinds import KINDS, Figure, Kind, band, half_sentence, judged, of_set
from pages.shared import figures
from pages.shared.quantities import count
from store.queries.data.explore import Rows


def show_diversity(rows: Rows) -> None:
    """What a random half would keep, then the figures."""
    found = of_set(rows.measured["map"]["figures"])
    st.markdown("**How diverse is it?**")
    duplicates = rows.measured.get("duplicates", {}).get("figures", {}).get("near_group")
    if sentence := half_sentence(found, duplicates):
        st.markdown(sentence)
    st.html(figures.STYLE + "".join(tile(kind, found[kind.name]) for kind in KINDS if kind.name in found))


def tile(kind: Kind, figure: Figure) -> str:
    """Title, value, interval and n, band, and what being outside of it means, as HTML."""
    value = figure["value"]
    if value is None:
        shown, state, note = "–", "", "too few rows to say"
    else:
        shown = number(kind.scale * value, kind.places) + ("%" if kind.scale == 100 else "")
        state, note = judged(kind, value)
        if figure.get("low") is not None:
            low, high = (number(kind.scale * figure[side], kind.places) for side in ("low", "high"))
            shown += f" ({low} to {high})"
    rests = f"n = {count(figure['n'])} {figure.get('unit', 'rows')}"
    color = {"good": figures.TEAL, "warn": figures.AMBER}.get(state)
    dot = f"<span style='color:{color}' title='{state}'>●</span> " if color else ""
    note_of = f" “{figure['template']}” {rests}" if figure.get("template") else f" {rests}"
    means = ". ".join(part for part in (kind.means, band(kind)) if part)
    return (
        "<div style='margin-bottom:.7rem'>"
        f"<div class='tb-name'>{dot}{html.escape(kind.title)}</div>"
        f"<div class='tb-value'>{html.escape(shown)}"
        f"<span class='tb-note' style='font-weight:400'>{html.escape(note_of)}</span></div>"
        f"<div class='tb-note'>{html.escape(means)}</div>"
        + (f"<div class='tb-note'><b>{html.escape(note)}</b></div>" if note else "")
        + "</div>"
    )
