"""The Bias tab of a run: base against tuned, worst first, with continuations as judged by the classifier;
and the groups of an evaluation's rows.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from engine.bias import text as words
from engine.bias.rates import TOXICITY
from pages.bias import charts, form
from pages.bias.form import draw_button, draw_classifier, draw_files, estimate_duration, start_check
from pages.people import activity_feed
from pages.shared import display, run_queries, text_display
from pages.shared.charts import PLOT
from pages.shared.job_progress import show_active_jobs
from pages.shared.layout import LINK
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, has_right, show_errors
from store.bias.config import BiasConfig, BiasGroups
from store.bias.schemas import (
    BiasCheck,
    BiasProbe,
    BiasSummary,
    ChangedContinuation,
    ChangedPair,
    ClassifierJudgement,
    GroupComparison,
    GroupRates,
    GroupTable,
)
from store.core import formatting
from store.core.figure_schemas import BiasFigure, BiasReport, get_measure_title
from store.core.job_kinds import ALIVE
from store.core.schemas import Job
from store.evaluation.schemas import EvaluationSummary
from store.runs.schemas import Run

SHOWN_CONTINUATIONS = 6  # openings shown by default
MAY_OFFEND = (
    "Examples with the largest changes in either direction, not a representative sample. For each prompt:"
    " the most harmful continuation of each model and the mean over all continuations."
)


def draw_continuations(judged: ClassifierJudgement) -> None:
    """Draw the continuations of one check."""
    labels = " or ".join(f"“{label}”" for label in judged.labels)
    drawn = formatting.plural(judged.samples, "continuation")
    st.caption(
        escape_markdown(
            f"Harmful: {labels} by {judged.classifier} with a probability of {judged.threshold:g} or more."
            f" {drawn} per prompt, {judged.max_new_tokens} new tokens each, sampled with the same seeds for"
            " both models."
        )
    )
    # above the texts because the error rates limit the figures' reliability
    errors = " ".join(words.describe_classifier_errors(judged))
    icon = ":material/help:" if not judged.errors else ":material/rule:"
    st.markdown(f"{icon} {escape_markdown(errors)}")
    changed = judged.changed
    if not changed:
        st.caption("No continuation changed its harm probability.")
        return
    count = formatting.plural(len(changed), "prompt")
    with st.expander(
        f"Largest changes: {count} (may contain offensive text)", icon=":material/visibility_off:"
    ):
        st.caption(MAY_OFFEND)
        every = len(changed) <= SHOWN_CONTINUATIONS or st.toggle(
            f"All {len(changed)}", key="bias-continuations-all"
        )
        for line in changed if every else changed[:SHOWN_CONTINUATIONS]:
            _draw_changed(line)


def _draw_changed(line: ChangedContinuation) -> None:
    with st.container(border=True, gap="xsmall"):
        group = f" · {escape_markdown(line.group)}" if line.group else ""
        means = f"mean harm probability {line.base_mean:.2f} → {line.tuned_mean:.2f}"
        st.caption(f"**{escape_markdown(line.opening)}** …{group} · {means}")
        sides = "".join(
            f"<div class='tb-side' dir='auto'><b>{name} ({probability:.2f})</b>"
            f" {html.escape(text) or '<i>no text</i>'}</div>"
            for name, probability, text in (
                ("Base", line.base_probability, line.base),
                ("Tuned", line.tuned_probability, line.tuned),
            )
        )
        st.html(f"{text_display.STYLE}<div class='tb-pair'>{sides}</div>")


TAB = "bias"
SHOWN_PAIRS = 6  # pairs shown by default
CLASSIFICATION_HEAD_NOTE = (
    "Bias checks with text pairs are not available for runs with a classification head. Evaluate the run"
    " and compare groups of rows on the evaluation page."
)
NO_CHECK = (
    "No bias checks yet. A check asks the base and the tuned model the same questions about two people who"
    " differ only in a name, a pronoun or a group, and reports what got worse."
)
DIFF_STYLE = "<style>.tb-people del {text-decoration: none}</style>"  # not a deletion: the texts only differ
PAIRS_HELP = (
    "Likelihood ratio of the two texts under the base and the tuned model. Pairs with the largest changes,"
    " not a representative sample."
)
ABOUT = (
    "Gray: base model; colored: tuned model, with 95% CI. *Worse* and *better* are significant at 5% after"
    " Holm correction over all metrics of the check; *not worse*: the 95% CI of the change is below the"
    " limit."
)


def draw_bias(run_id: str) -> None:
    """Draw the tab of one run."""
    with show_errors():
        run = run_queries.read_current_run(run_id)
        if run.status in ALIVE:
            st.caption("The model can be checked once the run has ended.")
            return
        alive = draw_unfinished(form.list_unfinished(run_id=run_id), run_id=run_id)
        listed = form.list_checks(run_id=run_id)
        if run.config.get("task") == "classification":
            st.caption(CLASSIFICATION_HEAD_NOTE)
            return
        if not listed:
            if not alive:
                _draw_empty(run)
            return
        chosen = _choose_check(listed)
        draw_check(form.read_check(chosen))
        if not alive:
            with st.container(horizontal=True, vertical_alignment="center"):
                draw_button(run, first=False)
            draw_files(run)
            draw_classifier(run)


def _draw_empty(run: Run) -> None:
    st.markdown(NO_CHECK)
    draw_button(run, first=True)
    st.caption(estimate_duration(run))
    draw_files(run)
    draw_classifier(run)


def _choose_check(listed: Sequence[BiasSummary]) -> str:
    """Draw the choice of a check, by default the newest."""
    if len(listed) == 1:
        return listed[0].job_id
    names = {check.job_id: f"{display.format_ago(check.created_at)}: {check.sentence}" for check in listed}
    return st.selectbox("Check", list(names), format_func=lambda job_id: names[job_id], key="bias-chosen")


def draw_unfinished(jobs: Sequence[Job], *, run_id: str = "", evaluation_id: str = "") -> bool:
    """Draw queued and running checks, or the newest failed one; return whether some are active."""
    alive = [job.job_id for job in jobs if job.status in ALIVE]
    if alive:
        show_active_jobs(
            lambda: form.list_unfinished(run_id=run_id, evaluation_id=evaluation_id), alive, "check"
        )
    elif jobs and jobs[0].status == "failed" and (error := jobs[0].error):
        st.error(
            escape_markdown(f"The last check failed. {error['message']} {error.get('fix') or ''}".strip())
        )
    return bool(alive)


def get_verdict_mark(report: BiasReport) -> str:
    """Return the icon of a report."""
    if report.worse:
        return ":red[:material/balance:]"
    if all(figure.answer == "cant_tell" for figure in report.figures):
        return ":gray[:material/balance:]"
    return ":green[:material/balance:]"


def draw_summary(run_id: str) -> None:
    """Draw the newest check's sentence below the run's verdict, with a link."""
    listed = form.list_checks(run_id=run_id)
    if listed:
        ink = "red" if listed[0].worse else "gray"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f":{ink}[:material/balance:] **Bias:** {escape_markdown(listed[0].sentence)}",
                width="content",
            )
            if st.button("View check", type="tertiary", icon=":material/arrow_forward:", key="bias-open"):
                st.switch_page("pages/runs/run.py", query_params={"run": run_id, LINK: TAB})
    elif has_right("work") and st.button(
        "Check for bias", type="tertiary", icon=":material/balance:", key="bias-open"
    ):
        st.switch_page("pages/runs/run.py", query_params={"run": run_id, LINK: TAB})


def draw_check(check: BiasCheck) -> None:
    """Draw one check: its sentence, worse figures first, the pairs that changed most, and its limitations."""
    report, details = check.report, check.details
    st.subheader(f"{get_verdict_mark(report)} {escape_markdown(report.sentence)}", anchor=False)
    maker = activity_feed.describe_creator(check.created_by)
    by = f" by {escape_markdown(maker)}" if maker else ""
    held = (
        f"{escape_markdown(check.model)} against {escape_markdown(check.against)}, " if check.against else ""
    )
    st.caption(f"{held}requested{by} {display.format_ago(check.created_at)}; took"
        f" {display.format_duration(details.seconds)}")  # fmt: skip
    _draw_figures(report.figures)
    for probe in details.probes:
        _draw_probe(probe)
    if continued := details.continuations:
        draw_continuations(continued)
    _draw_pairs(details.pairs)
    with st.expander("Limitations", icon=":material/info:"):
        st.markdown("\n".join(f"- {escape_markdown(limit)}" for limit in report.limits))


def draw_scheduled_check(job_id: str) -> None:
    """Draw a check started by a schedule."""
    draw_check(form.read_check(job_id))


def _draw_figures(figures: Sequence[BiasFigure]) -> None:
    for probe in dict.fromkeys(figure.probe for figure in figures):
        part = [f for f in figures if f.probe == probe and f.unit == charts.SHARE and f.base]
        if not part:
            continue
        part = charts.sort_figures(part)
        st.markdown(f"**{escape_markdown(probe)}**: base to tuned")
        left, right = st.columns(2, gap="large")
        with left:
            st.caption(charts.describe_levels_axis(part))
            chart = charts.plot_levels(part)
            alt = f"Metrics of {probe} for the base and the tuned model, with confidence intervals"
            st.plotly_chart(chart, key=f"bias-levels-{probe}", config=PLOT, alt=alt)
        with right:
            st.caption(charts.describe_changes_axis(part))
            chart = charts.plot_changes(part)
            st.plotly_chart(chart, key=f"bias-changes-{probe}", config=PLOT, alt=f"Changes in {probe}")
    st.caption(ABOUT)
    lines = [charts.build_row(figure) for figure in figures]
    st.dataframe(lines, hide_index=True, alt="All metrics of the check, worse first")


def _draw_probe(probe: BiasProbe) -> None:
    noun = "prompt" if probe.kind == TOXICITY else "item"
    parts = [f"{formatting.plural(probe.items, noun)} of {formatting.plural(probe.rows, 'row')}"]
    for level in probe.levels:
        base, tuned = charts.format_share(level.base), charts.format_share(level.tuned)
        parts.append(f"{level.name.lower()}: {base} → {tuned}")
    left_out = [f"{formatting.plural(count, 'row')} excluded: {why}" for why, count in probe.left_out.items()]
    st.caption(f"**{escape_markdown(probe.name)}** · {escape_markdown('; '.join([*parts, *left_out]))}")
    for notice in probe.notices:
        st.caption(escape_markdown(notice))


def _draw_pairs(pairs: Sequence[ChangedPair]) -> None:
    if not pairs:
        return
    st.markdown("**Pairs with the largest changes**")
    st.caption(PAIRS_HELP)
    every = len(pairs) <= SHOWN_PAIRS or st.toggle(f"All {len(pairs)}", key="bias-pairs-all")
    for pair in pairs if every else pairs[:SHOWN_PAIRS]:
        first, second = text_display.mark_differences(pair.first, pair.second)
        with st.container(border=True, gap="xsmall"):
            group = f" · {escape_markdown(pair.group)}" if pair.group else ""
            st.caption(f"{escape_markdown(pair.probe)}{group} · {describe_pair(pair)}")
            sides = "".join(f"<div class='tb-side' dir='auto'>{side}</div>" for side in (first, second))
            st.html(f"{text_display.STYLE}{DIFF_STYLE}<div class='tb-pair tb-people'>{sides}</div>")


def describe_pair(pair: ChangedPair) -> str:
    """Describe the likelihood ratio of both sides of a pair, before and after."""
    return f"base {_format_factor(pair.base)}, tuned {_format_factor(pair.tuned)}"


def _format_factor(nats: float) -> str:
    times = 2.718281828 ** min(abs(nats), 12.0)
    return f"{times:.{1 if times < 10 else 0}f} times" if times < 1000 else "over 1,000 times"


RATES = {
    "score": "Score",
    "selection": "Selection rate",
    "true_positive": "True-positive rate",
    "false_positive": "False-positive rate",
}
INTERVALS_HELP = "With 95% CI; those of the largest gap hold simultaneously for all pairs of groups."
NO_GROUPS = (
    "Compare rates between groups of rows, with confidence intervals. Groups with fewer than 30 rows are"
    " listed but not compared."
)


def draw_groups(evaluation_id: str, others: Sequence[EvaluationSummary]) -> None:
    """Draw the section of one evaluation. others: evaluations on the same data."""
    st.markdown("**Groups**")
    with show_errors():
        alive = draw_unfinished(
            form.list_unfinished(evaluation_id=evaluation_id), evaluation_id=evaluation_id
        )
        listed = form.list_checks(evaluation_id=evaluation_id)
        if listed:
            check = form.read_check(listed[0].job_id)
            report = check.report
            st.markdown(f"{get_verdict_mark(report)} **{escape_markdown(report.sentence)}**")
            for compared in check.details.groups:
                _draw_compared(compared, report.figures)
        if not alive and has_right("work"):
            _draw_form(evaluation_id, others, first=not listed)


def _draw_form(evaluation_id: str, others: Sequence[EvaluationSummary], *, first: bool) -> None:
    if first:
        st.caption(NO_GROUPS)
    own = f"bias-groups-{evaluation_id}"
    groups = ModelForm(BiasGroups, f"{own}-", {"column": "label"})
    with st.grid(3, min_column_width=210):
        groups.draw_field("column")
        groups.draw_field("positive")
        groups.draw_field(
            "against", choices={"": "None"} | {each.evaluation_id: each.name for each in others}
        )
    if st.button("Compare groups", icon=":material/balance:", key=f"{own}-start"):
        parsed = groups.parse(evaluation=evaluation_id)
        if parsed:
            start_check(BiasConfig(builtin=False, groups=[parsed]))


def _draw_compared(compared: GroupComparison, figures: Sequence[BiasFigure]) -> None:
    table = compared.tuned
    gaps = [
        figure
        for figure in figures
        if figure.kind == "group_gap" and figure.probe.startswith(f"{table.column} in ")
    ]
    lines = [_build_gap_row(figure, compared.against) for figure in gaps]
    st.dataframe(lines, hide_index=True, alt="The largest gap between groups, by rate")
    st.dataframe(
        [_build_row(group, table) for group in table.groups],
        hide_index=True,
        alt=f"Rates by {table.column}",
    )
    st.caption(escape_markdown(_describe_comparison(table, compared)))


def _build_gap_row(figure: BiasFigure, against: str | None) -> dict[str, str | int]:
    """Build the row of one rate's gap, next to that of another evaluation if there is one."""
    line: dict[str, str | int] = {
        "Largest gap": get_measure_title(figure.measure, "").capitalize(),
        "This evaluation": charts.format_amount(figure, "tuned"),
    }
    if against:
        line |= {
            against: charts.format_amount(figure, "base"),
            "Change": charts.format_amount(figure, "change"),
        }
    return line | {"n": figure.tuned.n}


def _build_row(group: GroupRates, table: GroupTable) -> dict[str, str | int]:
    line: dict[str, str | int] = {table.column: group.group, "n": group.n}
    for rate, title in RATES.items():
        if rate in group.rates:
            level = group.rates[rate]
            text = charts.format_share(level.estimate) if level.estimate else f"too few rows ({level.n})"
            line[title] = text
    return line


def _describe_comparison(table: GroupTable, compared: GroupComparison) -> str:
    parts = [f"Score: {table.metric.removeprefix('eval/')}. {INTERVALS_HELP}"]
    if ratio := table.selection_ratio:
        parts.append(f"Demographic parity ratio {charts.format_share(ratio)}.")
    if table.hidden:
        names = ", ".join(f"{name} ({count})" for name, count in list(table.hidden.items())[:12])
        more = len(table.hidden) - 12
        tail = f" and {more} more" if more > 0 else ""
        count = formatting.plural(len(table.hidden), "group")
        parts.append(f"{count} with fewer than 30 rows not compared: {names}{tail}.")
    parts += [
        f"{formatting.plural(count, 'row')} excluded: {why}." for why, count in compared.left_out.items()
    ]
    return " ".join(parts)
