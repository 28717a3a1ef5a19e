"""The parts of the form that launches a run: what is trained, on what, from where on, for which task, how;
and the form as YAML.

Session state is the one source: `config_fields` holds each field, and what a link asks for is filled into
them once.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.shared import cached_queries, display, run_queries
from pages.shared import config_fields as fields
from pages.shared.run_chips import cloned, draw_parent
from pages.shared.session import plain
from store.core.config import to_yaml
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.runs.schemas import Run
from store.training.methods import FAMILY_TITLES, METHODS
from store.training.train_config import BUNDLED_MODEL, TASK_TITLES, TrainConfig

YAML_KEY, YAML_ERROR = "launch-yaml", "launch-yaml-error"


def draw_yaml(document: dict[str, Any]) -> None:
    """The config as YAML, written from the form and read back into it."""
    st.caption("The same run as a file: edit it here, or save it and start it with `tunebench launch FILE`.")
    if YAML_ERROR not in st.session_state:
        st.session_state[YAML_KEY] = to_yaml(document)
    st.text_area("YAML", key=YAML_KEY, height=420, on_change=read_yaml, label_visibility="collapsed")
    if YAML_ERROR in st.session_state:
        st.error(plain(st.session_state[YAML_ERROR]), icon=":material/error:")
        st.button("Back to what the form says", on_click=forget_yaml, icon=":material/undo:")
    name = document.get("name") or "run"
    st.download_button(
        "Save as a file",
        st.session_state[YAML_KEY],
        file_name=f"{'-'.join(str(name).lower().split())}.yaml",
        mime="application/yaml",
        icon=":material/download:",
        on_click="ignore",
    )


def read_yaml() -> None:
    """Callback: take the YAML into the form, or keep it with its error."""
    try:
        config = TrainConfig.from_yaml(st.session_state[YAML_KEY])
    except ConfigError as error:
        st.session_state[YAML_ERROR] = str(error)
        return
    st.session_state.pop(YAML_ERROR, None)
    fields.fill(config.model_dump(exclude_none=True))


def forget_yaml() -> None:
    """Callback: drop an edit that does not parse."""
    st.session_state.pop(YAML_ERROR, None)


SHOWN = 200  # newest finished runs to choose from
MODES = {"stack": "Train further", "merge": "Merge, train anew"}
START_ADVICE = {
    "stack": "The same parameters are trained further, with the method and shape that they have.",
    "merge": "The earlier run's changes become a part of the base model, written beside the result.",
}


def draw_start(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice of an earlier run, where there is one on this model, and how to go on from it."""
    chosen = str(st.session_state.get(fields.key("init_from")) or "")
    runs = _runs(str(st.session_state.get(fields.key("model")) or ""))
    if not runs and not chosen:
        return
    options = ["", *runs, *([chosen] if chosen and chosen not in runs else [])]
    st.selectbox(
        "Continue from",
        options,
        format_func=lambda run: _start_title(runs.get(run), run),
        key=fields.key("init_from"),
        help="Begin at the trained model of an earlier run. It is also what the result is judged against.",
        persist_state="session",
    )
    fields.draw_notes("init_from", notes)
    if not chosen:
        return
    st.segmented_control(
        "How to continue",
        list(MODES),
        format_func=MODES.__getitem__,
        required=True,
        key=fields.key("init_mode"),
        persist_state="session",
        label_visibility="collapsed",
    )
    st.caption(START_ADVICE[str(st.session_state.get(fields.key("init_mode")) or "stack")])
    fields.draw_notes("init_mode", notes)


def _runs(model: str) -> dict[str, Run]:
    """Finished runs on the model, newest first, by their id."""
    finished = run_queries.newest("", ("finished",), SHOWN)
    return {run["run_id"]: run for run in finished if run["model"] == model}


def _start_title(run: Run | None, run_id: str) -> str:
    if not run_id:
        return "The model as it is"
    return f"{run['name']} (#{run['number']})" if run else run_id


Tasks = tuple[str, ...]

IN_WORDS = ("sample_prompts", "max_new_tokens")
PAIRS: Tasks = ("dpo", "sft")
LABELS: Tasks = ("sft", "classification")
NOTHING: Tasks = ("sft",)
DPO = (
    "Learns to prefer the chosen answer of each pair to the rejected one (DPO). It works best on a model that"
    " already answers in about this way."
)
CHOSEN = "Learns to give the chosen answers; the rejected ones are left aside."
WORDS = "Learns to answer each text with its label, in words. The model can still answer anything else."
HEAD = (
    "Puts a new head with a probability for each label on the model. The first choice for labels: exact"
    " probabilities, one pass a text, no answer that is none of the labels."
)
TASK_ADVICE = {
    (PAIRS, "dpo"): DPO,
    (PAIRS, "sft"): CHOSEN,
    (LABELS, "sft"): WORDS,
    (LABELS, "classification"): HEAD,
}


def choices() -> Tasks:
    """The tasks that the chosen data set allows, the one that suits it best first where that is clear."""
    name = st.session_state.get(fields.key("dataset"))
    dataset = next((row for row in cached_queries.datasets() if row["name"] == name), None)
    if dataset and dataset["kind"] == "preference":
        return PAIRS
    labelled = dataset and dataset["format"] == "text_label"  # elsewhere a label stands beside the answer
    if dataset and labelled and (dataset["stats"] or {}).get("label_count", 0) > 1:
        return LABELS
    return NOTHING


def task() -> str:
    """What is chosen."""
    return str(st.session_state.get(fields.key("task")) or "sft")


def suit_dataset() -> None:
    """Callback: the task that suits the chosen data set, before anybody says otherwise."""
    possible = choices()
    if task() not in possible or possible is PAIRS:
        st.session_state[fields.key("task")] = possible[0]


def draw_task(notes: dict[str, list[tuple[str, str]]]) -> None:
    """The choice, where there is one."""
    of_data = possible = choices()
    if task() not in possible:  # said in YAML: the engine says why it can't be
        possible = (*possible, task())
    if len(possible) > 1:
        st.segmented_control(
            "Task",
            possible,
            format_func=lambda name: _task_title(of_data, name),
            required=True,
            key=fields.key("task"),
            persist_state="session",
        )
        st.caption(TASK_ADVICE.get((of_data, task()), ""))
    fields.draw_notes("task", notes)


def _task_title(of_data: Tasks, name: str) -> str:
    on_chosen = of_data is PAIRS and name == "sft"
    return f"{TASK_TITLES[name]} on the chosen answers" if on_chosen else TASK_TITLES[name]


def meant(group: fields.FieldGroup) -> fields.FieldGroup:
    """The group without settings that mean nothing for the task or the method: a head answers nothing in
    words, and where the model's own weights are trained there is no base to be held to."""
    method = METHODS.get(st.session_state.get(fields.key("method"), ""))
    if group is fields.AGAINST_FORGETTING and method and not method.adapter:
        return replace(group, fields=tuple(field for field in group.fields if field != "kl_beta"))
    if task() != "classification":
        return group
    return replace(group, fields=tuple(field for field in group.fields if field not in IN_WORDS))


def concerns(group: fields.FieldGroup) -> bool:
    """Whether a group of settings means anything for the chosen task."""
    if group is fields.PREFERENCE:
        return task() == "dpo"
    if group is fields.AGAINST_FORGETTING:
        return task() == "sft"
    return group is not fields.RENDERING or task() != "classification"


# The launch form's parts: what is trained, on what, how; name and notes; hyperparameters.
#
# Session state is the one source: `config_fields` holds each field, and what a link asks for is filled into
# them once.

Notes = dict[str, list[tuple[str, str]]]
OPENED = "launch-hyperparameters-opened"


def begin(query: Any) -> None:
    """Fill the form once for each link: a run's config (`from`) with fields changed (`change`, as JSON), a
    data set (`dataset`), or the defaults. Raises ConfigError for a change that is none.
    """
    link = (query.get("from", ""), query.get("dataset", ""), query.get("change", ""))
    if st.session_state.get("launch-link") == link and fields.key("method") in st.session_state:
        return
    document: dict[str, Any] = {}
    change = _change(link[2]) if link[2] else {}
    if link[0]:
        document = cloned(link[0], change)
    elif fields.key("method") in st.session_state:
        document = fields.document()
    if link[1]:
        document["dataset"] = cached_queries.dataset(link[1])["name"]
    document |= change
    if not document.get("dataset"):
        datasets = cached_queries.datasets()
        document["dataset"] = datasets[0]["name"] if datasets else ""
    fields.fill(document)
    if not link[0] and "task" not in change:
        suit_dataset()
    st.session_state["launch-link"] = link
    st.session_state["launch-row"] = 0
    forget_yaml()


def _change(text: str) -> dict[str, Any]:
    """The fields that a link changes, such as {"learning_rate": 5e-05}."""
    try:
        change = json.loads(text)
    except ValueError:
        change = None
    if not isinstance(change, dict) or not set(change) <= set(TrainConfig.model_fields):
        raise ConfigError(
            f"The link asks for a change that is none: {text[:80]}", fix="Open it from the run's page again."
        )
    return change


def draw_choices(notes: Notes) -> None:
    """The three choices at the top (model, data set, method), then name and notes."""
    left, right = st.columns(2)
    with left:
        _model(notes)
        draw_start(notes)
    with right:
        _dataset(notes)
    draw_task(notes)
    _method()
    fields.draw_notes("method", notes)


def _method() -> None:
    """The method, with what it does and when to choose it."""
    model_type = _model_type()
    fitting = [name for name, method in METHODS.items() if method.fits(model_type)]
    chosen = st.session_state.get(fields.key("method"))
    if chosen in METHODS and chosen not in fitting:
        fitting.append(str(chosen))
    left_out = [METHODS[name].title for name in METHODS if name not in fitting]
    st.selectbox(
        "Method",
        fitting,
        format_func=lambda name: METHODS[name].title,
        key=fields.key("method"),
        help=f"Not for this model: {', '.join(left_out)}." if left_out else None,
        persist_state="session",
    )
    method = METHODS.get(str(st.session_state.get(fields.key("method"))))
    if method:
        st.caption(f"{FAMILY_TITLES[method.family]}. {method.when}")


def _model_type() -> str:
    """The chosen model's type, such as llama; empty where it isn't known yet."""
    chosen = st.session_state.get(fields.key("model"), "")
    model = next(
        (model for model in cached_queries.models() if model["name"] == chosen and model["ready"]), None
    )
    return re.split("For(?=[A-Z])", str(model["architecture"]))[0].lower() if model else ""


def draw_words(automatic_name: str, notes: Notes) -> None:
    """Which run it changes; name and notes."""
    draw_parent(notes)
    left, right = st.columns(2)
    with left:
        st.text_input(
            "Name",
            key=fields.key("name"),
            placeholder=automatic_name or "made from method and data set",
            persist_state="session",
        )
        fields.draw_notes("name", notes)
    with right:
        st.text_input(
            "Notes",
            key=fields.key("notes"),
            placeholder="what you want to find out",
            persist_state="session",
        )
        fields.draw_notes("notes", notes)


def _model(notes: Notes) -> None:
    by_name = {model["name"]: model for model in cached_queries.models()}
    chosen = st.session_state.get(fields.key("model"), "")
    options = list(dict.fromkeys([*by_name, BUNDLED_MODEL, *([chosen] if chosen else [])]))
    st.selectbox(
        "Model",
        options,
        key=fields.key("model"),
        accept_new_options=True,
        help="Choose one, or type NAME@3 of a registered whole model, a folder or a Hugging Face id.",
        persist_state="session",
    )
    model = by_name.get(chosen)
    if model and model["ready"]:
        kind = str(model["architecture"]).removesuffix("ForCausalLM")
        st.caption(f"{display.parameters(model['parameters'] or 0)} parameters, {kind}")
    elif model or chosen == BUNDLED_MODEL:
        st.caption("Comes with Tunebench; it is made ready at its first use.")
    fields.draw_notes("model", notes)


def _dataset(notes: Notes) -> None:
    rows = {row["name"]: row["row_count"] for row in cached_queries.datasets()}
    chosen = st.session_state.get(fields.key("dataset"), "")
    options = list(rows) + ([chosen] if chosen and chosen not in rows else [])
    if not options:
        st.markdown("Data set")
        st.page_link(
            "pages/data/data.py",
            label="Import a data set first",
            icon=":material/upload_file:",
            query_params={"view": "import"},
        )
        return
    st.selectbox(
        "Data set",
        options,
        key=fields.key("dataset"),
        persist_state="session",
        on_change=suit_dataset,
    )
    if chosen in rows:
        st.caption(plural(rows[chosen], "row"))
    else:
        fields.draw_notes("dataset", {"dataset": [("error", f"There is no data set named {chosen}.")]})
    fields.draw_notes("dataset", notes)


def draw_hyperparameters(config: TrainConfig | None, resolved: dict[str, Any], notes: Notes) -> None:
    """All settings in groups; opened by itself when one of them has an error."""
    method = st.session_state.get(fields.key("method"))
    groups = list(fields.GROUPS)
    if method in METHODS and METHODS[method].fields:
        groups.insert(groups.index(fields.OPTIMISATION) + 1, fields.of_method(method))
    named = {field for group in groups for field in group.fields}
    bad = any(level == "error" for field in named & set(notes) for level, _ in notes[field])
    # Opened for an error it stays open: it must not close on whoever has just mended the field.
    opened = st.session_state[OPENED] = bad or st.session_state.get(OPENED, False)
    with st.expander("Hyperparameters", icon=":material/tune:", expanded=opened):
        st.caption("Each starts at a value that suits method and data. Empty a field to go back to it.")
        for group in groups:
            if concerns(group):
                fields.draw_group(meant(group), resolved, notes, config)
