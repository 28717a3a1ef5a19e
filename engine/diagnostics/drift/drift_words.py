"""What drift comes to, in sentences: never sure where the test is not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from engine.diagnostics.drift import whole_days
from engine.diagnostics.drift.direction import direction
from engine.diagnostics.drift.watched import WATCHED, NameOf
from engine.diagnostics.drift.watching import Value
from engine.diagnostics.phrasing import plural
from store.documents.serving.drift import TestState, WatchedName

StateName = Literal["alarm", "held", "quiet", "collecting"]
ADVICE: dict[WatchedName, str] = {
    "input_length": "Look at the requests: is somebody asking in a new way, or is a text cut or"
    " doubled on its way?",
    "input_language": "Look at the requests. Evaluate the model in the languages that are new before"
    " it is relied on.",
    "input_distance": "Look at the requests: they are about other things than the model was judged on."
    " Label some of"
    " them and evaluate the model on these.",
    "input_topic": "Look at the requests: some topics are asked more, or less, than before."
    " Evaluate the model on those"
    " that grew.",
    "output_length": "Look at the answers. If nothing was changed on purpose, compare them with those"
    " of the version"
    " before.",
    "output_refusal": "Look at what is refused: it may be new requests, or a new version that refuses more.",
    "output_repetition": "Look at the answers: a model that repeats itself is often asked what it wasn't"
    " trained on.",
    "output_label": "Look at the requests whose label grew. If the world has changed, all is well;"
    " if not, label some"
    " and measure whether the model is still right.",
    "confidence": "Look at the answers it is least sure of, and label some: is it still right?",
    "output_perplexity": "Look at the answers. Less likely to the base: they are of another kind, or broken;"
    " more likely: the"
    " version may have lost what it was trained for. Compare them with those of the version before.",
}
MOST_ODDS = 1e6
NO_INTERVAL = (
    "No interval is given: values of one caller or hour are like each other, and none that was tried kept its"
    " 95%."
)


def odds(log_wealth: float) -> str:
    """The evidence of a test: "340 to 1"; below 1 nothing speaks for a change."""
    if log_wealth <= 0:
        return "none"
    value = math.exp(min(log_wealth, 700))
    if value >= MOST_ODDS:
        return "over 1,000,000 to 1"
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.1f} to 1"


def alarm_reason(
    state: TestState,
    log_threshold: float,
    alpha: float,
    watched: int,
    changed: Sequence[Value],
    name_of: NameOf,
) -> str:
    """Why a value has raised its alarm. changed: its values since the change, up to the alarm."""
    noun = WATCHED[state["name"]].noun
    since = moment(state["lowest_at"]) if state["lowest_at"] is not None else "the test began"
    together = "this value" if watched == 1 else f"any of the {watched} watched values"
    has = "have" if state["name"] in ("input_topic", "input_language") else "has"
    if "days" in state:
        chance = (
            f"The evidence of single requests is {odds(state['largest'])}, and whole days differ from the"
            f" same weekdays of the first week, which {together} does without a change with a chance of at"
            f" most {100 * alpha:g}% a month."
        )
    else:
        chance = (
            f"The evidence is {odds(state['largest'])}; an alarm is raised at {odds(log_threshold)}, which"
            f" {together} ever reaches with a chance of at most {100 * alpha:g}% where requests are drawn by"
            " chance as these rows were. Rows have no time of day: other hours may have other requests."
        )
    went = direction(state, changed, name_of)
    sentences = (
        f"{noun[:1].upper()}{noun[1:]} {has} changed against the reference, most likely since {since}.",
        went,
        went and NO_INTERVAL,
        chance,
    )
    return " ".join(filter(None, sentences))


def moment(at: float) -> str:
    """ "27 Nov 2026, 14:05 UTC"."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def held_note(state: TestState) -> str:
    """Why the evidence is no alarm yet."""
    lacking = whole_days.missing(state["days"])
    days = f"{plural(lacking, 'whole day')} more" if lacking else "whole days"
    wait = (
        "are needed before that can be told"
        if lacking
        else "don't differ from the same weekdays of the first week"
    )
    return (
        "The evidence is over its limit, but hours, weekdays and bursts of a caller may bring that about by"
        f" themselves: {days} {wait}."
    )


def state_of(state: TestState, log_threshold: float = math.inf) -> StateName:
    """alarm; held: its evidence is over the threshold, and whole days don't say so yet; quiet; or collecting:
    its reference is not there yet."""
    if state["alarm_place"] is not None:
        return "alarm"
    if "days" in state and state["largest"] >= log_threshold:
        return "held"
    return "collecting" if state["reference"] < state["wanted"] else "quiet"
