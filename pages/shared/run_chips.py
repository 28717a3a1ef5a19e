"""What stands for a run everywhere: its chip (colour and name), the badge of its status, its verdict with
what to try next; and a run that is launched from another with some fields changed.

Names and messages are escaped wherever they are drawn, as Markdown or as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

import streamlit as st

from pages.shared import cached_queries, charts, display, palette
from pages.shared import config_fields as fields
from pages.shared.config_fields import as_text, default
from pages.shared.display import Status
from pages.shared.layout import BETWEEN, LINK
from pages.shared.palette import run_color
from pages.shared.run_results import drawn_gain
from pages.shared.session import act, may, plain
from store.core.errors import NotFoundError
from store.evaluation.forgetting_schemas import AdvicePiece, Forgetting, SettingValue, UnitEstimate
from store.evaluation.verdict_schemas import Verdict

NAME = 120  # characters
UNTOLD = {"name", "notes", "parent", "dataset", "replay_dataset"}  # data sets have an id and a name


def cloned(run_id: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run with `change`, that run as its parent, data sets under their present names."""
    run = cached_queries.run(run_id)
    document = {k: v for k, v in run["config"].items() if v is not None}
    names = {row["dataset_id"]: row["name"] for row in cached_queries.datasets()}
    document["dataset"] = names.get(run["dataset_id"], run["dataset_name"])
    if general := document.get("replay_dataset"):
        document["replay_dataset"] = names.get(general, general)
    if probes := document.get("probe_datasets"):
        document["probe_datasets"] = [names.get(probe, probe) for probe in probes]
    return document | {"name": named(run["name"], change), "parent": run_id} | dict(change)


def named(name: str, change: Mapping[str, Any]) -> str:
    """The parent's name and what is changed, as far as there is room."""
    if change.get("init_from"):
        return f"{name[:110]} continued"
    if not change:
        return f"{name} again"[:NAME]
    changed = ", ".join(f"{field} {as_text(value)}" for field, value in change.items())
    return f"{name[: max(20, NAME - len(changed) - 2)]}, {changed}"[:NAME]


def draw_parent(notes: Mapping[str, list[tuple[str, str]]]) -> None:
    """Which run this one changes, and in what; a click makes it a run of its own."""
    parent = str(st.session_state.get(fields.key("parent")) or "")
    if not parent:
        return
    try:
        run = cached_queries.run(parent)
    except NotFoundError:
        sentence = "The run that this one changes was deleted."
    else:
        mark = f':color[●]{{foreground="{run_color(run["number"])}"}}'
        changed = describe_changes(run["config"], fields.document())
        sentence = f"Changes {mark} **{plain(run['name'])}**: {plain(changed) or 'nothing yet'}."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(sentence, width="stretch")
        st.button(
            "Unlink",
            icon=":material/link_off:",
            type="tertiary",
            key="launch-unlink",
            on_click=fields.change,
            args=({"parent": ""},),
            help="On the plot of gain against forgetting it will stand for itself.",
        )
    fields.draw_notes("parent", dict(notes))


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two configs: "learning_rate 0.001 → 0.00033"."""
    previous = {name: before.get(name, default(name)) for name in now if name not in UNTOLD}
    return ", ".join(
        f"{name} {_setting_text(was)} → {_setting_text(now[name])}"
        for name, was in previous.items()
        if was != now[name]
    )


def _setting_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return as_text(value) or "–"


def draw_advice(piece: AdvicePiece, run_id: str, key: str) -> None:
    """One piece with its buttons; `key` tells them apart."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/lightbulb: {plain(piece['text'])}", width="stretch")
        if piece.get("kind") == "interpolation":
            _draw_mix(run_id, key)
        elif piece["change"] and may("work"):
            _draw_launch(piece, run_id, key)


def _draw_launch(piece: AdvicePiece, run_id: str, key: str) -> None:
    changed = describe_advice(piece["change"])
    if st.button(
        "Launch it",
        icon=":material/rocket_launch:",
        key=f"{key}-launch",
        help=f"Starts this run once more with {plain(changed)}; all else stays. It is drawn beside this one.",
    ):
        with st.spinner("Checking rows, memory and settings …"):
            answer = act("launch", cloned(run_id, piece["change"]))
        if answer is not None:
            st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})
    if st.button(
        "Edit", icon=":material/tune:", key=key, type="tertiary", help="Opens the form with this changed."
    ):
        link = {"from": run_id, "change": json.dumps(piece["change"])}
        st.switch_page("pages/training/launch.py", query_params=link)


def _draw_mix(run_id: str, key: str) -> None:
    if st.button(
        "Mix it",
        icon=":material/linear_scale:",
        key=key,
        help="Scores models between this one and its base: minutes, and nothing is trained.",
    ):
        st.switch_page("pages/runs/run.py", query_params={"run": run_id, LINK: BETWEEN})


def describe_advice(change: Mapping[str, SettingValue | None]) -> str:
    """Fields with their new values: "learning_rate 0.00007, replay_share 0.05"."""
    words = {True: "on", False: "off"}
    return ", ".join(
        f"{name} {words[value] if isinstance(value, bool) else as_text(value)}"
        for name, value in change.items()
        if value is not None  # left to the default
    )


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
    return badge(display.STATUSES[status])


def dot(number: int) -> str:
    """The colour of a run as inline Markdown."""
    return f':color[●]{{foreground="{palette.run_color(number)}"}}'


def chip_link(run: NamedRun, tab: str = "") -> None:
    """The run's chip as a link to its page, or to a tab of it."""
    label = f"{dot(run['number'])} {plain(run['name'])}"
    link = {"run": run["run_id"]} | ({LINK: tab} if tab else {})
    st.page_link("pages/runs/run.py", label=label, query_params=link)


def verdict_card(verdict: Verdict, run_id: str) -> None:
    """What came of a run: a sentence, the evidence under it, and what to do next."""
    state = display.VERDICTS[verdict["state"]]
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
                st.page_link("pages/evaluation/truth.py", label=":gray[How far intervals can be trusted]")
        if verdict["advice"]:
            st.markdown("**What to try next**")
        for index, piece in enumerate(verdict["advice"]):
            draw_advice(piece, run_id, f"advice-{index}")


def forgetting_line(forgetting: Forgetting | None) -> None:
    """What the gain cost, under it."""
    if forgetting:
        state = display.FORGETTING[forgetting["state"]]
        st.markdown(f":{state.color}[{state.icon}] **{plain(forgetting['headline'])}**")


def _gain_chart(gain: UnitEstimate, axis: str, ink: str) -> None:
    row = charts.IntervalRow("gain", gain["value"], gain["low"], gain["high"], ink)
    figure = charts.interval_chart([row], axis, height=120)
    st.plotly_chart(
        figure,
        key="verdict-gain",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Gain of {display.estimate(gain)} {gain['unit']}",
    )
