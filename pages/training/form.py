"""Parts of the launch form: task, data, base model, method and settings, and the form as YAML.

Session state is the single source of values: `config_fields` holds each field, and values of a link are
filled in once.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.shared import cached_queries, display
from pages.shared import config_fields as fields
from pages.shared.run_chips import build_cloned_config, draw_parent
from pages.shared.session import escape_markdown
from store.core.config import to_yaml
from store.core.errors import ConfigError
from store.core.formatting import plural
from store.core.schemas import ConfigDocument
from store.runs.schemas import RunChoice
from store.training.methods import FAMILY_TITLES, METHODS
from store.training.train_config import BUNDLED_MODEL, TASK_TITLES, TrainConfig

YAML_KEY, YAML_ERROR = "launch-yaml", "launch-yaml-error"


def draw_yaml(document: ConfigDocument) -> None:
    """Draw the config as YAML, which is updated from the form and read back into it."""
    st.caption("The same run as a file: edit it here, or save it and start it with `tunebench launch FILE`.")
    if YAML_ERROR not in st.session_state:
        st.session_state[YAML_KEY] = to_yaml(document)
    st.text_area("YAML", key=YAML_KEY, height=420, on_change=read_yaml, label_visibility="collapsed")
    if YAML_ERROR in st.session_state:
        st.error(escape_markdown(st.session_state[YAML_ERROR]), icon=":material/error:")
        st.button("Back to the form", on_click=forget_yaml, icon=":material/undo:")
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
    """Callback: fill the form from the YAML, or keep the YAML with its error."""
    try:
        config = TrainConfig.from_yaml(st.session_state[YAML_KEY])
    except ConfigError as error:
        st.session_state[YAML_ERROR] = str(error)
        return
    st.session_state.pop(YAML_ERROR, None)
    fields.fill_widgets(config.model_dump(exclude_none=True))


def forget_yaml() -> None:
    """Callback: discard an edit that does not parse."""
    st.session_state.pop(YAML_ERROR, None)


SHOWN = 200  # number of newest finished runs offered
MODES = {"stack": "Train further", "merge": "Merge, then train a new adapter"}
START_ADVICE = {
    "stack": "The same parameters are trained further, with the method and shape that they have.",
    "merge": "The earlier run's changes become part of the base model, which is saved with the result.",
}


def draw_start(notes: dict[str, list[tuple[str, str]]]) -> None:
    """Draw the choice of an earlier run on this model to continue from, and how to continue."""
    chosen = str(st.session_state.get(fields.build_widget_key("init_from")) or "")
    model = str(st.session_state.get(fields.build_widget_key("model")) or "")
    finished = cached_queries.list_run_choices("", ("finished",), SHOWN)
    runs = {run.run_id: run for run in finished if run.model == model}
    if not runs and not chosen:
        return
    options = ["", *runs, *([chosen] if chosen and chosen not in runs else [])]
    st.selectbox(
        "Continue from",
        options,
        format_func=lambda run: _format_start(runs.get(run), run),
        key=fields.build_widget_key("init_from"),
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
        key=fields.build_widget_key("init_mode"),
        persist_state="session",
        label_visibility="collapsed",
    )
    st.caption(START_ADVICE[str(st.session_state.get(fields.build_widget_key("init_mode")) or "stack")])
    fields.draw_notes("init_mode", notes)


def _format_start(run: RunChoice | None, run_id: str) -> str:
    if not run_id:
        return "The model as it is"
    return f"{run.name} (#{run.number})" if run else run_id


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


def list_tasks() -> Tasks:
    """Tasks that the chosen data set allows, the most suitable one first if there is one."""
    name = st.session_state.get(fields.build_widget_key("dataset"))
    dataset = next((row for row in cached_queries.list_datasets() if row.name == name), None)
    if dataset and dataset.kind == "preference":
        return PAIRS
    labelled = dataset and dataset.format == "text_label"  # other formats have an answer besides the label
    if dataset and labelled and (dataset.stats or {}).get("label_count", 0) > 1:
        return LABELS
    return NOTHING


def get_task() -> str:
    """Return the chosen task."""
    return str(st.session_state.get(fields.build_widget_key("task")) or "sft")


def select_task_for_dataset() -> None:
    """Callback: select the most suitable task for the newly chosen data set."""
    possible = list_tasks()
    if get_task() not in possible or possible is PAIRS:
        st.session_state[fields.build_widget_key("task")] = possible[0]


def draw_task(notes: dict[str, list[tuple[str, str]]]) -> None:
    """Draw the choice of the task if there are several."""
    of_data = possible = list_tasks()
    if get_task() not in possible:  # set by YAML; the engine explains why it is invalid
        possible = (*possible, get_task())
    if len(possible) > 1:
        st.segmented_control(
            "Task",
            possible,
            format_func=lambda name: _format_task(of_data, name),
            required=True,
            key=fields.build_widget_key("task"),
            persist_state="session",
        )
        st.caption(TASK_ADVICE.get((of_data, get_task()), ""))
    fields.draw_notes("task", notes)


def _format_task(of_data: Tasks, name: str) -> str:
    on_chosen = of_data is PAIRS and name == "sft"
    return f"{TASK_TITLES[name]} on the chosen answers" if on_chosen else TASK_TITLES[name]


def filter_group(group: fields.FieldGroup) -> fields.FieldGroup:
    """Return the group without settings that have no effect for the task or the method.

    A classification head generates no text, and without an adapter there is no base model for the KL penalty.
    """
    method = METHODS.get(st.session_state.get(fields.build_widget_key("method"), ""))
    if group is fields.AGAINST_FORGETTING and method and not method.adapter:
        return replace(group, fields=tuple(field for field in group.fields if field != "kl_beta"))
    if get_task() != "classification":
        return group
    return replace(group, fields=tuple(field for field in group.fields if field not in IN_WORDS))


def is_relevant(group: fields.FieldGroup) -> bool:
    """Whether a group of settings has an effect for the chosen task."""
    if group is fields.PREFERENCE:
        return get_task() == "dpo"
    if group is fields.AGAINST_FORGETTING:
        return get_task() == "sft"
    return group is not fields.RENDERING or get_task() != "classification"


Notes = dict[str, list[tuple[str, str]]]
OPENED = "launch-hyperparameters-opened"


def fill_from_link(query: Any) -> None:
    """Fill the form once per link.

    The link may name a run whose config is used (`from`), fields to change (`change`, as JSON) or a data set
    (`dataset`); otherwise defaults are used. Raises ConfigError for an invalid change.
    """
    link = (query.get("from", ""), query.get("dataset", ""), query.get("change", ""))
    if st.session_state.get("launch-link") == link and fields.build_widget_key("method") in st.session_state:
        return
    document: ConfigDocument = {}
    change = _parse_change(link[2]) if link[2] else {}
    if link[0]:
        document = build_cloned_config(link[0], change)
    elif fields.build_widget_key("method") in st.session_state:
        document = fields.read_document()
    if link[1]:
        document["dataset"] = cached_queries.read_dataset(link[1]).name
    document |= change
    if not document.get("dataset"):
        datasets = cached_queries.list_datasets()
        document["dataset"] = datasets[0].name if datasets else ""
    fields.fill_widgets(document)
    if not link[0] and "task" not in change:
        select_task_for_dataset()
    st.session_state["launch-link"] = link
    st.session_state["launch-row"] = 0
    forget_yaml()


def _parse_change(text: str) -> ConfigDocument:
    """Parse the fields that a link changes, such as {"learning_rate": 5e-05}."""
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
    """Draw the choices at the top: model, data set, task and method."""
    left, right = st.columns(2)
    with left:
        _draw_model(notes)
        draw_start(notes)
    with right:
        _draw_dataset(notes)
    draw_task(notes)
    _draw_method()
    fields.draw_notes("method", notes)


def _draw_method() -> None:
    """Draw the choice of the method, with its description and when to use it."""
    model_type = _get_model_type()
    fitting = [name for name, method in METHODS.items() if method.fits(model_type)]
    chosen = st.session_state.get(fields.build_widget_key("method"))
    if chosen in METHODS and chosen not in fitting:
        fitting.append(str(chosen))
    left_out = [METHODS[name].title for name in METHODS if name not in fitting]
    st.selectbox(
        "Method",
        fitting,
        format_func=lambda name: METHODS[name].title,
        key=fields.build_widget_key("method"),
        help=f"Not for this model: {', '.join(left_out)}." if left_out else None,
        persist_state="session",
    )
    method = METHODS.get(str(st.session_state.get(fields.build_widget_key("method"))))
    if method:
        st.caption(f"{FAMILY_TITLES[method.family]}. {method.when}")


def _get_model_type() -> str:
    """Return the chosen model's type, such as llama; "" if it is not known yet."""
    chosen = st.session_state.get(fields.build_widget_key("model"), "")
    model = next(
        (model for model in cached_queries.list_models() if model.name == chosen and model.ready), None
    )
    return re.split("For(?=[A-Z])", str(model.architecture))[0].lower() if model else ""


def draw_name_and_notes(automatic_name: str, notes: Notes) -> None:
    """Draw the parent run, name and notes."""
    draw_parent(notes)
    left, right = st.columns(2)
    with left:
        st.text_input(
            "Name",
            key=fields.build_widget_key("name"),
            placeholder=automatic_name or "made from method and data set",
            persist_state="session",
        )
        fields.draw_notes("name", notes)
    with right:
        st.text_input(
            "Notes",
            key=fields.build_widget_key("notes"),
            placeholder="what you want to find out",
            persist_state="session",
        )
        fields.draw_notes("notes", notes)


def _draw_model(notes: Notes) -> None:
    by_name = {model.name: model for model in cached_queries.list_models()}
    chosen = st.session_state.get(fields.build_widget_key("model"), "")
    options = list(dict.fromkeys([*by_name, BUNDLED_MODEL, *([chosen] if chosen else [])]))
    st.selectbox(
        "Model",
        options,
        key=fields.build_widget_key("model"),
        accept_new_options=True,
        help="Choose one, or type NAME@3 of a registered whole model, a folder or a Hugging Face id.",
        persist_state="session",
    )
    model = by_name.get(chosen)
    if model and model.ready:
        kind = str(model.architecture).removesuffix("ForCausalLM")
        st.caption(f"{display.format_parameters(model.parameters or 0)} parameters, {kind}")
    elif model or chosen == BUNDLED_MODEL:
        st.caption("Comes with Tunebench; it is made ready at its first use.")
    fields.draw_notes("model", notes)


def _draw_dataset(notes: Notes) -> None:
    rows = {row.name: row.row_count for row in cached_queries.list_datasets()}
    chosen = st.session_state.get(fields.build_widget_key("dataset"), "")
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
        key=fields.build_widget_key("dataset"),
        persist_state="session",
        on_change=select_task_for_dataset,
    )
    if chosen in rows:
        st.caption(plural(rows[chosen], "row"))
    else:
        fields.draw_notes("dataset", {"dataset": [("error", f"Data set {chosen} does not exist.")]})
    fields.draw_notes("dataset", notes)


def draw_hyperparameters(config: TrainConfig | None, resolved: ConfigDocument, notes: Notes) -> None:
    """Draw all settings in groups; the panel is expanded if one of them has an error."""
    method = st.session_state.get(fields.build_widget_key("method"))
    groups = list(fields.GROUPS)
    if method in METHODS and METHODS[method].fields:
        groups.insert(groups.index(fields.OPTIMISATION) + 1, fields.get_method_fields(method))
    named = {field for group in groups for field in group.fields}
    bad = any(level == "error" for field in named & set(notes) for level, _ in notes[field])
    # Once expanded for an error it stays so, because it must not collapse when the user has corrected the
    # field.
    opened = st.session_state[OPENED] = bad or st.session_state.get(OPENED, False)
    with st.expander("Hyperparameters", icon=":material/tune:", expanded=opened):
        st.caption("Each starts at a value that suits method and data. Empty a field to go back to it.")
        for group in groups:
            if is_relevant(group):
                fields.draw_group(filter_group(group), resolved, notes, config)
