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
from engine.monitoring.drift import (
    WATCHED_SIGNALS,
    NameFormatter,
    Scale,
    Value,
    build_columns,
    compute_bin_value,
)
from store.core.figure_schemas import Estimate
from store.core.formatting import MINUS, format_number, format_perplexity, percent, plural
from store.core.monitoring_schemas import (
    ArmComparison,
    BaseMeasurement,
    MartingaleState,
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
READING_FORMATS: dict[Scale, str] = {
    "length": "A median of {} characters",
    "share": "{} on average",
    "distance": "A median of {}",
    "logprob": "A median probability of {}",
}


def describe_direction(state: TestState, changed: Sequence[Value], name_of: NameFormatter) -> str:
    """A sentence; empty where both sides read the same, or one of them has no value. changed: the values
    since the change; name_of: how a name of a category reads."""
    watched = WATCHED_SIGNALS[state.name]
    present = [value for value in changed if value is not None]
    if watched.scale == "category":
        return _describe_category(state, present, name_of)
    before, since = (
        _count_reference(state.bets[0]),
        dict(Counter(build_columns(state, present)[0].tolist())),
    )
    if not before or not since:
        return ""
    if watched.scale == "perplexity":
        return _describe_perplexities(before, since)
    first, second = (_format_typical(watched.scale, counts) for counts in (before, since))
    return (
        ""
        if first == second
        else _format_sentence(f"{READING_FORMATS[watched.scale].format(first)} in", before, since, second)
    )


def _format_sentence(first: str, before: Counts, since: Counts, second: str) -> str:
    n = _sum_counts(since)
    return f"{first} the {_sum_counts(before):,} values of the reference, {second} in the {n:,} since then."


def _count_reference(bet: MartingaleState) -> Counts:
    return dict(zip(bet.reference_bins, bet.reference_counts, strict=True))


def _sum_counts(counts: Counts) -> int:
    return sum(counts.values())


def _mean(scale: Scale, counts: Counts) -> float:
    return sum(compute_bin_value(scale, place) * n for place, n in counts.items()) / _sum_counts(counts)


def _median(scale: Scale, counts: Counts) -> float:
    """The middle value, the lower one of two."""
    left = (_sum_counts(counts) + 1) // 2
    for place in sorted(counts):
        left -= counts[place]
        if left <= 0:
            return compute_bin_value(scale, place)
    raise AssertionError("there is a middle value")


def _format_typical(scale: Scale, counts: Counts) -> str:
    """As people read it: characters, a share, a distance, or how likely a token or a label was."""
    if scale == "share":
        return percent(_mean(scale, counts))
    middle = _median(scale, counts)
    if scale == "logprob":
        return percent(math.exp(min(0.0, middle)))
    return format_number(middle, 0 if scale == "length" else 2)


def _describe_perplexities(before: Counts, since: Counts) -> str:
    """By geometric means."""
    nats = [_mean("perplexity", counts) for counts in (before, since)]
    texts = [format_perplexity(math.exp(value)) for value in nats]
    if texts[0] == texts[1]:
        return ""
    likely = "less" if nats[1] > nats[0] else "more"
    return (
        f"Answers are {likely} likely to the base model than before: perplexity {texts[0]} in the reference,"
        f" {texts[1]} in answers since."
    )


def _describe_category(state: TestState, changed: Sequence[Value], name_of: NameFormatter) -> str:
    """The name whose share moved furthest."""
    after = [dict(Counter(column.tolist())) for column in build_columns(state, changed)]
    sides = zip(state.categories, map(_count_reference, state.bets), after, strict=True)
    moved = [
        (abs(_compute_mean_place(since) - _compute_mean_place(before)), name, before, since)
        for name, before, since in sides
        if before and since
    ]
    if not moved:
        return ""
    _, name, before, since = max(moved, key=lambda each: each[0])
    first, second = percent(_compute_mean_place(before)), percent(_compute_mean_place(since))
    if first == second:
        return ""
    who = name_of(state.name, name)
    return _format_sentence(f"{who[:1].upper()}{who[1:]} is {first} of", before, since, second)


def _compute_mean_place(counts: Counts) -> float:
    """Of values that are 0 or 1."""
    return sum(place * n for place, n in counts.items()) / _sum_counts(counts)


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
MAX_ODDS = 1e6
NO_INTERVAL = (
    "No interval is given: values of one caller or hour are like each other, and none that was tried kept its"
    " 95%."
)


def format_odds(log_wealth: float) -> str:
    """The evidence of a test: "340 to 1"; below 1 nothing speaks for a change."""
    if log_wealth <= 0:
        return "none"
    value = math.exp(min(log_wealth, 700))
    if value >= MAX_ODDS:
        return "over 1,000,000 to 1"
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.1f} to 1"


def describe_alarm(
    state: TestState,
    log_threshold: float,
    alpha: float,
    watched: int,
    changed: Sequence[Value],
    name_of: NameFormatter,
) -> str:
    """Why a value has raised its alarm. changed: its values since the change, up to the alarm."""
    noun = WATCHED_SIGNALS[state.name].noun
    since = format_time(state.lowest_at) if state.lowest_at is not None else "the test began"
    together = "this value" if watched == 1 else f"any of the {watched} watched values"
    has = "have" if state.name in ("input_topic", "input_language") else "has"
    if state.days is not None:
        chance = (
            f"The evidence of single requests is {format_odds(state.largest)}, and whole days"
            " differ from the"
            f" same weekdays of the first week, which {together} does without a change with a chance of at"
            f" most {100 * alpha:g}% a month."
        )
    else:
        chance = (
            f"The evidence is {format_odds(state.largest)}; an alarm is raised at"
            f" {format_odds(log_threshold)}, which"
            f" {together} ever reaches with a chance of at most {100 * alpha:g}% where requests are drawn by"
            " chance as these rows were. Rows have no time of day: other hours may have other requests."
        )
    went = describe_direction(state, changed, name_of)
    sentences = (
        f"{noun[:1].upper()}{noun[1:]} {has} changed against the reference, most likely since {since}.",
        went,
        went and NO_INTERVAL,
        chance,
    )
    return " ".join(filter(None, sentences))


def format_time(at: float) -> str:
    """ "27 Nov 2026, 14:05 UTC"."""
    when = datetime.fromtimestamp(at, UTC)
    return f"{when.day} {when:%b %Y, %H:%M} UTC"


def describe_held_alarm(state: TestState) -> str:
    """Why the evidence is no alarm yet."""
    lacking = drift.count_missing_days(state.days) if state.days else 0
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


def classify_state(state: TestState, log_threshold: float = math.inf) -> StateName:
    """alarm; held: its evidence is over the threshold, and whole days don't say so yet; quiet; or collecting:
    its reference is not there yet."""
    if state.alarm_place is not None:
        return "alarm"
    if state.days is not None and state.largest >= log_threshold:
        return "held"
    return "collecting" if state.reference < state.wanted else "quiet"


MAX_ANSWERS = 200  # of a look that are measured
MAX_REASONS = 3


def describe_cost(look: BaseMeasurement | None) -> str:
    """What watching perplexity costs."""
    cost = (
        "Perplexity under the base costs time and memory: each look loads the base model and asks it about"
        f" {MAX_ANSWERS} answers at most."
    )
    if look is None or not look.measured:
        return f"{cost} How long that takes is said here after the first look."
    each = _format_seconds(look.seconds)
    return f"{cost} The last look took {each} a request, after {_format_seconds(look.loading)} of loading."


def describe_look(look: BaseMeasurement) -> str:
    """How many answers have a value, and why others have none."""
    parts = [f"{plural(look.measured, 'answer')} measured"]
    if look.left_out:
        parts.append(f"{look.left_out:,} not drawn, as a look takes {MAX_ANSWERS} at most")
    if look.cut:
        parts.append(f"{look.cut:,} of the measured cut to the context of the base")
    text = f"Perplexity under the base, at the last look: {'; '.join(parts)}."
    reasons = sorted(look.reasons.items(), key=lambda each: -each[1])
    if not reasons:
        return text
    why = "; ".join(f"{reason.rstrip('.')} ({n:,})" for reason, n in reasons[:MAX_REASONS])
    rest = sum(n for _, n in reasons[MAX_REASONS:])
    others = f"; other reasons ({rest:,})" if rest else ""
    return f"{text} Without a value: {why}{others}."


def _format_seconds(value: float) -> str:
    return f"{format_number(value, 0 if value >= 10 else 2 if value < 1 else 1)} s"


OUTCOME_NOUNS: dict[OutcomeKind, str] = {
    "labels": "right answers, by labels that came later",
    "thumbs": "answers with a thumb up",
    "errors": "answers given without failing",
}
CANDIDATE_ADVICE = (
    "Take the candidate's share away on the page Endpoints, and look at its answers below. What was wrong can"
    " become training rows."
)


def format_points(difference: Estimate) -> str:
    """ "−12 points (−20 to −3)"; the value alone where it has no interval."""
    ends = [difference.value, difference.low, difference.high]
    low, high = difference.low, difference.high
    places = 1 if low is not None and high is not None and high - low < 0.1 else 0
    value, *limits = ["" if end is None else _format_signed(100 * end, places) for end in ends]
    return f"{value} points ({limits[0]} to {limits[1]})" if all(limits) else f"{value} points"


def _format_signed(value: float, places: int) -> str:
    text = format_number(value, places)
    return text if text.startswith(MINUS) or not float(text.replace(",", "")) else f"+{text}"


def describe_worse(pair: SideBySide, kind: OutcomeKind, look: ArmComparison, alpha: float) -> str:
    """Why the candidate has raised an alert."""
    shares = " against ".join(percent(arm.share or 0.0) for arm in (look.other, look.live))
    callers = " against ".join(plural(arm.callers, "caller") for arm in (look.other, look.live))
    return (
        f"The candidate {pair.other} is worse than {pair.live}, the live version of {pair.model}:"
        f" {shares} {OUTCOME_NOUNS[kind]}, a difference of {format_points(look.difference)};"
        f" {callers}, each counted once."
        f" Without a difference this is ever said of a candidate with a chance of at most {100 * alpha:g}%,"
        " however often one looks."
    )


def is_conclusive(look: ArmComparison) -> bool:
    """Whether the last look is sure of a difference."""
    return look.p <= look.alpha


def describe_deletion(pair: SideBySide, keep_days: int, now: datetime) -> str:
    """What no longer counts as it is deleted; empty where all is there."""
    if pair.since is None or now - pair.since < timedelta(days=keep_days):
        return ""
    what = "failures" if pair.role == "candidate" else "copies"
    return (
        f"Requests are kept for {plural(keep_days, 'day')}: older {what} no longer count, so there may be no"
        " further look at them. Another share begins with answers of its own"
    )


def describe_outcome(pair: SideBySide, kind: OutcomeKind, look: ArmComparison) -> tuple[str, str]:
    """What is known now: in a word or two (worse, better, can't be told), and what it rests on."""
    sure, difference = look.sure, look.difference
    again = f"Looked at again at {plural(look.next_look, 'answer')}."
    if sure and not is_conclusive(look):
        was = f"It was {sure.verdict} for sure at {plural(sure.answers, 'answer')}, no longer at"
        return "No longer sure", f"{was} {plural(look.answers, 'answer')}. {again}"
    if sure:
        rest = f"Sure since {plural(sure.answers, 'answer')}."
        if sure.verdict == "better" and pair.role == "candidate":
            rest += " It may take over: promote it."
        return f"{sure.verdict.capitalize()} than the live version", rest
    if difference.low is None:
        return "Can’t be told yet", f"{difference.why or ''}. {again}".lstrip(". ")
    if look.few or not look.look:
        return "Can’t be told yet", f"Too few callers for anything to be sure. {again}"
    return "No difference that can be told from luck", again
