"""Prompts of a file for a new round: the upload, what it has, and who wrote the answers in it."""

from __future__ import annotations

import json
from typing import cast

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from engine.diagnostics.phrasing import plural
from pages.rating.starting.round_models import ModelOptions, P, named_options
from pages.shared import reads
from pages.shared.session import client, guarded, plain, show_error
from store.config.judging.round_config import MOST_MIB
from store.contract.errors import TunebenchError
from store.documents.rating.round import FileOfPrompts

KINDS = ["jsonl", "json", "csv", "tsv", "parquet", "txt", "gz"]
SENT = f"{P}sent"  # of the session: the uploads of files that were chosen
EXAMPLE = '{"prompt": "What is a slice?", "answers": {"gpt-4o": "A part.", "llama": "Some rows."}}'
TAKEN = f"{P}taken"  # how many files rounds have taken
NAMES = 6  # of models that are named


def draw_file() -> tuple[str, FileOfPrompts] | None:
    """The upload and what it has; None until there is one that can be read."""
    number = files_taken()
    file = st.file_uploader(
        "File of prompts", type=KINDS, key=f"{P}prompts-file.{number}", max_upload_size=MOST_MIB
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
        prompts = cast(FileOfPrompts, reads.ask("prompts", json.dumps({"upload": upload})))
    except TunebenchError as error:
        show_error(error)
        return None
    _draw_contents(prompts)
    return upload, prompts


def send_file(file: UploadedFile) -> str:
    """The upload of a chosen file, copied once; empty where it could not be."""
    sent: dict[str, str] = st.session_state.setdefault(SENT, {})
    if file.file_id not in sent:
        with guarded(), st.spinner(f"Copying {plain(file.name)} into the home folder …"):
            sent[file.file_id] = client().upload(file.name, file)
    return sent.get(file.file_id, "")


def let_go() -> None:
    """The round has taken its files: the form is ready for others."""
    st.session_state[TAKEN] = files_taken() + 1


def files_taken() -> int:
    """How often rounds have taken files: in the keys of uploaders, which are empty again then."""
    return int(st.session_state.get(TAKEN, 0))


def _draw_contents(prompts: FileOfPrompts) -> None:
    """What the file has, in words; rows that are no prompts with their reasons."""
    answers = prompts["answers"]
    names = [f"{name} ({count:,})" if count < prompts["prompts"] else name for name, count in answers.items()]
    if len(names) > NAMES:
        names = [*names[: NAMES - 1], f"{len(names) - NAMES + 1} more"]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    has = f"answers of {listed}" if names else "no answers: every model answers first"
    count = plural(prompts["prompts"], "prompt")
    st.markdown(f":material/check: {plain(f'{count}, {has}.')}")
    for reason, rows in prompts["left_out"].items():
        st.caption(f":material/block: {plural(rows, 'row')} left out: {plain(reason)}.")


def file_options(prompts: FileOfPrompts, others: ModelOptions) -> ModelOptions:
    """Names with answers in the file first."""
    return {**named_options(prompts["answers"]), **others}


def draw_writers(models: list[dict[str, str]], others: ModelOptions) -> list[dict[str, str]]:
    """Who wrote the answers of the file may be said, so that the round stands on the page of that run, and
    the next run can go on from it."""
    named = [model["answers"] for model in models if "answers" in model]
    if not named or not others:
        return models
    writers: dict[str, dict[str, str]] = {}
    with st.expander("Who wrote the answers in the file", icon=":material/edit_note:"):
        for name in named:
            chosen = st.selectbox(
                f"The answers of {plain(name)}",
                ["", *others],
                format_func=lambda option: (
                    others[option].label if option else "no run or model of this machine"
                ),
                key=f"{P}writer.{name}",
            )
            writers[name] = others[chosen].model if chosen else {}
    return [{**writers.get(model.get("answers", ""), {}), **model} for model in models]
