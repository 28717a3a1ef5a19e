"""Sentences about monitoring: alerts with their evidence and advice, base-model perplexity, and version
comparisons. A sentence never claims more than its test. Pure.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from engine.monitoring.changes import ValueChange
from engine.monitoring.drift import MIN_REFERENCE, WATCHED_SIGNALS, NameFormatter, Scale, count_missing_days
from store.core.figure_schemas import Estimate
from store.core.formatting import (
    MINUS,
    format_interval,
    format_number,
    format_percent_at_limit,
    format_perplexity,
    percent,
    plural,
)
from store.core.monitoring_schemas import (
    ArmComparison,
    BaseMeasurement,
    OutcomeKind,
    SideBySide,
    TestState,
    WatchedName,
)

if TYPE_CHECKING:
    from engine.evaluation.statistics.intervals import Interval
    from engine.monitoring.comparisons import OutcomeStatus

# Drift alerts.

MAX_ODDS = 1e6
PLURAL_NOUNS: tuple[WatchedName, ...] = ("input_topic", "input_language", "output_label")
NO_INTERVAL = (
    "No CI: values from the same caller or hour are correlated, and no interval method tested kept its 95%"
    " coverage."
)
READINGS: dict[Scale, str] = {
    "length": "Median {} characters",
    "share": "Average {}",
    "distance": "Median {}",
    "logprob": "Median probability {}",
}
ADVICE: dict[WatchedName, str] = {
    "input_length": "Check the requests for a new use case, or for text that is truncated or duplicated"
    " upstream.",
    "input_language": "Check the requests. Evaluate the model in the new languages before you rely on it.",
    "input_distance": "Check the requests: their content differs from what the model was evaluated on. Label"
    " some and evaluate the model on them.",
    "input_topic": "Check the requests: some topics are more, or less, frequent than before. Evaluate the"
    " model on those that grew.",
    "output_length": "Check the responses. If the change was not intended, compare them with those of the"
    " previous version.",
    "output_refusal": "Check the refused requests: either the requests are new, or a new version refuses"
    " more.",
    "output_repetition": "Check the responses: repetition is common on prompts unlike the training data.",
    "output_label": "Check the requests whose predicted label grew. If the world has changed, no action is"
    " needed; otherwise, label some and measure accuracy.",
    "confidence": "Check the least confident responses, and label some to measure accuracy.",
    "output_perplexity": "Check the responses. Higher perplexity: they are of another kind, or broken. Lower"
    " perplexity: the version may have lost what it was trained for. Compare them with those of the previous"
    " version.",
}


def format_odds(log_wealth: float) -> str:
    """Format the evidence of a test as odds: "340 to 1"; "none" below 1."""
    if log_wealth <= 0:
        return "none"
    value = math.exp(min(log_wealth, 700))
    if value >= MAX_ODDS:
        return "over 1,000,000 to 1"
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.1f} to 1"


def format_time(at: float) -> str:
    """ "27 Nov 2026, 14:05 UTC"."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def describe_alarm(
    state: TestState,
    log_threshold: float,
    alpha: float,
    watched: int,
    change: ValueChange | None,
    name_of: NameFormatter,
) -> str:
    """The reason of a drift alert. `change` covers the values since the change, up to the alert."""
    noun = WATCHED_SIGNALS[state.name].noun
    since = format_time(state.lowest_at) if state.lowest_at is not None else "the test started"
    has = "have" if state.name in PLURAL_NOUNS else "has"
    moved = describe_change(change, name_of) if change else ""
    sentences = (
        f"{noun[:1].upper()}{noun[1:]} {has} changed from the reference, most likely since {since}.",
        moved,
        moved and NO_INTERVAL,
        _describe_chance(state, log_threshold, alpha, watched),
    )
    return " ".join(filter(None, sentences))


def _describe_chance(state: TestState, log_threshold: float, alpha: float, watched: int) -> str:
    """The evidence, and how likely a false alert is."""
    values = "this value" if watched == 1 else f"any of the {watched} monitored values"
    if state.days is not None:
        return (
            f"Request-level evidence is {format_odds(state.largest)}, and full days differ from the same"
            f" weekdays of the first week. If nothing changes, the chance of this for {values} is at most"
            f" {100 * alpha:g}% a month."
        )
    return (
        f"Evidence is {format_odds(state.largest)} (alert threshold: {format_odds(log_threshold)}). If"
        f" requests are sampled at random like these rows, the chance that {values} ever reaches the"
        f" threshold is at most {100 * alpha:g}%. Rows have no time of day: at other hours, requests may"
        " differ."
    )


def describe_change(change: ValueChange, name_of: NameFormatter) -> str:
    """One sentence with both figures; empty if they read the same."""
    if change.scale == "perplexity":
        return _describe_perplexity_change(change)
    first, second = (_format_typical(change.scale, value) for value in (change.before, change.since))
    if first == second:
        return ""
    if change.scale == "category":
        who = name_of(change.watched, change.category)
        return _format_change(f"{who[:1].upper()}{who[1:]}: {first} of", change, second)
    return _format_change(f"{READINGS[change.scale].format(first)} in", change, second)


def _format_change(first: str, change: ValueChange, second: str) -> str:
    return (
        f"{first} {change.reference_n:,} reference values, {second} in {change.since_n:,} values since then."
    )


def _format_typical(scale: Scale, value: float) -> str:
    """A count of characters, a share, a distance, or the probability of a token or label."""
    if scale in ("share", "category"):
        return percent(value)
    if scale == "logprob":
        return percent(math.exp(min(0.0, value)))
    return format_number(value, 0 if scale == "length" else 2)


def _describe_perplexity_change(change: ValueChange) -> str:
    """Perplexities are geometric means."""
    before, since = (format_perplexity(math.exp(value)) for value in (change.before, change.since))
    if before == since:
        return ""
    likely = "less" if change.since > change.before else "more"
    return (
        f"Responses are {likely} likely under the base model than before: perplexity {before} in the"
        f" reference, {since} since then."
    )


def describe_held_alarm(state: TestState) -> str:
    """Why evidence above the threshold has not raised an alert yet."""
    lacking = count_missing_days(state.days) if state.days else 0
    wait = (
        f"confirmation needs {plural(lacking, 'more full day')}"
        if lacking
        else "full days do not differ from the same weekdays of the first week"
    )
    return (
        "Evidence is above the threshold, but time of day, weekday and bursts from one caller alone can cause"
        f" this: {wait}."
    )


# Limits, schedules and their alerts.

ERROR_ADVICE = (
    "Check the errors and the endpoint log. A fallback or the previous version can serve traffic meanwhile."
)
LATENCY_ADVICE = (
    "Check the slowest requests below: are they longer than others, or were all of them queued? Fewer max new"
    " tokens, a smaller (quantized) model, or more workers help."
)
THUMBS_ADVICE = "Read the disliked responses below. Corrected ones can become training data."
BIAS_ADVICE = (
    "Open the check on the Evaluations page and look at the pairs that changed most. Rolling back serves the"
    " previous version meanwhile."
)
SCHEDULE_ADVICE = "Change the schedule in the monitor settings below."


def describe_error_rate(errors: int, requests: int, least: float, limit: float) -> str:
    """least: the lower confidence limit, which exceeds `limit`."""
    return (
        f"{errors:,} of {plural(requests, 'request')} failed within 15 minutes"
        f" ({percent(errors / requests)}, significantly above {format_percent_at_limit(least, limit)})."
        f" Limit: {percent(limit)}."
    )


def describe_slow_share(slow: int, answered: int, seconds: float, least: float, limit: float) -> str:
    """seconds: the latency limit; least: the lower confidence limit of the share, which exceeds `limit`."""
    return (
        f"{slow:,} of {plural(answered, 'response')} within 15 minutes took longer than {seconds:g} s"
        f" ({percent(slow / answered)}, significantly above {format_percent_at_limit(least, limit)})."
        f" Allowed: {percent(limit)}."
    )


def describe_low_thumbs(version: str, up: int, thumbs: int, share: Interval, limit: float) -> str:
    """share: with the anytime-valid interval, whose upper end is below `limit`."""
    bounds = format_interval(100 * (share.low or 0.0), 100 * (share.high or 0.0))
    return (
        f"{up:,} of {plural(thumbs, 'thumb')} for {version} are up (95% CI {bounds}%, valid however often it"
        f" is checked). Minimum: {percent(limit)}."
    )


def describe_few_values(count: int, *, later: bool) -> str:
    """Why a value has no reference yet. later: it is compared with the first requests instead."""
    if not count and later:
        return "The reference has no values of it. Monitoring starts once enough requests have one."
    has = f"The reference has {count:,} values of it; {MIN_REFERENCE} are required"
    return f"{has}, so it is compared with the first requests." if later else f"{has}."


# Perplexity under the base model.

MAX_ANSWERS = 200  # responses scored per check
MAX_REASONS = 3


def describe_cost(look: BaseMeasurement | None) -> str:
    """What monitoring perplexity costs."""
    cost = (
        "Base-model perplexity takes time and memory: each check loads the base model and scores up to"
        f" {MAX_ANSWERS} responses."
    )
    if look is None or not look.measured:
        return f"{cost} The time is shown here after the first check."
    each = _format_seconds(look.seconds)
    return (
        f"{cost} The last check took {each} per response, after {_format_seconds(look.loading)} of loading."
    )


def describe_look(look: BaseMeasurement) -> str:
    """How many responses have a score, and why others have none."""
    parts = [f"{plural(look.measured, 'response')} scored"]
    if look.left_out:
        parts.append(f"{look.left_out:,} not sampled (limit {MAX_ANSWERS} per check)")
    if look.cut:
        parts.append(f"{look.cut:,} of the scored truncated to the context length of the base model")
    text = f"Base-model perplexity, last check: {'; '.join(parts)}."
    reasons = sorted(look.reasons.items(), key=lambda each: -each[1])
    if not reasons:
        return text
    why = "; ".join(f"{reason.rstrip('.')} ({n:,})" for reason, n in reasons[:MAX_REASONS])
    rest = sum(n for _, n in reasons[MAX_REASONS:])
    others = f"; other reasons ({rest:,})" if rest else ""
    return f"{text} Not scored: {why}{others}."


def _format_seconds(value: float) -> str:
    return f"{format_number(value, 0 if value >= 10 else 2 if value < 1 else 1)} s"


# Candidates and shadows compared with the live version.

OUTCOME_NOUNS: dict[OutcomeKind, str] = {
    "labels": "correct responses (delayed labels)",
    "thumbs": "thumbs up",
    "errors": "successful responses",
}
CANDIDATE_ADVICE = (
    "Set the candidate's traffic share to 0 on the Endpoints page, and check its responses below. Incorrect"
    " ones can become training data."
)
OUTCOME_TITLES: dict[OutcomeStatus, str] = {
    "better": "Better than the live version",
    "worse": "Worse than the live version",
    "lapsed": "No longer significant",
    "no_data": "Not enough data",
    "few_callers": "Not enough data",
    "inconclusive": "Not significant",
}


def format_points(difference: Estimate) -> str:
    """ "−12 points (−20 to −3)"; the value alone if it has no interval."""
    ends = [difference.value, difference.low, difference.high]
    low, high = difference.low, difference.high
    places = 1 if low is not None and high is not None and high - low < 0.1 else 0
    value, *limits = ["" if end is None else _format_signed(100 * end, places) for end in ends]
    return f"{value} points ({limits[0]} to {limits[1]})" if all(limits) else f"{value} points"


def _format_signed(value: float, places: int) -> str:
    text = format_number(value, places)
    return text if text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def describe_worse(pair: SideBySide, kind: OutcomeKind, look: ArmComparison, alpha: float) -> str:
    """The reason of a candidate's alert."""
    shares = " vs. ".join(percent(arm.share or 0.0) for arm in (look.other, look.live))
    callers = " vs. ".join(plural(arm.callers, "caller") for arm in (look.other, look.live))
    return (
        f"Candidate {pair.other} is worse than {pair.live}, the live version of {pair.model}:"
        f" {shares} {OUTCOME_NOUNS[kind]}, a difference of {format_points(look.difference)};"
        f" {callers}, each counted once."
        f" If the versions do not differ, the chance that a candidate is ever reported as worse or better is"
        f" at most {100 * alpha:g}%, however often it is checked."
    )


def describe_deletion(pair: SideBySide, keep_days: int, now: datetime) -> str:
    """What no longer counts because it was deleted; empty if nothing was."""
    if pair.since is None or now - pair.since < timedelta(days=keep_days):
        return ""
    what = "failures" if pair.role == "candidate" else "copies"
    return (
        f"Requests are kept for {plural(keep_days, 'day')}: older {what} no longer count, so they may not be"
        " checked again. Changing the share starts a new comparison"
    )


def describe_outcome(status: OutcomeStatus, pair: SideBySide, look: ArmComparison) -> tuple[str, str]:
    """The result in a few words, and its details."""
    sure = look.sure
    again = f"Next check at {plural(look.next_look, 'response')}."
    detail = again
    if status == "lapsed" and sure:
        detail = (
            f"Was significantly {sure.verdict} at {plural(sure.answers, 'response')}, but not at"
            f" {plural(look.answers, 'response')}. {again}"
        )
    elif status in ("better", "worse") and sure:
        detail = f"Significant since {plural(sure.answers, 'response')}."
        if status == "better" and pair.role == "candidate":
            detail += " You can promote it."
    elif status == "no_data":
        why = look.difference.why or ""
        detail = f"{why[:1].upper()}{why[1:]}. {again}" if why else again
    elif status == "few_callers":
        detail = f"Too few callers for a significant result. {again}"
    return OUTCOME_TITLES[status], detail
