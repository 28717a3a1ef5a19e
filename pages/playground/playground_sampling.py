"""How answers are drawn: fields for all models, and those that one model has otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

import streamlit as st

from pages.shared.session import plain
from store.config.judging.talk_config import TalkSampling

FIELDS = TalkSampling.model_fields
OF_CHANCE = ("top_p", "top_k", "seed")  # which temperature 0 doesn't read


class SettingsOrigin(NamedTuple):
    """Where the first settings of a conversation come from: what the folder of a model says, by field."""

    model: str
    named: dict[str, Any]

    def in_words(self) -> str:
        """A sentence for the screen."""
        if not self.model:
            return "These are Tunebench's own values."
        file = f"generation_config.json of {plain(self.model)}"
        if not self.named:
            return f"The {file} names none of these: they are Tunebench's own values."
        named = ", ".join(title(name).lower() for name in FIELDS if name in self.named)
        return f"From the {file}: {named}. The others are Tunebench's own."


def in_words(sampling: dict[str, Any]) -> str:
    """How answers are drawn, in a line."""
    asked = TalkSampling.parse(sampling)
    common = TalkSampling(temperature=asked.temperature, max_new_tokens=asked.max_new_tokens, seed=asked.seed)
    parts = [f"Temperature {asked.temperature:g}", f"longest answer {asked.max_new_tokens:,} tokens"]
    return " · ".join([*parts, *(plain(part) for part in asked.differences(common))])


def title(name: str) -> str:
    """What a field is called on the screen."""
    words = str(FIELDS[name].title)
    return words[0].upper() + words[1:]


def draw_common(before: dict[str, Any], key: str) -> dict[str, Any]:
    """All fields, as they were before; what they are now."""
    sampling = {"temperature": _field("temperature", before, key)}
    greedy = sampling["temperature"] == 0
    left, right = st.columns(2)
    for place, name in enumerate(name for name in FIELDS if name != "temperature"):
        with (left, right)[place % 2]:
            sampling[name] = _field(name, before, key, disabled=greedy and name in OF_CHANCE)
    if greedy:
        st.caption("At temperature 0 the likeliest token is always taken: nothing is drawn.")
    return sampling


def draw_own(
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
        format_func=title,
        key=f"{key}-own",
    )
    own = {name: _field(name, before, f"{key}-own") for name in FIELDS if name in chosen}
    if not own:
        st.caption("It answers by the settings for all.")
    return now | own


def _field(name: str, before: dict[str, Any], key: str, *, disabled: bool = False) -> Any:
    own: dict[str, Any] = {"key": f"{key}-{name}", "help": FIELDS[name].description, "disabled": disabled}
    value = before[name]
    match name:
        case "temperature":
            return st.slider(title(name), 0.0, 2.0, min(2.0, float(value)), 0.05, **own)
        case "top_p":
            return st.number_input(title(name), 0.01, 1.0, float(value), 0.05, **own)
        case "repetition_penalty":
            return st.number_input(title(name), 0.1, 10.0, float(value), 0.05, **own)
        case "stop":
            return st.multiselect(
                title(name), value, value, accept_new_options=True, max_selections=8,
                placeholder="Type a text", **own,
            )  # fmt: skip
    low, high = {"top_k": (0, 1000), "max_new_tokens": (1, 4096), "seed": (0, 2**31 - 1)}[name]
    return int(st.number_input(title(name), low, high, int(value), **own))
