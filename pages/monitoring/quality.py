"""Response quality: user feedback by version and group, scheduled evaluations, and an LLM judge on logged
requests, corrected with human ratings.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import plotly.graph_objects as go
import streamlit as st

from engine.evaluation.statistics.intervals import Interval, anytime_share
from engine.monitoring.comparisons import MIN_CALLERS, compute_group_gaps
from engine.monitoring.labelling_text import SETTLED_REASONS
from engine.monitoring.text import format_points
from engine.rating.analysis.judge_correction import (
    MIN_RATED,
    CorrectedPassRate,
    correct_by_group,
    correct_by_version,
)
from engine.rating.raters_text import describe_correction
from pages.monitoring import monitor_queries
from pages.monitoring.drift import STYLE
from pages.shared.charts import PLOT, IntervalRow, build_empty_figure, plot_intervals
from pages.shared.features import NewRows, list_parts, load_page_features
from pages.shared.palette import BASE, VALIDATION, get_run_color
from pages.shared.session import escape_markdown, has_right, send_command
from store.core.figure_schemas import Figure
from store.core.formatting import compute_decimals, format_interval, format_number, percent, plural
from store.core.job_kinds import ALIVE
from store.core.monitoring_schemas import Monitor
from store.core.schemas import ConfigDocument, Job
from store.monitoring import monitors
from store.monitoring.config import INSTRUCTION
from store.monitoring.feedback import FeedbackCounts
from store.monitoring.logged_requests import JudgingWindow
from store.monitoring.monitors import GoldenRun, ScheduledCheck
from store.monitoring.traffic import Window

MAX_JUDGINGS = 4  # maximum windows in one table
NONE = f"""
No judge results yet. A judge grades a random sample of logged responses as pass or fail. It is not reliable
on its own: have raters rate at least {MIN_RATED} of the responses too, pass or fail, in a rating round of
requests drawn at random from all (not from an alert or group). Their ratings correct the judge.
"""


def draw_judgings(monitor: Monitor) -> None:
    """Draw the results of the newest judge runs."""
    endpoint_id = monitor.endpoint_id
    st.markdown("**LLM judge, corrected with human ratings**")
    judgings = monitor_queries.list_judgings(endpoint_id)
    finished = [job for job in judgings if job.status == "finished"]
    if not judgings:
        st.caption(NONE)
    for job in judgings[:1]:
        if job.status in ALIVE:
            st.caption(
                ":material/hourglass_top: The judge is running; see its progress on the **Overview** page."
            )
        elif job.status != "finished":
            why = job.error.get("message", "") if job.error else ""
            st.warning(
                escape_markdown(f"The last judge run ended without a result. {why}"), icon=":material/gavel:"
            )
    if finished:
        _draw_newest(finished)


def draw_judge_form(endpoint_id: str) -> None:
    """Draw the judge form, collapsed, and outside the part that refreshes every few seconds."""
    if has_right("work"):
        finished = [job for job in monitor_queries.list_judgings(endpoint_id) if job.status == "finished"]
        with st.expander("Judge responses", icon=":material/gavel:"):
            _draw_form(endpoint_id, finished[0] if finished else None)


def _draw_newest(finished: Sequence[Job]) -> None:
    rows = []
    for job in finished[:MAX_JUDGINGS]:
        answers = monitor_queries.list_judged_answers(job.job_id, JudgingWindow.of(job))
        rows += [
            (_format_period(job), version, seen) for version, seen in correct_by_version(answers).items()
        ]
    st.html(render_judged_table(rows))
    newest, result = finished[0], finished[0].result or {}
    model = newest.config["judge"]["model"]
    unread = sum(result["reasons"].values())
    parts = [
        f"{model} judged {result['judged']:,} of {plural(result['sample'] + result['rated'], 'response')}",
        f"{plural(unread, 'unreadable verdict')} excluded" if unread else "",
        f"{result['left_out']:,} of {plural(result['requests'], 'request')} without text excluded"
        if result["left_out"]
        else "",
        "each unique response counts once",
    ]
    frame = monitor_queries.find_correcting_round(newest.job_id, JudgingWindow.of(newest))
    st.caption(
        escape_markdown(
            f"{'; '.join(part for part in parts if part)}. {describe_correction(frame, SETTLED_REASONS)}"
        )
    )
    answers = monitor_queries.list_judged_answers(newest.job_id, JudgingWindow.of(newest))
    groups = {name: seen for name, seen in correct_by_group(answers).items() if seen.by != "nothing"}
    if len(groups) > 1:
        st.html(
            render_judged_table(
                [(_format_period(newest), name, seen) for name, seen in groups.items()], "Group"
            )
        )


def render_judged_table(rows: Sequence[tuple[str, str, CorrectedPassRate]], what: str = "Version") -> str:
    """Render HTML with one row per window and version, or group."""
    heads = ("Window", what, "Pass rate, corrected", "Raters only", "Judge only (not reliable)")
    lines = "".join(
        f"<tr><td class='figure'>{html.escape(days)}</td><td><b>{html.escape(name)}</b></td>"
        f"<td data-label='Corrected'>{html.escape(describe_corrected_share(seen))}</td>"
        f"<td data-label='Raters only'>{html.escape(format_share(seen.people))}"
        f"<div class='tb-note'>{plural(seen.rated, 'rated response')}</div></td>"
        f"<td data-label='Judge only'>{percent(seen.judge) if seen.judge is not None else '–'}"
        f"<div class='tb-note'>{plural(seen.judged, 'response')}{_describe_agreement(seen)}</div></td></tr>"
        for days, name, seen in rows
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def describe_corrected_share(seen: CorrectedPassRate) -> str:
    """Describe the pass rate with its interval and basis, or why it cannot be estimated."""
    if seen.by == "nothing":
        return f"Not enough data: {seen.corrected.why}."
    rest = (
        ""
        if seen.by == "both"
        else "; from raters only: too few ratings of responses that the judge passes or fails"
    )
    return f"{format_share(seen.corrected)}{rest}"


def format_share(share: Interval) -> str:
    """Format as "84% (76% to 90%)"."""
    if share.low is None or share.high is None:
        return "–"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _describe_agreement(seen: CorrectedPassRate) -> str:
    return f"; raters agree on {seen.agree:,} of {seen.rated:,}" if seen.rated else ""


def _format_period(job: Job) -> str:
    ends = [datetime.fromisoformat(job.config[name]) for name in ("start", "end")]
    return " to ".join(f"{end:%d %b %H:%M}" for end in ends)


def _draw_form(endpoint_id: str, past: Job | None) -> None:
    before: ConfigDocument = past.config if past else {}
    judge = before.get("judge", {})
    with st.form(f"monitor-judge-{endpoint_id}", border=False):
        left, middle, right = st.columns(3)
        url = left.text_input(
            "Base URL", judge.get("base_url", ""), placeholder="https://HOST/v1",
            help="An OpenAI-compatible server. For a local model, serve it and enter its endpoint URL.",
        )  # fmt: skip
        model = middle.text_input("Model", judge.get("model", ""))
        key = right.text_input(
            "API key variable",
            judge.get("key_env", ""),
            help="Environment variable of the engine. An admin must be the first to use a new one with a URL",
        )
        criteria = st.text_area("Pass criteria", judge.get("criteria", INSTRUCTION), height=80)
        days = left.number_input("Requests of the last (days)", 0.1, 366.0, before.get("hours", 168.0) / 24)
        rows = middle.number_input("Maximum sample size", 20, 5_000, before.get("rows", 200))
        if st.form_submit_button("Run judge", type="primary", icon=":material/gavel:"):
            asked = {"base_url": url, "model": model, "key_env": key or "", "criteria": criteria}
            body = {"endpoint": endpoint_id, "hours": 24 * days, "rows": int(rows), "judge": asked}
            send_command("judge_requests", body, "Judge started.")


NOTHING = """
No feedback in this window. Send thumbs, scores, corrections or delayed labels to `POST /v1/feedback`, with
the `id` of the response as `request_id`.
"""
MAX_GROUPS = 12
MAX_CHECKS = 4


def draw_quality(monitor: Monitor, window: Window) -> None:
    """Draw feedback by version and group, judge results, and scheduled checks and evaluations."""
    st.subheader("User feedback", anchor=False)
    endpoint_id = monitor.endpoint_id
    counts = monitor_queries.list_feedback_by_version(endpoint_id, window)
    unmatched = monitor_queries.count_unmatched_feedback(endpoint_id, window)
    if not unmatched.feedback:
        st.markdown(NOTHING)
    if counts:
        _draw_thumbs(counts, "monitor-thumbs")
        for row in counts:
            for sentence in _describe_thumbs(row):
                st.markdown(sentence)
        _draw_groups(monitor_queries.list_feedback_by_group(endpoint_id, window))
        for kind, noun in (("label", "correct responses"), ("thumb", "thumbs up")):
            for sentence in describe_group_gaps(
                monitor_queries.count_callers_by_group(endpoint_id, window, kind), noun
            ):
                st.markdown(sentence)
        _draw_retraining_link(endpoint_id, counts)
    if unmatched.unmatched:
        st.caption(
            f"{unmatched.unmatched:,} of {plural(unmatched.feedback, 'feedback item')} without a logged"
            " request: stored, but excluded from the figures by version."
        )
    draw_judgings(monitor)
    _draw_bias(monitor_queries.list_scheduled_checks(endpoint_id), bool(monitors.get_settings(monitor).bias))
    golden = monitor_queries.list_golden_runs(endpoint_id)
    if golden or monitors.get_settings(monitor).golden:
        _draw_golden(golden)


def _draw_thumbs(counts: Sequence[FeedbackCounts], key: str) -> None:
    rows = []
    for place, row in enumerate(counts):
        if row.thumbs:
            share = anytime_share(row.up, row.thumbs)
            who = row.grouped_by or f"{row.version}, {row.role}"
            name = f"{who} (n {row.thumbs:,})"
            ends = [None if end is None else 100 * end for end in (share.low, share.high)]
            color = VALIDATION if row.role == "live" else get_run_color(place + 1)
            rows.append(IntervalRow(name, 100 * share.value, ends[0], ends[1], color))
    if not rows:
        return
    figure = plot_intervals(rows, "Thumbs up (%)", level=50, height=90 + 40 * len(rows))
    figure.update_yaxes(showticklabels=True)
    figure.update_xaxes(range=[0, 100])
    st.plotly_chart(figure, key=key, config=PLOT)
    st.caption(
        "95% CIs, valid however often you look, assuming independent ratings at a constant rate. People who"
        " rate may differ from others."
    )


def _describe_thumbs(row: FeedbackCounts) -> list[str]:
    name, sentences = f"**{escape_markdown(row.version)}**", []
    if row.labels:
        share = anytime_share(row.right, row.labels)
        low, high = (percent(end or 0.0) for end in (share.low, share.high))
        sentences.append(
            f"{name}: {percent(share.value)} correct ({low} to {high}) of"
            f" {plural(row.labels, 'response')} with a delayed label."
        )
    if row.corrections:
        sentences.append(f"{name}: {plural(row.corrections, 'response')} corrected.")
    if row.scores and row.mean_score is not None:
        mean = format_number(row.mean_score, 2)
        sentences.append(f"{name}: mean score {mean} of {plural(row.scores, 'score')}, unadjusted, no CI.")
    return sentences


def _draw_retraining_link(endpoint_id: str, counts: Sequence[FeedbackCounts]) -> None:
    """Draw a link to train a registered model on corrections and labels of its responses."""
    corrections, labels = sum(row.corrections for row in counts), sum(row.labels for row in counts)
    if not corrections + labels or not has_right("work"):
        return
    kinds = [plural(n, noun) for n, noun in ((corrections, "correction"), (labels, "label")) if n]
    label = f"Train {{}} on {' and '.join(kinds)}"
    rows = NewRows(label, monitor_queries.list_served(endpoint_id), [], {"feedback": endpoint_id})
    for draw in list_parts(lambda feature: feature.draw_row_use):
        draw(rows)


def _draw_groups(counts: Sequence[FeedbackCounts]) -> None:
    rated = [row for row in counts if row.thumbs]
    if len(rated) < 2:
        return
    with st.expander("By group", icon=":material/groups:", expanded=True):
        _draw_thumbs(rated[:MAX_GROUPS], "monitor-groups")
        if len(rated) > MAX_GROUPS:
            st.caption(f"Top {MAX_GROUPS} of {plural(len(rated), 'group')} by feedback.")


def describe_group_gaps(groups: Mapping[str, Mapping[int, int]], noun: str) -> list[str]:
    """Describe groups that differ significantly from the callers of all other groups, or that none does."""
    gaps, few = compute_group_gaps(groups)
    if not gaps:
        return []
    sentences = [
        f"**{escape_markdown(each.group)}** has {'more' if each.gap.above else 'fewer'} {noun}"
        f" than all other groups: {percent(each.share.value)} of {plural(each.callers, 'caller')},"
        f" {format_points(replace(each.gap.to_estimate()))}."
        for each in gaps
        if each.gap.above or each.gap.below
    ]
    if not sentences:
        widest = max(gaps, key=lambda each: abs(each.gap.value))
        sentences = [
            f"No significant difference in {noun} by group; the largest is"
            f" **{escape_markdown(widest.group)}**: {format_points(replace(widest.gap.to_estimate()))}."
        ]
    counted = "Each caller counts once; simultaneous CIs for all groups, valid for a single look."
    left = f" {plural(len(few), 'group')} with fewer than {MIN_CALLERS} callers excluded." if few else ""
    return [" ".join([*sentences, f":gray[{counted}{left}]"])]


def _draw_bias(checks: Sequence[ScheduledCheck], is_set: bool) -> None:
    """Draw the results of scheduled bias checks, if there are or were any."""
    if not checks and not is_set:
        return
    st.markdown("**Scheduled bias checks**")
    finished = [check for check in checks if check.finished_at is not None]
    if not finished:
        st.caption("No results yet. The first check starts when it is due.")
    for check in finished[:MAX_CHECKS]:
        icon = ":red[:material/error:]" if check.worse else ":gray[:material/balance:]"
        st.markdown(
            f"{icon} {check.queued_at:%d %b %Y %H:%M} UTC,"
            f" **{escape_markdown(check.model or '')}** vs."
            f" {escape_markdown(check.against or '')}: {escape_markdown(check.sentence or '')}"
        )
    if len(finished) > MAX_CHECKS:
        st.caption(f"Newest {MAX_CHECKS} of {len(finished)} checks.")
    bias = load_page_features().get("bias")
    if finished and bias and bias.draw_scheduled_check:
        with st.expander(
            "Newest check", icon=":material/balance:", key="monitor-bias", on_change="rerun"
        ) as box:
            if box.open:
                bias.draw_scheduled_check(finished[0].job_id)
    ended_badly = [check for check in checks if check.status in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'scheduled check')} ended without a result.")


def _draw_golden(golden: Sequence[GoldenRun]) -> None:
    st.markdown("**Scheduled evaluations on the golden set**")
    finished = [run for run in golden if run.figures]
    if not finished:
        st.caption("No results yet. The first evaluation starts when it is due.")
        return
    names = list(dict.fromkeys(figure.metric for run in finished for figure in run.figures or ()))
    for name in names[:2]:
        st.plotly_chart(plot_golden(finished, name), key=f"monitor-golden-{name}", config=PLOT)
        st.caption(describe_golden_chart(finished, name))
    if len(names) > 2:
        st.caption(f"First 2 of {len(names)} metrics. See all on the Evaluations page.")
    ended_badly = [run for run in golden if run.status in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'scheduled evaluation')} ended without a result.")


def plot_golden(finished: Sequence[GoldenRun], metric: str) -> go.Figure:
    """Plot one metric over time, with error bars where it has an interval."""
    points = _list_golden_points(finished, metric)
    words = [
        f"{format_number(value, compute_decimals(figure.low, figure.high))}"
        f" ({format_interval(figure.low, figure.high)}, n {figure.n:,})"
        for _, value, figure in points
    ]
    title = metric.removeprefix("eval/").replace("_", " ")
    chart = build_empty_figure(title[:1].upper() + title[1:], "", height=240, x_title="")
    bars = [
        (at, value, figure.low, figure.high)
        for at, value, figure in points
        if figure.low is not None and figure.high is not None
    ]
    reach = {
        "type": "data",
        "array": [high - value for _, value, _, high in bars],
        "arrayminus": [value - low for _, value, low, _ in bars],
        "symmetric": False,
        "color": BASE,
        "width": 0,
    }
    chart.add_trace(
        go.Scatter(
            x=[at for at, *_ in bars], y=[value for _, value, *_ in bars], error_y=reach, mode="markers",
            marker={"color": VALIDATION}, hoverinfo="skip",
        )
    )  # fmt: skip
    chart.add_trace(
        go.Scatter(
            x=[at for at, *_ in points], y=[value for _, value, _ in points], mode="lines+markers",
            line={"color": VALIDATION}, hovertext=words, hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    chart.update_layout(showlegend=False)
    return chart


def describe_golden_chart(finished: Sequence[GoldenRun], metric: str) -> str:
    """Describe what the error bars show, and the number of rows behind each point."""
    figures = [figure for _, _, figure in _list_golden_points(finished, metric)]
    if not figures:
        return "No rows scored yet."
    least, most = min(figure.n for figure in figures), max(figure.n for figure in figures)
    rows = plural(most, "row") if least == most else f"{least:,} to {plural(most, 'row')}"
    bare = sum(figure.low is None or figure.high is None for figure in figures)
    if bare == len(figures):
        return f"No CIs; n = {rows} per evaluation."
    without = f" {bare:,} of {plural(len(figures), 'evaluation')} without a CI." if bare else ""
    return f"95% CI; n = {rows} per evaluation.{without}"


def _list_golden_points(finished: Sequence[GoldenRun], metric: str) -> list[tuple[datetime, float, Figure]]:
    """List time, value and figure of each evaluation with a usable row."""
    return [
        (run.queued_at, figure.value, figure)
        for run in finished
        for figure in run.figures or ()
        if figure.metric == metric and figure.value is not None
    ]
