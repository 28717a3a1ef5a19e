"""Panels of the overview: running jobs, the machine, the list of runs, and alerts of runs."""

from __future__ import annotations

import html

import streamlit as st

from pages.shared import cached_queries, display, meters, palette, run_chips
from pages.shared.job_progress import compute_fraction, describe_activity, render_progress
from pages.shared.session import escape_markdown, has_right, send_command
from pages.shared.text_display import shorten_middle
from store.core import formatting
from store.core.job_kinds import ALIVE, JOB_KINDS
from store.core.schemas import Gpu, Job, MachineReading
from store.evaluation.schemas import Classification
from store.evaluation.verdict_schemas import Verdict, VerdictState
from store.runs.run_outcomes import KINDS
from store.runs.schemas import Run, RunAlerts, VerdictAlert
from store.training.methods import METHODS

SHOWN_JOBS = 8
JOB_NAME_LENGTH = 30  # maximum characters of a name on a phone


def show_jobs(jobs: list[Job], count: int) -> None:
    """Draw active jobs, then the queue of `count` jobs; omitted jobs are counted."""
    for job in jobs:
        _draw_job(job)
    if count > len(jobs):
        st.caption(f"{len(jobs)} of {count:,} jobs are shown; the others are queued.")


def _draw_job(job: Job) -> None:
    job_id = job.job_id
    with st.container(border=True, horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(gap=None):
            _draw_job_title(job)
            st.html(render_progress(job))
        stopping = bool(job.cancel_requested_at)
        label = "Stopping" if stopping else "Cancel"
        if has_right("work") and st.button(
            label, key=f"cancel-{job_id}", icon=":material/stop_circle:", disabled=stopping
        ):
            send_command("cancel", {"job": job_id}, f"{escape_markdown(job.title)} is being cancelled.")
            st.rerun()


def _draw_job_title(job: Job) -> None:
    kind = JOB_KINDS[job.kind]
    if kind.is_run:
        st.page_link(
            "pages/runs/run.py",
            label=f"**{escape_markdown(shorten_middle(job.title, JOB_NAME_LENGTH))}**",
            help=escape_markdown(job.title),
            icon=kind.icon,
            query_params={"run": job.job_id},
        )
        return
    st.markdown(f"{kind.icon} **{kind.title}:** {escape_markdown(job.title)}")


LOW_DISK_GIB = 5.0  # below this a checkpoint may not fit


def render_machine_meters(machine: MachineReading) -> str:
    """Render the meters of the engine's `GET /machine` as HTML."""
    used, total = machine.memory_used_gib, machine.memory_total_gib
    parts = [
        meters.render_meter(
            "Processor",
            f"{machine.cpu_percent:.0f}%",
            machine.cpu_percent / 100,
            f"of {machine.cores} cores" + (", fast bfloat16" if machine.bf16 else ""),
            warn=False,
        ),
        meters.render_meter(
            "Memory",
            display.format_gib(used),
            used / total if total else 1.0,
            f"of {display.format_gib(total)}",
        ),
    ]
    parts += [_render_gpu(gpu) for gpu in machine.gpus]
    if not machine.gpus:
        parts.append(meters.render_fact("GPU", "none", "runs use the processor"))
    free = machine.disk_free_gib
    note = "a checkpoint may not fit" if free < LOW_DISK_GIB else "on the disk of the home folder"
    parts.append(meters.render_fact("Free disk", display.format_gib(free), note))
    return meters.render_grid(parts)


def _render_gpu(gpu: Gpu) -> str:
    """Render one GPU; values that its driver does not report are marked as such, not shown as 0."""
    used, total, busy = gpu.memory_used_gib, gpu.memory_total_gib, gpu.utilization_percent
    label = f"GPU {gpu.index}: {gpu.name}"
    use = "utilisation not reported" if busy is None else f"{busy:.0f}% busy"
    heat = f", {gpu.temperature_c:.0f} °C" if gpu.temperature_c is not None else ""
    if used is None or not total:
        size = f" (of {display.format_gib(total)})" if total else ""
        return meters.render_fact(label, use, f"memory not reported{size}{heat}")
    return meters.render_meter(
        label, use, used / total, f"{display.format_gib(used)} of {display.format_gib(total)}{heat}"
    )


RUN_NAME_LENGTH = 32  # maximum characters of a name
INKS = {  # mixed with the text colour for contrast on white and dark
    "better": f"color: color-mix(in srgb, {palette.GOOD} 75%, currentColor)",
    "worse": f"color: color-mix(in srgb, {palette.BAD} 80%, currentColor)",
    "unsure": f"color: color-mix(in srgb, {run_chips.STATE_INK['orange']} 80%, currentColor)",
    "": "",
}
VERDICT_INKS: dict[VerdictState, str] = {"learned": "better", "no_gain": ""}  # significant gains
COSTLY_STATES = ("some", "much")  # states of forgetting marked in the list
HEADINGS = ("Status", "Method and data", "Best validation loss", "Against the base model", "Started")
STYLE = """
<style>
.tb-run {display: grid; gap: .1rem 1rem; align-items: center; line-height: 1.35;
  grid-template-columns: minmax(9rem, 1.1fr) minmax(8rem, 1.2fr) 6.5rem minmax(9.5rem, 1fr) 5.6rem}
.tb-run small {font-size: .84rem; opacity: .7; display: block; overflow-wrap: anywhere}
.tb-run .cost {font-size: .84rem}
.tb-run b {font-weight: 600; font-variant-numeric: tabular-nums}
.tb-run .pill {padding: .05em .6em; border-radius: 99px; font-size: .84rem; white-space: nowrap}
.tb-run.head {font-size: .84rem; opacity: .7}
.st-key-runs-list {border-top: 1px solid color-mix(in srgb, currentColor 14%, transparent)}
.st-key-runs-list [class*="st-key-run-line-"] {padding: .3rem 0;
  border-bottom: 1px solid color-mix(in srgb, currentColor 14%, transparent)}
@media (max-width: 900px) {
  .tb-run {grid-template-columns: 1fr 1fr; gap: .35rem 1rem} .tb-run.head {display: none}
  .tb-run div[data-name]:not(:empty)::before {content: attr(data-name); display: block; font-size: .8rem;
    opacity: .6}
}
</style>
"""


def render_list_header() -> str:
    """Render the column titles of `render_run_numbers`, with the style of the list."""
    cells = "".join(f"<div>{heading}</div>" for heading in HEADINGS)
    return f"{meters.STYLE}{STYLE}<div class='tb-run head'>{cells}</div>"


def render_run_numbers(run: Run) -> str:
    """Render the numbers of one run as a line of HTML."""
    parts = (
        _render_status(run),
        _render_method(run),
        _render_loss(run),
        _render_gain(run),
        _render_time(run),
    )
    named = ("", "", HEADINGS[2], HEADINGS[3], "")
    cells = "".join(
        f"<div data-name='{name}'>{part}</div>" if name else f"<div>{part}</div>"
        for name, part in zip(named, parts, strict=True)
    )
    return f"<div class='tb-run'>{cells}</div>"


def _render_status(run: Run) -> str:
    if run.status in ALIVE:
        bar = "" if run.status == "queued" else meters.render_bar(compute_fraction(run))
        return f"{bar}<small>{html.escape(describe_activity(run))}</small>"
    status = display.STATUSES[run.status]
    ink = f"color-mix(in srgb, {run_chips.STATE_INK[status.color]} 72%, currentColor)"
    back = f"color-mix(in srgb, {run_chips.STATE_INK[status.color]} 15%, transparent)"
    word = f"<span style='color:{ink}'>{status.title}</span>"
    return f"<span class='pill' style='background:{back}'>{word}</span>"


def _render_method(run: Run) -> str:
    method = METHODS[run.method].title
    if run.config.get("task") == "classification":
        method = f"{method}, classes"
    return f"{html.escape(method)}<small>{html.escape(run.dataset_name)}</small>"


def _render_loss(run: Run) -> str:
    base = run.base_eval_loss
    if run.best_eval_loss is None:
        waiting = "no validation yet" if base is None else f"base model {formatting.format_number(base, 3)}"
        return f"<small>{waiting}</small>"
    start = f"<small>from {formatting.format_number(base, 3)}</small>" if base is not None else ""
    return f"<b>{formatting.format_number(run.best_eval_loss, 3)}</b>{start}"


def _render_gain(run: Run) -> str:
    """Render the gain with its interval if there is a verdict, else the change on validation rows."""
    verdict = run.verdict
    gain = verdict.gain if verdict else None
    if verdict and not gain:
        return f"<b style='{INKS['worse']}'>broken</b><small>loss is not a number</small>"
    if verdict and gain and gain.unit == "nats a row" and (head := verdict.classification):
        return _render_accuracy(head, verdict.state)
    if verdict and gain:
        value, low, high = gain.value, gain.low, gain.high
        word, kind = "inconclusive,", ""
        if low is not None and low > 0:
            word, kind = "better by", VERDICT_INKS.get(verdict.state, "unsure")
        elif high is not None and high < 0:
            word, kind = "worse by", VERDICT_INKS.get(verdict.state, "worse")
            value, low, high = -value, -high, None if low is None else -low
        places = formatting.compute_decimals(low, high)
        return (
            f"<b style='{INKS[kind]}'>{word} {formatting.format_number(value, places)}</b>"
            f"<small>{formatting.format_interval(low, high, places)}, n {gain.n:,}</small>"
            f"{_render_question_gain(verdict)}{_render_forgetting(verdict)}"
        )
    if run.best_eval_loss is None or run.base_eval_loss is None:
        return ""
    change = run.best_eval_loss - run.base_eval_loss
    kind = "better" if change < 0 else "worse"
    arrow = "↓" if change < 0 else "↑"
    size = formatting.format_number(abs(change), 3)
    return f"<b style='{INKS[kind]}'>{arrow} {size}</b><small>validation only, no verdict</small>"


def _render_question_gain(verdict: Verdict) -> str:
    """Render the part of the gain from the question."""
    if not (parts := verdict.parts):
        return ""
    own = parts.question
    return f"<small>question {html.escape(formatting.format_estimate(own))}</small>"


def _render_forgetting(verdict: Verdict) -> str:
    """Render a small mark if the run forgot something: coloured by how much, with the evidence as tooltip."""
    forgetting = verdict.forgetting
    if not forgetting or forgetting.state not in COSTLY_STATES:
        return ""
    status = display.FORGETTING[forgetting.state]
    ink = f"color-mix(in srgb, {run_chips.STATE_INK[status.color]} 80%, currentColor)"
    tooltip = html.escape(forgetting.headline, quote=True)
    return f"<span class='cost' style='color:{ink}' title='{tooltip}'>{status.title.lower()}</span>"


def _render_accuracy(head: Classification, state: VerdictState) -> str:
    """Render the accuracy of a classifier, coloured by its verdict."""
    share = head.models.tuned.accuracy
    kind = {"learned": "better", "worse": "worse"}.get(state, "")
    low, high = (None if end is None else 100 * end for end in (share.low, share.high))
    places = formatting.compute_decimals(low, high, default=1)
    bounds = formatting.format_interval(low, high, places)
    value = formatting.format_number(100 * share.value, places)
    return f"<b style='{INKS[kind]}'>{value}% right</b><small>{bounds}%, n {share.n:,}</small>"


def _render_time(run: Run) -> str:
    took = ""
    if run.started_at and run.ended_at:
        took = f"took {display.format_elapsed(run.started_at, run.ended_at)}"
    return f"<small>{display.format_ago(run.created_at)}<br>{took}</small>"


def draw_run_link(run: Run | RunAlerts) -> None:
    """Draw a run's colour and name as a link; a long name is shortened in the middle and given as tooltip."""
    st.page_link(
        "pages/runs/run.py",
        label=(
            f"{run_chips.format_run_dot(run.number)}"
            f" {escape_markdown(shorten_middle(run.name, RUN_NAME_LENGTH))}"
        ),
        help=escape_markdown(run.name),
        query_params={"run": run.run_id},
    )


SHOWN_WARNED = 4
RED_ALERTS = ("diverged", "memorising", "forgetting_red", "overfitting")


def draw_warnings() -> None:
    """Draw the most recently warned runs: a link, what became significant, and since which step."""
    total, runs = cached_queries.list_warned_runs(SHOWN_WARNED)
    if not total:
        return
    st.subheader("Warnings", anchor=False)
    with st.container(key="warnings", gap="xsmall"):
        for run in runs:
            _draw_warned_run(run)
    if total > len(runs):
        st.caption(f"The newest {len(runs)} of {formatting.plural(total, 'run')} with a warning.")


def _draw_warned_run(run: RunAlerts) -> None:
    alerts = sort_by_severity(run.alerts)
    with st.container(key=f"warned-{run.run_id}", gap=None):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            draw_run_link(run)
            st.markdown(" ".join(format_alert_badge(alert) for alert in alerts), width="content")
            st.caption(display.format_ago(run.raised_at), width="content")
        st.caption(escape_markdown(alerts[0]["message"]))


def sort_by_severity(alerts: list[VerdictAlert]) -> list[VerdictAlert]:
    """Sort by severity; of both thresholds of forgetting only the higher one is kept."""
    kinds = {alert["kind"] for alert in alerts}
    relevant = [a for a in alerts if not (a["kind"] == "forgetting_amber" and "forgetting_red" in kinds)]
    order = list(KINDS)
    return sorted(relevant, key=lambda a: order.index(a["kind"]) if a["kind"] in order else len(order))


def format_alert_badge(alert: VerdictAlert) -> str:
    """Format as "Overfits · step 60", as inline Markdown."""
    color = "red" if alert["kind"] in RED_ALERTS else "orange"
    title = KINDS.get(alert["kind"], "Warning")
    step = "" if alert["step"] is None else f" · step {alert['step']:,}"
    return f":{color}-badge[{title}{step}]"
