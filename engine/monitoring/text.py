"""What monitoring finds, in sentences: drift and which way a value went, perplexity under the base model, and
versions side by side. Never sure where the test is not. Pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from engine.monitoring import drift
from engine.monitoring.drift import WATCHED, NameOf, Scale, Value, columns_of, value_of
from store.core.figure_schemas import Estimate
from store.core.formatting import MINUS, number, percent, perplexity, plural
from store.core.monitoring_schemas import (
    ArmsLook,
    BaseLook,
    BetState,
    OutcomeKind,
    SideBySide,
    TestState,
    WatchedName,
)

# Which way a watched value went, in a sentence: what the reference had, and what came since the change.
#
# These are the values that were seen, and no estimates: that something has changed is said by the test, and a
# figure read off when its alarm rises looks a little larger than the change is. Pure.

Counts = dict[int, int]  # bin -> values
READ: dict[Scale, str] = {
    "length": "A median of {} characters",
    "share": "{} on average",
    "distance": "A median of {}",
    "logprob": "A median probability of {}",
}


def direction(state: TestState, changed: Sequence[Value], name_of: NameOf) -> str:
    """A sentence; empty where both sides read the same, or one of them has no value. changed: the values
    since the change; name_of: how a name of a category reads."""
    watched = WATCHED[state["name"]]
    present = [value for value in changed if value is not None]
    if watched.scale == "category":
        return _category(state, present, name_of)
    before, since = _reference(state["bets"][0]), dict(Counter(columns_of(state, present)[0].tolist()))
    if not before or not since:
        return ""
    if watched.scale == "perplexity":
        return _perplexities(before, since)
    first, second = (_typical(watched.scale, counts) for counts in (before, since))
    return (
        "" if first == second else _sentence(f"{READ[watched.scale].format(first)} in", before, since, second)
    )


def _sentence(first: str, before: Counts, since: Counts, second: str) -> str:
    n = _total(since)
    return f"{first} the {_total(before):,} values of the reference, {second} in the {n:,} since then."


def _reference(bet: BetState) -> Counts:
    return dict(zip(bet["reference_bins"], bet["reference_counts"], strict=True))


def _total(counts: Counts) -> int:
    return sum(counts.values())


def _mean(scale: Scale, counts: Counts) -> float:
    return sum(value_of(scale, place) * n for place, n in counts.items()) / _total(counts)


def _median(scale: Scale, counts: Counts) -> float:
    """The middle value, the lower one of two."""
    left = (_total(counts) + 1) // 2
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return value_of(scale, place)
    raise AssertionError("there is a middle value")


def _typical(scale: Scale, counts: Counts) -> str:
    """As people read it: characters, a share, a distance, or how likely a token or a label was."""
    if scale == "share":
        return percent(_mean(scale, counts))
    middle = _median(scale, counts)
    if scale == "logprob":
        return percent(math.exp(min(0.0, middle)))
    return number(middle, 0 if scale == "length" else 2)


def _perplexities(before: Counts, since: Counts) -> str:
    """By geometric means."""
    nats = [_mean("perplexity", counts) for counts in (before, since)]
    texts = [perplexity(math.exp(value)) for value in nats]
    if texts[0] == texts[1]:
        return ""
    likely = "less" if nats[1] > nats[0] else "more"
    return (
        f"Answers are {likely} likely to the base model than before: perplexity {texts[0]} in the reference,"
        f" {texts[1]} in answers since."
    )


def _category(state: TestState, changed: Sequence[Value], name_of: NameOf) -> str:
    """The name whose share moved furthest."""
    after = [dict(Counter(column.tolist())) for column in columns_of(state, changed)]
    sides = zip(state["categories"], map(_reference, state["bets"]), after, strict=True)
    moved = [
        (abs(_mean_place(since) - _mean_place(before)), name, before, since)
        for name, before, since in sides
        if before and since
    ]
    if not moved:
        return ""
    _, name, before, since = max(moved, key=lambda each: each[0])
    first, second = percent(_mean_place(before)), percent(_mean_place(since))
    if first == second:
        return ""
    who = name_of(state["name"], name)
    return _sentence(f"{who[:1].upper()}{who[1:]} is {first} of", before, since, second)


def _mean_place(counts: Counts) -> float:
    """Of values that are 0 or 1."""
    return sum(place * n for place, n in counts.items()) / _total(counts)


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
    lacking = drift.missing_days(state["days"])
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


MOST_ANSWERS = 200  # of a look that are measured
MOST_REASONS = 3


def cost_line(look: BaseLook | None) -> str:
    """What watching perplexity costs."""
    cost = (
        "Perplexity under the base costs time and memory: each look loads the base model and asks it about"
        f" {MOST_ANSWERS} answers at most."
    )
    if look is None or not look["measured"]:
        return f"{cost} How long that takes is said here after the first look."
    each = _seconds(look["seconds"])
    return f"{cost} The last look took {each} a request, after {_seconds(look['loading'])} of loading."


def look_line(look: BaseLook) -> str:
    """How many answers have a value, and why others have none."""
    parts = [f"{plural(look['measured'], 'answer')} measured"]
    if look["left_out"]:
        parts.append(f"{look['left_out']:,} not drawn, as a look takes {MOST_ANSWERS} at most")
    if look["cut"]:
        parts.append(f"{look['cut']:,} of the measured cut to the context of the base")
    text = f"Perplexity under the base, at the last look: {'; '.join(parts)}."
    reasons = sorted(look["reasons"].items(), key=lambda each: -each[1])
    if not reasons:
        return text
    why = "; ".join(f"{reason.rstrip('.')} ({n:,})" for reason, n in reasons[:MOST_REASONS])
    rest = sum(n for _, n in reasons[MOST_REASONS:])
    others = f"; other reasons ({rest:,})" if rest else ""
    return f"{text} Without a value: {why}{others}."


def _seconds(value: float) -> str:
    return f"{number(value, 0 if value >= 10 else 2 if value < 1 else 1)} s"


GOOD: dict[OutcomeKind, str] = {
    "labels": "right answers, by labels that came later",
    "thumbs": "answers with a thumb up",
    "errors": "answers given without failing",
}
CANDIDATE_ADVICE = (
    "Take the candidate's share away on the page Endpoints, and look at its answers below. What was wrong can"
    " become training rows."
)


def points(difference: Estimate) -> str:
    """ "−12 points (−20 to −3)"; the value alone where it has no interval."""
    ends = [difference["value"], difference["low"], difference["high"]]
    low, high = difference["low"], difference["high"]
    places = 1 if low is not None and high is not None and high - low < 0.1 else 0
    value, *limits = ["" if end is None else _signed(100 * end, places) for end in ends]
    return f"{value} points ({limits[0]} to {limits[1]})" if all(limits) else f"{value} points"


def _signed(value: float, places: int) -> str:
    text = number(value, places)
    return text if text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def worse_reason(pair: SideBySide, kind: OutcomeKind, look: ArmsLook, alpha: float) -> str:
    """Why the candidate has raised an alert."""
    shares = " against ".join(percent(arm["share"] or 0.0) for arm in (look["other"], look["live"]))
    callers = " against ".join(plural(arm["callers"], "caller") for arm in (look["other"], look["live"]))
    return (
        f"The candidate {pair['other']} is worse than {pair['live']}, the live version of {pair['model']}:"
        f" {shares} {GOOD[kind]}, a difference of {points(look['difference'])}; {callers}, each counted once."
        f" Without a difference this is ever said of a candidate with a chance of at most {100 * alpha:g}%,"
        " however often one looks."
    )


def holds(look: ArmsLook) -> bool:
    """Whether the last look is sure of a difference."""
    return look["p"] <= look["alpha"]


def kept_note(pair: SideBySide, keep_days: int, now: datetime) -> str:
    """What no longer counts as it is deleted; empty where all is there."""
    if pair["since"] is None or now - pair["since"] < timedelta(days=keep_days):
        return ""
    what = "failures" if pair["role"] == "candidate" else "copies"
    return (
        f"Requests are kept for {plural(keep_days, 'day')}: older {what} no longer count, so there may be no"
        " further look at them. Another share begins with answers of its own"
    )


def compared_outcome(pair: SideBySide, kind: OutcomeKind, look: ArmsLook) -> tuple[str, str]:
    """What is known now: in a word or two (worse, better, can't be told), and what it rests on."""
    sure, difference = look["sure"], look["difference"]
    again = f"Looked at again at {plural(look['next_look'], 'answer')}."
    if sure and not holds(look):
        was = f"It was {sure['verdict']} for sure at {plural(sure['answers'], 'answer')}, no longer at"
        return "No longer sure", f"{was} {plural(look['answers'], 'answer')}. {again}"
    if sure:
        rest = f"Sure since {plural(sure['answers'], 'answer')}."
        if sure["verdict"] == "better" and pair["role"] == "candidate":
            rest += " It may take over: promote it."
        return f"{sure['verdict'].capitalize()} than the live version", rest
    if difference["low"] is None:
        return "Can’t be told yet", f"{difference.get('why', '')}. {again}".lstrip(". ")
    if look.get("few", not look["look"]):
        return "Can’t be told yet", f"Too few callers for anything to be sure. {again}"
    return "No difference that can be told from luck", again
