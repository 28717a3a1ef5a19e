"""What an improvement rests on, as fields: whose place is taken, by which metric and margin, whose config
is launched; and the schedule of a model. A person promotes, always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

import streamlit as st

from pages.retraining import retraining_queries
from pages.retraining.row_sources import draw_sources
from pages.shared import cached_queries, display, meters, run_queries
from pages.shared.session import escape_markdown, get_client, has_right, send_command
from store.core.errors import NotFoundError, TunebenchError
from store.core.formatting import format_epochs, format_setting, plural
from store.core.metric_table import METRICS, SHARE, choose_comparison_metric, list_offered_metrics
from store.core.model_schemas import ModelSummary
from store.retraining.config import MAX_MARGIN, ImproveSchedule
from store.retraining.schemas import (
    Improvement,
    ImprovementSchedule,
    ImprovementScheduleRequest,
    ImprovementSettings,
)
from store.runs.schemas import Run
from store.training.methods import METHODS

Problems = Mapping[str, str]  # field -> what is wrong with it
MAX_RUNS = 100
OTHER_RUN = (
    ":material/info: The version in use comes from another run, which may have trained on old rows that judge"
    " here. That favours it: where the new version does worse on the old rows, that tells nothing."
)
MEASURED_METRICS = tuple(name for name, metric in METRICS.items() if metric.kind != "whole")


def draw_settings(
    model: ModelSummary, key: str, problems: Problems, before: ImprovementScheduleRequest | None
) -> ImprovementSettings:
    """The fields; `before`: what was set last."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        alias = _choose_alias(model, key, before)
        run = _find_source_run(model, alias)
        chosen = _choose_config_run(run, key, before)
    draw_problem(problems, "alias")
    draw_problem(problems, "run")
    if run is None:
        st.caption("The run of this version is not here: choose whose config is taken.")
    if chosen is None:
        st.error("No run has finished whose config could be launched.", icon=":material/error:")
    else:
        st.caption(f":material/tune: {escape_markdown(format_config(chosen))}")
        if run is None or chosen.run_id != run.run_id:
            st.caption(OTHER_RUN)
    with st.container(horizontal=True, vertical_alignment="top"):
        metric, margin = _choose_metric(chosen or run, key, before)
        held_out = st.slider(
            "New rows that judge (%)", 10, 50, round(100 * (before["held_out"] if before else 0.3)), 5,
            key=f"{key}-held", width=300,
            help="They are never trained on: by them alone one sees whether the new version is better.",
        )  # fmt: skip
    for field in ("metric", "margin", "held_out"):
        draw_problem(problems, field)
    st.caption(describe_margin(metric, margin))
    own = "" if chosen is None or (run and chosen.run_id == run.run_id) else chosen.run_id
    return {
        "model": model.name,
        "alias": alias,
        "metric": metric,
        "margin": margin,
        "held_out": held_out / 100,
        "run": own,
    }


def draw_problem(problems: Problems, field: str) -> None:
    """What is wrong with a field, right below it."""
    for name, message in problems.items():
        if name.split(".")[0] == field:
            st.error(escape_markdown(message), icon=":material/error:")


def _choose_alias(model: ModelSummary, key: str, before: ImprovementScheduleRequest | None) -> str:
    aliases = {line.alias: line.version for line in retraining_queries.list_aliases(model.model_id)}
    listed = sorted(aliases, key=lambda alias: alias != "production")
    first = before["alias"] if before else "production"
    return str(
        st.selectbox(
            "Improve the version that is",
            listed,
            listed.index(first) if first in aliases else 0,
            key=f"{key}-alias",
            format_func=lambda alias: f"{alias} (version {aliases[alias]})",
            width=300,
        )
    )


def _find_source_run(model: ModelSummary, alias: str) -> Run | None:
    """The run that the version with the alias came from, where it is still there."""
    try:
        version = retraining_queries.read_version(f"{model.name}@{alias}")
        return run_queries.read_current_run(version.run_id) if version.run_id else None
    except NotFoundError:
        return None


def _choose_config_run(run: Run | None, key: str, before: ImprovementScheduleRequest | None) -> Run | None:
    """Whose config is launched: that of the version's run, or another one's."""
    listed = {line.run_id: line for line in run_queries.list_newest_runs("", ("finished",), MAX_RUNS)}
    if run is not None:
        listed = {run.run_id: run} | listed
    if not listed:
        return None
    first = list(listed).index(before["run"]) if before and before["run"] in listed else 0
    chosen = st.selectbox(
        "Use the config of", list(listed), first, key=f"{key}-run", width=460,
        format_func=lambda own: listed[own].name
        + (" (the run of this version)" if run and own == run.run_id else ""),
    )  # fmt: skip
    return listed[str(chosen)]


def format_config(run: Run) -> str:
    """ "LoRA on SmolLM2-135M, learning rate 0.0002, 3 epochs, with the 4,906 rows of trec"."""
    config = run.config
    rate = config.get("learning_rate")
    rows = run.facts.get("rows")
    old = f"together with {plural(rows['train'], 'old row')} of {run.dataset_name}" if rows else ""
    parts = [
        f"{METHODS[run.method].title} on {run.model}",
        f"learning rate {format_setting(float(rate))}" if rate else "",
        format_epochs(float(config["num_train_epochs"])) if config.get("num_train_epochs") else "",
        old,
    ]
    return ", ".join(part for part in parts if part)


def _choose_metric(run: Run | None, key: str, before: ImprovementScheduleRequest | None) -> tuple[str, float]:
    task = str(run.config.get("task") or "sft") if run else "sft"
    first = [name for name in list_offered_metrics(task) if name in MEASURED_METRICS]
    listed = list(dict.fromkeys([_get_default_metric(run, task), *first, *MEASURED_METRICS]))
    was = before["metric"] if before else None
    metric = str(
        st.selectbox(
            "Measured by",
            listed,
            listed.index(was) if was in listed else 0,
            key=f"{key}-metric-{task}",
            format_func=lambda name: METRICS[name].title,
            width=240,
        )
    )
    usual = before["margin"] if before and was in ("", metric) else 0.02
    scale = 100.0 if METRICS[metric].bounds == SHARE else 1.0
    most = scale * MAX_MARGIN if scale == 100 else None
    usual = scale * usual if most is None else min(scale * usual, most)
    typed = st.number_input(
        "Allowed decrease" + (" (points)" if scale == 100 else ""), min_value=0.0,
        max_value=most, value=usual, key=f"{key}-margin-{metric}", format="%g", width=260,
        help="A new version passes where it is surely not worse than that, on the old rows and on the new.",
    )  # fmt: skip
    return metric, float(typed or 0.0) / scale


def _get_default_metric(run: Run | None, task: str) -> str:
    format = ""
    if run:
        with suppress(
            NotFoundError
        ):  # its rows were deleted: nothing can be improved, as is said at the launch
            format = cached_queries.read_dataset(run.dataset_id).format
    return choose_comparison_metric(task=task, format=format)


def describe_margin(metric: str, margin: float) -> str:
    """What the margin means in the unit of the metric."""
    described = METRICS[metric]
    if described.bounds == SHARE:
        size = f"{format_setting(100 * margin)} points of {described.title}"
        of_rows = (
            f" ({format_setting(1000 * margin)} of 1,000 rows)" if described.unit == "share of rows" else ""
        )
    else:
        size, of_rows = f"{format_setting(margin)} of {described.title} ({described.unit})", ""
    if not margin:
        return "Without a margin it has to be surely better, on the old rows too: few improvements are."
    return f"It passes where it is surely not more than {size}{of_rows} worse than the version in use."


def estimate_training_seconds(run: Run, new_rows: int) -> float | None:
    """What the run took, scaled by the rows that come to it; None where nobody measured it."""
    facts = run.facts
    took, rows = facts.get("run_seconds") or facts.get("train_seconds"), facts.get("rows")
    if not took or not rows or not rows["train"]:
        return None
    return float(took) * (1 + new_rows / rows["train"])


def describe_training_time(run: Run | None, new_rows: int | None) -> str:
    """How long the run will take, and what that rests on."""
    seconds = estimate_training_seconds(run, new_rows or 0) if run is not None else None
    if run is None or seconds is None:
        return "How long the run will take is not known: that of its config left no time."
    more = "" if not new_rows else f" for {plural(new_rows, 'new row')} more"
    device = run.facts.get("device_name") or run.facts.get("device") or "the same device"
    return (
        f"The run will take about {display.format_duration(seconds)}{more}, by what"
        f" “{run.name}” took on {device};"
        " measuring both versions comes to that."
    )


KEY = "improve-schedule"
PROBLEMS = f"{KEY}-problems-"  # in the session state, with the name of the model
PERSON_DECIDES_NOTE = "It gathers, trains and measures by itself. **A person promotes, always.**"


def draw_schedule(model: ModelSummary, past: Sequence[Improvement]) -> None:
    """How it stands, then the form."""
    schedule = retraining_queries.read_schedule(model.model_id)
    with st.container(border=True, key="improve-schedule"):
        st.markdown("**On a schedule**")
        if schedule is None:
            st.caption(
                "Off. Switched on, it looks every so often whether people said enough of the answers."
                f" {PERSON_DECIDES_NOTE}"
            )
        else:
            _draw_current_schedule(model, schedule)
        if has_right("work"):
            title = "Change" if schedule else "Schedule improvements"
            opened = bool(st.session_state.get(PROBLEMS + model.name))
            with st.expander(title, icon=":material/event_repeat:", expanded=opened):
                _draw_form(model, past, schedule.config if schedule else None)


def _draw_current_schedule(model: ModelSummary, schedule: ImprovementSchedule) -> None:
    config = schedule.config
    least, rows = int(config["least_rows"]), schedule.last_rows
    every = display.format_duration(3600 * float(config["every_hours"]))
    st.markdown(
        f"Every {every} it looks for new rows, and begins with {least:,} or more. {PERSON_DECIDES_NOTE}"
    )
    if rows is None:
        st.caption("No check yet.")
    else:
        note = f"looked {display.format_ago(schedule.last_at)}; {plural(max(0, least - rows), 'row')} to go"
        if rows >= least:
            note = f"looked {display.format_ago(schedule.last_at)}; enough"
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
        after = schedule.last_at + timedelta(hours=float(config["every_hours"]))
        following = f" Next look {after:%d %b, %H:%M} UTC."
    with st.container(horizontal=True, vertical_alignment="center"):
        by, when = escape_markdown(schedule.set_by_name), display.format_ago(schedule.set_at)
        st.caption(f"Set by {by} {when}.{following}", width="stretch")
        if has_right("work") and st.button(
            "Turn off schedule", icon=":material/event_busy:", key="improve-unschedule"
        ):
            body = {"model": model.name}
            if send_command("unschedule_improvement", body, "Schedule turned off.") is not None:
                st.rerun()


def _draw_form(
    model: ModelSummary, past: Sequence[Improvement], before: ImprovementScheduleRequest | None
) -> None:
    problems: dict[str, str] = st.session_state.get(PROBLEMS + model.name, {})
    with st.container(horizontal=True):
        every = st.number_input(
            "Check every (hours)", 1.0, 24.0 * 366, before["every_hours"] if before else 24.0, step=1.0,
            format="%g", key=f"{KEY}-every", width=200,
        )  # fmt: skip
        least = st.number_input(
            "Minimum new rows", 20, 1_000_000, before["least_rows"] if before else 100, key=f"{KEY}-least",
            width=200, help="Corrections and labels since the last improvement",
        )  # fmt: skip
    draw_problem(problems, "every_hours")
    draw_problem(problems, "least_rows")
    rows = draw_sources(model, past, KEY, feedback_alone=True)
    draw_problem(problems, "rows")
    settings = draw_settings(model, KEY, problems, before)
    draw_problem(problems, "")
    if st.button("Save schedule", icon=":material/event_repeat:", key=f"{KEY}-save"):
        _save_schedule({**settings, "rows": rows.sources, "every_hours": every, "least_rows": least})


def _save_schedule(body: ImprovementScheduleRequest) -> None:
    st.session_state.pop(PROBLEMS + body["model"], None)
    try:
        get_client().command("schedule_improvement", ImproveSchedule.parse(body).document())
    except TunebenchError as error:
        st.session_state[PROBLEMS + body["model"]] = {error.field or "": str(error)}
        st.rerun()
    st.cache_data.clear()
    st.toast("Schedule saved.", icon=":material/check:")
    st.rerun()
