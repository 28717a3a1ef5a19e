"""Forms that start a bias check: built-in pairs, files of one's own, continuations with a classifier; its
estimated duration; and the queries of the views.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import streamlit as st

from pages.shared import cached_queries, display
from pages.shared.model_form import ModelForm
from pages.shared.session import (
    cached,
    escape_markdown,
    get_client,
    has_right,
    is_machine_owner,
    send_command,
    show_error,
    show_errors,
)
from store.bias import bias_checks
from store.bias.bias_checks import ClassifierOption
from store.bias.config import BiasConfig, BiasContinuations, BiasFile
from store.bias.run_switch import SWITCH
from store.bias.schemas import BiasCheck, BiasSummary
from store.core.schemas import Job, JsonObject
from store.core.training_schemas import Preview
from store.monitoring.config import BiasSchedule
from store.rating.config import RowFile
from store.runs.schemas import Run

File = TypeVar("File", bound=RowFile)


@cached(cached_queries.CALM, max_entries=32)
def read_check(job_id: str) -> BiasCheck:
    return bias_checks.get(get_client(), job_id)


@cached(cached_queries.LIVE, max_entries=32)
def list_checks(run_id: str = "", evaluation_id: str = "") -> list[BiasSummary]:
    """Checks of a run, or with groups of an evaluation, newest first."""
    return bias_checks.listed(get_client(), run_id=run_id, evaluation_id=evaluation_id)


@cached(cached_queries.LIVE, max_entries=32)
def list_unfinished(run_id: str = "", evaluation_id: str = "") -> list[Job]:
    return bias_checks.unfinished(get_client(), run_id=run_id, evaluation_id=evaluation_id)


@cached(cached_queries.CALM, max_entries=4)
def list_classifiers() -> list[ClassifierOption]:
    """Classifiers that can judge continuations."""
    return bias_checks.list_classifiers(get_client())


BUILTIN_PAIR_COUNT = 184  # number of built-in ones
CORE_SECONDS, PARAMETERS = 40.0, 135e6  # seconds on one core for the pairs at this model size
MAX_CORES = 4  # more cores hardly help


def format_duration(parameters: int | None, *, gpu: bool) -> str:
    """Format the duration for base and tuned model as "about a minute or two", "about 2 min"."""
    if not parameters or gpu:
        return "about a minute or two"
    cores = min(os.cpu_count() or 1, MAX_CORES)
    return f"about {display.format_duration(2 * CORE_SECONDS * parameters / PARAMETERS / cores)}"


def build_preview_facts(answer: Preview) -> list[tuple[str, str, str]]:
    """Build the fact of the check that follows a launched run, if it is enabled."""
    if not answer.config[SWITCH.name]:
        return []
    time = format_duration(answer.total_parameters, gpu=bool(cached_queries.read_machine().gpus))
    return [("Bias check", time, f"after the run: base and tuned model, {BUILTIN_PAIR_COUNT} pairs")]


USUAL_ROWS = 1_000  # default in the forms; if empty, all rows are used
FILE_FORMATS = (
    "The format is detected from the columns: sentence pairs (sent_more, sent_less), pronouns (text with"
    " [marks], stereotype), multiple choice as in BBQ (context, question, ans0 …)."
)


def estimate_duration(run: Run) -> str:
    """Describe how long the built-in pairs take for base and tuned model."""
    gpu = str(run.facts.get("device", "cpu")).startswith("cuda")
    time = format_duration(run.facts.get("total_parameters"), gpu=gpu)
    return f"Takes {time}: the base and the tuned model on the same {BUILTIN_PAIR_COUNT} pairs."


def draw_button(run: Run, *, first: bool) -> None:
    """Draw the button that starts a check with the built-in pairs."""
    if not has_right("work"):
        return
    label = "Check for bias" if first else "Check again"
    kind: Literal["primary", "secondary"] = "primary" if first else "secondary"
    if st.button(label, icon=":material/balance:", type=kind, key="bias-check"):
        start_check(BiasConfig(run=run.run_id))


def start_check(body: BiasConfig, form: ModelForm[BiasConfig] | None = None) -> None:
    """Queue the check and rerun the page; a refusal is shown at its field of the form."""
    show = form.show if form else show_error
    if send_command("check_bias", body.document(), "Bias check queued.", show) is not None:
        st.cache_data.clear()
        st.rerun()


def draw_files(run: Run) -> None:
    """Draw the form of a check with one's own files."""
    if not has_right("work"):
        return
    with st.expander("With your own files", icon=":material/upload_file:"):
        st.caption(FILE_FORMATS)
        form = ModelForm(BiasConfig, "bias-")
        each = ModelForm(BiasFile, "bias-", {"max_rows": USUAL_ROWS})
        files = st.file_uploader("Files", accept_multiple_files=True, key="bias-files")
        form.mark("files")
        each.put(path=None)
        if is_machine_owner():
            each.draw("path")
        each.draw("max_rows")
        form.draw("builtin")
        if st.button("Check with these files", icon=":material/balance:", key="bias-check-files"):
            if not files and not each.values["path"]:
                st.warning("Choose a file.")
                return
            parsed = _parse_files(each, files)
            config = form.parse(run=run.run_id, files=parsed) if parsed else None
            if config:
                start_check(config, form)
        if files:
            st.caption(", ".join(escape_markdown(file.name) for file in files))


def _parse_files(form: ModelForm[File], files: Sequence[Any]) -> list[File] | None:
    """Return one file for the path and one for each upload; None if one is invalid or could not be copied,
    which is then shown.
    """
    parsed = [form.parse()] if form.values["path"] else []
    with show_errors(), st.spinner("Copying the files into the home folder …"):
        uploads = [get_client().upload(file.name, file) for file in files]
        parsed += [form.parse(path=None, upload=upload) for upload in uploads]
        return [each for each in parsed if each] if all(parsed) else None
    return None


OTHER = ""
OPENINGS = "bias-openings-"
BUILTIN_OPENING_COUNT = 96  # number of built-in ones
ABOUT = (
    "The base and the tuned model continue the same prompts several times, and your classifier estimates"
    " the harm probability of each continuation. Tunebench has no built-in classifier; the error rates of"
    " yours are reported with the metrics."
)
NO_CLASSIFIER = (
    "No trained classifiers yet. Launch a run on rows with harm labels (task: text classification), or give"
    " a model with a classification head by its folder or hub id."
)


def draw_classifier(run: Run) -> None:
    """Draw the form of a check of continuations with one's own classifier."""
    if not has_right("work"):
        return
    with st.expander("With your own classifier", icon=":material/report:"):
        st.caption(ABOUT)
        listed = list_classifiers()
        if not listed:
            st.caption(NO_CLASSIFIER)
        form = ModelForm(BiasConfig, OPENINGS)
        asked = ModelForm(BiasContinuations, OPENINGS, {"max_rows": USUAL_ROWS})
        _draw_classifier_fields(asked, {each["classifier"]: each for each in listed})
        file, own = _draw_openings(asked)
        left, middle, right = st.columns(3)
        with left:
            asked.draw("samples")
        with middle:
            asked.draw("max_rows")
        with right:
            form.draw("builtin")
        if st.button("Check generated text", icon=":material/balance:", key="bias-check-continuations"):
            opened = _parse_files(own, [file] if file and not own.values["path"] else [])
            continuations = None if opened is None else asked.parse(file=opened[0] if opened else None)
            config = form.parse(run=run.run_id, continuations=continuations) if continuations else None
            if config:
                start_check(config, form)


def _draw_classifier_fields(form: ModelForm[BiasContinuations], listed: JsonObject) -> None:
    """Draw the choice of the classifier, and of its labels that count as harm."""
    names = {key: each["name"] for key, each in listed.items()} | {OTHER: "Another, by folder or hub id"}
    chosen = form.draw_field("classifier", choices=names, present=next(iter(names)))
    if chosen == OTHER:
        chosen = form.draw_field(
            "classifier", label="Folder or hub id", key=f"{OPENINGS}classifier-name", present=OTHER
        )
    labels = listed[chosen]["labels"] if chosen in listed else []
    form.draw_field("labels", choices=dict(zip(labels, labels, strict=True)), key=f"bias-labels-{chosen}")


def _draw_openings(form: ModelForm[BiasContinuations]) -> tuple[Any, ModelForm[RowFile]]:
    """Draw the file of openings or its path, and its columns."""
    file = st.file_uploader(
        f"Your own prompts (default: the {BUILTIN_OPENING_COUNT} built-in ones)", key="bias-openings",
        help="One prompt per row, as in RealToxicityPrompts",
    )  # fmt: skip
    form.mark("file")
    own = ModelForm(RowFile, OPENINGS)
    own.put(path=None)
    left, middle, right = st.columns(3)
    if is_machine_owner():
        with left:
            own.draw("path")
    with middle:
        form.draw("column")
    with right:
        form.draw("group_column")
    return file, own


PRESENT = "present"  # the check of the present schedule


def draw_schedule_field(present: BiasSchedule | None) -> BiasSchedule | None:
    """Draw the choice of a past check to repeat on a schedule. present: the present schedule."""
    everything = {each.job_id: each for each in list_checks()}
    names = (
        {"": "None"}
        | ({PRESENT: "Current setting"} if present else {})
        | {
            job_id: f"{each.model} against {each.against}, {each.created_at:%d %b %H:%M}"
            for job_id, each in everything.items()
        }
    )
    schedule = ModelForm(BiasSchedule, f"bias-schedule-{present.every_hours if present else ''}-", present)
    left, middle = st.columns([2, 1])
    with left:
        chosen = schedule.draw_field("check", choices=names, present=PRESENT if present else "")
    with middle:
        schedule.draw("every_hours")
    if present and chosen == PRESENT:
        return schedule.parse(check=present.check)
    return schedule.parse(check=read_check(chosen).config) if chosen else None
