"""What stands for a run everywhere: its chip (colour and name), the badge of its status, and its verdict.

Names and messages are escaped wherever they are drawn, as Markdown or as HTML.
"""

from __future__ import annotations

from typing import TypedDict

import streamlit as st

from pages.run_parts.advice_actions import draw_advice
from pages.run_parts.class_numbers import drawn_gain
from pages.shared import charts, palette, wording
from pages.shared.session import plain
from pages.shared.tabs import LINK
from pages.shared.wording import Status
from store.documents.verdicts.forgetting import Forgetting, UnitEstimate
from store.documents.verdicts.verdict import Verdict


class NamedRun(TypedDict):
    """What a chip shows of a run without its status."""

    run_id: str
    number: int
    name: str


STATE_INK = {
    "green": palette.GOOD,
    "red": palette.BAD,
    "orange": "#d97a1a",
    "gray": palette.BASE,
    "blue": palette.BUSY,
}


def badge(status: Status) -> str:
    """A status as inline Markdown."""
    return f":{status.color}-badge[{status.icon} {status.title}]"


def status_badge(status: str) -> str:
    """The badge of a run's or a job's status, as inline Markdown."""
    return badge(wording.STATUSES[status])


def dot(number: int) -> str:
    """The colour of a run as inline Markdown."""
    return f':color[●]{{foreground="{palette.run_color(number)}"}}'


def chip_link(run: NamedRun, tab: str = "") -> None:
    """The run's chip as a link to its page, or to a tab of it."""
    label = f"{dot(run['number'])} {plain(run['name'])}"
    link = {"run": run["run_id"]} | ({LINK: tab} if tab else {})
    st.page_link("pages/run/run.py", label=label, query_params=link)


def verdict_card(verdict: Verdict, run_id: str) -> None:
    """What came of a run: a sentence, the evidence under it, and what to do next."""
    state = wording.VERDICTS[verdict["state"]]
    edge = f"{{border-left: 5px solid {STATE_INK[state.color]}; border-radius: 8px}}"
    with st.container(border=True, key="verdict"):
        st.html(f"<style>.st-key-verdict {edge}</style>")
        st.subheader(f":{state.color}[{state.icon}] {plain(verdict['headline'])}", anchor=False)
        forgetting_line(verdict.get("forgetting"))
        words, picture = st.columns([3, 2], gap="medium", vertical_alignment="center")
        with words:
            st.markdown("\n".join(f"- {plain(sentence)}" for sentence in verdict["sentences"]))
        with picture:
            gain, axis = drawn_gain(verdict)
            if gain and gain["low"] is not None:
                _gain_chart(gain, axis, STATE_INK[state.color])
                st.page_link("pages/truth/truth.py", label=":gray[How far intervals can be trusted]")
        if verdict["advice"]:
            st.markdown("**What to try next**")
        for index, piece in enumerate(verdict["advice"]):
            draw_advice(piece, run_id, f"advice-{index}")


def forgetting_line(forgetting: Forgetting | None) -> None:
    """What the gain cost, under it."""
    if forgetting:
        state = wording.FORGETTING[forgetting["state"]]
        st.markdown(f":{state.color}[{state.icon}] **{plain(forgetting['headline'])}**")


def _gain_chart(gain: UnitEstimate, axis: str, ink: str) -> None:
    row = charts.IntervalRow("gain", gain["value"], gain["low"], gain["high"], ink)
    figure = charts.interval_chart([row], axis, height=120)
    st.plotly_chart(
        figure,
        key="verdict-gain",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Gain of {wording.estimate(gain)} {gain['unit']}",
    )
