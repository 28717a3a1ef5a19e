"""Who talks, and how: a row of up to four models, and how answers are drawn, for all of them or for one."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

import streamlit as st

from pages.shared import cached_queries, run_queries
from pages.shared.features import list_model_names
from pages.shared.session import escape_markdown, show_error
from store.core.errors import TunebenchError
from store.core.metric_options import Endpoint
from store.evaluation.config import CHECKPOINTS
from store.playground.config import MAX_MODELS, ChatModel, ChatSampling, ChatSettings, drop_defaults
from store.playground.schemas import SettingsDocument
from store.runs.schemas import Run

FIELDS = ChatSampling.model_fields
RANDOMNESS_FIELDS = ("top_p", "top_k", "seed")  # which temperature 0 doesn't read


class SettingsOrigin(NamedTuple):
    """Where the first settings of a conversation come from: what the folder of a model says, by field."""

    model: str
    named: dict[str, Any]

    def in_words(self) -> str:
        """A sentence for the screen."""
        if not self.model:
            return "These are Tunebench's own values."
        file = f"generation_config.json of {escape_markdown(self.model)}"
        if not self.named:
            return f"The {file} names none of these: they are Tunebench's own values."
        named = ", ".join(format_field_title(name).lower() for name in FIELDS if name in self.named)
        return f"From the {file}: {named}. The others are Tunebench's own."


def describe_sampling(sampling: dict[str, Any]) -> str:
    """How answers are drawn, in a line."""
    asked = ChatSampling.parse(sampling)
    common = ChatSampling(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, seed=asked.seed)
    parts = [f"Temperature {asked.temperature:g}", f"longest answer {asked.max_new_tokens:,} tokens"]
    return " · ".join([*parts, *(escape_markdown(part) for part in asked.differences(common))])


def format_field_title(name: str) -> str:
    """What a field is called on the screen."""
    words = str(FIELDS[name].title)
    return words[0].upper() + words[1:]


def draw_common_sampling(before: dict[str, Any], key: str) -> dict[str, Any]:
    """All fields, as they were before; what they are now."""
    sampling = {"temperature": _draw_field("temperature", before, key)}
    greedy = sampling["temperature"] == 0
    left, right = st.columns(2)
    for place, name in enumerate(name for name in FIELDS if name != "temperature"):
        with (left, right)[place % 2]:
            sampling[name] = _draw_field(name, before, key, disabled=greedy and name in RANDOMNESS_FIELDS)
    if greedy:
        st.caption("At temperature 0 the likeliest token is always taken: nothing is drawn.")
    return sampling


def draw_model_sampling(
    before: dict[str, Any], common: tuple[dict[str, Any], dict[str, Any]], key: str
) -> dict[str, Any]:
    """Which fields one model has otherwise, and how: the whole of its sampling. before: as that was; common:
    what all had then, and have now."""
    then, now = common
    chosen = st.pills(
        "What is different for it",
        list(FIELDS),
        selection_mode="multi",
        default=[name for name in FIELDS if before[name] != then[name]],
        format_func=format_field_title,
        key=f"{key}-own",
    )
    own = {name: _draw_field(name, before, f"{key}-own") for name in FIELDS if name in chosen}
    if not own:
        st.caption("It answers by the settings for all.")
    return now | own


def _draw_field(name: str, before: dict[str, Any], key: str, *, disabled: bool = False) -> Any:
    own: dict[str, Any] = {"key": f"{key}-{name}", "help": FIELDS[name].description, "disabled": disabled}
    value = before[name]
    match name:
        case "temperature":
            return st.slider(format_field_title(name), 0.0, 2.0, min(2.0, float(value)), 0.05, **own)
        case "top_p":
            return st.number_input(format_field_title(name), 0.01, 1.0, float(value), 0.05, **own)
        case "repetition_penalty":
            return st.number_input(format_field_title(name), 0.1, 10.0, float(value), 0.05, **own)
        case "stop":
            return st.multiselect(
                format_field_title(name), value, value, accept_new_options=True, max_selections=8,
                placeholder="Type a text", **own,
            )  # fmt: skip
    low, high = {"top_k": (0, 1000), "max_new_tokens": (1, 4096), "seed": (0, 2**31 - 1)}[name]
    return int(st.number_input(format_field_title(name), low, high, int(value), **own))


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


def draw_models(kept: SettingsDocument | None, own: str) -> SettingsDocument | None:
    """The models and settings that are chosen; None where no model is. kept: those of the conversation `own`,
    with which it begins."""
    runs = _list_runs(kept)
    names = _list_option_names(kept, runs)
    kept_models = kept["models"] if kept else []
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
        _choose_checkpoint(_parse_option(option), choices[option], before.get(option, {}), f"{own}-{option}")
        for option in chosen
    ]
    sampled = [{**model, "sampling": own} for model, own in zip(models, asked.own, strict=True)]
    try:
        settings = ChatSettings.parse({"system": asked.system, "models": sampled, "sampling": asked.common})
    except TunebenchError as error:
        show_error(error)
        return None
    document: SettingsDocument = settings.model_dump(exclude_none=True)  # type: ignore[assignment]
    return document


class _ChatSettings(NamedTuple):
    """What models are told beforehand, how all are sampled, and how each is."""

    system: str
    common: dict[str, Any]
    own: list[dict[str, Any]]


def _draw_settings(
    kept: SettingsDocument | None,
    chosen: dict[str, str],
    before: dict[str, dict[str, Any]],
    own: str,
) -> _ChatSettings:
    """For all, and for one model each; chosen: option -> what it is called; before: option -> as it was."""
    origin = SettingsOrigin("", {}) if kept else _find_settings_origin(list(chosen))
    then = _get_common_sampling(kept) if kept else ChatSampling().model_dump() | origin.named
    of = own if kept else f"{own}-{origin.model}"  # fields that are filled anew where other models are chosen
    tabs = st.tabs(["For all", *(f"Only {escape_markdown(name)}" for name in chosen.values())])
    with tabs[0]:
        system = st.text_area(
            "System prompt",
            kept["system"] if kept else "",
            key=f"{PREFIX}system-{own}",
            placeholder="What every model is told beforehand",
        )
        common = draw_common_sampling(then, f"{PREFIX}{of}")
        st.caption("As this conversation has them." if kept else origin.in_words())
    samplings = []
    for tab, option in zip(tabs[1:], chosen, strict=True):
        with tab:
            mine = before.get(option, {}).get("sampling", then)
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


def _find_base_model(model: dict[str, Any]) -> str:
    """The model in the home folder that it is, or began as; empty for what lies elsewhere."""
    if "run" in model:
        return str(cached_queries.read_run(model["run"]).config["model"])
    return str(model.get("model", ""))


def _get_common_sampling(kept: SettingsDocument) -> dict[str, Any]:
    """The sampling for all, as the conversation has it."""
    return ChatSettings.parse(dict(kept)).common.model_dump()


def build_model_labels(settings: SettingsDocument) -> list[str]:
    """What the models are called beside their answers."""
    runs = {run.run_id: run.name for run in _list_runs(settings)}
    return ChatSettings.parse(dict(settings)).labels(runs)


def _list_runs(kept: SettingsDocument | None) -> list[Run]:
    """Those that can talk, newest first, and those of the conversation, where they are still there."""
    runs = run_queries.list_newest_runs("", ("finished",), MAX_RUNS)
    there = {run.run_id for run in runs}
    for model in kept["models"] if kept else []:
        run_id = model.get("run", "")
        if run_id and run_id not in there:
            try:
                runs.append(run_queries.find_run(run_id))
            except TunebenchError:
                continue  # deleted: its answers stay, and it says so where it is asked
    return [run for run in runs if run.config["task"] != "classification"]


def _build_option(model: dict[str, Any]) -> str:
    """A model without how it is sampled, and a run without which of its models: what is chosen first."""
    document = drop_defaults(ChatModel.parse(model))
    if "run" in document:
        document = {"run": document["run"]}
    return json.dumps(document, sort_keys=True)


def _parse_option(option: str) -> dict[str, Any]:
    """The model of an option, whichever time it stands there."""
    return {name: value for name, value in json.loads(option).items() if name != TIME}


def _number_options(options: list[str]) -> list[str]:
    """Options of which some stand several times, each by the number of its time."""
    times: Counter[str] = Counter()
    numbered = []
    for option in options:
        times[option] += 1
        numbered.append(_format_repeated_option(option, times[option]))
    return numbered


def _format_repeated_option(option: str, time: int) -> str:
    return option if time == 1 else json.dumps({**_parse_option(option), TIME: time}, sort_keys=True)


def _list_option_names(kept: SettingsDocument | None, runs: list[Run]) -> dict[str, str]:
    """All that can talk: option -> what it is called."""
    names = {
        _build_option({"model": model.name}): model.name
        for model in cached_queries.list_models()
        if model.ready
    }
    names |= {_build_option({"model": name}): name for name in list_model_names()}
    names |= {_build_option({"run": run.run_id}): run.name for run in runs}
    for endpoint in st.session_state.get(ENDPOINTS, []):
        names[_build_option({"endpoint": endpoint})] = f"{endpoint['model']} (endpoint)"
    for model in kept["models"] if kept else []:
        names.setdefault(_build_option(model), ChatModel.parse(model).named())
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
    own = _build_option({"model": base})
    return [*([own] if own in choices else []), runs[0]]


def _choose_checkpoint(model: dict[str, Any], name: str, before: dict[str, Any], own: str) -> dict[str, Any]:
    """Of a run, which of its models it is."""
    if "run" not in model:
        return model
    ways = {**CHECKPOINT_TITLES, SHARE: "a share of the way to it"}
    at = SHARE if before.get("alpha") is not None else before.get("checkpoint", "tuned")
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
            return {**model, "checkpoint": way} if way in CHECKPOINTS else model
        share = st.slider(
            "Share of the way",
            0.0,
            1.0,
            float(before.get("alpha") or 0.5),
            0.05,
            key=f"{PREFIX}share-{own}",
            help="0 is the base model, 1 the tuned one; nothing is trained for what lies between.",
            width=260,
        )
        return {**model, "alpha": share}


def _add_endpoint() -> None:
    """A form for any server that speaks the OpenAI protocol."""
    with st.form(f"{PREFIX}endpoint", border=False):
        st.markdown("Any server that speaks the OpenAI protocol. It needs nothing of this machine.")
        address = st.text_input("base_url", placeholder="http://127.0.0.1:8000/v1")
        name = st.text_input("model", placeholder="as the server calls it")
        key_env = st.text_input(
            "key_env", help="The environment variable of the engine that holds the key; the key itself is"
            " never typed here or stored."
        )  # fmt: skip
        if not st.form_submit_button("Add", type="primary"):
            return
    try:
        endpoint = Endpoint.parse({"base_url": address, "model": name, "key_env": key_env})
    except TunebenchError as error:
        show_error(error)
        return
    st.session_state.setdefault(ENDPOINTS, []).append(endpoint.model_dump(exclude_defaults=True))
    st.rerun()
