"""The decision: old and new rows side by side, each with both versions' figures and what the change is, the
gate of the alias beneath, and a person's yes or no."""

from __future__ import annotations

import html

import streamlit as st

from engine.diagnostics import phrasing
from pages.improve import improve_reads
from pages.improve.change_picture import STYLE, change_picture, change_words, in_shares, needed_words
from pages.run_parts.gate_checks import ANSWERS, draw_check, draw_evaluations, draw_title
from pages.run_parts.improve_link import IMPROVEMENT
from pages.shared import quantities
from pages.shared.session import act, guarded, may, plain
from store.catalog.metric_table import METRICS
from store.contract.errors import NotFoundError
from store.documents.figures.figure import Figure
from store.documents.shipping.gate import CheckReport, GateReport
from store.documents.shipping.version import ModelLine
from store.documents.tables.improvement import Improvement
from store.words import improvement_words

HEADLINES: dict[improvement_words.How, tuple[str, str, str]] = {  # {by}: "more than 2 points worse"
    "better": (
        *("green", "verified"),
        "Surely better than the one in use, on the old rows and on the new ones",
    ),
    "within": (
        *("green", "verified"),
        "Surely not {by} than the one in use, on the old rows and on the new ones",
    ),
    "worse_within": ("orange", "trending_down", "Surely worse than the one in use, though not {by}"),
    "worse": ("red", "cancel", "Worse than the one in use: {by}"),
    "cant_tell": ("orange", "help", "It can't be told from these rows whether it is {by}"),
    "alone": ("gray", "help", "There is no version in use that it could be compared with"),
}


def draw_decision(model: ModelLine, improvement: Improvement) -> None:
    """The card."""
    own = improvement["facts"]["gate"]
    with st.container(border=True, key="improve-decision"):
        color, icon, words = HEADLINES[improvement_words.how(own)]
        by = improvement_words.worse_by(own)
        st.markdown(f"#### :{color}[:material/{icon}:] {plain(words.format(by=by))}")
        st.caption(plain(own["sentence"]))
        _draw_sides(improvement, own)
        alias_report = _draw_alias_gate(improvement)
        if improvement["state"] == "deciding":
            _draw_serving(model, improvement)
            if may("work"):
                _draw_buttons(improvement, own, alias_report)
            else:
                st.caption("A member promotes it or declines.")
        elif improvement["ended_at"] is not None:
            _draw_ended(improvement)


def _draw_sides(improvement: Improvement, own: GateReport) -> None:
    st.html(STYLE)
    checks = own["checks"]
    for start in range(0, len(checks), 2):
        pair = checks[start : start + 2]
        for column, check in zip(st.columns(2, gap="medium"), pair, strict=False):
            with column, st.container(border=True, gap="xsmall", height="stretch"):
                draw_title(check)
                _draw_figures(improvement, own, check)
                if check["value"] is None:
                    st.caption(plain(check["sentence"]))
                if check is checks[-1]:
                    _draw_judges(improvement)
                if more := needed_words(check):
                    st.caption(f":material/lightbulb: {more}")
                draw_evaluations(check)


def _draw_judges(improvement: Improvement) -> None:
    """By which rows, where some of them have judged before."""
    rows = improvement["facts"].get("rows")
    if rows is None or "again" not in rows or not rows["again"]["rows"]:
        return
    st.markdown(f":material/history: Judged by **{improvement_words.judges(rows)}**")
    if set(rows["again"]["times"]) != {"0"}:
        st.caption(improvement_words.FLATTERED)


def _draw_figures(improvement: Improvement, own: GateReport, check: CheckReport) -> None:
    """A line for each version, then the change and where it lies beside what is allowed."""
    names = (own["reference"], check["other"] or own["holder"] or "")
    metric = improvement["config"].get("metric") or check["sentence"].partition(":")[0].replace(" ", "_")
    lines, shares = [], in_shares(check)
    for name, evaluation_id in zip(names, check["evaluations"], strict=False):
        figure = _figure(evaluation_id, metric)
        if figure is not None:
            lines.append(figure_line(name, figure, new=name == own["reference"]))
    picture = ""
    if check["value"] is not None:
        picture = change_picture(check["value"], check["limit"], check["answer"], shares=shares)
        words = change_words(check["value"], shares=shares)
        lines.append(
            f"<div class='tb-side tb-change'><span>Change</span><span>{html.escape(words)}</span></div>"
        )
    if lines:
        st.html("".join(lines) + picture)


def _figure(evaluation_id: str, metric: str) -> Figure | None:
    try:
        figures = improve_reads.evaluation(evaluation_id)["figures"]
    except NotFoundError:
        return None
    named = (figure for figure in figures if figure["metric"] == f"eval/{metric}")
    return next(named, None) or next(iter(figures), None)


def figure_line(name: str, figure: Figure, *, new: bool) -> str:
    """ "trec@4, new    accuracy 91.2% (87 to 94, n 300)"."""
    key = figure["metric"].removeprefix("eval/")
    title = METRICS[key].title if key in METRICS else key
    return (
        f"<div class='tb-side'><span><b>{html.escape(name)}</b> {'new' if new else 'in use'}</span>"
        f"<span>{html.escape(f'{title} {figure_words(figure)}')}</span></div>"
    )


def figure_words(figure: Figure) -> str:
    """ "91.2% (87.0 to 94.1, n 300)"."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return f"could not be measured: {figure['failed'] or 'no usable row'}"
    shares = list(figure["bounds"]) == [0.0, 1.0]
    times, unit = (100.0, "%") if shares else (1.0, "")
    if low is None or high is None:
        return f"{phrasing.alone(times * value)}{unit} (no interval, n {figure['n']:,})"
    places = phrasing.decimals(times * low, times * high)
    bounds = phrasing.interval(times * low, times * high, places)
    return f"{phrasing.number(times * value, places)}{unit} ({bounds}, n {figure['n']:,})"


# -- the alias, and who serves it -------------------------------------------------------------------


def _draw_alias_gate(improvement: Improvement) -> GateReport | None:
    """What every version has to pass before it takes the alias."""
    reference, alias = improvement["facts"].get("version"), improvement["alias"]
    if reference is None or improvement["state"] != "deciding":
        return None
    with guarded():
        report = improve_reads.alias_gate(reference, alias)
        st.markdown(f"**The gate of {plain(alias)}** {ANSWERS[report['answer']]}")
        if not report["checks"]:
            st.caption("It has no checks of its own. An admin sets them on the tab Gate.")
            return report
        for check in report["checks"]:
            draw_check(check)
        return report
    return None


def _draw_serving(model: ModelLine, improvement: Improvement) -> None:
    subject = f"{model['name']}@{improvement['alias']}"
    names = [
        seen["name"]
        for seen in improve_reads.endpoints()
        if seen["wanted"] == "running" and subject in str(seen["settings"])
    ]
    if not names:
        st.caption(f":material/dns: No endpoint serves {plain(subject)} now: nobody sees the change at once.")
        return
    listed = ", ".join(names)
    verb = "serves" if len(names) == 1 else "serve"
    st.caption(
        f":material/dns: {plain(listed)} {verb} {plain(subject)}. Promoted, the new version is brought up"
        " beside the old one and takes over once it answers; answers under way are finished. If it can't be"
        " brought up, nothing changes, and the page Endpoints says why."
    )


# -- yes or no --------------------------------------------------------------------------------------


def _draw_buttons(improvement: Improvement, own: GateReport, alias_report: GateReport | None) -> None:
    passed = own["answer"] == "passed" and (alias_report is None or alias_report["answer"] == "passed")
    reason = st.text_area(
        "Why", key="improve-reason", height=80, max_chars=2_000,
        placeholder="No worse on the old rows, better on what people corrected.",
    )  # fmt: skip
    alias = improvement["alias"]
    with st.container(horizontal=True):
        if passed and st.button(
            f"Promote to {alias}", type="primary", icon=":material/verified:", key="improve-promote"
        ):
            _decide(improvement, reason, promote=True)
        if st.button("Decline", icon=":material/do_not_disturb_on:", key="improve-decline"):
            _decide(improvement, reason, promote=False)
        if not passed and may("govern"):
            with st.popover("Promote all the same", icon=":material/gavel:", key="improve-override"):
                st.markdown(
                    "The checks are not passed. As an admin you may promote it all the same; your reason is"
                    " kept."
                )
                if st.button(f"Make it {alias} all the same", key="improve-override-sure"):
                    _decide(improvement, reason, promote=True, override=True)
    if not passed and not may("govern"):
        st.caption("What is not passed an admin alone may promote, with a reason.")


def _decide(improvement: Improvement, reason: str | None, *, promote: bool, override: bool = False) -> None:
    body = {
        "improvement": improvement["improvement_id"],
        "promote": promote,
        "reason": (reason or "").strip(),
        "override": override,
    }
    reference = improvement["facts"].get("version", "It")
    done = f"{reference} is {improvement['alias']} now." if promote else f"{reference} is declined."
    if act("decide_improvement", body, done) is not None:
        st.query_params[IMPROVEMENT] = improvement["improvement_id"]  # it stays in sight once it has ended
        st.rerun()


def _draw_ended(improvement: Improvement) -> None:
    icon = (
        ":green[:material/verified:]"
        if improvement["state"] == "promoted"
        else ":material/do_not_disturb_on:"
    )
    by, when = improvement["ended_by_name"] or "somebody", quantities.ago(improvement["ended_at"])
    note = f" “{improvement['note']}”" if improvement["note"] else ""
    st.markdown(
        f"{icon} {improvement_words.STATES[improvement['state']].title} by {plain(by)} {when}.{plain(note)}"
    )
