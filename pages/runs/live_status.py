"""Live parts of a run's page: progress and curves while it is active, its place in the queue, or the reason
for its failure.
"""

from __future__ import annotations

import json

import streamlit as st

from pages.shared import cached_queries, charts, display, palette, run_queries
from pages.shared.charts import PLOT
from pages.shared.job_progress import compute_fraction, describe_activity
from pages.shared.run_chips import describe_advice
from pages.shared.session import escape_markdown, has_right, redraw, show_errors, watch_engine
from store.core import formatting
from store.core.job_kinds import ACTIVE, RUNS
from store.core.schemas import ErrorDocument
from store.runs.schemas import Run

LOST_PROCESS_NOTE = (
    "The process of this run ended without a result: it was killed, or the machine went down. "
    "Everything up to its last checkpoint is saved."
)


def draw_failure(run: Run) -> None:
    """Draw the reason for the failure or cancellation; nothing for an active or finished run."""
    status = run.status
    if status == "queued":
        st.info(describe_wait(run), icon=":material/schedule:")
    elif status == "failed":
        _draw_error(run.run_id, run.error)
    elif status == "lost":
        st.warning(describe_lost_process(run.error), icon=":material/link_off:")
        _draw_change(run.run_id, run.error)
        _draw_traceback(run.error, "Output at the crash")
    elif status == "cancelled":
        st.info(describe_cancellation(run.error), icon=":material/cancel:")


def _draw_error(run_id: str, error: ErrorDocument | None) -> None:
    message = (
        error and error["message"]
    ) or "The run failed without an error message. See the log under Details."
    fix = f"  \n{escape_markdown(error['fix'])}" if error and error.get("fix") else ""
    st.error(f"**{escape_markdown(message)}**{fix}", icon=":material/error:")
    _draw_change(run_id, error)
    _draw_traceback(error, "Traceback")


def _draw_change(run_id: str, error: ErrorDocument | None) -> None:
    """Draw a button to the launch form with the change that the error suggests, if there is one."""
    if error and error.get("change") and has_right("work"):
        pressed = st.button(
            f"Launch with {describe_advice(error['change'])}",
            type="primary",
            icon=":material/rocket_launch:",
            key="run-launch-changed",
            help="Opens the launch form with this run's settings and this change.",
        )
        if pressed:
            link = {"from": run_id, "change": json.dumps(error["change"])}
            st.switch_page("pages/training/launch.py", query_params=link)


def describe_lost_process(error: ErrorDocument | None) -> str:
    """Describe as Markdown what the engine knows about a lost process; otherwise a general note."""
    if not error or not error["message"]:
        return f"{LOST_PROCESS_NOTE} **Resume** continues from there."
    fix = (
        escape_markdown(error["fix"])
        if error.get("fix")
        else "**Resume** continues from its last checkpoint."
    )
    return f"**{escape_markdown(error['message'])}**  \n{fix}"


def describe_cancellation(error: ErrorDocument | None) -> str:
    """Describe as Markdown who stopped the run: a user, or a signal from outside."""
    if not error:
        return "Cancelled. **Resume** continues from its last checkpoint."
    return f"**{escape_markdown(error['message'])}**  \n{escape_markdown(error.get('fix', ''))}"


def _draw_traceback(error: ErrorDocument | None, title: str) -> None:
    if error and error.get("traceback"):
        with st.expander(title, icon=":material/bug_report:"):
            st.code(error["traceback"], language=None, height=360)


def describe_wait(run: Run) -> str:
    """Describe why a queued run has not started."""
    waits = run_queries.read_job_statuses(tuple(run.after_jobs or ()))
    unready = [job for job in waits.values() if job.status != "finished"]
    if unready:
        names = ", ".join(f"{escape_markdown(job.title)} ({job.status})" for job in unready)
        return f"Waiting for {names}."
    queue = [job for job in cached_queries.list_queue() if job.kind in RUNS]
    working = [job for job in queue if job.status in ACTIVE]
    ahead = [job.job_id for job in queue if job.status == "queued"]
    place = ahead.index(run.run_id) if run.run_id in ahead else 0
    holder = f"The device is in use by {escape_markdown(working[0].title)}. " if working else ""
    if place:
        return f"{holder}{place} {'run is' if place == 1 else 'runs are'} ahead of it."
    return f"{holder}This run is next." if holder else "It starts in a moment."


LEARNING = (
    *("train/learning_rate", "train/grad_norm", "train/tokens_per_second", "system/memory_gib"),
    *("eval/perplexity", "eval/token_accuracy", "eval/label_accuracy", "eval/token_f1"),
    *("eval/exact_match", "eval/accuracy", "eval/f1_macro"),
    *("eval/reward_accuracy", "eval/reward_margin", "eval/chosen_logp", "eval/rejected_logp"),
    *("train/reward_accuracy", "train/reward_margin"),
)


def watch_run(run_id: str, drawn_status: str) -> Run | None:
    """Return the present state of the run; redraw the page if its status differs from the drawn one."""
    with show_errors():
        watch_engine()
        run = run_queries.read_current_run(run_id)
        if run.status != drawn_status:
            redraw()
        return run
    return None


def draw_live(run_id: str, drawn_status: str) -> None:
    """Draw the progress of an active run, and both losses on one chart."""
    with show_errors():
        run = watch_run(run_id, drawn_status)
        if run is None:
            return
        if run.status in ACTIVE:
            _draw_progress(run)
        _draw_losses(run)


def _draw_progress(run: Run) -> None:
    st.progress(compute_fraction(run) or 0.0, text=escape_markdown(describe_activity(run)))
    measured = run_queries.read_metric_summaries(run.run_id)
    if "train/loss" not in measured:
        return
    speed, memory = (
        summary.last_value if summary else None
        for summary in (measured.get(name) for name in ("train/tokens_per_second", "system/memory_gib"))
    )
    best, base = run.best_eval_loss, run.base_eval_loss
    with st.grid(4, min_column_width=150):
        _draw_live_validation(best, base, run.best_step, display.get_reference_name(run.config))
        st.metric("Training loss", display.format_number(measured["train/loss"].last_value))
        st.metric("Tokens per second", display.format_number(speed, 0))
        st.metric("Peak memory", f"{display.format_number(memory, 2)} GiB")


def _draw_live_validation(best: float | None, base: float | None, step: int | None, reference: str) -> None:
    if best is None or base is None or step is None:
        st.metric(f"Validation loss of {reference}", display.format_number(base))
        return
    better = best < base
    st.metric(
        f"Best validation loss, step {step:,}",
        display.format_number(best),
        f"{formatting.format_number(abs(base - best), 3)} against {reference}",
        delta_color="green" if better else "red",
        delta_arrow="down" if better else "up",
    )


def _draw_losses(run: Run) -> None:
    run_id = run.run_id
    train, validation = (run_queries.read_live_curve(run_id, name) for name in ("train/loss", "eval/loss"))
    if not train.num_rows and not validation.num_rows:
        if run.status in ACTIVE:
            st.caption("Curves appear once the first metrics are logged.")
        return
    shape = run.verdict.overfitting if run.verdict else None
    figure = charts.plot_losses(
        train,
        validation,
        charts.LossMarks(
            base_level=run.base_eval_loss,
            base_name=display.get_reference_name(run.config).removeprefix("the ").capitalize(),
            best_step=run.best_step,
            shape=shape,
        ),
        axis=display.get_loss_axis(run.config),
    )
    alt = (
        "Training and validation loss by step; best validation loss"
        f" {display.format_number(run.best_eval_loss)}"
    )
    st.plotly_chart(figure, key="loss-chart", config=PLOT, alt=alt)


def draw_learning(run_id: str) -> None:
    """Draw learning rate, gradient norm, throughput, memory, and validation metrics other than the loss."""
    with show_errors():
        measured = run_queries.read_metric_summaries(run_id)
        others = sorted(
            set(measured) - {*LEARNING, "train/loss", "eval/loss", "train/tokens_seen", "train/epoch"}
        )
        names = [name for name in (*LEARNING, *others) if name in measured]
        if not names:
            st.caption("No metrics yet. They appear after the first training steps.")
            return
        with st.grid(2, min_column_width=340):
            for name in names:
                figure = charts.plot_line(
                    run_queries.read_live_curve(run_id, name),
                    name,
                    color=palette.VALIDATION if name.startswith("eval/") else palette.TRAIN,
                )
                st.plotly_chart(
                    figure, key=f"chart-{name}", config=PLOT, alt=display.find_quantity(name).title
                )
