"""Settings of an improvement as form fields (version to replace, metric and margin, run whose config is
launched), and the improvement schedule of a model. Promotion is always a person's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import streamlit as st

from pages.retraining import retraining_queries
from pages.retraining.row_sources import draw_sources
from pages.shared import cached_queries, display, meters, run_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, get_client, has_right, send_command
from store.core.errors import NotFoundError, TunebenchError
from store.core.formatting import format_epochs, format_setting, plural
from store.core.metric_table import METRICS, SHARE, choose_comparison_metric, list_offered_metrics
from store.core.model_fields import FieldDisplay
from store.core.model_schemas import ModelSummary
from store.retraining.config import MAX_MARGIN, ImproveSchedule
from store.retraining.schemas import Improvement, ImprovementSchedule
from store.runs.schemas import Run
from store.training.methods import METHODS

MAX_RUNS = 100
OTHER_RUN = (
    ":material/info: The version in use was trained by another run, possibly on old rows that are used for"
    " evaluation here. This favors it: a lower result of the new version on the old rows is inconclusive."
)
MEASURED_METRICS = tuple(name for name, metric in METRICS.items() if metric.kind != "whole")


def draw_settings(form: ModelForm[Any], model: ModelSummary) -> Run | None:
    """Draw the settings that improvements and schedules share; return the run whose config is launched."""
    form.put(model=model.name)
    with st.container(horizontal=True, vertical_alignment="top"):
        run = _find_source_run(model, _draw_alias(form, model))
        chosen = _draw_config_run(form, run)
    if run is None:
        st.caption("The run of this version no longer exists. Select a run whose config to use.")
    if chosen is None:
        st.error("No finished run to take a config from.", icon=":material/error:")
    else:
        st.caption(f":material/tune: {escape_markdown(format_config(chosen))}")
        if chosen is not run:
            st.caption(OTHER_RUN)
    with st.container(horizontal=True, vertical_alignment="top"):
        metric, margin = _draw_metric(form, chosen or run)
        form.draw_field("held_out", width=300)
    st.caption(describe_margin(metric, margin))
    return chosen


def _draw_alias(form: ModelForm[Any], model: ModelSummary) -> str:
    aliases = {line.alias: line.version for line in retraining_queries.list_aliases(model.model_id)}
    names = sorted(aliases, key=lambda alias: alias != "production")
    present = form.get_present("alias")
    return str(
        form.draw_field(
            "alias",
            choices={alias: f"{alias} (version {aliases[alias]})" for alias in names},
            present=present if present in aliases else names[0],
            width=300,
        )
    )


def _find_source_run(model: ModelSummary, alias: str) -> Run | None:
    """Return the run that produced the version with the alias, or None if it no longer exists."""
    try:
        version = retraining_queries.read_version(f"{model.name}@{alias}")
        return run_queries.read_current_run(version.run_id) if version.run_id else None
    except NotFoundError:
        return None


def _draw_config_run(form: ModelForm[Any], run: Run | None) -> Run | None:
    """Draw the choice of the run whose config is launched: the version's own (an empty value), or another."""
    listed = {line.run_id: line for line in run_queries.list_newest_runs("", ("finished",), MAX_RUNS)}
    choices = {line.run_id: line.name for line in listed.values() if run is None or line.run_id != run.run_id}
    if run is not None:
        choices = {"": f"{run.name} (the run of this version)"} | choices
    if not choices:
        form.put(run="")
        return None
    chosen = form.draw_field(
        "run", choices=choices, present=form.get_present("run") or next(iter(choices)), width=460
    )
    return run if chosen == "" else listed.get(chosen) or run_queries.read_current_run(chosen)


def format_config(run: Run) -> str:
    """Format as "LoRA on SmolLM2-135M, learning rate 0.0002, 3 epochs, with 4,906 old rows of trec"."""
    config = run.config
    rate = config.get("learning_rate")
    rows = run.facts.get("rows")
    old = f"with {plural(rows['train'], 'old row')} of {run.dataset_name}" if rows else ""
    parts = [
        f"{METHODS[run.method].title} on {run.model}",
        f"learning rate {format_setting(float(rate))}" if rate else "",
        format_epochs(float(config["num_train_epochs"])) if config.get("num_train_epochs") else "",
        old,
    ]
    return ", ".join(part for part in parts if part)


def _draw_metric(form: ModelForm[Any], run: Run | None) -> tuple[str, float]:
    """Draw the metric, and the margin in its unit."""
    task = str(run.config.get("task") or "sft") if run else "sft"
    offered = [name for name in list_offered_metrics(task) if name in MEASURED_METRICS]
    listed = list(dict.fromkeys([_get_default_metric(run, task), *offered, *MEASURED_METRICS]))
    metric = form.draw_field(
        "metric",
        choices={name: METRICS[name].title for name in listed},
        key=f"{form.prefix}metric-{task}",
        present=form.get_present("metric") or listed[0],
        width=240,
    )
    is_share = METRICS[metric].bounds == SHARE
    margin = form.draw_field(
        "margin",
        label="Allowed decrease (points)" if is_share else "",
        key=f"{form.prefix}margin-{metric}",
        present=form.get_present("margin") if form.get_present("metric") in ("", metric) else None,
        display=FieldDisplay(scale=100, high=100 * MAX_MARGIN) if is_share else None,
        width=260,
    )
    return metric, margin or 0.0


def _get_default_metric(run: Run | None, task: str) -> str:
    format = ""
    if run:
        with suppress(NotFoundError):  # its rows were deleted; the launch explains that it cannot be improved
            format = cached_queries.read_dataset(run.dataset_id).format
    return choose_comparison_metric(task=task, format=format)


def describe_margin(metric: str, margin: float) -> str:
    """Describe the margin in the unit of the metric."""
    described = METRICS[metric]
    if described.bounds == SHARE:
        size = f"{format_setting(100 * margin)} points of {described.title}"
        of_rows = (
            f" ({format_setting(1000 * margin)} of 1,000 rows)" if described.unit == "share of rows" else ""
        )
    else:
        size, of_rows = f"{format_setting(margin)} of {described.title} ({described.unit})", ""
    if not margin:
        return "Without a margin, the new version must be significantly better, on the old rows too; few are."
    return f"Passes if the interval excludes a decrease of more than {size}{of_rows} from the version in use."


def estimate_training_seconds(run: Run, new_rows: int) -> float | None:
    """Estimate the training time from that of the run, scaled by the additional rows; None if not
    measured.
    """
    facts = run.facts
    took, rows = facts.get("run_seconds") or facts.get("train_seconds"), facts.get("rows")
    if not took or not rows or not rows["train"]:
        return None
    return float(took) * (1 + new_rows / rows["train"])


def describe_training_time(run: Run | None, new_rows: int | None) -> str:
    """Describe the estimated training time and its basis."""
    seconds = estimate_training_seconds(run, new_rows or 0) if run is not None else None
    if run is None or seconds is None:
        return "Training time unknown: the run of this config recorded none."
    more = "" if not new_rows else f" with {plural(new_rows, 'additional row')}"
    device = run.facts.get("device_name") or run.facts.get("device") or "the same device"
    return (
        f"Estimated training time: {display.format_duration(seconds)}{more}, based on “{run.name}” on"
        f" {device}. Evaluating both versions takes additional time."
    )


KEY = "improve-schedule"
PERSON_DECIDES_NOTE = (
    "Collecting rows, training and evaluation are automatic. **Promotion is always your decision.**"
)


def draw_schedule(model: ModelSummary, past: Sequence[Improvement]) -> None:
    """Draw the present schedule, then the form."""
    schedule = retraining_queries.read_schedule(model.model_id)
    config = ImproveSchedule.parse(schedule.config) if schedule else None
    with st.container(border=True, key="improve-schedule"):
        st.markdown("**Schedule**")
        if schedule is None or config is None:
            st.caption(
                "Off. When on, an improvement starts as soon as there is enough new feedback."
                f" {PERSON_DECIDES_NOTE}"
            )
        else:
            _draw_current_schedule(model, schedule, config)
        if has_right("work"):
            title = "Change" if schedule else "Schedule improvements"
            with st.expander(title, icon=":material/event_repeat:"):
                _draw_form(model, past, config)


def _draw_current_schedule(
    model: ModelSummary, schedule: ImprovementSchedule, config: ImproveSchedule
) -> None:
    least, rows = config.least_rows, schedule.last_rows
    every = display.format_duration(3600 * config.every_hours)
    st.markdown(f"Checks for new rows every {every} and starts with {least:,} or more. {PERSON_DECIDES_NOTE}")
    if rows is None:
        st.caption("No check yet.")
    else:
        note = f"checked {display.format_ago(schedule.last_at)}; {plural(max(0, least - rows), 'row')} to go"
        if rows >= least:
            note = f"checked {display.format_ago(schedule.last_at)}; enough"
        st.html(
            meters.render_grid([
                meters.render_meter("New rows", f"{rows:,} of {least:,}", rows / least, note, warn=False)
            ], width=16)
        )  # fmt: skip
    if trouble := schedule.trouble:
        st.warning(
            escape_markdown(f"{trouble['message']} {trouble.get('fix') or ''}".strip()),
            icon=":material/warning:",
        )
    following = ""
    if schedule.last_at is not None:
        after = schedule.last_at + timedelta(hours=config.every_hours)
        following = f" Next check {after:%d %b, %H:%M} UTC."
    with st.container(horizontal=True, vertical_alignment="center"):
        by, when = escape_markdown(schedule.set_by_name), display.format_ago(schedule.set_at)
        st.caption(f"Set by {by} {when}.{following}", width="stretch")
        if has_right("work") and st.button(
            "Turn off schedule", icon=":material/event_busy:", key="improve-unschedule"
        ):
            body = {"model": model.name}
            if send_command("unschedule_improvement", body, "Schedule turned off.") is not None:
                st.rerun()


def _draw_form(model: ModelSummary, past: Sequence[Improvement], before: ImproveSchedule | None) -> None:
    form = ModelForm(ImproveSchedule, f"{KEY}-", before)
    with st.container(horizontal=True):
        form.draw_field("every_hours", width=200)
        form.draw_field("least_rows", width=200)
    rows = draw_sources(model, past, KEY, feedback_alone=True)
    form.mark("rows")
    draw_settings(form, model)
    if st.button("Save schedule", icon=":material/event_repeat:", key=f"{KEY}-save"):
        config = form.parse(rows=rows.sources)
        if config:
            _save_schedule(form, config)


def _save_schedule(form: ModelForm[ImproveSchedule], config: ImproveSchedule) -> None:
    try:
        get_client().command("schedule_improvement", config.document())
    except TunebenchError as error:
        form.show(error)
        return
    st.cache_data.clear()
    st.toast("Schedule saved.", icon=":material/check:")
    st.rerun()
