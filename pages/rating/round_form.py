"""Starting a round: whose answers, to which prompts, and how people rate; or bringing one from elsewhere."""

from __future__ import annotations

from typing import Any

import streamlit as st

from engine.diagnostics import phrasing
from pages.evaluations import evaluation_reads
from pages.evaluations.evaluation_form import MODELS, PARTS
from pages.rating.round_protocol import draw_people, draw_protocol
from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.session import act, client, plain, show_error
from store.catalog.rating_templates import PROTOCOL_TITLES
from store.config.evaluate_config import EvaluateConfig
from store.config.round_config import COMPARING, MOST_MODELS, RoundConfig
from store.contract.errors import ConfigError, TunebenchError
from store.documents.evaluations.evaluation import EvaluationLine
from store.documents.tables.dataset import Dataset

MOST = 100  # evaluations and runs to choose from
P = "round-new-"
CHOICES = {"random": "At random", "telling": "Those that tell most"}


def draw_form() -> None:
    """The fields and the button; what is wrong is named before anything is queued."""
    sets = [dataset for dataset in run_reads.datasets() if dataset["kind"] != "text"]
    if not sets:
        st.markdown("A round takes its prompts from a data set with prompts and answers.")
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return
    dataset = _dataset(sets)
    models = _models(dataset)
    body: dict[str, Any] = {"dataset": dataset["dataset_id"], "models": models} | _prompts(models)
    body |= draw_protocol()
    protocol = body["protocol"]
    body |= draw_people(protocol)
    title = f"{dataset['name'][:50]}, {PROTOCOL_TITLES[protocol].lower()}"
    name = st.text_input("Name", title, key=f"{P}name.{protocol}.{dataset['dataset_id']}")
    few = len(models) < (2 if protocol in COMPARING else 1)
    if few:
        st.caption(f"Choose {'two models or more' if protocol in COMPARING else 'a model'} to go on.")
    if st.button(
        "Start the round", type="primary", icon=":material/rate_review:", key=f"{P}go", disabled=few
    ):
        _start(body | {"name": name})


def _start(body: dict[str, Any]) -> None:
    try:
        config = RoundConfig.parse(body)
    except ConfigError as error:
        show_error(error)
        return
    if act("start_round", config.document(), "The round is being made.") is not None:
        st.rerun()


def _dataset(sets: list[Dataset]) -> Dataset:
    by_id = {dataset["dataset_id"]: dataset for dataset in sets}
    chosen = st.selectbox(
        "Prompts of the data set", list(by_id), format_func=lambda key: by_id[key]["name"], key=f"{P}dataset"
    )
    return by_id[chosen]


def _models(dataset: Dataset) -> list[dict[str, str]]:
    """Evaluations with answers to these rows, runs, and models by name, in one list."""
    options: dict[str, tuple[str, dict[str, str]]] = {}
    for evaluation in _answered(dataset["dataset_id"]):
        label = f"{evaluation['name']} ({phrasing.plural(evaluation['n'], 'answer')} there)"
        options[f"e:{evaluation['evaluation_id']}"] = label, {"evaluation": evaluation["evaluation_id"]}
    for run in run_reads.newest("", ("finished",), MOST):
        if run["config"].get("task") == "classification":
            continue
        for checkpoint in ("tuned", "base"):
            label = f"{run['name']}: {MODELS[checkpoint].lower()}"
            model = {"run": run["run_id"], "checkpoint": checkpoint}
            options[f"r:{checkpoint}:{run['run_id']}"] = label, model
    for named in reads.models():
        options[f"m:{named['name']}"] = f"{named['name']} (model)", {"model": named["name"]}
    asked = st.query_params.get("run", "")
    default = [key for key in (f"r:base:{asked}", f"r:tuned:{asked}") if key in options]
    chosen = st.multiselect(
        "Models",
        list(options),
        default=default,
        format_func=lambda key: options[key][0],
        max_selections=MOST_MODELS,
        key=f"{P}models.{dataset['dataset_id']}",
        placeholder="Choose two or more",
        help="Answers that are there are taken as they are. A run or a model answers the same prompts first.",
    )
    return [options[key][1] for key in chosen]


def _answered(dataset_id: str) -> list[EvaluationLine]:
    listed = evaluation_reads.listed("", dataset_id, "", MOST, 0)[1]
    return [line for line in listed if EvaluateConfig.parse(line["config"]).generates]


def _prompts(models: list[dict[str, str]]) -> dict[str, Any]:
    """How many prompts, of which part; answers that are there say which rows they are of."""
    there = any("evaluation" in model for model in models)
    asks = any("evaluation" not in model for model in models)
    fields: dict[str, Any] = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        items = st.number_input("Prompts", 1, 100_000, 50, 10, key=f"{P}items", help="So many at most")
        choice = st.selectbox(
            "Chosen",
            list(CHOICES),
            format_func=CHOICES.__getitem__,
            key=f"{P}choice",
            help="Rather those on which the models' answers, their metrics and a judge part. Each counts in"
            " figures by the chance that it had, so that they stay those of all prompts.",
        )
        part = st.selectbox(
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
            "Draw at random", key=f"{P}sample", disabled=not asks, help="Else the likeliest tokens"
        )
        if drawn:
            fields["temperature"] = st.number_input("Temperature", 0.05, 10.0, 1.0, 0.1, key=f"{P}heat")
    return fields | {
        "items": int(items),
        "choice": choice,
        "part": part,
        "max_new_tokens": int(tokens),
        "do_sample": bool(drawn),
    }


def draw_import() -> None:
    """A round that people rated elsewhere."""
    st.markdown(
        "A file with a prompt, two answers and a column of votes (or one for each rater), as JSON, JSONL, CSV"
        " or Parquet. It becomes a closed round with its results."
    )
    file = st.file_uploader("File", type=["json", "jsonl", "csv", "tsv", "parquet", "gz"], key=f"{P}file")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = st.text_input(
            "Who wrote the first answer", key=f"{P}first", placeholder="as its column is named"
        )
        second = st.text_input("And the second", key=f"{P}second", placeholder="as its column is named")
    pressed = st.button(
        "Import the round", icon=":material/upload_file:", key=f"{P}import", disabled=file is None
    )
    if pressed and file is not None:
        try:
            upload = client().upload(file.name, file)
        except TunebenchError as error:
            show_error(error)
            return
        body = {"upload": upload, "first": first, "second": second}
        if act("import_round", body, f"{plain(file.name)} is being read.") is not None:
            st.rerun()
