"""How good the answers are: people's feedback by version and group, a golden set again and again, and a
judge's word on logged requests, corrected by people's ratings of a few.
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
from engine.monitoring.label_candidates import SETTLED_REASONS
from engine.monitoring.text import format_points
from engine.rating.analysis.judge_correction import (
    MIN_RATED,
    CorrectedPassRate,
    correct_by_group,
    correct_by_version,
    describe_correction,
)
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

MAX_JUDGINGS = 4  # windows beside each other
NONE = f"""
No judge was asked yet. One reads a random sample of logged answers and says of each whether it is good
enough. A judge alone is not to be relied on: let people rate at least {MIN_RATED} of the answers too, pass
or fail, in a round of requests drawn at random of all (of no alert or group). They correct it.
"""


def draw_judgings(monitor: Monitor) -> None:
    """The newest judgings."""
    endpoint_id = monitor.endpoint_id
    st.markdown("**A judge, corrected by people**")
    judgings = monitor_queries.list_judgings(endpoint_id)
    finished = [job for job in judgings if job.status == "finished"]
    if not judgings:
        st.caption(NONE)
    for job in judgings[:1]:
        if job.status in ALIVE:
            st.caption(
                ":material/hourglass_top: The judge is being asked; the page **Overview** shows how far."
            )
        elif job.status != "finished":
            why = job.error.get("message", "") if job.error else ""
            st.warning(
                escape_markdown(f"The last judging ended without a result. {why}"), icon=":material/gavel:"
            )
    if finished:
        _draw_newest(finished)


def draw_judge_form(endpoint_id: str) -> None:
    """Closed; apart from what is drawn again every few seconds."""
    if has_right("work"):
        finished = [job for job in monitor_queries.list_judgings(endpoint_id) if job.status == "finished"]
        with st.expander("Ask a judge whether answers are good", icon=":material/gavel:"):
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
        f"{model} judged {result['judged']:,} of {plural(result['sample'] + result['rated'], 'answer')}",
        f"{plural(unread, 'verdict')} could not be read: none was guessed" if unread else "",
        f"{result['left_out']:,} of {plural(result['requests'], 'request')} without text left out"
        if result["left_out"]
        else "",
        "each different answer counts once",
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
    """HTML: a line for each window and version, or group."""
    heads = ("Asked", what, "Good answers, corrected", "People alone", "The judge alone, not to be relied on")
    lines = "".join(
        f"<tr><td class='figure'>{html.escape(days)}</td><td><b>{html.escape(name)}</b></td>"
        f"<td data-label='Corrected'>{html.escape(describe_corrected_share(seen))}</td>"
        f"<td data-label='People alone'>{html.escape(format_share(seen.people))}"
        f"<div class='tb-note'>{plural(seen.rated, 'rated answer')}</div></td>"
        f"<td data-label='Judge alone'>{percent(seen.judge) if seen.judge is not None else '–'}"
        f"<div class='tb-note'>{plural(seen.judged, 'answer')}{_describe_agreement(seen)}</div></td></tr>"
        for days, name, seen in rows
    )
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"{STYLE}<table class='tb-drift'><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def describe_corrected_share(seen: CorrectedPassRate) -> str:
    """The share with its interval and what it rests on, or why it can't be told."""
    if seen.by == "nothing":
        return f"Can’t be told: {seen.corrected.why}."
    rest = (
        ""
        if seen.by == "both"
        else "; by people alone, as they rated too few of what the judge passes or fails"
    )
    return f"{format_share(seen.corrected)}{rest}"


def format_share(share: Interval) -> str:
    """ "84% (76% to 90%)"."""
    if share.low is None or share.high is None:
        return "–"
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _describe_agreement(seen: CorrectedPassRate) -> str:
    return f"; people say the same of {seen.agree:,} of {seen.rated:,}" if seen.rated else ""


def _format_period(job: Job) -> str:
    ends = [datetime.fromisoformat(job.config[name]) for name in ("start", "end")]
    return " to ".join(f"{end:%d %b %H:%M}" for end in ends)


def _draw_form(endpoint_id: str, past: Job | None) -> None:
    before: ConfigDocument = past.config if past else {}
    judge = before.get("judge", {})
    with st.form(f"monitor-judge-{endpoint_id}", border=False):
        left, middle, right = st.columns(3)
        url = left.text_input(
            "Address", judge.get("base_url", ""), placeholder="https://HOST/v1",
            help="A server of OpenAI's protocol. A local model: serve it, and give its endpoint's address.",
        )  # fmt: skip
        model = middle.text_input("Model", judge.get("model", ""))
        key = right.text_input(
            "API key variable",
            judge.get("key_env", ""),
            help="Of the environment of the engine. An admin uses a new one with an address first",
        )
        criteria = st.text_area("An answer is good enough if", judge.get("criteria", INSTRUCTION), height=80)
        days = left.number_input("Requests of the last (days)", 0.1, 366.0, before.get("hours", 168.0) / 24)
        rows = middle.number_input("Maximum answers in the sample", 20, 5_000, before.get("rows", 200))
        if st.form_submit_button("Run judge", type="primary", icon=":material/gavel:"):
            asked = {"base_url": url, "model": model, "key_env": key or "", "criteria": criteria}
            body = {"endpoint": endpoint_id, "hours": 24 * days, "rows": int(rows), "judge": asked}
            send_command("judge_requests", body, "The judge is running.")


NOTHING = """
Nobody has said anything about its answers in this window. Send thumbs, scores, corrections,
or labels that come
later, to `POST /v1/feedback` with the answer's `id` as `request_id`.
"""
MAX_GROUPS = 12
MAX_CHECKS = 4


def draw_quality(monitor: Monitor, window: Window) -> None:
    """Feedback, by version and by group, and the schedule's evaluations."""
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
        for kind, noun in (("label", "right answers"), ("thumb", "thumbs up")):
            for sentence in describe_group_gaps(
                monitor_queries.count_callers_by_group(endpoint_id, window, kind), noun
            ):
                st.markdown(sentence)
        _draw_retraining_link(endpoint_id, counts)
    if unmatched.unmatched:
        st.caption(
            f"{unmatched.unmatched:,} of {plural(unmatched.feedback, 'piece')} of feedback: the request"
            " is not in the log. Kept, and in no figure of a version."
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
        "95% intervals that hold however often one looks, for answers that are rated one by one as likely"
        " as each"
        " other. People who rate are not all people."
    )


def _describe_thumbs(row: FeedbackCounts) -> list[str]:
    name, sentences = f"**{escape_markdown(row.version)}**", []
    if row.labels:
        share = anytime_share(row.right, row.labels)
        low, high = (percent(end or 0.0) for end in (share.low, share.high))
        sentences.append(
            f"{name} was right in {percent(share.value)} ({low} to {high}) of"
            f" {plural(row.labels, 'answer')} whose"
            " label came later."
        )
    if row.corrections:
        sentences.append(f"{name}: {plural(row.corrections, 'answer')} corrected.")
    if row.scores and row.mean_score is not None:
        mean = format_number(row.mean_score, 2)
        sentences.append(
            f"{name}: mean score {mean} of {plural(row.scores, 'score')}, as they were given (no interval)."
        )
    return sentences


def _draw_retraining_link(endpoint_id: str, counts: Sequence[FeedbackCounts]) -> None:
    """What people corrected or labelled can be trained on, where a registered model gave the answers."""
    corrections, labels = sum(row.corrections for row in counts), sum(row.labels for row in counts)
    if not corrections + labels or not has_right("work"):
        return
    kinds = [plural(n, noun) for n, noun in ((corrections, "correction"), (labels, "label")) if n]
    label = f"Bring {' and '.join(kinds)} back into the training of {{}}"
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
            st.caption(f"{MAX_GROUPS} of {plural(len(rated), 'group')}, those with the most feedback.")


def describe_group_gaps(groups: Mapping[str, Mapping[int, int]], noun: str) -> list[str]:
    """Groups that are surely better or worse off than the callers of all others, or that none can be told."""
    gaps, few = compute_group_gaps(groups)
    if not gaps:
        return []
    sentences = [
        f"**{escape_markdown(each.group)}** has {'more' if each.gap.above else 'fewer'} {noun}"
        " than all others:"
        f" {percent(each.share.value)} of {plural(each.callers, 'caller')},"
        f" {format_points(replace(each.gap.to_estimate()))}."
        for each in gaps
        if each.gap.above or each.gap.below
    ]
    if not sentences:
        widest = max(gaps, key=lambda each: abs(each.gap.value))
        sentences = [
            f"By group no difference of {noun} can be told from luck; the largest is"
            f" **{escape_markdown(widest.group)}**: {format_points(replace(widest.gap.to_estimate()))}."
        ]
    counted = "Each caller counts once; intervals for one look, as wide as the number of groups needs."
    left = f" {plural(len(few), 'group')} with under {MIN_CALLERS} callers left out." if few else ""
    return [" ".join([*sentences, f":gray[{counted}{left}]"])]


def _draw_bias(checks: Sequence[ScheduledCheck], is_set: bool) -> None:
    """What each check of the schedule came to; nothing where there is no schedule and was none."""
    if not checks and not is_set:
        return
    st.markdown("**Bias, checked on a schedule**")
    finished = [check for check in checks if check.finished_at is not None]
    if not finished:
        st.caption("The first check has not finished yet; it is queued when it is due.")
    for check in finished[:MAX_CHECKS]:
        icon = ":red[:material/error:]" if check.worse else ":gray[:material/balance:]"
        st.markdown(
            f"{icon} {check.queued_at:%d %b %Y %H:%M} UTC,"
            f" **{escape_markdown(check.model or '')}** against"
            f" {escape_markdown(check.against or '')}: {escape_markdown(check.sentence or '')}"
        )
    if len(finished) > MAX_CHECKS:
        st.caption(f"The newest {MAX_CHECKS} of {len(finished)} checks.")
    bias = load_page_features().get("bias")
    if finished and bias and bias.draw_scheduled_check:
        with st.expander(
            "Figures of the newest check", icon=":material/balance:", key="monitor-bias", on_change="rerun"
        ) as box:
            if box.open:
                bias.draw_scheduled_check(finished[0].job_id)
    ended_badly = [check for check in checks if check.status in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'check')} of the schedule ended without a result.")


def _draw_golden(golden: Sequence[GoldenRun]) -> None:
    st.markdown("**The golden set, evaluated on a schedule**")
    finished = [run for run in golden if run.figures]
    if not finished:
        st.caption("The first evaluation is not there yet; it is queued when it is due.")
        return
    names = list(dict.fromkeys(figure.metric for run in finished for figure in run.figures or ()))
    for name in names[:2]:
        st.plotly_chart(plot_golden(finished, name), key=f"monitor-golden-{name}", config=PLOT)
        st.caption(describe_golden_chart(finished, name))
    if len(names) > 2:
        st.caption(f"The first 2 of {len(names)} metrics; the page Evaluations has all of them.")
    ended_badly = [run for run in golden if run.status in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'evaluation')} of the schedule ended without a result.")


def plot_golden(finished: Sequence[GoldenRun], metric: str) -> go.Figure:
    """One figure over time; a bar where it has an interval, and none where it has not."""
    points = _list_golden_points(finished, metric)
    words = [
        f"{format_number(value, compute_decimals(figure.low, figure.high))}"
        f" ({format_interval(figure.low, figure.high)}, n {figure.n:,})"
        for _, value, figure in points
    ]
    chart = build_empty_figure(_format_golden_title(metric), "", height=240, x_title="")
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
    """What the bars are, and on how many rows each point rests."""
    figures = [figure for _, _, figure in _list_golden_points(finished, metric)]
    if not figures:
        return "No row could be scored yet."
    least, most = min(figure.n for figure in figures), max(figure.n for figure in figures)
    rows = plural(most, "row") if least == most else f"{least:,} to {plural(most, 'row')}"
    bare = sum(figure.low is None or figure.high is None for figure in figures)
    if bare == len(figures):
        return f"Without intervals; n {rows} each time."
    without = f" {bare:,} of {plural(len(figures), 'evaluation')} without one." if bare else ""
    return f"With 95% intervals; n {rows} each time.{without}"


def _list_golden_points(finished: Sequence[GoldenRun], metric: str) -> list[tuple[datetime, float, Figure]]:
    """When, the value, and the figure that it is of; those without a usable row are left out."""
    return [
        (run.queued_at, figure.value, figure)
        for run in finished
        for figure in run.figures or ()
        if figure.metric == metric and figure.value is not None
    ]


def _format_golden_title(metric: str) -> str:
    name = metric.removeprefix("eval/").replace("_", " ")
    return name[:1].upper() + name[1:]
