"""What drift comes to, in sentences: never sure where the test is not."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

from engine.diagnostics.drift.watched import WATCHED, value_of
from engine.diagnostics.phrasing import perplexity
from store.documents.serving.drift import TestState, WatchedName

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


def odds(log_wealth: float) -> str:
    """The evidence of a test: "340 to 1"; below 1 nothing speaks for a change."""
    if log_wealth <= 0:
        return "none"
    value = math.exp(min(log_wealth, 700))
    if value >= MOST_ODDS:
        return "over 1,000,000 to 1"
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.1f} to 1"


def alarm_reason(state: TestState, log_threshold: float, alpha: float, watched: int) -> str:
    """Why a value has raised its alarm."""
    noun = WATCHED[state["name"]].noun
    perplexities = _perplexities(state) if WATCHED[state["name"]].scale == "perplexity" else ""
    since = moment(state["lowest_at"]) if state["lowest_at"] is not None else "the test began"
    together = "this value" if watched == 1 else f"any of the {watched} watched values"
    return (
        (
            f"{perplexities}{noun[:1].upper()}{noun[1:]} has changed against the reference, most likely since"
            f" {since}."
            f" The evidence is"
            f" {odds(state['largest'])}; an alarm is raised at {odds(log_threshold)}, which {together} ever"
            f" reaches"
            f" without a change with a chance of at most {100 * alpha:g}%."
        )
        .replace("topics of inputs has", "topics of inputs have")
        .replace("languages of inputs has", "languages of inputs have")
    )


def _perplexities(state: TestState) -> str:
    """Which way answers went, by geometric means; empty where those are the same."""
    bet = state["bets"][0]
    before = dict(zip(bet["reference_bins"], bet["reference_counts"], strict=True))
    tested = {place: n - before.get(place, 0) for place, n in zip(bet["bins"], bet["counts"], strict=True)}
    nats = [_mean_nats(before), _mean_nats(tested)]
    texts = [perplexity(math.exp(value)) for value in nats]
    if texts[0] == texts[1]:
        return ""
    likely = "less" if nats[1] > nats[0] else "more"
    return (
        f"Answers are {likely} likely to the base model than before: perplexity {texts[0]} in the reference,"
        f" {texts[1]} in answers since. "
    )


def _mean_nats(counts: dict[int, int]) -> float:
    total = sum(value_of("perplexity", place) * n for place, n in counts.items())
    return total / max(1, sum(counts.values()))


def moment(at: float) -> str:
    """ "27 Nov 2026, 14:05 UTC"."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def state_of(state: TestState) -> Literal["alarm", "quiet", "collecting"]:
    """alarm, quiet, or collecting: its reference is not there yet."""
    if state["alarm_place"] is not None:
        return "alarm"
    return "collecting" if state["reference"] < state["wanted"] else "quiet"
