"""Whether new requests and answers are still like the reference, and which candidate beside the live
version is better, as far as it can be told from luck.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from engine.monitoring.drift import WATCHED_SIGNALS, compute_log_threshold
from engine.monitoring.endpoint_status import (
    STATUS_LABELS,
    DriftLine,
    DriftStatus,
    build_pace_lines,
    build_status_lines,
    describe_pace_reference,
    describe_reference,
)
from engine.monitoring.sequential_tests import MARGIN, PACES, compute_pace_threshold
from engine.monitoring.text import (
    describe_deletion,
    describe_look,
    describe_outcome,
    format_odds,
    format_points,
    format_time,
    is_conclusive,
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


def build_drift_lines(monitor: Monitor, window: Window) -> list[DriftLine]:
    """Each watched value, with what the window is like."""
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
    """The table, what it rests on, and what it promises."""
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
        verb = "waits" if waiting == 1 else "wait"
        st.caption(f":material/hourglass_top: {plural(waiting, 'request')} {verb} to be measured.")
    together = f"{100 * settings.alpha:g}%"
    limit = format_odds(compute_log_threshold(settings.alpha, len(settings.watched)))
    watched = plural(len(settings.watched), "watched value")
    with st.expander("How this test works, and its limits", icon=":material/help:"):
        st.markdown(
            f"Evidence of {limit} means that single requests are unlike the reference: were they"
            f" drawn by chance, **any** of the {watched} would ever reach it with a chance of at most"
            f" {together}, however often one looks. Requests aren't drawn by chance: hours and"
            " weekdays differ, callers send bursts, and one answer is like the one before.\n\n"
            "So against the first requests, or those of a window, an alarm waits until 3 to 7 whole"
            " days (UTC) differ from the same weekdays of the first week. As long as nothing"
            f" changes, any alarm comes with a chance of at most {together} **a month**, with cycles"
            " of days and weeks and with bursts; not so where days wander for days on end by"
            " themselves. Before the first week is over and 3 more days, nothing is raised, and"
            " evidence is shown as held back. A change is told after 3 to 7 days.\n\n"
            "Rows of a data set or an evaluation have no time of day: there the evidence is the"
            " alarm at once, and hours whose requests are unlike these rows raise it too. After an"
            " alarm that somebody has acknowledged, the promise begins anew.\n\n"
            "Times and failures wait for no day, as a margin takes the place of days: evidence of"
            f" {format_odds(compute_pace_threshold(settings.alpha))} is an alarm. As long as half"
            " of the answers take at"
            f" most {MARGIN:g} times as long as in the reference, and no more fail than it can’t rule out,"
            f" an alarm of the two ever comes with a chance of at most {together}, also with cycles, bursts"
            " and heavy tails. Each minute counts once. At 5,000 requests a day four times as slow is told"
            " within an hour or two, twice as slow within half a day.\n\n"
            "The last column describes the chosen window beside the reference. It is for one look, and"
            " raises no"
            " alarm. Stability index: 0 is no difference; beside it stands what luck alone reaches in 95 of"
            " 100"
            " windows. Requests that failed, candidates, shadows and fallbacks don’t count."
        )


def render_drift_table(lines: Sequence[DriftLine]) -> str:
    """HTML: a line for each watched value, the alarms first."""
    order = {"alarm": 0, "held": 1, "quiet": 2, "collecting": 3, "unwatched": 4}
    rows = "".join(_render_drift_row(line) for line in sorted(lines, key=lambda line: order[line.standing]))
    heads = ("Watched", "State", "Evidence now", "Tested on", "This window compared with the reference")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _render_drift_row(line: DriftLine) -> str:
    state = STATUS_LABELS[line.standing]
    since = f"<div class='tb-note'>since {html.escape(format_time(line.since))}</div>" if line.since else ""
    tested = f"{line.tested:,} after {line.reference:,}"
    if line.standing == "collecting":
        tested = f"{line.reference:,} of {line.wanted:,} for its reference"
        if line.reference >= line.wanted > 0:
            tested = f"{line.tested:,} after {line.reference:,}"
    strongest = (
        f"<div class='tb-note'>at most {line.strongest}</div>" if line.strongest != line.evidence else ""
    )
    text = html.escape(line.note or line.window or "–")
    return (
        f"<tr><td><b>{html.escape(line.title)}</b></td><td"
        f" style='{ANSWER_STYLES[line.standing]}'>{state}{since}</td>"
        f"<td class='figure' data-label='Evidence'>{line.evidence}{strongest}</td>"
        f"<td class='figure' data-label='Tested on'>{tested if line.wanted else '–'}</td><td>{text}</td></tr>"
    )


TITLES: dict[OutcomeKind, str] = {
    "labels": "Right, by labels that came later",
    "thumbs": "Thumbs up",
    "errors": "Answered without failing",
}
KINDS: dict[str, tuple[OutcomeKind, ...]] = {
    "candidate": ("labels", "thumbs", "errors"),
    "shadow": ("labels",),
}
NO_OUTCOMES = {
    "labels": "no label yet: send them to `POST /v1/feedback` as they become known",
    "thumbs": "no thumb yet",
    "errors": "not enough requests yet",
}
PROMISE = """
Callers are compared, not requests: each counts once, with the share of its answers that were good. The
gateway deals callers to the two versions by chance, so if both were alike, any other dealing would have been
as likely; a difference counts as sure if hardly any of them shows as large a one. It is looked at whenever
there are half as many answers more as at the last look, and every look spends a part of the chance of a
false word. That chance is **5% for each candidate**, for ever and over all three rows together, apart from
the chance that drift alarms share. The intervals hold at all looks together.

A caller is whom the request names in `user`, else the key it came with: as the gateway deals them. Without
`user` all requests of a key are one caller. Only requests asked since the comparison began count, whenever
their labels come. Labels tell of the requests that got one: if those are not like the rest, neither is the
difference. A shadow has labels only of requests whose live answer somebody judged.

Another version, another share, or an alert that somebody has seen begins the comparison anew. An answer that
the live version had to give in the candidate's place counts as a failure of the candidate.
"""


def draw_side_by_side(endpoint_id: str, keep_days: int) -> None:
    """A table for each pair; nothing where there is none. keep_days: how long requests are kept."""
    pairs = monitor_queries.list_paired_versions(endpoint_id)
    if not pairs:
        return
    st.subheader("Candidate comparison", anchor=False)
    for pair, labelled in pairs:
        _draw_pair(pair, labelled, keep_days)
    with st.expander("How this test works", icon=":material/help:"):
        st.markdown(PROMISE)


def _draw_pair(pair: SideBySide, labelled: LabelCounts | None, keep_days: int) -> None:
    what = "of the callers" if pair.role == "candidate" else "of the requests copied, answers unseen"
    st.markdown(
        f"**{escape_markdown(pair.other)}**, {pair.role} with {percent(pair.share)} {what}, beside"
        f" **{escape_markdown(pair.live)}**"
    )
    if pair.since is None or labelled is None:
        st.caption(f"The {pair.role} has not answered yet.")
        return
    looks = pair.looks
    if looks:
        st.html(render_pair_table(pair))
    missing = [f"{TITLES[kind]}: {NO_OUTCOMES[kind]}" for kind in KINDS[pair.role] if kind not in looks]
    left_out = max((look.left_out for look in looks.values()), default=0)
    if left_out:
        missing.append(f"{plural(left_out, 'live answer')} to callers of the candidate left out")
    if labelled.answers:
        missing.append(f"labels of {labelled.labelled:,} of {plural(labelled.answers, 'answer')}")
    if labelled.without_caller:
        missing.append(f"{plural(labelled.without_caller, 'answer')} without a caller in no comparison")
    if note := describe_deletion(pair, keep_days, datetime.now(UTC).replace(tzinfo=None)):
        missing.append(note)
    since = f"Answers since {pair.since:%d %b %H:%M} UTC count."
    st.caption(" · ".join([since, *missing]))


def render_pair_table(pair: SideBySide) -> str:
    """HTML: a row for each kind of outcome that was looked at."""
    rows = "".join(_render_candidate_row(pair, kind, pair.looks[kind]) for kind in KINDS[pair.role]
                   if kind in pair.looks)  # fmt: skip
    heads = ("Good answers", "Live", pair.role.capitalize(), "Difference", "")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _render_candidate_row(pair: SideBySide, kind: OutcomeKind, look: ArmComparison) -> str:
    word, rest = describe_outcome(pair, kind, look)
    sure = look.sure if is_conclusive(look) else None
    ink = ANSWER_STYLES["collecting" if not sure else "quiet" if sure.verdict == "better" else "alarm"]
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
    rest = f"{plural(arm.callers, 'caller')}, {plural(arm.answers, 'answer')}"
    return f"{share}<div class='tb-note'>{rest}</div>"
