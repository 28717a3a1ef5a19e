"""The drift table, and the comparison of candidates and shadows with the live version."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from engine.monitoring.comparisons import OutcomeStatus, classify_outcome
from engine.monitoring.drift import WATCHED_SIGNALS, compute_log_threshold
from engine.monitoring.endpoint_status import DriftLine, build_pace_lines, build_status_lines
from engine.monitoring.sequential_tests import MARGIN, PACES, compute_pace_threshold
from engine.monitoring.status_text import (
    STATUS_LABELS,
    DriftStatus,
    describe_pace_reference,
    describe_reference,
)
from engine.monitoring.text import (
    describe_deletion,
    describe_look,
    describe_outcome,
    format_odds,
    format_points,
    format_time,
)
from pages.monitoring import monitor_queries
from pages.shared import palette
from pages.shared.session import escape_markdown
from store.core.formatting import percent, plural
from store.core.monitoring_schemas import ArmComparison, ArmSummary, Monitor, OutcomeKind, SideBySide
from store.monitoring import monitors
from store.monitoring.config import EXPENSIVE
from store.monitoring.monitors import ReferenceRows
from store.monitoring.side_by_side import LabelCounts
from store.monitoring.traffic import Window, format_category_name

ANSWER_STYLES: dict[DriftStatus, str] = {
    "alarm": f"color: color-mix(in srgb, {palette.BAD} 80%, currentColor); font-weight: 600",
    "held": "font-weight: 600",
    "quiet": f"color: color-mix(in srgb, {palette.GOOD} 75%, currentColor)",
    "collecting": "opacity: .7",
    "unwatched": "opacity: .7",
}
STYLE = """
<style>
.tb-drift {width: 100%; border-collapse: collapse; font-size: .92rem}
.tb-drift th {text-align: left; font-weight: 400; opacity: .7; padding: .2rem .8rem .2rem 0;
font-size: .84rem}
.tb-drift td {padding: .35rem .8rem .35rem 0; vertical-align: top;
  border-top: 1px solid color-mix(in srgb, currentColor 14%, transparent)}
.tb-drift .tb-note {white-space: normal}
.tb-drift .figure {font-variant-numeric: tabular-nums; white-space: nowrap}
@media (max-width: 640px) {
  .tb-drift, .tb-drift tbody, .tb-drift tr, .tb-drift td {display: block}
  .tb-drift thead {display: none}
  .tb-drift td {border: 0; padding: .1rem 0}
  .tb-drift tr {border-top: 1px solid color-mix(in srgb, currentColor 14%, transparent); padding: .4rem 0}
  .tb-drift td[data-label]::before {content: attr(data-label) ": "; opacity: .7}
}
</style>
"""


DRIFT_HELP = """
Evidence is the odds of a betting test. Evidence of {limit} means that single requests differ from the
reference: if requests were sampled at random, the chance that **any** of the {watched} ever reaches it is
at most {together}, however often it is checked. Real requests are not random samples: hours and weekdays
differ, callers send bursts, and consecutive responses resemble each other.

If the reference consists of requests (the first ones, or those of a window), an alert therefore also
requires that 3 to 7 full days (UTC) differ from the same weekdays of the first week. If nothing changes,
the chance of any alert is at most {together} **a month**, with daily and weekly cycles and with bursts;
this does not hold if whole days drift by themselves for days on end. Until the first week and 3 more days
are over, no alert is raised and evidence is shown as pending. A change is detected after 3 to 7 days.

Rows of a data set or an evaluation have no time of day: evidence above the threshold raises an alert at
once, and so do hours whose requests differ from these rows. Acknowledging an alert restarts the test, and
its guarantee.

Latency and error rate need no full days, because a margin replaces them: evidence of {pace} raises an
alert. As long as half of the responses take at most {margin} times as long as in the reference, and the
error rate stays within the upper confidence limit of the reference, the chance that either alert is ever
raised is at most {together}, also with cycles, bursts and heavy tails. Each minute counts once. At 5,000
requests a day, a 4× slowdown is detected within an hour or two, a 2× slowdown within half a day.

The last column compares the selected window with the reference. It is valid for a single look and raises no
alert. PSI (population stability index): 0 means no difference; the value in parentheses is what chance
alone reaches in 95 of 100 windows. Failed requests, candidates, shadows and fallbacks are excluded.
"""


def build_drift_lines(monitor: Monitor, window: Window) -> list[DriftLine]:
    """Build one line per monitored value, with the selected window."""
    counts = monitor_queries.count_signals(monitor.endpoint_id, window)
    seen = {
        name: each["names"] if WATCHED_SIGNALS[name].is_category else each["bins"]
        for name, each in counts.items()
    }
    settings = monitors.get_settings(monitor)
    return [
        *build_pace_lines(monitor.pace),
        *build_status_lines(
            settings.watched,
            monitor.states,
            monitor.reference,
            seen,
            settings.alpha,
            format_category_name,
        ),
    ]


def draw_drift(monitor: Monitor, lines: Sequence[DriftLine]) -> None:
    """Draw the table, its reference, and how the test works."""
    st.subheader("Drift", anchor=False)
    settings = monitors.get_settings(monitor)
    taken = 0
    if monitor.reference is None and settings.reference in ("first", "window"):
        which = ReferenceRows(settings.reference_rows, settings.window_start, settings.window_end)
        taken = monitor_queries.count_reference_rows(monitor.endpoint_id, which)
    st.caption(describe_reference(monitor.reference, settings.reference, taken, settings.reference_rows))
    st.caption(describe_pace_reference(monitor.pace, settings.reference_rows))
    is_there = monitor.reference is not None
    st.html(render_drift_table([line for line in lines if is_there or line.name in PACES]))
    if monitor.base_look is not None and EXPENSIVE in settings.watched:
        st.caption(escape_markdown(describe_look(monitor.base_look)))
    waiting = monitor.next_place - monitor.measured_place
    if monitor.reference is not None and waiting:
        st.caption(f":material/hourglass_top: {plural(waiting, 'request')} not yet processed.")
    together = f"{100 * settings.alpha:g}%"
    limit = format_odds(compute_log_threshold(settings.alpha, len(settings.watched)))
    watched = plural(len(settings.watched), "monitored value")
    with st.expander("How this test works, and its limits", icon=":material/help:"):
        st.markdown(
            DRIFT_HELP.format(
                limit=limit,
                watched=watched,
                together=together,
                pace=format_odds(compute_pace_threshold(settings.alpha)),
                margin=f"{MARGIN:g}",
            )
        )


def render_drift_table(lines: Sequence[DriftLine]) -> str:
    """Render HTML with one row per monitored value, alerts first."""
    order = {"alarm": 0, "held": 1, "quiet": 2, "collecting": 3, "unwatched": 4}
    rows = "".join(_render_drift_row(line) for line in sorted(lines, key=lambda line: order[line.standing]))
    heads = ("Value", "Status", "Evidence", "Tested on", "Selected window vs. reference")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _render_drift_row(line: DriftLine) -> str:
    state = STATUS_LABELS[line.standing]
    since = f"<div class='tb-note'>since {html.escape(format_time(line.since))}</div>" if line.since else ""
    tested = f"{line.tested:,} (reference {line.reference:,})"
    if line.standing == "collecting":
        tested = f"reference: {line.reference:,} of {line.wanted:,}"
        if line.reference >= line.wanted > 0:
            tested = f"{line.tested:,} (reference {line.reference:,})"
    strongest = (
        f"<div class='tb-note'>maximum {line.strongest}</div>" if line.strongest != line.evidence else ""
    )
    text = html.escape(line.note or line.window or "–")
    return (
        f"<tr><td><b>{html.escape(line.title)}</b></td><td"
        f" style='{ANSWER_STYLES[line.standing]}'>{state}{since}</td>"
        f"<td class='figure' data-label='Evidence'>{line.evidence}{strongest}</td>"
        f"<td class='figure' data-label='Tested on'>{tested if line.wanted else '–'}</td><td>{text}</td></tr>"
    )


TITLES: dict[OutcomeKind, str] = {
    "labels": "Correct (delayed labels)",
    "thumbs": "Thumbs up",
    "errors": "Successful responses",
}
KINDS: dict[str, tuple[OutcomeKind, ...]] = {
    "candidate": ("labels", "thumbs", "errors"),
    "shadow": ("labels",),
}
OUTCOME_STYLES: dict[OutcomeStatus, DriftStatus] = {"better": "quiet", "worse": "alarm"}
NO_OUTCOMES = {
    "labels": "no labels yet; send them to `POST /v1/feedback`",
    "thumbs": "no ratings yet",
    "errors": "not enough requests yet",
}
COMPARISON_HELP = """
Callers are compared, not requests: each counts once, with the share of its responses that were good. The
gateway assigns callers to the two versions at random, so if both perform the same, any other assignment
would have been equally likely. A difference is significant if hardly any other assignment shows one as
large (permutation test). The data is checked each time the number of responses has grown by half, and each
check spends a part of the allowed false positive rate: **5% for each candidate**, over all checks and all
three rows together, separate from the rate of drift alerts. The confidence intervals hold for all checks
together.

A caller is the `user` of the request, otherwise its API key. Without `user`, all requests of a key count as
one caller. Only requests since the start of the comparison count, whenever their labels arrive. Labels
represent only the requests that received one: if these differ from the rest, so does the difference. A
shadow has labels only for requests whose live response was labeled.

A new version, a new share, or acknowledging the alert restarts the comparison. If the live version had to
respond in place of the candidate, that counts as an error of the candidate.
"""


def draw_side_by_side(endpoint_id: str, keep_days: int) -> None:
    """Draw one table per pair of versions. keep_days: retention of requests."""
    pairs = monitor_queries.list_paired_versions(endpoint_id)
    if not pairs:
        return
    st.subheader("Candidate comparison", anchor=False)
    for pair, labelled in pairs:
        _draw_pair(pair, labelled, keep_days)
    with st.expander("How this test works", icon=":material/help:"):
        st.markdown(COMPARISON_HELP)


def _draw_pair(pair: SideBySide, labelled: LabelCounts | None, keep_days: int) -> None:
    what = "of callers" if pair.role == "candidate" else "of requests copied, responses not returned"
    st.markdown(
        f"**{escape_markdown(pair.other)}**, {pair.role} with {percent(pair.share)} {what}, compared with"
        f" **{escape_markdown(pair.live)}**"
    )
    if pair.since is None or labelled is None:
        st.caption(f"No responses from the {pair.role} yet.")
        return
    looks = pair.looks
    if looks:
        st.html(render_pair_table(pair))
    missing = [f"{TITLES[kind]}: {NO_OUTCOMES[kind]}" for kind in KINDS[pair.role] if kind not in looks]
    left_out = max((look.left_out for look in looks.values()), default=0)
    if left_out:
        missing.append(f"{plural(left_out, 'live response')} to callers of the candidate excluded")
    if labelled.answers:
        missing.append(f"{labelled.labelled:,} of {plural(labelled.answers, 'response')} labeled")
    if labelled.without_caller:
        missing.append(f"{plural(labelled.without_caller, 'response')} without a caller excluded")
    if note := describe_deletion(pair, keep_days, datetime.now(UTC).replace(tzinfo=None)):
        missing.append(note)
    since = f"Counting responses since {pair.since:%d %b %H:%M} UTC."
    st.caption(" · ".join([since, *missing]))


def render_pair_table(pair: SideBySide) -> str:
    """Render HTML with one row per kind of outcome that was checked."""
    rows = "".join(_render_candidate_row(pair, kind, pair.looks[kind]) for kind in KINDS[pair.role]
                   if kind in pair.looks)  # fmt: skip
    heads = ("Metric", "Live", pair.role.capitalize(), "Difference (CI)", "Result")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _render_candidate_row(pair: SideBySide, kind: OutcomeKind, look: ArmComparison) -> str:
    status = classify_outcome(look)
    word, rest = describe_outcome(status, pair, look)
    ink = ANSWER_STYLES[OUTCOME_STYLES.get(status, "collecting")]
    difference = format_points(look.difference) if look.difference.low is not None else "–"
    if pair.role == "shadow":
        counted = f"{plural(look.live.answers, 'pair')}, {plural(look.live.callers, 'caller')}"
        arms = f"<td class='figure' data-label='Same requests' colspan='2'>{counted}</td>"
    else:
        arms = "".join(
            f"<td class='figure' data-label='{name}'>{_format_arm(arm)}</td>"
            for name, arm in (("Live", look.live), (pair.role.capitalize(), look.other))
        )
    return (
        f"<tr><td><b>{html.escape(TITLES[kind])}</b></td>{arms}"
        f"<td class='figure' data-label='Difference'>{difference}</td>"
        f"<td><span style='{ink}'>{html.escape(word)}</span><div class='tb-note'>{html.escape(rest)}</div>"
        "</td></tr>"
    )


def _format_arm(arm: ArmSummary) -> str:
    share = "–" if arm.share is None else percent(arm.share)
    rest = f"{plural(arm.callers, 'caller')}, {plural(arm.answers, 'response')}"
    return f"{share}<div class='tb-note'>{rest}</div>"
