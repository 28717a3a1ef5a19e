"""Who talks, and how: a row of up to four models, and how answers are drawn, for all of them or for one."""

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
RANDOMNESS_FIELDS = ("top_p", "top_k", "seed")  # which temperature 0 doesn't read


class SettingsOrigin(NamedTuple):
    """Where the first settings of a conversation come from: what the folder of a model says, by field."""

    model: str
    named: Mapping[str, Any]

    def in_words(self) -> str:
        """A sentence for the screen."""
        if not self.model:
            return "These are Tunebench's own values."
        file = f"generation_config.json of {escape_markdown(self.model)}"
        if not self.named:
            return f"The {file} names none of these: they are Tunebench's own values."
        named = ", ".join(format_title(name, FIELDS[name]).lower() for name in FIELDS if name in self.named)
        return f"From the {file}: {named}. The others are Tunebench's own."


def describe_sampling(asked: ChatSampling) -> str:
    """How answers are drawn, in a line."""
    common = ChatSampling(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, seed=asked.seed)
    parts = [f"Temperature {asked.temperature:g}", f"longest answer {asked.max_new_tokens:,} tokens"]
    return " · ".join([*parts, *(escape_markdown(part) for part in asked.differences(common))])


def draw_common_sampling(before: ChatSampling, key: str) -> ChatSampling:
    """All fields, as they were before; what they are now."""
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
    """Which fields one model has otherwise, and how: the whole of its sampling. before: as that was; common:
    what all had then, and have now."""
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


MAX_RUNS = 100  # to choose from
PREFIX = "playground-"
ENDPOINTS = f"{PREFIX}endpoints"  # in the session: those that were added
CHECKPOINT_TITLES = {
    "tuned": "as it ended",
    "best": "its best checkpoint",
    "newest": "its newest checkpoint",
    "base": "its base model",
}
SHARE = "share"
TIME = "time"  # in an option: which time the same model is chosen
REPETITION_NAMES = {2: "once more", 3: "a third time", 4: "a fourth time"}


def draw_models(document: SettingsDocument | None, own: str) -> SettingsDocument | None:
    """The models and settings that are chosen; None where no model is. document: those of the conversation
    `own`, with which it begins."""
    kept = _parse_settings(document)
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


def _parse_settings(document: SettingsDocument | None) -> ChatSettings | None:
    return ChatSettings.parse(dict(document)) if document else None


class _ChatSettings(NamedTuple):
    """What models are told beforehand, how all are sampled, and how each is."""

    system: str
    common: ChatSampling
    own: list[ChatSampling]


def _draw_settings(
    kept: ChatSettings | None, chosen: Mapping[str, str], before: Mapping[str, ChatModel], own: str
) -> _ChatSettings:
    """For all, and for one model each; chosen: option -> what it is called; before: option -> as it was."""
    origin = SettingsOrigin("", {}) if kept else _find_settings_origin(list(chosen))
    then = kept.common if kept else ChatSampling.parse(dict(origin.named))
    of = own if kept else f"{own}-{origin.model}"  # fields that are filled anew where other models are chosen
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
    """Whose settings a new conversation begins with: those of the first of its models whose folder says how
    its answers are drawn, for all of them, so that they can be held against each other."""
    folders = {model.name: model.generation for model in cached_queries.list_models()}
    asked = [_find_base_model(_parse_option(option)) for option in options]
    here = [name for name in asked if name in folders]
    for name in here:
        if named := ChatSampling.named_by(folders[name]):
            return SettingsOrigin(name, named)
    return SettingsOrigin(here[0] if here else "", {})


def _find_base_model(model: ChatModel) -> str:
    """The model in the home folder that it is, or began as; empty for what lies elsewhere."""
    return str(cached_queries.read_run(model.run).config["model"]) if model.run else model.model


def build_model_labels(settings: SettingsDocument) -> list[str]:
    """What the models are called beside their answers."""
    kept = ChatSettings.parse(dict(settings))
    return kept.labels({run.run_id: run.name for run in _list_runs(kept)})


def _list_runs(kept: ChatSettings | None) -> list[Run]:
    """Those that can talk, newest first, and those of the conversation, where they are still there."""
    runs = run_queries.list_newest_runs("", ("finished",), MAX_RUNS)
    there = {run.run_id for run in runs}
    for model in kept.models if kept else []:
        if model.run and model.run not in there:
            try:
                runs.append(run_queries.find_run(model.run))
            except TunebenchError:
                continue  # deleted: its answers stay, and it says so where it is asked
    return [run for run in runs if run.config["task"] != "classification"]


def _build_option(model: ChatModel) -> str:
    """A model without how it is sampled, and a run without which of its models: what is chosen first."""
    document = {"run": model.run} if model.run else drop_defaults(model)
    return json.dumps(document, sort_keys=True)


def _parse_option(option: str) -> ChatModel:
    """The model of an option, whichever time it stands there."""
    return ChatModel.parse({name: value for name, value in json.loads(option).items() if name != TIME})


def _number_options(options: list[str]) -> list[str]:
    """Options of which some stand several times, each by the number of its time."""
    times: Counter[str] = Counter()
    numbered = []
    for option in options:
        times[option] += 1
        numbered.append(_format_repeated_option(option, times[option]))
    return numbered


def _format_repeated_option(option: str, time: int) -> str:
    return option if time == 1 else json.dumps({**json.loads(option), TIME: time}, sort_keys=True)


def _list_option_names(kept: ChatSettings | None, runs: list[Run]) -> dict[str, str]:
    """All that can talk: option -> what it is called."""
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
        names.setdefault(_build_option(kept_model), kept_model.named())
    return names


def _list_choices(names: dict[str, str], chosen: list[str]) -> dict[str, str]:
    """What can be chosen: each once, and one that is chosen once more, to hold it against itself."""
    choices = {}
    for option, name in names.items():
        choices[option] = name
        for time, words in REPETITION_NAMES.items():
            if _format_repeated_option(option, time - 1) not in chosen:
                break
            choices[_format_repeated_option(option, time)] = f"{name}, {words}"
    return choices


def _choose_defaults(choices: dict[str, str]) -> list[str]:
    """Where nobody has chosen yet: the newest run beside what it began with, or the first model."""
    runs = [option for option in choices if "run" in json.loads(option)]
    models = [option for option in choices if "model" in json.loads(option)]
    if not runs:
        return models[:1]
    base = cached_queries.read_run(json.loads(runs[0])["run"]).config["model"]
    own = _build_option(ChatModel(model=base))
    return [*([own] if own in choices else []), runs[0]]


def _choose_checkpoint(model: ChatModel, name: str, before: ChatModel | None, own: str) -> ChatModel:
    """Of a run, which of its models it is."""
    if not model.run:
        return model
    ways = {**CHECKPOINT_TITLES, SHARE: "interpolated with its base"}
    share_before = before.alpha if before else None
    at = SHARE if share_before is not None else before.checkpoint if before else "tuned"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.selectbox(
            f"Which of {escape_markdown(name)}",
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
            help="0 is the base model, 1 the tuned one; nothing is trained for what lies between.",
            width=260,
        )
        return ChatModel(run=model.run, alpha=share)


def _add_endpoint() -> None:
    """A form for any server that speaks the OpenAI protocol."""
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
