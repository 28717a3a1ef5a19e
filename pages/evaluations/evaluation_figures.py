"""The figures of one evaluation, each with its interval and n, and what could not be scored, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import streamlit as st

from engine.diagnostics import phrasing
from pages.shared import quantities, wording
from pages.shared.session import plain
from store.catalog.metric_table import METRICS
from store.documents.evaluations.evaluation import Evaluation
from store.documents.evaluations.evaluation_result import GeneralFigure
from store.documents.figures.figure import Figure
from store.words.recipe_words import rows_meant

WHY = 3  # reasons that a card names
TASK = "task/"  # figures of lm-evaluation-harness, of items in place of rows


class BoundedFigure(TypedDict):
    """What of a figure is written: its value, its interval, and the bounds that say whether it is a share."""

    value: float | None
    low: float | None
    high: float | None
    bounds: list[float | None]


def title(metric: str, config: Mapping[str, Any]) -> str:
    """What a figure is called: the metric's title, with its own name where it was given one."""
    if metric.startswith(TASK):
        task, _, what = metric.removeprefix(TASK).partition("/")
        return f"{task}: {what}" if what else task
    for choice in config["metrics"]:
        described = METRICS.get(choice["metric"])  # None for a metric of the past
        what = described.title if described else str(choice["metric"]).capitalize()
        own = choice.get("name") or choice.get("file") or choice.get("hub_id")
        name = own or choice["metric"]
        if metric.removeprefix("eval/").lower() == str(name).lower() or len(config["metrics"]) == 1:
            return f"{what}: {own}" if own else what
    return metric.removeprefix("eval/")


def scale(figure: BoundedFigure) -> float:
    """100 for a share, which is shown in per cent."""
    return 100.0 if list(figure["bounds"]) == [0.0, 1.0] else 1.0


def value_text(figure: BoundedFigure) -> str:
    """The value, with a sign of per cent where it is a share."""
    if figure["value"] is None:
        return "–"
    times = scale(figure)
    places = 1 if times == 100 else 2 if abs(figure["value"]) < 100 else 1
    return f"{phrasing.number(times * figure['value'], places)}{'%' if times == 100 else ''}"


def bounds_text(figure: BoundedFigure, confidence: float) -> str:
    """ "95%: 41 to 58"."""
    if figure["value"] is None:
        return "no value"
    if figure["low"] is None or figure["high"] is None:
        return "no interval"
    times = scale(figure)
    low, high = times * figure["low"], times * figure["high"]
    return f"{confidence:.0%}: {phrasing.interval(low, high, phrasing.decimals(low, high))}"


def estimate_text(figure: BoundedFigure) -> str:
    """ "74.4% (59 to 86)" of a figure with its interval."""
    if figure["value"] is None or figure["low"] is None or figure["high"] is None:
        return value_text(figure)
    low, high = scale(figure) * figure["low"], scale(figure) * figure["high"]
    return f"{value_text(figure)} ({phrasing.interval(low, high, phrasing.decimals(low, high))})"


def draw_figures(evaluation: Evaluation) -> None:
    """A card for each metric, then what was measured of general knowledge, counts and notices."""
    config, details = evaluation["config"], evaluation["details"]
    cards = evaluation["figures"]
    with st.grid(max(1, min(4, len(cards) + len(details["probes"]))), min_column_width=210):
        for figure in cards:
            _card(figure, title(figure["metric"], config), config["confidence"])
        for probe in details["probes"]:
            _probe(probe, config["confidence"])
    for figure in cards:
        _draw_details(figure, title(figure["metric"], config))
    st.caption(about(evaluation))


def _card(figure: Figure, name: str, confidence: float) -> None:
    arrow = wording.arrow(figure["better"])
    with st.container(border=True, height="stretch"):
        st.metric(f"{plain(name)} {arrow}", value_text(figure), bounds_text(figure, confidence),
                  delta_color="off", delta_arrow="off")  # fmt: skip
        grouped = f" in {phrasing.plural(figure['groups'], 'group')}" if figure["groups"] else ""
        st.caption(f"n {figure['n']:,}{grouped}; {plain(figure['unit'] or 'its own unit')}")
        if figure["failed"]:
            st.markdown(f":small[:red[:material/error: {plain(figure['failed'])}]]")
        elif figure["unscored"]["count"]:
            st.markdown(f":small[:orange[:material/warning: {plain(unscored(figure))}]]")


def unscored(figure: Figure) -> str:
    """ "3 rows not scored: the row has no reference (2), no answer was generated (1)"."""
    count, reasons = figure["unscored"]["count"], figure["unscored"]["reasons"]
    named = ", ".join(f"{why} ({rows:,})" for why, rows in list(reasons.items())[:WHY])
    more = f", and {len(reasons) - WHY} other reasons" if len(reasons) > WHY else ""
    return f"{phrasing.plural(count, 'row')} not scored: {named}{more}"


def _probe(probe: GeneralFigure, confidence: float) -> None:
    shares = "accuracy" in probe
    estimate = probe["accuracy"] if shares else probe["loss"]
    figure: BoundedFigure = {
        "value": estimate["value"],
        "low": estimate["low"],
        "high": estimate["high"],
        "bounds": [0.0, 1.0] if shares else [0.0, None],
    }
    name = "General questions right ↑" if shares else "Loss on plain prose ↓"
    with st.container(border=True, height="stretch"):
        st.metric(name, value_text(figure), bounds_text(figure, confidence),
                  delta_color="off", delta_arrow="off")  # fmt: skip
        unit = phrasing.plural(probe["n"], "question" if shares else "passage")
        st.caption(unit if shares else f"{unit}, nats a token")


def _draw_details(figure: Figure, name: str) -> None:
    """What a metric has to say beside its figure, where that is short."""
    details = figure["details"]
    notes = []
    if (details.get("no_label") or {}).get("count"):
        most = ", ".join(f"“{text}”" for text, _ in details["no_label"]["most"][:3])
        notes.append(
            f"{phrasing.plural(details['no_label']['count'], 'answer')} that name no label, such as {most}"
        )
    if (details.get("outside") or {}).get("count"):
        notes.append(f"{phrasing.plural(details['outside']['count'], 'row')} whose label is not in the set")
    if details.get("chance") is not None and figure["value"] is not None:
        notes.append(f"a perfectly calibrated model would show up to {details['chance']:.1%} by chance")
    if details.get("guessing") is not None and figure["value"] is not None:
        notes.append(f"guessing would get {phrasing.number(100 * details['guessing'], 1)}%")
    if notes and figure["metric"] != "eval/f1_macro":
        st.caption(f"{plain(name)}: {plain('; '.join(notes))}.")
    if details.get("constraints"):
        lines = [
            {
                "Constraint": kept["constraint"],
                "Rows that keep it": estimate_text(kept | {"bounds": [0.0, 1.0]}),
                "n": kept["n"],
            }
            for kept in details["constraints"]
        ]
        st.dataframe(lines, hide_index=True, alt=f"{name}: rows that keep each constraint")


def about(evaluation: Evaluation) -> str:
    """Rows, what they lack, how long it took, and on what, as sentences."""
    counts, details = evaluation["details"]["counts"], evaluation["details"]
    rows = rows_meant(evaluation["part"], evaluation["config"].get("where"))
    sentences = [f"{evaluation['dataset_name']}, {rows}, n {evaluation['n']:,}."]
    lacking = {
        "answered with nothing (scored as that)": counts.get("empty", 0),
        "could not be asked": counts.get("no_prompt", 0),
        "without a reference": counts.get("no_reference", 0),
        "without a loss": counts.get("no_loss", 0),
    }
    sentences += [f"{phrasing.plural(count, 'row')} {words}." for words, count in lacking.items() if count]
    sentences += details["notices"]
    took = quantities.span(sum(details["seconds"].values()))
    sentences.append(f"Took {took} on {details['device_name'] or details['device']}, {details['dtype']}.")
    return plain(" ".join(sentences))
