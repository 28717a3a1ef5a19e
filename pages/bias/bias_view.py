"""What did fine-tuning make worse? The tab "Bias" of a run: base against tuned, worst first."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from engine.diagnostics import phrasing
from engine.diagnostics.bias.toxicity import TOXICITY
from pages.bias import bias_charts, bias_reads
from pages.bias.bias_form import draw_button, draw_files, estimate
from pages.bias.continuation_form import draw_classifier
from pages.bias.continuation_view import draw_continuations
from pages.people import activity_reads
from pages.run_parts import run_reads
from pages.shared import quantities, word_diff
from pages.shared.progress_bar import show_alive
from pages.shared.session import guarded, may, plain
from pages.shared.tabs import LINK
from pages.shared.traces import PLOT
from store.contract.states import ALIVE
from store.documents.shipping.bias import BiasFigure, BiasReport
from store.documents.shipping.bias_details import BiasCheck, BiasProbe, BiasSummary, ChangedPair
from store.documents.tables.job import Job
from store.documents.tables.run import Run

TAB = "bias"
PAIRS = 6  # that are shown at once
HEADED = (
    "This run trains a classification head: it gives classes and writes nothing, so pairs of texts can't be"
    " asked. Evaluate it, and compare groups of rows by a column of the data on the evaluation's page."
)
EMPTY = (
    "Nothing was checked yet. The check asks the base and the tuned model the same questions about two people"
    " who differ in a name, a pronoun or a group alone, and says what got worse."
)
PLAIN = "<style>.tb-people del {text-decoration: none}</style>"  # nothing was taken out of either
CHOSEN = (
    "How many times as likely one is as the other, under base and tuned model. Pairs were chosen for how much"
    " they changed: they show what happens, not how often."
)
ABOUT = (
    "Grey is the base model, coloured the tuned one, with 95% intervals. *Worse* and *better* are said beside"
    " all figures of the check (Holm's correction, 5%); *no worse*: the change surely lies below its limit."
)


def draw_bias(run_id: str) -> None:
    """The tab of one run."""
    with guarded():
        run = run_reads.run(run_id)
        if run["status"] in ALIVE:
            st.caption("The model can be checked once the run has ended.")
            return
        alive = draw_unfinished(bias_reads.unfinished(run_id=run_id), run_id=run_id)
        listed = bias_reads.listed(run_id=run_id)
        if run["config"].get("task") == "classification":
            st.caption(HEADED)
            return
        if not listed:
            if not alive:
                _draw_empty(run)
            return
        chosen = _chosen(listed)
        draw_check(bias_reads.check(chosen))
        if not alive:
            with st.container(horizontal=True, vertical_alignment="center"):
                draw_button(run, first=False)
            draw_files(run)
            draw_classifier(run)


def _draw_empty(run: Run) -> None:
    st.markdown(EMPTY)
    draw_button(run, first=True)
    st.caption(estimate(run))
    draw_files(run)
    draw_classifier(run)


def _chosen(listed: Sequence[BiasSummary]) -> str:
    """The newest, or an earlier one that is chosen."""
    if len(listed) == 1:
        return listed[0]["job_id"]
    names = {
        check["job_id"]: f"{quantities.ago(check['created_at'])}: {check['sentence']}" for check in listed
    }
    return st.selectbox("Check", list(names), format_func=lambda job_id: names[job_id], key="bias-chosen")


def draw_unfinished(jobs: Sequence[Job], *, run_id: str = "", evaluation_id: str = "") -> bool:
    """Checks that wait or work, and the newest one that ended badly; whether some still work."""
    alive = [job["job_id"] for job in jobs if job["status"] in ALIVE]
    if alive:
        show_alive(lambda: bias_reads.unfinished(run_id=run_id, evaluation_id=evaluation_id), alive, "check")
    elif jobs and jobs[0]["status"] == "failed" and (error := jobs[0]["error"]):
        st.error(plain(f"The last check failed. {error['message']} {error.get('fix') or ''}".strip()))
    return bool(alive)


def sign(report: BiasReport) -> str:
    """The mark before the sentence of a report."""
    if report["worse"]:
        return ":red[:material/balance:]"
    if all(figure["answer"] == "cant_tell" for figure in report["figures"]):
        return ":gray[:material/balance:]"
    return ":green[:material/balance:]"


def draw_line(run_id: str) -> None:
    """The newest check of a run under its verdict: the sentence, and the way to it."""
    listed = bias_reads.listed(run_id=run_id)
    if listed:
        ink = "red" if listed[0]["worse"] else "gray"
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f":{ink}[:material/balance:] **Bias:** {plain(listed[0]['sentence'])}", width="content"
            )
            if st.button("See the check", type="tertiary", icon=":material/arrow_forward:", key="bias-open"):
                st.switch_page("pages/run/run.py", query_params={"run": run_id, LINK: TAB})
    elif may("work") and st.button(
        "Check for bias", type="tertiary", icon=":material/balance:", key="bias-open"
    ):
        st.switch_page("pages/run/run.py", query_params={"run": run_id, LINK: TAB})


def draw_check(check: BiasCheck) -> None:
    """One check: its sentence, what got worse first, the pairs that changed most, and what it can't say."""
    report, details = check["report"], check["details"]
    st.subheader(f"{sign(report)} {plain(report['sentence'])}", anchor=False)
    maker = activity_reads.maker(check["created_by"])
    by = f" by {plain(maker)}" if maker else ""
    held = f"{plain(check['model'])} against {plain(check['against'])}, " if check["against"] else ""
    st.caption(f"{held}asked for{by} {quantities.ago(check['created_at'])};"
               f" took {quantities.span(details['seconds'])}")  # fmt: skip
    _draw_figures(report["figures"])
    for probe in details["probes"]:
        _draw_probe(probe)
    if continued := details.get("continuations"):
        draw_continuations(continued)
    _draw_pairs(details["pairs"])
    with st.expander("What this check can't say", icon=":material/info:"):
        st.markdown("\n".join(f"- {plain(limit)}" for limit in report["limits"]))


def _draw_figures(figures: Sequence[BiasFigure]) -> None:
    for probe in dict.fromkeys(figure["probe"] for figure in figures):
        part = [f for f in figures if f["probe"] == probe and f["unit"] == bias_charts.SHARE and f["base"]]
        if not part:
            continue
        part = bias_charts.in_order(part)
        st.markdown(f"**{plain(probe)}**: base to tuned")
        left, right = st.columns(2, gap="large")
        with left:
            st.caption(bias_charts.levels_scale(part))
            chart = bias_charts.levels_chart(part)
            alt = f"Figures of {probe} under base and tuned model, with intervals"
            st.plotly_chart(chart, key=f"bias-levels-{probe}", config=PLOT, alt=alt)
        with right:
            st.caption(bias_charts.changes_scale(part))
            chart = bias_charts.changes_chart(part)
            st.plotly_chart(chart, key=f"bias-changes-{probe}", config=PLOT, alt=f"Changes of {probe}")
    st.caption(ABOUT)
    lines = [bias_charts.line(figure) for figure in figures]
    st.dataframe(lines, hide_index=True, alt="All figures of the check, what got worse first")


def _draw_probe(probe: BiasProbe) -> None:
    noun = "opening" if probe["kind"] == TOXICITY else "item"
    parts = [f"{phrasing.plural(probe['items'], noun)} of {phrasing.plural(probe['rows'], 'row')}"]
    for level in probe["levels"]:
        base, tuned = bias_charts.percent(level["base"]), bias_charts.percent(level["tuned"])
        parts.append(f"{level['name'].lower()}: {base} → {tuned}")
    left_out = [
        f"{phrasing.plural(count, 'row')} left out: {why}" for why, count in probe["left_out"].items()
    ]
    st.caption(f"**{plain(probe['name'])}** · {plain('; '.join([*parts, *left_out]))}")
    for notice in probe["notices"]:
        st.caption(plain(notice))


def _draw_pairs(pairs: Sequence[ChangedPair]) -> None:
    if not pairs:
        return
    st.markdown("**The pairs that changed most**")
    st.caption(CHOSEN)
    every = len(pairs) <= PAIRS or st.toggle(f"All {len(pairs)}", key="bias-pairs-all")
    for pair in pairs if every else pairs[:PAIRS]:
        first, second = word_diff.marked(pair["first"], pair["second"])
        with st.container(border=True, gap="xsmall"):
            group = f" · {plain(pair['group'])}" if pair["group"] else ""
            st.caption(f"{plain(pair['probe'])}{group} · {pair_words(pair)}")
            sides = "".join(f"<div class='tb-side' dir='auto'>{side}</div>" for side in (first, second))
            st.html(f"{word_diff.STYLE}{PLAIN}<div class='tb-pair tb-people'>{sides}</div>")


def pair_words(pair: ChangedPair) -> str:
    """By how much the two sides of a pair lie apart, before and after: a factor."""
    return f"base {_factor(pair['base'])}, tuned {_factor(pair['tuned'])}"


def _factor(nats: float) -> str:
    times = 2.718281828 ** min(abs(nats), 12.0)
    return f"{times:.{1 if times < 10 else 0}f} times" if times < 1000 else "over 1,000 times"
