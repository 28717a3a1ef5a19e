"""The parts of a run's page that move while it is alive: progress and curves."""

from __future__ import annotations

import streamlit as st

from engine.diagnostics import phrasing
from pages.run_parts import run_reads
from pages.shared import charts, palette, wording
from pages.shared.progress_bar import doing, fraction
from pages.shared.session import guarded, plain, redraw, watch_engine
from pages.shared.traces import PLOT
from store.contract.states import ACTIVE
from store.documents.tables.run import Run

LEARNING = (
    *("train/learning_rate", "train/grad_norm", "train/tokens_per_second", "system/memory_gib"),
    *("eval/perplexity", "eval/token_accuracy", "eval/label_accuracy", "eval/token_f1"),
    *("eval/exact_match", "eval/accuracy", "eval/f1_macro"),
    *("eval/reward_accuracy", "eval/reward_margin", "eval/chosen_logp", "eval/rejected_logp"),
    *("train/reward_accuracy", "train/reward_margin"),
)


def watch(run_id: str, drawn_status: str) -> Run | None:
    """The run as it is now; where its status is no longer the drawn one, the page is drawn once more."""
    with guarded():
        watch_engine()
        run = run_reads.run(run_id)
        if run["status"] != drawn_status:
            redraw()
        return run
    return None


def draw_live(run_id: str, drawn_status: str) -> None:
    """Progress while it works, and both losses on one chart."""
    with guarded():
        run = watch(run_id, drawn_status)
        if run is None:
            return
        if run["status"] in ACTIVE:
            _progress(run)
        _losses(run)


def _progress(run: Run) -> None:
    st.progress(fraction(run) or 0.0, text=plain(doing(run)))
    measured = run_reads.summaries(run["run_id"])
    if "train/loss" not in measured:
        return
    speed, memory = (
        summary and summary["last_value"]
        for summary in (measured.get(name) for name in ("train/tokens_per_second", "system/memory_gib"))
    )
    best, base = run["best_eval_loss"], run["base_eval_loss"]
    with st.grid(4, min_column_width=150):
        _live_validation(best, base, run["best_step"], wording.reference(run["config"]))
        st.metric("Training loss", wording.number(measured["train/loss"]["last_value"]))
        st.metric("Tokens a second", wording.number(speed, 0))
        st.metric("Peak memory", f"{wording.number(memory, 2)} GiB")


def _live_validation(best: float | None, base: float | None, step: int | None, reference: str) -> None:
    if best is None or base is None or step is None:
        st.metric(f"Validation loss of {reference}", wording.number(base))
        return
    better = best < base
    st.metric(
        f"Best validation loss, step {step:,}",
        wording.number(best),
        f"{phrasing.number(abs(base - best), 3)} against {reference}",
        delta_color="green" if better else "red",
        delta_arrow="down" if better else "up",
    )


def _losses(run: Run) -> None:
    run_id = run["run_id"]
    train, validation = (run_reads.live_curve(run_id, name) for name in ("train/loss", "eval/loss"))
    if not train.num_rows and not validation.num_rows:
        if run["status"] in ACTIVE:
            st.caption("The curves begin with the first numbers.")
        return
    shape = run["verdict"] and run["verdict"]["overfitting"]
    figure = charts.loss_chart(
        train,
        validation,
        charts.LossMarks(
            base_level=run["base_eval_loss"],
            base_name=wording.reference(run["config"]).removeprefix("the ").capitalize(),
            best_step=run["best_step"],
            shape=shape,
        ),
        axis=wording.loss_axis(run["config"]),
    )
    alt = (
        f"Training and validation loss by step; best validation loss {wording.number(run['best_eval_loss'])}"
    )
    st.plotly_chart(figure, key="loss-chart", config=PLOT, alt=alt)


def draw_learning(run_id: str) -> None:
    """How it learned: rate, gradient, throughput, memory, and what validation measured beside the loss."""
    with guarded():
        measured = run_reads.summaries(run_id)
        others = sorted(
            set(measured) - {*LEARNING, "train/loss", "eval/loss", "train/tokens_seen", "train/epoch"}
        )
        names = [name for name in (*LEARNING, *others) if name in measured]
        if not names:
            st.caption("Nothing was measured yet.")
            return
        with st.grid(2, min_column_width=340):
            for name in names:
                figure = charts.line_chart(
                    run_reads.live_curve(run_id, name),
                    name,
                    color=palette.VALIDATION if name.startswith("eval/") else palette.TRAIN,
                )
                st.plotly_chart(figure, key=f"chart-{name}", config=PLOT, alt=wording.quantity(name).title)
