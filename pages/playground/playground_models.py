"""Who talks, and how: a row of up to four models, and the settings that hold for all of them."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from pages.run_parts import run_reads
from pages.shared import reads
from pages.shared.session import plain, show_error
from store.config.answering import CHECKPOINTS
from store.config.judge_config import Endpoint
from store.config.talk_config import MOST_MODELS, TalkModel, TalkSampling, TalkSettings, without_defaults
from store.contract.errors import TunebenchError
from store.documents.tables.run import Run
from store.documents.talk.conversation import SettingsDocument

MOST_RUNS = 100  # to choose from
PREFIX = "playground-"
ENDPOINTS = f"{PREFIX}endpoints"  # in the session: those that were added
WAYS = {
    "tuned": "as it ended",
    "best": "its best checkpoint",
    "newest": "its newest checkpoint",
    "base": "its base model",
}
SHARE = "share"


def draw_models(kept: SettingsDocument | None, own: str) -> SettingsDocument | None:
    """The models and settings that are chosen; None where no model is. kept: those of the conversation `own`,
    with which it begins."""
    runs = _runs(kept)
    choices = _choices(kept, runs)
    first = [_option(model) for model in kept["models"]] if kept else _first(choices)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Models",
            list(choices),
            default=[option for option in first if option in choices],
            format_func=lambda option: choices[option],
            max_selections=MOST_MODELS,
            key=f"{PREFIX}models-{own}",
            placeholder=f"Choose up to {MOST_MODELS} models",
        )
        with st.popover("Settings", icon=":material/tune:"):
            system, sampling = _settings(kept, own)
        with st.popover("Endpoint", icon=":material/add_link:"):
            _add_endpoint()
    models = [_with_way(json.loads(option), kept, runs, own) for option in chosen]
    if not models:
        return None
    try:
        asked = TalkSettings.parse(
            {"system": system, "models": [{**model, "sampling": sampling} for model in models]}
        )
    except TunebenchError as error:
        show_error(error)
        return None
    document = asked.model_dump(exclude_none=True)
    return {"system": document["system"], "models": document["models"]}


def labels(settings: SettingsDocument) -> list[str]:
    """What the models are called beside their answers."""
    models = [TalkModel.parse(model) for model in settings["models"]]
    runs = {run["run_id"]: run["name"] for run in _runs(settings)}
    return [model.named(runs.get(model.run, "")) for model in models]


def _runs(kept: SettingsDocument | None) -> list[Run]:
    """Those that can talk, newest first, and those of the conversation, where they are still there."""
    runs = run_reads.newest("", ("finished",), MOST_RUNS)
    there = {run["run_id"] for run in runs}
    for model in kept["models"] if kept else []:
        run_id = model.get("run", "")
        if run_id and run_id not in there:
            try:
                runs.append(run_reads.find(run_id))
            except TunebenchError:
                continue  # deleted: its answers stay, and it says so where it is asked
    return [run for run in runs if run["config"]["task"] != "classification"]


def _option(model: dict[str, Any]) -> str:
    """A model without how it is sampled, and a run without which of its models: what is chosen first."""
    document = without_defaults(TalkModel.parse(model))
    if "run" in document:
        document = {"run": document["run"]}
    return json.dumps(document, sort_keys=True)


def _choices(kept: SettingsDocument | None, runs: list[Run]) -> dict[str, str]:
    choices = {_option({"model": model["name"]}): model["name"] for model in reads.models() if model["ready"]}
    choices |= {_option({"run": run["run_id"]}): run["name"] for run in runs}
    for endpoint in st.session_state.get(ENDPOINTS, []):
        choices[_option({"endpoint": endpoint})] = f"{endpoint['model']} (endpoint)"
    for model in kept["models"] if kept else []:
        choices.setdefault(_option(model), TalkModel.parse(model).named())
    return choices


def _first(choices: dict[str, str]) -> list[str]:
    """Where nobody has chosen yet: the newest run beside what it began with, or the first model."""
    runs = [option for option in choices if "run" in json.loads(option)]
    models = [option for option in choices if "model" in json.loads(option)]
    if not runs:
        return models[:1]
    base = reads.run(json.loads(runs[0])["run"])["config"]["model"]
    own = _option({"model": base})
    return [*([own] if own in choices else []), runs[0]]


def _with_way(
    model: dict[str, Any], kept: SettingsDocument | None, runs: list[Run], own: str
) -> dict[str, Any]:
    """Of a run, which of its models it is."""
    if "run" not in model:
        return model
    run_id = model["run"]
    before = next((m for m in kept["models"] if m.get("run") == run_id), {}) if kept else {}
    names = {run["run_id"]: run["name"] for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ways = {**WAYS, SHARE: "a share of the way to it"}
        at = SHARE if before.get("alpha") is not None else before.get("checkpoint", "tuned")
        way = st.selectbox(
            f"Which of {plain(names.get(run_id, run_id))}",
            list(ways),
            list(ways).index(at),
            format_func=lambda name: ways[name],
            key=f"{PREFIX}way-{own}-{run_id}",
            width=260,
        )
        if way == SHARE:
            share = st.slider(
                "Share of the way",
                0.0,
                1.0,
                float(before.get("alpha") or 0.5),
                0.05,
                key=f"{PREFIX}share-{own}-{run_id}",
                help="0 is the base model, 1 the tuned one; nothing is trained for what lies between.",
                width=260,
            )
            return {"run": run_id, "alpha": share}
    return {"run": run_id, "checkpoint": way} if way in CHECKPOINTS else {"run": run_id}


def _settings(kept: SettingsDocument | None, own: str) -> tuple[str, dict[str, Any]]:
    """System prompt and sampling."""
    before = kept["models"][0]["sampling"] if kept else TalkSampling().model_dump()
    fields = TalkSampling.model_fields

    def key(name: str) -> str:
        return f"{PREFIX}{name}-{own}"

    system = st.text_area(
        "System prompt",
        kept["system"] if kept else "",
        key=key("system"),
        placeholder="What every model is told beforehand",
    )
    heat = st.slider(
        "temperature", 0.0, 2.0, min(2.0, float(before["temperature"])), 0.05, key=key("temperature"),
        help=fields["temperature"].description,
    )  # fmt: skip
    left, right = st.columns(2)
    greedy = heat == 0
    top_p = left.number_input(
        "top_p", 0.01, 1.0, float(before["top_p"]), 0.05, key=key("top_p"), disabled=greedy,
        help=fields["top_p"].description,
    )  # fmt: skip
    top_k = right.number_input(
        "top_k", 0, 1000, int(before["top_k"]), key=key("top_k"), disabled=greedy,
        help=fields["top_k"].description,
    )  # fmt: skip
    most = left.number_input("max_new_tokens", 1, 4096, int(before["max_new_tokens"]), key=key("most"))
    penalty = right.number_input(
        "repetition_penalty", 0.1, 10.0, float(before["repetition_penalty"]), 0.05, key=key("penalty"),
        help=fields["repetition_penalty"].description,
    )  # fmt: skip
    seed = left.number_input(
        "seed", 0, 2**31 - 1, int(before["seed"]), key=key("seed"), disabled=greedy,
        help="The same seed gives the same answer.",
    )  # fmt: skip
    stop = right.multiselect(
        "stop", before["stop"], before["stop"], key=key("stop"), accept_new_options=True, max_selections=8,
        help="Texts that end an answer", placeholder="Type a text",
    )  # fmt: skip
    if greedy:
        st.caption("At temperature 0 the likeliest token is always taken: nothing is drawn.")
    return system or "", {
        "temperature": heat,
        "top_p": top_p,
        "top_k": int(top_k),
        "max_new_tokens": int(most),
        "repetition_penalty": penalty,
        "seed": int(seed),
        "stop": stop,
    }


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
