"""The decision on an improvement: old and new rows side by side with both versions' figures, each change
against the allowed margin, the gate of the alias, and the buttons to promote or decline.
"""

from __future__ import annotations

import html

import streamlit as st

from pages.registry.check_cards import CHECK_ANSWERS, draw_check, draw_evaluations, draw_title
from pages.retraining import retraining_queries
from pages.retraining.improve_links import IMPROVEMENT
from pages.shared import display, palette
from pages.shared.session import escape_markdown, has_right, send_command, show_errors
from store.core import formatting
from store.core.errors import NotFoundError
from store.core.figure_schemas import Estimate, Figure
from store.core.metric_table import METRICS
from store.core.model_schemas import ModelSummary
from store.registry.schemas import CheckAnswer, CheckReport, GateReport
from store.retraining import text as improvement_text
from store.retraining.schemas import Improvement
from store.retraining.text import can_be_leakage

POWER = (1.960 + 0.842) / 1.960  # normal quantiles: a 95% interval excludes a limit with 80% power
COLORS: dict[CheckAnswer, str] = {
    "passed": palette.GOOD,
    "failed": palette.BAD,
    "cant_tell": palette.TRAIN,
}
STYLE = """<style>
.tb-side {display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; line-height: 1.6;
  font-variant-numeric: tabular-nums}
.tb-side span:first-child {overflow-wrap: anywhere}
.tb-change {border-top: 1px solid color-mix(in srgb, currentColor 16%, transparent); margin-top: .3rem;
  padding-top: .3rem; font-weight: 600}
.tb-reach {position: relative; height: 26px; margin: .35rem 0 0; border-radius: 4px; overflow: hidden;
  background: color-mix(in srgb, currentColor 5%, transparent)}
.tb-reach * {position: absolute; top: 0; bottom: 0}
.tb-reach .bad {left: 0; background: repeating-linear-gradient(115deg,
  color-mix(in srgb, #d64545 26%, transparent) 0 6px, color-mix(in srgb, #d64545 10%, transparent) 6px 12px)}
.tb-reach .zero {width: 0; border-left: 2px dashed color-mix(in srgb, currentColor 45%, transparent)}
.tb-reach .reach {top: 10px; bottom: 10px; border-radius: 3px; min-width: 3px}
.tb-reach .dot {top: 7px; bottom: auto; width: 12px; height: 12px; border-radius: 50%; margin-left: -6px}
</style>"""


def is_share_metric(check: CheckReport) -> bool:
    """Whether the metric is a share, whose changes are shown in points."""
    return check.unit.startswith("share")


def describe_change(change: Estimate, *, shares: bool) -> str:
    """Describe as "1.2 points better (0.4 worse to 2.8 better, n 300)"; shares are in points."""
    times, unit = (100.0, "point") if shares else (1.0, "")
    value, low, high = change.value, change.low, change.high
    if low is None or high is None:
        why = change.why or "no interval"
        return f"{_format_signed(times * value, 2, unit)} ({why}, n {change.n:,})"
    places = formatting.compute_decimals(times * low, times * high)
    ends = f"{_format_signed(times * low, places)} to {_format_signed(times * high, places)}"
    if (low < 0) == (high < 0):
        near, far = sorted((abs(times * low), abs(times * high)))
        ends = formatting.format_interval(near, far, places)
    return f"{_format_signed(times * value, places, unit)} ({ends}, n {change.n:,})"


def _format_signed(value: float, places: int, unit: str = "") -> str:
    size = formatting.format_number(abs(value), places)
    many = f" {unit}{'' if size == '1' else 's'}" if unit else ""
    if not size.strip("0.,"):
        return f"{size}{many}"
    return f"{size}{many} {'better' if value > 0 else 'worse'}"


def estimate_rows_needed(change: Estimate, limit: float | None) -> int | None:
    """Estimate the rows needed to show with 80% power that two equally good versions are equivalent.

    It is derived from the width of this interval; None if it cannot be estimated.
    """
    low, high = change.low, change.high
    if low is None or high is None or not limit or high <= low:
        return None
    half_width = (high - low) / 2
    return int(formatting.round_significant(change.n * (POWER * half_width / abs(limit)) ** 2))


def describe_rows_needed(check: CheckReport) -> str:
    """Describe how many rows would resolve an inconclusive check.

    "" if unknown, or if it is inconclusive because of possible leakage, where more rows would not help.
    """
    if check.answer != "cant_tell" or check.value is None or can_be_leakage(check):
        return ""
    rows = estimate_rows_needed(check.value, check.limit)
    if rows is None or rows <= check.value.n:
        return ""
    return (
        f"If both are equally good, about {rows:,} held-out rows would show it with 80% power; here n is "
        f"{check.value.n:,}."
    )


def render_change(change: Estimate, limit: float | None, answer: CheckAnswer, *, shares: bool) -> str:
    """Render the change against the margin as HTML; hidden from screen readers, because the text says the
    same.
    """
    low, high = change.low, change.high
    if low is None or high is None:
        return ""
    least, most = min(low, 0.0, limit or 0.0), max(high, 0.0)
    spare = 0.12 * (most - least) or 1.0
    start, width = least - spare, most - least + 2 * spare

    def at(value: float) -> str:
        return f"{100 * (value - start) / width:.2f}%"

    color = COLORS[answer]
    bad = f"<div class='bad' style='width: {at(limit)}'></div>" if limit is not None else ""
    reach = f"left: {at(low)}; width: {100 * (high - low) / width:.2f}%; background: {color}"
    return (
        f"<div aria-hidden='true'><div class='tb-reach'>{bad}<div class='zero' style='left: {at(0.0)}'></div>"
        f"<div class='reach' style='{reach}'></div>"
        f"<div class='dot' style='left: {at(change.value)}; background: {color}'></div></div>"
        f"<div class='tb-note'>{_render_key(limit, shares=shares)}</div></div>"
    )


def _render_key(limit: float | None, *, shares: bool) -> str:
    """Render the legend of the dashed line and the hatching."""
    dashed = "Dashed: no change"
    if limit is None:
        return f"{dashed}."
    size = f"{100 * abs(limit):g} points" if shares else f"{abs(limit):g}"
    return f"{dashed}. Hatched: {f'more than {size} worse' if limit else 'worse'}."


HEADLINES: dict[
    improvement_text.ImprovementOutcome, tuple[str, str, str]
] = {  # {by} is replaced, for example by "more than 2 points worse"
    "better": (
        *("green", "verified"),
        "Better than the version in use, on old and new rows",
    ),
    "within": (
        *("green", "verified"),
        "Not {by} than the version in use, on old and new rows",
    ),
    "worse_within": ("orange", "trending_down", "Worse than the version in use, but not {by}"),
    "worse": ("red", "cancel", "Worse than the version in use: {by}"),
    "cant_tell": ("orange", "help", "Inconclusive: these rows don't show whether it is {by}"),
    "alone": ("gray", "help", "No version in use to compare with"),
}


def draw_decision(model: ModelSummary, improvement: Improvement) -> None:
    """Draw the decision card."""
    own = improvement.facts["gate"]
    with st.container(border=True, key="improve-decision"):
        color, icon, words = HEADLINES[improvement_text.classify_outcome(own)]
        by = improvement_text.format_margin(own)
        st.markdown(f"#### :{color}[:material/{icon}:] {escape_markdown(words.format(by=by))}")
        st.caption(escape_markdown(own.sentence))
        _draw_sides(improvement, own)
        alias_report = _draw_alias_gate(improvement)
        if improvement.state == "deciding":
            _draw_serving(model, improvement)
            if has_right("work"):
                _draw_buttons(improvement, own, alias_report)
            else:
                st.caption("A member can promote or decline it.")
        elif improvement.ended_at is not None:
            _draw_outcome(improvement)


def _draw_sides(improvement: Improvement, own: GateReport) -> None:
    st.html(STYLE)
    checks = own.checks
    for start in range(0, len(checks), 2):
        pair = checks[start : start + 2]
        for column, check in zip(st.columns(2, gap="medium"), pair, strict=False):
            with column, st.container(border=True, gap="xsmall", height="stretch"):
                draw_title(check)
                _draw_figures(improvement, own, check)
                if check.value is None:
                    st.caption(escape_markdown(check.sentence))
                if check is checks[-1]:
                    _draw_judges(improvement)
                if more := describe_rows_needed(check):
                    st.caption(f":material/lightbulb: {more}")
                draw_evaluations(check)


def _draw_judges(improvement: Improvement) -> None:
    """Draw which held-out rows were used, if some were used by earlier improvements."""
    rows = improvement.facts.get("rows")
    if rows is None or rows.again is None or not rows.again.rows:
        return
    st.markdown(f":material/history: Evaluated on **{improvement_text.describe_judging_rows(rows)}**")
    if set(rows.again.times) != {"0"}:
        st.caption(improvement_text.FLATTERED)


def _draw_figures(improvement: Improvement, own: GateReport, check: CheckReport) -> None:
    """Draw one line per version, then the change against the margin."""
    names = (own.reference, check.other or own.holder or "")
    metric = improvement.config.metric or check.sentence.partition(":")[0].replace(" ", "_")
    lines, shares = [], is_share_metric(check)
    for name, evaluation_id in zip(names, check.evaluations, strict=False):
        figure = _find_figure(evaluation_id, metric)
        if figure is not None:
            lines.append(format_figure_line(name, figure, new=name == own.reference))
    picture = ""
    if check.value is not None:
        picture = render_change(check.value, check.limit, check.answer, shares=shares)
        words = describe_change(check.value, shares=shares)
        lines.append(
            f"<div class='tb-side tb-change'><span>Change</span><span>{html.escape(words)}</span></div>"
        )
    if lines:
        st.html("".join(lines) + picture)


def _find_figure(evaluation_id: str, metric: str) -> Figure | None:
    try:
        figures = retraining_queries.read_evaluation(evaluation_id).figures
    except NotFoundError:
        return None
    named = (figure for figure in figures if figure.metric == f"eval/{metric}")
    return next(named, None) or next(iter(figures), None)


def format_figure_line(name: str, figure: Figure, *, new: bool) -> str:
    """Format a figure as "trec@4, new accuracy 91.2% (87 to 94, n 300)"."""
    key = figure.metric.removeprefix("eval/")
    title = METRICS[key].title if key in METRICS else key
    return (
        f"<div class='tb-side'><span><b>{html.escape(name)}</b> {'new' if new else 'in use'}</span>"
        f"<span>{html.escape(f'{title} {format_figure(figure)}')}</span></div>"
    )


def format_figure(figure: Figure) -> str:
    """Format a figure as "91.2% (87.0 to 94.1, n 300)"."""
    value, low, high = figure.value, figure.low, figure.high
    if value is None:
        return f"not measured: {figure.failed or 'no usable row'}"
    shares = list(figure.bounds) == [0.0, 1.0]
    times, unit = (100.0, "%") if shares else (1.0, "")
    if low is None or high is None:
        return f"{formatting.format_point_value(times * value)}{unit} (no interval, n {figure.n:,})"
    places = formatting.compute_decimals(times * low, times * high)
    bounds = formatting.format_interval(times * low, times * high, places)
    return f"{formatting.format_number(times * value, places)}{unit} ({bounds}, n {figure.n:,})"


def _draw_alias_gate(improvement: Improvement) -> GateReport | None:
    """Draw the gate that every version has to pass before it gets the alias, and return its report."""
    reference, alias = improvement.facts.get("version"), improvement.alias
    if reference is None or improvement.state != "deciding":
        return None
    with show_errors():
        report = retraining_queries.check_alias_gate(reference, alias)
        st.markdown(f"**The gate of {escape_markdown(alias)}** {CHECK_ANSWERS[report.answer]}")
        if not report.checks:
            st.caption("This gate has no checks of its own. An admin can add them on the Gate tab.")
            return report
        for check in report.checks:
            draw_check(check)
        return report
    return None


def _draw_serving(model: ModelSummary, improvement: Improvement) -> None:
    subject = f"{model.name}@{improvement.alias}"
    names = [
        seen.name
        for seen in retraining_queries.list_endpoints()
        if seen.wanted == "running" and subject in str(seen.settings)
    ]
    if not names:
        st.caption(
            f":material/dns: No endpoint serves {escape_markdown(subject)}, so promoting it has no "
            "immediate effect on traffic."
        )
        return
    listed = ", ".join(names)
    verb = "serves" if len(names) == 1 else "serve"
    st.caption(
        f":material/dns: {escape_markdown(listed)} {verb} {escape_markdown(subject)}. After promotion, "
        "the new version starts next to the old one and takes over once it responds; requests in "
        "progress are completed. If it fails to start, nothing changes, and the Endpoints page shows why."
    )


def _draw_buttons(improvement: Improvement, own: GateReport, alias_report: GateReport | None) -> None:
    passed = own.answer == "passed" and (alias_report is None or alias_report.answer == "passed")
    reason = st.text_area(
        "Reason", key="improve-reason", height=80, max_chars=2_000,
        placeholder="For example: no worse on old rows, better on corrected answers.",
    )  # fmt: skip
    alias = improvement.alias
    with st.container(horizontal=True):
        if passed and st.button(
            f"Promote to {alias}", type="primary", icon=":material/verified:", key="improve-promote"
        ):
            _decide(improvement, reason, promote=True)
        if st.button("Decline", icon=":material/do_not_disturb_on:", key="improve-decline"):
            _decide(improvement, reason, promote=False)
        if not passed and has_right("govern"):
            with st.popover("Promote anyway", icon=":material/gavel:", key="improve-override"):
                st.markdown(
                    "The checks did not pass. As an admin you can override them; your reason is recorded."
                )
                if st.button(f"Promote to {alias} anyway", key="improve-override-sure"):
                    _decide(improvement, reason, promote=True, override=True)
    if not passed and not has_right("govern"):
        st.caption("The checks did not pass. Only an admin can promote it anyway, with a reason.")


def _decide(improvement: Improvement, reason: str | None, *, promote: bool, override: bool = False) -> None:
    body = {
        "improvement": improvement.improvement_id,
        "promote": promote,
        "reason": (reason or "").strip(),
        "override": override,
    }
    reference = improvement.facts.get("version", "It")
    done = f"{reference} is now {improvement.alias}." if promote else f"{reference} declined."
    if send_command("decide_improvement", body, done) is not None:
        st.query_params[IMPROVEMENT] = improvement.improvement_id  # keeps it open after it has ended
        st.rerun()


def _draw_outcome(improvement: Improvement) -> None:
    icon = (
        ":green[:material/verified:]" if improvement.state == "promoted" else ":material/do_not_disturb_on:"
    )
    by, when = improvement.ended_by_name or "somebody", display.format_ago(improvement.ended_at)
    note = f" “{improvement.note}”" if improvement.note else ""
    st.markdown(
        f"{icon} {improvement_text.STATES[improvement.state].title} by {escape_markdown(by)}"
        f" {when}.{escape_markdown(note)}"
    )
