"""How good people find the answers, by version and group, and what a golden set says again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import plotly.graph_objects as go
import streamlit as st

from engine.diagnostics.drift.arms_words import points
from engine.diagnostics.drift.group_gaps import LEAST_CALLERS, group_gaps
from engine.diagnostics.phrasing import decimals, interval, number, percent, plural
from engine.diagnostics.statistics.anytime import anytime_share
from pages.bias import bias_reads
from pages.bias.bias_view import draw_check
from pages.monitor import monitor_reads
from pages.monitor.monitor_judged import draw_judged
from pages.run_parts.improve_link import draw_improve_link
from pages.shared.charts import IntervalRow, interval_chart
from pages.shared.palette import BASE, VALIDATION, run_color
from pages.shared.session import may, plain
from pages.shared.traces import PLOT, empty_figure
from store.documents.figures.figure import Figure
from store.documents.serving.monitor import Monitor
from store.queries.monitoring import monitors
from store.queries.monitoring.feedback import FeedbackCounts
from store.queries.monitoring.golden import GoldenRun
from store.queries.monitoring.scheduled_bias import ScheduledCheck
from store.queries.monitoring.traffic import Window

NOTHING = """
Nobody has said anything about its answers in this window. Send thumbs, scores, corrections,
or labels that come
later, to `POST /v1/feedback` with the answer's `id` as `request_id`.
"""
MOST_GROUPS = 12
MOST_CHECKS = 4


def draw_quality(monitor: Monitor, window: Window) -> None:
    """Feedback, by version and by group, and the schedule's evaluations."""
    st.subheader("What do people say?", anchor=False)
    endpoint_id = monitor["endpoint_id"]
    counts = monitor_reads.feedback_by_version(endpoint_id, window)
    unmatched = monitor_reads.unmatched(endpoint_id, window)
    if not unmatched["feedback"]:
        st.markdown(NOTHING)
    if counts:
        _draw_thumbs(counts, "monitor-thumbs")
        for row in counts:
            for sentence in _sentences(row):
                st.markdown(sentence)
        _draw_groups(monitor_reads.feedback_by_group(endpoint_id, window))
        for kind, noun in (("label", "right answers"), ("thumb", "thumbs up")):
            for sentence in gap_sentences(monitor_reads.callers_by_group(endpoint_id, window, kind), noun):
                st.markdown(sentence)
        _draw_way_back(endpoint_id, counts)
    if unmatched["unmatched"]:
        st.caption(
            f"{unmatched['unmatched']:,} of {plural(unmatched['feedback'], 'piece')} of feedback: the request"
            " is not in the log. Kept, and in no figure of a version."
        )
    draw_judged(monitor)
    _draw_bias(monitor_reads.scheduled_checks(endpoint_id), bool(monitors.settings(monitor).bias))
    golden = monitor_reads.golden_runs(endpoint_id)
    if golden or monitors.settings(monitor).golden:
        _draw_golden(golden)


def _draw_thumbs(counts: Sequence[FeedbackCounts], key: str) -> None:
    rows = []
    for place, row in enumerate(counts):
        if row["thumbs"]:
            share = anytime_share(row["up"], row["thumbs"])
            who = row["grouped_by"] or f"{row['version']}, {row['role']}"
            name = f"{who} (n {row['thumbs']:,})"
            ends = [None if end is None else 100 * end for end in (share.low, share.high)]
            color = VALIDATION if row["role"] == "live" else run_color(place + 1)
            rows.append(IntervalRow(name, 100 * share.value, ends[0], ends[1], color))
    if not rows:
        return
    figure = interval_chart(rows, "Thumbs up (%)", level=50, height=90 + 40 * len(rows))
    figure.update_yaxes(showticklabels=True)
    figure.update_xaxes(range=[0, 100])
    st.plotly_chart(figure, key=key, config=PLOT)
    st.caption(
        "95% intervals that hold however often one looks, for answers that are rated one by one as likely"
        " as each"
        " other. People who rate are not all people."
    )


def _sentences(row: FeedbackCounts) -> list[str]:
    name, sentences = f"**{plain(row['version'])}**", []
    if row["labels"]:
        share = anytime_share(row["right"], row["labels"])
        low, high = (percent(end or 0.0) for end in (share.low, share.high))
        sentences.append(
            f"{name} was right in {percent(share.value)} ({low} to {high}) of"
            f" {plural(row['labels'], 'answer')} whose"
            " label came later."
        )
    if row["corrections"]:
        sentences.append(f"{name}: {plural(row['corrections'], 'answer')} corrected.")
    if row["scores"] and row["mean_score"] is not None:
        mean = number(row["mean_score"], 2)
        sentences.append(
            f"{name}: mean score {mean} of {plural(row['scores'], 'score')}, as they were given"
            " (no interval)."
        )
    return sentences


def _draw_way_back(endpoint_id: str, counts: Sequence[FeedbackCounts]) -> None:
    """What people corrected or labelled can be trained on, where a registered model gave the answers."""
    corrections, labels = (sum(row[kind] for row in counts) for kind in ("corrections", "labels"))
    if not corrections + labels or not may("work"):
        return
    for model in monitor_reads.served_models(endpoint_id):
        kinds = [plural(n, noun) for n, noun in ((corrections, "correction"), (labels, "label")) if n]
        label = f"Bring {' and '.join(kinds)} back into the training of {plain(model)}"
        draw_improve_link(model, label, feedback=endpoint_id)


def _draw_groups(counts: Sequence[FeedbackCounts]) -> None:
    rated = [row for row in counts if row["thumbs"]]
    if len(rated) < 2:
        return
    with st.expander("By group", icon=":material/groups:", expanded=True):
        _draw_thumbs(rated[:MOST_GROUPS], "monitor-groups")
        if len(rated) > MOST_GROUPS:
            st.caption(f"{MOST_GROUPS} of {plural(len(rated), 'group')}, those with the most feedback.")


def gap_sentences(groups: Mapping[str, Mapping[int, int]], noun: str) -> list[str]:
    """Groups that are surely better or worse off than the callers of all others, or that none can be told."""
    gaps, few = group_gaps(groups)
    if not gaps:
        return []
    sentences = [
        f"**{plain(each.group)}** has {'more' if each.gap.above else 'fewer'} {noun} than all others:"
        f" {percent(each.share.value)} of {plural(each.callers, 'caller')}, {points({**each.gap.to_dict()})}."
        for each in gaps
        if each.gap.above or each.gap.below
    ]
    if not sentences:
        widest = max(gaps, key=lambda each: abs(each.gap.value))
        sentences = [
            f"By group no difference of {noun} can be told from luck; the largest is"
            f" **{plain(widest.group)}**: {points({**widest.gap.to_dict()})}."
        ]
    counted = "Each caller counts once; intervals for one look, as wide as the number of groups needs."
    left = f" {plural(len(few), 'group')} with under {LEAST_CALLERS} callers left out." if few else ""
    return [" ".join([*sentences, f":gray[{counted}{left}]"])]


def _draw_bias(checks: Sequence[ScheduledCheck], is_set: bool) -> None:
    """What each check of the schedule came to; nothing where there is no schedule and was none."""
    if not checks and not is_set:
        return
    st.markdown("**Bias, checked on a schedule**")
    finished = [check for check in checks if check["finished_at"] is not None]
    if not finished:
        st.caption("The first check has not finished yet; it is queued when it is due.")
    for check in finished[:MOST_CHECKS]:
        icon = ":red[:material/error:]" if check["worse"] else ":gray[:material/balance:]"
        st.markdown(
            f"{icon} {check['queued_at']:%d %b %Y %H:%M} UTC, **{plain(check['model'] or '')}** against"
            f" {plain(check['against'] or '')}: {plain(check['sentence'] or '')}"
        )
    if len(finished) > MOST_CHECKS:
        st.caption(f"The newest {MOST_CHECKS} of {len(finished)} checks.")
    if finished:
        with st.expander(
            "Figures of the newest check", icon=":material/balance:", key="monitor-bias", on_change="rerun"
        ) as box:
            if box.open:
                draw_check(bias_reads.check(finished[0]["job_id"]))
    ended_badly = [check for check in checks if check["status"] in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'check')} of the schedule ended without a result.")


def _draw_golden(golden: Sequence[GoldenRun]) -> None:
    st.markdown("**The golden set, evaluated on a schedule**")
    finished = [run for run in golden if run.get("figures")]
    if not finished:
        st.caption("The first evaluation is not there yet; it is queued when it is due.")
        return
    names = list(dict.fromkeys(figure["metric"] for run in finished for figure in run["figures"] or ()))
    for name in names[:2]:
        st.plotly_chart(golden_chart(finished, name), key=f"monitor-golden-{name}", config=PLOT)
        st.caption(golden_caption(finished, name))
    if len(names) > 2:
        st.caption(f"The first 2 of {len(names)} metrics; the page Evaluations has all of them.")
    ended_badly = [run for run in golden if run["status"] in ("failed", "lost", "cancelled")]
    if ended_badly:
        st.caption(f"{plural(len(ended_badly), 'evaluation')} of the schedule ended without a result.")


def golden_chart(finished: Sequence[GoldenRun], metric: str) -> go.Figure:
    """One figure over time; a bar where it has an interval, and none where it has not."""
    points = _golden_points(finished, metric)
    words = [
        f"{number(value, decimals(figure['low'], figure['high']))}"
        f" ({interval(figure['low'], figure['high'])}, n {figure['n']:,})"
        for _, value, figure in points
    ]
    chart = empty_figure(_golden_title(metric), "", height=240, x_title="")
    bars = [
        (at, value, figure["low"], figure["high"])
        for at, value, figure in points
        if figure["low"] is not None and figure["high"] is not None
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


def golden_caption(finished: Sequence[GoldenRun], metric: str) -> str:
    """What the bars are, and on how many rows each point rests."""
    figures = [figure for _, _, figure in _golden_points(finished, metric)]
    if not figures:
        return "No row could be scored yet."
    least, most = min(figure["n"] for figure in figures), max(figure["n"] for figure in figures)
    rows = plural(most, "row") if least == most else f"{least:,} to {plural(most, 'row')}"
    bare = sum(figure["low"] is None or figure["high"] is None for figure in figures)
    if bare == len(figures):
        return f"Without intervals; n {rows} each time."
    without = f" {bare:,} of {plural(len(figures), 'evaluation')} without one." if bare else ""
    return f"With 95% intervals; n {rows} each time.{without}"


def _golden_points(finished: Sequence[GoldenRun], metric: str) -> list[tuple[datetime, float, Figure]]:
    """When, the value, and the figure that it is of; those without a usable row are left out."""
    return [
        (run["queued_at"], figure["value"], figure)
        for run in finished
        for figure in run.get("figures") or ()
        if figure["metric"] == metric and figure["value"] is not None
    ]


def _golden_title(metric: str) -> str:
    name = metric.removeprefix("eval/").replace("_", " ")
    return name[:1].upper() + name[1:]
