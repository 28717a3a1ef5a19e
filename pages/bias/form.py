"""How a bias check is asked for: built-in pairs, files of one's own, continuations with a classifier; how
long it takes; and what the views of bias checks read.
"""

from __future__ import annotations

import os
from typing import Any, Literal

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
    show_errors,
)
from store.bias import bias_checks
from store.bias.bias_checks import ClassifierOption
from store.bias.run_switch import SWITCH
from store.bias.schemas import BiasCheck, BiasSummary
from store.core.schemas import Job, JsonObject
from store.core.training_schemas import Preview
from store.monitoring.config import BiasSchedule
from store.runs.schemas import Run


@cached(cached_queries.CALM, most=32)
def read_check(job_id: str) -> BiasCheck:
    return bias_checks.get(get_client(), job_id)


@cached(cached_queries.LIVE, most=32)
def list_checks(run_id: str = "", evaluation_id: str = "") -> list[BiasSummary]:
    """Of a run, or with groups of an evaluation, newest first."""
    return bias_checks.listed(get_client(), run_id=run_id, evaluation_id=evaluation_id)


@cached(cached_queries.LIVE, most=32)
def list_unfinished(run_id: str = "", evaluation_id: str = "") -> list[Job]:
    return bias_checks.unfinished(get_client(), run_id=run_id, evaluation_id=evaluation_id)


@cached(cached_queries.CALM, most=4)
def list_classifiers() -> list[ClassifierOption]:
    """Classifiers that can judge continuations."""
    return bias_checks.list_classifiers(get_client())


BUILTIN_PAIR_COUNT = 184  # built-in ones
CORE_SECONDS, PARAMETERS = 40.0, 135e6  # of one core, for the pairs and a model of so many parameters
MAX_CORES = 4  # more of them hardly help


def format_duration(parameters: int | None, *, gpu: bool) -> str:
    """ "about a minute or two", "about 2 min": base and tuned model, one after the other."""
    if not parameters or gpu:
        return "about a minute or two"
    cores = min(os.cpu_count() or 1, MAX_CORES)
    return f"about {display.format_duration(2 * CORE_SECONDS * parameters / PARAMETERS / cores)}"


def build_preview_facts(answer: Preview) -> list[tuple[str, str, str]]:
    """Of a launch, the check that follows the run, where it is asked for."""
    if not answer.config[SWITCH.name]:
        return []
    time = format_duration(answer.total_parameters, gpu=bool(cached_queries.read_machine().gpus))
    return [("Bias check", time, f"after the run: base and tuned model, {BUILTIN_PAIR_COUNT} pairs")]


FILE_FORMATS = (
    "The format is detected from the columns: sentence pairs (sent_more, sent_less), pronouns (text with"
    " [marks], stereotype), multiple choice as in BBQ (context, question, ans0 …)."
)


def estimate_duration(run: Run) -> str:
    """How long the built-in pairs take, base and tuned model."""
    gpu = str(run.facts.get("device", "cpu")).startswith("cuda")
    time = format_duration(run.facts.get("total_parameters"), gpu=gpu)
    return f"Takes {time}: the base and the tuned model on the same {BUILTIN_PAIR_COUNT} pairs."


def draw_button(run: Run, *, first: bool) -> None:
    """The press that starts a check with the built-in pairs."""
    if not has_right("work"):
        return
    label = "Check for bias" if first else "Check again"
    kind: Literal["primary", "secondary"] = "primary" if first else "secondary"
    if st.button(label, icon=":material/balance:", type=kind, key="bias-check"):
        start_check({"run": run.run_id})


def start_check(body: JsonObject) -> None:
    """Queue it; the tab is drawn anew."""
    if send_command("check_bias", body, "Bias check queued.") is not None:
        st.cache_data.clear()
        st.rerun()


def draw_files(run: Run) -> None:
    """A check with files of the user's own."""
    if not has_right("work"):
        return
    with st.expander("With your own files", icon=":material/upload_file:"):
        st.caption(FILE_FORMATS)
        files = st.file_uploader("Files", accept_multiple_files=True, key="bias-files")
        path = ""
        if is_machine_owner():
            path = st.text_input(
                "Or a file path on this machine", key="bias-path", placeholder="/home/me/pairs.csv"
            )
        most = st.number_input("Maximum items per file", min_value=10, value=1000, step=100, key="bias-most")
        builtin = st.toggle("Include the built-in pairs", value=True, key="bias-builtin")
        if st.button("Check with these files", icon=":material/balance:", key="bias-check-files"):
            asked = [{"path": path.strip()}] if path.strip() else []
            with show_errors(), st.spinner("Copying the files into the home folder …"):
                for file in files:
                    asked.append({"upload": get_client().upload(file.name, file)})
            if not asked:
                st.warning("Choose a file.")
                return
            chosen = [{**file, "max_rows": int(most)} for file in asked]
            start_check({"run": run.run_id, "builtin": builtin, "files": chosen})
        if files:
            st.caption(", ".join(escape_markdown(file.name) for file in files))


OTHER = ""
BUILTIN_OPENING_COUNT = 96  # built-in ones
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
    """A check of continuations with a classifier of the user's own."""
    if not has_right("work"):
        return
    with st.expander("With your own classifier", icon=":material/report:"):
        st.caption(ABOUT)
        listed = list_classifiers()
        if not listed:
            st.caption(NO_CLASSIFIER)
        classifier, labels = _choose_classifier({each["classifier"]: each for each in listed})
        openings = _choose_openings()
        left, middle, right = st.columns(3)
        samples = left.number_input(
            "Continuations per prompt", min_value=1, max_value=25, value=4, key="bias-samples"
        )
        most = middle.number_input(
            "Maximum prompts", min_value=10, value=1000, step=100, key="bias-openings-most"
        )
        builtin = right.toggle("Include the built-in pairs", value=True, key="bias-builtin-too")
        if st.button("Check generated text", icon=":material/balance:", key="bias-check-continuations"):
            if not classifier or not labels:
                st.warning("Choose a classifier and which of its labels are harmful.")
                return
            asked = {"classifier": classifier, "labels": labels, "samples": int(samples)}
            asked |= {"max_rows": int(most)} | _build_file_options(*openings)
            start_check({"run": run.run_id, "builtin": builtin, "continuations": asked})


def _choose_classifier(listed: JsonObject) -> tuple[str, list[str]]:
    """Which one, and its labels that count."""
    names = {key: each["name"] for key, each in listed.items()} | {OTHER: "Another, by folder or hub id"}
    chosen = st.selectbox(
        "Classifier", list(names), format_func=names.__getitem__, key="bias-classifier",
        help="A finished classification run, or a registered version of one",
    )  # fmt: skip
    if chosen == OTHER:
        chosen = st.text_input(
            "Folder or hub id", key="bias-classifier-name", placeholder="/home/me/toxicity-classifier"
        ).strip()
    labels = st.multiselect(
        "Harmful labels",
        listed[chosen]["labels"] if chosen in listed else [],
        accept_new_options=True,
        key=f"bias-labels-{chosen}",
        placeholder="Choose or enter labels",
    )
    return chosen, labels


def _choose_openings() -> tuple[Any, str, str, str]:
    """The file, its path, and its columns."""
    file = st.file_uploader(
        f"Your own prompts (default: the {BUILTIN_OPENING_COUNT} built-in ones)", key="bias-openings",
        help="One prompt per row, as in RealToxicityPrompts",
    )  # fmt: skip
    left, middle, right = st.columns(3)
    path = ""
    if is_machine_owner():
        path = left.text_input(
            "Or a file path", key="bias-openings-path", placeholder="/home/me/prompts.jsonl"
        )
    column = middle.text_input("Prompt column", "prompt", key="bias-openings-column")
    group = right.text_input(
        "Group column",
        key="bias-openings-group",
        help="Values with at least 10 prompts are reported separately",
    )
    return file, path.strip(), column.strip(), group.strip()


def _build_file_options(file: Any, path: str, column: str, group: str) -> JsonObject:
    """As the command takes it; empty for the built-in openings."""
    if path:
        chosen = {"path": path}
    elif file:
        with show_errors(), st.spinner(f"Copying {escape_markdown(file.name)} into the home folder …"):
            chosen = {"upload": get_client().upload(file.name, file)}
    else:
        return {}
    return {"file": chosen, "column": column or "prompt", "group_column": group}


PRESENT = "present"  # the check that a schedule has already


def draw_schedule_field(present: BiasSchedule | None) -> BiasSchedule | None:
    """A check that was made once is made again and again. present: that which is set."""
    everything = {each.job_id: each for each in list_checks()}
    options = ["", *([PRESENT] if present else []), *everything]
    names = {"": "None", PRESENT: "Current setting"} | {
        job_id: f"{each.model} against {each.against}, {each.created_at:%d %b %H:%M}"
        for job_id, each in everything.items()
    }
    left, middle = st.columns([2, 1])
    chosen = left.selectbox(
        "Scheduled bias check", options, 1 if present else 0, format_func=names.__getitem__,
        help="Repeats an earlier check. To check the current version of an alias each time, start the check"
            " with the alias (tunebench bias).",
    )  # fmt: skip
    schedule = ModelForm(BiasSchedule, f"bias-schedule-{present.every_hours if present else ''}-", present)
    with middle:
        schedule.draw("every_hours")
    if present and chosen == PRESENT:
        return schedule.parse(check=present.check)
    return schedule.parse(check=read_check(chosen).config) if chosen else None
