"""Advice on the training method: requirements of each on this model, data and machine, estimated cost,
results of earlier runs, and a recommendation.

The answer takes seconds (a step of every method is rehearsed), so it is requested only while the panel is
open and after the rest of the page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.verdicts import launch_advice
from pages.shared import cached_queries, config_fields, display, meters
from pages.shared.charts import PLOT, build_empty_figure, shorten_name
from pages.shared.palette import BASE, get_run_color
from pages.shared.session import cached, escape_markdown, get_client, send_command
from store.core.errors import EngineUnavailable, TunebenchError
from store.core.figure_schemas import Estimate
from store.core.formatting import plural
from store.core.model_schemas import STOPPED_EARLY
from store.core.schemas import HourPrice
from store.core.training_schemas import Advice, AdviceOption, MeasuredRun, MethodHistory, Recommendation
from store.data import datasets
from store.data.schemas import Dataset
from store.people import settings
from store.training.methods import (
    FIRST_METHOD,
    LIGHT_METHOD,
    METHOD_FIELDS,
    METHODS,
    QUANTISATIONS,
    WHOLE_METHOD,
)
from store.training.split import get_split
from store.training.train_config import UNSET_BY_METHOD, TrainConfig


class PredictedRun(NamedTuple):
    """A measured quantity of a run, and its prediction with interval."""

    run: MeasuredRun
    measured: float
    guess: float
    low: float | None
    high: float | None


def plot_predictions(runs: Sequence[MeasuredRun]) -> dict[str, tuple[go.Figure, str]]:
    """Plot memory and time against predictions; return name -> (chart, summary) for those measured."""
    charts = {}
    if memory := [point for run in runs if (point := _get_memory_prediction(run))]:
        charts["memory"] = (
            _plot_prediction("Peak memory", "GiB", memory),
            _describe_coverage("Peak memory", memory),
        )
    # only complete runs, because the prediction is for a complete run
    whole = [run for run in runs if (run.course or 1) >= 1 and run.stopped not in STOPPED_EARLY]
    if times := [point for run in whole if (point := _get_time_prediction(run))]:
        charts["time"] = (
            _plot_prediction("Time of the run", "min", times),
            _describe_coverage("Time of the run", times),
        )
    return charts


def _get_memory_prediction(run: MeasuredRun) -> PredictedRun | None:
    """Return measured and predicted memory in GiB, or None."""
    measured, guess = run.peak_memory_gib, run.estimated_memory_gib
    if not measured or not guess:
        return None
    ends = (run.estimated_memory_low_gib, run.estimated_memory_high_gib)
    return PredictedRun(run, measured, guess, *ends)


def _get_time_prediction(run: MeasuredRun) -> PredictedRun | None:
    measured, guess = run.run_seconds, run.estimated_seconds
    if not measured or not guess:
        return None
    low, high = (end and end / 60 for end in (run.estimated_low_seconds, run.estimated_high_seconds))
    return PredictedRun(run, measured / 60, guess / 60, low, high)


def _describe_coverage(title: str, points: Sequence[PredictedRun]) -> str:
    """Describe how many measurements were within their predicted interval."""
    ranged = [(point.measured, point.low, point.high) for point in points if point.low and point.high]
    if not ranged:
        return f"{title} of {plural(len(points), 'run')}."
    inside = sum(low <= value <= high for value, low, high in ranged)
    return f"{title}: {inside} of {plural(len(ranged), 'run')} within the predicted interval."


def _plot_prediction(title: str, unit: str, points: Sequence[PredictedRun]) -> go.Figure:
    figure = build_empty_figure(title, f"Measured ({unit})", 280, x_title=f"Predicted ({unit})")
    most = 1.08 * max(max(point.measured, point.high or point.guess) for point in points)
    figure.add_shape(
        type="line", x0=0, y0=0, x1=most, y1=most, line={"dash": "dash", "color": BASE, "width": 1.6}
    )
    for run, value, guess, low, high in points:
        reach = {"array": [(high or guess) - guess], "arrayminus": [guess - (low or guess)]}
        color = get_run_color(run.number)
        method = METHODS[run.method].title
        figure.add_trace(
            go.Scatter(
                x=[guess],
                y=[value],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "width": 0,
                    "thickness": 2,
                    "color": color,
                    **reach,
                },
                mode="markers",
                marker={"size": 9, "color": color},
                hovertemplate=(
                    f"{shorten_name(run.name)}, {method}<br>predicted %{{x:.2f}} {unit},"
                    f" measured %{{y:.2f}} {unit}<extra></extra>"
                ),
                showlegend=False,
            )
        )
    figure.update_layout(hovermode="closest", margin={"t": 40})
    figure.update_xaxes(range=[0, most], showgrid=True)
    figure.update_yaxes(range=[0, most])
    return figure


PER_HOUR, CURRENCY = "price-per-hour", "price-currency"


@cached(5, max_entries=4)
def read_price() -> HourPrice:
    """Return the stored price, {"per_hour", "currency"}."""
    return settings.price(get_client())


def draw_price() -> HourPrice:
    """Draw both fields of the price; return the stored price."""
    kept = read_price()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input(
            "Price of an hour on this machine",
            min_value=0.0,
            value=kept.per_hour,
            placeholder="unknown",
            key=PER_HOUR,
            on_change=_save_price,
            width=240,
            help="What you pay for it, or its power cost. Saved for everyone who uses this store.",
        )
        st.text_input("Currency", kept.currency, key=CURRENCY, max_chars=8, on_change=_save_price, width=110)
    return kept


def _save_price() -> None:
    currency = str(st.session_state.get(CURRENCY) or "").strip() or "EUR"
    send_command("set_price", {"per_hour": st.session_state.get(PER_HOUR), "currency": currency})


# The result does not depend on the chosen method, so choosing another one sends no new query.

STATE = "launch-advice"
OPEN = "launch-advice-open"
# Fields set by the choice of a method, and names; none of them affects the query.
IGNORED_FIELDS = {"name", "notes", *UNSET_BY_METHOD}
COMPARED_METHODS = (FIRST_METHOD, LIGHT_METHOD, WHOLE_METHOD)  # always shown in full


@dataclass(frozen=True)
class AdviceQuery:
    """A query with its result or its error."""

    question: str
    answer: Advice | None = None
    error: TunebenchError | None = None


def draw_advice(config: TrainConfig | None, dataset: Dataset | None) -> str:
    """Draw the panel; return the query still to be sent, or ""."""
    panel = st.expander("Method recommendation", icon=":material/balance:", key=OPEN, on_change="rerun")
    if not panel.open:
        return ""
    with panel:
        if dataset is None:
            st.caption("Select a data set first: memory and time depend on its rows.")
            return ""
        if config is None:
            st.caption("Correct the errors in the form to compare methods.")
            return ""
        asked = build_question(config, dataset)
        advice = st.session_state.get(STATE)
        if advice is None or advice.question != asked:
            st.skeleton(height=320)
            return asked
        if advice.error:
            st.warning(escape_markdown(str(advice.error)), icon=":material/warning:")
        else:
            _draw_answer(advice.answer, config.method)
    return ""


def build_question(config: TrainConfig, dataset: Dataset) -> str:
    """Build the query as JSON; it is the same for all methods unless fields specific to one are set."""
    document = config.model_dump(exclude_unset=True, exclude_none=True, exclude=IGNORED_FIELDS)
    if not (set(METHOD_FIELDS) - set(QUANTISATIONS)) & set(document):
        document.pop("method", None)
    split = get_split(document, datasets.get_split_fields(dataset))
    body = {"config": document, "fingerprint": dataset.fingerprint, "split": split}
    return json.dumps(body, sort_keys=True)


def ask_advice(text: str) -> None:
    """Send the query and store the result."""
    try:
        advice = AdviceQuery(text, answer=cached_queries.query_engine("advice", text, Advice))
    except EngineUnavailable:
        raise
    except TunebenchError as error:
        advice = AdviceQuery(text, error=error)
    st.session_state[STATE] = advice


def _draw_answer(answer: Advice, method: str) -> None:
    _draw_recommendation(answer["recommendation"], answer)
    price = draw_price()
    recommended = answer["recommendation"]["method"]
    first = [
        o for o in answer["options"] if o["past"] or o["method"] in (recommended, method, *COMPARED_METHODS)
    ]
    for option in sorted(first, key=lambda o: (o["method"] != recommended, bool(o["problem"]))):
        with st.container(border=True, key=f"advice-row-{option['method']}"):
            _draw_option(
                option, answer, price, chosen=option["method"] == method, best=option["method"] == recommended
            )
    _draw_other_options([o for o in answer["options"] if o not in first], price)
    _draw_footnotes(answer)
    _draw_past_predictions(answer["measured"])


def _draw_recommendation(recommendation: Recommendation, answer: Advice) -> None:
    icon = ":material/recommend:" if recommendation["method"] else ":material/block:"
    st.markdown(f"#### {icon} {escape_markdown(recommendation['sentence'])}")
    st.markdown("\n".join(f"- {escape_markdown(reason)}" for reason in recommendation["reasons"]))
    alike = answer["past_runs"]
    basis = (
        f"{plural(alike, 'run')} on this model and these rows"
        if alike
        else "rules of thumb, as no run used these rows"
    )
    st.caption(f"From {basis}; memory and time are for {escape_markdown(answer['device'])}.")


def _draw_option(option: AdviceOption, answer: Advice, price: HourPrice, *, chosen: bool, best: bool) -> None:
    """Draw one method: its name with a button, and its requirements."""
    name = option["method"]
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        badge = " :green-badge[:material/recommend: advised]" if best else ""
        st.markdown(f"**{escape_markdown(option['title'])}**{badge}", width="content")
        st.button(
            "Chosen" if chosen else "Use this method",
            key=f"advice-use-{name}",
            icon=":material/check:" if chosen else ":material/arrow_forward:",
            disabled=chosen or bool(option["problem"]),
            on_click=_select_method,
            args=(name,),
        )
    if option["problem"]:
        st.caption(f":material/block: {escape_markdown(option['problem'])}")
        return
    st.html(meters.render_grid(_format_figures(option, answer, price), width=7.5))


def _draw_other_options(options: list[AdviceOption], price: HourPrice) -> None:
    """Draw a selector of the methods that are rarely the first choice, one line each."""
    usable = [o for o in options if not o["problem"]]
    if usable:
        st.markdown("**Other methods**")
        columns: dict[str, list[str]] = {
            "Method": [o["title"] for o in usable],
            "Memory": [display.format_gib_range(o["low_gib"], o["high_gib"]) for o in usable],
            "Fits": ["yes" if o["fits"] else "may not" for o in usable],
            "Time": [display.format_duration_range(o["low_seconds"], o["high_seconds"]) for o in usable],
            "On disk": [display.format_size(o["disk_bytes"]) for o in usable],
            "Trained": [
                display.format_share(o["trainable_parameters"], o["total_parameters"]) for o in usable
            ],
        }
        if price.per_hour is not None:
            columns["Cost"] = [_format_cost(o, price).removeprefix("costs ") for o in usable]
        picked = st.dataframe(
            columns, hide_index=True, on_select="rerun", selection_mode="single-row", key="advice-others"
        )
        for index in picked["selection"]["rows"][:1]:
            name = usable[index]["method"]
            st.caption(escape_markdown(METHODS[name].when))
            st.button(
                f"Use {usable[index]['title']}",
                key=f"advice-use-{name}",
                icon=":material/arrow_forward:",
                on_click=_select_method,
                args=(name,),
            )
    for option in options:
        if option["problem"]:
            st.caption(
                f":material/block: **{escape_markdown(option['title'])}**:"
                f" {escape_markdown(option['problem'])}"
            )


def _select_method(method: str) -> None:
    """Set the method, and clear the fields whose defaults depend on it."""
    config_fields.set_fields({"method": method, **UNSET_BY_METHOD})


def _format_figures(option: AdviceOption, answer: Advice, price: HourPrice) -> list[str]:
    low, high = option["low_gib"], option["high_gib"]
    share = display.format_share(option["trainable_parameters"], option["total_parameters"])
    parts = [
        meters.render_range(
            "Memory",
            display.format_gib_range(low, high),
            low,
            high,
            option["available_gib"],
            "fits" if option["fits"] else f"may not fit into {display.format_gib(option['available_gib'])}",
        ),
        meters.render_fact(
            "Time",
            display.format_duration_range(option["low_seconds"], option["high_seconds"]),
            _format_cost(option, price),
            option["time_basis"],
        ),
        meters.render_fact(
            "Saved on disk", display.format_size(option["disk_bytes"]), f"{share} of the weights trained"
        ),
    ]
    if answer["watts"]:
        energy = "unknown"
        if option["energy_wh"]:
            low, _, high = option["energy_wh"]
            places = 0 if high >= 10 else 1
            energy = f"{low:,.{places}f} to {high:,.{places}f} Wh"
        parts.append(meters.render_fact("Energy", energy, "from runs on this machine"))
    if answer["past_runs"]:
        parts.append(meters.render_fact("Measured gain", *_format_measured_gain(option["past"])))
    return parts


def _format_cost(option: AdviceOption, price: HourPrice) -> str:
    costs = launch_advice.estimate_run_cost(option, price.per_hour)
    if costs is None:
        return ""
    low, _, high = costs
    places = 2 if high < 100 else 0
    between = f"{display.format_number(low, places)} to {display.format_number(high, places)}"
    return f"costs {between} {price.currency}"


def _format_measured_gain(past: MethodHistory | None) -> tuple[str, str]:
    """Format the gain with its interval, and its basis."""
    if not past:
        return "–", "no run on these rows yet"
    took = [display.format_gib(past.memory_gib)] if past.memory_gib else []
    took += [display.format_duration(past.seconds)] if past.seconds else []
    rows = f", n {past.n}" if past.n else ""
    rows += f", {past.unit}" if past.unit else ""
    note = plural(past.runs, "run") + rows + (f": {', '.join(took)}" if took else "")
    if past.gain is None:
        return "–", note
    gain = Estimate(value=past.gain, low=past.low, high=past.high, n=past.n or 0)
    return display.format_estimate(gain), note


def _draw_footnotes(answer: Advice) -> None:
    first = next((o for o in answer["options"] if not o["problem"]), None)
    if first is None:
        return
    notes = [f"Memory: {escape_markdown(first['memory_basis'])}"]
    if answer["past_runs"]:
        notes.insert(
            0, "Gain: less loss on held-out rows than the base model, mean over the runs, 95% interval."
        )
    if not answer["watts"]:
        notes.append("Energy is not counted on this machine.")
    st.caption(" ".join(notes))


def _draw_past_predictions(runs: Sequence[MeasuredRun]) -> None:
    """Draw predictions for past runs against their measurements."""
    charts = plot_predictions(runs)
    if not charts:
        st.caption("After the first runs, predictions are compared with measurements here.")
        return
    st.markdown("**Predicted and measured**")
    with st.grid(2, min_column_width=260):
        for name, (figure, caption) in charts.items():
            with st.container():
                st.plotly_chart(figure, key=f"advice-past-{name}", config=PLOT, alt=caption)
                st.caption(caption)
