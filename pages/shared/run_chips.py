"""Compact display of a run: its chip (colour and name), status badge, verdict with suggestions, and launching
a run derived from it.

Names and messages are escaped wherever they are drawn, as Markdown or as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import streamlit as st

from pages.shared import cached_queries, charts, display, palette
from pages.shared import config_fields as fields
from pages.shared.config_fields import format_value, get_default
from pages.shared.display import Status
from pages.shared.layout import INTERPOLATION, LINK
from pages.shared.palette import get_run_color
from pages.shared.run_results import choose_gain_to_draw
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.errors import NotFoundError
from store.core.figure_schemas import UnitEstimate
from store.core.schemas import ConfigDocument
from store.evaluation.forgetting_schemas import AdviceItem, Forgetting, SettingValue
from store.evaluation.verdict_schemas import Verdict

MAX_NAME_CHARACTERS = 120  # characters
HIDDEN_FIELDS = {"name", "notes", "parent", "dataset", "replay_dataset"}  # data sets: id and name


def build_cloned_config(run_id: str, change: Mapping[str, Any]) -> ConfigDocument:
    """The config of a run with `change` applied, the run as its parent, and present names of data sets."""
    run = cached_queries.read_run(run_id)
    document = {k: v for k, v in run.config.items() if v is not None}
    names = {row.dataset_id: row.name for row in cached_queries.list_datasets()}
    document["dataset"] = names.get(run.dataset_id, run.dataset_name)
    if general := document.get("replay_dataset"):
        document["replay_dataset"] = names.get(general, general)
    if probes := document.get("probe_datasets"):
        document["probe_datasets"] = [names.get(probe, probe) for probe in probes]
    return document | {"name": build_clone_name(run.name, change), "parent": run_id} | dict(change)


def build_clone_name(name: str, change: Mapping[str, Any]) -> str:
    """The parent's name and the changes, as far as they fit."""
    if change.get("init_from"):
        return f"{name[:110]} continued"
    if not change:
        return f"{name} again"[:MAX_NAME_CHARACTERS]
    changed = ", ".join(f"{field} {format_value(value)}" for field, value in change.items())
    return f"{name[: max(20, MAX_NAME_CHARACTERS - len(changed) - 2)]}, {changed}"[:MAX_NAME_CHARACTERS]


def draw_parent(notes: Mapping[str, list[tuple[str, str]]]) -> None:
    """Draw the parent run and the changes, with a button that detaches the new run from it."""
    parent = str(st.session_state.get(fields.build_widget_key("parent")) or "")
    if not parent:
        return
    try:
        run = cached_queries.read_run(parent)
    except NotFoundError:
        sentence = "The run that this one changes was deleted."
    else:
        mark = f':color[●]{{foreground="{get_run_color(run.number)}"}}'
        changed = describe_changes(run.config, fields.read_document())
        sentence = (
            f"Changes {mark} **{escape_markdown(run.name)}**: {escape_markdown(changed) or 'nothing yet'}."
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(sentence, width="stretch")
        st.button(
            "Unlink",
            icon=":material/link_off:",
            type="tertiary",
            key="launch-unlink",
            on_click=fields.set_fields,
            args=({"parent": ""},),
            help="Removes the link to that run, also on the plot of gain against forgetting.",
        )
    fields.draw_notes("parent", dict(notes))


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Describe the differences of two configs: "learning_rate 0.001 → 0.00033"."""
    previous = {name: before.get(name, get_default(name)) for name in now if name not in HIDDEN_FIELDS}
    return ", ".join(
        f"{name} {_format_setting(was)} → {_format_setting(now[name])}"
        for name, was in previous.items()
        if was != now[name]
    )


def _format_setting(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return format_value(value) or "–"


def draw_advice(piece: AdviceItem, run_id: str, key: str) -> None:
    """Draw one piece of advice with its buttons; `key` keeps them distinct."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f":material/lightbulb: {escape_markdown(piece.text)}", width="stretch")
        if piece.kind == "interpolation":
            _draw_interpolation_link(run_id, key)
        elif piece.change and has_right("work"):
            _draw_launch(piece, run_id, key)


def _draw_launch(piece: AdviceItem, run_id: str, key: str) -> None:
    changed = describe_advice(piece.change)
    if st.button(
        "Launch",
        icon=":material/rocket_launch:",
        key=f"{key}-launch",
        help=(
            f"Starts a copy of this run with {escape_markdown(changed)}; all else stays the same. It is"
            " linked to this run."
        ),
    ):
        with st.spinner("Checking rows, memory and settings …"):
            answer = send_command("launch", build_cloned_config(run_id, piece.change))
        if answer is not None:
            st.switch_page("pages/runs/run.py", query_params={"run": answer["run_id"]})
    if st.button(
        "Edit",
        icon=":material/tune:",
        key=key,
        type="tertiary",
        help="Opens the launch form with this change.",
    ):
        link = {"from": run_id, "change": json.dumps(piece.change)}
        st.switch_page("pages/training/launch.py", query_params=link)


def _draw_interpolation_link(run_id: str, key: str) -> None:
    if st.button(
        "Interpolate",
        icon=":material/linear_scale:",
        key=key,
        help="Scores models between this one and its base model. Takes minutes; no training.",
    ):
        st.switch_page("pages/runs/run.py", query_params={"run": run_id, LINK: INTERPOLATION})


def describe_advice(change: Mapping[str, SettingValue | None]) -> str:
    """Describe the advised values: "learning_rate 0.00007, replay_share 0.05"."""
    words = {True: "on", False: "off"}
    return ", ".join(
        f"{name} {words[value] if isinstance(value, bool) else format_value(value)}"
        for name, value in change.items()
        if value is not None  # default
    )


class NamedRun(Protocol):
    """The fields of a run that its chip shows, without the status."""

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


def format_badge(status: Status) -> str:
    """A status as inline Markdown."""
    return f":{status.color}-badge[{status.icon} {status.title}]"


def format_status_badge(status: str) -> str:
    """The badge of a run's or a job's status, as inline Markdown."""
    return format_badge(display.STATUSES[status])


def format_run_dot(number: int) -> str:
    """The colour of a run as inline Markdown."""
    return f':color[●]{{foreground="{palette.get_run_color(number)}"}}'


def draw_chip_link(run: NamedRun, tab: str = "") -> None:
    """Draw the run's chip as a link to its page or to a tab of it."""
    label = f"{format_run_dot(run.number)} {escape_markdown(run.name)}"
    link = {"run": run.run_id} | ({LINK: tab} if tab else {})
    st.page_link("pages/runs/run.py", label=label, query_params=link)


def draw_verdict_card(verdict: Verdict, run_id: str) -> None:
    """Draw the verdict of a run: a sentence, its evidence, and suggestions."""
    state = display.VERDICTS[verdict.state]
    edge = f"{{border-left: 5px solid {STATE_INK[state.color]}; border-radius: 8px}}"
    with st.container(border=True, key="verdict"):
        st.html(f"<style>.st-key-verdict {edge}</style>")
        st.subheader(f":{state.color}[{state.icon}] {escape_markdown(verdict.headline)}", anchor=False)
        draw_forgetting(verdict.forgetting)
        words, picture = st.columns([3, 2], gap="medium", vertical_alignment="center")
        with words:
            st.markdown("\n".join(f"- {escape_markdown(sentence)}" for sentence in verdict.sentences))
        with picture:
            gain, axis = choose_gain_to_draw(verdict)
            if gain and gain.low is not None:
                _draw_gain_chart(gain, axis, STATE_INK[state.color])
                st.page_link("pages/evaluation/truth.py", label=":gray[How far intervals can be trusted]")
        if verdict.advice:
            st.markdown("**Next steps**")
        for index, piece in enumerate(verdict.advice):
            draw_advice(piece, run_id, f"advice-{index}")


def draw_forgetting(forgetting: Forgetting | None) -> None:
    """Draw the cost of the gain below it."""
    if forgetting:
        state = display.FORGETTING[forgetting.state]
        st.markdown(f":{state.color}[{state.icon}] **{escape_markdown(forgetting.headline)}**")


def _draw_gain_chart(gain: UnitEstimate, axis: str, ink: str) -> None:
    row = charts.IntervalRow("gain", gain.value, gain.low, gain.high, ink)
    figure = charts.plot_intervals([row], axis, height=120)
    st.plotly_chart(
        figure,
        key="verdict-gain",
        config={"displayModeBar": False, "staticPlot": True},
        alt=f"Gain of {display.format_estimate(gain)} {gain.unit}",
    )
