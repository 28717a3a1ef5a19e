"""The form that starts an evaluation: model or run, rows, metrics and their options."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.data.slices import draw_slice_choice
from pages.shared import run_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, require_member, send_command
from store.core.home import Home
from store.core.metric_options import MetricChoice
from store.core.metric_table import METRICS, MULTIPLE_CHOICE, list_default_metrics
from store.core.metrics_config import CHOICES, list_metric_options
from store.core.schemas import JsonObject
from store.data.schemas import Dataset
from store.evaluation.config import EvaluateConfig
from store.evaluation.schemas import EvaluationIdentity
from store.runs.schemas import Run
from store.training import setting_conflicts

PREFIX = "evaluate."
COLUMNS = 3
CHOSEN, OFFERED = f"{PREFIX}metrics", f"{PREFIX}metrics.offered"


def draw_metrics(defaults: list[str], without: set[str]) -> list[ModelForm[MetricChoice]]:
    """Draw the choice of metrics and their options; return a form for each metric.

    without: what the model and rows lack; metrics that need it are not offered.
    """
    offered = [name for name, metric in METRICS.items() if not without & set(metric.needs)]
    _set_default_metrics([name for name in defaults if name in offered])
    chosen = st.multiselect(
        "Metrics",
        offered,
        format_func=lambda name: METRICS[name].title,
        key=CHOSEN,
        help="  \n".join(
            f"**{METRICS[name].title}**: {escape_markdown(METRICS[name].means)}" for name in offered
        ),
    )
    forms = {name: ModelForm(CHOICES[name], f"{PREFIX}{name}.") for name in chosen}
    if with_options := [name for name in chosen if list_metric_options(name)]:
        needed = any(
            CHOICES[name].model_fields[field].is_required()
            for name in chosen
            for field in list_metric_options(name)
        )
        with st.expander("Metric options", icon=":material/tune:", expanded=needed):
            for name in with_options:
                _draw_options(name, forms[name])
    for name, form in forms.items():
        form.put(metric=name)
    return list(forms.values())


def _set_default_metrics(defaults: list[str]) -> None:
    """Select what fits the model and the rows, unless the user has changed the selection."""
    state = st.session_state
    if CHOSEN not in state or state[CHOSEN] == state.get(OFFERED):
        state[CHOSEN] = defaults
    state[OFFERED] = defaults


def _draw_options(metric: str, form: ModelForm[MetricChoice]) -> None:
    st.markdown(f"**{METRICS[metric].title}**")
    names = list_metric_options(metric)
    for start in range(0, len(names), COLUMNS):
        for column, name in zip(st.columns(COLUMNS), names[start : start + COLUMNS], strict=False):
            with column:
                if (metric, name) == ("own", "file"):
                    _draw_custom_metric(form)
                else:
                    form.draw_field(name, label=name)


def _draw_custom_metric(form: ModelForm[MetricChoice]) -> None:
    """The choice of a metric file in the home folder."""
    folder = Home().metrics
    files = sorted(path.stem for path in folder.glob("*.py"))
    if files:
        form.draw_field("file", label="file", choices={name: name for name in files}, present=files[0])
        return
    st.caption(
        f"No Python file in {escape_markdown(str(folder))} yet. Add one with a function score(prediction)."
    )
    form.put(file="")
    form.mark("file")


def _parse_metrics(forms: list[ModelForm[MetricChoice]]) -> list[JsonObject] | None:
    """The metrics with the options that differ from their defaults; None if one is invalid."""
    choices = [form.parse() for form in forms]
    parsed = [choice for choice in choices if choice is not None]
    if len(parsed) < len(choices):
        return None
    return [choice.model_dump(mode="json", exclude_defaults=True) for choice in parsed]


MODELS = {
    "tuned": "Tuned model",
    "base": "Base model",
    "best": "Best checkpoint",
    "newest": "Newest checkpoint",
}
PARTS = {"test": "Test", "validation": "Validation", "train": "Training", "all": "All rows"}


def format_part(evaluation: EvaluationIdentity) -> str:
    """Format the evaluated rows: "Test", or "Test, filtered" if a filter was applied."""
    filtered = ", filtered" if evaluation.config.get("where") else ""
    return f"{PARTS[evaluation.part]}{filtered}"


def draw_form(run: Run | None, model: str = "") -> None:
    """Draw the evaluation form for a run, or for a `model` given by name, folder or hub id.

    Errors are shown before anything is queued.
    """
    if not require_member("evaluate a model on any rows; results are shown here"):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        checkpoint = _choose_checkpoint(run) if run else "tuned"
        dataset = _choose_dataset(run)
        part, most = _choose_rows()
    where = draw_slice_choice(dataset.dataset_id, f"{PREFIX}slice") if dataset else None
    if dataset is None:
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return
    head = bool(run and run.config.get("task") == "classification" and checkpoint != "base")
    choosing = dataset.format == MULTIPLE_CHOICE and not head
    labelled = bool(dataset.stats.get("label_count"))
    usual = list_default_metrics(head=head, labelled=labelled, choosing=choosing)
    metrics = draw_metrics(usual, {"bytes" if head else "probabilities", *(() if choosing else ("choices",))})
    form = ModelForm(EvaluateConfig, PREFIX)
    form.mark("metrics")
    form.put(
        **({"run": run.run_id, "checkpoint": checkpoint} if run else {"model": model}),
        dataset=dataset.dataset_id,
        part=part,
        where=where,
        max_rows=most,
    )
    _draw_more_options(form, head, choosing)
    if st.button("Evaluate", type="primary", icon=":material/fact_check:", key=f"{PREFIX}go"):
        _start_evaluation(form, metrics)


def _start_evaluation(form: ModelForm[EvaluateConfig], metrics: list[ModelForm[MetricChoice]]) -> None:
    """Queue the evaluation, or show what is wrong at its field."""
    documents = _parse_metrics(metrics)
    config = form.parse(metrics=documents or [])
    if documents is None or config is None:
        return
    if send_command("evaluate", config.document(), "Evaluation queued.") is not None:
        st.rerun()


def _choose_checkpoint(run: Run) -> str:
    """Draw the choice of the run's checkpoint; an unfinished run has no tuned model."""
    finished = run.status == "finished"
    which = ["tuned", "base"] if finished else ["best", "newest", "base"]
    return st.selectbox("Checkpoint", which, format_func=MODELS.__getitem__, key=f"{PREFIX}checkpoint")


def _choose_rows() -> tuple[str, int]:
    """Draw the choice of the split, and the maximum number of rows."""
    part = st.selectbox(
        "Rows",
        list(PARTS),
        format_func=PARTS.__getitem__,
        key=f"{PREFIX}part",
        help="Of the run's own data the split that it was trained with, of another the data set's own.",
    )
    most = st.number_input(
        "Maximum rows", 1, None, 500, 100, key=f"{PREFIX}rows", help="Size of the random sample"
    )
    return part, int(most)


def _choose_dataset(run: Run | None) -> Dataset | None:
    """Draw the choice of the data set, the run's own first."""
    own = run.dataset_id if run else None
    datasets = sorted(run_queries.list_all_datasets(), key=lambda dataset: dataset.dataset_id != own)
    by_id = {dataset.dataset_id: dataset for dataset in datasets}
    if not by_id:
        return None
    chosen = st.selectbox(
        "Data set",
        list(by_id),
        format_func=lambda key: by_id[key].name + (" (its own)" if key == own else ""),
        key=f"{PREFIX}dataset.{own or ''}",  # the default is the data set of each run
    )
    return by_id[chosen]


def _draw_more_options(form: ModelForm[EvaluateConfig], head: bool, choosing: bool) -> None:
    """Draw generation options and additional measurements, labelled with their names in the config."""
    with st.expander("More options", icon=":material/more_horiz:"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            _draw_named(form, "max_new_tokens", disabled=head)
            _draw_named(form, "per_device_eval_batch_size")
            if _draw_named(form, "do_sample", disabled=head):
                _draw_named(form, "temperature")
                _draw_named(form, "top_p")
        if choosing:
            with st.container(horizontal=True, vertical_alignment="bottom"):
                _draw_named(form, "choice_examples")
                _draw_named(form, "list_choices")
        form.draw_field("probes", disabled=head)
        _draw_tasks(form, head)
        _draw_named(form, "group_by")
        form.draw("name", "notes")


def _draw_named(form: ModelForm[EvaluateConfig], field: str, *, disabled: bool = False) -> Any:
    return form.draw_field(field, label=field, disabled=disabled)


def _draw_tasks(form: ModelForm[EvaluateConfig], head: bool) -> None:
    """Draw tasks of lm-evaluation-harness, or how to install it."""
    there = setting_conflicts.has_harness()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _draw_named(form, "tasks", disabled=head or not there)
        _draw_named(form, "task_rows", disabled=head or not there)
    if not there:
        form.put(tasks=[], task_rows=None)
        st.caption(
            "To use tasks of lm-evaluation-harness, install it with `pip install 'tunebench[tasks]'` and"
            " restart Tunebench."
        )
        return
    st.caption(
        "A task of your own is a YAML file in the folder `tasks` of the home folder, and needs no network. "
        "Those that come with lm-evaluation-harness fetch their rows from the hub."
    )
