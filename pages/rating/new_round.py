"""The form that starts a round: models, prompts (also from a file), protocol, and rater checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages.data.slices import draw_slice_choice
from pages.evaluation.form import PARTS
from pages.rating.round_settings import (
    ModelOptions,
    P,
    RoundForm,
    build_named_options,
    draw_models,
    draw_people,
    draw_protocol,
    list_answered_options,
    list_other_options,
)
from pages.shared import cached_queries, run_queries
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, get_client, send_command, show_error, show_errors
from store.core.errors import TunebenchError
from store.core.formatting import plural
from store.core.rating_schemas import PromptFile
from store.data.config import suggest_name
from store.data.schemas import Dataset
from store.rating.config import COMPARING, MAX_MIB, RoundConfig
from store.rating.templates import PROTOCOL_TITLES, find_named_model

KINDS = ["jsonl", "json", "csv", "tsv", "parquet", "txt", "gz"]
SENT = f"{P}sent"  # session state key: uploads of selected files
EXAMPLE = '{"prompt": "What is a slice?", "answers": {"gpt-4o": "A part.", "llama": "Some rows."}}'
TAKEN = f"{P}taken"  # number of times rounds took files
NAMES = 6  # maximum number of model names listed


def draw_file() -> tuple[str, PromptFile] | None:
    """Draw the upload and its contents; None until there is a readable file."""
    number = count_taken_uploads()
    file = st.file_uploader(
        "File of prompts", type=KINDS, key=f"{P}prompts-file.{number}", max_upload_size=MAX_MIB
    )
    if file is None:
        st.caption(
            "A row has a `prompt`, or a conversation in `messages`; it may have a `reference`, and answers"
            " that were written elsewhere. In a table `answer:NAME` is the column of a model's answers."
        )
        st.code(EXAMPLE, language="json")
        return None
    upload = send_file(file)
    if not upload:
        return None
    try:
        prompts = cached_queries.query_engine("prompts", json.dumps({"upload": upload}), PromptFile)
    except TunebenchError as error:
        show_error(error)
        return None
    _draw_contents(prompts)
    return upload, prompts


def send_file(file: UploadedFile) -> str:
    """Upload a selected file once; "" if that failed."""
    sent: dict[str, str] = st.session_state.setdefault(SENT, {})
    if file.file_id not in sent:
        with show_errors(), st.spinner(f"Copying {escape_markdown(file.name)} into the home folder …"):
            sent[file.file_id] = get_client().upload(file.name, file)
    return sent.get(file.file_id, "")


def clear_uploads() -> None:
    """Clear the uploaders after a round has been created from their files."""
    st.session_state[TAKEN] = count_taken_uploads() + 1


def count_taken_uploads() -> int:
    """Return how often rounds took files; part of the keys of uploaders, which a new key empties."""
    return int(st.session_state.get(TAKEN, 0))


def _draw_contents(prompts: PromptFile) -> None:
    """Describe the contents of the file, and skipped rows with reasons."""
    answers = prompts["answers"]
    names = [f"{name} ({count:,})" if count < prompts["prompts"] else name for name, count in answers.items()]
    if len(names) > NAMES:
        names = [*names[: NAMES - 1], f"{len(names) - NAMES + 1} more"]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    has = f"answers of {listed}" if names else "no answers: every model answers first"
    count = plural(prompts["prompts"], "prompt")
    st.markdown(f":material/check: {escape_markdown(f'{count}, {has}.')}")
    for reason, rows in prompts["left_out"].items():
        st.caption(f":material/block: {plural(rows, 'row')} left out: {escape_markdown(reason)}.")


def list_file_options(prompts: PromptFile, others: ModelOptions) -> ModelOptions:
    """List names with answers in the file, then other models."""
    return {**build_named_options(prompts["answers"]), **others}


def draw_writers(models: list[dict[str, str]], others: ModelOptions) -> list[dict[str, str]]:
    """Draw the choice of the run or model behind each name in the file; return the completed models.

    The round is then shown on the page of that run, and the next run can continue from it.
    """
    named = [model["answers"] for model in models if "answers" in model]
    if not named or not others:
        return models
    writers: dict[str, dict[str, str]] = {}
    with st.expander("Authors of the responses in the file", icon=":material/edit_note:"):
        for name in named:
            chosen = st.selectbox(
                f"The answers of {escape_markdown(name)}",
                ["", *others],
                format_func=lambda option: (
                    others[option].label if option else "no run or model of this machine"
                ),
                key=f"{P}writer.{name}",
            )
            writers[name] = others[chosen].model if chosen else {}
    return [{**writers.get(model.get("answers", ""), {}), **model} for model in models]


NOBODY, A_FILE = "", "file"
FILE_EXAMPLES = {  # protocol -> example row of a file of known answers
    "pairwise": '{"prompt": "…", "answers": ["…", "…"], "expected": "B"}',
    "rank": '{"prompt": "…", "answers": ["…", "…", "…"], "expected": [2, 1, 3]}',
    "rubric": '{"prompt": "…", "answer": "…", "expected": {"Helpfulness": 4}}',
    "pass_fail": '{"prompt": "…", "answer": "…", "expected": "fail"}',
    "label": '{"prompt": "…", "expected": "card_lost"}',
    "correction": '{"prompt": "…", "answer": "…", "expected": "words that a right text contains"}',
}


def draw_checks(form: RoundForm, protocol: str) -> None:
    """Draw the rater checks, collapsed because most rounds of a few colleagues need none."""
    with st.expander("Rater checks", icon=":material/fact_check:"):
        if source := _choose_check_source(protocol):
            form.put(**source)
            _draw_check_counts(form, protocol)
        form.draw("attention_share")


def _choose_check_source(protocol: str) -> Mapping[str, object]:
    """Draw the choice of the source of known answers; return its config field, or nothing."""
    kind = {"pairwise": "preference", "label": "chat"}.get(protocol)
    sets = {
        row.dataset_id: row.name
        for row in run_queries.list_all_datasets()
        if row.kind == kind and (protocol != "label" or row.stats.get("labels"))
    }
    titles = {NOBODY: "none", **sets, A_FILE: "a file"}
    chosen = st.selectbox(
        "Known answers from", list(titles), format_func=titles.__getitem__, key=f"{P}gold.{protocol}"
    )
    if chosen == A_FILE:
        return _choose_file(protocol)
    return {"gold_dataset": chosen} if chosen else {}


def _choose_file(protocol: str) -> Mapping[str, object]:
    """Draw the upload of known answers; return its config field once there is one."""
    file = st.file_uploader(
        "File of known answers",
        type=KINDS,
        key=f"{P}gold-file.{count_taken_uploads()}",
        max_upload_size=MAX_MIB,
    )
    if file is None:
        st.caption("Each row has a prompt, the answers to rate, and the expected rating:")
        st.code(FILE_EXAMPLES.get(protocol, FILE_EXAMPLES["pairwise"]), language="json")
        return {}
    upload = send_file(file)
    return {"gold_file": {"upload": upload}} if upload else {}


def _draw_check_counts(form: RoundForm, protocol: str) -> None:
    """Draw number and frequency of check items, and when a rater fails."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        mixed = form.draw_field("gold_items")
        form.draw_field("gold_share", disabled=not mixed)
        form.draw_field("gold_pass")
        if protocol == "rubric":
            form.draw_field("gold_tolerance")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = form.draw_field("qualification_items", key=f"{P}qualification")
        form.draw_field("qualification_pass", disabled=not first)


DATASET, FILE = "A data set", "A file"


class ChosenPrompts(NamedTuple):
    """Prompts and models of the form. key: identifies the prompts; name: default for the name of the
    round.
    """

    key: str
    name: str
    models: list[dict[str, str]]
    labels: Sequence[str] = ()  # most frequent labels of the data set
    label_count: int = 0


def draw_form() -> None:
    """Draw the fields and the button; errors are shown before anything is queued."""
    where = st.segmented_control(
        "Prompts from", (DATASET, FILE), default=DATASET, required=True, key=f"{P}from"
    )
    # ten check items by default if there are known answers
    form = ModelForm(RoundConfig, P, {"items": 50, "max_new_tokens": 200, "gold_items": 10})
    chosen = _choose_file_prompts(form) if where == FILE else _choose_dataset_prompts(form)
    if chosen is None:
        return
    form.put(models=chosen.models)
    protocol = draw_protocol(form, chosen.labels, chosen.label_count)
    draw_people(form, protocol)
    draw_checks(form, protocol)
    title = f"{chosen.name[:50]}, {PROTOCOL_TITLES[protocol].lower()}"
    form.draw_field("name", key=f"{P}name.{protocol}.{chosen.key}", present=title)
    few = len(chosen.models) < (2 if protocol in COMPARING else 1)
    if few:
        st.caption(f"Choose {'two models or more' if protocol in COMPARING else 'a model'} to continue.")
    if st.button("Create round", type="primary", icon=":material/rate_review:", key=f"{P}go", disabled=few):
        _start_round(form)


def _choose_dataset_prompts(form: RoundForm) -> ChosenPrompts | None:
    sets = [dataset for dataset in run_queries.list_all_datasets() if dataset.kind != "text"]
    if not sets:
        st.markdown("A round takes its prompts from a data set with prompts and answers, or from a file.")
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return None
    dataset = _choose_dataset(sets)
    dataset_id = dataset.dataset_id
    where = draw_slice_choice(dataset_id, f"{P}slice")
    models = draw_models({**list_answered_options(dataset_id), **list_other_options()}, dataset_id)
    form.put(dataset=dataset_id, where=where)
    _draw_prompt_options(form, models)
    stats = dataset.stats
    labels, count = list(stats.get("labels") or {}), int(stats.get("label_count") or 0)
    return ChosenPrompts(dataset_id, dataset.name, models, labels, count)


def _choose_file_prompts(form: RoundForm) -> ChosenPrompts | None:
    read = draw_file()
    if read is None:
        return None
    upload, prompts = read
    others = list_other_options()
    models = draw_writers(draw_models(list_file_options(prompts, others), upload), others)
    form.put(prompts_file={"upload": upload})
    _draw_prompt_options(form, models, of_file=True)
    name = suggest_name({"upload": upload})
    if find_named_model(name, prompts["answers"]):  # the name is visible to raters
        name = "Prompts of a file"
    return ChosenPrompts(upload, name, models)


def _start_round(form: RoundForm) -> None:
    config = form.parse()
    if config and send_command("start_round", config.document(), "Creating the round.") is not None:
        if config.prompts_file or config.gold_file:
            clear_uploads()
        st.rerun()


def _choose_dataset(sets: list[Dataset]) -> Dataset:
    by_id = {dataset.dataset_id: dataset for dataset in sets}
    chosen = st.selectbox(
        "Prompts of the data set", list(by_id), format_func=lambda key: by_id[key].name, key=f"{P}dataset"
    )
    return by_id[chosen]


def _draw_prompt_options(form: RoundForm, models: list[dict[str, str]], *, of_file: bool = False) -> None:
    """Draw number and selection of prompts, and generation options of models without answers.

    Existing answers determine the rows, so the split of the data set cannot be chosen.
    """
    there = any("evaluation" in model for model in models)
    asks = any("evaluation" not in model and "answers" not in model for model in models)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        form.draw_field("items")
        form.draw_field("choice")
        if not of_file:
            form.draw_field("part", choices=PARTS, disabled=there)
        form.draw_field("max_new_tokens", disabled=not asks)
        if form.draw_field("do_sample", disabled=not asks):
            form.draw_field("temperature")
