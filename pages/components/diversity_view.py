"""How diverse a data set is, beside its map: each figure with what it rests on, and its band if it has one.

Most of these numbers have no right value: they compare two versions of a set, or two sets of a kind.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from engine.diagnostics.phrasing import number
from pages.components import figures
from pages.components.quantities import count
from store.explore import Rows

Figure = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """scale: 100 shows a share in per cent. healthy: [low, high), None for no bound."""

    name: str
    title: str
    means: str
    scale: int = 1
    places: int = 2
    healthy: tuple[float | None, float | None] | None = None
    below: str = ""
    above: str = ""


KINDS = (
    Kind(
        "vendi",
        "Diversity (Vendi score)",
        "How many rows without anything in common would be as diverse",
        places=1,
    ),
    Kind("cluster_entropy", "Balance of topics", "1 where all topics are equally frequent", places=2),
    Kind(
        "top_template",
        "Most frequent beginning",
        "Share of the rows that begin with the same words",
        scale=100,
        places=0,
        healthy=(None, 0.1),
        above="The model learns the template rather than the task.",
    ),
    Kind(
        "compression",
        "Compressed size",
        "gzip, as a share of the raw text",
        places=2,
        healthy=(0.3, 0.5),
        below="The text repeats itself.",
        above="The text is unlike prose: codes, numbers, or many languages.",
    ),
    Kind("distinct_1", "Distinct words", "Share of the words that are different", scale=100, places=1),
    Kind("distinct_2", "Distinct word pairs", "Share of the pairs that are different", scale=100, places=1),
    Kind(
        "self_bleu", "Self-BLEU", "How well a row is predicted by the others; lower is more diverse", places=2
    ),
)


def show_diversity(rows: Rows) -> None:
    """What a random half would keep, then the figures."""
    found = of_set(rows.measured["map"]["figures"])
    st.markdown("**How diverse is it?**")
    if sentence := half_sentence(found):
        st.markdown(sentence)
    st.html(figures.STYLE + "".join(tile(kind, found[kind.name]) for kind in KINDS if kind.name in found))


def of_set(measured: Mapping[str, Any]) -> dict[str, Figure]:
    """The figures of the set as a whole, by name."""
    return {name.removeprefix("set."): value for name, value in measured.items() if name.startswith("set.")}


def half_sentence(found: Mapping[str, Figure]) -> str:
    """What a random half of the rows keeps, with the range over the halves; "" where unknown."""
    names = {"half_loss_topics": "topics", "half_loss_pairs": "word pairs", "half_loss": "coverage"}
    known = {name: found[name] for name in names if found.get(name, {}).get("value") is not None}
    if not known:
        return ""
    parts = []
    for name, figure in known.items():
        low, high = (round(100 * (1 - figure[side])) for side in ("high", "low"))
        kept = f"{low}%" if low == high else f"{low} to {high}%"
        parts.append(f"**{kept}** of the {names[name]}")
    first = next(iter(known.values()))
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    rows = " or ".join(f"{n:,}" for n in sorted({figure["n"] for figure in known.values()}, reverse=True))
    halves = f"{first['repeats']} random halves of {rows} rows"
    return f"A random half of the rows keeps {listed} ({halves}). {_advice(known)}".strip()


def _advice(known: Mapping[str, Figure]) -> str:
    coverage = known.get("half_loss")
    if coverage is None:
        return ""
    if coverage["value"] < 0.05:
        return "Half would do nearly as well: more rows of this kind add little."
    if coverage["value"] < 0.2:
        return "Rows overlap somewhat; more of the same kind add a little."
    return "Rows overlap little: each one adds something."


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
    return (
        "<div style='margin-bottom:.7rem'>"
        f"<div class='tb-name'>{dot}{html.escape(kind.title)}</div>"
        f"<div class='tb-value'>{html.escape(shown)}"
        f"<span class='tb-note' style='font-weight:400'>{html.escape(note_of)}</span></div>"
        f"<div class='tb-note'>{html.escape(kind.means)}{html.escape(_band(kind))}</div>"
        + (f"<div class='tb-note'><b>{html.escape(note)}</b></div>" if note else "")
        + "</div>"
    )


def judged(kind: Kind, value: float) -> tuple[str, str]:
    """("good" | "warn" | "" where there is no band, what it means)."""
    if kind.healthy is None:
        return "", ""
    low, high = kind.healthy
    if low is not None and value < low:
        return "warn", kind.below
    if high is not None and value > high:
        return "warn", kind.above
    return "good", ""


def _band(kind: Kind) -> str:
    if kind.healthy is None:
        return ""
    unit = "%" if kind.scale == 100 else ""
    low, high = (None if side is None else f"{kind.scale * side:g}{unit}" for side in kind.healthy)
    return f". Healthy: {f'{low} to {high}' if low else f'up to {high}'}"
