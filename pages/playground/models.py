"""The models of a conversation, up to four, and their sampling settings, common or per model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import streamlit as st

from pages.shared import cached_queries, run_queries
from pages.shared.features import list_model_names
from pages.shared.model_form import ModelForm
from pages.shared.session import escape_markdown, show_error
from store.core.documents import parse_document
from store.core.errors import TunebenchError
from store.core.metric_options import Endpoint
from store.core.model_fields import format_title
from store.evaluation.config import CHECKPOINTS
from store.playground.config import MAX_MODELS, ChatModel, ChatSampling, ChatSettings, drop_defaults
from store.playground.schemas import SettingsDocument
from store.runs.schemas import Run

FIELDS = ChatSampling.model_fields
RANDOMNESS_FIELDS = ("top_p", "top_k", "seed")  # not used at temperature 0


class SettingsOrigin(NamedTuple):
    """The origin of a new conversation's settings: the fields set in a model's folder."""

    model: str
    named: Mapping[str, Any]

    def in_words(self) -> str:
        """Describe the origin in a sentence."""
        if not self.model:
            return "These are Tunebench's own values."
        file = f"generation_config.json of {escape_markdown(self.model)}"
        if not self.named:
            return f"The {file} names none of these: they are Tunebench's own values."
        named = ", ".join(format_title(name, FIELDS[name]).lower() for name in FIELDS if name in self.named)
        return f"From the {file}: {named}. The others are Tunebench's own."


def describe_sampling(asked: ChatSampling) -> str:
    """Describe the sampling settings in one line."""
    common = ChatSampling(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, seed=asked.seed)
    parts = [f"Temperature {asked.temperature:g}", f"longest answer {asked.max_new_tokens:,} tokens"]
    return " · ".join([*parts, *(escape_markdown(part) for part in asked.list_differences(common))])


def draw_common_sampling(before: ChatSampling, key: str) -> ChatSampling:
    """Draw all fields with their previous values, and return the present ones."""
    form = ModelForm(ChatSampling, f"{key}-", before)
    greedy = form.draw_field("temperature") == 0
    for place, name in enumerate(name for name in FIELDS if name != "temperature"):
        if place % 2 == 0:
            sides = st.columns(2)
        with sides[place % 2]:
            form.draw_field(name, disabled=greedy and name in RANDOMNESS_FIELDS)
    if greedy:
        st.caption("At temperature 0 the most likely token is always chosen; nothing is sampled.")
    return form.parse() or before


def draw_model_sampling(
    before: ChatSampling, common: tuple[ChatSampling, ChatSampling], key: str
) -> ChatSampling:
    """Draw the fields in which one model differs, and return its complete sampling settings.

    before: its previous settings; common: the common settings before and now.
    """
    then, now = common
    chosen = st.pills(
        "Settings for this model",
        list(FIELDS),
        selection_mode="multi",
        default=[name for name in FIELDS if getattr(before, name) != getattr(then, name)],
        format_func=lambda name: format_title(name, FIELDS[name]),
        key=f"{key}-own",
    )
    form = ModelForm(ChatSampling, f"{key}-own-", before)
    form.put(**now.model_dump())
    for name in FIELDS:
        if name in chosen:
            form.draw_field(name)
    if not chosen:
        st.caption("It uses the settings for all models.")
    return form.parse() or now


MAX_RUNS = 100  # number of runs offered
PREFIX = "playground-"
ENDPOINTS = f"{PREFIX}endpoints"  # session state key: endpoints that were added
CHECKPOINT_TITLES = {
    "tuned": "final model",
    "best": "best checkpoint",
    "newest": "newest checkpoint",
    "base": "base model",
}
SHARE = "share"
TIME = "time"  # field of an option: repetition number of the same model
REPETITION_NAMES = {2: "once more", 3: "a third time", 4: "a fourth time"}


def draw_models(document: SettingsDocument | None, own: str) -> SettingsDocument | None:
    """Draw the models and settings, and return them; None if no model is selected.

    document: initial settings, those of the conversation `own`.
    """
    kept = ChatSettings.parse(dict(document)) if document else None
    names = _list_option_names(kept, _list_runs(kept))
    kept_models = kept.models if kept else []
    before = dict(
        zip(_number_options([_build_option(model) for model in kept_models]), kept_models, strict=True)
    )
    key = f"{PREFIX}models-{own}"
    now = st.session_state.get(key, list(before) if kept else _choose_defaults(names))
    choices = _list_choices(names, now)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Models",
            list(choices),
            default=None if key in st.session_state else [option for option in now if option in choices],
            format_func=lambda option: choices.get(option, option),
            max_selections=MAX_MODELS,
            key=key,
            placeholder=f"Choose up to {MAX_MODELS} models",
        )
        with st.popover("Settings", icon=":material/tune:"):
            asked = _draw_settings(kept, {option: choices[option] for option in chosen}, before, own)
        with st.popover("Endpoint", icon=":material/add_link:"):
            _add_endpoint()
    if not chosen:
        return None
    st.caption(describe_sampling(asked.common))
    models = [
        _choose_checkpoint(_parse_option(option), choices[option], before.get(option), f"{own}-{option}")
        for option in chosen
    ]
    sampled = [{**model.model_dump(), "sampling": own} for model, own in zip(models, asked.own, strict=True)]
    try:
        settings = ChatSettings.parse({"system": asked.system, "models": sampled, "sampling": asked.common})
    except TunebenchError as error:
        show_error(error)
        return None
    return parse_document(SettingsDocument, settings.model_dump(exclude_none=True))


class _ChatSettings(NamedTuple):
    """The system prompt, the common sampling settings, and those of each model."""

    system: str
    common: ChatSampling
    own: list[ChatSampling]


def _draw_settings(
    kept: ChatSettings | None, chosen: Mapping[str, str], before: Mapping[str, ChatModel], own: str
) -> _ChatSettings:
    """Draw common settings and those of each model.

    chosen: option -> label; before: option -> its previous settings.
    """
    origin = SettingsOrigin("", {}) if kept else _find_settings_origin(list(chosen))
    then = kept.common if kept else ChatSampling.parse(dict(origin.named))
    of = own if kept else f"{own}-{origin.model}"  # fields are reset if other models are chosen
    tabs = st.tabs(["For all", *(f"Only {escape_markdown(name)}" for name in chosen.values())])
    with tabs[0]:
        system = st.text_area(
            "System prompt",
            kept.system if kept else "",
            key=f"{PREFIX}system-{own}",
            placeholder="Sent to every model before the conversation",
        )
        common = draw_common_sampling(then, f"{PREFIX}{of}")
        st.caption("As this conversation has them." if kept else origin.in_words())
    samplings = []
    for tab, option in zip(tabs[1:], chosen, strict=True):
        with tab:
            mine = before[option].sampling if option in before else then
            samplings.append(draw_model_sampling(mine, (then, common), f"{PREFIX}{of}-{option}"))
    return _ChatSettings(system or "", common, samplings)


def _find_settings_origin(options: list[str]) -> SettingsOrigin:
    """Find the origin of a new conversation's settings.

    They are those of the first model whose folder has some. They apply to all models, so that answers can be
    compared.
    """
    folders = {model.name: model.generation for model in cached_queries.list_models()}
    chosen = [_parse_option(option) for option in options]
    # for a run, its base model
    asked = [str(cached_queries.read_run(m.run).config["model"]) if m.run else m.model for m in chosen]
    here = [name for name in asked if name in folders]
    for name in here:
        if named := ChatSampling.from_generation(folders[name]):
            return SettingsOrigin(name, named)
    return SettingsOrigin(here[0] if here else "", {})


def build_model_labels(settings: SettingsDocument) -> list[str]:
    """Build the labels of the models shown beside their answers."""
    kept = ChatSettings.parse(dict(settings))
    return kept.list_labels({run.run_id: run.name for run in _list_runs(kept)})


def _list_runs(kept: ChatSettings | None) -> list[Run]:
    """List runs that can generate text, newest first, and existing runs of the conversation."""
    runs = run_queries.list_newest_runs("", ("finished",), MAX_RUNS)
    there = {run.run_id for run in runs}
    for model in kept.models if kept else []:
        if model.run and model.run not in there:
            try:
                runs.append(run_queries.find_run(model.run))
            except TunebenchError:
                continue  # deleted: its answers remain, and asking it shows an error
    return [run for run in runs if run.config["task"] != "classification"]


def _build_option(model: ChatModel) -> str:
    """Build the option of a model without its sampling settings, or of a run without its checkpoint."""
    document = {"run": model.run} if model.run else drop_defaults(model)
    return json.dumps(document, sort_keys=True)


def _parse_option(option: str) -> ChatModel:
    """Parse the model of an option, without its repetition number."""
    return ChatModel.parse({name: value for name, value in json.loads(option).items() if name != TIME})


def _number_options(options: list[str]) -> list[str]:
    """Number repeated options."""
    times: Counter[str] = Counter()
    numbered = []
    for option in options:
        times[option] += 1
        numbered.append(_format_repeated_option(option, times[option]))
    return numbered


def _format_repeated_option(option: str, time: int) -> str:
    return option if time == 1 else json.dumps({**json.loads(option), TIME: time}, sort_keys=True)


def _list_option_names(kept: ChatSettings | None, runs: list[Run]) -> dict[str, str]:
    """List all models that can chat: option -> label."""
    names = {
        _build_option(ChatModel(model=model.name)): model.name
        for model in cached_queries.list_models()
        if model.ready
    }
    names |= {_build_option(ChatModel(model=name)): name for name in list_model_names()}
    names |= {_build_option(ChatModel(run=run.run_id)): run.name for run in runs}
    for endpoint in st.session_state.get(ENDPOINTS, []):
        names[_build_option(ChatModel(endpoint=endpoint))] = f"{endpoint.model} (endpoint)"
    for kept_model in kept.models if kept else []:
        names.setdefault(_build_option(kept_model), kept_model.get_label())
    return names


def _list_choices(names: dict[str, str], chosen: list[str]) -> dict[str, str]:
    """List the choices: each model once, and again if it is already selected, to compare it with itself."""
    choices = {}
    for option, name in names.items():
        choices[option] = name
        for time, words in REPETITION_NAMES.items():
            if _format_repeated_option(option, time - 1) not in chosen:
                break
            choices[_format_repeated_option(option, time)] = f"{name}, {words}"
    return choices


def _choose_defaults(choices: dict[str, str]) -> list[str]:
    """Return the default selection: the newest run with its base model, or the first model."""
    runs = [option for option in choices if "run" in json.loads(option)]
    models = [option for option in choices if "model" in json.loads(option)]
    if not runs:
        return models[:1]
    base = cached_queries.read_run(json.loads(runs[0])["run"]).config["model"]
    own = _build_option(ChatModel(model=base))
    return [*([own] if own in choices else []), runs[0]]


def _choose_checkpoint(model: ChatModel, name: str, before: ChatModel | None, own: str) -> ChatModel:
    """Draw the choice of a run's checkpoint or interpolation."""
    if not model.run:
        return model
    ways = {**CHECKPOINT_TITLES, SHARE: "interpolated with base model"}
    share_before = before.alpha if before else None
    at = SHARE if share_before is not None else before.checkpoint if before else "tuned"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.selectbox(
            f"Checkpoint of {escape_markdown(name)}",
            list(ways),
            list(ways).index(at),
            format_func=lambda way: ways[way],
            key=f"{PREFIX}way-{own}",
            width=260,
        )
        if way != SHARE:
            return ChatModel.parse({"run": model.run, "checkpoint": way}) if way in CHECKPOINTS else model
        share = st.slider(
            "Interpolation weight",
            0.0,
            1.0,
            share_before or 0.5,
            0.05,
            key=f"{PREFIX}share-{own}",
            help="0 is the base model, 1 the tuned model; values in between need no training.",
            width=260,
        )
        return ChatModel(run=model.run, alpha=share)


def _add_endpoint() -> None:
    """Draw a form to add any server with the OpenAI protocol."""
    with st.form(f"{PREFIX}endpoint", border=False):
        st.markdown("Any server with an OpenAI-compatible API. It uses no memory of this machine.")
        form = ModelForm(Endpoint, f"{PREFIX}endpoint-")
        for field in ("base_url", "model", "key_env"):
            form.draw_field(field, label=field)
        if not st.form_submit_button("Add", type="primary"):
            return
    endpoint = form.parse()
    if endpoint:
        st.session_state.setdefault(ENDPOINTS, []).append(endpoint)
        st.rerun()
