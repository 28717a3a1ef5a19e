"""Starting a round: whose answers, to which prompts, and how people rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import streamlit as st

from pages.evaluations.evaluation_form import PARTS
from pages.rating.starting.round_checks import draw_checks
from pages.rating.starting.round_file import draw_file, draw_writers, file_options, let_go
from pages.rating.starting.round_models import P, answered_options, draw_models, other_options
from pages.rating.starting.round_protocol import draw_people, draw_protocol
from pages.run_parts import run_reads
from pages.run_parts.slice_choice import draw_slice_choice
from pages.shared.session import act, show_error
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.config.data.import_config import suggested_name
from store.config.judging.round_config import COMPARING, RoundConfig
from store.contract.errors import ConfigError
from store.documents.tables.dataset import Dataset
from store.words.model_names import named_in

CHOICES = {"random": "At random", "telling": "Those that tell most"}
DATASET, FILE = "A data set", "A file"


class ChosenPrompts(NamedTuple):
    """Prompts and models of the form. key: tells them from others; name: what the round may be called by."""

    key: str
    name: str
    fields: dict[str, Any]
    models: list[dict[str, str]]
    labels: Sequence[str] = ()  # the most frequent of the data set
    label_count: int = 0


def draw_form() -> None:
    """The fields and the button; what is wrong is named before anything is queued."""
    where = st.segmented_control(
        "Prompts from", (DATASET, FILE), default=DATASET, required=True, key=f"{P}from"
    )
    chosen = _of_file() if where == FILE else _of_dataset()
    if chosen is None:
        return
    body: dict[str, Any] = {"models": chosen.models} | chosen.fields
    body |= draw_protocol(chosen.labels, chosen.label_count)
    protocol = body["protocol"]
    body |= draw_people(protocol)
    body |= draw_checks(protocol)
    title = f"{chosen.name[:50]}, {PROTOCOL_TITLES[protocol].lower()}"
    name = st.text_input("Name", title, key=f"{P}name.{protocol}.{chosen.key}", help="Raters see it")
    few = len(chosen.models) < (2 if protocol in COMPARING else 1)
    if few:
        st.caption(f"Choose {'two models or more' if protocol in COMPARING else 'a model'} to go on.")
    if st.button(
        "Start the round", type="primary", icon=":material/rate_review:", key=f"{P}go", disabled=few
    ):
        _start(body | {"name": name})


def _of_dataset() -> ChosenPrompts | None:
    sets = [dataset for dataset in run_reads.datasets() if dataset["kind"] != "text"]
    if not sets:
        st.markdown("A round takes its prompts from a data set with prompts and answers, or from a file.")
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return None
    dataset = _dataset(sets)
    dataset_id = dataset["dataset_id"]
    where = draw_slice_choice(dataset_id, f"{P}slice")
    models = draw_models({**answered_options(dataset_id), **other_options()}, dataset_id)
    fields = {"dataset": dataset_id, "where": where.model_dump() if where else None} | _prompts(models)
    stats = dataset["stats"]
    labels, count = list(stats.get("labels") or {}), int(stats.get("label_count") or 0)
    return ChosenPrompts(dataset_id, dataset["name"], fields, models, labels, count)


def _of_file() -> ChosenPrompts | None:
    read = draw_file()
    if read is None:
        return None
    upload, prompts = read
    others = other_options()
    models = draw_writers(draw_models(file_options(prompts, others), upload), others)
    fields = {"prompts_file": {"upload": upload}} | _prompts(models, of_file=True)
    name = suggested_name({"upload": upload})
    if named_in(name, prompts["answers"]):  # raters see it
        name = "Prompts of a file"
    return ChosenPrompts(upload, name, fields, models)


def _start(body: dict[str, Any]) -> None:
    try:
        config = RoundConfig.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if act("start_round", config.document(), "The round is being made.") is not None:
        if config.prompts_file or config.gold_file:
            let_go()
        st.rerun()


def _dataset(sets: list[Dataset]) -> Dataset:
    by_id = {dataset["dataset_id"]: dataset for dataset in sets}
    chosen = st.selectbox(
        "Prompts of the data set", list(by_id), format_func=lambda key: by_id[key]["name"], key=f"{P}dataset"
    )
    return by_id[chosen]


def _prompts(models: list[dict[str, str]], *, of_file: bool = False) -> dict[str, Any]:
    """How many prompts, of a data set of which part, and how models that have not answered do; answers that
    are there say which rows they are of."""
    there = any("evaluation" in model for model in models)
    asks = any("evaluation" not in model and "answers" not in model for model in models)
    fields: dict[str, Any] = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        items = st.number_input("Prompts", 1, 100_000, 50, 10, key=f"{P}items", help="So many at most")
        choice = st.selectbox(
            "Chosen",
            list(CHOICES),
            format_func=CHOICES.__getitem__,
            key=f"{P}choice",
            help="Rather those on which the models' answers, their metrics and a judge part (of a file the"
            " answers alone). Each counts in figures by the chance that it had, so that they stay those of"
            " all prompts.",
        )
        if not of_file:
            fields["part"] = st.selectbox(
                "Of the part",
                list(PARTS),
                format_func=PARTS.__getitem__,
                key=f"{P}part",
                disabled=there,
                help="Answers that are there decide which prompts they are." if there else None,
            )
        tokens = st.number_input(
            "Longest answer (tokens)", 1, 4096, 200, 50, key=f"{P}tokens", disabled=not asks
        )
        drawn = st.toggle(
            "Sample answers", key=f"{P}sample", disabled=not asks, help="Else each token is the likeliest"
        )
        if drawn:
            fields["temperature"] = st.number_input("Temperature", 0.05, 10.0, 1.0, 0.1, key=f"{P}heat")
    return fields | {
        "items": int(items),
        "choice": choice,
        "max_new_tokens": int(tokens),
        "do_sample": bool(drawn),
    }
